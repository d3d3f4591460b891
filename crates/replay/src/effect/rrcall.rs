//! rr's own system calls, made by its preload library (rr-replay 6.8).

use machine::Backing;
use model::Address;

use crate::maps::Place;
use crate::numbers::{PROT_READ, PROT_WRITE, rrcall};
use crate::preload::{BreakpointAt, BufferParameters, PreloadParameters};
use crate::problem::{Problem, Result};
use crate::registers::arguments;
use crate::remap::Mapped;
use crate::session::Session;
use crate::source::Current;

/// Largest syscall buffer that is believed.
const BUFFER_BYTES_MAX: u32 = 1 << 30;

impl Session {
    pub(super) fn rrcall(&mut self, current: &mut Current, number: i32) -> Result<()> {
        match number {
            rrcall::INIT_PRELOAD => self.init_preload(current),
            rrcall::INIT_BUFFERS => self.init_buffers(current),
            rrcall::DETACH_TELEPORT => Err(Problem::unsupported("detached tasks")),
            rrcall::MPROTECT_RECORD => Err(Problem::unsupported("recordings of rr itself")),
            _ => Ok(()),
        }
    }

    /// The library has started in this address space.
    fn init_preload(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        let [parameters, ..] = arguments(&current.registers()?);
        let space = self.space_of_mut(tid)?;
        let parameters = PreloadParameters::read(&space.space, Address(parameters))?;
        let BreakpointAt::Instruction(address) = parameters.breakpoint else {
            return Err(Problem::unsupported("a table of breakpoints in the preload library"));
        };
        space.marks.breakpoint = Some(parameters.breakpoint);
        self.hook(address);
        let id = self.task(tid)?.space;
        for task in self.tasks.values_mut().filter(|task| task.space == id) {
            task.globals = Some(parameters.globals);
        }
        self.apply_writes(current)?;
        if self.rules.flag_in_globals {
            self.space_of_mut(tid)?.space.write(parameters.globals, &[1])?;
        }
        Ok(())
    }

    /// A task gets its syscall buffer.
    fn init_buffers(&mut self, current: &mut Current) -> Result<()> {
        let tid = current.frame.tid;
        self.apply_writes(current)?;
        let [parameters, ..] = arguments(&current.registers()?);
        let space = &self.space_of(tid)?.space;
        let parameters = BufferParameters::read(space, Address(parameters))?;
        if parameters.buffer == Address(0) {
            return Ok(());
        }
        if parameters.buffer_bytes > BUFFER_BYTES_MAX {
            return Err(Problem::malformed("a huge syscall buffer"));
        }
        current.take_map()?;
        let end = (parameters.buffer + u64::from(parameters.buffer_bytes)).page_ceil();
        let range = parameters.buffer..end;
        let place = Place { range: range.clone(), prot: PROT_READ | PROT_WRITE, flags: 0 };
        self.map_at(tid, &place, Backing::Zero, Mapped::default())?;
        self.task_mut(tid)?.syscall_buffer = Some(range);
        Ok(())
    }
}
