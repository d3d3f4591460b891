//! `signals`: what was delivered to whom, and what became of it.

use model::{Moment, Tid};
use rr_trace::Disposition;
use serde::Serialize;

use crate::ask::Asked;
use crate::engine::{Engine, Here};
use crate::failure::Failure;
use crate::program::{in_program, own_frame};
use crate::protocol::{Focus, Hex, MomentText, Place};
use crate::questions::alerts::touched;
use crate::questions::sides;
use crate::signal_names::signal_name;
use crate::signals::{Delivered, Origin, delivered};

#[derive(Serialize)]
struct Row {
    /// In front of the instruction that it came at, and of the handler.
    moment: MomentText,
    task: u32,
    name: String,
    text: String,
    disposition: String,
    /// Which address an instruction could not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    focus: Focus,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let Some(all) = delivered(engine, asked)? else { return Ok(()) };
    let history = &engine.db.history;
    let at = |signal: &Delivered| history.moment_of(signal.event).unwrap_or(Moment(0));
    sides::send(engine, asked, here.moment, &all, at, |engine, signal| {
        row(engine, signal, at(signal))
    })
}

fn row(engine: &mut Engine<'_>, signal: &Delivered, moment: Moment) -> Result<Row, Failure> {
    let history = &engine.db.history;
    let tid = signal.tid;
    let task = history.task(tid, moment).map_or(1, |task| task.number.0);
    let handler = match signal.disposition {
        Disposition::UserHandler => handler(engine, signal, moment)?,
        _ => None,
    };
    let named = handler.as_ref().and_then(|place| place.function.clone());
    let disposition = match (signal.disposition, named) {
        (Disposition::UserHandler, Some(name)) => format!("handled by {name}"),
        (Disposition::UserHandler, None) => "handled".into(),
        (Disposition::Ignored, _) => "ignored".into(),
        (Disposition::Fatal, _) => "default action: the process ended".into(),
    };
    let here = in_program(engine, Here { moment, tid, task })?;
    let found = own_frame(engine, here).ok();
    let focus = Focus { frame: found.as_ref().map(|(id, _)| *id), ..Focus::at(here.moment, task) };
    Ok(Row {
        moment: MomentText(moment),
        task,
        name: signal_name(signal.number),
        text: text(engine, signal, Here { moment, tid, task }),
        disposition,
        address: match signal.origin() {
            Origin::Fault(address) => Some(Hex(address.0)),
            _ => None,
        },
        handler,
        place: found.map(|(_, place)| place),
        focus,
    })
}

/// Where the handler begins: where the task is behind the event.
fn handler(
    engine: &mut Engine<'_>,
    signal: &Delivered,
    moment: Moment,
) -> Result<Option<Place>, Failure> {
    let events = engine.db.history.events();
    let at = events.binary_search_by_key(&signal.event, |event| event.event);
    let Ok(begins) = at.map(|at| events[at].rip) else { return Ok(None) };
    let space = engine.at(moment)?.space_id(signal.tid).map_or(0, |space| space.0);
    Ok(Some(engine.places.look(engine.db, space, begins, moment).place(0)))
}

/// Where it comes from, for people.
fn text(engine: &mut Engine<'_>, signal: &Delivered, here: Here) -> String {
    let moment = here.moment;
    let touched = matches!((signal.origin(), signal.number), (Origin::Kernel, 11))
        .then(|| touched(engine, here))
        .flatten();
    let process = |tid: i32| {
        let tasks = &engine.db.history.tasks;
        let is = tasks.iter().rfind(|task| task.tid == Tid(tid) && task.begin <= moment);
        match is {
            Some(task) => format!("task {} (process {tid})", task.number.0),
            None => format!("process {tid}"),
        }
    };
    let what = match signal.origin() {
        Origin::Fault(address) => match (signal.number, signal.code) {
            (11, 1) => format!("nothing is mapped at {address}"),
            (11, 2) => format!("not allowed at {address}"),
            (11, 4) => format!("a protection key forbids {address}"),
            (7, 1) => format!("{address} is not aligned"),
            (7, 2) => format!("nothing is behind {address}"),
            (8, 1) => format!("division by zero, or too large a quotient, at {address}"),
            (4, _) => format!("no instruction for this program at {address}"),
            (5, _) => format!("trap at {address}"),
            _ => format!("at {address}"),
        },
        Origin::Sent { process: from, value: None } => format!("sent by {}", process(from)),
        Origin::Sent { process: from, value: Some(value) } => {
            format!("sent by {} with the value {value}", process(from))
        }
        Origin::Child { process: of, status } => match signal.code {
            1 => format!("{} exited with {status}", process(of)),
            2 | 3 => format!("{} was killed by {}", process(of), signal_name(status)),
            4 | 5 => format!("{} was stopped by {}", process(of), signal_name(status)),
            _ => format!("{} goes on", process(of)),
        },
        Origin::Timer => "a timer ran out".into(),
        // The kernel does not tell addresses that are none.
        Origin::Kernel if signal.number == 11 => {
            touched.unwrap_or_else(|| "from the kernel".into())
        }
        Origin::Kernel => "from the kernel".into(),
        Origin::Other => "of another kind".into(),
    };
    match signal.code_name() {
        Some(name) => format!("{what} ({name})"),
        None => format!("{what} (code {})", signal.code),
    }
}
