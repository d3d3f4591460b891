//! `overview`: what was recorded, how much of it is there, where to start.

use std::fmt::Write as _;

use serde::Serialize;
use store::State;

use crate::ask::Asked;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::protocol::{Focus, MomentText};
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
        start: Focus::at(end, engine.running(end).map_or(1, |task| task.number.0)),
        identity,
    };
    let _ = asked.row(&row);
    Ok(())
}
