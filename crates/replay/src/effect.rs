//! What a successful system call does beyond its result and recorded memory (rr-replay 5).

mod files;
mod memory;
mod ptrace;
mod rrcall;
mod thread;

use crate::numbers::syscall::*;
use crate::problem::{Problem, Result};
use crate::registers::arguments;
use crate::session::Session;
use crate::source::Current;

impl Session {
    /// Applied before the frame's memory writes, with the registers of the exit.
    pub(crate) fn apply_effects(
        &mut self,
        current: &mut Current,
        number: i32,
        result: i64,
    ) -> Result<()> {
        let own = number.wrapping_sub(self.rules.rrcall_base);
        if (0..32).contains(&own) {
            return self.rrcall(current, own);
        }
        let tid = current.frame.tid;
        let arguments = arguments(&current.registers()?);
        match number {
            MMAP => self.mmap(current, arguments, result),
            MUNMAP => self.munmap(tid, arguments),
            MPROTECT | PKEY_MPROTECT => self.mprotect(tid, arguments, result),
            BRK => self.brk(current),
            MREMAP => self.mremap(current, arguments, result),
            MADVISE => self.madvise(current, arguments, result),
            SHMAT => self.shmat(current, arguments),
            SHMDT => self.shmdt(tid, arguments),
            ARCH_PRCTL => self.arch_prctl(tid, arguments),
            MODIFY_LDT => Err(Problem::unsupported("modify_ldt")),
            PRCTL if result >= 0 => self.prctl(tid, arguments),
            PKEY_ALLOC => self.pkey_alloc(current),
            RSEQ => self.rseq(tid, arguments),
            PTRACE => self.ptrace_left(tid, arguments),
            _ => self.descriptor_effects(current, number, arguments, result),
        }
    }
}
