//! What happened over the whole run, coarsely: tasks, address spaces, what was mapped where.

mod mappings;
mod tasks;

use std::collections::BTreeMap;

use index::records::{CallersRecord, EventRecord, MappingRecord, blob, decode, happening};
use model::{Address, Event, Moment, Tid};
use rr_trace::Trace;
use store::Reader;

pub use mappings::{ChangeKind, Mapped, SpaceHistory};
pub use tasks::{TaskLife, TaskNumber};

use crate::failure::Failure;

/// Everything that the index tells about the run as a whole.
#[derive(Debug)]
pub struct History {
    pub tasks: Vec<TaskLife>,
    /// By the owner's number in the database.
    pub spaces: BTreeMap<u32, SpaceHistory>,
    events: Vec<EventAt>,
    /// Names of kinds of events.
    kinds: Vec<String>,
}

/// An event of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventAt {
    /// Behind the event.
    pub moment: Moment,
    pub event: Event,
    pub tid: Tid,
    /// Index into the names.
    kind: u16,
    /// Behind the event.
    pub rip: Address,
    /// rax behind the event.
    pub result: u64,
}

impl History {
    /// Reads the records of all segments: some microseconds each.
    pub fn load(trace: &Trace, reader: &Reader) -> Result<History, Failure> {
        let mut spaces = mappings::Spaces::default();
        let (mut events, mut kinds) = (Vec::new(), Vec::<String>::new());
        for number in 0..reader.leaves() {
            let leaf = reader.leaf(number)?;
            let bytes = |tag| -> Result<Vec<u8>, Failure> {
                Ok(leaf.blob(tag)?.collect::<Result<Vec<_>, _>>()?.concat())
            };
            let changes: Vec<MappingRecord> = decode(number, &bytes(blob::MAPPINGS)?)?;
            let callers: CallersRecord = decode(number, &bytes(blob::CALLERS)?)?;
            spaces.add(changes, &callers);
            for happening in leaf.happenings(Moment(0))? {
                let happening = happening?;
                if happening.kind != happening::EVENT {
                    continue;
                }
                let record: EventRecord = decode(number, &happening.payload)?;
                let known = kinds.iter().position(|kind| *kind == record.kind);
                let kind = known.unwrap_or_else(|| {
                    kinds.push(record.kind);
                    kinds.len() - 1
                });
                events.push(EventAt {
                    moment: happening.moment,
                    event: happening.event,
                    tid: record.tid,
                    kind: kind as u16,
                    rip: record.rip,
                    result: record.call[0],
                });
            }
        }
        let mut history = History { tasks: Vec::new(), spaces: spaces.finish(), events, kinds };
        history.tasks = tasks::load(trace, &history, reader.end())?;
        Ok(history)
    }

    /// All events in order.
    pub fn events(&self) -> &[EventAt] {
        &self.events
    }

    /// The name of an event's kind, as `SYSCALL 1 entering`.
    pub fn kind(&self, event: &EventAt) -> &str {
        &self.kinds[usize::from(event.kind)]
    }

    /// The moment at which an event was over; the database's end for those behind it.
    pub fn moment_of(&self, event: Event) -> Option<Moment> {
        let index = self.events.partition_point(|known| known.event < event);
        self.events.get(index).map(|known| known.moment)
    }

    /// The event that the run is at or behind at a moment.
    pub fn event_at(&self, moment: Moment) -> Event {
        let index = self.events.partition_point(|known| known.moment <= moment);
        index.checked_sub(1).map_or(Event(0), |last| self.events[last].event)
    }

    /// The task that a tid meant at a moment: tids recur.
    pub fn task(&self, tid: Tid, moment: Moment) -> Option<&TaskLife> {
        let mut of_tid = self.tasks.iter().filter(|task| task.tid == tid);
        of_tid
            .rfind(|task| task.begin <= moment)
            .or_else(|| self.tasks.iter().find(|task| task.tid == tid))
    }

    pub fn task_numbered(&self, number: TaskNumber) -> Option<&TaskLife> {
        self.tasks.get((number.0 as usize).checked_sub(1)?)
    }

    /// What was mapped at an address.
    pub fn mapped(&self, space: u32, address: Address, moment: Moment) -> Option<&Mapped> {
        self.spaces.get(&space)?.at(address, moment)
    }
}
