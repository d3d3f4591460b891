//! `state`, `stack`, `registers`, `memory`: a task at a moment.

use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, Instruction};
use model::{Address, Moment};
use serde::Serialize;

use crate::ask::{Asked, Flow};
use crate::engine::{Engine, Here};
use crate::eval::{FrameView, ValueRow, arguments};
use crate::failure::{Code, Failure};
use crate::frames::{Stack, spot};
use crate::protocol::{Focus, FrameId, Hex, MomentText, Place};
use crate::stretch::FrameKind;

#[derive(Serialize)]
struct StateRow {
    focus: Focus,
    place: Place,
    tid: i32,
    /// The last event of the recording that is over.
    event: String,
    ticks: String,
    /// The next instruction.
    next: Option<String>,
    /// Whether the task is the one that runs next.
    running: bool,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let stack = Stack::at(engine, here)?;
    let wanted = asked.request.focus.frame;
    let index = wanted.and_then(|frame| stack.find(frame)).unwrap_or(0);
    let frame = &stack.frames[index];
    let spot = spot(engine, here, stack.space, frame);
    let inlined = wanted.filter(|wanted| wanted.entry == frame.entry).map(|frame| frame.inlined);
    let inlined = inlined.unwrap_or(u32::MAX).min(spot.levels() as u32 - 1);
    let id = FrameId { entry: frame.entry, inlined };
    let running = engine.running(here.moment).is_some_and(|task| task.number.0 == here.task);
    let session = engine.at(here.moment)?;
    let next = session.memory(here.tid).and_then(|memory| {
        let mut bytes = [0; 15];
        let read = (1..=15)
            .rev()
            .find(|length| memory.read(stack.registers.rip, &mut bytes[..*length]).is_ok())?;
        Some(disassemble(&bytes[..read], stack.registers.rip))
    });
    let ticks = session.ticks(here.tid).unwrap_or_default().0.to_string();
    let row = StateRow {
        focus: Focus { frame: Some(id), ..Focus::at(here.moment, here.task) },
        place: spot.place(inlined as usize),
        tid: here.tid.0,
        event: engine.db.history.event_at(here.moment).0.to_string(),
        ticks,
        next,
        running,
    };
    let _ = asked.row(&row);
    Ok(())
}

/// An instruction as gas writes it in Intel's order.
pub fn disassemble(bytes: &[u8], address: Address) -> String {
    let instruction = Decoder::with_ip(64, bytes, address.0, DecoderOptions::NONE).decode();
    text(&instruction)
}

/// An instruction as gas writes it.
pub fn text(instruction: &Instruction) -> String {
    let mut formatter = GasFormatter::new();
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    text
}

#[derive(Serialize)]
struct FrameRow {
    frame: FrameId,
    kind: &'static str,
    function: Option<String>,
    place: Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Vec<ValueRow>>,
    depth: usize,
    /// Behind the call that made it.
    entry: MomentText,
    focus: Focus,
}

pub fn stack(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let stack = Stack::at(engine, here)?;
    let mut depth = 0;
    let skip = asked.offset()?;
    let wanted = asked.optional::<bool>("arguments")?.unwrap_or(false);
    for (index, frame) in stack.frames.iter().enumerate() {
        let spot = spot(engine, here, stack.space, frame);
        for inlined in (0..spot.levels()).rev() {
            if depth >= skip {
                let mut row = frame_row(here, frame, &spot, inlined, depth);
                if wanted && !asked.is_interrupted() {
                    row.arguments = Some(match inlined {
                        0 => arguments(engine, here, stack.space, frame)?.to_vec(),
                        _ => inlined_arguments(engine, here, &stack, index, inlined)?,
                    });
                }
                if asked.row(&row) == Flow::Full {
                    return Ok(());
                }
            }
            depth += 1;
        }
        if asked.is_interrupted() {
            break;
        }
    }
    Ok(())
}

/// Of what was inlined there is no entry: the arguments as they are now.
fn inlined_arguments(
    engine: &mut Engine<'_>,
    here: Here,
    stack: &Stack,
    index: usize,
    inlined: usize,
) -> Result<Vec<ValueRow>, Failure> {
    let view = FrameView::new(engine, here, stack, index, Some(inlined as u32))?;
    let options = values::Options { text_max: 60, ..values::Options::default() };
    let locals = view.with(engine, |values, target| values.variables(target, &options))??;
    let parameters =
        locals.into_iter().filter(|local| local.variable.kind == symbols::VariableKind::Parameter);
    Ok(parameters.map(|local| ValueRow::new(&local.value)).collect())
}

