//! The calls of one task with their beginnings and ends, from call history.

use std::ops::Range;

use index::stacks::{Frame, StackId, Stacks};
use model::{Address, Moment, Tid};

use crate::ask::Asked;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::stretch::Transfer;

/// Transfers between two looks at the clock.
const PIECE: usize = 1 << 14;

/// A call as far as it lies in a range of moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Behind the call instruction.
    pub entry: Moment,
    pub end: Moment,
    /// How many calls are around it.
    pub depth: u32,
    pub space: u32,
    /// Where the call went.
    pub function: Address,
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Every call.
    Calls,
    /// Calls that were under way at a border between leaves; they may have ended up to a leaf
    /// earlier than they seem to.
    Borders,
}

/// Tells all calls of a task that overlap a range, when they end, or at the end of the range.
/// False if there was no time for all.
pub fn walk(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    tid: Tid,
    range: Range<Moment>,
    detail: Detail,
    tell: &mut dyn FnMut(Span),
) -> Result<bool, Failure> {
    if range.is_empty() {
        return Ok(true);
    }
    let reader = &engine.db.reader;
    let first = engine.leaf_at(range.start)?;
    let mut stacks = index::stacks_at(reader, first)?;
    let mut view = View { from: range.start, ..View::default() };
    let start = reader.span(first)?.start;
    view.update(&stacks, tid, start, tell);
    for leaf in first..reader.leaves() {
        let span = reader.span(leaf)?;
        if span.start >= range.end {
            break;
        }
        match detail {
            Detail::Calls => {
                let transfers = engine.transfers(leaf)?;
                for piece in transfers.chunks(PIECE) {
                    if asked.is_interrupted() {
                        return Ok(false);
                    }
                    for transfer in piece {
                        let moment = transfer.moment();
                        if moment >= range.end {
                            break;
                        }
                        if follow(&mut stacks, transfer) == tid {
                            view.update(&stacks, tid, moment, tell);
                        }
                    }
                }
            }
            Detail::Borders => {
                if asked.is_interrupted() {
                    return Ok(false);
                }
                if span.end < range.end {
                    index::follow_leaf(reader, &mut stacks, leaf)?;
                    view.update(&stacks, tid, span.end, tell);
                }
            }
        }
    }
    view.close(0, range.end, tell);
    Ok(true)
}

/// Returns the task whose calls it changes.
fn follow(stacks: &mut Stacks, transfer: &Transfer) -> Tid {
    match transfer {
        Transfer::Call(tid, space, call) => {
            stacks.follow(*tid, *space, std::slice::from_ref(call));
            *tid
        }
        Transfer::Fork(fork) => {
            stacks.fork(fork.parent, fork.child, fork.space);
            fork.child
        }
    }
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
struct Open {
    entry: Moment,
    function: Address,
}

/// The calls that a task is in, on all its stacks.
///
/// A stack that the task turns to while calls on another one are under way is taken to be called
/// from there (a signal's alternative stack, the recorder's), unless its own calls are older (a
/// coroutine that goes on).
#[derive(Debug, Default)]
struct View {
    /// What ended before is not told.
    from: Moment,
    space: u32,
    /// Stacks with the index of their first call.
    stacks: Vec<(StackId, usize)>,
    open: Vec<Open>,
}

impl View {
    /// Takes over what the stacks are now.
    fn update(&mut self, stacks: &Stacks, tid: Tid, now: Moment, tell: &mut dyn FnMut(Span)) {
        let Some((id, space)) = stacks.of_task(tid) else { return };
        let frames = stacks.frames(tid);
        if space != self.space {
            // Another program.
            self.close(0, now, tell);
            self.stacks.clear();
            self.space = space;
        }
        let base = match self.stacks.iter().position(|(known, _)| *known == id) {
            Some(at) => {
                if let Some((_, above)) = self.stacks.get(at + 1) {
                    self.close(*above, now, tell);
                }
                self.stacks.truncate(at + 1);
                self.stacks[at].1
            }
            None => {
                let last = self.open.last().map(|open| open.entry.0);
                let older = frames.first().is_some_and(|first| Some(first.moment) < last);
                if older {
                    self.close(0, now, tell);
                    self.stacks.clear();
                }
                self.stacks.push((id, self.open.len()));
                self.open.len()
            }
        };
        self.turn_into(base, frames, now, tell);
    }

    /// The calls from an index on are these.
    fn turn_into(
        &mut self,
        base: usize,
        frames: &[Frame],
        now: Moment,
        tell: &mut dyn FnMut(Span),
    ) {
        // No two calls begin at one moment: where the last ones agree, those around do.
        let mut same = (self.open.len() - base).min(frames.len());
        while same > 0 && self.open[base + same - 1].entry.0 != frames[same - 1].moment {
            same -= 1;
        }
        // What takes a call's place begins when that one has ended.
        let end = frames.get(same).map_or(now, |next| Moment(next.moment).min(now));
        self.close(base + same, end, tell);
        let begun = frames[same..].iter();
        self.open.extend(
            begun.map(|frame| Open { entry: Moment(frame.moment), function: frame.function }),
        );
    }

    /// The calls from an index on are over.
    fn close(&mut self, from: usize, end: Moment, tell: &mut dyn FnMut(Span)) {
        for (depth, open) in self.open.iter().enumerate().skip(from) {
            if end > self.from && end > open.entry {
                let (entry, function) = (open.entry, open.function);
                tell(Span { entry, end, depth: depth as u32, space: self.space, function });
            }
        }
        self.open.truncate(from);
    }
}
