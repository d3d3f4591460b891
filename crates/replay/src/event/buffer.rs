//! The syscall buffer: system calls that the preload library made without stopping
//! (rr-replay 6).

use model::{Address, Tid};

use crate::preload::{THREAD_LOCALS_BYTES, buffer, read_u32, thread_locals, write_u32};
use crate::problem::{Problem, Result};
use crate::rr_page::{BREAKPOINT_VALUE, RR_PAGE};
use crate::run::Goal;
use crate::session::Session;
use crate::source::Current;
use crate::task::Rseq;

/// Records are counted in these at the library's breakpoint.
const WORD_BYTES: u32 = 8;
/// Offset of the breakpoint value in the globals, without the descriptor classes before it.
const BREAKPOINT_VALUE_IN_GLOBALS: u64 = 24016;
const NO_BREAKPOINT: u64 = u64::MAX;
/// A load of four bytes through a 64-bit register.
const BREAKPOINT_INSTRUCTION_BYTES: u64 = 3;

impl Session {
    /// Puts the recorded results where the library will find them.
    pub(super) fn prepare_flush(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        let (write, dump) = self.take_write(current)?;
        let area = self.buffer_of(current)?;
        let header = self.rules.sizes.buffer_header;
        let word: Option<[u8; 4]> = dump.get(..4).and_then(|bytes| bytes.try_into().ok());
        let record_bytes = word.map(u32::from_le_bytes);
        let record_bytes =
            record_bytes.ok_or_else(|| Problem::malformed("a dump without a header"))?;
        if write.address != area.start
            || dump.len() as u64 != header + u64::from(record_bytes)
            || dump.len() as u64 > area.end - area.start
        {
            return Err(Problem::malformed("the dump of a syscall buffer does not fit it"));
        }
        let space = &mut self.space_of_mut(tid)?.space;
        space.write(area.start + header, &dump[header as usize..])?;
        self.task_mut(tid)?.buffered_at = None;
        current.flush_record_bytes = record_bytes;
        self.set_breakpoint_value(tid, u64::from(record_bytes / WORD_BYTES))
    }

    /// With this many words committed, the library's breakpoint instruction faults in rr's own
    /// replay, which then passes over it: so do we, to have the same registers there.
    fn set_breakpoint_value(&mut self, tid: Tid, words: u64) -> Result<()> {
        let address = if self.rules.flag_in_globals {
            let globals = self.task(tid)?.globals;
            let globals = globals.ok_or_else(|| Problem::malformed("no preload library"))?;
            globals + BREAKPOINT_VALUE_IN_GLOBALS + self.rules.sizes.descriptor_classes
        } else {
            RR_PAGE + BREAKPOINT_VALUE.start as u64
        };
        self.space_of_mut(tid)?.space.write_u64(address, words)?;
        Ok(())
    }

    pub(super) fn flush_goal(&self, current: &Current) -> Result<Option<Goal>> {
        if current.flush_record_bytes == 0 {
            return Ok(None);
        }
        let tid = current.frame.tid;
        let breakpoint = self.space_of(tid)?.marks.breakpoint;
        let breakpoint = breakpoint
            .ok_or_else(|| Problem::malformed("a flush before the preload library is there"))?;
        Ok(Some(Goal::Flush {
            buffer: self.buffer_of(current)?.start,
            breakpoint,
            record_bytes: current.flush_record_bytes,
            ticks: current.frame.ticks,
        }))
    }

    pub(super) fn complete_flush(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        if current.flush_record_bytes != 0 {
            self.set_breakpoint_value(tid, NO_BREAKPOINT)?;
            let cpu = &mut self.task_mut(tid)?.cpu;
            cpu.rip = cpu.rip + BREAKPOINT_INSTRUCTION_BYTES;
        }
        if self.rules.forced_tick {
            let task = self.task_mut(tid)?;
            task.skip_next = task.cpu.ticks >= current.frame.ticks.0;
        }
        self.register_buffered_rseq(current)?;
        self.apply_writes(current)
    }

    /// From rr 5.7 on rseq(2) may have been buffered: the thread locals tell.
    fn register_buffered_rseq(&mut self, current: &Current) -> Result<()> {
        let tid = current.frame.tid;
        if self.rules.flag_in_globals {
            return Ok(());
        }
        let bytes = self.thread_locals_of(tid)?;
        let word = |at: u64| {
            let mut word = [0; 8];
            let at = at as usize;
            let end = (at + 8).min(THREAD_LOCALS_BYTES);
            word[..end - at].copy_from_slice(&bytes[at..end]);
            u64::from_le_bytes(word)
        };
        if word(thread_locals::RSEQ_LENGTH) as u32 != 0 {
            let pointer = Address(word(thread_locals::RSEQ_POINTER));
            let signature = word(thread_locals::RSEQ_SIGNATURE) as u32;
            self.task_mut(tid)?.rseq = Some(Rseq { pointer, signature });
        }
        Ok(())
    }

    pub(super) fn complete_abort_commit(&mut self, current: &mut Current) -> Result<()> {
        let area = self.buffer_of(current)?;
        let space = &mut self.space_of_mut(current.frame.tid)?.space;
        space.write(area.start + buffer::ABORT_COMMIT, &[1])?;
        self.apply_writes(current)
    }

    pub(super) fn complete_reset(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        let header = self.rules.sizes.buffer_header;
        if let Some(area) = self.task(tid)?.syscall_buffer.clone() {
            let space = &mut self.space_of_mut(tid)?.space;
            let used = u64::from(read_u32(space, area.start + buffer::RECORD_BYTES)?);
            let room = (area.end - area.start).saturating_sub(header);
            let zeros = vec![0; used.min(room) as usize];
            space.write(area.start + header, &zeros)?;
            for field in [
                buffer::RECORD_BYTES,
                buffer::MPROTECT_COUNT,
                buffer::MPROTECT_COMPLETED,
                buffer::BLOCKED_SIGNALS_GENERATION,
            ] {
                write_u32(space, area.start + field, 0)?;
            }
        }
        self.apply_writes(current)
    }

    fn buffer_of(&self, current: &Current) -> Result<std::ops::Range<Address>> {
        let area = self.task(current.frame.tid)?.syscall_buffer.clone();
        area.ok_or_else(|| Problem::malformed("the task has no syscall buffer"))
    }
}
