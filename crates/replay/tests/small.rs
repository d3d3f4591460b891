//! Replays the recordings of the source tree: no divergence, and as much of everything as there
//! was.

use std::path::Path;

use replay::{Options, Session};

fn check(name: &str, events: u64, tasks: u32) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings");
    let trace = rr_trace::Trace::open(&directory.join(name).join("trace")).expect("it opens");
    let mut session = Session::open(&trace, Options::default()).expect("replay starts");
    let mut replayed = 0;
    while let Some(report) = session.step_event().unwrap_or_else(|error| panic!("{name}: {error}"))
    {
        replayed += 1;
        assert_eq!(report.warnings, [], "{name}: event {replayed} ({})", report.kind);
    }
    assert_eq!((replayed, session.tasks_created()), (events, tasks), "{name}");
}

#[test]
fn one_process() {
    check("sum", 41, 1);
}

/// A tracer that steps, stops and changes another task.
#[test]
fn ptrace_between_tasks() {
    check("traced", 120, 2);
}

/// Signals that arrived inside `rep` strings of millions of iterations.
#[test]
fn signals_inside_strings() {
    check("strings", 74, 1);
}

#[test]
fn shared_memory_and_a_killed_process() {
    check("sharing", 50, 4);
}

#[test]
fn values_that_travel() {
    check("flows", 41, 3);
}

#[test]
fn threads_that_lose_updates() {
    check("race", 109, 3);
}
