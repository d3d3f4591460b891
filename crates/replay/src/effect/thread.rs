//! Calls that change the calling thread's own state (rr-replay 5.4, 5.12).

use model::{Address, Tid};

use crate::numbers::{ARCH_SET_FS, ARCH_SET_GS, PR_SET_NAME};
use crate::problem::Result;
use crate::session::Session;
use crate::source::Current;
use crate::task::Rseq;

const NAME_BYTES: usize = 16;
const RSEQ_UNREGISTER: u64 = 1;

impl Session {
    pub(super) fn arch_prctl(&mut self, tid: Tid, arguments: [u64; 6]) -> Result<()> {
        let cpu = &mut self.task_mut(tid)?.cpu;
        match arguments[0] {
            ARCH_SET_FS => cpu.fs_base = arguments[1],
            ARCH_SET_GS => cpu.gs_base = arguments[1],
            _ => {}
        }
        Ok(())
    }

    pub(super) fn prctl(&mut self, tid: Tid, arguments: [u64; 6]) -> Result<()> {
        if arguments[0] == PR_SET_NAME {
            self.rename(tid, arguments[1])?;
        }
        Ok(())
    }

    /// The task's name is at most 15 bytes at `address`.
    pub(crate) fn rename(&mut self, tid: Tid, address: u64) -> Result<()> {
        let space = &self.space_of(tid)?.space;
        let mut name = Vec::new();
        for offset in 0..NAME_BYTES as u64 - 1 {
            let mut byte = [0];
            space.read(Address(address) + offset, &mut byte)?;
            if byte[0] == 0 {
                break;
            }
            name.push(byte[0]);
        }
        self.task_mut(tid)?.name = name;
        Ok(())
    }

    pub(super) fn pkey_alloc(&mut self, current: &Current) -> Result<()> {
        if self.rules.pkey_alloc_has_extra_registers && current.frame.extra_registers.is_some() {
            let vector = self.recorded_vector(current)?;
            self.task_mut(current.frame.tid)?.cpu.vector = vector;
        }
        Ok(())
    }

    pub(super) fn rseq(&mut self, tid: Tid, arguments: [u64; 6]) -> Result<()> {
        let [pointer, _, flags, signature, ..] = arguments;
        let registration = Rseq { pointer: Address(pointer), signature: signature as u32 };
        let unregister = flags & RSEQ_UNREGISTER != 0;
        self.task_mut(tid)?.rseq = (!unregister).then_some(registration);
        Ok(())
    }
}
