//! Programs compiled for tests, and the tools that say what is right about them.

#![allow(dead_code, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use symbols::{Bytes, Locator, Module, Options, Wanted};

/// Finds files as a debugger does.
#[derive(Debug)]
pub struct Disk {
    pub program: PathBuf,
    pub debug_directory: PathBuf,
}

impl Locator for Disk {
    fn locate(&self, wanted: &Wanted<'_>) -> Option<Bytes> {
        let program = self.program.to_str()?;
        let paths = wanted.paths(program, &[self.debug_directory.to_str()?]);
        paths.iter().find_map(|path| std::fs::read(path).ok()).map(Bytes::from)
    }
}

pub fn load(program: &Path) -> Module {
    load_with(program, Path::new("/usr/lib/debug"))
}

pub fn load_with(program: &Path, debug_directory: &Path) -> Module {
    let bytes = std::fs::read(program).unwrap();
    let disk = Disk { program: program.into(), debug_directory: debug_directory.into() };
    Module::load(bytes.into(), Arc::new(disk), &Options::default()).unwrap()
}

pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs")
}

/// What a command prints; it has to succeed.
pub fn run(directory: &Path, command: &[&str]) -> String {
    // Tools of the toolchain hang now and then on what they do not understand.
    let mut process = Command::new("timeout");
    process.arg("120").args(command).current_dir(directory).env("LC_ALL", "C");
    // What gdb would read from the network or a user's settings.
    process.env_remove("DEBUGINFOD_URLS");
    let output = process.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A directory with a compiled program `a.out` in it.
#[derive(Debug)]
pub struct Compiled {
    pub directory: tempfile::TempDir,
}

impl Compiled {
    pub fn program(&self) -> PathBuf {
        self.directory.path().join("a.out")
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn compiled(command: &[&str], sources: &[&str]) -> Compiled {
    let directory = tempfile::tempdir().unwrap();
    let sources: Vec<String> =
        sources.iter().map(|name| programs().join(name).to_str().unwrap().to_owned()).collect();
    let mut command = command.to_vec();
    command.extend(sources.iter().map(String::as_str));
    command.extend(["-o", "a.out"]);
    run(directory.path(), &command);
    Compiled { directory }
}

/// Two units of C.
pub fn c(options: &[&str]) -> Compiled {
    compiled(&[&["gcc"], options].concat(), &["main.c", "measure.c"])
}

pub fn cpp(options: &[&str]) -> Compiled {
    compiled(&[&["g++"], options].concat(), &["classes.cpp"])
}

pub fn rust(options: &[&str]) -> Compiled {
    compiled(&[&["rustc", "--edition", "2021"], options].concat(), &["variants.rs"])
}

/// Programs in many flavours, each with a name for messages.
pub fn flavours() -> Vec<(String, Compiled)> {
    let mut flavours = Vec::new();
    for optimisation in ["-O0", "-O2"] {
        for version in ["-gdwarf-4", "-gdwarf-5"] {
            let options = [optimisation, version];
            flavours.push((format!("C {options:?}"), c(&options)));
            flavours.push((format!("C++ {options:?}"), cpp(&options)));
        }
    }
    for level in ["0", "2"] {
        for version in ["4", "5"] {
            let (level, version) =
                (format!("-Copt-level={level}"), format!("-Zdwarf-version={version}"));
            let options = if version.ends_with('4') {
                vec!["-g", &level]
            } else {
                vec!["-g", &level, "-Cdwarf-version=5"]
            };
            flavours.push((format!("Rust {options:?}"), rust(&options)));
        }
    }
    flavours
}
