//! Replays every recording: no divergence, and the state of rr's own replay everywhere.

mod support;

use rr_trace::Trace;

/// Replays to the end; the counts of the oracle must come out.
fn check(name: &str) {
    let mut session = support::open(name);
    let mut events = 0;
    while let Some(report) =
        session.step_event().unwrap_or_else(|error| panic!("{name}: {error}"))
    {
        events += 1;
        assert_eq!(report.event.0, events, "{name}");
    }
    let summary = support::summary(name);
    assert_eq!(Some(events), summary["events"].as_u64(), "{name}");
    assert_eq!(Some(u64::from(session.tasks_created())), summary["tasks"].as_u64(), "{name}");
}

fn check_all(name: &str) {
    check(name);
    let pages = support::memory::compare(name).unwrap_or_else(|text| panic!("{text}"));
    let lines = support::steps::compare(name).unwrap_or_else(|text| panic!("{text}"));
    println!("{name}: {pages} pages, {lines} positions");
}

macro_rules! recordings {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { check_all($name); })*
    };
}

recordings! {
    smallest_program: "true",
    directory_listing: "ls",
    heap_list: "heap_list_O0",
    heap_list_unbuffered: "heap_list_O2_n",
    struct_copy: "struct_copy_O0",
    use_after_free: "use_after_free_n",
    containers: "containers_O0",
    shapes: "shapes_O0",
    recursion: "recursion_O2",
    float_math: "float_math_O2",
    crash: "crash",
    selfmod: "selfmod",
    signals: "signals",
    threads_chaos: "threads_chaos",
    threads_slices: "threads_slices",
    fork_pipe: "fork_pipe",
}

#[test]
fn a_missing_recording_is_an_error() {
    assert!(Trace::open(&support::traces().join("does-not-exist")).is_err());
}
