//! `writes`, `reads`: who accessed bytes of memory, before and after the focus.

use model::{Address, Moment};
use serde::Serialize;
use values::{Content as Known, Expression, Given, Loaded, Standing, Target};

use crate::accesses::{Access, By, Content, first_leaf, in_leaf, in_piece, last_leaf};
use crate::ask::{Asked, Cursor, Flow, Side};
use crate::engine::{Engine, Here};
use crate::eval::{FrameView, bad};
use crate::failure::{Code, Failure};
use crate::frames::Stack;
use crate::history::ChangeKind;
use crate::memory_identity::Bytes;
use crate::protocol::{Focus, MomentText, Place};
use crate::target::{Subject, task_at};

#[derive(Serialize)]
struct Row {
    moment: MomentText,
    task: u32,
    place: Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    old: String,
    /// Of a read what was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<String>,
    by: &'static str,
    /// What the kernel or a mapping did.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Which of the bytes, if not all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<(u64, u64)>,
    /// Why the condition has no value there.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    focus: Focus,
}

/// What is asked for, understood.
struct Wanted {
    subject: Subject,
    bytes: Bytes,
    condition: Option<Expression>,
    task: Option<model::Tid>,
}

pub fn writes(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    answer(engine, asked, false)
}

pub fn reads(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    answer(engine, asked, true)
}

fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>, reads: bool) -> Result<(), Failure> {
    let subject = Subject::read(engine, asked)?;
    let bytes = subject.memory(engine)?;
    let condition: Option<String> = asked.optional("condition")?;
    let condition = condition.map(|text| Expression::parse(&text)).transpose();
    let scope: Option<String> = asked.optional("scope")?;
    let task = match scope.as_deref() {
        None | Some("run") => None,
        Some("task") => Some(subject.here.tid),
        Some(other) => {
            let failure = Failure::new(Code::BadRequest, format!("`{other}` is no scope"));
            return Err(failure.hint("run, task"));
        }
    };
    let condition = condition.map_err(|error| bad(&error))?;
    let wanted = Wanted { subject, bytes, condition, task };
    let db = engine.db;
    let middle = match asked.cursor()? {
        Some(Cursor::Moment(Side::Before, at)) => at,
        Some(Cursor::Moment(Side::After, at)) => at + 1,
        _ => wanted.subject.here.moment,
    };
    let leaf = engine.leaf_at(middle)?;
    let mut after = first_leaf(db, &wanted.bytes, leaf, reads)?;
    let mut before = last_leaf(db, &wanted.bytes, leaf + 1, reads)?;
    let (mut checked, mut full) = (0, [false; 2]);
    // Nearest first: one leaf of each side in turn.
    loop {
        let back = before.filter(|_| asked.wants(Side::Before));
        let ahead = after.filter(|_| asked.wants(Side::After));
        if ahead.is_none() && back.is_none() || asked.is_interrupted() {
            break;
        }
        if let Some(leaf) = back {
            let ends = behind(engine, asked, &wanted, leaf, (middle, reads))? == Flow::Full;
            full[0] |= ends;
            before = if ends { None } else { last_leaf(db, &wanted.bytes, leaf, reads)? };
            checked += 1;
        }
        if let Some(leaf) = ahead {
            let found = in_leaf(engine, &wanted.bytes, leaf, reads)?;
            let accesses = found.accesses.iter().filter(|access| access.moment >= middle);
            let ends = side(engine, asked, &wanted, Side::After, accesses)? == Flow::Full;
            full[1] |= ends;
            after = if ends { None } else { first_leaf(db, &wanted.bytes, leaf + 1, reads)? };
            checked += 1;
        }
        asked.progress(checked, db.reader.leaves());
    }
    // A side on which there may be more.
    for (side, more) in
        [(Side::Before, full[0] || before.is_some()), (Side::After, full[1] || after.is_some())]
    {
        if more && !asked.wants(side) {
            let _ = asked.row_at(side, middle, &());
        }
    }
    Ok(())
}

/// Accesses of a leaf in front of a moment, the last ones first.
fn behind(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    wanted: &Wanted,
    leaf: u64,
    (middle, reads): (Moment, bool),
) -> Result<Flow, Failure> {
    let mut pieces = vec![None];
    if !reads {
        // A piece of it may be enough.
        pieces = engine.pieces(leaf, middle)?.into_iter().map(Some).collect();
    }
    for piece in pieces.into_iter().rev() {
        let found = match piece {
            Some(piece) => in_piece(engine, &wanted.bytes, leaf, piece)?,
            None => in_leaf(engine, &wanted.bytes, leaf, reads)?,
        };
        let accesses = found.accesses.iter().rev().filter(|access| access.moment < middle);
        let flow = side(engine, asked, wanted, Side::Before, accesses)?;
        asked.exact &= found.dropped == 0;
        if flow == Flow::Full {
            return Ok(flow);
        }
        asked.matched += found.dropped;
    }
    Ok(Flow::More)
}

