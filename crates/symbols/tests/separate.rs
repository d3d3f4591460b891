//! Debug information outside of the program: stripped off, shared by dwz, split, packed,
//! compressed. Whatever the form, the answers are those of the plain program.

mod support;

use std::fmt::Write as _;
use std::path::Path;

use support::{load, load_with, run};
use symbols::{LinkAddress, Module, NameKind, TypeKind};

/// Much of what a module says, with nothing in it that depends on the form.
fn described(module: &Module) -> String {
    let mut text = String::new();
    let mut addresses: Vec<u64> = Vec::new();
    for file in module.source_files().iter().filter(|f| f.path.contains("tests/programs")) {
        writeln!(text, "file {}", file.path).unwrap();
        addresses.extend(module.lines_of_file(&file.path).iter().map(|r| r.range.start.0));
    }
    addresses.sort_unstable();
    addresses.dedup();
    for address in addresses {
        let address = LinkAddress(address);
        // Rows of padding are outside of their unit.
        let Some(line) = module.line_at(address) else { continue };
        writeln!(text, "{address} {}:{}:{}", line.file.path, line.line, line.column).unwrap();
        for activation in module.activations(address) {
            let function = &activation.function;
            write!(text, "  {} {:?}", function.full_name, activation.ranges).unwrap();
            if let Some(place) = &function.declared {
                write!(text, " {}:{}", place.file.path, place.line).unwrap();
            }
            if let Some(place) = &activation.called_at {
                write!(text, " from {}:{}", place.file.path, place.line).unwrap();
            }
            let signature = module.signature(activation.instance).unwrap();
            writeln!(text, " -> {}", module.type_name(signature.result)).unwrap();
            for variable in module.variables(activation.instance, address).unwrap() {
                let type_name = module.type_name(variable.type_);
                let line = variable.declared.map(|d| d.line);
                writeln!(text, "    {} {type_name} {line:?} {}", variable.name, variable.depth)
                    .unwrap();
            }
        }
        writeln!(text, "  stop at {:?}", module.behind_prologue(address)).unwrap();
    }
    for name in ["shape", "point", "colour", "counter_t", "Polygon", "Named", "Base"] {
        for thing in module.things_named(name, &[NameKind::Type]) {
            let type_ = module.type_(thing.type_id().unwrap()).unwrap();
            write!(text, "type {} {:?}", thing.full_name, type_.size).unwrap();
            if let TypeKind::Composite(composite) = type_.kind {
                for member in composite.members {
                    let type_name = module.type_name(member.type_);
                    write!(text, " {type_name} {:?} {:?};", member.name, member.place).unwrap();
                }
            }
            writeln!(text).unwrap();
        }
    }
    for name in ["squared", "measure_all", "main", "apply", "hidden"] {
        for code in module.functions_named(name) {
            let ranges: Vec<_> = code.instances.iter().map(|i| (i.inlined, &i.ranges)).collect();
            writeln!(text, "function {} {ranges:?}", code.function.full_name).unwrap();
        }
    }
    text
}

fn check(what: &str, module: &Module, expected: &str) {
    let found = described(module);
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(found.len(), expected.len(), "{what}");
    assert!(found.lines().count() > 200, "{what}");
    assert_eq!(module.troubles(), [], "{what}");
}

/// Programs at -O2, with the description of the plain form.
fn plain(options: &[&str]) -> Vec<(support::Compiled, String)> {
    [support::c as fn(&[&str]) -> support::Compiled, support::cpp]
        .into_iter()
        .map(|compile| {
            let compiled = compile(&[&["-O2"], options].concat());
            let text = described(&load(&compiled.program()));
            (compiled, text)
        })
        .collect()
}

