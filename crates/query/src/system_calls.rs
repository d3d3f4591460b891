//! System calls of the program, from the events of the recording and from what the build found in
//! the preload library's buffers.
//!
//! A call that the recorder saw has two events: it begins at the one and is over at the other. A
//! buffered call has none; the database tells of it at the library's stub. What the recorder and
//! its library ask the kernel for themselves is left out.

pub mod decode;
mod errors;
pub mod flags;
mod in_program;
pub mod memory;
mod signatures;

use std::collections::VecDeque;
use std::sync::Arc;

use index::records::{BufferedCallRecord, EventRecord, decode as record, happening};
use model::{Address, Event, Moment, Tid};

use crate::database::Database;
use crate::engine::Engine;
use crate::failure::{Code, Failure};
use crate::history::History;

pub use in_program::{Around, around, left_program};
pub use signatures::{Kind, Signature, signature};

/// Where the recorder puts its stubs.
const STUBS: std::ops::Range<u64> = 0x7000_0000..0x7000_1000;
/// Behind the stubs of calls that the preload library makes for itself.
const PRIVILEGED: [Address; 2] = [Address(0x7000_0005), Address(0x7000_0017)];
/// restart_syscall(2): the kernel goes on with a call that a signal interrupted.
const RESTART: i32 = 219;
/// Calls that are kept, of all leaves together.
const KEPT_MAX: usize = 1 << 18;

/// A system call when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// Behind the instruction that made it; at the library's stub if it was buffered.
    pub moment: Moment,
    /// At which it begins; for a buffered call the one that has its result.
    pub event: Event,
    pub tid: Tid,
    pub number: i32,
    /// As the kernel got them; see [`SystemCall::is_in_library`].
    pub arguments: [u64; 6],
    /// Behind the instruction.
    rip: Address,
    /// Of a buffered call.
    buffered: Option<i64>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When it was over. What it left in memory may come later, if the library made it.
    pub moment: Moment,
    pub result: i64,
}

impl SystemCall {
    /// Whether the recorder's library made it for the program: its arguments may be the library's.
    pub fn is_in_library(&self) -> bool {
        self.buffered.is_some() || STUBS.contains(&self.rip.0)
    }

    pub fn is_buffered(&self) -> bool {
        self.buffered.is_some()
    }

    /// The moment at which its arguments are in place, and nothing has happened yet.
    pub fn before(&self) -> Moment {
        match self.buffered {
            Some(_) => self.moment,
            None => Moment(self.moment.0.saturating_sub(1)),
        }
    }

    /// How it ended, if it did.
    pub fn outcome(&self, history: &History) -> Option<Outcome> {
        if let Some(result) = self.buffered {
            return Some(Outcome { moment: self.moment, result });
        }
        let events = history.events();
        let first = events.partition_point(|event| event.event <= self.event);
        for event in events[first..].iter().filter(|event| event.tid == self.tid) {
            let kind = history.kind(event);
            if let Some(number) = numbered(kind, " exiting") {
                let own = number == self.number || number == RESTART || self.number == RESTART;
                let result = event.result as i64;
                return own.then_some(Outcome { moment: event.moment, result });
            }
            if numbered(kind, " entering").is_some() || kind == "EXIT" {
                return None;
            }
        }
        None
    }
}

/// The number in an event's kind, as `SYSCALL 1 entering`.
fn numbered(kind: &str, state: &str) -> Option<i32> {
    kind.strip_prefix("SYSCALL ")?.strip_suffix(state)?.parse().ok()
}

/// Calls of leaves that were asked for, the last one in front.
#[derive(Debug, Default)]
pub struct Kept(VecDeque<(u64, Arc<Vec<SystemCall>>)>);

/// All calls that begin in a leaf, in order of time.
///
/// # Errors
///
/// [`Code::NotYet`] for a database that does not have buffered calls, of a recording that may.
pub fn in_leaf(engine: &mut Engine<'_>, leaf: u64) -> Result<Arc<Vec<SystemCall>>, Failure> {
    let kept = &mut engine.system_calls.0;
    if let Some(at) = kept.iter().position(|(known, _)| *known == leaf)
        && let Some(found) = kept.remove(at)
    {
        let calls = Arc::clone(&found.1);
        kept.push_front(found);
        return Ok(calls);
    }
    let calls = Arc::new(read(engine.db, leaf)?);
    let kept = &mut engine.system_calls.0;
    kept.push_front((leaf, Arc::clone(&calls)));
    let mut total = 0;
    kept.retain(|(known, calls)| {
        total += calls.len() + 1;
        total <= KEPT_MAX || *known == leaf
    });
    Ok(calls)
}

/// Refuses databases that would leave calls out.
pub fn require(db: &Database) -> Result<(), Failure> {
    if index::has_buffered_calls(&db.reader.manifest()) {
        return Ok(());
    }
    let history = &db.history;
    let buffered = |event| history.kind(event) == "SYSCALLBUF_FLUSH";
    if !history.events().iter().any(buffered) {
        return Ok(());
    }
    let what = "the database is of an earlier version, which did not keep buffered system calls";
    let recording = db.trace.directory().display();
    Err(Failure::new(Code::NotYet, what)
        .hint(format!("remove it and run `pernosco build {recording}`")))
}

fn read(db: &Database, leaf: u64) -> Result<Vec<SystemCall>, Failure> {
    let recorder = db.trace.header().rrcall_base;
    let start = start(&db.history);
    let mut calls = Vec::new();
    for found in db.reader.leaf(leaf)?.happenings(Moment(0))? {
        let found = found?;
        let call = match found.kind {
            happening::EVENT => {
                let event: EventRecord = record(leaf, &found.payload)?;
                let Some(number) = numbered(&event.kind, " entering") else { continue };
                let [_, arguments @ ..] = event.call;
                let (tid, rip) = (event.tid, event.rip);
                let (moment, event) = (found.moment, found.event);
                SystemCall { moment, event, tid, number, arguments, rip, buffered: None }
            }
            happening::BUFFERED_CALL => {
                let call: BufferedCallRecord = record(leaf, &found.payload)?;
                let BufferedCallRecord { tid, number, arguments, result } = call;
                let (moment, event) = (found.moment, found.event);
                let (rip, buffered) = (Address(0), Some(result));
                SystemCall { moment, event, tid, number, arguments, rip, buffered }
            }
            _ => continue,
        };
        let own = PRIVILEGED.contains(&call.rip) || (recorder > 0 && call.number >= recorder);
        if call.event > start && !own {
            calls.push(call);
        }
    }
    Ok(calls)
}

/// The first successful exec: what comes before is the recorder's doing.
fn start(history: &History) -> Event {
    let exec = |kind: &str| matches!(kind, "SYSCALL 59 exiting" | "SYSCALL 322 exiting");
    let events = history.events().iter();
    let mut execs = events.filter(|event| exec(history.kind(event)) && event.result == 0);
    execs.next().map_or(Event(0), |event| event.event)
}
