//! Looks a whole recording through, without replaying it.

use std::collections::BTreeMap;

use model::{Event, Tid};

use crate::pack::examine;
use crate::stream::{MMaps, Tasks};
use crate::trace::NAME_BYTES_MAX;
use crate::{DataStream, Error, Frame, MMap, MapSource, TaskEvent, TaskEventKind, Trace};

/// So many problems are listed.
const PROBLEMS_MAX: usize = 50;
/// What was found out about so many mapped files is remembered.
const FILES_MAX: usize = 4096;
/// Linux has no higher numbers of tasks (PID_MAX_LIMIT).
const TID_MAX: usize = 1 << 22;

/// What a recording holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub events: u64,
    pub task_events: u64,
    pub mappings: u64,
    /// Mappings that show files.
    pub file_mappings: u64,
    /// In memory writes, without the zeroes that are left out.
    pub memory_bytes: u64,
    /// For people; the first ones.
    pub problems: Vec<String>,
    /// How many problems are not listed.
    pub more: u64,
}

impl Checked {
    fn problem(&mut self, what: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what.into());
        } else {
            self.more += 1;
        }
    }

    /// Notes an error; `None` in its place.
    fn noted<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result
            .map_err(|error| {
                let source = std::error::Error::source(&error);
                let cause = source.map(|source| format!(": {source}")).unwrap_or_default();
                self.problem(format!("{error}{cause}"));
            })
            .ok()
    }
}

/// Reads all four streams to their ends and compares them with each other, with the header, and
/// with the files that are mapped.
///
/// Takes the time to decompress everything; memory is bounded as for every reader.
///
/// # Errors
///
/// Whatever is wrong with the recording is a problem, and no error; only what cannot be opened is.
pub fn check(trace: &Trace) -> Result<Checked, Error> {
    let mut check = Check {
        trace,
        checked: Checked::default(),
        known_tasks: vec![0; TID_MAX / 64],
        files: BTreeMap::new(),
        last: (Event(0), Event(0)),
    };
    check.header();
    check.streams()?;
    Ok(check.checked)
}

struct Check<'a> {
    trace: &'a Trace,
    checked: Checked,
    /// A bit for each number.
    known_tasks: Vec<u64>,
    /// Lengths of mapped files, by name; `None` for those that were reported.
    files: BTreeMap<Vec<u8>, Option<u64>>,
    /// Of the last mapping and of the last task record.
    last: (Event, Event),
}

