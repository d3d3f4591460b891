//! Finds the recordings that the tests read.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Every recording with its name, in order of names.
pub fn recordings() -> Vec<(String, PathBuf)> {
    let root = root();
    let entries = std::fs::read_dir(&root).unwrap_or_else(|error| {
        panic!(
            "no recordings in {}: {error}; set PERNOSCO_TRACES to a directory of NAME/trace",
            root.display()
        )
    });
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("trace/version").exists())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} holds no NAME/trace/version", root.display());
    found
}

fn root() -> PathBuf {
    match std::env::var_os("PERNOSCO_TRACES") {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces"),
    }
}

/// The text of a .gz file, through the program gzip.
#[allow(dead_code)]
pub fn gunzip(path: &Path) -> String {
    let output = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip is installed");
    assert!(output.status.success(), "gzip -dc {}", path.display());
    String::from_utf8(output.stdout).unwrap()
}
