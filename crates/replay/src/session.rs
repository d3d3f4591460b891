//! A replay in progress: its state, and the loop that goes from event to event.

use std::collections::{BTreeMap, BTreeSet};

use machine::{Cpu, Machine};
use model::{Address, Event, Moment, Registers, Ticks, Tid};
use rr_trace::{Header, Trace};

use crate::address_space::AddressSpace;
use crate::descriptors::{DescriptorObserver, Descriptors};
use crate::divergence::{Divergence, disassemble_blocks};
use crate::maps::BackingFiles;
use crate::observe::{MemoryId, Observing};
use crate::preload::Sizes;
use crate::problem::{Problem, Result};
use crate::processor::{Processor, VectorRegisters};
use crate::registers::all_pairs;
use crate::shared_files::SharedFiles;
use crate::source::{Current, Source};
use crate::stops::{Stop, StopReason, Stopping};
use crate::task::{SpaceId, Task, ThreadGroup};
use crate::ticks::TickRules;
use crate::{Error, TickRule, rr_page};

/// How to replay.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The state images are those of the recording's processor, whatever this says.
    pub machine: machine::Options,
    /// How the recording's ticks were counted, if that is known; otherwise it is found out.
    pub tick_rule: Option<TickRule>,
}

/// An event that has been replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct EventReport {
    pub event: Event,
    /// Kind of the event, as `SYSCALL 1 entering`.
    pub kind: String,
    pub tid: Tid,
    /// The task's ticks as recorded.
    pub ticks: Ticks,
    /// After the event.
    pub moment: Moment,
    /// Stack pointer or flags that were not as recorded: rr itself does not compare them.
    pub warnings: Vec<crate::RegisterPair>,
}

/// Why [`Session::advance`] came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    Event(EventReport),
    /// The moment is reached. If instructions were executed, there may be events that need none.
    Moment,
    /// At one of [`Session::set_stops`].
    Stop(Stop),
    /// There are no more events.
    End,
    /// The recording's ticks may have been counted in another way: the session is at its
    /// beginning again, and follows [`Session::tick_rule`]. Whatever has been seen of the replay
    /// and its checkpoints are void. Happens once at most, and never when [`Options`] say the rule.
    Restarted,
}

/// How far an event was replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    Complete,
    /// An instruction is needed, and the moment that was asked for is now.
    Moment,
    Stop(StopReason),
}

/// The replay of one recording, from its beginning. Only one can exist in a process at a time,
/// as of [`Machine`].
#[derive(Debug)]
pub struct Session {
    pub(crate) machine: Machine,
    pub(crate) source: Source,
    pub(crate) processor: Processor,
    pub(crate) rules: Rules,
    pub(crate) tasks: BTreeMap<Tid, Task>,
    pub(crate) groups: BTreeMap<Tid, ThreadGroup>,
    pub(crate) spaces: BTreeMap<SpaceId, AddressSpace>,
    pub(crate) descriptors: Descriptors,
    pub(crate) observer: Option<Box<dyn DescriptorObserver>>,
    pub(crate) shared: SharedFiles,
    pub(crate) backing: BackingFiles,
    /// The address space that each dead task had: recorded writes may still go there.
    pub(crate) former_spaces: BTreeMap<Tid, SpaceId>,
    /// Ticks of dead tasks.
    pub(crate) former_ticks: u64,
    pub(crate) moment: Moment,
    /// Whether the traced program has begun: before its exec there is nothing to replay.
    pub(crate) started: bool,
    pub(crate) last_task: Option<Tid>,
    pub(crate) ticks: TickRules,
    pub(crate) hooks: BTreeSet<Address>,
    pub(crate) warnings: Vec<crate::RegisterPair>,
    pub(crate) tasks_created: u32,
    pub(crate) next_id: u32,
    pub(crate) observing: Observing,
    pub(crate) stopping: Stopping,
    pub(crate) current: Option<Current>,
    pub(crate) last_event: Event,
    /// At the end of the recording, or behind an error.
    pub(crate) ended: bool,
}

