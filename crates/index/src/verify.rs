//! Whether a database says what its recording does.

mod tree;

use std::collections::BTreeSet;

use model::Moment;
use replay::Progress;
use rr_trace::Trace;
use store::{EncodedLeaf, Leaf, Reader};

use crate::Error;
use crate::leaf;
use crate::records::blob;
use crate::restore::restore;
use crate::segment::Recorder;
use crate::stitch::Stitcher;

/// How leaves are executed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As they were for the database.
    Again,
    /// Instruction by instruction: nothing of what makes execution fast is used. Takes about a
    /// thousand times as long.
    Stepping,
}

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Leaves executed again from their beginning as the database has it.
    pub leaves: u64,
    /// What the database says otherwise than the recording.
    pub differences: Vec<String>,
}

/// Executes leaves again, each from the state that the database has at its beginning, and compares
/// all that they hold with what is stored: the state at the end, changed memory, and every index.
/// Call stacks are followed from those at the beginning. What the tree says of some keys is
/// compared with all leaves.
pub fn verify(
    reader: &Reader,
    trace: &Trace,
    leaves: impl IntoIterator<Item = u64>,
    method: Method,
) -> Result<Verified, Error> {
    let mut verified = Verified { differences: tree::verify(reader)?, ..Verified::default() };
    for number in leaves {
        let stored = reader.leaf(number)?;
        let end = reader.span(number)?.end;
        let last = number + 1 == reader.leaves();
        let again = execute(reader, trace, (number, end, last), method)?.read()?;
        verified.leaves += 1;
        let found = compare(&stored, &again)?;
        let found = found.into_iter().map(|what| format!("leaf {number}: {what} differ"));
        verified.differences.extend(found);
    }
    Ok(verified)
}

fn execute(
    reader: &Reader,
    trace: &Trace,
    (number, end, last): (u64, Moment, bool),
    method: Method,
) -> Result<EncodedLeaf, Error> {
    let mut session = restore(reader, trace, number)?;
    let mut recorder = Recorder::new(&mut session)?;
    let until = if last { Moment(u64::MAX) } else { end };
    let stop = match method {
        Method::Again => recorder.run(&mut session, until)?,
        Method::Stepping => loop {
            let next = Moment(session.moment().0 + 1);
            match recorder.run(&mut session, next)? {
                Progress::Moment if session.moment() < until => {}
                stop => break stop,
            }
        },
    };
    if session.moment() != end || (stop == Progress::End) != last {
        let found = session.moment();
        return Err(Error::OtherEnd { leaf: number, expected: end, found });
    }
    let material = recorder.take(&mut session, Vec::new())?;
    let (leaf, callers) = leaf::encode(&material, number, 1)?;
    Stitcher::at_border(reader, number)?.stitch(leaf, &material.observed.calls, &callers)
}

/// The names of what is not the same in two leaves.
fn compare(stored: &Leaf, again: &Leaf) -> Result<Vec<&'static str>, Error> {
    let mut found = Vec::new();
    let mut note = |what, same: bool| {
        if !same {
            found.push(what);
        }
    };
    note("written words", same(stored.written()?, again.written()?)?);
    note("read lines", same(stored.read()?, again.read()?)?);
    note("executions", same(stored.code()?, again.code()?)?);
    note("called functions", same(stored.called()?, again.called()?)?);
    note("counts", same(stored.keys()?, again.keys()?)?);
    note("lineages", same(stored.lineages()?, again.lineages()?)?);
    note("call depths", same(stored.depths()?, again.depths()?)?);
    note("changed memory", same(stored.memory()?, again.memory()?)?);
    note("events", same(stored.happenings(Moment(0))?, again.happenings(Moment(0))?)?);
    let blobs = [
        (blob::STATE, "states at the end"),
        (blob::MAPPINGS, "mappings"),
        (blob::CALLERS, "callers"),
        (blob::STACKS, "call stacks"),
        (blob::ALL_STACKS, "call stacks of all tasks"),
    ];
    for (tag, what) in blobs {
        note(what, same(stored.blob(tag)?, again.blob(tag)?)?);
    }
    let tasks: BTreeSet<_> = stored.tasks_with_calls().chain(again.tasks_with_calls()).collect();
    for task in tasks {
        let start = Moment(0);
        note("calls", same(stored.calls(task, start)?, again.calls(task, start)?)?);
    }
    Ok(found)
}

fn same<T: PartialEq>(
    one: impl Iterator<Item = Result<T, store::Error>>,
    other: impl Iterator<Item = Result<T, store::Error>>,
) -> Result<bool, Error> {
    let (mut one, mut other) = (one.fuse(), other.fuse());
    loop {
        match (one.next().transpose()?, other.next().transpose()?) {
            (None, None) => return Ok(true),
            (left, right) if left == right => {}
            _ => return Ok(false),
        }
    }
}
