//! Instructions that the machine leaves to its caller, met on the way to an event.

use machine::Trap;
use model::{Address, Tid, gpr};

use crate::address_space::protection;
use crate::numbers::{ENOMEM, PR_SET_NAME, SIGSEGV, SIGTRAP, syscall};
use crate::numbers::{MADV_DONTNEED, MADV_DONTNEED_LOCKED};
use crate::preload::{BufferRecord, buffer, read_u32};
use crate::problem::{Problem, Result};
use crate::registers::{self, canonicalise};
use crate::rr_page::{REPLAY_ASSIST, is_untraced_stub};
use crate::run::{Goal, set_result};
use crate::session::Session;

impl Session {
    /// Performs the instruction, or finds that it is the arrival: true.
    pub(crate) fn trapped(
        &mut self,
        tid: Tid,
        goal: &Goal,
        kind: Trap,
        length: u8,
    ) -> Result<bool> {
        let address = self.task(tid)?.cpu.rip;
        match kind {
            Trap::Syscall if is_untraced_stub(address) => {
                self.look_for_buffered_call(tid, goal)?;
                self.untraced_syscall(tid, length)?;
            }
            Trap::Syscall => {
                let reason = "a system call that the recording does not have here";
                return self.arrived_or(tid, goal, reason);
            }
            Trap::Breakpoint if address == REPLAY_ASSIST => self.replay_assist(tid, length)?,
            Trap::Breakpoint => return self.breakpoint(tid, goal, length),
            Trap::Cpuid if !self.processor.cpuid_faulting => {
                let task = self.tasks.get_mut(&tid).ok_or_else(|| Problem::malformed("no task"))?;
                self.processor.cpuid(&mut task.cpu);
                self.retire(tid, length)?;
            }
            Trap::Cpuid | Trap::Rdtsc | Trap::Rdtscp | Trap::Tpause | Trap::Umwait => {
                return self.trapping_instruction(tid, goal, kind);
            }
            Trap::Xgetbv => {
                let task = self.tasks.get_mut(&tid).ok_or_else(|| Problem::malformed("no task"))?;
                if self.processor.xgetbv(&mut task.cpu).is_none() {
                    return Err(Problem::unsupported("xgetbv of an unknown register"));
                }
                self.retire(tid, length)?;
            }
            Trap::Rdpid => self.rdpid(tid, length)?,
            Trap::Xbegin => self.abort_transaction(tid, length)?,
            Trap::Rdrand | Trap::Rdseed => {
                return Err(Problem::unsupported(
                    "random numbers of the processor, which rr does not record",
                ));
            }
            Trap::Int80 | Trap::Sysenter => {
                return Err(Problem::unsupported("32-bit system calls"));
            }
            Trap::Rdpkru | Trap::Wrpkru => return Err(Problem::unsupported("protection keys")),
        }
        Ok(false)
    }

    /// An asynchronous event or a system call may be expected at exactly this state.
    fn arrived_or(&self, tid: Tid, goal: &Goal, reason: &str) -> Result<bool> {
        if self.has_arrived(tid, goal)? { Ok(true) } else { Err(Problem::diverged(reason)) }
    }

    fn breakpoint(&mut self, tid: Tid, goal: &Goal, length: u8) -> Result<bool> {
        let Goal::Exception { signal: SIGTRAP, registers, ticks } = goal else {
            return self.arrived_or(
                tid,
                goal,
                "a breakpoint that the recording does not have here",
            );
        };
        self.retire(tid, length)?;
        self.check_exception(tid, registers, *ticks)?;
        Ok(true)
    }

    fn trapping_instruction(&mut self, tid: Tid, goal: &Goal, kind: Trap) -> Result<bool> {
        match goal {
            Goal::Instruction { .. } => Ok(true),
            // prctl(PR_SET_TSC) and arch_prctl(ARCH_SET_CPUID) turn it into a fault.
            Goal::Exception { signal: SIGSEGV, registers, ticks } => {
                self.check_exception(tid, registers, *ticks)?;
                Ok(true)
            }
            _ => {
                let reason = format!("{kind:?} which the recording does not have here");
                self.arrived_or(tid, goal, &reason)
            }
        }
    }

    /// RDPID r64 has its destination in the low bits of ModRM, extended by REX.B.
    fn rdpid(&mut self, tid: Tid, length: u8) -> Result<()> {
        let rip = self.task(tid)?.cpu.rip;
        let mut bytes = vec![0; usize::from(length)];
        self.space_of(tid)?.space.read(rip, &mut bytes)?;
        let rex = bytes.iter().find(|&&byte| byte & 0xf0 == 0x40).copied().unwrap_or(0);
        let index = bytes.last().map_or(0, |modrm| modrm & 7) | (rex & 1) << 3;
        let value = self.processor.tsc_aux();
        self.task_mut(tid)?.cpu.general[usize::from(index)] = value;
        self.retire(tid, length)
    }

