//! `executions`, `groups`, `histogram`: when code ran, with what values.

use std::collections::BTreeMap;

use model::{Address, Moment};
use serde::Serialize;
use store::Tree;
use values::{Expression, Given, Options};

use crate::ask::{Asked, Cursor, Flow, Side};
use crate::code::CodeSet;
use crate::engine::{Engine, Here};
use crate::eval::{FrameView, ValueRow, arguments, arguments_at, bad};
use crate::executions::{Execution, in_leaf};
use crate::exits::{Left, exit, given, result};
use crate::failure::{Code, Failure};
use crate::frames::{Frame, Stack};
use crate::protocol::{Focus, FrameId, Hex, MomentText, Place};
use crate::stretch::FrameKind;

/// Buckets of a histogram unless the asker says otherwise, and at most.
const BUCKETS: u64 = 100;
const BUCKETS_MAX: u64 = 2_000;
/// Groups that are told apart.
const GROUPS_MAX: usize = 10_000;
/// Executions that are evaluated before their rows go out, where they come backwards.
const PIECE: usize = 64;

/// What is asked for, understood.
struct Wanted {
    sets: Vec<CodeSet>,
    /// Each execution is a call.
    function: bool,
    condition: Option<Expression>,
    prints: Vec<Expression>,
    /// Whether an expression needs the result.
    result: bool,
    /// The call that executions must be in.
    call: Option<Moment>,
    task: Option<model::Tid>,
}

impl Wanted {
    fn read(engine: &Engine<'_>, asked: &Asked<'_>, here: Here) -> Result<Wanted, Failure> {
        let db = engine.db;
        let line: Option<u32> = asked.optional("line")?;
        let function: Option<String> = asked.optional("function")?;
        let address: Option<String> = asked.optional("address")?;
        let sets = match (line, &function, &address) {
            (Some(line), None, None) => {
                let file: String = asked.argument("file")?;
                vec![CodeSet::line(db, &file, line)?]
            }
            (None, Some(name), None) => {
                let (calls, inlined) = CodeSet::function(db, name)?;
                vec![calls, inlined]
            }
            (None, None, Some(text)) => {
                let address = Hex::parse(text).ok_or_else(|| {
                    Failure::new(Code::BadRequest, format!("`{text}` is no address"))
                })?;
                vec![CodeSet::address(db, address)]
            }
            _ => {
                let what = "one of file and line, function, or address is wanted";
                return Err(Failure::new(Code::BadRequest, what));
            }
        };
        let parse = |text: &String| Expression::parse(text).map_err(|error| bad(&error));
        let condition: Option<String> = asked.optional("condition")?;
        let prints: Vec<String> = match asked.optional::<Vec<String>>("print") {
            Ok(prints) => prints.unwrap_or_default(),
            // One expression needs no brackets.
            Err(error) => {
                vec![asked.optional::<String>("print").map_err(|_| error)?.unwrap_or_default()]
            }
        };
        let named = |text: &String| {
            text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "ret")
        };
        let result = condition.iter().chain(&prints).any(named);
        let scope: Option<String> = asked.optional("scope")?;
        let (mut call, mut task) = (None, None);
        match scope.as_deref() {
            None | Some("run") => {}
            Some("task") => task = Some(here.tid),
            Some("call") => {
                task = Some(here.tid);
                let frame = asked.request.focus.frame.ok_or_else(|| {
                    Failure::new(Code::NoSuchFrame, "the scope `call` needs a frame in the focus")
                })?;
                call = Some(frame.entry);
            }
            Some(other) => {
                let failure = Failure::new(Code::BadRequest, format!("`{other}` is no scope"));
                return Err(failure.hint("run, task, call"));
            }
        }
        Ok(Wanted {
            sets,
            function: function.is_some(),
            condition: condition.as_ref().map(parse).transpose()?,
            prints: prints.iter().map(parse).collect::<Result<_, _>>()?,
            result,
            call,
            task,
        })
    }

    fn in_scope(&self, execution: &Execution) -> bool {
        let task = self.task.is_none_or(|task| task == execution.tid);
        task && self.call.is_none_or(|call| call == execution.frame.entry)
    }

    /// All executions in scope of a leaf, in order of time.
    fn in_leaf(&self, engine: &mut Engine<'_>, leaf: u64) -> Result<Vec<Execution>, Failure> {
        let mut found = Vec::new();
        for set in &self.sets {
            found.extend(in_leaf(engine, set, leaf)?);
        }
        found.retain(|execution| self.in_scope(execution));
        if self.sets.len() > 1 {
            found.sort_by_key(|execution| execution.moment);
        }
        Ok(found)
    }

    fn first_leaf(&self, tree: &Tree<'_>, border: u64) -> Result<Option<u64>, Failure> {
        let mut first = None;
        for set in &self.sets {
            first = first.into_iter().chain(set.first_leaf(tree, border)?).min();
        }
        Ok(first)
    }

    fn last_leaf(&self, tree: &Tree<'_>, border: u64) -> Result<Option<u64>, Failure> {
        let mut last = None;
        for set in &self.sets {
            last = last.max(set.last_leaf(tree, border)?);
        }
        Ok(last)
    }
}

