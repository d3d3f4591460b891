//! Variables, their places and unwinding, against gdb at many stops of running programs.

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use model::Address;
use object::{Object as _, ObjectSegment as _};
use serde_json::Value;
use symbols::{
    Encoding, Error, Frame, LinkAddress, Location, Module, NameKind, Place, PlaceRule, Saved,
    TypeKind,
};

const NAMES: [&str; 17] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip",
];

/// Memory of a core file.
struct Core {
    segments: BTreeMap<u64, Vec<u8>>,
}

impl Core {
    fn read(path: &Path) -> Core {
        let bytes = std::fs::read(path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let segments = file.segments().map(|s| (s.address(), s.data().unwrap().to_vec()));
        Core { segments: segments.collect() }
    }

    fn memory(&self, address: u64, bytes: &mut [u8]) -> bool {
        let Some((start, segment)) = self.segments.range(..=address).next_back() else {
            return false;
        };
        let inside = (address - start) as usize;
        let Some(found) = segment.get(inside..inside + bytes.len()) else { return false };
        bytes.copy_from_slice(found);
        true
    }
}

struct TestFrame<'a> {
    core: &'a Core,
    registers: BTreeMap<u16, u128>,
    bias: u64,
    thread_block: u64,
    /// What was asked for and is not known.
    missing: RefCell<Vec<String>>,
}

impl Frame for TestFrame<'_> {
    fn register(&self, register: u16) -> Option<u128> {
        let value = self.registers.get(&register).copied();
        if value.is_none() {
            self.missing.borrow_mut().push(format!("register {register}"));
        }
        value
    }

    fn memory(&self, address: Address, bytes: &mut [u8]) -> bool {
        self.core.memory(address.0, bytes)
    }

    fn bias(&self) -> u64 {
        self.bias
    }

    fn thread_local(&self, offset: u64) -> Option<Address> {
        Some(Address(self.thread_block.wrapping_add(offset)))
    }
}

/// The bytes at a location.
fn bytes(location: &Location, frame: &TestFrame<'_>, size: usize) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    for piece in &location.pieces {
        let length = piece.bits.map_or(size, |bits| (bits / 8) as usize);
        assert_eq!(piece.first_bit, 0);
        let mut part = match &piece.place {
            Place::Memory(address) => {
                let mut bytes = vec![0; length];
                frame.memory(*address, &mut bytes).then_some(bytes)?
            }
            Place::Register(register) => frame.register(*register)?.to_le_bytes().to_vec(),
            Place::Value(bytes) => bytes.clone(),
            Place::ImplicitPointer { .. } | Place::OptimisedOut => return None,
        };
        part.resize(length, 0);
        value.extend(part);
    }
    Some(value)
}

