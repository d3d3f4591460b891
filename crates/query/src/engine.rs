//! Executing parts of the recording again, and what is kept of it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use index::Navigator;
use machine::Observers;
use model::{Address, Moment, Registers, Tid, gpr};
use replay::{Progress, Session};
use rustc_hash::FxHashMap;

use crate::accesses::Kept;
use crate::database::Database;
use crate::eval::{Arguments, LoadedModules};
use crate::failure::{Code, Failure};
use crate::heap::Heap;
use crate::history::TaskLife;
use crate::places::Places;
use crate::protocol::Focus;
use crate::questions::descriptors::Lives;
use crate::signals::Delivered;
use crate::stretch::{self, Stretch, Transfer};
use crate::system_calls;

/// Stretches that are kept, in bytes.
const KEPT_BYTES: usize = 256 << 20;
/// Leaves whose calls are kept: a leaf has some 200,000 of 32 bytes.
const KEPT_TRANSFERS: usize = 8;

/// What a session observes always.
pub const OBSERVERS: Observers = Observers {
    written_words: false,
    read_lines: false,
    executions: false,
    calls: false,
    control_flow: true,
    stores: false,
};

/// Executes parts of the recording again. There is one machine a process.
#[derive(Debug)]
pub struct Engine<'d> {
    pub db: &'d Database,
    navigator: Navigator<'d>,
    /// What was used last in front.
    stretches: VecDeque<Arc<Stretch>>,
    /// Likewise.
    transfers: VecDeque<(u64, Arc<Vec<Transfer>>)>,
    /// Where the return addresses of signal handlers lie, by the moment at which they began.
    handler_slots: FxHashMap<Moment, Address>,
    pub places: Places,
    pub values: Arc<values::Values>,
    pub loaded: LoadedModules,
    pub arguments: Arguments,
    pub accesses: Kept,
    pub heap: Heap,
    pub system_calls: system_calls::Kept,
    /// Signals of the run, when they were asked for.
    pub signals: Option<Arc<Vec<Delivered>>>,
    /// Lives of descriptors, likewise.
    pub lives: Option<Arc<Lives>>,
    /// The session is as `at` has left it.
    settled: Option<Moment>,
    executed: Duration,
}

/// A moment and the task that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Here {
    pub moment: Moment,
    pub tid: Tid,
    /// Its number among tasks.
    pub task: u32,
}

