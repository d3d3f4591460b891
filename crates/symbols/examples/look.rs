//! Opens a program and tells what is at addresses or behind names, with the time and memory that
//! it took: `cargo run --release -p symbols --example look -- FILE [ADDRESS | NAME | ?TYPED]…`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use symbols::{Bytes, LinkAddress, Locator, Module, NameKind, Options, Wanted};

struct Disk(PathBuf);

impl Locator for Disk {
    fn locate(&self, wanted: &Wanted<'_>) -> Option<Bytes> {
        let paths = wanted.paths(self.0.to_str()?, &["/usr/lib/debug"]);
        paths.iter().find_map(|path| std::fs::read(path).ok()).map(Bytes::from)
    }
}

fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what}: {:.3} ms, {} MiB", start.elapsed().as_secs_f64() * 1e3, memory_mib());
    result
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().unwrap_or_else(|| "/proc/self/exe".to_owned()));
    let bytes = timed("read", || std::fs::read(&path)).unwrap_or_default();
    println!("{} MiB", bytes.len() >> 20);
    let load = || Module::load(bytes.into(), Arc::new(Disk(path)), &Options::default());
    let module = match timed("load", load) {
        Ok(module) => module,
        Err(error) => {
            println!("{error}");
            return;
        }
    };
    for argument in arguments {
        if let Some(address) = argument.strip_prefix("0x") {
            let address = LinkAddress(u64::from_str_radix(address, 16).unwrap_or(0));
            println!("{:?}", timed("line", || module.line_at(address)));
            let activations = timed("activations", || module.activations(address));
            for activation in &activations {
                println!("{} {:?}", activation.function.full_name, activation.called_at);
                let variables = timed("variables", || {
                    module.variables(activation.instance, address).unwrap_or_default()
                });
                for variable in variables {
                    println!("  {} {}", variable.name, module.type_name(variable.type_));
                }
            }
            timed("unwind row", || module.unwind_row(address)).ok();
            timed("again: line", || module.line_at(address));
            timed("again: activations", || module.activations(address));
        } else if let Some(typed) = argument.strip_prefix('?') {
            for found in timed("search", || module.search(typed, 10)) {
                println!("  {:?} {} {}", found.kind, found.name, found.score);
            }
            timed("search again", || module.search(typed, 10));
        } else {
            for code in timed("functions", || module.functions_named(&argument)) {
                println!("  {} {} instances", code.function.full_name, code.instances.len());
            }
            let kinds = [NameKind::Function, NameKind::Type, NameKind::Variable];
            for thing in timed("things", || module.things_named(&argument, &kinds)) {
                println!("  {thing:?}");
            }
        }
    }
    let files = timed("source files", || module.source_files());
    println!("{} source files", files.len());
    let addresses: Vec<LinkAddress> = {
        let sections = module.image().sections.iter().filter(|s| s.executable);
        let all = sections.flat_map(|s| (s.range.start.0..s.range.end.0).step_by(997));
        all.map(LinkAddress).collect()
    };
    let count = addresses.len();
    println!("{count} addresses");
    timed("all lines", || addresses.iter().filter(|a| module.line_at(**a).is_some()).count());
    timed("all activations", || {
        addresses.iter().map(|address| module.activations(*address).len()).sum::<usize>()
    });
    timed("all unwind rows", || {
        addresses.iter().filter(|a| module.unwind_row(**a).is_ok_and(|row| row.is_some())).count()
    });
    println!("{:?} {} troubles", module.memory(), module.troubles().len());
    for trouble in module.troubles().iter().take(5) {
        println!("  {trouble}");
    }
}
