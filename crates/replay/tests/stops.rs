//! Stops against single steps of the same recording.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use machine::Watch;
use model::{Address, Moment, Tid, gpr};
use replay::{Progress, Session, StopReason, Stops};

/// What single steps say: the instruction at each moment, and the watched bytes before it.
struct Steps {
    instructions: BTreeMap<Moment, (Tid, Address)>,
    /// Moments of instructions or events between which and the next one the bytes changed.
    changes: BTreeSet<Moment>,
}

fn step(session: &mut Session, watched: &std::ops::Range<Address>, end: Moment) -> Steps {
    let mut steps = Steps { instructions: BTreeMap::new(), changes: BTreeSet::new() };
    let mut before = bytes(session, watched);
    while session.moment() < end {
        let moment = session.moment();
        let progress = session.advance(Some(moment + 1)).unwrap();
        let now = bytes(session, watched);
        if now != before {
            steps.changes.insert(moment);
            before = now;
        }
        if progress == Progress::End {
            break;
        }
        // The next instruction is that of the event in progress.
        let next = session.advance(Some(session.moment())).unwrap();
        let now = bytes(session, watched);
        if now != before {
            steps.changes.insert(session.moment());
            before = now;
        }
        if next == Progress::Moment {
            let tid = session.current_task().unwrap();
            let rip = session.registers(tid).unwrap().rip;
            steps.instructions.insert(session.moment(), (tid, rip));
        }
    }
    steps
}

fn bytes(session: &Session, watched: &std::ops::Range<Address>) -> Vec<u8> {
    let mut bytes = vec![0; (watched.end - watched.start) as usize];
    let tid = session.current_task().unwrap();
    match session.memory(tid).map(|space| space.read(watched.start, &mut bytes)) {
        Some(Ok(())) => bytes,
        _ => Vec::new(),
    }
}

/// Addresses that were executed often and seldom, and a word of the stack.
fn check(name: &str, start: u64, length: u64) {
    let mut session = support::open(name);
    let go = |session: &mut Session, to: Moment| {
        while session.moment() < to {
            session.advance(Some(to)).unwrap();
        }
    };
    go(&mut session, Moment(start));
    let tid = session.current_task().unwrap();
    let stack = session.registers(tid).unwrap().general[gpr::RSP];
    let watched = Address(stack - 512)..Address(stack + 24);
    let checkpoint = session.checkpoint().unwrap();
    let end = Moment(start + length);
    let steps = step(&mut session, &watched, end);

    let mut counts: BTreeMap<Address, usize> = BTreeMap::new();
    for (_, rip) in steps.instructions.values() {
        *counts.entry(*rip).or_default() += 1;
    }
    let addresses: BTreeSet<Address> = counts.keys().step_by(counts.len() / 12).copied().collect();
    session.restore(&checkpoint).unwrap();
    let watches = vec![Watch { range: watched.clone(), reads: false }];
    session.set_stops(Stops { addresses: addresses.clone(), watches }).unwrap();
    let (mut hits, mut writes) = (BTreeMap::new(), BTreeSet::new());
    while session.moment() < end {
        let before = session.moment();
        match session.advance(Some(end)).unwrap() {
            Progress::Stop(stop) if stop.reason == StopReason::Address => {
                let rip = session.registers(stop.tid).unwrap().rip;
                assert_eq!(hits.insert(stop.moment, (stop.tid, rip)), None, "{name}: twice");
            }
            Progress::Stop(stop) => {
                let StopReason::Watch { address, write } = stop.reason else { unreachable!() };
                assert!(write && watched.contains(&address), "{name}");
                writes.insert(stop.moment);
            }
            _ => {}
        }
        if !session.take_effects().is_empty() {
            writes.extend([before, session.moment()]);
        }
    }
    let in_time = |moment: &Moment| moment.0 > start && *moment < end;
    let expected: BTreeMap<_, _> = steps
        .instructions
        .iter()
        .filter(|(moment, (_, rip))| in_time(moment) && addresses.contains(rip))
        .map(|(moment, there)| (*moment, *there))
        .collect();
    hits.retain(|moment, _| in_time(moment));
    let other = |one: &BTreeMap<_, _>, other: &BTreeMap<Moment, (Tid, Address)>| -> Vec<_> {
        let there = one.iter().filter(|(moment, there)| other.get(moment) != Some(there));
        there.map(|(moment, there): (&Moment, &(Tid, Address))| (*moment, *there)).take(5).collect()
    };
    assert_eq!((other(&hits, &expected), other(&expected, &hits)), (vec![], vec![]), "{name}");
    assert!(hits.len() > 10, "{name}: {} executions", hits.len());
    let missed: Vec<_> = steps.changes.difference(&writes).filter(|m| in_time(m)).collect();
    assert!(missed.is_empty(), "{name}: {missed:?} of {:?}", steps.changes);
    println!("{name}: {} executions, {} changes", hits.len(), steps.changes.len());
    assert!(steps.changes.len() > 2, "{name}: {} changes", steps.changes.len());
}

#[test]
fn of_a_small_program() {
    check("heap_list_O0", 120_000, 20_000);
}

#[test]
fn among_signals() {
    // A timer's that ends a loop, queued ones, and some on an alternate stack.
    check("signals", 453_000, 20_000);
}

#[test]
fn among_threads() {
    check("threads_slices", 130_000, 20_000);
}
