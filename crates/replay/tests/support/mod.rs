//! Recordings and oracles for the tests, and what is needed to compare with them.

#![allow(dead_code, reason = "each test uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;

use replay::{Options, Session};

pub mod flags;
pub mod memory;
pub mod sha256;
pub mod steps;
pub mod transfers;

/// The recordings: `PERNOSCO_TRACES`, or `../shared/traces` beside the workspace.
pub fn traces() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces");
    let directory = std::env::var_os("PERNOSCO_TRACES").map_or(beside, PathBuf::from);
    assert!(
        directory.is_dir(),
        "no recordings in {}: set PERNOSCO_TRACES to their directory",
        directory.display()
    );
    directory
}

pub fn trace(name: &str) -> rr_trace::Trace {
    let directory = traces().join(name).join("trace");
    rr_trace::Trace::open(&directory).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn open(name: &str) -> Session {
    Session::open(&trace(name), Options::default())
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A compressed file of a recording's oracle.
pub fn oracle(name: &str, file: &str) -> String {
    let path = traces().join(name).join("oracle").join(file);
    let output = Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip starts");
    assert!(output.status.success(), "{}: {output:?}", path.display());
    String::from_utf8(output.stdout).expect("oracles are text")
}

pub fn summary(name: &str) -> serde_json::Value {
    let path = traces().join(name).join("oracle/summary.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    serde_json::from_str(&text).expect("summaries are JSON")
}
