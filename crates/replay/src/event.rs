//! One event: what to do before running its task, where the task must arrive, what happens then.

mod buffer;
mod clone;
mod exec;
mod exit;
mod patch;
mod signal;
mod syscall;
mod syscall_exit;

use model::{Address, Moment, Registers, Tid};
use rr_trace::{Arch, EventKind, SyscallState};

use crate::numbers::syscall::{EXECVE, EXECVEAT, RESTART_SYSCALL};
use crate::problem::{Problem, Result};
use crate::registers::{self, compare, matches};
use crate::run::{Arrival, Goal};
use crate::session::{Replayed, Session};
use crate::source::Current;
use crate::stops::StopReason;
use crate::task::{FilesId, SpaceId, Task, ThreadGroup};

/// x87 instruction and operand pointers in the FXSAVE image.
const FIP_AND_FDP: std::ops::Range<usize> = 8..24;

impl Session {
    /// Replays the frame as far as `until` and stops allow.
    pub(crate) fn replay(
        &mut self,
        current: &mut Current,
        until: Option<Moment>,
    ) -> Result<Replayed> {
        if !self.started {
            return self.replay_before_start(current);
        }
        if current.frame.arch != Arch::X8664 {
            return Err(Problem::unsupported("32-bit tasks"));
        }
        let tid = current.frame.tid;
        if is_exec_exit(current)? {
            self.exec(current)?;
            return Ok(Replayed::Complete);
        }
        if self.skips(current)? {
            self.skip_writes(current)?;
            return Ok(Replayed::Complete);
        }
        if !current.prepared {
            self.prepare(current)?;
            current.prepared = true;
        }
        if let Some(goal) = self.goal(current)? {
            match self.run_to(tid, &goal, until)? {
                Arrival::Reached => {}
                Arrival::Moment => return Ok(Replayed::Moment),
                Arrival::Stop(reason) => return Ok(Replayed::Stop(reason)),
            }
            let executes = matches!(goal, Goal::Instruction { .. }) || is_syscall_entry(current);
            if executes && until.is_some_and(|until| until <= self.moment) {
                return Ok(Replayed::Moment);
            }
            if executes && self.is_stop(tid)? {
                return Ok(Replayed::Stop(StopReason::Address));
            }
        }
        self.check_ticks(current)?;
        self.complete(current)?;
        if self.rules.clear_fip_fdp
            && let Some(task) = self.tasks.get_mut(&tid)
        {
            task.cpu.vector.0[FIP_AND_FDP].fill(0);
        }
        Ok(Replayed::Complete)
    }

    /// Up to the first successful exec the frames belong to the recorder's own image, of which
    /// the recording has nothing (rr-replay 3.2).
    fn replay_before_start(&mut self, current: &mut Current) -> Result<Replayed> {
        let tid = current.frame.tid;
        if self.tasks.is_empty() {
            let space = SpaceId(self.new_id());
            let files = FilesId(self.new_id());
            self.groups.insert(tid, ThreadGroup::default());
            self.tasks.insert(tid, Task::initial(tid, space, files));
            self.last_task = Some(tid);
        }
        if is_exec_exit(current)? {
            self.started = true;
            self.exec(current)?;
        } else {
            self.skip_writes(current)?;
        }
        Ok(Replayed::Complete)
    }

    /// A task killed inside the preload library has frames that replay does not reach (6.7).
    fn skips(&mut self, current: &Current) -> Result<bool> {
        let Some(task) = self.tasks.get_mut(&current.frame.tid) else { return Ok(false) };
        let armed = std::mem::take(&mut task.skip_next);
        Ok(armed
            && matches!(
                current.frame.kind,
                EventKind::Sched | EventKind::Signal(_) | EventKind::Syscall(_)
            ))
    }

