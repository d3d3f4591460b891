//! Databases of the recordings: what they say is what the recordings do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use index::{Executor, Method, Navigator, Options, Shards, Summary, Watch, Work, Worker, verify};
use model::Moment;
use replay::Session;
use rr_trace::Trace;
use store::{Reader, State};

const CACHE_BYTES: usize = 16 << 20;

/// The recordings: `PERNOSCO_TRACES`, or `../shared/traces` beside the workspace.
fn trace(name: &str) -> Trace {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/traces");
    let traces = std::env::var_os("PERNOSCO_TRACES").map_or(beside, PathBuf::from);
    let directory = traces.join(name).join("trace");
    Trace::open(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
}

fn options(segment_instructions: u64) -> Options {
    Options { segment_instructions, ..Options::default() }
}

fn build(trace: &Trace, directory: &Path, segment_instructions: u64) -> Summary {
    let watch = Watch { sealed: &|_| {}, replayed: &|_| {}, stop: &AtomicBool::new(false) };
    index::build(trace, directory, &options(segment_instructions), Shards::None, &watch)
        .unwrap_or_else(|error| panic!("{}: {error}", trace.directory().display()))
}

/// Builds, executes every leaf again from what the database says, and finds no difference.
fn check(name: &str, segment_instructions: u64) {
    let trace = trace(name);
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("pernosco.db");
    let summary = build(&trace, &directory, segment_instructions);
    assert!(summary.leaves > 1, "{name} has one segment only");
    let reader = Reader::open(&directory, CACHE_BYTES).unwrap();
    assert_eq!(reader.leaves(), summary.leaves);
    reader.verify(|_| {}).unwrap();
    let methods = [(Method::Again, 1), (Method::Stepping, summary.leaves / 4 + 1)];
    for (method, step) in methods {
        let chosen = (0..summary.leaves).step_by(step as usize);
        let verified = verify(&reader, &trace, chosen, method)
            .unwrap_or_else(|error| panic!("{name}, {method:?}: {error}"));
        assert_eq!(verified.leaves, summary.leaves.div_ceil(step));
        assert_eq!(verified.differences, Vec::<String>::new(), "{name}, {method:?}");
    }
}

#[test]
fn a_small_program() {
    check("heap_list_O0", 10_000);
}

#[test]
fn processes_and_shared_memory() {
    check("fork_pipe", 20_000);
}

#[test]
fn signals() {
    check("signals", 100_000);
}

#[test]
fn threads() {
    check("threads_chaos", 1 << 19);
}

#[test]
fn code_that_changes() {
    check("selfmod", 20_000);
}

#[test]
fn without_the_syscall_buffer() {
    check("use_after_free_n", 20_000);
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().into(), std::fs::read(path).unwrap())).collect()
}

/// A build that was killed after some leaves goes on, and comes to the same bytes.
#[test]
fn interrupted_builds_give_the_same_bytes() {
    let trace = trace("fork_pipe");
    let temporary = tempfile::tempdir().unwrap();
    let whole = temporary.path().join("whole");
    let summary = build(&trace, &whole, 20_000);
    let expected = files(&whole);
    for kept in [1, summary.leaves / 2, summary.leaves - 1] {
        let part = temporary.path().join(format!("part{kept}"));
        let killed = killed_build(&part, kept);
        assert!(!killed.success(), "{killed}");
        // As shards leave it.
        std::fs::create_dir(part.join("work")).unwrap();
        std::fs::write(part.join("work/8.part"), b"cut off").unwrap();
        let again = build(&trace, &part, 20_000);
        assert!(again.resumed >= kept && again.leaves == summary.leaves, "{again:?}");
        let found = files(&part);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, bytes) in &expected {
            assert!(found[name] == *bytes, "{} differs after {kept} leaves", name.display());
        }
    }
}

const KILLED: &str = "PERNOSCO_TEST_KILLED_BUILD";

/// Builds in a process of its own, which kills itself behind so many leaves.
fn killed_build(directory: &Path, leaves: u64) -> std::process::ExitStatus {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "build_that_is_killed", "--test-threads=1"]);
    command.env(KILLED, format!("{leaves} {}", directory.display()));
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.status().unwrap()
}

/// Not a test by itself: see `killed_build`.
#[test]
fn build_that_is_killed() {
    let Ok(argument) = std::env::var(KILLED) else { return };
    let (leaves, directory) = argument.split_once(' ').unwrap();
    let left = AtomicU64::new(leaves.parse().unwrap());
    let count_down = |_: Moment| {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    };
    let watch = Watch { sealed: &count_down, replayed: &|_| {}, stop: &AtomicBool::new(false) };
    let _ = index::build(
        &trace("fork_pipe"),
        Path::new(directory),
        &options(20_000),
        Shards::None,
        &watch,
    );
}