#[derive(Default)]
struct Tally {
    stops: usize,
    frames: usize,
    values: usize,
    places: usize,
    optimised_out: usize,
    entry_values: usize,
    skipped: usize,
    rules: usize,
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

fn register_number(name: &str) -> u16 {
    match name.strip_prefix("xmm") {
        Some(number) => 17 + number.parse::<u16>().unwrap(),
        None => NAMES.iter().position(|known| *known == name).unwrap() as u16,
    }
}

/// Through typedefs and qualifiers.
fn plain_type(module: &Module, mut id: Option<symbols::TypeId>) -> Option<symbols::Type> {
    loop {
        let type_ = module.type_(id?).unwrap();
        match type_.kind {
            TypeKind::Typedef(of) | TypeKind::Qualified { of, .. } => id = of,
            _ => return Some(type_),
        }
    }
}

fn compare_variables(
    what: &str,
    module: &Module,
    frame: &TestFrame<'_>,
    told: &[Value],
    found: &[symbols::Variable],
    address: LinkAddress,
    tally: &mut Tally,
) {
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    for told in told {
        let name = told[0].as_str().unwrap();
        let at = used.entry(name).or_default();
        let Some(variable) = found.iter().filter(|v| v.name == name).nth(*at) else {
            panic!("{what}: no {name} in {found:#?}")
        };
        *at += 1;
        let location = module.locate(variable.id, address, frame);
        let kind = told[1][0].as_str().unwrap();
        let location = match location {
            Ok(location) => location,
            // gdb derives some of these from the caller's code.
            Err(Error::Frame(what)) if what.contains("entry") => {
                tally.entry_values += 1;
                continue;
            }
            Err(error) => panic!("{what}: {name}: {error}; gdb: {told}"),
        };
        if let Some(rule) = module.place_rule(variable.id, address) {
            assert_eq!(
                by_rule(module, frame, rule, address),
                location.pieces[0].place,
                "{what}: {name}"
            );
            tally.rules += 1;
        }
        let type_ = plain_type(module, variable.type_);
        let size = type_.as_ref().and_then(|t| t.size).unwrap_or(0) as usize;
        match kind {
            "out" => {
                let gone = bytes(&location, frame, size).is_none();
                assert!(gone, "{what}: {name}: {location:?}, gdb: optimised out");
                tally.optimised_out += 1;
            }
            "int" if told[1][1] != "wide" => {
                let found = bytes(&location, frame, size);
                let mut wide = [0; 8];
                let Some(found) = found else {
                    panic!("{what}: {name}: {location:?}, gdb: {told}")
                };
                wide[..size].copy_from_slice(&found[..size]);
                let found = u64::from_le_bytes(wide);
                assert_eq!(found, number(&told[1][1]), "{what}: {name}: {location:?}");
                tally.values += 1;
            }
            "float" => {
                assert!(matches!(type_.unwrap().kind, TypeKind::Base(Encoding::Float)));
                let Some(found) = bytes(&location, frame, size) else {
                    panic!("{what}: {name}: {location:?}, gdb: {told}")
                };
                let found = match size {
                    4 => f64::from(f32::from_le_bytes(found[..4].try_into().unwrap())),
                    8 => f64::from_le_bytes(found[..8].try_into().unwrap()),
                    _ => continue,
                };
                let expected = told[1][1].as_f64().unwrap();
                assert_eq!(found.to_bits(), expected.to_bits(), "{what}: {name}");
                tally.values += 1;
            }
            "at" => {
                let place = Place::Memory(Address(number(&told[1][1])));
                assert_eq!(location.whole(), Some(&place), "{what}: {name}");
                tally.places += 1;
            }
            _ => tally.skipped += 1,
        }
    }
    // Of blocks with the same code gdb takes any, and LLVM makes many.
    if what.contains("opt-level=2") {
        return;
    }
    let names: Vec<&str> = told.iter().map(|t| t[0].as_str().unwrap()).collect();
    for variable in found {
        assert!(names.contains(&variable.name.as_str()), "{what}: gdb has no {variable:?}");
    }
}

/// Where the simple rule says that a variable is.
fn by_rule(module: &Module, frame: &TestFrame<'_>, rule: PlaceRule, address: LinkAddress) -> Place {
    let behind = |base: u64, offset: i64| Place::Memory(Address(base.wrapping_add_signed(offset)));
    match rule {
        PlaceRule::Cfa(offset) => {
            let cfa = module.caller(address, frame).unwrap().unwrap().cfa;
            behind(cfa.0, offset)
        }
        PlaceRule::Based { register, offset } => {
            behind(frame.register(register).unwrap() as u64, offset)
        }
        PlaceRule::Register(register) => Place::Register(register),
        PlaceRule::Fixed(address) => Place::Memory(address.loaded(frame.bias)),
    }
}

/// Registers of the caller by our rules.
fn caller<'a>(
    module: &Module,
    frame: &TestFrame<'a>,
    address: LinkAddress,
) -> Option<TestFrame<'a>> {
    let caller = module.caller(address, frame).unwrap()?;
    let mut registers = frame.registers.clone();
    for (register, saved) in &caller.registers {
        let value = match saved {
            Saved::Lost => None,
            Saved::Memory(at) => {
                let mut bytes = [0; 8];
                assert!(frame.memory(*at, &mut bytes));
                Some(u128::from(u64::from_le_bytes(bytes)))
            }
            Saved::Register(register) => frame.register(*register),
            Saved::Value(value) => Some(u128::from(*value)),
        };
        match value {
            Some(value) => registers.insert(*register, value),
            None => registers.remove(register),
        };
    }
    registers.insert(16, u128::from(caller.return_address?.0));
    Some(TestFrame { registers, missing: RefCell::default(), ..*frame })
}

