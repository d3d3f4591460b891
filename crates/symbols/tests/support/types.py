# Run by gdb: prints the layout of types as far as it goes, one fact a line.
# The same walk as in types.rs.
import gdb

DEPTH_MAX = 5


def walk(path, kind, depth):
    kind = kind.strip_typedefs().unqualified()
    code = kind.code
    if code in (gdb.TYPE_CODE_PTR, gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF):
        word = {gdb.TYPE_CODE_PTR: "pointer", gdb.TYPE_CODE_REF: "reference"}.get(code, "rvalue")
        print(f"{path} {word} {kind.sizeof}")
        if depth < DEPTH_MAX:
            walk(path + "*", kind.target(), depth + 1)
    elif code == gdb.TYPE_CODE_ARRAY:
        low, high = kind.range()
        print(f"{path} array {kind.sizeof} {high - low + 1}")
        if depth < DEPTH_MAX:
            walk(path + "[]", kind.target(), depth + 1)
    elif code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        word = "union" if code == gdb.TYPE_CODE_UNION else "struct"
        print(f"{path} {word} {kind.sizeof}")
        bases = 0
        for field in kind.fields():
            if not hasattr(field, "bitpos"):
                continue
            if field.is_base_class and field.bitpos is None:
                bases += 1
                continue
            if field.is_base_class:
                name = f"{path}:{bases}"
                bases += 1
                where = field.bitpos
            else:
                name = f"{path}.{field.name or ''}"
                if field.name and field.name.startswith("_vptr"):
                    continue
                where = f"{field.bitpos}:{field.bitsize}"
            print(f"{name} @{where}")
            if depth < DEPTH_MAX:
                walk(name, field.type, depth + 1)
    elif code == gdb.TYPE_CODE_ENUM:
        print(f"{path} enum {kind.sizeof}")
        for field in kind.fields():
            print(f"{path}.{field.name.rsplit('::')[-1]} ={field.enumval}")
    elif code == gdb.TYPE_CODE_FUNC:
        print(f"{path} function")
        if depth < DEPTH_MAX:
            walk(path + "()", kind.target(), depth + 1)
            for number, field in enumerate(kind.fields()):
                walk(f"{path}({number})", field.type, depth + 1)
    elif code == gdb.TYPE_CODE_VOID:
        print(f"{path} void")
    else:
        print(f"{path} base {kind.sizeof}")


for line in open("types.txt"):
    name = line.rstrip("\n")
    walk(name, gdb.lookup_type(name), 0)
