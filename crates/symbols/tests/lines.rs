//! Line tables and the code of lines, against llvm-dwarfdump and addr2line.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use symbols::{LinkAddress, Module, merged};

type Row = (u64, u64, u32, u32, String, u32, bool, bool, bool);

/// All rows that `llvm-dwarfdump --debug-line` lists in sequences of code, sorted.
fn expected(program: &Path, module: &Module) -> Vec<Row> {
    let text = support::run(
        Path::new("/"),
        &["llvm-dwarfdump", "--debug-line", program.to_str().unwrap()],
    );
    let mut rows = Vec::new();
    let mut sequence: Vec<(u64, u32, u32, u64, u32, String)> = Vec::new();
    let mut files: BTreeMap<u64, String> = BTreeMap::new();
    let mut file = None;
    for line in text.lines() {
        if line.starts_with("debug_line[") {
            files.clear();
        } else if let Some(rest) = line.strip_prefix("file_names[") {
            let index = rest.split(']').next().unwrap().trim().parse().unwrap();
            file = Some(index);
        } else if let Some(rest) = line.trim().strip_prefix("name: ") {
            let name = rest.split('"').nth(1).unwrap();
            let name = name.rsplit('/').next().unwrap().to_owned();
            files.insert(file.unwrap(), name);
        } else if line.starts_with("0x") {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| fields[at].parse::<u32>().unwrap();
            let address = u64::from_str_radix(&fields[0][2..], 16).unwrap();
            let flags = fields[6..].join(" ");
            let entry = (address, number(1), number(2), u64::from(number(3)), number(5), flags);
            let end = entry.5.contains("end_sequence");
            sequence.push(entry);
            if end {
                let code = module.image().is_code(LinkAddress(sequence[0].0));
                for pair in sequence.windows(2).filter(|_| code) {
                    let (address, line, column, file, discriminator, flags) = pair[0].clone();
                    let flag = |name| flags.contains(name);
                    let (stmt, prologue, epilogue) =
                        (flag("is_stmt"), flag("prologue_end"), flag("epilogue_begin"));
                    let name = files.get(&file).cloned().unwrap_or_default();
                    let place = (address, pair[1].0, line, column, name, discriminator);
                    rows.push((
                        place.0, place.1, place.2, place.3, place.4, place.5, stmt, prologue,
                        epilogue,
                    ));
                }
                sequence.clear();
            }
        }
    }
    rows.sort();
    rows
}

#[test]
fn every_row_of_every_table() {
    for (flavour, compiled) in support::flavours() {
        let module = support::load(&compiled.program());
        let expected = expected(&compiled.program(), &module);
        let mut rows: Vec<Row> = module
            .all_lines()
            .into_iter()
            .map(|l| {
                let name = l.file.path.rsplit('/').next().unwrap().to_owned();
                let flags = (l.is_stmt, l.prologue_end, l.epilogue_begin);
                let (start, end) = (l.range.start.0, l.range.end.0);
                let place = (start, end, l.line, l.column, name, l.discriminator);
                (place.0, place.1, place.2, place.3, place.4, place.5, flags.0, flags.1, flags.2)
            })
            .collect();
        rows.sort();
        assert!(rows.len() > 30, "{flavour}");
        assert_eq!(rows.len(), expected.len(), "{flavour}");
        for (row, expected) in rows.iter().zip(&expected) {
            assert_eq!(row, expected, "{flavour}");
        }
        assert_eq!(module.troubles(), [], "{flavour}");
    }
}

/// A line's code, and the line of each address in it, agree.
#[test]
fn code_of_lines() {
    for (flavour, compiled) in support::flavours() {
        let module = support::load(&compiled.program());
        let files = module.source_files();
        assert!(files.is_sorted_by(|a, b| a.path < b.path));
        let mut checked = 0;
        for file in files.iter().filter(|file| file.path.contains("tests/programs")) {
            let rows = module.lines_of_file(&file.path);
            for line in rows.chunk_by(|a, b| a.line == b.line) {
                for range in merged(line) {
                    for address in [range.start, LinkAddress(range.end.0 - 1)] {
                        let found = module.line_at(address).unwrap();
                        assert_eq!((&found.file.path, found.line), (&file.path, line[0].line));
                        checked += 1;
                    }
                }
            }
        }
        assert!(checked > 50, "{flavour}: {checked}");
    }
}

#[test]
fn files_have_digests_and_directories() {
    let compiled = support::c(&["-gdwarf-5"]);
    let module = support::load(&compiled.program());
    let files = module.source_files();
    let path = support::programs().join("main.c");
    assert!(files.iter().any(|file| Path::new(&file.path) == path), "{files:?}");
    // Compilers do not give digests unasked; the assembler gives what it is told.
    let assembly = "
        .text
        .globl main
        .type main, @function
        .file 0 \"/far\" \"a.c\" md5 0x000102030405060708090a0b0c0d0e0f
        .file 1 \"sub\" \"b.c\" md5 0xf0f1f2f3f4f5f6f7f8f9fafbfcfdfeff
    main:
        .loc 1 7 3
        xorl %eax, %eax
        ret
        .size main, .-main
    ";
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.s"), assembly).unwrap();
    support::run(directory.path(), &["gcc", "-gdwarf-5", "a.s", "-o", "a.out"]);
    let module = support::load(&directory.path().join("a.out"));
    let main = module.symbols_named("main")[0].range.start;
    let line = module.line_at(main).unwrap();
    assert_eq!((line.file.path.as_str(), line.line, line.column), ("/far/sub/b.c", 7, 3));
    let digest: String = line.file.md5.unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let dump = support::run(directory.path(), &["llvm-dwarfdump", "--debug-line", "a.out"]);
    assert!(dump.contains(&format!("md5_checksum: {digest}")), "{digest} {dump}");
}
