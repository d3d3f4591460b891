//! Asking: from a request to rows and an end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::Moment;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::engine::Engine;
use crate::failure::{Code, Failure};
use crate::protocol::{Answer, DEADLINE, Ending, Progress, Request, Times, WINDOW, WINDOW_MAX};
use crate::questions;

/// Rows are sent in chunks of so many.
const CHUNK: usize = 100;
/// Rows wait this long at most for others to be sent with.
const PATIENCE: Duration = Duration::from_millis(20);

/// Takes what is answered.
pub trait Sink {
    fn send(&mut self, answer: Answer);
}

impl<F: FnMut(Answer)> Sink for F {
    fn send(&mut self, answer: Answer) {
        self(answer);
    }
}

/// On which side of the focus a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// Whether to look for more on that side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    More,
    Full,
}

/// From where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// On one side of a moment, strictly.
    Moment(Side, Moment),
    /// Behind so many rows.
    Offset(u64),
}

/// A question that is being answered.
pub struct Asked<'a> {
    pub request: &'a Request,
    cancelled: &'a AtomicBool,
    sink: &'a mut dyn Sink,
    started: Instant,
    deadline: Duration,
    pending: Vec<Value>,
    flushed: Instant,
    sent: [usize; 2],
    room: [usize; 2],
    /// What else matched.
    pub matched: u64,
    pub exact: bool,
    cursors: [Option<String>; 2],
    interrupted: Option<Ending>,
}

impl std::fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Answers a request completely: whatever happens, one end is sent, behind all rows.
pub fn ask(
    engine: &mut Engine<'_>,
    request: &Request,
    cancelled: &AtomicBool,
    sink: &mut dyn Sink,
) {
    let room = |asked: Option<usize>| asked.unwrap_or(WINDOW).min(WINDOW_MAX);
    let mut room = [room(request.window.before), room(request.window.after)];
    let now = Instant::now();
    let mut asked = Asked {
        request,
        cancelled,
        sink,
        started: now,
        deadline: Duration::from_millis(request.deadline.unwrap_or(DEADLINE)),
        pending: Vec::new(),
        flushed: now,
        sent: [0; 2],
        room,
        matched: 0,
        exact: true,
        cursors: [None, None],
        interrupted: None,
    };
    match asked.cursor() {
        Ok(Some(Cursor::Moment(Side::Before, _))) => room[1] = 0,
        Ok(Some(_)) => room[0] = 0,
        _ => {}
    }
    asked.room = room;
    let executed = engine.executed();
    let outcome = questions::answer(engine, &mut asked);
    let execute = (engine.executed() - executed).as_secs_f64() * 1000.0;
    asked.end(outcome, execute);
}

