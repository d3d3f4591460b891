//! Going back: from a checkpoint the replay is the same as without.

mod support;

use model::Moment;
use replay::{Checkpoint, Progress, Session};

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
            Progress::Event(_) | Progress::Restarted => {}
            Progress::Moment => return true,
            Progress::End => return false,
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
    check("ls", 7);
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
