//! What depends on the past, added to leaves in their order: call stacks.

use model::{Call, Moment, Tid};
use store::{EncodedLeaf, Leaf, LeafEncoder, Reader};

use crate::Error;
use crate::records::{CallersRecord, StackRecord, blob, decode, encode};
use crate::stacks::Stacks;

/// Every so many leaves, one has all stacks.
const BETWEEN_ALL_STACKS: u64 = 64;

/// Stands between two leaves.
#[derive(Debug)]
pub struct Stitcher {
    stacks: Stacks,
    /// Number of the next leaf.
    next: u64,
}

impl Stitcher {
    /// Behind the first `leaves` of a database.
    pub fn at_border(reader: &Reader, leaves: u64) -> Result<Stitcher, Error> {
        Ok(Stitcher { stacks: stacks_at(reader, leaves)?, next: leaves })
    }

    /// Completes the next leaf, whose calls these are, in order of time.
    pub fn stitch(
        &mut self,
        mut leaf: LeafEncoder,
        calls: &[Call],
        callers: &CallersRecord,
    ) -> Result<EncodedLeaf, Error> {
        self.follow(calls, callers);
        let changes = self.stacks.take_changes();
        let depths = changes.iter();
        leaf.depths(depths.map(|change| (Tid(change.stack.0 as i32), change.kept as i64)))?;
        let active: Vec<_> = self.stacks.active().collect();
        let gone = self.stacks.forget_spaces(&callers.ended);
        let record = StackRecord { changes, active, gone };
        leaf.blob(blob::STACKS, &encode(&record))?;
        if self.next % BETWEEN_ALL_STACKS == BETWEEN_ALL_STACKS - 1 {
            let record = StackRecord {
                changes: self.stacks.all(),
                active: self.stacks.active().collect(),
                gone: Vec::new(),
            };
            leaf.blob(blob::ALL_STACKS, &encode(&record))?;
        }
        self.next += 1;
        Ok(leaf.finish()?)
    }

    /// Completes the next leaf, which another process has encoded.
    pub fn stitch_encoded(&mut self, leaf: EncodedLeaf, level: i32) -> Result<EncodedLeaf, Error> {
        let open = leaf.read()?;
        let callers: CallersRecord = record(self.next, &open, blob::CALLERS)?.unwrap_or_default();
        let calls = all_calls(self.next, &open, &callers)?;
        self.stitch(LeafEncoder::reopen(&leaf, level)?, &calls, &callers)
    }

    fn follow(&mut self, calls: &[Call], callers: &CallersRecord) {
        let mut forks = &callers.forks[..];
        let mut rest = calls;
        for run in &callers.runs {
            let (mut calls, behind) = rest.split_at(run.calls as usize);
            rest = behind;
            while let Some((fork, later)) = forks.split_first()
                && calls.last().is_some_and(|last| fork.moment < last.moment)
            {
                let before = calls.partition_point(|call| call.moment <= fork.moment);
                self.stacks.follow(run.tid, run.space, &calls[..before]);
                self.stacks.fork(fork.parent, fork.child, fork.space);
                (calls, forks) = (&calls[before..], later);
            }
            self.stacks.follow(run.tid, run.space, calls);
        }
        forks.iter().for_each(|fork| self.stacks.fork(fork.parent, fork.child, fork.space));
    }
}

/// The call stacks at a border: behind the first `leaves` of a database.
pub fn stacks_at(reader: &Reader, leaves: u64) -> Result<Stacks, Error> {
    let mut stacks = Stacks::default();
    let complete = leaves / BETWEEN_ALL_STACKS * BETWEEN_ALL_STACKS;
    if let Some(last) = complete.checked_sub(1) {
        let all: Option<StackRecord> = record(last, &reader.leaf(last)?, blob::ALL_STACKS)?;
        stacks.apply(all.ok_or_else(|| missing(last, "call stacks"))?);
    }
    for number in complete..leaves {
        follow_leaf(reader, &mut stacks, number)?;
    }
    Ok(stacks)
}

/// Makes of the call stacks at the beginning of a leaf those at its end.
pub fn follow_leaf(reader: &Reader, stacks: &mut Stacks, leaf: u64) -> Result<(), Error> {
    let changes = record(leaf, &reader.leaf(leaf)?, blob::STACKS)?;
    stacks.apply(changes.ok_or_else(|| missing(leaf, "changes of call stacks"))?);
    Ok(())
}

fn missing(leaf: u64, what: &str) -> Error {
    Error::Leaf { leaf, reason: format!("it has no {what}") }
}

/// What is stored under a tag.
pub fn record<T: serde::de::DeserializeOwned>(
    number: u64,
    leaf: &Leaf,
    tag: u32,
) -> Result<Option<T>, Error> {
    let bytes = leaf.blob(tag)?.collect::<Result<Vec<_>, _>>()?.concat();
    if bytes.is_empty() {
        return Ok(None);
    }
    decode(number, &bytes).map(Some)
}

/// The calls of all tasks in order of time.
fn all_calls(number: u64, leaf: &Leaf, callers: &CallersRecord) -> Result<Vec<Call>, Error> {
    let wrong = || Error::Leaf { leaf: number, reason: "its calls are not those it says".into() };
    let mut calls = Vec::new();
    let tasks: Vec<Tid> = leaf.tasks_with_calls().collect();
    for task in &tasks {
        for call in leaf.calls(*task, Moment(0))? {
            calls.push(call?);
        }
    }
    if tasks.len() > 1 {
        // Each moment is that of one instruction.
        calls.sort_unstable_by_key(|call| call.moment);
    }
    let total = callers.runs.iter().try_fold(0_u64, |sum, run| sum.checked_add(run.calls));
    if total != Some(calls.len() as u64) {
        return Err(wrong());
    }
    Ok(calls)
}