#[test]
fn stripped_and_found_by_link_or_build_id() {
    for (compiled, expected) in plain(&["-gdwarf-5", "-Wl,--build-id"]) {
        let directory = compiled.path();
        run(directory, &["objcopy", "--only-keep-debug", "a.out", "a.debug"]);
        run(
            directory,
            &["objcopy", "--strip-debug", "--add-gnu-debuglink=a.debug", "a.out", "linked"],
        );
        check("link", &load(&directory.join("linked")), &expected);

        run(directory, &["strip", "a.out", "-o", "stripped"]);
        let bare = load(&directory.join("stripped"));
        assert!(!bare.has_debug_information());
        assert!(
            bare.symbol_at(bare.image().entry).is_none() || bare.symbols_named("main").is_empty()
        );
        let id = bare.image().build_id.clone().unwrap();
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let by_id = directory.join(".build-id").join(&hex[..2]);
        std::fs::create_dir_all(&by_id).unwrap();
        let debug_file = by_id.join(format!("{}.debug", &hex[2..]));
        std::fs::copy(directory.join("a.debug"), &debug_file).unwrap();
        let module = load_with(&directory.join("stripped"), directory);
        check("build id", &module, &expected);
        assert_eq!(module.symbols_named("main").len(), 1);

        // Another program's debug information is refused.
        let other = support::c(&["-g", "-Wl,--build-id"]);
        run(other.path(), &["objcopy", "--only-keep-debug", "a.out", "other.debug"]);
        std::fs::copy(other.path().join("other.debug"), &debug_file).unwrap();
        let module = load_with(&directory.join("stripped"), directory);
        assert!(!module.has_debug_information());
        assert!(module.troubles()[0].what.contains("build id"), "{:?}", module.troubles());
        std::fs::copy(other.path().join("other.debug"), directory.join("a.debug")).unwrap();
        let module = load(&directory.join("linked"));
        assert!(!module.has_debug_information());
        assert!(module.troubles()[0].what.contains("checksum"), "{:?}", module.troubles());
    }
}

#[test]
fn shared_by_dwz() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        // Two programs that have much in common.
        let plain = [support::c(&["-O2", version]), support::c(&["-O2", version, "-DOTHER"])];
        let expected = described(&load(&plain[0].program()));
        let directory = plain[0].path();
        std::fs::copy(plain[1].program(), directory.join("b.out")).unwrap();
        run(directory, &["cp", "a.out", "single.out"]);
        // Of version 5 dwz optimises only what it is told to.
        run(directory, &["dwz", "single.out"]);
        check("dwz alone", &load(&directory.join("single.out")), &expected);
        run(directory, &["dwz", "-m", "shared.debug", "-M", "shared.debug", "a.out", "b.out"]);
        let sections = run(directory, &["readelf", "-SW", "a.out"]);
        assert!(sections.contains(".gnu_debugaltlink"));
        check("dwz shared", &load(&directory.join("a.out")), &expected);

        std::fs::remove_file(directory.join("shared.debug")).unwrap();
        let module = load(&directory.join("a.out"));
        assert!(!module.activations(module.symbols_named("main")[0].range.start).is_empty());
        let troubles = module.troubles();
        assert!(troubles.iter().any(|t| t.what.contains("dwz is not there")), "{troubles:?}");
    }
}

/// The same program compiled in one go and with `.dwo` files.
fn split(version: &str, compile: &str, sources: &[&str]) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let sources: Vec<String> =
        sources.iter().map(|s| support::programs().join(s).to_str().unwrap().to_owned()).collect();
    let mut objects = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let object = format!("{number}.o");
        let options = [compile, "-O2", version, "-gsplit-dwarf", "-c", source, "-o", &object];
        run(directory.path(), &options);
        let object = format!("plain{number}.o");
        run(directory.path(), &[compile, "-O2", version, "-c", source, "-o", &object]);
        objects.push(number);
    }
    for (prefix, output) in [("", "a.out"), ("plain", "plain")] {
        let names: Vec<String> = objects.iter().map(|n| format!("{prefix}{n}.o")).collect();
        let mut command = vec![compile];
        command.extend(names.iter().map(String::as_str));
        command.extend(["-o", output]);
        run(directory.path(), &command);
    }
    let expected = described(&load(&directory.path().join("plain")));
    (directory, expected)
}

