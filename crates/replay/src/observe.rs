//! What a replay observes on the way, attributed to tasks, memory and moments.
//!
//! The machine sees addresses; here they become memory of the recording: a page of an address
//! space, or of an object that several share, so that a write is found through any alias. What
//! the recorder keeps in the program's memory for itself is left out.

use std::collections::BTreeMap;
use std::ops::Range;

use machine::{
    Backing, ControlFlow, Observers, PageMarks, Protection, SharedObject, Space, WrittenWords,
};
use model::{Address, Call, Event, Moment, PAGE_SIZE, Tid};

use crate::problem::Result;
use crate::rr_page::{RR_PAGE, THREAD_LOCALS_PAGE};
use crate::session::Session;
use crate::task::SpaceId;

/// Memory of the recording: an address space or a shared object; a number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryId(pub u32);

/// A page of an address space by its address, of a shared object by its offset; in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId {
    pub memory: MemoryId,
    pub page: u64,
}

/// Calls and returns of one task without those of another between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRun {
    pub tid: Tid,
    pub space: MemoryId,
    /// How many of [`Observed::calls`] there are up to the last of these.
    pub end: usize,
}

/// Instructions of one task, from one stop of the machine to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRun {
    pub tid: Tid,
    pub space: MemoryId,
    /// Before the first instruction, and its address.
    pub moment: Moment,
    pub address: Address,
    /// So many retired.
    pub instructions: u64,
    /// How many outcomes of conditional branches, and how many indirect targets, there are in
    /// [`Observed::flow`] up to the last of these.
    pub taken: usize,
    pub targets: usize,
}

/// How often the instructions in a run of bytes were executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executions {
    pub space: MemoryId,
    pub range: Range<Address>,
    pub count: u64,
}

/// A change of what is mapped where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingChange {
    pub moment: Moment,
    pub space: MemoryId,
    /// Whose doing it was; `None` where a process began or ended.
    pub tid: Option<Tid>,
    pub range: Range<Address>,
    pub kind: MappingChangeKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingChangeKind {
    /// In place of whatever was there. `shared` is where the range begins in shared memory;
    /// `name` is that of the file, with the range's offset in bytes.
    Mapped {
        protection: Protection,
        shared: Option<PageId>,
        name: Vec<u8>,
        offset: u64,
    },
    Unmapped,
    Protected {
        protection: Protection,
    },
    /// With its contents, from a range of the same length where there is nothing now.
    MovedHere {
        from: Address,
    },
    /// Private pages are as when mapped.
    Discarded,
}

/// A task in a copy of its parent's address space came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    pub moment: Moment,
    pub parent: Tid,
    pub child: Tid,
    pub from: MemoryId,
    pub space: MemoryId,
    /// How many forks ago an ancestor of the space was made by an exec, or was the first.
    pub generation: u32,
}

/// A system call that has no frame: its result was in the preload library's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferedCall {
    /// At the library's stub: all that the program did before is done.
    pub moment: Moment,
    /// The event that is being replayed, which has the call's result.
    pub event: Event,
    pub tid: Tid,
    /// As the program made it.
    pub number: i32,
    pub arguments: [u64; 6],
    pub result: i64,
}

/// What happened since the last time that somebody asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// In order of time.
    pub calls: Vec<Call>,
    /// Whose calls they are.
    pub call_runs: Vec<CallRun>,
    /// Of all runs, in order of time.
    pub flow: ControlFlow,
    /// In order of time; instructions that the replay carries out itself are runs of their own.
    pub flow_runs: Vec<FlowRun>,
    /// In order of address space and address; ranges do not overlap.
    pub executions: Vec<Executions>,
    /// Words that may have been written, by instructions and by recorded effects.
    pub written: BTreeMap<PageId, WrittenWords>,
    /// Lines of 64 bytes that were read, those read through the stack pointer left out.
    pub read: BTreeMap<PageId, u64>,
    /// In order of time.
    pub mappings: Vec<MappingChange>,
    /// In order of time.
    pub forks: Vec<Fork>,
    /// Address spaces that are not there any more.
    pub ended: Vec<MemoryId>,
    /// In order of time.
    pub buffered_calls: Vec<BufferedCall>,
}

/// What a session has observed so far.
#[derive(Debug, Default)]
pub struct Observing {
    observers: Observers,
    call_runs: Vec<CallRun>,
    flow_runs: Vec<FlowRun>,
    /// Changes of execution counts at an address against the byte before.
    executions: Vec<(MemoryId, Address, i64)>,
    /// Whose executions the machine is counting.
    counted: Option<SpaceId>,
    written: BTreeMap<PageId, WrittenWords>,
    read: BTreeMap<PageId, u64>,
    mappings: Vec<MappingChange>,
    pub forks: Vec<Fork>,
    pub ended: Vec<MemoryId>,
    buffered_calls: Vec<BufferedCall>,
}

