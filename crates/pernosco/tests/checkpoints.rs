//! `pernosco replay --check --checkpoints` as users call it, over genuine recordings.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The recordings of the test corpus.
const RECORDINGS: [&str; 16] = [
    "true",
    "ls",
    "heap_list_O0",
    "heap_list_O2_n",
    "struct_copy_O0",
    "use_after_free_n",
    "containers_O0",
    "shapes_O0",
    "recursion_O2",
    "float_math_O2",
    "crash",
    "selfmod",
    "signals",
    "threads_chaos",
    "threads_slices",
    "fork_pipe",
];

fn traces() -> PathBuf {
    match std::env::var_os("PERNOSCO_TRACES") {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces"),
    }
}

fn recording(name: &str) -> PathBuf {
    let path = traces().join(name).join("trace");
    assert!(path.exists(), "no {}: set PERNOSCO_TRACES to the recordings", path.display());
    path
}

/// Those whose instructions this host has.
fn replayable() -> Vec<PathBuf> {
    let names = RECORDINGS.iter().filter(|name| testkit::can_replay(name));
    names.map(|name| recording(name)).collect()
}

/// The recording that is in the tree.
fn sum() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings/sum/trace")
}

/// With its own place for temporary files.
fn pernosco(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pernosco"));
    command.env("TMPDIR", temporary);
    command
}

fn check(temporary: &Path, arguments: &[&str], traces: &[PathBuf]) -> Output {
    let mut command = pernosco(temporary);
    command.args(["replay", "--check"]).args(arguments).args(traces).output().unwrap()
}

fn assert_empty(directory: &Path) {
    let left: Vec<_> = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_recording_is_the_same_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let traces = replayable();
    let output = check(directory.path(), &["--checkpoints", "8", "--json"], &traces);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = json(&output);
    assert_eq!(lines.len(), traces.len());
    for line in lines {
        assert_eq!(line["divergences"], 0, "{line}");
        assert_eq!(line["pieces"]["count"], 9, "{line}");
        assert_eq!(line["pieces"]["failed"], 0, "{line}");
    }
    assert_empty(directory.path());
}

#[test]
fn a_checkpoint_at_every_event() {
    let directory = tempfile::tempdir().unwrap();
    for seed in ["0", "7"] {
        let arguments = ["--checkpoints", "every", "--seed", seed, "--jobs", "3", "--json"];
        let output = check(directory.path(), &arguments, &[sum()]);
        assert!(output.status.success(), "{}", stderr(&output));
        let line = &json(&output)[0];
        assert_eq!(line["pieces"]["count"].as_u64().unwrap(), line["events"].as_u64().unwrap() + 1);
    }
    assert_empty(directory.path());
}

/// Takes minutes, a process for each of 3400 events: only where `PERNOSCO_NIGHTLY` is set.
#[test]
fn a_checkpoint_at_every_event_of_every_recording() {
    if std::env::var_os("PERNOSCO_NIGHTLY").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let traces = replayable();
    let output = check(directory.path(), &["--checkpoints", "every", "--json"], &traces);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = json(&output);
    assert_eq!(lines.len(), traces.len());
    for line in lines {
        assert_eq!((&line["divergences"], &line["pieces"]["failed"]), (&0.into(), &0.into()));
        assert_eq!(line["pieces"]["count"].as_u64().unwrap(), line["events"].as_u64().unwrap() + 1);
    }
    assert_empty(directory.path());
}

/// A checkpoint's file, made by the library, and the border and digest of a later one.
struct Piece {
    file: PathBuf,
    to: String,
    digest: String,
}

fn piece(trace: &Path, directory: &Path) -> Piece {
    use replay::{Border, Options, Session};
    let trace = rr_trace::Trace::open(trace).unwrap();
    let mut session = Session::open(&trace, Options::default()).unwrap();
    let mut go = |moment| {
        let border = Border::Instruction { moment: model::Moment(moment), iterations: 0 };
        assert!(session.go_on_to(border, |_| {}).unwrap());
        (border.to_string(), session.checkpoint().unwrap())
    };
    let (_, checkpoint) = go(40_001);
    let file = directory.join("start");
    checkpoint.write(&file).unwrap();
    let (to, checkpoint) = go(100_001);
    Piece { file, to, digest: checkpoint.digest().to_string() }
}

