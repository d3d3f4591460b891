//! What one call executed itself, instruction by instruction, forwards and backwards.

use std::sync::Arc;

use model::{Address, Moment, Tid};

use crate::ask::Asked;
use crate::engine::Engine;
use crate::executions::FrameCursor;
use crate::failure::Failure;
use crate::stretch::{FrameChange, Stretch};

/// An instruction that a task executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Before it.
    pub moment: Moment,
    pub space: u32,
    pub address: Address,
    pub length: u8,
    /// The innermost frame there.
    pub frame: FrameChange,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    On,
    Stop,
}

/// All instructions of a task in a leaf that begin in a range of moments, in order.
fn steps_in(stretch: &Stretch, tid: Tid, from: Moment, to: Moment) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut frames = FrameCursor::new(stretch);
    let first = stretch.index_at(from);
    for visit in stretch.visits_from(first).take_while(|visit| visit.moment < to) {
        let frame = frames.at(&visit);
        if visit.tid != tid {
            continue;
        }
        for (index, instruction) in visit.block.instructions.iter().enumerate() {
            let moment = visit.moment + index as u64;
            if (from..to).contains(&moment) {
                let (space, address) = (visit.space, instruction.address);
                steps.push(Step { moment, space, address, length: instruction.length, frame });
            }
        }
    }
    steps
}

/// Instructions that are looked at in one piece.
const PIECE: u64 = 1 << 16;

/// Walks over a task's instructions from a moment on, that one included.
pub fn forwards(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    tid: Tid,
    from: Moment,
    mut see: impl FnMut(&mut Engine<'_>, &Step) -> Result<Walk, Failure>,
) -> Result<(), Failure> {
    let mut leaf = engine.leaf_at(from)?;
    let mut at = from;
    while leaf < engine.db.reader.leaves() {
        let stretch: Arc<Stretch> = engine.stretch(leaf)?;
        while at < stretch.span.end {
            let to = (at + PIECE).min(stretch.span.end);
            for step in steps_in(&stretch, tid, at, to) {
                if see(engine, &step)? == Walk::Stop {
                    return Ok(());
                }
            }
            at = to;
            if asked.is_interrupted() {
                return Ok(());
            }
        }
        leaf += 1;
    }
    Ok(())
}

/// Walks back over a task's instructions from in front of a moment.
pub fn backwards(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    tid: Tid,
    before: Moment,
    mut see: impl FnMut(&mut Engine<'_>, &Step) -> Result<Walk, Failure>,
) -> Result<(), Failure> {
    let Some(last) = before.0.checked_sub(1) else { return Ok(()) };
    let mut leaf = engine.leaf_at(Moment(last))?;
    let mut end = before;
    loop {
        let stretch: Arc<Stretch> = engine.stretch(leaf)?;
        while end > stretch.span.start {
            let from = Moment(end.0.saturating_sub(PIECE)).max(stretch.span.start);
            for step in steps_in(&stretch, tid, from, end).iter().rev() {
                if see(engine, step)? == Walk::Stop {
                    return Ok(());
                }
            }
            end = from;
            if asked.is_interrupted() {
                return Ok(());
            }
        }
        match leaf.checked_sub(1) {
            Some(before) => leaf = before,
            None => return Ok(()),
        }
    }
}
