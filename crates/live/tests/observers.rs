//! Observers and slices change nothing: the same program prints the same and retires the same
//! numbers of instructions and conditional branches, whatever is compiled in and wherever it is
//! stopped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const OBSERVERS: [&str; 8] =
    ["", "written", "reads", "executions", "calls", "control", "stores", "all"];
/// Short and odd, so that stops fall everywhere; and one that a whole program fits in.
const SLICES: [u64; 3] = [997, 100_003, 1 << 40];

/// What a run shows: its output and its counts.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    output: Vec<u8>,
    counts: String,
}

fn run(directory: &Path, command: &[&str], observe: &str, slice: u64) -> Shown {
    let mut live_run = Command::new(env!("CARGO_BIN_EXE_live-run"));
    live_run.args(["--stats", "--fixed", "--slice", &slice.to_string()]);
    if !observe.is_empty() {
        live_run.arg(format!("--observe={observe}"));
    }
    live_run.args(command).current_dir(directory).stdin(Stdio::null());
    live_run.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    let output = live_run.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} {observe} {slice}: {told}");
    let counts = told.lines().find(|line| line.contains(" instructions, ")).unwrap();
    let (counts, _) = counts.split_once(" system calls").unwrap();
    Shown { output: output.stdout, counts: counts.to_owned() }
}

/// Runs `command` in every way; returns what it shows in all of them.
fn check(directory: &Path, command: &[&str]) -> Shown {
    let plain = run(directory, command, "", SLICES[2]);
    for observe in OBSERVERS {
        for slice in SLICES {
            let shown = run(directory, command, observe, slice);
            assert!(
                shown == plain,
                "{command:?} with `{observe}` in slices of {slice}: {} instead of {}, output {}",
                shown.counts,
                plain.counts,
                if shown.output == plain.output { "the same" } else { "differs" }
            );
        }
    }
    plain
}

/// As `check`, and the output is that of the native program.
fn check_native(directory: &Path, command: &[&str]) {
    let mut native = Command::new(command[0]);
    native.args(&command[1..]).current_dir(directory).stdin(Stdio::null());
    native.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    let native = native.output().unwrap();
    assert!(native.status.success(), "{command:?}: {native:?}");
    assert!(check(directory, command).output == native.stdout, "{command:?} prints otherwise");
}

fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings/sum")
}

/// The recorded program itself; rr counted its conditional branches.
#[test]
fn the_recorded_program() {
    let program = recording().join("trace/mmap_copy_4_sum");
    let shown = check(&recording(), &[program.to_str().unwrap()]);
    assert_eq!(shown.output, std::fs::read(recording().join("stdout.txt")).unwrap());
    assert!(shown.counts.ends_with("17107 ticks, 13"), "{}", shown.counts);
}

#[test]
fn a_compressor() {
    check_native(&recording(), &["gzip", "-9", "-n", "-c", "sum.c"]);
}

#[test]
fn a_shell() {
    let script = "i=0; while [ $i -lt 200 ]; do i=$((i + 1)); t=\"${t#??}$i-\"; done; echo $t";
    check_native(&recording(), &["dash", "-c", script]);
}

#[test]
fn a_database() {
    let script = "create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 \
                  from n where i < 200) insert into t select i, hex(i * i) from n; select b, \
                  count(*), sum(a * 0.7) from t group by length(b), a % 3 order by 3;";
    check_native(&recording(), &["sqlite3", "-batch", ":memory:", script]);
}