/// What the header says about the recorder's behaviour.
#[derive(Clone, Debug)]
pub struct Rules {
    pub rrcall_base: i32,
    pub sizes: Sizes,
    pub flag_in_globals: bool,
    pub writes_process_memory: bool,
    pub forced_tick: bool,
    pub pkey_alloc_has_extra_registers: bool,
    pub clear_fip_fdp: bool,
}

impl Rules {
    fn new(header: &Header) -> Rules {
        Rules {
            rrcall_base: header.rrcall_base,
            sizes: Sizes {
                buffer_header: u64::from(header.syscallbuf_header_size),
                descriptor_classes: u64::from(header.syscallbuf_fds_disabled_size),
            },
            flag_in_globals: header.quirks.uses_globals_in_replay,
            writes_process_memory: !header.quirks.explicit_proc_mem,
            forced_tick: header.quirks.buffered_syscall_forced_tick,
            pkey_alloc_has_extra_registers: header.quirks.pkey_alloc_recorded_extra_regs,
            clear_fip_fdp: header.x86.clear_fip_fdp,
        }
    }

    /// Number of one of rr's own calls.
    pub fn rrcall(&self, number: i32) -> i32 {
        self.rrcall_base.wrapping_add(number)
    }
}

impl Session {
    pub fn open(trace: &Trace, options: Options) -> std::result::Result<Session, Error> {
        let header = trace.header();
        let processor = Processor::new(header);
        let of_machine = machine::Options { images: processor.images(), ..options.machine };
        let machine = Machine::new(of_machine).map_err(Error::Start)?;
        tracing::debug!(recording = %trace.directory().display(), "opened");
        let mut session = Session {
            machine,
            source: Source::open(trace)?,
            processor,
            rules: Rules::new(header),
            tasks: BTreeMap::new(),
            groups: BTreeMap::new(),
            spaces: BTreeMap::new(),
            descriptors: Descriptors::default(),
            observer: None,
            shared: SharedFiles::default(),
            backing: BackingFiles::default(),
            former_spaces: BTreeMap::new(),
            former_ticks: 0,
            moment: Moment(0),
            started: false,
            last_task: None,
            ticks: TickRules::new(options.tick_rule),
            hooks: BTreeSet::new(),
            warnings: Vec::new(),
            tasks_created: 1,
            next_id: 0,
            observing: Observing::default(),
            stopping: Stopping::default(),
            current: None,
            last_event: Event(0),
            ended: false,
        };
        session.hook(rr_page::UNTRACED_RECORD_ONLY);
        session.hook(rr_page::PRIVILEGED_RECORD_ONLY);
        session.begin_ticks().map_err(|problem| session.error_here(problem))?;
        Ok(session)
    }

    /// Nothing follows: the recording has been replayed to its end, or an error has come.
    pub fn is_over(&self) -> bool {
        self.ended
    }

    /// Goes on to the end of the next event, but executes no instruction behind `until`, and
    /// comes back as soon as the last one before it has been executed.
    ///
    /// With `until` being the present moment, only events are replayed that need no instruction.
    pub fn advance(&mut self, until: Option<Moment>) -> std::result::Result<Progress, Error> {
        if self.ended {
            return Ok(Progress::End);
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => match self.source.next() {
                Ok(Some(current)) => current,
                Ok(None) => {
                    self.ended = true;
                    let ended = self.source.check_end();
                    let tid = self.last_task.unwrap_or_default();
                    return match ended {
                        Ok(()) => Ok(Progress::End),
                        Err(problem) => Err(self.error(problem, self.last_event, tid, None)),
                    };
                }
                Err(problem) => {
                    self.ended = true;
                    let event = Event(self.last_event.0 + 1);
                    return Err(self.error(problem, event, Tid::default(), None));
                }
            },
        };
        match self.replay(&mut current, until) {
            Ok(Replayed::Complete) => {
                self.last_event = current.frame.event;
                self.ticks_confirmed(current.frame.event);
                Ok(Progress::Event(EventReport {
                    event: current.frame.event,
                    kind: current.kind_name(),
                    tid: current.frame.tid,
                    ticks: current.frame.ticks,
                    moment: self.moment,
                    warnings: std::mem::take(&mut self.warnings),
                }))
            }
            Ok(Replayed::Moment) => {
                self.current = Some(current);
                Ok(Progress::Moment)
            }
            Ok(Replayed::Stop(reason)) => {
                let (tid, moment) = (current.frame.tid, self.moment);
                self.current = Some(current);
                Ok(Progress::Stop(Stop { tid, moment, reason }))
            }
            Err(problem) => {
                self.ended = true;
                let (event, tid) = (current.frame.event, current.frame.tid);
                let error = self.error(problem, event, tid, Some(&current));
                self.try_other_ticks(event, error).map(|()| Progress::Restarted)
            }
        }
    }