fn check(flavour: &str, compiled: &support::Compiled, points_max: usize, tally: &mut Tally) {
    let module = support::load(&compiled.program());
    let mut points: Vec<u64> = Vec::new();
    for file in module.source_files().iter().filter(|f| f.path.contains("tests/programs")) {
        let rows = module.lines_of_file(&file.path);
        points.extend(rows.iter().filter(|row| row.is_stmt).map(|row| row.range.start.0));
    }
    points.sort_unstable();
    points.dedup();
    let step = points.len().div_ceil(points_max);
    let mut text = "relocatable\n".to_owned();
    for point in points.iter().step_by(step) {
        writeln!(text, "{point}").unwrap();
    }
    std::fs::write(compiled.path().join("points.txt"), text).unwrap();
    let script = support::programs().parent().unwrap().join("support/stops.py");
    let source = format!("source {}", script.display());
    support::run(compiled.path(), &["gdb", "-nx", "-batch", "-ex", &source, "a.out"]);
    let told = std::fs::read(compiled.path().join("stops.json")).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    let bias = number(&told["bias"]);
    let block_size = module_thread_block(&compiled.program());
    for (index, stop) in told["stops"].as_array().unwrap().iter().enumerate() {
        let core = Core::read(&compiled.path().join(format!("stop{index}.core")));
        let frames = stop["frames"].as_array().unwrap();
        let registers = frames[0]["registers"].as_object().unwrap();
        let registers = registers
            .iter()
            .map(|(name, value)| (register_number(name), value.as_str().unwrap().parse().unwrap()));
        let mut frame = TestFrame {
            core: &core,
            registers: registers.collect(),
            bias,
            thread_block: number(&stop["fs_base"]) - block_size,
            missing: RefCell::default(),
        };
        tally.stops += 1;
        let mut level = 0;
        let mut address = number(&frames[0]["pc"]) - bias;
        // One step is one real frame with what is inlined into it.
        loop {
            let mut activations = module.activations(LinkAddress(address));
            // At the first instruction of an inlined call gdb shows the call, not the function.
            let shown = frames[level..].iter().position(|frame| frame["inlined"] == false);
            while level == 0 && shown.is_some_and(|shown| activations.len() > shown + 1) {
                let hidden = activations.remove(0);
                assert!(hidden.ranges.iter().any(|range| range.start.0 == address));
            }
            for activation in &activations {
                let Some(told) = frames.get(level) else { break };
                let name = told["name"].as_str().unwrap_or_default();
                let what = format!("{flavour} stop {index} frame {level} {name} at {address:#x}");
                assert_eq!(told["inlined"], activation.inlined, "{what}: {activation:?}");
                let here = LinkAddress(address);
                let variables = module.variables(activation.instance, here).unwrap();
                let list = told["variables"].as_array().unwrap();
                compare_variables(&what, &module, &frame, list, &variables, here, tally);
                tally.frames += 1;
                level += 1;
            }
            if activations.is_empty() || level >= frames.len() {
                break;
            }
            let Some(next) = caller(&module, &frame, LinkAddress(address)) else { break };
            frame = next;
            let expected = frames[level]["registers"].as_object().unwrap();
            for name in ["rip", "rsp", "rbp", "rbx", "r12", "r13", "r14", "r15"] {
                let found = frame.registers[&register_number(name)];
                assert_eq!(
                    found.to_string(),
                    expected[name].as_str().unwrap(),
                    "{flavour} stop {index} level {level}: {name}"
                );
            }
            address = frame.registers[&16] as u64 - bias - 1;
        }
    }
}

