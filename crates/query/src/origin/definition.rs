//! Which instruction gave a register the content that it has.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic};
use model::{Address, Moment, Tid, gpr};

use super::semantics::{Cell, bit, written};
use crate::ask::Asked;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::stretch::{FrameChange, FrameKind, Stretch, Visit};

/// An instruction as it ran.
#[derive(Clone, Debug)]
pub struct Definition {
    pub moment: Moment,
    pub space: u32,
    pub instruction: Instruction,
    /// The innermost frame there.
    pub frame: FrameChange,
}

/// A call that the content went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    pub frame: FrameChange,
    pub way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It was there when the call was made.
    In,
    /// It was there when the call returned.
    Out,
}

/// What gave the register its content.
#[derive(Clone, Debug)]
pub enum Found {
    /// An instruction, and the calls on the way to it, latest first.
    Defined(Box<Definition>, Vec<Crossing>),
    /// The kernel, when it called a signal's handler.
    Handler(FrameChange, Vec<Crossing>),
    /// It was there when the task began, or its program, at this moment.
    Began(Moment, Vec<Crossing>),
    /// The question's time is over.
    Interrupted,
}

/// Whether calls may be taken to keep the registers that they must keep (psABI, 3.2.1), and
/// handlers of signals all. Who asks compares the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Calls,
    Nobody,
}

/// Cells that the blocks of one leaf write, as far as they were looked at.
#[derive(Debug, Default)]
pub struct Masks {
    leaf: Option<u64>,
    of_block: Vec<Option<u64>>,
}

impl Masks {
    fn of(&mut self, stretch: &Stretch, visit: &Visit<'_>) -> u64 {
        if self.leaf != Some(stretch.leaf) {
            self.leaf = Some(stretch.leaf);
            self.of_block = vec![None; stretch.blocks.len()];
        }
        let known = &mut self.of_block[visit.id as usize];
        *known.get_or_insert_with(|| {
            let mut factory = InstructionInfoFactory::new();
            let count = visit.block.instructions.len();
            let mut mask = 0;
            for index in 0..count {
                let instruction = visit.block.decode(index);
                mask |= match instruction.mnemonic() {
                    Mnemonic::Syscall => SYSCALL,
                    _ => written(&instruction, &mut factory),
                };
            }
            if is_sigreturn(visit) { 0 } else { mask }
        })
    }
}

/// Cells that the instruction `syscall` writes.
const SYSCALL: u64 = 1 << gpr::RAX | 1 << gpr::RCX | 1 << gpr::R11;

/// A block that returns from a signal's handler: the kernel sets all registers back.
fn is_sigreturn(visit: &Visit<'_>) -> bool {
    const NUMBER: u64 = 15;
    let count = visit.block.instructions.len();
    let last = visit.block.decode(count - 1);
    let before = count.checked_sub(2).map(|index| visit.block.decode(index));
    last.mnemonic() == Mnemonic::Syscall
        && before.is_some_and(|before| {
            before.mnemonic() == Mnemonic::Mov
                && before.op0_register().full_register() == iced_x86::Register::RAX
                && before.immediate(1) == NUMBER
        })
}

