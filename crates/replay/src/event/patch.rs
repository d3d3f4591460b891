//! The recorder replaced code of the program (rr-replay 4.6).

use model::PAGE_SIZE;

use crate::maps::Place;
use crate::problem::{Problem, Result};
use crate::registers::{NO_SYSCALL, canonicalise, compare};
use crate::session::Session;
use crate::source::Current;

impl Session {
    /// The call was entered and taken back: the registers that the kernel clobbers show it.
    pub(super) fn complete_patch_syscall(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        if !self.is_at_syscall(tid)? {
            return Err(Problem::diverged("there is no system call instruction here"));
        }
        let task = self.task_mut(tid)?;
        canonicalise(task);
        task.orig_rax = NO_SYSCALL;
        let mismatch = compare(&current.registers()?, &task.registers());
        self.warnings.extend(mismatch.differing);
        self.warnings.extend(mismatch.warnings);
        self.apply_patch(current)
    }

    /// New pages for stubs, then stubs and changed code.
    pub(super) fn apply_patch(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        let recorded = current.registers()?;
        if self.task(tid)?.cpu.rip != recorded.rip {
            return Err(Problem::diverged("the patched code is elsewhere"));
        }
        while let Some(map) = current.maps.pop_front() {
            if map.range.end - map.range.start > 1024 * PAGE_SIZE {
                return Err(Problem::malformed("a page for stubs is very long"));
            }
            self.map_record(tid, &map, &Place::of_record(&map))?;
        }
        self.apply_writes(current)
    }
}
