//! Going back: from a checkpoint the replay is the same as without.

mod support;

use std::path::Path;

use model::{Event, Moment};
use replay::{Border, Checkpoint, Digest, Options, Progress, Session};

/// What the rest of the recording must be like.
#[derive(Debug, PartialEq)]
struct Rest {
    events: u64,
    moment: Moment,
    ticks: u64,
}

fn run_to_end(session: &mut Session) -> Rest {
    let mut events = 0;
    while session.step_event().unwrap_or_else(|error| panic!("{error}")).is_some() {
        events += 1;
    }
    Rest { events, moment: session.moment(), ticks: session.total_ticks().0 }
}

/// Goes on to `moment`, wherever in an event that is; false at the end.
fn run_to(session: &mut Session, moment: Moment) -> bool {
    loop {
        match session.advance(Some(moment)).unwrap_or_else(|error| panic!("{error}")) {
            Progress::Event(_) => {}
            Progress::Moment => return true,
            Progress::End => return false,
            Progress::Restarted | Progress::Stop(_) => panic!("the tick rule is the one assumed"),
        }
    }
}

/// All writable memory and the registers of the task at hand.
fn fingerprint(session: &Session) -> Option<(model::Registers, Vec<u8>)> {
    let tid = session.current_task()?;
    let space = session.memory(tid)?;
    let mut bytes = Vec::new();
    for mapping in space.mappings().filter(|mapping| mapping.protection.write) {
        let length = (mapping.range.end - mapping.range.start) as usize;
        let mut part = vec![0; length];
        space.read(mapping.range.start, &mut part).expect("mapped memory can be read");
        bytes.extend(part);
    }
    Some((session.registers(tid)?, bytes))
}

/// The recording, or the other one where the host lacks instructions of the first.
fn replayable(recording: &'static str, other: &'static str) -> &'static str {
    testkit::first_to_replay(&[recording, other]).expect("the other one needs nothing special")
}

fn check(name: &str, checkpoints: u64) {
    let mut session = support::open(name);
    let whole = run_to_end(&mut session).moment;
    drop(session);
    let mut session = support::open(name);
    let mut made: Vec<(Checkpoint, u64, _)> = Vec::new();
    for index in 1..checkpoints {
        // Odd numbers, so that borders fall anywhere.
        let moment = Moment((whole.0 * index / checkpoints) | 1);
        if !run_to(&mut session, moment) {
            break;
        }
        let checkpoint = session.checkpoint().unwrap();
        assert_eq!(checkpoint.moment(), moment);
        made.push((checkpoint, session.last_event().0, fingerprint(&session)));
    }
    let last = session.last_event().0;
    let rest = run_to_end(&mut session);
    let total = last + rest.events;
    for (checkpoint, event, expected) in made.iter().rev().chain(&made) {
        session.restore(checkpoint).unwrap();
        assert_eq!(session.moment(), checkpoint.moment(), "{name}");
        assert!(fingerprint(&session) == *expected, "{name}: memory at event {event}");
        let again = run_to_end(&mut session);
        let expected = Rest { events: total - event, moment: rest.moment, ticks: rest.ticks };
        assert_eq!(again, expected, "{name}: from event {event}");
    }
}

#[test]
fn single_process() {
    check(replayable("ls", "containers_O0"), 7);
}

#[test]
fn signals() {
    check("signals", 9);
}

#[test]
fn generated_code() {
    check("selfmod", 9);
}

#[test]
fn threads() {
    check("threads_slices", 9);
}

#[test]
fn processes() {
    check("fork_pipe", 9);
}

#[test]
fn every_event() {
    let mut session = support::open("struct_copy_O0");
    let mut checkpoints = Vec::new();
    loop {
        checkpoints.push(session.checkpoint().unwrap());
        if session.step_event().unwrap().is_none() {
            break;
        }
    }
    let end = session.moment();
    for checkpoint in checkpoints.iter().step_by(5) {
        session.restore(checkpoint).unwrap();
        assert_eq!(session.last_event(), checkpoint.last_event());
        run_to_end(&mut session);
        assert_eq!(session.moment(), end);
    }
}

