//! The pages of `docs/bugs`: every command prints what its page says.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{corpus, stdout};

/// A command of a page, and what it prints.
struct Example {
    command: String,
    printed: String,
}

/// What stands between ```` ```console ```` and ```` ``` ````: `$ command`, then its output.
fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match line.strip_prefix("$ ") {
                Some(command) => {
                    let (command, printed) = (command.to_owned(), String::new());
                    examples.push(Example { command, printed });
                }
                None => {
                    let printed = &mut examples.last_mut().unwrap().printed;
                    printed.push_str(line);
                    printed.push('\n');
                }
            },
        }
    }
    examples
}

/// The recording under its name in a directory, with its database.
fn build(name: &str, directory: &Path) {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings");
    let small = tree.join(name).join("trace");
    let source = if small.is_dir() { small } else { corpus(name) };
    let copy = directory.join(name);
    fs::create_dir(&copy).unwrap();
    let entries = fs::read_dir(&source)
        .unwrap_or_else(|error| panic!("{}: {error}: set PERNOSCO_TRACES", source.display()));
    for entry in entries.map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    let mut build = Command::new(env!("CARGO_BIN_EXE_pernosco"));
    let built = build.arg("build").arg(&copy).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

fn check(name: &str) {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/bugs");
    let page = fs::read_to_string(pages.join(name)).unwrap();
    let examples = examples(&page);
    assert!(examples.len() > 1, "{name} has no examples");
    let directory = tempfile::tempdir().unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_pernosco"));
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    for Example { command, printed } in examples {
        // `pernosco query NAME …`, perhaps with options behind.
        let recording = command.split(' ').nth(2).unwrap();
        if !directory.path().join(recording).exists() {
            build(recording, directory.path());
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{command} 2>errors")]);
        let output = shell.current_dir(directory.path()).env("PATH", &path).output().unwrap();
        let errors = fs::read_to_string(directory.path().join("errors")).unwrap_or_default();
        // That there is more is said there.
        let more = errors.is_empty() || errors.starts_with("there is more");
        assert!(more, "{name}: {command}: {errors}");
        assert_eq!(stdout(&output), printed, "{name}: {command}");
    }
}

#[test]
fn an_overwritten_field() {
    check("overwrite.md");
}

#[test]
fn use_after_free() {
    check("use-after-free.md");
}

#[test]
fn a_dangling_pointer() {
    check("dangling-pointer.md");
}

#[test]
fn copies() {
    check("copies.md");
}

#[test]
fn signals() {
    check("signals.md");
}

#[test]
fn a_race() {
    check("race.md");
}

/// Every page is listed, and tested above.
#[test]
fn all_pages_are_listed() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/bugs");
    let list = fs::read_to_string(pages.join("README.md")).unwrap();
    let mut names: Vec<String> = fs::read_dir(pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    names.sort();
    let tested = include_str!("bugs.rs");
    for name in &names {
        assert!(list.contains(&format!("({name})")), "{name} is not listed");
        assert!(tested.contains(&format!("check(\"{name}\")")), "{name} is not tested");
    }
    assert_eq!(names.len(), 6);
}