    fn prepare(&mut self, current: &mut Current) -> Result<()> {
        match &current.frame.kind {
            EventKind::SyscallbufFlush { .. } => self.prepare_flush(current),
            EventKind::Syscall(syscall) if syscall.state != SyscallState::Exiting => {
                let number = syscall.number;
                self.prepare_syscall(current.frame.tid, number)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn goal(&self, current: &Current) -> Result<Option<Goal>> {
        let ticks = current.frame.ticks;
        Ok(match &current.frame.kind {
            EventKind::InstructionTrap => Some(Goal::Instruction { ticks }),
            EventKind::PatchSyscall => {
                Some(Goal::Syscall { address: current.registers()?.rip, ticks })
            }
            EventKind::PatchVsyscall | EventKind::PatchTrappingInstruction => {
                let address = current.registers()?.rip;
                Some(Goal::Address { address, or_before_at: None, ticks })
            }
            EventKind::Sched => Some(self.sched_goal(current)?),
            EventKind::Signal(signal) => self.signal_goal(current, signal)?,
            EventKind::SyscallbufFlush { .. } => self.flush_goal(current)?,
            EventKind::Syscall(syscall) => match syscall.state {
                SyscallState::Exiting => None,
                _ if syscall.number == RESTART_SYSCALL => None,
                _ => self.entry_goal(current)?,
            },
            EventKind::SyscallbufAbortCommit
            | EventKind::SyscallbufReset
            | EventKind::GrowMap
            | EventKind::SignalDelivery(_)
            | EventKind::SignalHandler(_)
            | EventKind::Exit
            | EventKind::PatchAfterSyscall => None,
        })
    }

    /// Ticks of these frames are those of the task, unless it was on its way (rr-replay 2.3).
    fn check_ticks(&mut self, current: &Current) -> Result<()> {
        match current.frame.kind {
            EventKind::SyscallbufFlush { .. }
            | EventKind::SyscallbufAbortCommit
            | EventKind::SyscallbufReset
            | EventKind::GrowMap
            | EventKind::Exit => return Ok(()),
            _ => {}
        }
        let task = self.task(current.frame.tid)?;
        if task.unchecked || is_killed_in_library(current) {
            return Ok(());
        }
        if task.cpu.ticks != current.frame.ticks.0 {
            return Err(Problem::diverged("ticks differ"));
        }
        Ok(())
    }

    fn complete(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        match &current.frame.kind {
            EventKind::InstructionTrap => self.complete_trap(current),
            EventKind::PatchSyscall => self.complete_patch_syscall(current),
            EventKind::PatchAfterSyscall
            | EventKind::PatchVsyscall
            | EventKind::PatchTrappingInstruction => self.apply_patch(current),
            EventKind::SyscallbufAbortCommit => self.complete_abort_commit(current),
            EventKind::SyscallbufReset => self.complete_reset(current),
            EventKind::SyscallbufFlush { .. } => self.complete_flush(current),
            EventKind::Sched => self.complete_sched(current),
            EventKind::GrowMap => {
                let map = current.take_map()?;
                self.map_record(tid, &map, &crate::maps::Place::of_record(&map))?;
                self.apply_writes(current)
            }
            EventKind::Signal(_) => self.complete_signal(current),
            EventKind::SignalDelivery(_) => self.complete_delivery(current),
            EventKind::SignalHandler(_) => self.complete_handler(current),
            EventKind::Exit => self.complete_exit(current),
            EventKind::Syscall(syscall) => match syscall.state {
                SyscallState::Exiting => self.complete_syscall_exit(current),
                _ => self.complete_syscall_entry(current),
            },
        }
    }

    /// RDTSC and its kind, with the recorded outcome (rr-replay 4.8).
    fn complete_trap(&mut self, current: &mut Current) -> Result<()> {
        let expected = current.registers()?;
        let tid = current.frame.tid;
        let task = self.task_mut(tid)?;
        let length = expected.rip - task.cpu.rip;
        if !(2..=15).contains(&length) {
            return Err(Problem::diverged("the instruction does not lead to the recorded address"));
        }
        let mut found = task.registers();
        for index in 0..4 {
            found.general[index] = expected.general[index];
        }
        found.rip = expected.rip;
        self.require_match(&expected, &found)?;
        self.retire(tid, length as u8)?;
        self.task_mut(tid)?.load_registers(&expected);
        self.apply_writes(current)
    }

    /// The registers of the task must be those of the frame.
    pub(crate) fn check_registers(&mut self, current: &Current) -> Result<()> {
        let task = self.task(current.frame.tid)?;
        if task.unchecked {
            return Ok(());
        }
        let (expected, found) = (current.registers()?, task.registers());
        self.require_match(&expected, &found)
    }

    fn require_match(&mut self, expected: &Registers, found: &Registers) -> Result<()> {
        let mismatch = compare(expected, found);
        if !mismatch.is_match() {
            let expected = Some(Box::new(*expected));
            return Err(Problem::Diverged { reason: "registers differ".into(), expected });
        }
        self.warnings.extend(mismatch.warnings);
        Ok(())
    }

    /// Whether the task is in the frame's state already.
    pub(crate) fn is_there(&self, current: &Current, tid: Tid) -> Result<bool> {
        let task = self.task(tid)?;
        let there = matches(&current.registers()?, &task.registers());
        Ok(there && task.cpu.ticks == current.frame.ticks.0)
    }
}

fn is_exec_exit(current: &Current) -> Result<bool> {
    let EventKind::Syscall(syscall) = &current.frame.kind else { return Ok(false) };
    let exec = syscall.number == EXECVE || syscall.number == EXECVEAT;
    if !exec || syscall.state != SyscallState::Exiting || syscall.arch != Arch::X8664 {
        return Ok(false);
    }
    Ok(registers::result(&current.registers()?) == 0)
}

/// Whether the task was killed inside the preload library: its last registers are not those of
/// a replay (rr-replay 4.7).
fn is_killed_in_library(current: &Current) -> bool {
    let in_library = current.frame.in_syscallbuf_syscall_hook != Address(0);
    in_library && matches!(current.frame.kind, EventKind::Sched)
}

/// Whether the frame's goal is followed by the execution of a `syscall` instruction.
fn is_syscall_entry(current: &Current) -> bool {
    let EventKind::Syscall(syscall) = &current.frame.kind else { return false };
    syscall.state != SyscallState::Exiting
}
