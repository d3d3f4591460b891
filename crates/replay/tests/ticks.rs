//! A recording whose ticks were counted in software: found out, and replayed exactly.

mod support;

use std::path::Path;

use replay::{Error, Options, Progress, Session, TickRule};
use rr_trace::Trace;

/// The recording of the tree whose program generates code.
fn open(rule: Option<TickRule>) -> Session {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings/generated");
    let trace = Trace::open(&directory.join("trace")).expect("the recording opens");
    let options = Options { tick_rule: rule, ..Options::default() };
    Session::open(&trace, options).expect("a session")
}

/// Events and, at the end, instructions and ticks.
fn run(session: &mut Session) -> (u64, u64, u64) {
    let mut events = 0;
    while let Some(report) = session.step_event().unwrap_or_else(|error| panic!("{error}")) {
        events += 1;
        assert_eq!(report.event.0, events);
        assert_eq!(report.warnings, [], "event {events}");
    }
    (events, session.moment().0, session.total_ticks().0)
}

#[test]
fn the_rule_is_found_out() {
    let mut session = open(None);
    let found = run(&mut session);
    assert_eq!(session.tick_rule(), TickRule::ElfOnly);
    drop(session);
    let mut session = open(Some(TickRule::ElfOnly));
    assert_eq!(run(&mut session), found);
}

#[test]
fn a_restart_is_told_once_and_goes_to_the_beginning() {
    let mut session = open(None);
    let mut restarts = 0;
    let mut events = 0;
    loop {
        match session.advance(None).unwrap_or_else(|error| panic!("{error}")) {
            Progress::Event(report) => {
                events += 1;
                assert_eq!(report.event.0, events);
            }
            Progress::Restarted => {
                restarts += 1;
                events = 0;
                assert_eq!(session.moment().0, 0);
                assert_eq!(session.last_event().0, 0);
                assert_eq!(session.tick_rule(), TickRule::ElfOnly);
            }
            Progress::Moment | Progress::Stop(_) => unreachable!("neither was asked for"),
            Progress::End => break,
        }
    }
    assert_eq!(restarts, 1);
}

#[test]
fn a_given_rule_is_kept_to() {
    let mut session = open(Some(TickRule::Hardware));
    let error = loop {
        match session.advance(None) {
            Ok(Progress::Event(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    let Error::Divergence(divergence) = error else { panic!("{error}") };
    assert!(divergence.ticks.1 > divergence.ticks.0, "{divergence}");
    assert_eq!(session.tick_rule(), TickRule::Hardware);
}

/// Stops by moments, single steps included, change nothing.
#[test]
fn stops_at_moments_agree() {
    let mut session = open(Some(TickRule::ElfOnly));
    let (events, moment, ticks) = run(&mut session);
    drop(session);
    let mut session = open(Some(TickRule::ElfOnly));
    let (mut seen, mut stop) = (0, session.moment());
    let mut stride = 1;
    loop {
        match session.advance(Some(stop)).unwrap_or_else(|error| panic!("{error}")) {
            Progress::Event(_) => seen += 1,
            Progress::Moment => {
                // Runs of single instructions, and longer and longer leaps.
                stride = if stride > 20_000 { 1 } else { stride + stride / 16 + 1 };
                stop = session.moment() + stride;
            }
            Progress::End => break,
            Progress::Restarted | Progress::Stop(_) => panic!("the rule was given, and no stop"),
        }
    }
    assert_eq!((seen, session.moment().0, session.total_ticks().0), (events, moment, ticks));
}

#[test]
fn checkpoints_of_the_other_rule_are_refused() {
    let mut session = open(None);
    session.step_event().expect("replays");
    let void = session.checkpoint().expect("a checkpoint");
    assert_eq!(session.tick_rule(), TickRule::Hardware);
    while session.tick_rule() == TickRule::Hardware {
        session.step_event().expect("replays").expect("not the end");
    }
    assert!(matches!(session.restore(&void), Err(Error::Unsupported { .. })));
    let good = session.checkpoint().expect("a checkpoint");
    let end = run_from(&mut session);
    session.restore(&good).expect("restored");
    assert_eq!(run_from(&mut session), end);
}

fn run_from(session: &mut Session) -> (u64, u64) {
    while session.step_event().unwrap_or_else(|error| panic!("{error}")).is_some() {}
    (session.moment().0, session.total_ticks().0)
}

/// What the shared recordings need is the rule that is assumed: nothing is replayed twice.
#[test]
fn the_rule_of_program_files_gives_the_same_where_no_code_is_generated() {
    for name in ["ls", "heap_list_O2_n", "threads_slices"] {
        if !testkit::can_replay(name) {
            continue;
        }
        let counts = |rule| {
            let trace = Trace::open(&support::traces().join(name).join("trace")).expect("opens");
            let options = Options { tick_rule: rule, ..Options::default() };
            let mut session = Session::open(&trace, options).expect("a session");
            let found = run(&mut session);
            (found, session.tick_rule())
        };
        let (hardware, rule) = counts(None);
        assert_eq!(rule, TickRule::Hardware, "{name}");
        let (software, rule) = counts(Some(TickRule::ElfOnly));
        assert_eq!(rule, TickRule::ElfOnly, "{name}");
        assert_eq!(hardware, software, "{name}");
    }
}
