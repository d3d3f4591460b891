//! A task leaves a system call (rr-replay 4.2).

use model::gpr;
use rr_trace::EventKind;

use crate::numbers::{RESTART_RESULTS, is_error, rrcall, syscall};
use crate::problem::{Problem, Result};
use crate::registers;
use crate::session::Session;
use crate::source::Current;

/// `orig_rax` of a call that the recorder vetoed.
const VETOED: i64 = -2;

impl Session {
    pub(super) fn complete_syscall_exit(&mut self, current: &mut Current) -> Result<()> {
        let EventKind::Syscall(syscall) = &current.frame.kind else {
            return Err(Problem::malformed("not a system call"));
        };
        let tid = current.frame.tid;
        let recorded = current.registers()?;
        let result = registers::result(&recorded);
        let number = match syscall.number {
            syscall::RESTART_SYSCALL => self.task(tid)?.orig_rax as i32,
            number => number,
        };
        self.task_mut(tid)?.in_syscall = false;
        if recorded.orig_rax as i64 == VETOED {
            self.apply_writes(current)?;
            self.task_mut(tid)?.load_registers(&recorded);
            return Ok(());
        }
        if number == syscall::RT_SIGRETURN {
            return self.return_from_signal(current);
        }
        let restarts = RESTART_RESULTS.contains(&result);
        let call = if restarts { None } else { self.left_call(current)? };
        let call = self.descriptors_before_memory(current, call, result)?;
        let failed = is_error(result) && !acts_in_spite_of_errors(number);
        if !restarts && !failed {
            self.apply_effects(current, number, result)?;
        }
        self.apply_writes(current)?;
        if !restarts {
            self.descriptors_after_memory(current, call, result)?;
        }
        let tells_time = number == self.rules.rrcall(rrcall::RDTSC);
        let task = self.task_mut(tid)?;
        task.cpu.general[gpr::RAX] = recorded.general[gpr::RAX];
        task.orig_rax = recorded.orig_rax;
        if tells_time {
            task.cpu.general[gpr::RDX] = recorded.general[gpr::RDX];
        }
        self.check_registers(current)
    }

    /// All registers come from the frame (rr-replay 5.5).
    fn return_from_signal(&mut self, current: &mut Current) -> Result<()> {
        self.apply_writes(current)?;
        let vector = self.recorded_vector(current)?;
        let recorded = current.registers()?;
        let task = self.task_mut(current.frame.tid)?;
        task.load_registers(&recorded);
        task.cpu.vector = vector;
        Ok(())
    }
}

fn acts_in_spite_of_errors(number: i32) -> bool {
    use syscall::{MADVISE, MPROTECT, PKEY_MPROTECT, PRCTL};
    [MADVISE, MPROTECT, PKEY_MPROTECT, PRCTL].contains(&number)
}
