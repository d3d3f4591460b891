//! Running a task to where its next event says that it must be (rr-replay 4 and 8).

use machine::{Exit, Limits};
use model::{Address, Moment, Registers, Ticks, Tid, gpr};

use crate::preload::{BreakpointAt, buffer, read_u32};
use crate::problem::{Problem, Result};
use crate::processor::VectorRegisters;
use crate::registers::{NO_SYSCALL, compare, matches};
use crate::rr_page;
use crate::session::Session;
use crate::stops::StopReason;
use crate::task::Task;

/// Where a task has to arrive. Ticks are the frame's.
#[derive(Clone, Debug)]
pub enum Goal {
    /// About to execute the system call (or record-only stub) at this address.
    Syscall { address: Address, ticks: Ticks },
    /// About to execute an instruction that traps, wherever it is.
    Instruction { ticks: Ticks },
    /// Behind the commit of the last record of a syscall buffer's dump.
    Flush { buffer: Address, breakpoint: BreakpointAt, record_bytes: u32, ticks: Ticks },
    /// Exactly in this state: an asynchronous event. Newer recordings know the vector state, too.
    Exact { registers: Box<Registers>, vector: Option<Box<VectorRegisters>>, ticks: Ticks },
    /// At this address with these ticks, whatever the registers; or at the other one before.
    Address { address: Address, or_before_at: Option<Address>, ticks: Ticks },
    /// About to take an exception that is delivered as `signal`.
    Exception { signal: i32, registers: Box<Registers>, ticks: Ticks },
}

/// What [`Session::run_to`] found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    Reached,
    /// An instruction is needed, and the moment that was asked for is now.
    Moment,
    /// An instruction is needed at which to stop.
    Stop(StopReason),
}

/// What to do next on the way to a goal.
enum Next {
    Arrived,
    /// Run until the task has these ticks, or something happens. Near a limit the machine is
    /// slow, since there it must not go too far.
    Run {
        ticks: u64,
    },
    /// Execute one instruction, or one iteration of a `rep` string.
    Step {
        iterations: Option<u64>,
    },
    Overshot,
}

/// Instructions stepped singly in search of an asynchronous event before its address is hooked.
const STEPS_BEFORE_HOOKING: u32 = 4000;

/// How many ticks behind its goal a task is stopped that the goal itself ought to have stopped.
/// Going that far is an error in any case, so the limit is put where it is never near.
const GUARD_TICKS: u64 = 1 << 20;

impl Goal {
    pub fn ticks(&self) -> Ticks {
        match self {
            Goal::Syscall { ticks, .. }
            | Goal::Instruction { ticks }
            | Goal::Flush { ticks, .. }
            | Goal::Exact { ticks, .. }
            | Goal::Address { ticks, .. }
            | Goal::Exception { ticks, .. } => *ticks,
        }
    }

    /// The address to look at when the ticks are there, for goals without an event of their own.
    fn sought_address(&self) -> Option<Address> {
        match self {
            Goal::Exact { registers, .. } => Some(registers.rip),
            Goal::Address { address, .. } => Some(*address),
            _ => None,
        }
    }
}

impl Session {
    /// Runs a task until it has arrived, or until `until`.
    pub(crate) fn run_to(
        &mut self,
        tid: Tid,
        goal: &Goal,
        until: Option<Moment>,
    ) -> Result<Arrival> {
        let mut hooked = false;
        let early = match goal {
            Goal::Address { or_before_at, .. } => *or_before_at,
            _ => None,
        };
        if early.is_some() {
            self.set_hooks(early);
        }
        let arrival = self.run_to_inner(tid, goal, until, &mut hooked);
        if hooked || early.is_some() {
            self.set_hooks(None);
        }
        arrival
    }

    fn run_to_inner(
        &mut self,
        tid: Tid,
        goal: &Goal,
        until: Option<Moment>,
        hooked: &mut bool,
    ) -> Result<Arrival> {
        let mut steps = 0;
        let mut running = false;
        loop {
            let next = self.next(tid, goal, *hooked)?;
            match next {
                Next::Arrived => return Ok(Arrival::Reached),
                Next::Overshot => return Err(Self::overshot(goal)),
                Next::Run { .. } | Next::Step { .. } => {}
            }
            if until.is_some_and(|until| until <= self.moment) {
                return Ok(Arrival::Moment);
            }
            if self.is_stop(tid)? {
                return Ok(Arrival::Stop(StopReason::Address));
            }
            if !running {
                self.activate_thread_locals(tid)?;
                running = true;
            }
            let exit = match next {
                Next::Step { iterations } => {
                    steps += 1;
                    if steps == STEPS_BEFORE_HOOKING && !*hooked {
                        self.set_hooks(goal.sought_address());
                        *hooked = true;
                    }
                    self.step(tid, iterations)?
                }
                Next::Run { ticks } => self.run(tid, ticks, until)?,
                Next::Arrived | Next::Overshot => unreachable!("handled above"),
            };
            if self.task(tid)?.cpu.ticks > goal.ticks().0 {
                // Nothing that comes this late is looked at.
                return Err(Self::overshot(goal));
            }
            if let Exit::Watch { address, write } = exit {
                return Ok(Arrival::Stop(StopReason::Watch { address, write }));
            }
            if self.stopped(tid, goal, exit, until)? {
                return Ok(Arrival::Reached);
            }
            if until.is_some_and(|until| until <= self.moment) {
                return Ok(Arrival::Moment);
            }
        }
    }

