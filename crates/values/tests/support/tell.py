# Run by gdb: runs the program to each line marked with `STOP`, tells its variables and the
# expressions that belong to it, and leaves core files.
import gdb
import json

REGISTERS = ["rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11",
             "r12", "r13", "r14", "r15", "rip"]
CHILDREN_MAX = 40
DEPTH_MAX = 7


def text_of(value):
    if hasattr(value, "value"):
        value = value.value()
    if hasattr(value, "type"):
        return value.string()
    return str(value)


def tell(value, depth=0):
    try:
        return told(value, depth)
    except gdb.MemoryError:
        return {"kind": "unreadable"}
    except gdb.error as error:
        return {"kind": "error", "what": str(error)}


def told(value, depth):
    if value.is_optimized_out:
        return {"kind": "optimised out"}
    if depth > DEPTH_MAX:
        return {"kind": "deep"}
    kind = value.type.strip_typedefs()
    code = kind.code
    if code in (gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF):
        target = value.referenced_value()
        return told(target.cast(target.dynamic_type), depth)
    printer = gdb.default_visualizer(value)
    if printer is not None:
        hint = printer.display_hint() if hasattr(printer, "display_hint") else None
        if hint == "string":
            return {"kind": "text", "text": text_of(printer.to_string())}
        children = []
        if hasattr(printer, "children"):
            for number, (name, child) in enumerate(printer.children()):
                if number >= CHILDREN_MAX:
                    break
                if not isinstance(child, gdb.Value):
                    child = gdb.Value(child)
                children.append([name, tell(child, depth + 1)])
        return {"kind": "printed", "hint": hint, "children": children}
    if code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        children = []
        for field in kind.fields():
            if not hasattr(field, "bitpos") or field.artificial:
                continue
            if (field.name or "").startswith("_vptr"):
                continue
            children.append([field.name or "", tell(value[field], depth + 1)])
        return {"kind": "parts", "children": children}
    if code == gdb.TYPE_CODE_ARRAY:
        low, high = kind.range()
        target = kind.target().strip_typedefs().unqualified()
        if target.code == gdb.TYPE_CODE_INT and target.sizeof == 1 and target.name == "char":
            return {"kind": "text", "text": value.string().split("\0")[0]}
        children = []
        for index in range(low, min(high + 1, low + CHILDREN_MAX)):
            children.append(["[%d]" % index, tell(value[index], depth + 1)])
        return {"kind": "parts", "children": children}
    if code == gdb.TYPE_CODE_PTR:
        return {"kind": "pointer", "value": str(int(value))}
    if code == gdb.TYPE_CODE_FLT:
        return {"kind": "float", "value": value.format_string(raw=True)}
    if code == gdb.TYPE_CODE_BOOL:
        return {"kind": "bool", "value": str(bool(value)).lower()}
    if code == gdb.TYPE_CODE_ENUM:
        return {"kind": "enum", "value": value.format_string(raw=True)}
    if code in (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_CHAR):
        try:
            return {"kind": "int", "value": str(int(value))}
        except (gdb.error, OverflowError):
            # Wider than 64 bits.
            return {"kind": "int", "value": value.format_string(raw=True)}
    return {"kind": "other", "value": value.format_string(raw=True)}


def variables(frame):
    told = []
    block = frame.block()
    while block is not None:
        for symbol in block:
            if symbol.is_variable or symbol.is_argument:
                told.append([symbol.print_name, tell(frame.read_var(symbol, block))])
        if block.function is not None:
            break
        block = block.superblock
    return told


gdb.execute("set pagination off")
gdb.execute("set print entry-values no")
gdb.execute("set startup-with-shell off")
gdb.execute("set disable-randomization on")
asked = json.load(open("asked.json"))
for stop in asked["stops"]:
    gdb.Breakpoint(stop["place"], temporary=True)
gdb.execute("run", to_string=True)
stops = []
files = {}
for number, stop in enumerate(asked["stops"]):
    pid = gdb.selected_inferior().pid
    if pid == 0:
        break
    for line in open(f"/proc/{pid}/maps"):
        words = line.split()
        if len(words) > 5 and words[5].startswith("/") and int(words[2], 16) == 0:
            files.setdefault(words[5], int(words[0].split("-")[0], 16))
    frame = gdb.newest_frame()
    registers = {}
    for name in REGISTERS:
        registers[name] = str(int(frame.read_register(name)) & (2 ** 64 - 1))
    for index in range(16):
        value = frame.read_register("xmm%d" % index)
        halves = [int(value["v2_int64"][n]) & (2 ** 64 - 1) for n in range(2)]
        registers["xmm%d" % index] = str(halves[0] + (halves[1] << 64))
    expressions = []
    for expression in stop["expressions"]:
        try:
            expressions.append([expression, tell(gdb.parse_and_eval(expression))])
        except (gdb.error, gdb.MemoryError) as error:
            expressions.append([expression, {"kind": "error", "what": str(error)}])
    gdb.execute("gcore stop%d.core" % number, to_string=True)
    stops.append({
        "registers": registers,
        "variables": variables(frame) if asked["variables"] else [],
        "expressions": expressions,
        "fs_base": str(int(gdb.parse_and_eval("$fs_base")) & (2 ** 64 - 1)),
    })
    if number + 1 < len(asked["stops"]):
        gdb.execute("continue", to_string=True)
program = gdb.current_progspace().filename
json.dump({"files": files, "program": program, "stops": stops}, open("told.json", "w"))