    /// XBEGIN always aborts: eax is 0 and control goes to the fallback address (rr-replay 7.5).
    fn abort_transaction(&mut self, tid: Tid, length: u8) -> Result<()> {
        let rip = self.task(tid)?.cpu.rip;
        let mut bytes = [0; 15];
        let bytes = &mut bytes[..usize::from(length).min(15)];
        self.space_of(tid)?.space.read(rip, bytes)?;
        let displacement = match bytes {
            [.., a, b, c, d] if length == 6 => i64::from(i32::from_le_bytes([*a, *b, *c, *d])),
            [.., a, b] => i64::from(i16::from_le_bytes([*a, *b])),
            _ => return Err(Problem::unsupported("this encoding of xbegin")),
        };
        self.retire(tid, length)?;
        let cpu = &mut self.task_mut(tid)?.cpu;
        cpu.general[gpr::RAX] = 0;
        cpu.rip = cpu.rip + displacement as u64;
        Ok(())
    }

    /// The record that the preload library is about to commit.
    pub(crate) fn pending_record(&self, tid: Tid) -> Result<Option<BufferRecord>> {
        let Some(range) = &self.task(tid)?.syscall_buffer else { return Ok(None) };
        let space = &self.space_of(tid)?.space;
        let committed = read_u32(space, range.start + buffer::RECORD_BYTES)?;
        let at = range.start + self.rules.sizes.buffer_header + u64::from(committed);
        Ok(Some(BufferRecord::read(space, at)?))
    }

    /// A system call of the preload library that has no frame: made here, as hardware and
    /// kernel would (rr-replay 6.2). Its result is overwritten by the recorded one.
    fn untraced_syscall(&mut self, tid: Tid, length: u8) -> Result<()> {
        let record = self.pending_record(tid)?;
        let task = self.task(tid)?;
        let number = task.cpu.general[gpr::RAX] as i32;
        let arguments = registers::arguments(&task.registers());
        let recorded = record.filter(|record| i32::from(record.number) == number);
        let result = recorded.map_or(0, |record| record.result);
        let result = self.perform_untraced(tid, number, arguments, result)?;
        self.retire(tid, length)?;
        // The registers that the kernel clobbers are as in rr's own replay; the library gives
        // them the same values right afterwards.
        let task = self.task_mut(tid)?;
        set_result(task, result);
        canonicalise(task);
        task.orig_rax = number as u64;
        Ok(())
    }

    fn perform_untraced(
        &mut self,
        tid: Tid,
        number: i32,
        arguments: [u64; 6],
        result: i64,
    ) -> Result<i64> {
        let succeeded = result >= 0;
        let range = Address(arguments[0])..(Address(arguments[0]) + arguments[1]).page_ceil();
        match number {
            syscall::MADVISE => {
                let advice = arguments[2];
                if succeeded && (advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED) {
                    self.discard(tid, range)?;
                }
            }
            syscall::MPROTECT if range.is_empty() => {}
            syscall::MPROTECT if succeeded || result == -ENOMEM => {
                let end = range.end.min(self.space_of(tid)?.mapped_until(range.start));
                if range.start < end {
                    self.protect(tid, range.start..end, protection(arguments[2] as i32))?;
                }
            }
            syscall::MPROTECT => {}
            syscall::DUP3 | syscall::CLOSE => {}
            syscall::READ => return self.cloned_read(tid, arguments, result),
            _ => {
                return Err(Problem::unsupported(format!(
                    "system call {number} made by the preload library alone"
                )));
            }
        }
        Ok(result)
    }

    /// A read of a file that the recorder kept by cloning it: the next bytes of that file.
    fn cloned_read(&mut self, tid: Tid, arguments: [u64; 6], result: i64) -> Result<i64> {
        let Ok(length @ 1..) = usize::try_from(result) else { return Ok(result) };
        if length > 1 << 30 {
            return Err(Problem::malformed("a cloned read of more than 1 GiB"));
        }
        let task = self.task(tid)?;
        let name = format!("cloned_data_{}_{}", task.tid, task.serial);
        let position = task.cloned_data_position;
        let path = self.source.trace.directory().join(&name);
        let bytes = crate::maps::read_part(&path, position, length)?;
        self.space_of_mut(tid)?.space.write(Address(arguments[1]), &bytes)?;
        self.task_mut(tid)?.cloned_data_position += length as u64;
        Ok(result)
    }

    /// The stub by which the library asks for the effects of a buffered call.
    fn replay_assist(&mut self, tid: Tid, length: u8) -> Result<()> {
        let record = self.pending_record(tid)?;
        let record = record.ok_or_else(|| Problem::diverged("replay assist without a buffer"))?;
        if record.bits & BufferRecord::REPLAY_ASSIST == 0 {
            return Err(Problem::diverged("replay assist for a call that does not need it"));
        }
        let arguments = registers::arguments(&self.task(tid)?.registers());
        if record.result >= 0 {
            match i32::from(record.number) {
                syscall::PWRITE64 => {
                    self.written_to_descriptor(tid, arguments, Some(arguments[3]), record.result)?;
                }
                syscall::PRCTL if arguments[0] == PR_SET_NAME => self.rename(tid, arguments[1])?,
                _ => {}
            }
        }
        self.retire(tid, length)
    }
}
