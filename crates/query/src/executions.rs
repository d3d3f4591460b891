//! Executions of code, found in the control flow of leaves.

use model::{Address, Moment, Tid};
use rustc_hash::FxHashMap;

use crate::code::{CodeSet, Counting};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::stretch::{FrameChange, FrameKind, Stretch, Visit};

/// One execution: a stretch of the code in one frame, from its first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Before its first instruction.
    pub moment: Moment,
    pub tid: Tid,
    pub space: u32,
    pub address: Address,
    /// The innermost frame there.
    pub frame: FrameChange,
}

/// The frames of a stretch as its path goes on.
#[derive(Debug)]
pub struct FrameCursor<'s> {
    changes: &'s [FrameChange],
    innermost: FxHashMap<Tid, FrameChange>,
}

impl<'s> FrameCursor<'s> {
    pub fn new(stretch: &'s Stretch) -> FrameCursor<'s> {
        FrameCursor { changes: &stretch.frames, innermost: FxHashMap::default() }
    }

    /// The innermost frame of the task of a block, when it begins.
    pub fn at(&mut self, visit: &Visit<'_>) -> FrameChange {
        while let Some((first, rest)) = self.changes.split_first()
            && first.moment <= visit.moment
        {
            self.innermost.insert(first.tid, *first);
            self.changes = rest;
        }
        self.innermost.get(&visit.tid).copied().unwrap_or(FrameChange {
            moment: visit.moment,
            tid: visit.tid,
            kind: FrameKind::Start,
            entry: Moment(0),
            function: Address(0),
            slot: Address(0),
            depth: 0,
        })
    }
}

/// All executions in a leaf, in order of time.
pub fn in_leaf(
    engine: &mut Engine<'_>,
    set: &CodeSet,
    leaf: u64,
) -> Result<Vec<Execution>, Failure> {
    let stretch = engine.stretch(leaf)?;
    let mut inside = Inside::new(set, &stretch);
    let mut found = Vec::new();
    let mut frames = FrameCursor::new(&stretch);
    let mut first_of: FxHashMap<Tid, ()> = FxHashMap::default();
    let mut doubtful = Vec::new();
    for visit in stretch.visits() {
        let frame = frames.at(&visit);
        let before = found.len();
        let new_task = first_of.insert(visit.tid, ()).is_none();
        inside.visit(&visit, &frame, &mut found);
        // The frame was there before the leaf and may have been in the middle of the code.
        let began_here =
            found.get(before).is_some_and(|execution| execution.moment == visit.moment);
        if new_task && began_here && set.counting == Counting::Stretch && leaf > 0 {
            doubtful.push((before, visit.tid, frame.entry, visit.block.start()));
        }
    }
    for (index, tid, entry, start) in doubtful.into_iter().rev() {
        if continues(engine, set, leaf - 1, (tid, entry, start))? {
            found.remove(index);
        }
    }
    Ok(found)
}

/// Whether the last thing that a frame did in an earlier leaf was in the code, and going on at
/// `start` is no backward jump.
fn continues(
    engine: &mut Engine<'_>,
    set: &CodeSet,
    leaf: u64,
    (tid, entry, start): (Tid, Moment, Address),
) -> Result<bool, Failure> {
    let stretch = engine.stretch(leaf)?;
    for visit in stretch.visits_before(stretch.length()).filter(|visit| visit.tid == tid) {
        let frame = stretch.frame_at(tid, visit.moment);
        if frame.is_some_and(|frame| frame.entry == entry) {
            let last = visit.block.instructions.last();
            return Ok(last.is_some_and(|last| {
                set.contains(visit.space, last.address) && last.address < start
            }));
        }
    }
    Ok(false)
}

/// Follows which frames are inside of the code.
struct Inside<'a> {
    set: &'a CodeSet,
    /// Of each block: whether any of its instructions is in the code.
    touched: Vec<Option<bool>>,
    /// The last instruction of each frame whose last instruction is in the code.
    last: FxHashMap<(Tid, Moment), Address>,
}

impl<'a> Inside<'a> {
    fn new(set: &'a CodeSet, stretch: &Stretch) -> Inside<'a> {
        Inside { set, touched: vec![None; stretch.blocks.len()], last: FxHashMap::default() }
    }

    fn visit(&mut self, visit: &Visit<'_>, frame: &FrameChange, found: &mut Vec<Execution>) {
        let (set, block) = (self.set, visit.block);
        let touched = *self.touched[visit.id as usize].get_or_insert_with(|| {
            let mut instructions = block.instructions.iter();
            instructions.any(|instruction| set.contains(visit.space, instruction.address))
        });
        let key = (visit.tid, frame.entry);
        if !touched {
            if !self.last.is_empty() {
                self.last.remove(&key);
            }
            return;
        }
        let execution = |index: usize| Execution {
            moment: visit.moment + index as u64,
            tid: visit.tid,
            space: visit.space,
            address: block.instructions[index].address,
            frame: *frame,
        };
        if set.counting == Counting::Start {
            for (index, instruction) in block.instructions.iter().enumerate() {
                let starts = set.spaces.get(&visit.space).is_some_and(|ranges| {
                    let at = ranges.binary_search_by_key(&instruction.address, |range| range.start);
                    at.is_ok()
                });
                if starts {
                    found.push(execution(index));
                }
            }
            return;
        }
        let mut last = self.last.remove(&key);
        // Back from a call whose beginning was in an earlier leaf.
        let start = block.start();
        if last.is_none()
            && visit.index > 0
            && frame.entry < visit.moment
            && self.returns_into(visit, frame)
        {
            last = Some(Address(start.0.wrapping_sub(1)));
        }
        for (index, instruction) in block.instructions.iter().enumerate() {
            let address = instruction.address;
            if !set.contains(visit.space, address) {
                last = None;
                continue;
            }
            if last.is_none_or(|last| address <= last) {
                found.push(execution(index));
            }
            last = Some(address);
        }
        if let Some(last) = last {
            self.last.insert(key, last);
        }
    }

    /// Whether the frame goes on behind a call of its own that is in the code and has just
    /// returned: the frame became the innermost one at this block.
    fn returns_into(&self, visit: &Visit<'_>, frame: &FrameChange) -> bool {
        let start = visit.block.start();
        frame.moment == visit.moment
            && frame.entry != visit.moment
            && self.set.contains(visit.space, Address(start.0.wrapping_sub(1)))
    }
}
