//! Programs that were run to a stop under gdb, as targets.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod compare;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use model::Address;
use object::{Object as _, ObjectSegment as _};
use serde_json::{Value as Json, json};
use symbols::{LinkAddress, Module, NoFiles};
use values::{Error, Expression, Loaded, Options, Standing, Target, Value, Values};

const NAMES: [&str; 17] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip",
];

pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs")
}

/// What a command prints; it has to succeed.
pub fn run(directory: &Path, command: &[&str]) -> String {
    let mut process = Command::new("timeout");
    process.arg("120").args(command).current_dir(directory).env("LC_ALL", "C.UTF-8");
    process.env_remove("DEBUGINFOD_URLS");
    let output = process.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A stop of a program: memory and registers, and what gdb said there.
pub struct Stop {
    segments: BTreeMap<u64, Vec<u8>>,
    registers: BTreeMap<u16, u128>,
    modules: Vec<Loaded>,
    /// None lets it be found as a target without knowledge of it would have it found.
    pub thread_block: Option<u64>,
    thread_pointer: u64,
    standing: Option<Standing>,
    pub variables: Vec<(String, Json)>,
    pub expressions: Vec<(String, Json)>,
    pub values: Values,
}

impl Target for Stop {
    fn read(&self, address: Address, bytes: &mut [u8]) -> bool {
        let mut done = 0;
        while done < bytes.len() {
            let at = address.0.wrapping_add(done as u64);
            let Some((start, segment)) = self.segments.range(..=at).next_back() else {
                return false;
            };
            let Some(rest) = segment.get((at - start) as usize..).filter(|r| !r.is_empty()) else {
                return false;
            };
            let length = rest.len().min(bytes.len() - done);
            bytes[done..done + length].copy_from_slice(&rest[..length]);
            done += length;
        }
        true
    }

    fn register(&self, number: u16) -> Option<u128> {
        self.registers.get(&number).copied()
    }

    fn modules(&self) -> &[Loaded] {
        &self.modules
    }

    fn standing(&self) -> Option<Standing> {
        self.standing
    }

    fn named_register(&self, name: &str) -> Option<u64> {
        (name == "fs_base").then_some(self.thread_pointer)
    }

    fn thread_local(&self, module: usize, offset: u64) -> Option<Address> {
        let block = self.thread_block.filter(|_| module == 0)?;
        Some(Address(block.wrapping_add(offset)))
    }
}

impl Stop {
    pub fn show(&self, expression: &str, options: &Options) -> Result<Value, Error> {
        self.values.show(&Expression::parse(expression)?, self, &[], options)
    }

    /// The text of an expression, or why it has none.
    pub fn text(&self, expression: &str) -> String {
        match self.show(expression, &Options::default()) {
            Ok(value) => value.text,
            Err(error) => format!("error: {error}"),
        }
    }

    pub fn test(&self, condition: &str) -> Result<bool, Error> {
        self.values.test(&Expression::parse(condition)?, self, &[])
    }
}

/// How a program is made and looked at.
pub struct Setup<'a> {
    pub compiler: &'a [&'a str],
    pub source: &'a str,
    /// Expressions that gdb is asked for at each stop.
    pub expressions: &'a [&'a str],
    /// Whether gdb tells all variables.
    pub variables: bool,
    /// The first of the marked lines that is run to.
    pub first: usize,
}

/// Runs a program to its lines with `STOP` in the order of the text.
pub fn stops(setup: &Setup<'_>) -> Vec<Stop> {
    let directory = tempfile::tempdir().unwrap();
    let source = programs().join(setup.source);
    let text = std::fs::read_to_string(&source).unwrap();
    let source = source.to_str().unwrap();
    run(directory.path(), &[setup.compiler, &[source, "-o", "a.out"]].concat());
    let lines = (1..).zip(text.lines()).filter(|(_, line)| line.contains("STOP")).skip(setup.first);
    let places = lines.map(|(number, _)| {
        json!({"place": format!("{}:{number}", setup.source), "expressions": setup.expressions})
    });
    let places: Vec<Json> = places.collect();
    let count = places.len();
    let asked = json!({"stops": places, "variables": setup.variables});
    std::fs::write(directory.path().join("asked.json"), asked.to_string()).unwrap();
    let script = programs().parent().unwrap().join("support/tell.py");
    let script = format!("source {}", script.display());
    run(directory.path(), &["gdb", "-nx", "-batch", "-ex", &script, "a.out"]);
    let told = std::fs::read_to_string(directory.path().join("told.json")).unwrap();
    let told: Json = serde_json::from_str(&told).unwrap();
    // Optimised programs may not come to all of them.
    let reached = told["stops"].as_array().unwrap().len();
    assert!(reached > 0 && reached <= count);
    (0..reached).map(|number| stop(directory.path(), &told, number)).collect()
}

