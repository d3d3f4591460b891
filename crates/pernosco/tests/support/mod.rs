//! A recording to be built, and the program to do it, perhaps under restrictions.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A copy of the small recording `sum`, in a directory of its own.
pub struct Recording {
    temporary: tempfile::TempDir,
}

impl Recording {
    pub fn new() -> Recording {
        let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings");
        Recording::of(&recordings.join("sum/trace"))
    }

    /// A copy of another one.
    pub fn of(source: &Path) -> Recording {
        let recording = Recording::empty();
        let entries = fs::read_dir(source).unwrap_or_else(|error| {
            panic!("{}: {error}: set PERNOSCO_TRACES to the recordings", source.display())
        });
        for entry in entries {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let name = entry.file_name().into_string().unwrap();
                fs::copy(entry.path(), recording.file(&name)).unwrap();
            }
        }
        recording
    }

    /// The directory alone.
    pub fn empty() -> Recording {
        let recording = Recording { temporary: tempfile::tempdir().unwrap() };
        fs::create_dir(recording.trace()).unwrap();
        recording
    }

    /// Its program is a symbolic link to a file that lies elsewhere.
    pub fn with_program_elsewhere() -> Recording {
        let recording = Recording::new();
        let program = recording.file(PROGRAM);
        fs::rename(&program, recording.program_elsewhere()).unwrap();
        std::os::unix::fs::symlink(recording.program_elsewhere(), program).unwrap();
        recording
    }

    pub fn program_elsewhere(&self) -> PathBuf {
        self.root().join("program")
    }

    /// The directory that all of this lies in.
    pub fn root(&self) -> PathBuf {
        self.temporary.path().canonicalize().unwrap()
    }

    pub fn trace(&self) -> PathBuf {
        self.root().join("trace")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.trace().join(name)
    }

    pub fn database(&self, name: &str) -> PathBuf {
        self.file("pernosco.db").join(name)
    }

    /// `pernosco ARGUMENTS TRACE`
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pernosco"));
        command.args(arguments).arg(self.trace());
        command
    }

    /// The same under what a shell has set up: `exec "$@"` is appended to `setup`.
    pub fn run_under(&self, setup: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{setup}\nexec \"$@\""), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_pernosco")).args(arguments).arg(self.trace());
        command.output().unwrap()
    }

    /// The contents of all files of the recording and its database, by path.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut contents = BTreeMap::new();
        let mut directories = vec![self.trace()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    directories.push(entry.path());
                } else {
                    let name = entry.path().strip_prefix(self.trace()).unwrap().to_owned();
                    contents.insert(name, fs::read(entry.path()).unwrap());
                }
            }
        }
        contents
    }
}

/// The directory of a recording that is too large for the tree.
pub fn corpus(name: &str) -> PathBuf {
    let root = match std::env::var_os("PERNOSCO_TRACES") {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces"),
    };
    root.join(name).join("trace")
}

/// The program of the recording.
pub const PROGRAM: &str = "mmap_copy_4_sum";

/// What a successful run printed; nothing may be on stderr.
pub fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a run said that failed.
pub fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(text.starts_with("pernosco: ") && !text.contains("panicked"), "{text}");
    text
}