fn side<'a>(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    wanted: &Wanted,
    side: Side,
    accesses: impl Iterator<Item = &'a Access>,
) -> Result<Flow, Failure> {
    let scope = |access: &&Access| wanted.task.is_none_or(|task| task == access.tid);
    for access in accesses.filter(scope) {
        if asked.is_interrupted() {
            return Ok(Flow::Full);
        }
        if !asked.wants(side) {
            return Ok(Flow::Full);
        }
        if let Some(row) = row(engine, wanted, access)? {
            let _ = asked.row_at(side, access.moment, &row);
        }
    }
    Ok(Flow::More)
}

fn row(engine: &mut Engine<'_>, wanted: &Wanted, access: &Access) -> Result<Option<Row>, Failure> {
    let task = task_at(engine, access.tid, access.moment);
    let mut failed = None;
    if let Some(condition) = &wanted.condition {
        match holds(engine, condition, access, task)? {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(why) => failed = Some(why),
        }
    }
    let place = match access.by {
        // Where its call was made is told by the system calls.
        By::Mapping(_) => Place::default(),
        _ => engine.places.look(engine.db, access.space, access.rip, access.moment).innermost(),
    };
    let (by, text) = described(&access.by);
    let shape = &wanted.subject.shape;
    let whole = access.part == (0..wanted.bytes.length);
    let mapping = matches!(access.by, By::Mapping(_));
    Ok(Some(Row {
        moment: MomentText(access.moment),
        task,
        function: place.function.clone(),
        place,
        old: if mapping { String::new() } else { shape.text(&access.old) },
        new: (access.write && !mapping).then(|| shape.text(&access.new)),
        by,
        text,
        bytes: (!whole).then_some((access.part.start, access.part.end)),
        failed,
        focus: Focus::at(access.moment, task),
    }))
}

/// Who did it, and what it was if it was no instruction.
pub fn described(by: &By) -> (&'static str, Option<String>) {
    match by {
        By::Instruction => ("instruction", None),
        By::Kernel(Some(number)) => ("kernel", Some(crate::call_names::name(*number))),
        By::Kernel(None) => ("kernel", None),
        By::Mapping(kind) => {
            let text = match kind {
                ChangeKind::Mapped => "mapped",
                ChangeKind::Unmapped => "unmapped",
                ChangeKind::Moved { .. } => "moved here",
                ChangeKind::Discarded => "discarded",
            };
            ("mapping", Some(text.into()))
        }
    }
}

/// A target without anything: for expressions of numbers alone.
struct Nowhere;

impl Target for Nowhere {
    fn read(&self, _: Address, _: &mut [u8]) -> bool {
        false
    }

    fn register(&self, _: u16) -> Option<u128> {
        None
    }

    fn modules(&self) -> &[Loaded] {
        &[]
    }

    fn standing(&self) -> Option<Standing> {
        None
    }
}

/// Up to eight bytes as a number that expressions can use.
fn given(name: &str, content: &Content) -> Option<Given> {
    let bytes: Option<Vec<u8>> = content.iter().copied().collect();
    let bytes = bytes.filter(|bytes| (1..=8).contains(&bytes.len()))?;
    let unused = 64 - 8 * bytes.len() as u32;
    let bits = bytes.iter().rev().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let integer = i128::from(((bits << unused) as i64) >> unused);
    Some(Given { name: name.into(), content: Known::Integer(integer) })
}

/// Whether a condition holds where the access was made, `old` and `new` being known.
fn holds(
    engine: &mut Engine<'_>,
    condition: &Expression,
    access: &Access,
    task: u32,
) -> Result<Result<bool, String>, Failure> {
    // What is mapped has no value before.
    if matches!(access.by, By::Mapping(_)) {
        return Ok(Ok(false));
    }
    let extra: Vec<Given> =
        [given("old", &access.old), given("new", &access.new)].into_iter().flatten().collect();
    // What needs nothing else is known without going there.
    if let Ok(held) = engine.values.test(condition, &Nowhere, &extra) {
        return Ok(Ok(held));
    }
    let here = Here { moment: access.moment, tid: access.tid, task };
    let Ok(stack) = Stack::at(engine, here) else { return Ok(Err("the task is over".into())) };
    let view = FrameView::new(engine, here, &stack, 0, None)?;
    // What a system call wrote may be of a time when the task had another program, or none.
    match view.with(engine, |values, target| values.test(condition, target, &extra)) {
        Ok(held) => Ok(held.map_err(|error| error.to_string())),
        Err(failure) if failure.code == Code::NoSuchTask => Ok(Err(failure.what)),
        Err(failure) => Err(failure),
    }
}