impl Observing {
    pub fn is_on(&self) -> bool {
        self.observers != Observers::default()
    }

    fn marks(&self) -> bool {
        self.observers.written_words || self.observers.read_lines
    }

    pub fn note_mapping(&mut self, change: MappingChange) {
        self.mappings.push(change);
    }

    pub fn note_buffered_call(&mut self, call: BufferedCall) {
        if self.is_on() {
            self.buffered_calls.push(call);
        }
    }
}

impl Session {
    /// Changes what is observed from now on: calls, control flow, executions, written words, read
    /// lines. Other observers of the machine are not for sessions.
    pub fn observe(&mut self, observers: Observers) -> std::result::Result<(), crate::Error> {
        self.machine.set_observers(observers).map_err(|error| self.error_here(error.into()))?;
        self.observing.observers = observers;
        // The recording may write to spaces before they run.
        for space in self.spaces.values_mut() {
            let marked = self.machine.mark_from_now(&mut space.space);
            if let Err(error) = marked {
                return Err(self.error_here(error.into()));
            }
        }
        Ok(())
    }

    pub fn is_observing(&self, observers: Observers) -> bool {
        self.observing.observers == observers
    }

    /// What was observed since the last time. The memory of `spare` takes the next calls.
    pub fn take_observed(
        &mut self,
        spare: Vec<Call>,
    ) -> std::result::Result<Observed, crate::Error> {
        self.collect_all().map_err(|problem| self.error_here(problem))?;
        let observing = &mut self.observing;
        Ok(Observed {
            calls: self.machine.take_calls_into(spare),
            call_runs: std::mem::take(&mut observing.call_runs),
            flow: self.machine.take_control_flow(),
            flow_runs: std::mem::take(&mut observing.flow_runs),
            executions: runs(std::mem::take(&mut observing.executions)),
            written: std::mem::take(&mut observing.written),
            read: std::mem::take(&mut observing.read),
            mappings: std::mem::take(&mut observing.mappings),
            forks: std::mem::take(&mut observing.forks),
            ended: std::mem::take(&mut observing.ended),
            buffered_calls: std::mem::take(&mut observing.buffered_calls),
        })
    }

    /// What was observed was of another time.
    pub(crate) fn forget_observed(&mut self) -> Result<()> {
        if self.observing.is_on() {
            self.collect_all()?;
            self.machine.take_calls();
            self.machine.take_control_flow();
            let observers = self.observing.observers;
            self.observing = Observing { observers, ..Observing::default() };
        }
        Ok(())
    }