/// Walks back to the last instruction in front of `moment` that wrote the register.
pub fn last(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    masks: &mut Masks,
    (tid, cell): (Tid, Cell),
    moment: Moment,
    trust: Trust,
) -> Result<Found, Failure> {
    let life = engine.db.history.task(tid, moment);
    let began = life.map_or(Moment(0), |life| {
        let programs = life.programs.iter().map(|program| program.moment);
        programs.filter(|program| *program <= moment).max().unwrap_or(life.begin).max(life.begin)
    });
    let mut crossings = Vec::new();
    if moment <= began {
        return Ok(Found::Began(began, crossings));
    }
    let mut leaf = engine.leaf_at(Moment(moment.0 - 1))?;
    let mut stretch = engine.stretch(leaf)?;
    let mut inside = frame_at(engine, tid, moment)?;
    let mut end = stretch.index_at(Moment(moment.0 - 1)) + 1;
    let wanted = bit(cell);
    let mut factory = InstructionInfoFactory::new();
    loop {
        for visit in stretch.visits_before(end) {
            if visit.moment < began && visit.end() <= began {
                break;
            }
            if visit.tid != tid || masks.of(&stretch, &visit) & wanted == 0 {
                continue;
            }
            let there = stretch.frame_at(tid, visit.moment).copied();
            let there = there.unwrap_or(inside);
            for index in (0..visit.block.instructions.len()).rev() {
                let at = visit.moment + index as u64;
                if at >= moment || at < began {
                    continue;
                }
                let instruction = visit.block.decode(index);
                let mask = match instruction.mnemonic() {
                    Mnemonic::Syscall => SYSCALL,
                    _ => written(&instruction, &mut factory),
                };
                if mask & wanted == 0 {
                    continue;
                }
                // It was given to the calls that had not been made then.
                while there.entry < inside.entry {
                    if inside.kind == FrameKind::Handler {
                        return Ok(Found::Handler(inside, crossings));
                    }
                    crossings.push(Crossing { frame: inside, way: Way::In });
                    inside = caller(engine, &inside)?;
                }
                let mut out = Vec::new();
                let mut through_handler = false;
                let mut inner = there;
                while inner.entry > inside.entry {
                    through_handler |= inner.kind == FrameKind::Handler;
                    out.push(Crossing { frame: inner, way: Way::Out });
                    inner = caller(engine, &inner)?;
                }
                let kept = is_kept(cell) || through_handler;
                if !out.is_empty() && trust == Trust::Calls && kept {
                    continue;
                }
                out.reverse();
                crossings.extend(out);
                let (space, frame) = (visit.space, there);
                let definition = Definition { moment: at, space, instruction, frame };
                return Ok(Found::Defined(Box::new(definition), crossings));
            }
        }
        if asked.is_interrupted() {
            return Ok(Found::Interrupted);
        }
        if stretch.span.start <= began || leaf == 0 {
            break;
        }
        leaf -= 1;
        stretch = engine.stretch(leaf)?;
        end = stretch.length();
    }
    // It is older than all calls that are still open.
    while inside.kind != FrameKind::Start && inside.entry > began {
        if inside.kind == FrameKind::Handler {
            return Ok(Found::Handler(inside, crossings));
        }
        crossings.push(Crossing { frame: inside, way: Way::In });
        inside = caller(engine, &inside)?;
    }
    Ok(Found::Began(began, crossings))
}

/// Registers that calls keep: rbx, rbp, rsp, r12 to r15.
fn is_kept(cell: Cell) -> bool {
    let kept = [gpr::RBX, gpr::RBP, gpr::RSP, gpr::R12, gpr::R13, gpr::R14, gpr::R15];
    matches!(cell, Cell::General(number) if kept.contains(&usize::from(number)))
}

/// The frame that made a call, or that a handler interrupted.
fn caller(engine: &mut Engine<'_>, frame: &FrameChange) -> Result<FrameChange, Failure> {
    let before = frame_at(engine, frame.tid, Moment(frame.entry.0.saturating_sub(1)))?;
    if before.entry < frame.entry {
        return Ok(before);
    }
    // Nothing is known of it: there is no way out.
    Ok(FrameChange { kind: FrameKind::Start, entry: Moment(0), ..*frame })
}

/// The innermost frame of a task at a moment.
pub fn frame_at(engine: &mut Engine<'_>, tid: Tid, moment: Moment) -> Result<FrameChange, Failure> {
    let leaf = engine.leaf_at(moment)?;
    let known = engine.stretch(leaf)?.frame_at(tid, moment).copied();
    Ok(known.unwrap_or(FrameChange {
        moment,
        tid,
        kind: FrameKind::Start,
        entry: Moment(0),
        function: Address(0),
        slot: Address(0),
        depth: 0,
    }))
}