#[derive(Serialize)]
struct Row {
    moment: MomentText,
    task: u32,
    place: Place,
    frame: FrameId,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    arguments: Vec<ValueRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<MomentText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<Left>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ValueRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prints: Vec<ValueRow>,
    /// Why the condition or a print has no value there.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    focus: Focus,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let wanted = Wanted::read(engine, asked, here)?;
    let db = engine.db;
    let tree = Tree::new(&db.reader);
    let middle = match asked.cursor()? {
        Some(Cursor::Moment(Side::Before, at)) => at,
        Some(Cursor::Moment(Side::After, at)) => at + 1,
        _ => here.moment,
    };
    let leaf = engine.leaf_at(middle)?;
    let mut after = wanted.first_leaf(&tree, leaf)?;
    let mut before = wanted.last_leaf(&tree, leaf + 1)?;
    let mut checked = 0;
    // Nearest first: one leaf of each side in turn.
    loop {
        let ahead = after.filter(|_| asked.wants(Side::After));
        let back = before.filter(|_| asked.wants(Side::Before));
        if ahead.is_none() && back.is_none() {
            break;
        }
        if let Some(leaf) = ahead {
            let found = wanted.in_leaf(engine, leaf)?;
            let rows = found.iter().filter(|execution| execution.moment >= middle);
            let ends = forward(engine, asked, &wanted, rows)? == Flow::Full;
            after = if ends { None } else { wanted.first_leaf(&tree, leaf + 1)? };
            checked += 1;
        }
        if let Some(leaf) = back {
            let found = wanted.in_leaf(engine, leaf)?;
            let rows: Vec<&Execution> =
                found.iter().filter(|execution| execution.moment < middle).collect();
            let ends = backward(engine, asked, &wanted, &rows)? == Flow::Full;
            before = if ends { None } else { wanted.last_leaf(&tree, leaf)? };
            checked += 1;
        }
        if asked.is_interrupted() {
            break;
        }
        asked.progress(checked, db.reader.leaves());
    }
    // What would be there on a side that is full.
    asked.exact &= after.is_none() && before.is_none();
    Ok(())
}

fn forward<'e>(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    wanted: &Wanted,
    executions: impl Iterator<Item = &'e Execution>,
) -> Result<Flow, Failure> {
    for execution in executions {
        if asked.is_interrupted() {
            return Ok(Flow::Full);
        }
        if !asked.wants(Side::After) {
            asked.matched += 1;
            if wanted.condition.is_some() {
                return Ok(asked.row_at(Side::After, execution.moment, &()));
            }
            continue;
        }
        if let Some(row) = row(engine, wanted, execution)? {
            let _ = asked.row_at(Side::After, execution.moment, &row);
        }
    }
    Ok(Flow::More)
}

