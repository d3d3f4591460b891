//! `tasks`: who ran, from when to when. `modules`: programs and libraries.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use model::{Moment, Tid};
use serde::Serialize;

use crate::ask::{Asked, Flow};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::protocol::{Focus, Hex, MomentText};
use crate::signal_names::signal_name;

/// Numbers of `runs` at most.
const RUNS_MAX: usize = 2_000;

#[derive(Serialize)]
struct Row<'a> {
    task: u32,
    tid: i32,
    process: u32,
    parent: Option<u32>,
    name: &'a str,
    begin: MomentText,
    end: Option<MomentText>,
    exit: Option<String>,
    /// From and to, in turn.
    runs: Vec<MomentText>,
    focus: Focus,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let history = &engine.db.history;
    let mut runs = runs(engine);
    for task in history.tasks.iter().skip(asked.offset()?) {
        let row = Row {
            task: task.number.0,
            tid: task.tid.0,
            process: task.process.0,
            parent: task.parent.map(|parent| parent.0),
            name: task.name(),
            begin: MomentText(task.begin),
            end: task.end.map(MomentText),
            exit: task.status.map(ending),
            runs: merge(runs.remove(&task.number.0).unwrap_or_default()),
            focus: Focus::at(task.begin, task.number.0),
        };
        if asked.row(&row) == Flow::Full {
            break;
        }
    }
    Ok(())
}

/// When each task ran: from the event before to its own.
fn runs(engine: &Engine<'_>) -> BTreeMap<u32, Vec<(Moment, Moment)>> {
    let history = &engine.db.history;
    let mut runs: BTreeMap<u32, Vec<(Moment, Moment)>> = BTreeMap::new();
    let mut before = Moment(0);
    let mut last: Option<(Tid, u32)> = None;
    for event in history.events() {
        if event.moment > before {
            let number = match last {
                Some((tid, number)) if tid == event.tid => Some(number),
                _ => history.task(event.tid, event.moment).map(|task| task.number.0),
            };
            if let Some(number) = number {
                last = Some((event.tid, number));
                let runs = runs.entry(number).or_default();
                match runs.last_mut() {
                    Some((_, to)) if *to == before => *to = event.moment,
                    _ => runs.push((before, event.moment)),
                }
            }
            before = event.moment;
        }
    }
    runs
}

/// Closes the shortest gaps until there are few enough runs.
fn merge(mut runs: Vec<(Moment, Moment)>) -> Vec<MomentText> {
    let wanted = RUNS_MAX / 2;
    if runs.len() > wanted {
        let mut gaps: Vec<u64> = runs.windows(2).map(|pair| pair[1].0 - pair[0].1).collect();
        gaps.sort_unstable();
        let limit = gaps[gaps.len() - wanted];
        let mut merged: Vec<(Moment, Moment)> = Vec::new();
        for (from, to) in runs {
            match merged.last_mut() {
                Some((_, end)) if from - *end <= limit => *end = to,
                _ => merged.push((from, to)),
            }
        }
        runs = merged;
    }
    runs.into_iter().flat_map(|(from, to)| [MomentText(from), MomentText(to)]).collect()
}

/// What wait(2) says, for people.
pub fn ending(status: i32) -> String {
    let signal = status & 0x7f;
    if signal == 0 {
        return format!("exit status {}", status >> 8 & 0xff);
    }
    let core = if status & 0x80 != 0 { ", core dumped" } else { "" };
    format!("killed by {}{core}", signal_name(signal))
}

#[derive(Serialize)]
struct ModuleRow<'a> {
    path: &'a str,
    build_id: Option<String>,
    debug: bool,
    /// Why there are no symbols.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<&'a str>,
    own: bool,
    /// Where it is at the focus's moment.
    ranges: Vec<(Hex, Hex)>,
}

pub fn modules(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let db = engine.db;
    let space = engine.at(here.moment)?.space_id(here.tid).map_or(0, |space| space.0);
    for module in db.modules.all().skip(asked.offset()?) {
        let mapped = db.history.spaces.get(&space).into_iter().flat_map(|space| &space.mapped);
        let there = mapped.filter(|mapped| {
            mapped.name == module.path
                && mapped.from <= here.moment
                && mapped.to.is_none_or(|to| here.moment < to)
        });
        let build_id = module.symbols().and_then(|symbols| symbols.image().build_id.as_ref());
        let row = ModuleRow {
            path: &module.path,
            build_id: build_id.map(|id| {
                id.iter().fold(String::new(), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                })
            }),
            debug: module.symbols().is_some_and(|symbols| symbols.has_debug_information()),
            trouble: module.trouble(),
            own: module.is_own(),
            ranges: there
                .map(|mapped| (mapped.range.start.into(), mapped.range.end.into()))
                .collect(),
        };
        if asked.is_interrupted() || asked.row(&row) == Flow::Full {
            break;
        }
    }
    Ok(())
}
