//! A task enters a system call (rr-replay 4.1).

use model::{Tid, gpr};
use rr_trace::{Arch, EventKind, SyscallState};

use crate::numbers::{ENOSYS, rrcall, syscall};
use crate::preload::buffer;
use crate::problem::{Problem, Result};
use crate::registers::canonicalise;
use crate::run::Goal;
use crate::session::Session;
use crate::source::Current;

/// Bytes of the `syscall` instruction, and of the `xor` that stands for it in rr's page.
const SYSCALL_BYTES: u8 = 2;

impl Session {
    /// A byte in the buffer's header makes the preload library call this at all.
    pub(super) fn prepare_syscall(&mut self, tid: Tid, number: i32) -> Result<()> {
        if number != self.rules.rrcall(rrcall::NOTIFY_SYSCALL_HOOK_EXIT) {
            return Ok(());
        }
        let Some(range) = self.task(tid)?.syscall_buffer.clone() else { return Ok(()) };
        let space = &mut self.space_of_mut(tid)?.space;
        space.write(range.start + buffer::NOTIFY_ON_HOOK_EXIT, &[1])?;
        Ok(())
    }

    pub(super) fn entry_goal(&self, current: &Current) -> Result<Option<Goal>> {
        let EventKind::Syscall(syscall) = &current.frame.kind else { return Ok(None) };
        if syscall.arch != Arch::X8664 {
            return Err(Problem::unsupported("32-bit system calls"));
        }
        let tid = current.frame.tid;
        if self.task(tid)?.in_syscall && self.is_there(current, tid)? {
            return Ok(None);
        }
        let address = current.registers()?.rip - u64::from(SYSCALL_BYTES);
        Ok(Some(Goal::Syscall { address, ticks: current.frame.ticks }))
    }

    pub(super) fn complete_syscall_entry(&mut self, current: &mut Current) -> Result<()> {
        let EventKind::Syscall(syscall) = current.frame.kind.clone() else {
            return Err(Problem::malformed("not a system call"));
        };
        let tid = current.frame.tid;
        if syscall.number == syscall::RESTART_SYSCALL {
            let registers = current.registers()?;
            self.task_mut(tid)?.load_registers(&registers);
        } else if !(self.task(tid)?.in_syscall && self.is_there(current, tid)?) {
            self.enter_syscall(tid)?;
            self.check_registers(current)?;
        }
        self.task_mut(tid)?.in_syscall = true;
        self.descriptors_entered(current)?;
        if syscall.state == SyscallState::Entering && !syscall.failed_during_preparation {
            match syscall.number {
                syscall::CLONE | syscall::FORK | syscall::VFORK => {
                    self.clone_task(current, syscall.number)?;
                }
                syscall::EXIT => self.drop_recorder_memory(tid)?,
                syscall::EXIT_GROUP if self.group_size(self.task(tid)?.leader) == 1 => {
                    self.drop_recorder_memory(tid)?;
                }
                syscall::PTRACE => self.ptrace_entered(current)?,
                _ => {}
            }
        }
        self.apply_writes(current)
    }

    /// What the processor does, and then rr.
    fn enter_syscall(&mut self, tid: Tid) -> Result<()> {
        if !self.is_at_syscall(tid)? {
            return Err(Problem::diverged("there is no system call instruction here"));
        }
        let number = self.task(tid)?.cpu.general[gpr::RAX];
        self.retire(tid, SYSCALL_BYTES)?;
        let task = self.task_mut(tid)?;
        task.orig_rax = number;
        task.cpu.general[gpr::RAX] = (-ENOSYS) as u64;
        canonicalise(task);
        Ok(())
    }
}