/// A checkpoint as it is found in another process.
struct Stored {
    border: Border,
    file: Vec<u8>,
    digest: Digest,
}

fn store(session: &mut Session, border: Border) -> Stored {
    let checkpoint = session.checkpoint().unwrap();
    let mut file = Vec::new();
    checkpoint.write_to(&mut file).unwrap();
    Stored { border, file, digest: checkpoint.digest() }
}

/// What every piece between two borders, each replayed from what was stored of the first, must
/// come to. `next` says where the next border is.
fn check_pieces(name: &str, mut next: impl FnMut(&mut Session) -> Option<Border>) -> Vec<Border> {
    let trace = support::trace(name);
    let mut session = Session::open(&trace, Options::default()).unwrap();
    let mut stored = Vec::new();
    while let Some(border) = next(&mut session) {
        stored.push(store(&mut session, border));
    }
    assert!(session.go_on_to(Border::End, |_| {}).unwrap());
    stored.push(store(&mut session, Border::End));
    drop(session);
    for pair in stored.windows(2) {
        let read = |stored: &Stored| Checkpoint::from_bytes(Path::new(name), &stored.file, &trace);
        let start = read(&pair[0]).unwrap_or_else(|error| panic!("{}: {error}", pair[0].border));
        assert_eq!(start.digest(), pair[0].digest, "{name}: read at {}", pair[0].border);
        let mut session = Session::resume(&trace, Options::default(), &start).unwrap();
        // To restore is not to change.
        let again = session.checkpoint().unwrap();
        assert_eq!(start.differences(&again), [""; 0], "{name}: resumed at {}", pair[0].border);
        assert_eq!(again.digest(), pair[0].digest, "{name}: resumed at {}", pair[0].border);
        let border = pair[1].border;
        assert!(
            session.go_on_to(border, |_| {}).unwrap_or_else(|error| panic!("{border}: {error}"))
        );
        let arrived = session.checkpoint().unwrap();
        if arrived.digest() != pair[1].digest {
            let expected = read(&pair[1]).unwrap();
            panic!("{name}: {} to {border}: {:#?}", pair[0].border, expected.differences(&arrived));
        }
    }
    stored.iter().map(|stored| stored.border).collect()
}

/// Borders at moments that are spread over the run, and inside a `rep` string if one is near.
fn check_spread(name: &str, count: u64) {
    let mut session = support::open(name);
    let whole = run_to_end(&mut session).moment.0;
    drop(session);
    let mut index = 0;
    check_pieces(name, |session| {
        index += 1;
        let moment = Moment((whole * index / count) | 1);
        let border = Border::Instruction { moment, iterations: 0 };
        (index < count && session.go_on_to(border, |_| {}).unwrap()).then_some(border)
    });
}

#[test]
fn another_process_goes_on() {
    for name in ["heap_list_O2_n", "selfmod", "fork_pipe", "threads_chaos", "signals"] {
        check_spread(name, 5);
    }
}

#[test]
fn another_process_goes_on_behind_every_event() {
    let mut event = 0;
    let borders = check_pieces(replayable("true", "struct_copy_O0"), |session| {
        event += 1;
        let border = Border::Event(Event(event));
        session.go_on_to(border, |_| {}).unwrap().then_some(border)
    });
    assert!(borders.len() > 20, "{borders:?}");
}

#[test]
fn another_process_goes_on_inside_of_strings() {
    let borders = check_pieces(replayable("float_math_O2", "heap_list_O0"), |session| {
        let mut found = None;
        while found.is_none() && session.moment() < Moment(200_000) {
            let moment = session.moment() + 1;
            if !session.go_on_to(Border::Instruction { moment, iterations: 0 }, |_| {}).unwrap() {
                break;
            }
            let iterations = session.iterations_ahead().map_or(0, |count| count / 2);
            if iterations > 0 && session.iterate(iterations).unwrap() == iterations {
                found = Some(Border::Instruction { moment, iterations });
            }
        }
        found
    });
    assert!(borders.len() > 3, "{borders:?}");
}