fn frame_row(
    here: Here,
    frame: &crate::frames::Frame,
    spot: &crate::places::Spot,
    inlined: usize,
    depth: usize,
) -> FrameRow {
    let place = spot.place(inlined);
    let id = FrameId { entry: frame.entry, inlined: inlined as u32 };
    FrameRow {
        frame: id,
        kind: match (inlined, frame.kind) {
            (0, FrameKind::Call) => "call",
            (0, FrameKind::Handler) => "signal",
            (0, FrameKind::Start) => "start",
            _ => "inlined",
        },
        function: place.function.clone(),
        place,
        arguments: None,
        depth,
        entry: MomentText(frame.entry),
        focus: Focus { frame: Some(id), ..Focus::at(here.moment, here.task) },
    }
}

#[derive(Serialize)]
struct RegisterRow {
    name: String,
    value: String,
    /// Since the moment before.
    changed: bool,
}

pub fn registers(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let vector = asked.optional::<bool>("vector")?.unwrap_or(false);
    let before = match here.moment.0.checked_sub(1) {
        Some(before) => values(engine, Here { moment: Moment(before), ..here }, vector)?,
        None => Vec::new(),
    };
    let now = values(engine, here, vector)?;
    if now.is_empty() {
        let what = format!("task {} is not alive at moment {}", here.task, here.moment);
        return Err(Failure::new(Code::NoSuchTask, what));
    }
    for (index, (name, value)) in now.into_iter().enumerate() {
        let changed = before.get(index).is_some_and(|(_, before)| *before != value);
        if asked.row(&RegisterRow { name, value, changed }) == Flow::Full {
            break;
        }
    }
    Ok(())
}

fn values(
    engine: &mut Engine<'_>,
    here: Here,
    vector: bool,
) -> Result<Vec<(String, String)>, Failure> {
    let session = engine.at(here.moment)?;
    let Some(registers) = session.registers(here.tid) else { return Ok(Vec::new()) };
    let general = registers.named().filter(|(name, _)| *name != "orig_rax");
    let mut values: Vec<(String, String)> =
        general.map(|(name, value)| (name.to_owned(), format!("{value:#x}"))).collect();
    if let Some(vectors) = session.vector_registers(here.tid).filter(|_| vector) {
        let listed = replay::listed_values(&registers, &vectors);
        let named = replay::LISTED_NAMES.iter().zip(listed);
        let known: Vec<String> = values.iter().map(|(name, _)| name.clone()).collect();
        values.extend(
            named
                .filter(|(name, _)| !known.iter().any(|known| known == *name))
                .map(|(name, value)| ((*name).to_owned(), format!("{value:#x}"))),
        );
    }
    Ok(values)
}

/// Bytes of a request at most.
const MEMORY_MAX: u64 = 65_536;
const MEMORY_ROW: u64 = 16;

#[derive(Serialize)]
struct MemoryRow {
    address: Hex,
    /// Two digits a byte; `..` where nothing is mapped.
    bytes: String,
}

pub fn memory(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let text: String = asked.argument("address")?;
    let address = Hex::parse(&text).ok_or_else(|| {
        Failure::new(
            Code::BadRequest,
            format!("`{text}` is no address: `0x` and digits are wanted"),
        )
    })?;
    let length: u64 = asked.argument("length")?;
    if length > MEMORY_MAX {
        let what = format!("{length} bytes are more than {MEMORY_MAX}");
        return Err(Failure::new(Code::BadRequest, what).hint("ask in parts"));
    }
    let session = engine.at(here.moment)?;
    let memory = session.memory(here.tid).ok_or_else(|| {
        let what = format!("task {} is not alive at moment {}", here.task, here.moment);
        Failure::new(Code::NoSuchTask, what)
    })?;
    let end = address.0.saturating_add(length);
    let mut rows = Vec::new();
    let mut at = address.0;
    while at < end {
        let count = MEMORY_ROW.min(end - at);
        let mut bytes = String::new();
        for offset in 0..count {
            let mut byte = [0];
            match memory.read(Address(at + offset), &mut byte) {
                Ok(()) => bytes += &format!("{:02x}", byte[0]),
                Err(_) => bytes += "..",
            }
        }
        rows.push(MemoryRow { address: Hex(at), bytes });
        at += count;
    }
    for row in rows.iter().skip(asked.offset()?) {
        if asked.row(row) == Flow::Full {
            break;
        }
    }
    Ok(())
}