impl<'d> Engine<'d> {
    pub fn new(db: &'d Database) -> Engine<'d> {
        Engine {
            db,
            navigator: Navigator::new(&db.reader, &db.trace),
            stretches: VecDeque::new(),
            transfers: VecDeque::new(),
            handler_slots: FxHashMap::default(),
            places: Places::default(),
            values: Arc::default(),
            loaded: LoadedModules::default(),
            arguments: Arguments::default(),
            accesses: Kept::default(),
            heap: Heap::default(),
            system_calls: system_calls::Kept::default(),
            signals: None,
            lives: None,
            settled: None,
            executed: Duration::ZERO,
        }
    }

    /// Time spent executing and restoring so far.
    pub fn executed(&self) -> Duration {
        self.executed
    }

    /// The session at a moment. System calls that the last instruction made are over; signals
    /// that arrive there, ends of tasks and programs are still to come.
    pub fn at(&mut self, moment: Moment) -> Result<&mut Session, Failure> {
        if self.settled != Some(moment) {
            let started = Instant::now();
            self.settled = None;
            let session = self.navigator.moment(moment)?;
            settle(session, moment)?;
            prepare(session)?;
            // The logs of what was passed on the way are nobody's.
            session.take_observed(Vec::new())?;
            self.executed += started.elapsed();
            self.settled = Some(moment);
        }
        let session = self.navigator.session();
        session.ok_or_else(|| Failure::new(Code::Database, "the session is gone"))
    }

    /// Pieces of a leaf up to a moment, what happens at it included, in order of time: going to
    /// the beginning of each is quick.
    pub fn pieces(&mut self, leaf: u64, moment: Moment) -> Result<Vec<Range<Moment>>, Failure> {
        self.settled = None;
        let reader = &self.db.reader;
        let last = leaf + 1 == reader.leaves();
        // What happens at a border happens in the leaf behind it.
        let end = if last { moment + 1 } else { reader.span(leaf)?.end.min(moment + 1) };
        let starts = self.navigator.rungs(leaf, moment)?;
        let ends = starts.iter().skip(1).copied().chain([end]);
        Ok(starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect())
    }

    /// The session at the beginning of a piece, in front of events there, observing.
    pub fn piece(&mut self, start: Moment) -> Result<&mut Session, Failure> {
        let started = Instant::now();
        self.settled = None;
        let leaf = self.leaf_at(start)?;
        let session = match self.db.reader.span(leaf)?.start == start {
            true => self.navigator.border(leaf)?,
            false => self.navigator.moment(start)?,
        };
        prepare(session)?;
        session.take_observed(Vec::new())?;
        self.executed += started.elapsed();
        Ok(session)
    }

    /// The session at the beginning of a leaf, observing.
    pub fn border(&mut self, leaf: u64) -> Result<&mut Session, Failure> {
        let started = Instant::now();
        self.settled = None;
        let session = self.navigator.border(leaf)?;
        prepare(session)?;
        self.executed += started.elapsed();
        Ok(session)
    }

    /// The control flow of a leaf.
    pub fn stretch(&mut self, leaf: u64) -> Result<Arc<Stretch>, Failure> {
        if let Some(index) = self.stretches.iter().position(|stretch| stretch.leaf == leaf) {
            if let Some(found) = self.stretches.remove(index) {
                self.stretches.push_front(found);
            }
            return Ok(Arc::clone(&self.stretches[0]));
        }
        let started = Instant::now();
        let made = Arc::new(stretch::load(self, leaf)?);
        self.executed += started.elapsed();
        self.stretches.push_front(Arc::clone(&made));
        let mut total = 0;
        self.stretches.retain(|stretch| {
            total += stretch.bytes();
            total <= KEPT_BYTES || stretch.leaf == leaf
        });
        Ok(made)
    }

    /// What changes call stacks in a leaf.
    pub fn transfers(&mut self, leaf: u64) -> Result<Arc<Vec<Transfer>>, Failure> {
        if let Some((_, found)) = self.transfers.iter().find(|(known, _)| *known == leaf) {
            return Ok(Arc::clone(found));
        }
        let made = Arc::new(stretch::transfers(self.db, leaf)?);
        self.transfers.push_front((leaf, Arc::clone(&made)));
        self.transfers.truncate(KEPT_TRANSFERS);
        Ok(made)
    }

    /// Where the return address of a signal handler lies that began at a moment.
    pub fn handler_slot(&mut self, tid: Tid, moment: Moment) -> Result<Address, Failure> {
        if let Some(slot) = self.handler_slots.get(&moment) {
            return Ok(*slot);
        }
        self.at(moment)?;
        let started = Instant::now();
        // Behind the signal, where `at` never is.
        self.settled = None;
        let session = self.navigator.session();
        let session = session.ok_or_else(|| Failure::new(Code::Database, "the session is gone"))?;
        let registers = begin_handler(session, tid, moment)?;
        self.executed += started.elapsed();
        let slot = Address(registers.general[gpr::RSP]);
        self.handler_slots.insert(moment, slot);
        Ok(slot)
    }

    /// The leaf that has the instruction behind a moment; the last one at the end.
    pub fn leaf_at(&self, moment: Moment) -> Result<u64, Failure> {
        let reader = &self.db.reader;
        Ok(reader.leaf_at(moment)?.unwrap_or(reader.leaves().saturating_sub(1)))
    }

    /// Where a question is asked: absent parts of the focus are those of the place to start.
    pub fn here(&self, focus: &Focus) -> Result<Here, Failure> {
        let end = self.db.reader.end();
        let moment = focus.moment.map_or(end, |moment| moment.0);
        if moment > end {
            let what = format!("moment {moment} is behind the end of the database at {end}");
            return Err(Failure::new(Code::NotYet, what));
        }
        let tasks = &self.db.history.tasks;
        let task = match focus.task {
            Some(number) => tasks.get((number as usize).wrapping_sub(1)).ok_or_else(|| {
                let what = format!("there is no task {number}, only 1 to {}", tasks.len());
                Failure::new(Code::NoSuchTask, what)
            })?,
            None => self
                .running(moment)
                .ok_or_else(|| Failure::new(Code::NoSuchTask, "the recording has no task"))?,
        };
        Ok(Here { moment, tid: task.tid, task: task.number.0 })
    }

    /// The task that runs at a moment.
    pub fn running(&self, moment: Moment) -> Option<&'d TaskLife> {
        let history = &self.db.history;
        let events = history.events();
        let next = events.partition_point(|event| event.moment <= moment);
        let event = events.get(next).or_else(|| events.last())?;
        history.task(event.tid, moment).or_else(|| history.tasks.first())
    }
}

/// Passes over the events at a moment up to the beginning of a signal handler, and returns the
/// registers with which it begins. What raises the signal may be an instruction that does not
/// retire.
fn begin_handler(session: &mut Session, tid: Tid, moment: Moment) -> Result<Registers, Failure> {
    while let Progress::Event(report) = session.advance(Some(moment + 1))? {
        if report.moment > moment {
            break;
        }
        if report.tid == tid && report.kind.starts_with("SIGNAL_HANDLER") {
            return Ok(session.registers(tid).unwrap_or_default());
        }
    }
    let what = format!("no signal handler of task {tid} begins at moment {moment}");
    Err(Failure::new(Code::Database, what))
}

/// Has all code translated in one way, whatever is asked: another would drop all translations.
fn prepare(session: &mut Session) -> Result<(), Failure> {
    if !session.is_observing(OBSERVERS) {
        session.observe(OBSERVERS)?;
    }
    Ok(session.expect_watches()?)
}

/// Passes over the events at a moment that need no instruction and leave tasks where they are.
fn settle(session: &mut Session, moment: Moment) -> Result<(), Failure> {
    loop {
        let Some((_, kind)) = session.next_event()? else { return Ok(()) };
        let leaves = kind.starts_with("SIGNAL") || kind == "EXIT" || is_exec(&kind);
        if leaves || !matches!(session.advance(Some(moment))?, Progress::Event(_)) {
            return Ok(());
        }
    }
}

/// Whether a task begins another program with this event, should it succeed.
fn is_exec(kind: &str) -> bool {
    matches!(kind, "SYSCALL 59 exiting" | "SYSCALL 322 exiting")
}
