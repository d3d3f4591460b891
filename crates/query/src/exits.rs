//! How calls end: when, in which way, and with what result.

use model::{Address, Moment, Tid, gpr};
use serde::Serialize;
use symbols::{Encoding, TypeKind};
use values::{Content, Given, Options};

use crate::engine::{Engine, Here};
use crate::eval::{FrameView, ValueRow};
use crate::failure::Failure;
use crate::frames::Stack;
use crate::stretch::{FrameChange, FrameKind, Transfer};

/// How a call was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    Returned,
    Exception,
    Longjmp,
    /// It had not ended when the task did, or the recording.
    Running,
}

/// The end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Behind the return; where it was noticed, if the call was left without one.
    pub moment: Option<Moment>,
    pub left: Left,
}

/// Finds the end of a call that a task made.
pub fn exit(engine: &mut Engine<'_>, tid: Tid, frame: &FrameChange) -> Result<Exit, Failure> {
    let running = Exit { moment: None, left: Left::Running };
    if frame.kind != FrameKind::Call {
        return Ok(running);
    }
    let first = engine.leaf_at(frame.entry)?;
    let Some(leaf) = last_leaf(engine, frame, first)? else { return Ok(running) };
    let transfers = engine.transfers(leaf)?;
    let mut inner: Option<Address> = None;
    for transfer in transfers.iter() {
        let Transfer::Call(task, _, call) = transfer else { continue };
        if *task != tid || call.moment <= frame.entry {
            continue;
        }
        let slot = if call.is_call { call.stack.0 } else { call.stack.0.wrapping_sub(8) };
        if !call.is_call && slot == frame.slot.0 {
            return Ok(Exit { moment: Some(call.moment), left: Left::Returned });
        }
        if slot >= frame.slot.0 && slot - frame.slot.0 < crate::stretch::STACK_BYTES {
            let left = how(engine, leaf, tid, inner, call.moment)?;
            return Ok(Exit { moment: Some(call.moment), left });
        }
        if call.is_call {
            inner = Some(call.target);
        }
    }
    Ok(running)
}

/// The leaf at whose end the call is over, though it was not at its beginning.
fn last_leaf(engine: &Engine<'_>, frame: &FrameChange, first: u64) -> Result<Option<u64>, Failure> {
    let reader = &engine.db.reader;
    let is_there = |leaf: u64| -> Result<bool, Failure> {
        let stacks = index::stacks_at(reader, leaf + 1)?;
        Ok(stacks.has(frame.entry.0, frame.slot))
    };
    let leaves = reader.leaves();
    // Most calls are short.
    let (mut low, mut step) = (first, 1);
    while low < leaves && is_there(low)? {
        low += step;
        step *= 2;
    }
    let (mut high, mut low) = (low.min(leaves), first.max(low.saturating_sub(step / 2)));
    while low < high {
        let middle = low + (high - low) / 2;
        if middle < leaves && is_there(middle)? { low = middle + 1 } else { high = middle }
    }
    Ok((low < leaves).then_some(low))
}

/// How a call was left that did not return: by the function that took the stack down.
fn how(
    engine: &mut Engine<'_>,
    leaf: u64,
    tid: Tid,
    inner: Option<Address>,
    noticed: Moment,
) -> Result<Left, Failure> {
    let Some(inner) = inner else { return Ok(Left::Longjmp) };
    let stretch = engine.stretch(leaf)?;
    let space =
        stretch.visit_at(Moment(noticed.0.saturating_sub(1))).map_or(0, |visit| visit.space);
    let mut names = Vec::new();
    let place = engine.places.look(engine.db, space, inner, noticed).innermost();
    names.extend(place.full);
    // And what ran shortly before: the jump itself.
    let index = stretch.index_at(Moment(noticed.0.saturating_sub(1)));
    for visit in stretch.visits_before(index + 1).filter(|visit| visit.tid == tid).take(64) {
        let start = visit.block.start();
        let place = engine.places.look(engine.db, visit.space, start, noticed).innermost();
        names.extend(place.full);
    }
    let is = |parts: &[&str]| names.iter().any(|name| parts.iter().any(|part| name.contains(part)));
    Ok(if is(&["_Unwind_", "__cxa_", "uw_install", "rust_panic"]) {
        Left::Exception
    } else {
        Left::Longjmp
    })
}

