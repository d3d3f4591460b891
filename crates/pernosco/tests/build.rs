//! `pernosco build` and `pernosco db` as users call them, on the small recording of the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A copy of the recording, for its database to be made in.
fn recording(temporary: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings/sum/trace");
    let copy = temporary.join("trace");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn pernosco(arguments: &[&str], trace: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pernosco"));
    command.args(arguments).arg(trace).output().unwrap()
}

fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_database_is_built_described_and_verified() {
    let temporary = tempfile::tempdir().unwrap();
    let trace = recording(temporary.path());
    let missing = failure(&pernosco(&["db", "info"], &trace));
    assert!(missing.contains("is not a database"), "{missing}");
    let built = stdout(&pernosco(&["build"], &trace));
    assert!(built.contains("in 1 segments (0 were there)"), "{built}");
    let again = stdout(&pernosco(&["build"], &trace));
    assert!(again.contains("in 1 segments (1 were there)"), "{again}");
    let info = stdout(&pernosco(&["db", "info", "--json"], &trace));
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!((&info["state"], &info["segments"]), (&"Complete".into(), &1.into()));
    assert!(info["bytes"]["sum"].as_u64().unwrap() > 0, "{info}");
    let verified = stdout(&pernosco(&["db", "verify"], &trace));
    assert!(verified.contains("1 of 1 segments executed again, 0 differences"), "{verified}");
}

#[test]
fn a_damaged_database_is_an_error_that_names_the_file() {
    let temporary = tempfile::tempdir().unwrap();
    let trace = recording(temporary.path());
    stdout(&pernosco(&["build"], &trace));
    let volume = trace.join("pernosco.db/volume-00000");
    let mut bytes = fs::read(&volume).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&volume, bytes).unwrap();
    let error = failure(&pernosco(&["db", "verify"], &trace));
    assert!(error.contains("volume-00000"), "{error}");
}

#[test]
fn a_database_of_another_recording_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let trace = recording(temporary.path());
    stdout(&pernosco(&["build"], &trace));
    let manifest = trace.join("pernosco.db/manifest");
    let text = fs::read_to_string(&manifest).unwrap();
    let other: String = text
        .lines()
        .map(|line| match line.split_once(char::is_whitespace) {
            Some(("identity", value)) => {
                let end = if value.ends_with('0') { "1" } else { "0" };
                format!("identity {}{end}\n", &value[..value.len() - 1])
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_ne!(text, other, "the manifest has an identity");
    fs::write(&manifest, other).unwrap();
    let error = failure(&pernosco(&["db", "info"], &trace));
    assert!(error.contains("another recording") || error.contains("manifest"), "{error}");
}