    fn next(&self, tid: Tid, goal: &Goal, hooked: bool) -> Result<Next> {
        let task = self.task(tid)?;
        let cpu = &task.cpu;
        let ticks = goal.ticks().0;
        if cpu.ticks > ticks {
            return Ok(Next::Overshot);
        }
        let on_the_way = Next::Run { ticks: ticks.saturating_add(GUARD_TICKS) };
        Ok(match goal {
            Goal::Syscall { address, .. } if cpu.rip == *address && cpu.ticks == ticks => {
                Next::Arrived
            }
            Goal::Syscall { .. } | Goal::Instruction { .. } | Goal::Exception { .. } => on_the_way,
            Goal::Flush { buffer, breakpoint, record_bytes, .. } => {
                let committed = || {
                    let space = &self.space_of(tid)?.space;
                    Ok::<_, Problem>(read_u32(space, *buffer + buffer::RECORD_BYTES)?)
                };
                if cpu.rip == breakpoint.address(*record_bytes) && committed()? == *record_bytes {
                    Next::Arrived
                } else {
                    on_the_way
                }
            }
            Goal::Address { or_before_at, .. } if *or_before_at == Some(cpu.rip) => Next::Arrived,
            Goal::Exact { .. } | Goal::Address { .. } if cpu.ticks < ticks => Next::Run { ticks },
            Goal::Exact { registers, vector, .. } if cpu.rip == registers.rip => {
                let host = &self.processor.host;
                let same_vector = |vector: &VectorRegisters| {
                    vector.matches(&VectorRegisters::new(&cpu.vector, host))
                };
                if matches(registers, &task.registers())
                    && vector.as_deref().is_none_or(same_vector)
                {
                    Next::Arrived
                } else {
                    Next::Step { iterations: iterations_to(registers, &cpu.general) }
                }
            }
            Goal::Address { address, .. } if cpu.rip == *address => Next::Arrived,
            Goal::Exact { .. } | Goal::Address { .. } if hooked => on_the_way,
            Goal::Exact { .. } | Goal::Address { .. } => Next::Step { iterations: None },
        })
    }

    /// Whether the task is where it has to be.
    pub(crate) fn has_arrived(&self, tid: Tid, goal: &Goal) -> Result<bool> {
        Ok(matches!(self.next(tid, goal, false)?, Next::Arrived))
    }

    fn overshot(goal: &Goal) -> Problem {
        let reason = match goal {
            Goal::Exact { .. } => "the state of the asynchronous event did not occur",
            Goal::Flush { .. } => "the buffered system calls were not all made",
            Goal::Exception { .. } => "the exception did not occur",
            _ => "the event was not reached",
        };
        Problem::diverged(reason)
    }

    /// Runs at most to the end of `until` or to `ticks`.
    fn run(&mut self, tid: Tid, ticks: u64, until: Option<Moment>) -> Result<Exit> {
        let now = self.moment;
        let left = until.map(|until| until - now);
        if left == Some(1) && !self.stopping.watches() {
            return self.step(tid, None);
        }
        self.execute(tid, |machine, space, cpu| {
            let limits = Limits {
                instructions: left.map(|left| cpu.instructions.saturating_add(left)),
                ticks: Some(ticks),
            };
            machine.run(space, cpu, limits)
        })
    }

    /// Executes one instruction, or iterations of it. Single steps are not watched, so with
    /// watches it is a run; what iterations store becomes an effect.
    pub(crate) fn step(&mut self, tid: Tid, iterations: Option<u64>) -> Result<Exit> {
        if !self.stopping.watches() {
            return self.execute(tid, |machine, space, cpu| machine.step(space, cpu, iterations));
        }
        if iterations.is_none() {
            return self.execute(tid, |machine, space, cpu| {
                let instructions = Some(cpu.instructions.saturating_add(1));
                machine.run(space, cpu, Limits { instructions, ticks: None })
            });
        }
        let before = self.task(tid)?.cpu.general[gpr::RDI];
        let exit = self.execute(tid, |machine, space, cpu| machine.step(space, cpu, iterations))?;
        let task = self.task(tid)?;
        let (id, after) = (task.space, task.cpu.general[gpr::RDI]);
        // Whichever the direction, elements have eight bytes at most.
        let range = Address(before.min(after))..Address(before.max(after).saturating_add(8));
        self.add_effect(id, range);
        Ok(exit)
    }