impl Check<'_> {
    fn header(&mut self) {
        let header = self.trace.header();
        if !header.ok {
            self.checked.problem("the recorder failed: the end may be missing");
        }
        if header.uuid == [0; 16] {
            self.checked.problem("the header has no identity");
        }
        if header.x86.cpuid_records.is_empty() {
            self.checked.problem("the header does not say on which processor it was recorded");
        }
        if header.cpu_improperly_configured == Some(true) {
            self.checked.problem("the recording machine counted ticks unreliably");
        }
    }

    fn streams(&mut self) -> Result<(), Error> {
        let (mut mmaps, mut tasks) = (Some(self.trace.mmaps()?), Some(self.trace.tasks()?));
        let mut data = Some(self.trace.data()?);
        for frame in self.trace.frames()? {
            let Some(frame) = self.checked.noted(frame) else { break };
            self.checked.events = frame.event.0;
            if self.checked.events == 1 {
                // The only task that no other has made.
                self.learn(frame.tid);
            }
            self.tasks_until(frame.event, &mut tasks);
            self.frame(&frame);
            self.maps_until(frame.event, &mut mmaps);
            self.memory(&frame, &mut data);
        }
        let end = Event(self.checked.events);
        if self.checked.events == 0 {
            self.checked.problem("there are no events");
        }
        // Everything is read, also behind the last event.
        let (mappings, task_events) = (self.checked.mappings, self.checked.task_events);
        self.maps_until(Event(u64::MAX), &mut mmaps);
        self.tasks_until(Event(u64::MAX), &mut tasks);
        for (what, count) in [
            ("mapping records", self.checked.mappings - mappings),
            ("task records", self.checked.task_events - task_events),
        ] {
            if count > 0 {
                self.checked.problem(format!("{count} {what} behind the last event, {end}"));
            }
        }
        if let Some(data) = &mut data
            && let Some(rest) = self.checked.noted(data.drain())
            && rest > 0
        {
            let what = "bytes of recorded memory belong to no event";
            self.checked.problem(format!("data: {rest} {what}"));
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) {
        self.must_know(frame.event, frame.tid, "happens to");
        for write in &frame.writes {
            self.must_know(frame.event, write.tid, "writes memory of");
            if write.address.0.checked_add(write.length).is_none() {
                let (event, address) = (frame.event, write.address);
                self.checked.problem(format!("event {event} writes beyond memory, at {address}"));
            }
        }
    }

    fn memory(&mut self, frame: &Frame, data: &mut Option<DataStream>) {
        let Some(stream) = data else { return };
        for write in &frame.writes {
            let read = stream.read_write::<Error>(write, |_| Ok(()));
            if self.checked.noted(read).is_none() {
                *data = None;
                return;
            }
            self.checked.memory_bytes += write.payload_length();
        }
    }

    fn tasks_until(&mut self, event: Event, tasks: &mut Option<Tasks>) {
        while let Some(stream) = tasks {
            match self.checked.noted(stream.next_until(event)) {
                Some(Some(record)) => self.task(&record),
                Some(None) => return,
                None => *tasks = None,
            }
        }
    }

    fn task(&mut self, record: &TaskEvent) {
        self.checked.task_events += 1;
        if record.event < self.last.1 || record.event.0 == 0 {
            let (event, last) = (record.event, self.last.1);
            self.checked.problem(format!("tasks: a record of event {event} behind one of {last}"));
        }
        self.last.1 = record.event;
        match record.kind {
            TaskEventKind::Clone { parent, .. } => {
                self.must_know(record.event, parent, "makes a child of");
                self.learn(record.tid);
            }
            _ => self.must_know(record.event, record.tid, "is about"),
        }
    }

    fn maps_until(&mut self, event: Event, mmaps: &mut Option<MMaps>) {
        while let Some(stream) = mmaps {
            match self.checked.noted(stream.next_until(event)) {
                Some(Some(map)) => self.map(&map),
                Some(None) => return,
                None => *mmaps = None,
            }
        }
    }

    fn map(&mut self, map: &MMap) {
        self.checked.mappings += 1;
        if map.event < self.last.0 || map.event.0 == 0 {
            let (event, last) = (map.event, self.last.0);
            self.checked.problem(format!("mmaps: a record of event {event} behind one of {last}"));
        }
        self.last.0 = map.event;
        let MapSource::File { backing_name } = &map.source else { return };
        self.checked.file_mappings += 1;
        let length = match self.files.get(backing_name) {
            Some(length) => *length,
            None => {
                let length = self.file(map);
                if self.files.len() >= FILES_MAX {
                    self.files.clear();
                }
                if backing_name.len() <= NAME_BYTES_MAX {
                    self.files.insert(backing_name.clone(), length);
                }
                length
            }
        };
        let recorded = u64::try_from(map.stat.size).ok();
        if let Some(length) = length
            && recorded != Some(length)
        {
            let (event, size) = (map.event, map.stat.size);
            let name = &backing_name[..backing_name.len().min(NAME_BYTES_MAX)];
            let name = String::from_utf8_lossy(name);
            self.checked.problem(format!(
                "{name}, which event {event} maps, has {length} bytes and was recorded with {size}"
            ));
        }
    }

    /// The length of a mapped file; `None` if there is something wrong with it.
    fn file(&mut self, map: &MMap) -> Option<u64> {
        let place = self.checked.noted(examine(self.trace, map))??;
        let place = place.map_err(|problem| self.checked.problem(problem.to_string())).ok()?;
        if !place.inside && map.changes_since_recording(&place.file).contains(&"modification time")
        {
            let file = place.path.display();
            self.checked.problem(format!("{file}: has changed since it was recorded"));
            return None;
        }
        Some(place.file.len())
    }

    fn learn(&mut self, tid: Tid) {
        match usize::try_from(tid.0) {
            Ok(number) if (1..TID_MAX).contains(&number) => {
                self.known_tasks[number / 64] |= 1 << (number % 64);
            }
            _ => self.checked.problem(format!("{tid} is no number of a task")),
        }
    }

    fn must_know(&mut self, event: Event, tid: Tid, what: &str) {
        let number = usize::try_from(tid.0).unwrap_or(TID_MAX);
        let known = self.known_tasks.get(number / 64).is_some_and(|w| w >> (number % 64) & 1 != 0);
        if !known {
            self.checked.problem(format!("event {event} {what} task {tid}, which nobody made"));
            // Once is enough.
            if (1..TID_MAX).contains(&number) {
                self.learn(tid);
            }
        }
    }
}
