//! Signals, and the end of time slices: events at exact points (rr-replay 4.7, 4.9, 8).

use rr_trace::Signal;

use super::is_killed_in_library;
use crate::apply::Tail;
use crate::numbers::{SEGV_PKUERR, SIGBUS, SIGSEGV, SIGTRAP, TRAP_HWBKPT, TRAP_TRACE};
use crate::problem::{Problem, Result};
use crate::processor::VectorRegisters;
use crate::run::Goal;
use crate::session::Session;
use crate::source::Current;
use crate::task::Rseq;

/// Bits of `rseq_cs` flags that keep a critical section from being restarted.
const RSEQ_NO_RESTART_ON_PREEMPT: u32 = 1;
const RSEQ_NO_RESTART_ON_SIGNAL: u32 = 2;
/// Offsets in rseq(2)'s structure.
const RSEQ_CS: u64 = 8;
const RSEQ_FLAGS: u64 = 16;

impl Session {
    pub(super) fn sched_goal(&self, current: &Current) -> Result<Goal> {
        let (registers, ticks) = (current.registers()?, current.frame.ticks);
        if is_killed_in_library(current) {
            let or_before_at = Some(current.frame.in_syscallbuf_syscall_hook);
            return Ok(Goal::Address { address: registers.rip, or_before_at, ticks });
        }
        Ok(Goal::Exact { registers: Box::new(registers), vector: None, ticks })
    }

    pub(super) fn signal_goal(&self, current: &Current, signal: &Signal) -> Result<Option<Goal>> {
        let (registers, ticks) = (Box::new(current.registers()?), current.frame.ticks);
        if is_asynchronous(signal) {
            let mut vector = None;
            if current.frame.extra_registers.is_some() {
                let state = self.recorded_vector(current)?;
                vector = Some(Box::new(VectorRegisters::new(&state, &self.processor.host)));
            }
            return Ok(Some(Goal::Exact { registers, vector, ticks }));
        }
        if self.is_there(current, current.frame.tid)? {
            return Ok(None);
        }
        Ok(Some(Goal::Exception { signal: signal.number(), registers, ticks }))
    }

    pub(super) fn complete_sched(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        if is_killed_in_library(current) {
            self.task_mut(tid)?.unchecked = true;
        }
        self.abort_critical_section(current, RSEQ_NO_RESTART_ON_PREEMPT)?;
        self.apply_writes(current)
    }

    pub(super) fn complete_signal(&mut self, current: &mut Current) -> Result<()> {
        let rr_trace::EventKind::Signal(signal) = &current.frame.kind else {
            return Err(Problem::malformed("not a signal"));
        };
        if is_asynchronous(signal) {
            self.abort_critical_section(current, RSEQ_NO_RESTART_ON_SIGNAL)?;
        }
        self.apply_writes(current)
    }

    /// The kernel built a frame on the stack, and reset the vector state.
    pub(super) fn complete_handler(&mut self, current: &mut Current) -> Result<()> {
        self.apply_writes_with(current, Tail::Ignored)?;
        let vector = self.recorded_vector(current)?;
        let registers = current.registers()?;
        let task = self.task_mut(current.frame.tid)?;
        task.cpu.vector = vector;
        task.load_registers(&registers);
        task.in_syscall = false;
        Ok(())
    }

    pub(super) fn complete_delivery(&mut self, current: &mut Current) -> Result<()> {
        self.apply_writes(current)?;
        let registers = current.registers()?;
        let task = self.task_mut(current.frame.tid)?;
        task.load_registers(&registers);
        task.in_syscall = false;
        Ok(())
    }

    /// A restartable sequence that was interrupted goes on at its abort handler (rr-replay 5.12).
    fn abort_critical_section(&mut self, current: &Current, exempt: u32) -> Result<()> {
        let tid = current.frame.tid;
        let Some(rseq) = self.task(tid)?.rseq else { return Ok(()) };
        if let Some(abort) = self.abort_address(current, rseq, exempt)? {
            self.task_mut(tid)?.cpu.rip = abort;
        }
        Ok(())
    }

    fn abort_address(
        &self,
        current: &Current,
        rseq: Rseq,
        exempt: u32,
    ) -> Result<Option<model::Address>> {
        let tid = current.frame.tid;
        let space = &self.space_of(tid)?.space;
        let descriptor = model::Address(space.read_u64(rseq.pointer + RSEQ_CS)?);
        if descriptor.0 == 0 {
            return Ok(None);
        }
        let read = crate::preload::read_u32;
        let (version, flags) = (read(space, descriptor)?, read(space, descriptor + 4)?);
        let start = model::Address(space.read_u64(descriptor + 8)?);
        let length = space.read_u64(descriptor + 16)?;
        let abort = model::Address(space.read_u64(descriptor + 24)?);
        let own_flags = read(space, rseq.pointer + RSEQ_FLAGS)?;
        let inside = self.task(tid)?.cpu.rip - start < length;
        if version != 0 || !inside || (flags | own_flags) & exempt != 0 {
            return Ok(None);
        }
        Ok((read(space, abort - 4)? == rseq.signature).then_some(abort))
    }
}

/// Whether the signal's place can only be found by its registers.
fn is_asynchronous(signal: &Signal) -> bool {
    let (number, code) = (signal.number(), signal.code());
    !signal.deterministic
        || number == SIGBUS
        || (number == SIGSEGV && code == SEGV_PKUERR)
        || (number == SIGTRAP && (code == TRAP_TRACE || code == TRAP_HWBKPT))
}