fn replay_piece(piece: &Piece, trace: &Path, also: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = pernosco(directory.path());
    command.args(["replay-piece", "--to", &piece.to, "--digest", &piece.digest, "--from"]);
    command.arg(&piece.file).args(also).arg(trace).output().unwrap()
}

fn outcome(output: &Output) -> (String, String) {
    let report = &json(output)[0];
    let text = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("message"))
}

#[test]
fn a_piece_needs_the_recording_and_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let piece = piece(&sum(), directory.path());
    for _ in 0..2 {
        let output = replay_piece(&piece, &sum(), &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(outcome(&output).0, "equal");
    }
    let found = directory.path().join("found");
    let other = Piece { digest: "0".repeat(32), to: piece.to.clone(), file: piece.file.clone() };
    let output = replay_piece(&other, &sum(), &["--found", found.to_str().unwrap()]);
    assert_eq!((output.status.code(), outcome(&output).0), (Some(1), "different".into()));
    let trace = rr_trace::Trace::open(&sum()).unwrap();
    let found = replay::Checkpoint::read(&found, &trace, &replay::Opened::default()).unwrap();
    assert_eq!(found.digest().to_string(), piece.digest);
    let nowhere = Piece { to: "moment 99999999".into(), ..piece };
    let output = replay_piece(&nowhere, &sum(), &[]);
    assert_eq!(outcome(&output), ("diverged".into(), "there is no place `moment 99999999`".into()));
}

#[test]
fn a_corrupted_checkpoint_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let piece = piece(&sum(), directory.path());
    let mut bytes = std::fs::read(&piece.file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&piece.file, bytes).unwrap();
    let output = replay_piece(&piece, &sum(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let (outcome, message) = outcome(&output);
    assert_eq!(outcome, "failed");
    let expected = format!("{}: unusable checkpoint: at offset ", piece.file.display());
    assert!(message.starts_with(&expected) && message.contains("checksum"), "{message}");
}

/// A copy of a recording whose data stream has lost its end.
fn cut_short(trace: &Path, directory: &Path, bytes_left: impl Fn(usize) -> usize) {
    for entry in std::fs::read_dir(trace).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
        }
    }
    let data = std::fs::read(trace.join("data")).unwrap();
    std::fs::write(directory.join("data"), &data[..bytes_left(data.len())]).unwrap();
}

#[test]
fn a_data_stream_that_ends_early_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let piece = piece(&sum(), directory.path());
    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    cut_short(&sum(), &copy, |length| length / 2);
    let output = replay_piece(&piece, &copy, &[]);
    let (outcome, message) = outcome(&output);
    assert_eq!((output.status.code(), &outcome[..]), (Some(1), "failed"), "{message}");
    assert!(message.contains("data: ") && message.contains("at offset"), "{message}");
    // The first replay finds it as well, and nothing is left behind.
    let temporary = tempfile::tempdir().unwrap();
    let output = check(temporary.path(), &["--checkpoints", "4"], &[copy]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("data: "), "{}", stderr(&output));
    assert_empty(temporary.path());
}

/// The processes that a process has started and not waited for.
fn children(parent: &Child) -> Vec<i32> {
    let mut children = Vec::new();
    let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", parent.id())) else {
        return children;
    };
    for thread in threads.flatten() {
        let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(list.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()));
    }
    // One that is still what it was forked from holds its parent up while it is stopped.
    children.retain(|pid| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).nth(1) == Some(b"replay-piece")
    });
    children
}

/// The kernel's letter for what a process does; none if it has ended.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.filter(|state| !"ZX".contains(*state))
}

/// Stops a process, which then cannot end before it is killed; false if it has ended.
fn stop(pid: i32) -> bool {
    let stopped = Command::new("kill").args(["-STOP", &pid.to_string()]).output().unwrap();
    while stopped.status.success() {
        match state(pid) {
            Some('T') => return true,
            Some(_) => std::thread::yield_now(),
            None => break,
        }
    }
    false
}

fn kill(pid: i32, signal: &str) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill {signal} {pid}");
}

