//! What is observed does not depend on where a replay stops on its way.

mod support;

use std::collections::BTreeMap;

use machine::Observers;
use model::{Address, Call, Moment, Tid};
use replay::{MemoryId, Observed, PageId, Progress};

const ALL: Observers = Observers {
    written_words: true,
    read_lines: true,
    executions: true,
    calls: true,
    control_flow: false,
    stores: false,
};

/// Observations of a whole run, put together from pieces.
#[derive(Debug, Default, PartialEq)]
struct Sum {
    calls: Vec<(Tid, MemoryId, Call)>,
    /// Executions of each byte where the count changes.
    executions: BTreeMap<(MemoryId, Address), i64>,
    written: BTreeMap<PageId, [u64; 8]>,
    read: BTreeMap<PageId, u64>,
    mappings: Vec<replay::MappingChange>,
}

impl Sum {
    fn add(&mut self, piece: Observed) {
        let mut calls = piece.calls.into_iter();
        let mut taken = 0;
        for run in piece.call_runs {
            let of_run = calls.by_ref().take(run.end - taken);
            self.calls.extend(of_run.map(|call| (run.tid, run.space, call)));
            taken = run.end;
        }
        assert_eq!(calls.count(), 0, "calls of nobody");
        for run in piece.executions {
            *self.executions.entry((run.space, run.range.start)).or_default() += run.count as i64;
            *self.executions.entry((run.space, run.range.end)).or_default() -= run.count as i64;
        }
        for (page, words) in piece.written {
            let sums = self.written.entry(page).or_default();
            sums.iter_mut().zip(words).for_each(|(sum, words)| *sum |= words);
        }
        for (page, lines) in piece.read {
            *self.read.entry(page).or_default() |= lines;
        }
        self.mappings.extend(piece.mappings);
    }
}

fn observe(name: &str, piece: Option<u64>) -> Sum {
    let mut session = support::open(name);
    session.observe(ALL).unwrap();
    let mut sum = Sum::default();
    let mut until = piece.map(Moment);
    loop {
        match session.advance(until).unwrap_or_else(|error| panic!("{name}: {error}")) {
            Progress::Event(_) => {}
            Progress::End => break,
            Progress::Restarted | Progress::Stop(_) => {
                panic!("{name}: the tick rule is the one assumed")
            }
            Progress::Moment => {
                sum.add(session.take_observed(Vec::new()).unwrap());
                until = until.map(|until| until + piece.unwrap_or_default());
            }
        }
    }
    sum.add(session.take_observed(Vec::new()).unwrap());
    sum.executions.retain(|_, change| *change != 0);
    sum
}

/// Executed instructions cannot be counted from bytes alone, but each must have been counted.
fn executed_anything(sum: &Sum) -> bool {
    sum.executions.values().any(|change| *change > 0)
}

fn check(name: &str, pieces: &[u64]) {
    let whole = observe(name, None);
    assert!(!whole.calls.is_empty() && executed_anything(&whole) && !whole.written.is_empty());
    for piece in pieces {
        let parts = observe(name, Some(*piece));
        assert_eq!(parts.calls.len(), whole.calls.len(), "{name} in pieces of {piece}");
        for (part, whole) in parts.calls.iter().zip(&whole.calls) {
            assert_eq!(part, whole, "{name} in pieces of {piece}");
        }
        assert_eq!(parts.mappings, whole.mappings, "{name} in pieces of {piece}");
        compare(name, *piece, "executions", &parts.executions, &whole.executions);
        compare(name, *piece, "written words", &parts.written, &whole.written);
        compare(name, *piece, "read lines", &parts.read, &whole.read);
    }
}

fn compare<K, V>(name: &str, piece: u64, what: &str, part: &BTreeMap<K, V>, whole: &BTreeMap<K, V>)
where
    K: Ord + std::fmt::Debug,
    V: PartialEq + std::fmt::Debug,
{
    for (key, value) in part {
        assert_eq!(whole.get(key), Some(value), "{name}, {what} at {key:?} in pieces of {piece}");
    }
    assert_eq!(part.len(), whole.len(), "{name}, {what} in pieces of {piece}");
}

#[test]
fn a_small_program() {
    check("heap_list_O0", &[997, 65_536]);
}

#[test]
fn signals() {
    check("signals", &[99_991]);
}

#[test]
fn processes() {
    check("fork_pipe", &[4_099]);
}

#[test]
fn threads() {
    check("threads_slices", &[100_003]);
    check("threads_chaos", &[1 << 20]);
}

#[test]
fn code_that_changes_and_faults() {
    check("selfmod", &[10_007]);
    check("crash", &[10_007]);
}