/// The value that a call returned, if its type says where it is.
pub fn result(
    engine: &mut Engine<'_>,
    here: Here,
    exit: Exit,
    view: &FrameView,
) -> Result<Option<ValueRow>, Failure> {
    let given = given(engine, here, exit, view)?;
    let (Some(given), Some(moment)) = (given, exit.moment) else { return Ok(None) };
    let there = Here { moment, ..here };
    let stack = Stack::at(engine, there)?;
    let view = FrameView::new(engine, there, &stack, 0, None)?;
    let options = Options { text_max: 60, ..Options::default() };
    Ok(view.show(engine, "$ret", &[given], &options).ok().map(|value| ValueRow::new(&value)))
}

/// The result as expressions know it: `ret`.
pub fn given(
    engine: &mut Engine<'_>,
    here: Here,
    exit: Exit,
    view: &FrameView,
) -> Result<Option<Given>, Failure> {
    let (Some(moment), Left::Returned) = (exit.moment, exit.left) else { return Ok(None) };
    let Some(standing) = view.standing() else { return Ok(None) };
    let module = std::sync::Arc::clone(&view.modules()[standing.module].module);
    let activations = module.activations(standing.address);
    let Some(function) = activations.last() else { return Ok(None) };
    let Ok(signature) = module.signature(function.function.id) else { return Ok(None) };
    let Some(type_) = signature.result else { return Ok(None) };
    let session = engine.at(moment)?;
    let Some(registers) = session.registers(here.tid) else { return Ok(None) };
    let rax = registers.general[gpr::RAX];
    let content = match class(&module, type_) {
        Class::Integer => {
            let mut bytes = rax.to_le_bytes().to_vec();
            bytes.extend(registers.general[gpr::RDX].to_le_bytes());
            Content::Bytes { module, type_: Some(type_), bytes }
        }
        Class::Float => {
            let Some(vectors) = session.vector_registers(here.tid) else { return Ok(None) };
            let listed = replay::listed_values(&registers, &vectors);
            let xmm0 = replay::LISTED_NAMES.iter().position(|name| *name == "xmm0");
            let bytes = xmm0.map_or(0, |at| listed[at]).to_le_bytes().to_vec();
            Content::Bytes { module, type_: Some(type_), bytes }
        }
        Class::Memory => Content::Memory { module, type_: Some(type_), address: Address(rax) },
        Class::Unknown => return Ok(None),
    };
    Ok(Some(Given { name: "ret".into(), content }))
}

/// Where a result is (psABI, 3.2.3), as far as its type alone tells.
enum Class {
    Integer,
    Float,
    Memory,
    Unknown,
}

fn class(module: &symbols::Module, mut id: symbols::TypeId) -> Class {
    // Longer chains of names are no types.
    for _ in 0..32 {
        let Ok(found) = module.type_(id) else { return Class::Unknown };
        let next = match found.kind {
            TypeKind::Base(Encoding::Float) if found.size.is_some_and(|size| size <= 8) => {
                return Class::Float;
            }
            TypeKind::Base(Encoding::Float | Encoding::ComplexFloat) => return Class::Unknown,
            TypeKind::Base(_)
            | TypeKind::Pointer(_)
            | TypeKind::Reference { .. }
            | TypeKind::Enumeration(_) => return Class::Integer,
            TypeKind::Composite(_) if found.size.is_some_and(|size| size > 16) => {
                return Class::Memory;
            }
            TypeKind::Typedef(of) | TypeKind::Qualified { of, .. } => of,
            _ => return Class::Unknown,
        };
        let Some(next) = next else { return Class::Unknown };
        id = next;
    }
    Class::Unknown
}
