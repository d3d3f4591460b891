//! The committed reader of the schema is what the schema says.
//!
//! `PERNOSCO_BLESS=1 cargo test -p rr-trace --test schema` writes it anew.

use std::path::Path;
use std::process::Command;

const PREFACE: &str = "//! Generated from schema/trace.capnp by tests/schema.rs; do not edit.\n";

#[test]
fn generated_code_is_current() {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    if Command::new("capnp").arg("--version").output().is_err() {
        eprintln!("NOT CHECKED: no `capnp` on PATH (Debian package capnproto)");
        return;
    }
    let output = tempfile::tempdir().unwrap();
    capnpc::CompilerCommand::new()
        .src_prefix(crate_directory.join("schema"))
        .file(crate_directory.join("schema/trace.capnp"))
        .output_path(output.path())
        .run()
        .unwrap();
    let generated = std::fs::read_to_string(output.path().join("trace_capnp.rs")).unwrap();
    let wanted = PREFACE.to_owned() + &generated;
    let committed = crate_directory.join("src/trace_capnp.rs");
    if std::env::var_os("PERNOSCO_BLESS").is_some() {
        std::fs::write(&committed, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(found == wanted, "{} is stale: bless it (see above)", committed.display());
}