fn number(value: &Json) -> u128 {
    value.as_str().unwrap().parse().unwrap()
}

fn stop(directory: &Path, told: &Json, index: usize) -> Stop {
    let core = std::fs::read(directory.join(format!("stop{index}.core"))).unwrap();
    let core = object::File::parse(&*core).unwrap();
    let segments = core.segments().map(|s| (s.address(), s.data().unwrap().to_vec()));
    let mut segments: BTreeMap<u64, Vec<u8>> = segments.collect();
    let stop = &told["stops"][index];
    let registers = stop["registers"].as_object().unwrap().iter().map(|(name, value)| {
        let known = NAMES.iter().position(|known| known == name);
        let code = match name.strip_prefix("xmm") {
            Some(number) => 17 + number.parse::<u16>().unwrap(),
            None => known.unwrap() as u16,
        };
        (code, number(value))
    });
    let registers: BTreeMap<u16, u128> = registers.collect();
    let program = directory.join("a.out");
    let mut modules = Vec::new();
    let files = told["files"].as_object().unwrap();
    let own = told["program"].as_str().unwrap();
    // The program first; of the libraries, symbols are enough.
    let mut names: Vec<&String> = files.keys().filter(|name| *name != own).collect();
    names.insert(0, files.keys().find(|name| *name == own).unwrap());
    for name in names {
        let Ok(bytes) = std::fs::read(if name == own { &program } else { Path::new(name) }) else {
            continue;
        };
        let Ok(module) = Module::load(bytes.clone().into(), Arc::new(NoFiles), &Default::default())
        else {
            continue;
        };
        let first = module.image().segments.first().map_or(0, |s| s.range.start.0 & !0xfff);
        let bias = files[name].as_u64().unwrap().wrapping_sub(first);
        // The core file has only what the program could write.
        for part in &module.image().segments {
            let from = part.file_offset as usize;
            let mut contents = bytes[from..from + part.file_size as usize].to_vec();
            let start = part.range.start.loaded(bias).0;
            // Pages are mapped whole.
            let end = (start + contents.len() as u64).next_multiple_of(4096);
            contents.resize((end - start) as usize, 0);
            let covered = segments.range(..=start).next_back();
            if covered.is_none_or(|(at, bytes)| at + bytes.len() as u64 <= start) {
                segments.insert(start, contents);
            }
        }
        modules.push(Loaded { module: Arc::new(module), bias });
    }
    let pc = Address(registers[&16] as u64);
    let address = LinkAddress::from_loaded(pc, modules[0].bias);
    let thread_pointer = number(&stop["fs_base"]) as u64;
    let list = |what: &str| {
        let list = stop[what].as_array().unwrap().iter();
        list.map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone())).collect()
    };
    Stop {
        segments,
        registers,
        thread_block: Some(thread_pointer.wrapping_sub(block_size(&program))),
        thread_pointer,
        standing: Some(Standing { module: 0, address, instance: None, cfa: None }),
        modules,
        variables: list("variables"),
        expressions: list("expressions"),
        values: Values::default(),
    }
}

/// How far below the thread pointer the program's thread-local variables begin.
fn block_size(program: &Path) -> u64 {
    use object::read::elf::ProgramHeader as _;
    let bytes = std::fs::read(program).unwrap();
    let file = object::read::elf::ElfFile64::<object::LittleEndian>::parse(&*bytes).unwrap();
    let endian = object::LittleEndian;
    let mut segments = file.elf_program_headers().iter();
    let tls = segments.find(|segment| segment.p_type(endian) == object::elf::PT_TLS);
    tls.map_or(0, |tls| tls.p_memsz(endian).next_multiple_of(tls.p_align(endian).max(1)))
}