    /// Replays the next event; `None` at the end of the recording. After
    /// [`Progress::Restarted`] it is the event behind the last one all the same.
    pub fn step_event(&mut self) -> std::result::Result<Option<EventReport>, Error> {
        let last = self.last_event;
        loop {
            match self.advance(None)? {
                Progress::Event(report) if report.event > last => return Ok(Some(report)),
                Progress::Event(_) | Progress::Restarted | Progress::Stop(_) => {}
                Progress::End => return Ok(None),
                Progress::Moment => unreachable!("no moment was asked for"),
            }
        }
    }

    /// The event that is next, or in progress: its task, and its kind as in [`EventReport`].
    pub fn next_event(&mut self) -> std::result::Result<Option<(Tid, String)>, Error> {
        if self.current.is_none() && !self.ended {
            self.current = self.source.next().map_err(|problem| self.error_here(problem))?;
        }
        Ok(self.current.as_ref().map(|current| (current.frame.tid, current.kind_name())))
    }

    /// Instructions retired so far, over all tasks.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// The last event that has been completed.
    pub fn last_event(&self) -> Event {
        self.last_event
    }

    /// The task that the event in progress belongs to, else the one that ran last.
    pub fn current_task(&self) -> Option<Tid> {
        match &self.current {
            Some(current) => Some(current.frame.tid),
            None => self.last_task,
        }
    }

    pub fn tick_rule(&self) -> TickRule {
        self.ticks.rule
    }

    /// Tasks that the recording has had so far.
    pub fn tasks_created(&self) -> u32 {
        self.tasks_created
    }

    /// Ticks of a live task.
    pub fn ticks(&self, tid: Tid) -> Option<Ticks> {
        self.tasks.get(&tid).map(|task| Ticks(task.cpu.ticks))
    }

    /// Ticks of all tasks, dead ones included.
    pub fn total_ticks(&self) -> Ticks {
        let live = self.tasks.values().map(|task| task.cpu.ticks);
        Ticks(live.sum::<u64>() + self.former_ticks)
    }

    pub fn registers(&self, tid: Tid) -> Option<Registers> {
        self.tasks.get(&tid).map(Task::registers)
    }

    pub fn vector_registers(&self, tid: Tid) -> Option<VectorRegisters> {
        let cpu = self.cpu(tid)?;
        Some(VectorRegisters::new(&cpu.vector, &self.processor.host))
    }

    pub fn cpu(&self, tid: Tid) -> Option<&Cpu> {
        self.tasks.get(&tid).map(|task| &task.cpu)
    }

    /// The memory that a task sees.
    pub fn memory(&self, tid: Tid) -> Option<&machine::Space> {
        let task = self.tasks.get(&tid)?;
        self.spaces.get(&task.space).map(|space| &space.space)
    }

    /// The address space of a task.
    pub fn space_id(&self, tid: Tid) -> Option<MemoryId> {
        self.tasks.get(&tid).map(|task| MemoryId(task.space.0))
    }

