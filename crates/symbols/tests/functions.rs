//! Functions, inlined calls and names, against llvm-symbolizer, addr2line and gdb.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use symbols::{LinkAddress, Module, SymbolKind};

/// Addresses all over the code that has debug information.
fn samples(module: &Module, step: u64) -> Vec<u64> {
    let mut samples = Vec::new();
    for line in module.all_lines() {
        samples.push(line.range.start.0);
        samples.extend((line.range.start.0..line.range.end.0).step_by(step as usize).skip(1));
    }
    samples.sort_unstable();
    samples.dedup();
    samples
}

/// What a tool prints when addresses are written to it.
fn told(command: &[&str], addresses: &[u64]) -> String {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = String::new();
    for address in addresses {
        writeln!(input, "{address:#x}").unwrap();
    }
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The chain of calls at an address, as `name file:line:column` from the innermost on.
fn chain(module: &Module, address: u64) -> Vec<String> {
    let line = module.line_at(LinkAddress(address));
    let mut place = line.map(|l| (l.file.path.clone(), l.line, l.column));
    let mut chain = Vec::new();
    let activations = module.activations(LinkAddress(address));
    if let (true, Some((file, line, column))) = (activations.is_empty(), &place) {
        // Padding between functions.
        chain.push(format!("?? {}:{line}:{column}", file.rsplit('/').next().unwrap_or_default()));
    }
    for activation in activations {
        let function = &activation.function;
        // The tool asks the symbol table if debug information has no linkage name.
        let outer = || {
            let symbol = module.symbol_at(LinkAddress(address))?;
            (!activation.inlined && symbol.sized).then_some(symbol.name)
        };
        let name = function.linkage_name.clone().or_else(outer);
        let name = name.or_else(|| function.name.clone());
        let (file, line, column) = place.unwrap_or_default();
        let file = file.rsplit('/').next().unwrap_or_default();
        let name = name.unwrap_or_default();
        chain.push(plain(&format!("{name} {file}:{line}:{column}")));
        place = activation.called_at.map(|p| (p.file.path.clone(), p.line, p.column));
    }
    chain
}

/// Names of the symbol table, which the tool prefers for the function that contains an address:
/// two symbols for one constructor, and suffixes of parts and copies.
fn plain(frame: &str) -> String {
    let (name, place) = frame.split_once(' ').unwrap();
    let suffixes = [".cold", ".part.", ".constprop.", ".isra.", ".llvm."];
    let end = suffixes.iter().filter_map(|suffix| name.find(suffix)).min().unwrap_or(name.len());
    let mut name = name[..end].to_owned();
    for kind in ["C", "D", "CI"] {
        name = name.replace(&format!("{kind}1"), &format!("{kind}2"));
    }
    format!("{name} {place}")
}

/// The same as llvm-symbolizer tells it.
fn expected(program: &Path, addresses: &[u64]) -> Vec<Vec<String>> {
    let object = format!("--obj={}", program.display());
    let command =
        ["llvm-symbolizer", "--no-demangle", "--inlining", "--functions=linkage", &object];
    let text = told(&command, addresses);
    let chains = text.trim_end().split("\n\n").map(|answer| {
        let lines: Vec<&str> = answer.lines().collect();
        let frames = lines.chunks(2).map(|pair| {
            let place = pair[1].rsplit('/').next().unwrap();
            plain(&format!("{} {place}", pair[0]))
        });
        // Padding at the end of a unit.
        frames.filter(|frame| frame != "?? ??:0:0").collect()
    });
    chains.collect()
}

#[test]
fn inlined_chains() {
    for (flavour, compiled) in support::flavours() {
        let module = support::load(&compiled.program());
        let step = if flavour.starts_with("Rust") { 64 } else { 3 };
        let addresses = samples(&module, step);
        let expected = expected(&compiled.program(), &addresses);
        assert_eq!(expected.len(), addresses.len());
        let mut aliases: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for symbol in module.symbols() {
            aliases.entry(symbol.range.start).or_default().insert(symbol.name);
        }
        let mut inlined = 0;
        let mut wrong = Vec::new();
        for (address, expected) in addresses.iter().zip(&expected) {
            let chain = chain(&module, *address);
            inlined += usize::from(chain.len() > 1);
            // Equal functions are one after linking, with the names of all.
            let folded = |name: &str| {
                let start = module.symbol_at(LinkAddress(*address)).map(|s| s.range.start);
                start.is_some_and(|start| aliases[&start].contains(name))
            };
            let same = chain.len() == expected.len()
                && chain.iter().zip(expected).all(|(ours, theirs)| {
                    let (ours, theirs) = (ours.split_once(' '), theirs.split_once(' '));
                    let (Some(ours), Some(theirs)) = (ours, theirs) else { return false };
                    let name = ours.0 == theirs.0 || (folded(ours.0) && folded(theirs.0));
                    name && ours.1 == theirs.1
                });
            if !same {
                wrong.push(format!("{address:#x}: {chain:#?}\nexpected {expected:#?}"));
            }
        }
        let of = addresses.len();
        assert!(wrong.is_empty(), "{flavour}: {} of {of} wrong: {:#?}", wrong.len(), &wrong[..1]);
        assert!(inlined > 0 || flavour.contains("-O0"), "{flavour}");
    }
}

/// Breakpoints by name, where gdb sets them.
#[test]
fn behind_prologues() {
    for (flavour, compiled) in support::flavours() {
        let module = support::load(&compiled.program());
        let mut starts: Vec<(String, u64)> = Vec::new();
        for symbol in module.symbols() {
            let start = symbol.range.start;
            let Some(outer) = module.activations(start).pop() else { continue };
            let ours = outer
                .function
                .declared
                .as_ref()
                .is_some_and(|d| d.file.path.contains("tests/programs"));
            let entry = outer.ranges[0].start == start && symbol.kind == SymbolKind::Function;
            // A clone has its parent's name, and gdb stops in all of them.
            let name = outer.function.linkage_name.as_ref().or(outer.function.name.as_ref());
            let plain = name == Some(&symbol.name);
            if ours && entry && plain {
                starts.push((symbol.name, start.0));
            }
        }
        starts.dedup();
        let mut command = vec!["gdb", "-nx", "-batch", "a.out"];
        let breaks: Vec<String> =
            starts.iter().map(|(name, _)| format!("break -qualified {name}")).collect();
        for line in &breaks {
            command.extend(["-ex", line]);
        }
        let text = support::run(compiled.path(), &command);
        let mut places = text.lines().filter(|line| line.starts_with("Breakpoint "));
        let mut checked = 0;
        for (name, start) in &starts {
            let line = places.next().unwrap_or_else(|| panic!("{flavour}: {text}"));
            let at = line.split(" at ").nth(1).and_then(|rest| rest.split(':').next());
            let at = at.and_then(|at| at.strip_prefix("0x"));
            let Some(at) = at.filter(|_| !line.contains(" locations)")) else { continue };
            let expected = u64::from_str_radix(at, 16).unwrap();
            let found = module.behind_prologue(LinkAddress(*start)).unwrap();
            assert_eq!(found, LinkAddress(expected), "{flavour}: {name} at {start:#x}: {line}");
            checked += 1;
        }
        assert!(checked > 2, "{flavour}: {checked} {text}");
    }
}

/// Libraries give functions further names, by which everybody calls them.
#[test]
fn functions_by_an_alias() {
    let directory = tempfile::tempdir().unwrap();
    let source = "int real_name(int n) { return n + 1; }\n\
                  int alias(int) __attribute__((alias(\"real_name\")));\n\
                  int main(void) { return alias(-1); }\n";
    std::fs::write(directory.path().join("alias.c"), source).unwrap();
    support::run(directory.path(), &["gcc", "-g", "alias.c", "-o", "a.out"]);
    let module = support::load(&directory.path().join("a.out"));
    let named = |name| module.functions_named(name);
    assert_eq!(named("alias").len(), 1);
    assert_eq!(named("alias"), named("real_name"));
    assert_eq!(named("nothing"), []);
}
