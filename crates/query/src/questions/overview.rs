//! `overview`: what was recorded, how much of it is there, where to start.

use std::fmt::Write as _;

use serde::Serialize;
use store::State;

use crate::ask::Asked;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::protocol::{Focus, MomentText};
use crate::questions::alerts::{alerts, main_returned};
use crate::questions::tasks::ending;

#[derive(Serialize)]
struct Row<'a> {
    program: &'a str,
    arguments: &'a [String],
    directory: String,
    instructions: MomentText,
    /// Up to which the database reaches.
    sealed: MomentText,
    complete: bool,
    tasks: usize,
    processes: usize,
    exit: Option<String>,
    start: Focus,
    identity: String,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let db = engine.db;
    let start = start(engine)?;
    let (history, reader) = (&db.history, &db.reader);
    let first = history.tasks.first();
    let program = first.and_then(|task| task.programs.first());
    let end = reader.end();
    let mut identity = String::new();
    for byte in reader.manifest().identity {
        let _ = write!(identity, "{byte:02x}");
    }
    let row = Row {
        program: program.map_or("", |program| &program.file),
        arguments: program.map_or(&[], |program| &program.arguments),
        directory: db.trace.directory().display().to_string(),
        instructions: MomentText(end),
        sealed: MomentText(end),
        complete: reader.manifest().state == State::Complete,
        tasks: history.tasks.len(),
        processes: history.tasks.iter().filter(|task| task.process == task.number).count(),
        exit: first.and_then(|task| task.status).map(ending),
        start,
        identity,
    };
    let _ = asked.row(&row);
    Ok(())
}

/// The worst that went wrong; where `main` returned, if nothing did; else the end.
fn start(engine: &mut Engine<'_>) -> Result<Focus, Failure> {
    let db = engine.db;
    let first = alerts(engine)?.into_iter().find(|alert| !alert.handled);
    if let Some(first) = first {
        return Ok(first.focus);
    }
    let end = db.reader.end();
    if let Some(root) = db.history.tasks.first() {
        let until = root.end.unwrap_or(end).min(end);
        if let Some(moment) = main_returned(engine, root.tid, until)? {
            return Ok(Focus::at(moment, root.number.0));
        }
    }
    Ok(Focus::at(end, engine.running(end).map_or(1, |task| task.number.0)))
}
