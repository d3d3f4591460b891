//! The call stack at a moment, from call history.
//!
//! A frame is known by the moment behind the call that made it. Return addresses come from memory
//! at the moment; nothing depends on unwinding.

use model::{Address, Moment, Registers, Tid, gpr};
use replay::MemoryId;

use crate::engine::{Engine, Here};
use crate::failure::{Code, Failure};
use crate::places::Spot;
use crate::protocol::FrameId;
use crate::stretch::{FrameChange, FrameKind, Handler, STACK_BYTES, handlers_before};

/// Signal handlers within signal handlers, at most.
const HANDLERS_MAX: usize = 32;

/// A call that has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: FrameKind,
    /// Behind what made it; 0 if it is not known.
    pub entry: Moment,
    /// Where the call went.
    pub function: Address,
    /// Where its return address lies; not known of the outermost.
    pub slot: Option<Address>,
    /// Where it executes, or goes on when what it called returns.
    pub pc: Address,
    /// Whether `pc` is the next instruction, not one behind a call.
    pub interrupted: bool,
}

impl Frame {
    /// An address in the instruction that it is executing.
    pub fn lookup(&self) -> Address {
        if self.interrupted { self.pc } else { Address(self.pc.0.wrapping_sub(1)) }
    }
}

/// The frames of a task at a moment.
#[derive(Clone, Debug)]
pub struct Stack {
    pub space: u32,
    pub registers: Registers,
    /// Innermost first.
    pub frames: Vec<Frame>,
}

impl Stack {
    /// The frames of a task.
    ///
    /// # Errors
    ///
    /// [`Code::NoSuchTask`] if the task is not alive then.
    pub fn at(engine: &mut Engine<'_>, here: Here) -> Result<Stack, Failure> {
        let Here { moment, tid, .. } = here;
        let session = engine.at(moment)?;
        let (Some(registers), Some(MemoryId(space))) =
            (session.registers(tid), session.space_id(tid))
        else {
            let what = format!("task {tid} is not alive at moment {moment}");
            return Err(Failure::new(Code::NoSuchTask, what));
        };
        let mut outermost_first = chain(engine, here, &registers)?;
        let session = engine.at(moment)?;
        let memory = session.memory(tid);
        let word = |slot: Address| memory.and_then(|memory| memory.read_u64(slot).ok());
        let (mut pc, mut interrupted) = (registers.rip, true);
        for index in (0..outermost_first.len()).rev() {
            let frame = &mut outermost_first[index];
            (frame.pc, frame.interrupted) = (pc, interrupted);
            match frame.kind {
                // What was interrupted is known from when it was.
                FrameKind::Handler => {
                    pc = interrupted_at(engine, tid, frame.entry)?;
                    interrupted = true;
                    // The session went elsewhere: the rest is done below.
                    finish(engine, here, &mut outermost_first[..index], (pc, interrupted))?;
                    break;
                }
                _ => {
                    pc = frame.slot.and_then(word).map_or(Address(0), Address);
                    interrupted = false;
                }
            }
        }
        outermost_first.reverse();
        Ok(Stack { space, registers, frames: outermost_first })
    }

    /// The innermost frame alone, where it is known what made it.
    pub fn innermost(
        engine: &mut Engine<'_>,
        here: Here,
        frame: &FrameChange,
    ) -> Result<Stack, Failure> {
        let session = engine.at(here.moment)?;
        let (Some(registers), Some(MemoryId(space))) =
            (session.registers(here.tid), session.space_id(here.tid))
        else {
            let what = format!("task {} is not alive at moment {}", here.task, here.moment);
            return Err(Failure::new(Code::NoSuchTask, what));
        };
        let frame = Frame {
            kind: frame.kind,
            entry: frame.entry,
            function: frame.function,
            slot: (frame.kind != FrameKind::Start).then_some(frame.slot),
            pc: registers.rip,
            interrupted: true,
        };
        Ok(Stack { space, registers, frames: vec![frame] })
    }

    /// The frame that a name is of.
    pub fn find(&self, id: FrameId) -> Option<usize> {
        self.frames.iter().position(|frame| frame.entry == id.entry)
    }
}

/// Fills in where outer frames go on.
fn finish(
    engine: &mut Engine<'_>,
    here: Here,
    frames: &mut [Frame],
    (mut pc, mut interrupted): (Address, bool),
) -> Result<(), Failure> {
    for index in (0..frames.len()).rev() {
        let frame = &mut frames[index];
        (frame.pc, frame.interrupted) = (pc, interrupted);
        if frame.kind == FrameKind::Handler {
            pc = interrupted_at(engine, here.tid, frame.entry)?;
            interrupted = true;
        } else {
            let memory = engine.at(here.moment)?.memory(here.tid);
            let word = |slot: Address| memory.and_then(|memory| memory.read_u64(slot).ok());
            pc = frame.slot.and_then(word).map_or(Address(0), Address);
            interrupted = false;
        }
    }
    Ok(())
}