#[test]
fn split_and_packed() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        for (compile, sources) in [("gcc", &["main.c", "measure.c"][..]), ("g++", &["classes.cpp"])]
        {
            let (directory, expected) = split(version, compile, sources);
            let directory = directory.path();
            let program = directory.join("a.out");
            check(&format!("{compile} {version} split"), &load(&program), &expected);

            let dwos: Vec<String> = (0..sources.len()).map(|n| format!("{n}.dwo")).collect();
            let packed = directory.join("a.out.dwp");
            // The tool does not survive version 5.
            if version == "-gdwarf-4" {
                run(directory, &["dwp", "-e", "a.out", "-o", "a.out.dwp"]);
            }
            for dwo in &dwos {
                let away = directory.join(format!("{dwo}.away"));
                std::fs::rename(directory.join(dwo), away).unwrap();
            }
            if packed.exists() {
                check(&format!("{compile} {version} packed"), &load(&program), &expected);
                std::fs::remove_file(packed).unwrap();
            }

            // Without them there are still lines and symbols.
            let module = load(&program);
            let main = module.symbols_named("main")[0].range.start;
            assert!(module.line_at(main).is_some());
            assert!(module.activations(main).is_empty());
            let troubles = module.troubles();
            assert!(troubles[0].what.contains("not there"), "{troubles:?}");

            // Those of another build are not used.
            for dwo in &dwos {
                let source = support::programs().join("classes.cpp");
                let object = directory.join("other.o");
                let mut options = vec!["g++", version, "-O1", "-gsplit-dwarf", "-c"];
                options.extend([source.to_str().unwrap(), "-o", object.to_str().unwrap()]);
                run(directory, &options);
                std::fs::copy(directory.join("other.dwo"), directory.join(dwo)).unwrap();
            }
            let module = load(&program);
            assert!(module.activations(main).is_empty());
            let troubles = module.troubles();
            assert!(troubles[0].what.contains("does not belong"), "{troubles:?}");
        }
    }
}

#[test]
fn packed_by_rustc() {
    for version in ["-Cdwarf-version=4", "-Cdwarf-version=5"] {
        let expected = described(&load(&support::rust(&["-g", version]).program()));
        for form in ["packed", "unpacked"] {
            let option = format!("-Csplit-debuginfo={form}");
            let compiled = support::rust(&["-g", version, &option]);
            let module = load(&compiled.program());
            let found = described(&module);
            // Names of units are files, too, and differ.
            let facts = |text: &str| -> Vec<String> {
                text.lines().filter(|l| !l.starts_with("file ")).map(str::to_owned).collect()
            };
            let (facts, expected) = (facts(&found), facts(&expected));
            for (found, expected) in facts.iter().zip(&expected) {
                assert_eq!(found, expected, "{form} {version}");
            }
            let more = expected.iter().filter(|fact| !facts.contains(fact)).collect::<Vec<_>>();
            assert_eq!(facts.len(), expected.len(), "{more:#?}");
            assert!(found.lines().count() > 100);
            let troubles = module.troubles();
            // The standard library's were never there.
            let ours =
                |t: &&symbols::Trouble| !t.place.contains("/rustc/") && !t.place.contains("std-");
            assert_eq!(troubles.iter().find(ours), None, "{form} {version}");
        }
    }
}

#[test]
fn compressed() {
    for (compiled, expected) in plain(&["-gdwarf-5"]) {
        for form in ["zlib", "zlib-gnu", "zstd"] {
            let option = format!("--compress-debug-sections={form}");
            run(compiled.path(), &["objcopy", &option, "a.out", "packed"]);
            let module = load(&compiled.path().join("packed"));
            check(form, &module, &expected);
            assert!(module.memory().unpacked > 1000);
        }
    }
}

#[test]
fn not_for_us() {
    let directory = tempfile::tempdir().unwrap();
    let path: &Path = directory.path();
    std::fs::write(path.join("text"), "no program").unwrap();
    std::fs::write(path.join("a.s"), ".globl main\nmain: ret\n").unwrap();
    run(path, &["gcc", "-m32", "-c", "a.s", "-o", "a32.o"]);
    for name in ["text", "a32.o"] {
        let bytes = std::fs::read(path.join(name)).unwrap();
        let options = symbols::Options::default();
        let error = Module::load(bytes.into(), std::sync::Arc::new(symbols::NoFiles), &options);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("not a program file for x86-64 Linux"), "{text}");
    }
}