    fn collect_all(&mut self) -> Result<()> {
        self.collect_executions();
        let ids: Vec<SpaceId> = self.spaces.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.collect_marks(id))
    }

    /// Before a task runs in the machine: executions until now were those of another space.
    pub(crate) fn begin_observing(&mut self, id: SpaceId) {
        if self.observing.observers.executions && self.observing.counted != Some(id) {
            self.collect_executions();
            self.observing.counted = Some(id);
        }
    }

    /// Behind a run: whatever was called was called by this task.
    pub(crate) fn note_caller(&mut self, tid: Tid, id: SpaceId) {
        let (end, space) = (self.machine.calls(), MemoryId(id.0));
        let runs = &mut self.observing.call_runs;
        let known = runs.last().map_or(0, |run| run.end);
        match runs.last_mut() {
            Some(run) if (run.tid, run.space) == (tid, space) => run.end = end,
            _ if known < end => runs.push(CallRun { tid, space, end }),
            _ => {}
        }
    }

    /// Behind a run, and before the moment goes on.
    pub(crate) fn note_flow(&mut self, tid: Tid, id: SpaceId, address: Address, instructions: u64) {
        if self.observing.observers.control_flow && instructions > 0 {
            let (taken, targets) = self.machine.control_flow_lengths();
            let (space, moment) = (MemoryId(id.0), self.moment);
            let run = FlowRun { tid, space, moment, address, instructions, taken, targets };
            self.observing.flow_runs.push(run);
        }
    }

    fn collect_executions(&mut self) {
        let Some(SpaceId(id)) = self.observing.counted.take() else { return };
        let memory = MemoryId(id);
        for (range, count) in self.machine.take_executions() {
            let count = count as i64;
            self.observing.executions.push((memory, range.start, count));
            self.observing.executions.push((memory, range.end, -count));
        }
    }

    /// Takes over what was marked in a space, while its mappings say what is where: before the
    /// space goes.
    pub(crate) fn collect_marks(&mut self, id: SpaceId) -> Result<()> {
        if !self.observing.marks() {
            return Ok(());
        }
        let Some(space) = self.spaces.get_mut(&id) else { return Ok(()) };
        let (written, read) = (space.space.take_written()?, space.space.take_read()?);
        self.add_marks(id, PageMarks { written, read });
        Ok(())
    }

    /// A mapping call is about to change a range: what lies there will not be known any more.
    pub(crate) fn before_remapping(&mut self, id: SpaceId, range: &Range<Address>) -> Result<()> {
        if !self.observing.marks() || range.is_empty() {
            return Ok(());
        }
        let Some(space) = self.spaces.get_mut(&id) else { return Ok(()) };
        let marks = space.space.take_marks_in(range)?;
        self.add_marks(id, marks);
        Ok(())
    }

    fn add_marks(&mut self, id: SpaceId, PageMarks { written, read }: PageMarks) {
        if written.is_empty() && read.is_empty() {
            return;
        }
        let hidden = self.recorder_areas(id);
        let Some(space) = self.spaces.get(&id) else { return };
        let is_hidden = |page: Address| hidden.iter().any(|area| area.contains(&page));
        for (page, words) in written {
            if !is_hidden(page) {
                let page = page_id(id, &space.space, page);
                let sums = self.observing.written.entry(page).or_default();
                sums.iter_mut().zip(words).for_each(|(sum, words)| *sum |= words);
            }
        }
        for (page, lines) in read {
            if !is_hidden(page) {
                let page = page_id(id, &space.space, page);
                *self.observing.read.entry(page).or_default() |= lines;
            }
        }
    }

    /// Where rr keeps things of its own in a space: its pages, and each task's areas.
    fn recorder_areas(&self, id: SpaceId) -> Vec<Range<Address>> {
        let tasks = self.tasks.values().filter(|task| task.space == id);
        let areas = tasks.flat_map(|task| task.scratch.iter().chain(&task.syscall_buffer));
        let pages = [RR_PAGE, THREAD_LOCALS_PAGE].map(|page| page.range(PAGE_SIZE));
        areas.cloned().chain(pages).collect()
    }
}

/// What lies at a page of a space now.
fn page_id(id: SpaceId, space: &Space, page: Address) -> PageId {
    match space.mapping_at(page).map(|mapping| (&mapping.backing, mapping.range.start)) {
        Some((Backing::Shared { object, offset }, start)) => {
            page_of_object(object, offset + (page - start))
        }
        _ => PageId { memory: MemoryId(id.0), page: page.0 / PAGE_SIZE },
    }
}

fn page_of_object(object: &SharedObject, offset: u64) -> PageId {
    PageId { memory: MemoryId(object.number()), page: offset / PAGE_SIZE }
}

/// Adds changes of counts up.
fn runs(mut changes: Vec<(MemoryId, Address, i64)>) -> Vec<Executions> {
    changes.sort_unstable();
    let mut runs: Vec<Executions> = Vec::new();
    let mut count = 0_i64;
    for pair in 0..changes.len() {
        let (space, from, change) = changes[pair];
        count += change;
        let Some(&(next_space, to, _)) = changes.get(pair + 1) else { break };
        if count == 0 || from == to || space != next_space {
            continue;
        }
        let joins = runs.last_mut().filter(|last| {
            last.space == space && last.range.end == from && last.count == count as u64
        });
        match joins {
            Some(last) => last.range.end = to,
            None => runs.push(Executions { space, range: from..to, count: count as u64 }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_several_drains_add_up() {
        let change = |address, count| (MemoryId(1), Address(address), count);
        let changes = vec![
            change(10, 3),
            change(20, -3),
            change(15, 1),
            change(30, -1),
            (MemoryId(2), Address(5), 7),
            (MemoryId(2), Address(6), -7),
        ];
        let found: Vec<_> = runs(changes)
            .into_iter()
            .map(|run| (run.space.0, run.range.start.0, run.range.end.0, run.count))
            .collect();
        assert_eq!(found, [(1, 10, 15, 3), (1, 15, 20, 4), (1, 20, 30, 1), (2, 5, 6, 7)]);
    }

    #[test]
    fn equal_neighbours_are_one_run() {
        let change = |address, count| (MemoryId(1), Address(address), count);
        let found = runs(vec![change(10, 3), change(20, -3), change(20, 3), change(30, -3)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].range, Address(10)..Address(30));
    }
}