    /// An address space.
    pub fn memory_of(&self, space: MemoryId) -> Option<&machine::Space> {
        self.spaces.get(&SpaceId(space.0)).map(|space| &space.space)
    }

    /// Addresses that rr's machinery uses in a task: scratch memory and syscall buffer.
    pub fn recorder_memory(&self, tid: Tid) -> Vec<std::ops::Range<Address>> {
        let Some(task) = self.tasks.get(&tid) else { return Vec::new() };
        task.scratch.iter().chain(&task.syscall_buffer).cloned().collect()
    }

    pub(crate) fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Makes the machine stop at an address, for good: hooks are few and cheap.
    pub(crate) fn hook(&mut self, address: Address) {
        if self.hooks.insert(address) {
            self.set_hooks(None);
        }
    }

    pub(crate) fn set_hooks(&mut self, also: Option<Address>) {
        let addresses: Vec<_> =
            self.hooks.iter().copied().chain(self.stopping.addresses()).chain(also).collect();
        self.machine.set_hooks(&addresses);
    }

    pub(crate) fn task(&self, tid: Tid) -> Result<&Task> {
        self.tasks.get(&tid).ok_or_else(|| no_task(tid))
    }

    pub(crate) fn task_mut(&mut self, tid: Tid) -> Result<&mut Task> {
        self.tasks.get_mut(&tid).ok_or_else(|| no_task(tid))
    }

    pub(crate) fn space_of(&self, tid: Tid) -> Result<&AddressSpace> {
        let id = self.task(tid)?.space;
        self.spaces.get(&id).ok_or_else(|| no_space(tid))
    }

    pub(crate) fn space_of_mut(&mut self, tid: Tid) -> Result<&mut AddressSpace> {
        let id = self.task(tid)?.space;
        self.spaces.get_mut(&id).ok_or_else(|| no_space(tid))
    }

    /// An error that is not about replaying an event.
    pub(crate) fn error_here(&self, problem: Problem) -> Error {
        self.error(problem, self.last_event, self.last_task.unwrap_or_default(), None)
    }

    fn error(&self, problem: Problem, event: Event, tid: Tid, current: Option<&Current>) -> Error {
        let moment = self.moment;
        match problem {
            Problem::Unsupported(what) => Error::Unsupported { what, event, tid },
            Problem::Malformed(what) => Error::Malformed { what, event, tid },
            Problem::Machine(source) => Error::Machine { event, moment, source },
            Problem::Trace(error) => Error::Trace(error),
            Problem::MappedFile { path, source } => Error::MappedFile { event, path, source },
            Problem::Diverged { reason, expected } => {
                let expected = expected.map(|registers| *registers);
                let expected = expected.or_else(|| current.and_then(|c| c.registers().ok()));
                Error::Divergence(Box::new(self.divergence(reason, event, tid, current, expected)))
            }
        }
    }

    fn divergence(
        &self,
        reason: String,
        event: Event,
        tid: Tid,
        current: Option<&Current>,
        expected: Option<Registers>,
    ) -> Divergence {
        let found = self.registers(tid);
        let registers = match (&expected, &found) {
            (Some(expected), Some(found)) => all_pairs(expected, found),
            _ => Vec::new(),
        };
        let ticks = self.ticks(tid).unwrap_or_default();
        let blocks = match self.memory(tid) {
            Some(space) => {
                let mut addresses = self.machine.last_blocks();
                addresses.extend(found.map(|registers| registers.rip));
                disassemble_blocks(space, &addresses)
            }
            None => Vec::new(),
        };
        Divergence {
            event,
            kind: current.map(Current::kind_name).unwrap_or_default(),
            tid,
            moment: self.moment,
            reason,
            ticks: (current.map_or(ticks, |current| current.frame.ticks), ticks),
            registers,
            blocks,
        }
    }
}

fn no_task(tid: Tid) -> Problem {
    Problem::malformed(format!("task {tid} does not exist"))
}

fn no_space(tid: Tid) -> Problem {
    Problem::malformed(format!("task {tid} has no address space"))
}
