//! Which instructions a segment executed, in order, and in whose calls.
//!
//! A stretch is the run of one leaf as *blocks*: straight pieces of code between transfers of
//! control, decoded from memory as it was when they ran. It is made by executing the leaf once
//! with a log of control flow, and following the log.

mod calls;
mod decode;

use std::ops::Range;

use model::{Address, Moment, Tid};

pub use calls::{
    FrameChange, FrameKind, Handler, STACK_BYTES, Transfer, follow, handlers_before, transfers,
};
pub use decode::Block;

use crate::engine::Engine;
use crate::failure::Failure;

/// Between two known moments on the path, in blocks.
const MARK: usize = 64;

/// What one leaf executed.
#[derive(Debug)]
pub struct Stretch {
    pub leaf: u64,
    pub span: Range<Moment>,
    /// Each is here once for each address space and contents.
    pub blocks: Vec<Block>,
    /// Indexes of blocks in the order of execution.
    path: Vec<u32>,
    /// Before every 64th of the path.
    marks: Vec<Moment>,
    /// In order of time: from one switch of tasks, or stop, to the next.
    pub runs: Vec<Run>,
    /// In order of time: the innermost call of each task.
    pub frames: Vec<FrameChange>,
}

/// Blocks that a task executed without interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub tid: Tid,
    pub space: u32,
    /// Before its first instruction.
    pub moment: Moment,
    /// Of its first block in the path.
    first: u32,
}

/// A block of the path.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'s> {
    /// Before its first instruction.
    pub moment: Moment,
    pub tid: Tid,
    pub space: u32,
    pub block: &'s Block,
    /// Index of the block.
    pub id: u32,
    /// Index in the path.
    pub index: usize,
}

/// Executes a leaf and follows its control flow.
pub fn load(engine: &mut Engine<'_>, leaf: u64) -> Result<Stretch, Failure> {
    let span = engine.db.reader.span(leaf)?;
    let last = leaf + 1 == engine.db.reader.leaves();
    let recorded = decode::record(engine.border(leaf)?, span.end, last)?;
    let frames = calls::frames(engine.db, leaf, &recorded.handlers)?;
    let mut marks = Vec::with_capacity(recorded.path.len() / MARK + 1);
    let mut runs = recorded.runs.iter().peekable();
    let mut moment = span.start;
    for (index, block) in recorded.path.iter().enumerate() {
        while let Some(run) = runs.next_if(|run| run.first as usize <= index) {
            moment = run.moment;
        }
        if index % MARK == 0 {
            marks.push(moment);
        }
        moment += recorded.blocks[*block as usize].instructions.len() as u64;
    }
    Ok(Stretch {
        leaf,
        span,
        blocks: recorded.blocks,
        path: recorded.path,
        marks,
        runs: recorded.runs,
        frames,
    })
}

impl Stretch {
    pub fn bytes(&self) -> usize {
        let blocks = self.blocks.iter().map(|block| 64 + block.instructions.len() * 16);
        self.path.len() * 5 + self.runs.len() * 24 + self.frames.len() * 48 + blocks.sum::<usize>()
    }

    /// The whole path.
    pub fn visits(&self) -> impl Iterator<Item = Visit<'_>> {
        self.visits_from(0)
    }

    /// The path from one of its blocks on.
    pub fn visits_from(&self, index: usize) -> Visits<'_> {
        let index = index.min(self.path.len());
        let start = index / MARK * MARK;
        let run = self.runs.partition_point(|run| run.first as usize <= start).saturating_sub(1);
        let moment = self.marks.get(index / MARK).copied().unwrap_or(self.span.end);
        let mut visits = Visits { stretch: self, run, index: start, moment };
        while visits.index < index && visits.next().is_some() {}
        visits
    }

    /// Index in the path of the block that executes the instruction behind a moment; the path's
    /// length if none does.
    pub fn index_at(&self, moment: Moment) -> usize {
        let mark = self.marks.partition_point(|mark| *mark <= moment).saturating_sub(1);
        for visit in self.visits_from(mark * MARK) {
            if visit.end() > moment {
                return visit.index;
            }
        }
        self.path.len()
    }

    /// The block that executes the instruction behind a moment.
    pub fn visit_at(&self, moment: Moment) -> Option<Visit<'_>> {
        self.visits_from(self.index_at(moment)).next()
    }

    /// The path backwards, from in front of one of its blocks.
    pub fn visits_before(&self, index: usize) -> impl Iterator<Item = Visit<'_>> {
        let mut end = index.min(self.path.len());
        let mut piece: Vec<Visit<'_>> = Vec::new();
        std::iter::from_fn(move || {
            if piece.is_empty() && end > 0 {
                let start = (end - 1) / MARK * MARK;
                piece = self.visits_from(start).take(end - start).collect();
                end = start;
            }
            piece.pop()
        })
    }

    /// How many blocks there are in the path.
    pub fn length(&self) -> usize {
        self.path.len()
    }

    /// The innermost call of a task at a moment, as far as this leaf knows.
    pub fn frame_at(&self, tid: Tid, moment: Moment) -> Option<&FrameChange> {
        let end = self.frames.partition_point(|change| change.moment <= moment);
        self.frames[..end].iter().rev().find(|change| change.tid == tid)
    }
}

impl Visit<'_> {
    /// Behind its last instruction.
    pub fn end(&self) -> Moment {
        self.moment + self.block.instructions.len() as u64
    }

    /// Address of the instruction behind a moment.
    pub fn address_at(&self, moment: Moment) -> Option<Address> {
        let index = (moment - self.moment) as usize;
        self.block.instructions.get(index).map(|instruction| instruction.address)
    }
}

/// See [`Stretch::visits_from`].
#[derive(Clone, Debug)]
pub struct Visits<'s> {
    stretch: &'s Stretch,
    /// Index of the run that the next block belongs to, or the one before.
    run: usize,
    index: usize,
    moment: Moment,
}

impl<'s> Iterator for Visits<'s> {
    type Item = Visit<'s>;

    fn next(&mut self) -> Option<Visit<'s>> {
        let stretch = self.stretch;
        let id = *stretch.path.get(self.index)?;
        while let Some(next) = stretch.runs.get(self.run + 1)
            && next.first as usize <= self.index
        {
            self.run += 1;
            self.moment = next.moment;
        }
        let run = stretch.runs.get(self.run)?;
        if run.first as usize == self.index {
            self.moment = run.moment;
        }
        let block = &stretch.blocks[id as usize];
        let (tid, space) = (run.tid, run.space);
        let visit = Visit { moment: self.moment, tid, space, block, id, index: self.index };
        self.index += 1;
        self.moment = visit.end();
        Some(visit)
    }
}