/// In pieces, each in order of time: going back costs more than going on.
fn backward(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    wanted: &Wanted,
    executions: &[&Execution],
) -> Result<Flow, Failure> {
    for piece in executions.rchunks(PIECE) {
        if !asked.wants(Side::Before) {
            asked.matched += piece.len() as u64;
            continue;
        }
        let mut rows = Vec::new();
        for execution in piece {
            if asked.is_interrupted() {
                return Ok(Flow::Full);
            }
            if let Some(row) = row(engine, wanted, execution)? {
                rows.push((execution.moment, row));
            }
        }
        for (moment, row) in rows.into_iter().rev() {
            if asked.row_at(Side::Before, moment, &row) == Flow::Full {
                asked.matched += 1;
            }
        }
    }
    Ok(Flow::More)
}

/// An execution evaluated; none if the condition does not hold.
fn row(
    engine: &mut Engine<'_>,
    wanted: &Wanted,
    execution: &Execution,
) -> Result<Option<Row>, Failure> {
    let task = engine.db.history.task(execution.tid, execution.moment);
    let task = task.map_or(0, |task| task.number.0);
    let (tid, space) = (execution.tid, execution.space);
    let mut here = Here { moment: execution.moment, tid, task };
    let is_call = wanted.function && execution.frame.kind != FrameKind::Start;
    // A call is looked at where its arguments are in place.
    if is_call && execution.frame.entry == execution.moment {
        here.moment = arguments_at(engine, here, space, execution.moment)?;
    }
    let stack = Stack::innermost(engine, here, &execution.frame)?;
    let view = FrameView::new(engine, here, &stack, 0, is_call.then_some(0))?;
    let ended = match is_call {
        true => Some(exit(engine, tid, &execution.frame)?),
        false => None,
    };
    let mut extra: Vec<Given> = Vec::new();
    if let Some(ended) = ended.filter(|_| wanted.result) {
        extra.extend(given(engine, here, ended, &view)?);
    }
    let mut failed = None;
    if let Some(condition) = &wanted.condition {
        match view.with(engine, |values, target| values.test(condition, target, &extra))? {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => failed = Some(error.to_string()),
        }
    }
    let mut prints = Vec::new();
    let options = Options { text_max: 120, ..Options::default() };
    for print in &wanted.prints {
        match view.with(engine, |values, target| values.show(print, target, &extra, &options))? {
            Ok(value) => prints.push(ValueRow::new(&value)),
            Err(error) => {
                failed.get_or_insert(error.to_string());
            }
        }
    }
    let arguments = match is_call {
        true => {
            let frame = Frame { entry: execution.frame.entry, ..stack.frames[0] };
            arguments(engine, here, space, &frame)?.to_vec()
        }
        false => Vec::new(),
    };
    let result = match ended {
        Some(ended) => result(engine, here, ended, &view)?,
        None => None,
    };
    let spot = engine.places.look(engine.db, space, stack.registers.rip, here.moment);
    let id = view.id;
    Ok(Some(Row {
        moment: MomentText(here.moment),
        task,
        place: spot.place(id.inlined as usize),
        frame: id,
        arguments,
        exit: ended.and_then(|ended| ended.moment).map(MomentText),
        left: ended.map(|ended| ended.left),
        result,
        prints,
        failed,
        focus: Focus { frame: Some(id), ..Focus::at(here.moment, task) },
    }))
}