/// Where a task was when a handler began: the signal came in front of this instruction.
fn interrupted_at(engine: &mut Engine<'_>, tid: Tid, began: Moment) -> Result<Address, Failure> {
    let registers = engine.at(began)?.registers(tid);
    Ok(registers.unwrap_or_default().rip)
}

/// The frames without their program counters, outermost first.
fn chain(
    engine: &mut Engine<'_>,
    here: Here,
    registers: &Registers,
) -> Result<Vec<Frame>, Failure> {
    let Here { moment, tid, .. } = here;
    let mut open = handlers_before(engine.db, moment).remove(&tid).unwrap_or_default();
    // At the moment of a signal the task is still in front of it.
    open.retain(|handler| handler.moment < moment);
    // Those that were left by jumps are among them: the last ones count.
    open.drain(..open.len().saturating_sub(HANDLERS_MAX));
    let mut handlers = Vec::new();
    for handler in open {
        let slot = engine.handler_slot(tid, handler.moment)?;
        handlers.push(Handler { slot: Some(slot), ..handler });
    }
    let stack = registers.general[gpr::RSP];
    let handlers = still_open(engine, tid, (moment, stack), handlers)?;

    let mut frames = Vec::new();
    let mut since = Moment(0);
    for (handler, pointer) in &handlers {
        let before = calls_at(engine, tid, (handler.moment, *pointer))?;
        frames.extend(before.into_iter().filter(|frame| frame.entry > since || since.0 == 0));
        frames.push(Frame {
            kind: FrameKind::Handler,
            entry: handler.moment,
            function: handler.function,
            slot: handler.slot,
            pc: Address(0),
            interrupted: false,
        });
        since = handler.moment;
    }
    let last = calls_at(engine, tid, (moment, stack))?;
    frames.extend(last.into_iter().filter(|frame| frame.entry > since || since.0 == 0));
    // What the stack pointer has left without a return has ended.
    let ended = |frame: &mut Frame| {
        let slot = frame.slot.unwrap_or_default().0;
        frame.kind == FrameKind::Call && slot < stack && stack - slot < STACK_BYTES
    };
    while frames.pop_if(|frame| ended(frame)).is_some() {}
    if frames.first().is_none_or(|frame| frame.entry.0 != 0) {
        let start = Frame {
            kind: FrameKind::Start,
            entry: Moment(0),
            function: Address(0),
            slot: None,
            pc: Address(0),
            interrupted: false,
        };
        frames.insert(0, start);
    }
    Ok(frames)
}

/// The handlers that have not been left by a jump, with the stack pointers of what they
/// interrupted: each is looked at as of when the next one began.
fn still_open(
    engine: &mut Engine<'_>,
    tid: Tid,
    now: (Moment, u64),
    handlers: Vec<Handler>,
) -> Result<Vec<(Handler, u64)>, Failure> {
    let mut open = Vec::new();
    let mut at = now;
    for handler in handlers.into_iter().rev() {
        let first = calls_at(engine, tid, at)?.first().map(|frame| frame.entry);
        if handler.holds(at.1.wrapping_sub(8), first) {
            let before = engine.at(handler.moment)?.registers(tid).unwrap_or_default();
            at = (handler.moment, before.general[gpr::RSP]);
            open.push((handler, at.1));
        }
    }
    open.reverse();
    Ok(open)
}

/// Calls that had not returned at a moment with this stack pointer, outermost first; those that
/// the pointer has left are among them.
pub fn calls_at(
    engine: &mut Engine<'_>,
    tid: Tid,
    (moment, pointer): (Moment, u64),
) -> Result<Vec<Frame>, Failure> {
    let leaf = engine.leaf_at(moment)?;
    let mut stacks = index::stacks_at(&engine.db.reader, leaf)?;
    let transfers = engine.transfers(leaf)?;
    let end = transfers.partition_point(|transfer| transfer.moment() <= moment);
    crate::stretch::follow(&mut stacks, &transfers[..end]);
    let frames = stacks.frames_at(tid, Address(pointer)).iter().map(|frame| Frame {
        kind: FrameKind::Call,
        entry: Moment(frame.moment),
        function: frame.function,
        slot: Some(frame.slot),
        pc: Address(0),
        interrupted: false,
    });
    Ok(frames.collect())
}

/// The place of a frame.
pub fn spot(engine: &mut Engine<'_>, here: Here, space: u32, frame: &Frame) -> Spot {
    engine.places.look(engine.db, space, frame.lookup(), here.moment)
}