/// Starts a long check, and waits until it has started processes for pieces.
fn start(temporary: &Path, checkpoints: &str, jobs: &str, also: &[&str]) -> (Child, Vec<i32>) {
    let mut command = pernosco(temporary);
    command
        .args(["replay", "--check", "--checkpoints", checkpoints, "--json", "--jobs", jobs])
        .args(also);
    command.arg(recording("threads_chaos")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    loop {
        let started = children(&child);
        if !started.is_empty() {
            return (child, started);
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended without any process for a piece");
        std::thread::yield_now();
    }
}

/// Starts a long check, one process at a time, and stops one of a piece.
fn start_and_stop(temporary: &Path, also: &[&str]) -> (Child, i32) {
    // On a busy machine all may have ended before one is caught: then once more.
    loop {
        let (mut child, _) = start(temporary, "6", "1", also);
        loop {
            if let Some(victim) = children(&child).into_iter().find(|pid| stop(*pid)) {
                return (child, victim);
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
        }
    }
}

/// A process has ended in a way that is reported like this; the check goes on and succeeds.
fn assert_tried_again(mut child: Child, how: &str) {
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    assert!(line.contains("piece ") && line.contains(how), "{line}");
    assert!(line.contains("it is tried again"), "{line}");
    let output = child.wait_with_output().unwrap();
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert!(output.status.success() && rest.is_empty(), "{rest}");
    let pieces = &json(&output)[0]["pieces"];
    assert_eq!((&pieces["count"], &pieces["failed"]), (&7.into(), &0.into()));
}

#[test]
fn a_killed_process_costs_one_piece_which_is_tried_again() {
    let temporary = tempfile::tempdir().unwrap();
    let (child, victim) = start_and_stop(temporary.path(), &[]);
    kill(victim, "-KILL");
    assert_tried_again(child, "killed by SIGKILL");
    assert_empty(temporary.path());
}

#[test]
fn a_process_that_hangs_is_killed_and_its_piece_tried_again() {
    let temporary = tempfile::tempdir().unwrap();
    let (child, victim) = start_and_stop(temporary.path(), &["--patience", "3"]);
    assert_tried_again(child, "gave no sign of life for 3 s, the last one at ");
    assert_eq!(state(victim), None);
    assert_empty(temporary.path());
}

/// Kills the process of every piece: how many pieces were reported as failed.
fn kill_all(temporary: &Path) -> u64 {
    let (mut child, mut victims) = start(temporary, "1", "1", &[]);
    while child.try_wait().unwrap().is_none() {
        for pid in victims.into_iter().filter(|pid| stop(*pid)) {
            kill(pid, "-KILL");
        }
        victims = children(&child);
    }
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    let failed = json(&output)[0]["pieces"]["failed"].as_u64().unwrap();
    let reported = text.lines().filter(|line| line.contains("killed by SIGKILL, 2 times"));
    assert_eq!(reported.count() as u64, failed, "{text}");
    assert_eq!(output.status.code(), Some(i32::from(failed > 0)), "{text}");
    if failed > 0 {
        assert!(text.contains(&format!("{failed} pieces could not be replayed")), "{text}");
    }
    assert_empty(temporary);
    failed
}

#[test]
fn pieces_whose_processes_always_die_are_reported() {
    let temporary = tempfile::tempdir().unwrap();
    // On a busy host a process may be over before it is seen.
    let failed = (0..20).map(|_| kill_all(temporary.path())).find(|failed| *failed > 0);
    assert!(failed.is_some(), "no process was killed twice in time");
}

#[test]
fn an_interruption_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let (child, _) = start(temporary.path(), "6", "2", &[]);
    kill(child.id() as i32, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(130), None));
    assert_empty(temporary.path());
}

#[test]
fn processes_of_pieces_end_with_the_one_that_started_them() {
    let temporary = tempfile::tempdir().unwrap();
    let (mut child, started) = start(temporary.path(), "6", "2", &[]);
    child.kill().unwrap();
    child.wait().unwrap();
    while started.iter().any(|pid| state(*pid).is_some()) {
        std::thread::yield_now();
    }
}

#[test]
fn wrong_usage() {
    let usage = |arguments: &[&str]| {
        let output = pernosco(Path::new("/nonexistent")).arg("replay").args(arguments).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(usage(&["--check", "--checkpoints", "0", "x"]).contains("`every`"));
    assert!(usage(&["--check", "--jobs", "2", "x"]).contains("--checkpoints"));
    assert!(usage(&["--registers", "1", "--checkpoints", "2", "x"]).contains("--check"));
}