impl Asked<'_> {
    /// An argument that may be absent.
    ///
    /// # Errors
    ///
    /// [`Code::BadRequest`] if it is there and of another kind.
    pub fn optional<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some(value) = self.request.arguments.get(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let parsed = T::deserialize(value).or_else(|error| match value {
            // `7` may be meant as text.
            Value::Number(number) => {
                T::deserialize(Value::String(number.to_string())).map_err(|_| error)
            }
            _ => Err(error),
        });
        parsed.map(Some).map_err(|error| {
            Failure::new(Code::BadRequest, format!("`{value}` is no {name}: {error}"))
                .at(format!("argument {name} of {}", self.request.question))
        })
    }

    /// As [`Asked::optional`], of an argument that must be there.
    pub fn argument<T: DeserializeOwned>(&self, name: &str) -> Result<T, Failure> {
        self.optional(name)?.ok_or_else(|| {
            let what = format!("the question {} needs the argument {name}", self.request.question);
            Failure::new(Code::BadRequest, what)
        })
    }

    pub fn cursor(&self) -> Result<Option<Cursor>, Failure> {
        let Some(text) = &self.request.cursor else { return Ok(None) };
        let number = |text: &str| text.parse::<u64>().ok();
        let cursor = match text.as_bytes().first() {
            Some(b'b') => number(&text[1..]).map(|at| Cursor::Moment(Side::Before, Moment(at))),
            Some(b'a') => number(&text[1..]).map(|at| Cursor::Moment(Side::After, Moment(at))),
            Some(b'o') => number(&text[1..]).map(Cursor::Offset),
            _ => None,
        };
        cursor.map(Some).ok_or_else(|| {
            Failure::new(Code::BadRequest, format!("`{text}` is no cursor of an answer"))
        })
    }

    /// Whether the answer must end now; asked for between pieces of work of a few milliseconds.
    pub fn is_interrupted(&mut self) -> bool {
        if self.cancelled.load(Ordering::Relaxed) {
            self.interrupted = Some(Ending::Cancelled);
        } else if self.started.elapsed() > self.deadline {
            self.interrupted = Some(Ending::Deadline);
        }
        if self.flushed.elapsed() > PATIENCE {
            self.flush();
        }
        // That one side is full does not keep the other from being filled.
        matches!(self.interrupted, Some(Ending::Cancelled | Ending::Deadline))
    }

    /// Whether rows are wanted on a side at all.
    pub fn wants(&self, side: Side) -> bool {
        self.sent[side as usize] < self.room[side as usize]
    }

    /// How many rows are still wanted on a side.
    pub fn room(&self, side: Side) -> usize {
        self.room[side as usize] - self.sent[side as usize]
    }

    /// The moment at which to look to both sides: the focus's, or where an earlier answer broke
    /// off; what is at or behind it comes after.
    pub fn middle(&self, focus: Moment) -> Result<Moment, Failure> {
        Ok(match self.cursor()? {
            Some(Cursor::Moment(Side::Before, at)) => at,
            Some(Cursor::Moment(Side::After, at)) => at + 1,
            _ => focus,
        })
    }

    /// Sends a row that has a moment; the next page begins behind the last one.
    pub fn row_at(&mut self, side: Side, moment: Moment, row: &impl Serialize) -> Flow {
        if !self.wants(side) {
            return self.full(side);
        }
        let mut value = to_value(row);
        if let Value::Object(fields) = &mut value {
            let side = if side == Side::Before { "before" } else { "after" };
            fields.insert("side".into(), side.into());
        }
        let letter = if side == Side::Before { 'b' } else { 'a' };
        self.cursors[side as usize] = Some(format!("{letter}{moment}"));
        self.add(side, value)
    }

    /// Sends a row of a list in an order of its own.
    pub fn row(&mut self, row: &impl Serialize) -> Flow {
        if !self.wants(Side::After) {
            return self.full(Side::After);
        }
        let offset = match self.cursor() {
            Ok(Some(Cursor::Offset(offset))) => offset,
            _ => 0,
        };
        let sent = offset + self.sent[Side::After as usize] as u64 + 1;
        self.cursors[Side::After as usize] = Some(format!("o{sent}"));
        self.add(Side::After, to_value(row))
    }

    /// How many rows of a list in an order of its own were sent by earlier pages.
    pub fn offset(&self) -> Result<usize, Failure> {
        match self.cursor()? {
            Some(Cursor::Offset(offset)) => Ok(offset as usize),
            _ => Ok(0),
        }
    }

    fn add(&mut self, side: Side, value: Value) -> Flow {
        self.pending.push(value);
        self.sent[side as usize] += 1;
        self.matched += 1;
        if self.pending.len() >= CHUNK {
            self.flush();
        }
        Flow::More
    }

    fn full(&mut self, side: Side) -> Flow {
        let _ = side;
        self.exact = false;
        self.interrupted.get_or_insert(Ending::Rows);
        Flow::Full
    }

    pub fn progress(&mut self, checked: u64, total: u64) {
        let progress = Progress { checked, total, matched: self.matched };
        self.flush();
        self.sink.send(Answer::Progress { ask: self.request.ask, progress });
    }

    /// Sends what waits to be sent.
    pub fn flush(&mut self) {
        self.flushed = Instant::now();
        let rows = std::mem::take(&mut self.pending);
        if !rows.is_empty() {
            self.sink.send(Answer::Rows { ask: self.request.ask, rows });
        }
    }

    fn end(mut self, outcome: Result<(), Failure>, execute: f64) {
        self.flush();
        let ask = self.request.ask;
        let total = self.started.elapsed().as_secs_f64() * 1000.0;
        self.sink.send(match outcome {
            Err(error) => Answer::Failed { ask, end: "error", error },
            Ok(()) => {
                let end = self.interrupted.unwrap_or(Ending::Complete);
                let more = end != Ending::Complete;
                let [before, after] = self.cursors.map(|cursor| cursor.filter(|_| more));
                Answer::End {
                    ask,
                    end,
                    matched: self.matched.to_string(),
                    exact: self.exact && matches!(end, Ending::Complete | Ending::Rows),
                    before,
                    after,
                    times: Times { execute, total },
                }
            }
        });
    }
}

fn to_value(row: &impl Serialize) -> Value {
    serde_json::to_value(row).expect("rows have string keys")
}