/// How far below the thread pointer the program's thread-local variables begin.
fn module_thread_block(program: &Path) -> u64 {
    use object::read::elf::ProgramHeader as _;
    let bytes = std::fs::read(program).unwrap();
    let file = object::read::elf::ElfFile64::<object::LittleEndian>::parse(&*bytes).unwrap();
    let endian = object::LittleEndian;
    let mut segments = file.elf_program_headers().iter();
    let tls = segments.find(|segment| segment.p_type(endian) == object::elf::PT_TLS);
    tls.map_or(0, |tls| tls.p_memsz(endian).next_multiple_of(tls.p_align(endian).max(1)))
}

fn check_all(flavours: Vec<(String, support::Compiled)>, points: usize) -> Tally {
    let mut tally = Tally::default();
    for (flavour, compiled) in flavours {
        check(&flavour, &compiled, points, &mut tally);
    }
    eprintln!(
        "{} stops, {} frames, {} values, {} places, {} optimised out, {} by entry value, {} skipped",
        tally.stops,
        tally.frames,
        tally.values,
        tally.places,
        tally.optimised_out,
        tally.entry_values,
        tally.skipped
    );
    tally
}

fn flavours(
    compile: fn(&[&str]) -> support::Compiled,
    options: &[[&str; 2]],
) -> Vec<(String, support::Compiled)> {
    options.iter().map(|options| (format!("{options:?}"), compile(options))).collect()
}

#[test]
fn in_c() {
    let options = [["-O0", "-gdwarf-4"], ["-O0", "-gdwarf-5"], ["-Og", "-gdwarf-5"]];
    let tally = check_all(flavours(support::c, &options), 30);
    assert!(tally.rules > 300, "{}", tally.rules);
    assert!(tally.values > 300 && tally.places > 30 && tally.stops > 50);
}

#[test]
fn in_optimised_c() {
    // In version 4 a list of ranges can end too early; gdb takes such blocks for empty.
    let options = [["-O2", "-gdwarf-5"], ["-O3", "-gdwarf-5"]];
    let tally = check_all(flavours(support::c, &options), 30);
    assert!(tally.values > 100 && tally.optimised_out > 20);
}

#[test]
fn in_cpp() {
    let options = [["-O0", "-gdwarf-5"], ["-O1", "-gdwarf-5"], ["-O2", "-gdwarf-5"]];
    let tally = check_all(flavours(support::cpp, &options), 25);
    assert!(tally.values > 100 && tally.places > 30);
}

#[test]
fn in_rust() {
    let options = [["-g", "-Copt-level=0"], ["-g", "-Copt-level=2"]];
    let tally = check_all(flavours(support::rust, &options), 25);
    assert!(tally.values > 30 && tally.places > 30);
}

/// Globals, statics and thread-locals by name.
#[test]
fn globals() {
    let compiled = support::c(&["-g"]);
    let module = support::load(&compiled.program());
    let core = Core { segments: BTreeMap::new() };
    let frame = TestFrame {
        core: &core,
        registers: BTreeMap::new(),
        bias: 0x1000,
        thread_block: 0x10_0000,
        missing: RefCell::default(),
    };
    for name in ["calls", "matrix", "sink", "total_measured", "uses"] {
        let found = module.things_named(name, &[NameKind::Variable]);
        assert_eq!(found.len(), 1, "{found:?}");
        let location = module.locate(found[0].id.unwrap(), LinkAddress(0), &frame).unwrap();
        let symbols = module.symbols();
        let mut symbols = symbols.iter();
        // The linker knows a static variable of a function as `uses.0`.
        let symbol = symbols.find(|s| s.name.split('.').next() == Some(name)).unwrap();
        let address = symbol.range.start.loaded(0x1000);
        assert_eq!(location.whole(), Some(&Place::Memory(address)), "{name}");
    }
    let id = module.things_named("per_thread", &[NameKind::Variable])[0].id.unwrap();
    let offset = module.symbols_named("per_thread")[0].range.start.0;
    let location = module.locate(id, LinkAddress(0), &frame).unwrap();
    assert_eq!(location.whole(), Some(&Place::Memory(Address(0x10_0000 + offset))));
}