    fn execute(
        &mut self,
        tid: Tid,
        work: impl FnOnce(
            &mut machine::Machine,
            &mut machine::Space,
            &mut machine::Cpu,
        ) -> std::result::Result<Exit, machine::Error>,
    ) -> Result<Exit> {
        let id = self.task(tid)?.space;
        self.begin_observing(id);
        if self.stopping.watches() {
            self.collect_effects(id);
        }
        let task = self.tasks.get_mut(&tid).ok_or_else(|| Problem::malformed("no such task"))?;
        let space = self.spaces.get_mut(&task.space);
        let space = space.ok_or_else(|| Problem::malformed("no such address space"))?;
        let (before, from) = (task.cpu.instructions, task.cpu.rip);
        self.machine.set_clock(self.moment, before);
        let exit = work(&mut self.machine, &mut space.space, &mut task.cpu)?;
        // What the machine undoes to stop for a watch is nobody's write.
        space.space.take_noted_writes();
        let retired = task.cpu.instructions - before;
        if retired > 0 || exit == Exit::InstructionLimit {
            task.orig_rax = NO_SYSCALL;
        }
        self.note_flow(tid, id, from, retired);
        self.moment += retired;
        self.note_caller(tid, id);
        Ok(exit)
    }

    /// Whether this stop of the machine is the arrival.
    fn stopped(
        &mut self,
        tid: Tid,
        goal: &Goal,
        exit: Exit,
        until: Option<Moment>,
    ) -> Result<bool> {
        if matches!(exit, Exit::InstructionLimit | Exit::TickLimit | Exit::Hook) {
            self.look_for_buffered_call(tid, goal)?;
        }
        match exit {
            // `next` looks at the state again.
            Exit::InstructionLimit | Exit::TickLimit | Exit::Hook | Exit::Watch { .. } => Ok(false),
            Exit::Trap { .. } if until.is_some_and(|until| until <= self.moment) => Ok(false),
            Exit::Trap { kind, length } => self.trapped(tid, goal, kind, length),
            Exit::Fault(fault) => match goal {
                Goal::Exception { signal, registers, ticks } if *signal == fault.signal => {
                    self.check_exception(tid, registers, *ticks)?;
                    Ok(true)
                }
                _ => Err(Problem::diverged(format!(
                    "unexpected exception: signal {} code {} address {}",
                    fault.signal, fault.code, fault.address
                ))),
            },
        }
    }

    pub(crate) fn check_exception(
        &self,
        tid: Tid,
        registers: &Registers,
        ticks: Ticks,
    ) -> Result<()> {
        let task = self.task(tid)?;
        if task.cpu.ticks != ticks.0 {
            return Err(Problem::diverged("the exception came at other ticks"));
        }
        if !compare(registers, &task.registers()).is_match() {
            return Err(Problem::diverged("the exception came with other registers"));
        }
        Ok(())
    }

    /// Counts an instruction that the replay performs itself, and passes over it.
    pub(crate) fn retire(&mut self, tid: Tid, length: u8) -> Result<()> {
        let task = self.task(tid)?;
        let (space, bytes) = (task.space, task.cpu.rip.range(length.into()));
        self.begin_observing(space);
        self.note_flow(tid, space, bytes.start, 1);
        self.machine.count_execution(bytes);
        let task = self.task_mut(tid)?;
        task.cpu.rip = task.cpu.rip + u64::from(length);
        task.cpu.instructions += 1;
        task.orig_rax = NO_SYSCALL;
        self.moment += 1;
        Ok(())
    }

    /// Whether a task is about to execute a `syscall` instruction, or a stub that stands for one.
    pub(crate) fn is_at_syscall(&self, tid: Tid) -> Result<bool> {
        let address = self.task(tid)?.cpu.rip;
        let mut bytes = [0; 2];
        self.space_of(tid)?.space.read(address, &mut bytes)?;
        Ok(bytes == [0x0f, 0x05] || rr_page::is_record_only_stub(address))
    }
}

/// How many iterations of a `rep` string bring its count to the sought one, should the
/// instruction be one; `None`: it has no such state, and can be executed as a whole.
///
/// A count of 32 bits loses what was above it in the first iteration: no more than that one is
/// done at a time while the difference is wider.
fn iterations_to(sought: &Registers, general: &[u64; 16]) -> Option<u64> {
    let left = general[gpr::RCX].checked_sub(sought.general[gpr::RCX]).filter(|&left| left > 0)?;
    Some(if left > u64::from(u32::MAX) { 1 } else { left })
}

/// The result register of a call that is not in the recording as a frame.
pub(crate) fn set_result(task: &mut Task, result: i64) {
    task.cpu.general[gpr::RAX] = result as u64;
}
