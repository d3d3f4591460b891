//! What one recorded task does to another by ptrace(2) (rr-replay 3.8). The results are in the
//! recording like those of any system call; here are the effects on the tracee.

use model::{Address, Tid};
use rr_trace::{REGISTER_WORDS, registers_of_words, words_of_registers};

use crate::preload::buffer;
use crate::problem::{Problem, Result};
use crate::processor::LEGACY_BYTES;
use crate::registers::arguments;
use crate::session::Session;
use crate::source::Current;

/// Requests of ptrace(2), from the kernel's `uapi/linux/ptrace.h` and `uapi/asm/ptrace-abi.h`.
mod request {
    pub const POKEUSER: u64 = 6;
    pub const CONT: u64 = 7;
    pub const SINGLESTEP: u64 = 9;
    pub const SETREGS: u64 = 13;
    pub const SETFPREGS: u64 = 15;
    pub const DETACH: u64 = 17;
    pub const SYSCALL: u64 = 24;
    pub const SET_THREAD_AREA: u64 = 26;
    pub const ARCH_PRCTL: u64 = 30;
    pub const SYSEMU: u64 = 31;
    pub const SYSEMU_SINGLESTEP: u64 = 32;
    pub const SETREGSET: u64 = 0x4205;
}

/// Register sets by the types of their notes in core files.
mod note {
    pub const PRSTATUS: u64 = 1;
    pub const PRFPREG: u64 = 2;
    pub const X86_XSTATE: u64 = 0x202;
}

const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
/// The bit of the buffer header's `locked` that stands for the tracer: no call is buffered then.
const LOCKED_BY_TRACER: u8 = 2;

impl Session {
    /// Whether the tracee may buffer system calls changes when the tracer resumes it.
    pub(crate) fn ptrace_entered(&mut self, current: &Current) -> Result<()> {
        let [request, pid, ..] = arguments(&current.registers()?);
        let Some(tracee) = self.tracee(pid) else { return Ok(()) };
        match request {
            request::SYSCALL
            | request::SINGLESTEP
            | request::SYSEMU
            | request::SYSEMU_SINGLESTEP => self.lock_buffer(tracee, true),
            request::CONT | request::DETACH => self.lock_buffer(tracee, false),
            _ => Ok(()),
        }
    }

    /// A successful request that changes the tracee's registers, with values from the tracer's
    /// memory.
    pub(super) fn ptrace_left(&mut self, tracer: Tid, arguments: [u64; 6]) -> Result<()> {
        let [request, pid, address, data, ..] = arguments;
        let Some(tracee) = self.tracee(pid) else { return Ok(()) };
        match request {
            request::SETREGS => self.set_general(tracer, tracee, Address(data)),
            request::SETFPREGS => self.set_legacy(tracer, tracee, Address(data)),
            request::POKEUSER => self.poke_user(tracee, address, data),
            request::ARCH_PRCTL => {
                // The value is `addr`, the code is `data`: the reverse of arch_prctl(2).
                let cpu = &mut self.task_mut(tracee)?.cpu;
                match data {
                    ARCH_SET_FS => cpu.fs_base = address,
                    ARCH_SET_GS => cpu.gs_base = address,
                    _ => {}
                }
                Ok(())
            }
            request::SETREGSET => {
                let space = &self.space_of(tracer)?.space;
                let (base, length) =
                    (space.read_u64(Address(data))?, space.read_u64(Address(data) + 8)?);
                match address {
                    note::PRSTATUS => self.set_general_part(tracer, tracee, Address(base), length),
                    note::PRFPREG => self.set_legacy(tracer, tracee, Address(base)),
                    note::X86_XSTATE => self.set_extended(tracer, tracee, Address(base), length),
                    _ => Err(Problem::unsupported(format!(
                        "ptrace changing the register set {address:#x} of a task"
                    ))),
                }
            }
            request::SET_THREAD_AREA => Err(Problem::unsupported("ptrace of 32-bit tasks")),
            _ => Ok(()),
        }
    }

    /// The recorded task that a tracer means; it may not exist: then the request failed.
    fn tracee(&self, pid: u64) -> Option<Tid> {
        let pid = Tid(pid as i32);
        self.tasks.contains_key(&pid).then_some(pid)
    }

    fn lock_buffer(&mut self, tracee: Tid, locked: bool) -> Result<()> {
        let Some(area) = self.task(tracee)?.syscall_buffer.clone() else { return Ok(()) };
        let space = &mut self.space_of_mut(tracee)?.space;
        let at = area.start + buffer::LOCKED;
        let mut byte = [0];
        space.read(at, &mut byte)?;
        byte[0] = if locked { byte[0] | LOCKED_BY_TRACER } else { byte[0] & !LOCKED_BY_TRACER };
        space.write(at, &byte)?;
        Ok(())
    }

    fn set_general(&mut self, tracer: Tid, tracee: Tid, from: Address) -> Result<()> {
        self.set_general_part(tracer, tracee, from, REGISTER_WORDS as u64 * 8)
    }

    /// As many whole registers as there are bytes.
    fn set_general_part(
        &mut self,
        tracer: Tid,
        tracee: Tid,
        from: Address,
        length: u64,
    ) -> Result<()> {
        let mut words = words_of_registers(&self.task(tracee)?.registers());
        let space = &self.space_of(tracer)?.space;
        for (index, word) in words.iter_mut().enumerate().take((length / 8) as usize) {
            *word = space.read_u64(from + index as u64 * 8)?;
        }
        self.task_mut(tracee)?.load_registers(&registers_of_words(&words));
        Ok(())
    }

    /// Debug registers have no effect of their own here: the traps that they cause are recorded
    /// with the state that they came in.
    fn poke_user(&mut self, tracee: Tid, offset: u64, value: u64) -> Result<()> {
        let mut words = words_of_registers(&self.task(tracee)?.registers());
        if let Some(word) = usize::try_from(offset / 8).ok().and_then(|index| words.get_mut(index))
        {
            *word = value;
            self.task_mut(tracee)?.load_registers(&registers_of_words(&words));
        }
        Ok(())
    }

    /// An FXSAVE image.
    fn set_legacy(&mut self, tracer: Tid, tracee: Tid, from: Address) -> Result<()> {
        let mut bytes = [0; LEGACY_BYTES];
        self.space_of(tracer)?.space.read(from, &mut bytes)?;
        crate::processor::load_legacy(&mut self.task_mut(tracee)?.cpu.vector, &bytes)?;
        Ok(())
    }

    /// An XSAVE image in the standard format; the kernel takes none that is shorter.
    fn set_extended(&mut self, tracer: Tid, tracee: Tid, from: Address, length: u64) -> Result<()> {
        let size = self.processor.recorded.size;
        if length < size as u64 {
            return Err(Problem::diverged("ptrace sets too few extra registers"));
        }
        let mut bytes = vec![0; size];
        self.space_of(tracer)?.space.read(from, &mut bytes)?;
        self.task_mut(tracee)?.cpu.vector = self.vector_of(&bytes)?;
        Ok(())
    }
}