/// Calls `each` with all executions of the run.
fn all(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    wanted: &Wanted,
    mut each: impl FnMut(&mut Engine<'_>, &Execution) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let db = engine.db;
    let tree = Tree::new(&db.reader);
    let mut next = wanted.first_leaf(&tree, 0)?;
    while let Some(leaf) = next {
        for execution in wanted.in_leaf(engine, leaf)? {
            each(engine, &execution)?;
            if asked.is_interrupted() {
                return Ok(());
            }
        }
        asked.progress(leaf + 1, db.reader.leaves());
        next = wanted.first_leaf(&tree, leaf + 1)?;
    }
    Ok(())
}

#[derive(Serialize)]
struct GroupRow {
    value: String,
    count: String,
    first: MomentText,
    last: MomentText,
    focus: Focus,
}

pub fn groups(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let wanted = Wanted::read(engine, asked, here)?;
    let by: String = asked.optional("group")?.unwrap_or_else(|| "print".into());
    let mut groups: BTreeMap<String, (u64, Moment, Moment, Focus)> = BTreeMap::new();
    all(engine, asked, &wanted, |engine, execution| {
        let Some(row) = row(engine, &wanted, execution)? else { return Ok(()) };
        let value = match by.as_str() {
            "print" => {
                let texts: Vec<&str> = row.prints.iter().map(|print| print.text.as_str()).collect();
                row.failed.clone().unwrap_or_else(|| texts.join(", "))
            }
            "task" | "thread" => format!("task {}", row.task),
            "result" => match (&row.result, row.left) {
                (Some(result), _) => result.text.clone(),
                (None, Some(Left::Returned)) => "returned".into(),
                (None, Some(Left::Exception)) => "left by exception".into(),
                (None, Some(Left::Longjmp)) => "left by longjmp".into(),
                _ => "running".into(),
            },
            "left" => match row.left {
                Some(Left::Returned) => "returned".into(),
                Some(Left::Exception) => "left by exception".into(),
                Some(Left::Longjmp) => "left by longjmp".into(),
                _ => "running".into(),
            },
            "caller" => caller(engine, execution, row.task)?,
            other => {
                let failure = Failure::new(Code::BadRequest, format!("no groups by `{other}`"));
                return Err(failure.hint("print, task, result, left, caller"));
            }
        };
        if groups.len() < GROUPS_MAX || groups.contains_key(&value) {
            let moment = row.moment.0;
            let entry = groups.entry(value).or_insert((0, moment, moment, row.focus));
            (entry.0, entry.2) = (entry.0 + 1, moment);
        }
        Ok(())
    })?;
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, (count, first, ..))| (std::cmp::Reverse(*count), *first));
    for (value, (count, first, last, focus)) in groups.into_iter().skip(asked.offset()?) {
        let (first, last) = (MomentText(first), MomentText(last));
        let row = GroupRow { value, count: count.to_string(), first, last, focus };
        if asked.row(&row) == Flow::Full {
            break;
        }
    }
    Ok(())
}

fn caller(engine: &mut Engine<'_>, execution: &Execution, task: u32) -> Result<String, Failure> {
    let here = Here { moment: execution.moment, tid: execution.tid, task };
    let stack = Stack::at(engine, here)?;
    let Some(frame) = stack.frames.get(1) else { return Ok("nobody".into()) };
    let lookup: Address = frame.lookup();
    let place = engine.places.look(engine.db, stack.space, lookup, here.moment).innermost();
    let file = place.file.as_deref().map(|file| file.rsplit('/').next().unwrap_or(file));
    let function = place.function.unwrap_or_else(|| lookup.to_string());
    Ok(match (file, place.line) {
        (Some(file), Some(line)) => format!("{function} at {file}:{line}"),
        _ => function,
    })
}

#[derive(Serialize)]
struct BucketRow {
    from: MomentText,
    to: MomentText,
    count: u64,
}

pub fn histogram(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let wanted = Wanted::read(engine, asked, here)?;
    let buckets: u64 = asked.optional("buckets")?.unwrap_or(BUCKETS).clamp(1, BUCKETS_MAX);
    let end = engine.db.reader.end().0.max(1);
    let width = end.div_ceil(buckets).max(1);
    let mut counts = vec![0_u64; buckets as usize];
    all(engine, asked, &wanted, |engine, execution| {
        if wanted.condition.is_some() && row(engine, &wanted, execution)?.is_none() {
            return Ok(());
        }
        let bucket = (execution.moment.0 / width).min(buckets - 1);
        counts[bucket as usize] += 1;
        Ok(())
    })?;
    for (index, count) in (0_u64..).zip(counts) {
        let (from, to) = (Moment(index * width), Moment(((index + 1) * width).min(end)));
        let row = BucketRow { from: MomentText(from), to: MomentText(to), count };
        if count > 0 && asked.row(&row) == Flow::Full {
            break;
        }
    }
    Ok(())
}
