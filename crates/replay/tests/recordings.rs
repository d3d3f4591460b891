//! Replays every recording: no divergence, and the state of rr's own replay everywhere.

mod support;

use rr_trace::Trace;

/// Replays to the end; the counts of the oracle must come out.
fn check(name: &str) {
    let mut session = support::open(name);
    let mut events = 0;
    while let Some(report) = session.step_event().unwrap_or_else(|error| panic!("{name}: {error}"))
    {
        events += 1;
        assert_eq!(report.event.0, events, "{name}");
        assert_eq!(report.warnings, [], "{name}: event {events} ({})", report.kind);
    }
    let summary = support::summary(name);
    assert_eq!(Some(events), summary["events"].as_u64(), "{name}");
    assert_eq!(Some(u64::from(session.tasks_created())), summary["tasks"].as_u64(), "{name}");
}

/// Samples of rr's own replay: registers, and hashes of all writable pages.
fn memory(name: &str) {
    let pages = support::memory::compare(name).unwrap_or_else(|text| panic!("{text}"));
    assert!(pages > 0, "{name}: no pages");
}

/// rr's own replay stepped: every register at every instruction.
fn steps(name: &str) {
    let positions = support::steps::compare(name).unwrap_or_else(|text| panic!("{text}"));
    assert!(positions > 1000, "{name}: {positions} positions");
}

macro_rules! recordings {
    ($($test:ident: $name:literal,)*) => {
        $(mod $test {
            #[test]
            fn check() {
                if testkit::can_replay($name) {
                    super::check($name);
                }
            }
            #[test]
            fn memory() {
                if testkit::can_replay($name) {
                    super::memory($name);
                }
            }
            #[test]
            fn steps() {
                if testkit::can_replay($name) {
                    super::steps($name);
                }
            }
        })*
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