/// A build that is asked to stop says so, and goes on to the same bytes.
#[test]
fn stopped_builds_can_be_gone_on_with() {
    let trace = trace("fork_pipe");
    let temporary = tempfile::tempdir().unwrap();
    let (whole, part) = (temporary.path().join("whole"), temporary.path().join("part"));
    build(&trace, &whole, 20_000);
    let stop = AtomicBool::new(false);
    let watch =
        Watch { sealed: &|_| stop.store(true, Ordering::Relaxed), replayed: &|_| {}, stop: &stop };
    let stopped = index::build(&trace, &part, &options(20_000), Shards::None, &watch).unwrap();
    assert!(!stopped.complete && stopped.leaves > 0, "{stopped:?}");
    assert_eq!(Reader::open(&part, 0).unwrap().manifest().state, State::Interrupted);
    assert!(build(&trace, &part, 20_000).complete);
    assert!(files(&part) == files(&whole));
}

const WORK: &str = "PERNOSCO_TEST_WORK";

/// Does each work in a process of its own, as a build does: one host process has one machine.
struct Process {
    recording: String,
    /// Its first process is killed.
    dies: bool,
}

impl Worker for Process {
    fn execute(&mut self, work: &Work) -> Result<(), String> {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "work_of_a_shard", "--test-threads=1"]);
        command.env(WORK, serde_json::to_string(work).unwrap());
        command.env("PERNOSCO_TEST_RECORDING", &self.recording);
        command.env("PERNOSCO_TEST_DIES", if self.dies { "1" } else { "" });
        self.dies = false;
        let output = command.output().unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stdout))),
        }
    }
}

/// Not a test by itself: see `Process`.
#[test]
fn work_of_a_shard() {
    let Ok(work) = std::env::var(WORK) else { return };
    let work: Work = serde_json::from_str(&work).unwrap();
    if std::env::var("PERNOSCO_TEST_DIES").is_ok_and(|dies| !dies.is_empty()) {
        std::process::abort();
    }
    let name = std::env::var("PERNOSCO_TEST_RECORDING").unwrap();
    Executor::new(&trace(&name)).execute(&work).unwrap();
}

/// Builds with shards come to the bytes of one pass, also where a one-pass build was stopped, and
/// where processes die.
fn check_shards(name: &str, segment_instructions: u64) {
    let trace = trace(name);
    let temporary = tempfile::tempdir().unwrap();
    let (one, other) = (temporary.path().join("one"), temporary.path().join("other"));
    build(&trace, &one, segment_instructions);
    for (shards, dies) in [(1, false), (3, true)] {
        let stop = AtomicBool::new(false);
        let make = || Box::new(Process { recording: name.into(), dies }) as Box<dyn Worker>;
        let shards = Shards::Workers(shards, &make);
        let options = options(segment_instructions);
        let sealed = AtomicU64::new(0);
        let stop_somewhere = |_: Moment| {
            if sealed.fetch_add(1, Ordering::Relaxed) == 2 {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let watch = Watch { sealed: &stop_somewhere, replayed: &|_| {}, stop: &stop };
        let first = index::build(&trace, &other, &options, Shards::None, &watch).unwrap();
        stop.store(false, Ordering::Relaxed);
        let second = index::build(&trace, &other, &options, shards, &watch).unwrap();
        assert!(second.complete && (first.complete || second.resumed >= 3), "{first:?} {second:?}");
        assert!(files(&other) == files(&one), "{name}");
        std::fs::remove_dir_all(&other).unwrap();
    }
}

#[test]
fn shards_come_to_the_same_bytes() {
    check_shards("fork_pipe", 20_000);
}

#[test]
fn shards_of_threads() {
    check_shards("threads_chaos", 1 << 18);
}

/// Wherever a navigator is sent, from wherever it was, everything is as in one replay.
fn check_moments(name: &str, segment_instructions: u64) {
    let trace = trace(name);
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("pernosco.db");
    let summary = build(&trace, &directory, segment_instructions);
    let step = summary.instructions / 23;
    let moments: Vec<Moment> = (0..=23).map(|index| Moment(index * step)).collect();
    let mut expected = Vec::new();
    {
        let mut session = Session::open(&trace, replay::Options::default()).unwrap();
        for moment in &moments {
            while session.moment() < *moment {
                session.advance(Some(*moment)).unwrap();
            }
            expected.push(session.checkpoint().unwrap());
        }
    }
    let reader = Reader::open(&directory, CACHE_BYTES).unwrap();
    let mut navigator = Navigator::new(&reader, &trace);
    let mut compared = 0;
    // 7 is prime to 24: all of them, to and fro.
    for index in (0..24).map(|index| index * 7 % 24) {
        let session = navigator.moment(moments[index]).unwrap();
        assert_eq!(session.moment(), moments[index]);
        // Behind which of the events of a moment it stands depends on where it came from.
        if session.last_event() == expected[index].last_event() {
            compared += 1;
            let found = session.checkpoint().unwrap();
            assert_eq!(found.differences(&expected[index]), [""; 0], "{name}, {}", moments[index]);
        }
    }
    assert!(compared >= 12, "{name}: {compared} of 24 could be compared");
    assert!(navigator.moment(Moment(summary.instructions + 1)).is_err());
}

#[test]
fn any_moment_of_processes() {
    check_moments("fork_pipe", 5_000);
}

#[test]
fn any_moment_of_threads() {
    check_moments("threads_chaos", 1 << 18);
}

#[test]
fn any_moment_of_signals() {
    check_moments("signals", 10_000);
}
