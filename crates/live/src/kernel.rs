//! Linux as far as the programs of the benchmark need it: one thread, no signals.
//!
//! Calls about memory change the guest's [`Space`]; calls about files go to the host with their
//! pointers replaced by buffers of ours; calls about the process are answered here.

mod forward;
mod memory;
mod vectors;

pub use forward::duplicate_high;

use std::collections::BTreeMap;
use std::ffi::CString;

use libc::c_long;
use machine::{Cpu, Space};
use model::Address;
use model::gpr::{R8, R9, R10, RAX, RDI, RDX, RSI};

use crate::address_map::AddressMap;
use crate::{Error, Inputs};

/// The longest buffer that one call moves; a longer one is read or written in part.
const BUFFER_BYTES_MAX: u64 = 16 << 20;

/// Process and thread number with fixed inputs.
const FIXED_PROCESS: i64 = 1000;
/// The number of a signal action and its size (`struct sigaction` of the kernel).
const SIGNALS: usize = 65;
const ACTION_BYTES: usize = 32;

/// What happens after a system call.
#[derive(Debug)]
pub enum Next {
    Return(i64),
    Exit(i32),
}

/// The result of a system call: a value or an error number.
type Answer = Result<i64, Errno>;

/// An error number of Linux, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Errno(i32);

impl From<machine::Error> for Errno {
    /// Guest memory that is not there, or that the host will not give.
    fn from(error: machine::Error) -> Errno {
        match error {
            machine::Error::Host { .. } => Errno(libc::ENOMEM),
            machine::Error::BadRange(_) => Errno(libc::EINVAL),
            _ => Errno(libc::EFAULT),
        }
    }
}

#[derive(Debug)]
pub struct Kernel {
    map: AddressMap,
    heap_start: Address,
    heap_end: Address,
    program: CString,
    pub inputs: Inputs,
    actions: Vec<[u8; ACTION_BYTES]>,
    signal_mask: u64,
    signal_stack: [u8; 24],
    pub system_calls: u64,
    pub unsupported: BTreeMap<i64, u64>,
}

impl Kernel {
    pub fn new(map: AddressMap, heap: Address, program: CString, inputs: Inputs) -> Kernel {
        let mut signal_stack = [0; 24];
        signal_stack[8] = 2; // SS_DISABLE
        Kernel {
            map,
            heap_start: heap,
            heap_end: heap,
            program,
            inputs,
            actions: vec![[0; ACTION_BYTES]; SIGNALS],
            signal_mask: 0,
            signal_stack,
            system_calls: 0,
            unsupported: BTreeMap::new(),
        }
    }

    /// Carries out the call that `cpu` stands before; changes no register.
    pub fn system_call(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<Next, Error> {
        let number = cpu.general[RAX].cast_signed();
        let arguments = [RDI, RSI, RDX, R10, R8, R9].map(|register| cpu.general[register]);
        self.system_calls += 1;
        if let Some(next) = self.ending(number, &arguments, cpu.rip)? {
            return Ok(next);
        }
        let answer = if let Some(answer) = self.memory_call(space, number, &arguments) {
            answer
        } else if let Some(answer) = self.process_call(space, cpu, number, &arguments) {
            answer
        } else if let Some(answer) = vectors::call(space, number, &arguments) {
            answer
        } else if let Some(answer) = self.forward(space, number, &arguments) {
            answer
        } else {
            *self.unsupported.entry(number).or_default() += 1;
            Err(Errno(libc::ENOSYS))
        };
        Ok(Next::Return(answer.unwrap_or_else(|error| -i64::from(error.0))))
    }

    /// Calls after which the program does not go on, and those that are refused.
    fn ending(
        &self,
        number: c_long,
        arguments: &[u64; 6],
        rip: Address,
    ) -> Result<Option<Next>, Error> {
        let refuse = |name, what| Err(Error::Unsupported { name, rip, what });
        match number {
            libc::SYS_exit | libc::SYS_exit_group => {
                Ok(Some(Next::Exit(low_half(arguments[0]) & 0xff)))
            }
            libc::SYS_fork => refuse("fork", "a second process"),
            libc::SYS_vfork => refuse("vfork", "a second process"),
            libc::SYS_clone => refuse("clone", "a second thread or process"),
            libc::SYS_clone3 => refuse("clone3", "a second thread or process"),
            libc::SYS_execve => refuse("execve", "another program"),
            libc::SYS_execveat => refuse("execveat", "another program"),
            libc::SYS_rt_sigreturn => refuse("rt_sigreturn", "a signal handler"),
            libc::SYS_kill => self.signal(arguments[1], rip),
            libc::SYS_tkill => self.signal(arguments[1], rip),
            libc::SYS_tgkill => self.signal(arguments[2], rip),
            _ => Ok(None),
        }
    }

    fn signal(&self, signal: u64, rip: Address) -> Result<Option<Next>, Error> {
        match low_half(signal) {
            0 => Ok(Some(Next::Return(0))),
            signal => Err(Error::Signal { signal, rip }),
        }
    }

    /// Calls about the process itself, its signals and, with fixed inputs, its clocks.
    fn process_call(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        number: c_long,
        arguments: &[u64; 6],
    ) -> Option<Answer> {
        if self.inputs == Inputs::Fixed
            && let Some(answer) = fixed_input(space, number, arguments, cpu.instructions)
        {
            return Some(answer);
        }
        Some(match number {
            libc::SYS_arch_prctl => arch_prctl(space, cpu, arguments),
            libc::SYS_set_tid_address => Ok(match self.inputs {
                Inputs::Host => i64::from(std::process::id()),
                Inputs::Fixed => FIXED_PROCESS,
            }),
            libc::SYS_set_robust_list | libc::SYS_sched_yield => Ok(0),
            // The kernel would write processor numbers into guest memory.
            libc::SYS_rseq => Err(Errno(libc::ENOSYS)),
            libc::SYS_futex => futex(space, arguments),
            libc::SYS_rt_sigaction => self.rt_sigaction(space, arguments),
            libc::SYS_rt_sigprocmask => self.rt_sigprocmask(space, arguments),
            libc::SYS_sigaltstack => self.sigaltstack(space, arguments),
            libc::SYS_readlink if self.asks_for_program(space, arguments[0]) => {
                self.program_name(space, arguments[1], arguments[2])
            }
            libc::SYS_readlinkat if self.asks_for_program(space, arguments[1]) => {
                self.program_name(space, arguments[2], arguments[3])
            }
            _ => return None,
        })
    }

    fn rt_sigaction(&mut self, space: &mut Space, arguments: &[u64; 6]) -> Answer {
        let signal = usize::try_from(arguments[0]).unwrap_or(usize::MAX);
        let action = self.actions.get_mut(signal).ok_or(Errno(libc::EINVAL))?;
        let old = *action;
        if arguments[1] != 0 {
            space.read(Address(arguments[1]), action)?;
        }
        if arguments[2] != 0 {
            space.write(Address(arguments[2]), &old)?;
        }
        Ok(0)
    }

    fn rt_sigprocmask(&mut self, space: &mut Space, arguments: &[u64; 6]) -> Answer {
        let old = self.signal_mask;
        if arguments[1] != 0 {
            let set = space.read_u64(Address(arguments[1]))?;
            self.signal_mask = match low_half(arguments[0]) {
                libc::SIG_BLOCK => old | set,
                libc::SIG_UNBLOCK => old & !set,
                libc::SIG_SETMASK => set,
                _ => return Err(Errno(libc::EINVAL)),
            };
        }
        if arguments[2] != 0 {
            space.write_u64(Address(arguments[2]), old)?;
        }
        Ok(0)
    }

    fn sigaltstack(&mut self, space: &mut Space, arguments: &[u64; 6]) -> Answer {
        let old = self.signal_stack;
        if arguments[0] != 0 {
            space.read(Address(arguments[0]), &mut self.signal_stack)?;
        }
        if arguments[1] != 0 {
            space.write(Address(arguments[1]), &old)?;
        }
        Ok(0)
    }

    fn asks_for_program(&self, space: &Space, path: u64) -> bool {
        matches!(read_text(space, path), Ok(path) if path == b"/proc/self/exe\0")
    }

    fn program_name(&self, space: &mut Space, buffer: u64, length: u64) -> Answer {
        let name = self.program.as_bytes();
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(name.len());
        space.write(Address(buffer), &name[..length])?;
        Ok(i64::try_from(length).unwrap_or(i64::MAX))
    }
}

fn arch_prctl(space: &mut Space, cpu: &mut Cpu, arguments: &[u64; 6]) -> Answer {
    const SET_GS: u64 = 0x1001;
    const SET_FS: u64 = 0x1002;
    const GET_FS: u64 = 0x1003;
    const GET_GS: u64 = 0x1004;
    match arguments[0] {
        SET_FS => cpu.fs_base = arguments[1],
        SET_GS => cpu.gs_base = arguments[1],
        GET_FS => space.write_u64(Address(arguments[1]), cpu.fs_base)?,
        GET_GS => space.write_u64(Address(arguments[1]), cpu.gs_base)?,
        _ => return Err(Errno(libc::EINVAL)),
    }
    Ok(0)
}

/// With one thread nobody waits and nobody wakes: a wait for a value that is there would be for
/// ever, which is reported as an interrupted one.
fn futex(space: &mut Space, arguments: &[u64; 6]) -> Answer {
    match low_half(arguments[1]) & 0x7f {
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET => {
            let mut word = [0; 4];
            space.read(Address(arguments[0]), &mut word)?;
            let differs = u32::from_le_bytes(word) != low_half(arguments[2]).cast_unsigned();
            Err(Errno(if differs { libc::EAGAIN } else { libc::EINTR }))
        }
        libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => Ok(0),
        _ => Err(Errno(libc::ENOSYS)),
    }
}

/// Answers that would differ from run to run, made of constants and the instruction count.
fn fixed_input(
    space: &mut Space,
    number: c_long,
    arguments: &[u64; 6],
    instructions: u64,
) -> Option<Answer> {
    const EPOCH_SECONDS: u64 = 1_700_000_000;
    let nanoseconds = instructions;
    let seconds = EPOCH_SECONDS + nanoseconds / 1_000_000_000;
    let part = nanoseconds % 1_000_000_000;
    let mut pair = |address: u64, low: u64, high: u64| -> Answer {
        if address != 0 {
            space.write_u64(Address(address), low)?;
            space.write_u64(Address(address) + 8, high)?;
        }
        Ok(0)
    };
    Some(match number {
        libc::SYS_clock_gettime => pair(arguments[1], seconds, part),
        libc::SYS_gettimeofday => pair(arguments[0], seconds, part / 1000),
        libc::SYS_time => Ok(seconds.cast_signed()),
        libc::SYS_getpid | libc::SYS_gettid | libc::SYS_getpgrp => Ok(FIXED_PROCESS),
        libc::SYS_getppid => Ok(FIXED_PROCESS - 1),
        libc::SYS_times => pair(arguments[0], 0, 0),
        libc::SYS_getrandom => {
            let length = arguments[1].min(BUFFER_BYTES_MAX);
            let bytes: Vec<u8> = (0..length).map(|i| low_byte(i.wrapping_mul(151))).collect();
            let written = space.write(Address(arguments[0]), &bytes);
            written.map_err(Errno::from).map(|()| length.cast_signed())
        }
        libc::SYS_getrusage => {
            space.write(Address(arguments[1]), &[0; 144]).map_err(Errno::from).map(|()| 0)
        }
        _ => return None,
    })
}

/// The C string at `address`, its NUL included.
fn read_text(space: &Space, address: u64) -> Result<Vec<u8>, Errno> {
    const TEXT_BYTES_MAX: usize = 4096;
    let mut text = Vec::new();
    let mut next = Address(address);
    while text.len() <= TEXT_BYTES_MAX {
        // Up to the end of the page: the next one may not be there.
        let length = usize::try_from((next + 1).page_ceil() - next).unwrap_or(1);
        let mut piece = vec![0; length];
        space.read(next, &mut piece)?;
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&piece[..=end]);
            return Ok(text);
        }
        text.extend_from_slice(&piece);
        next = next + length as u64;
    }
    Err(Errno(libc::ENAMETOOLONG))
}

#[expect(clippy::cast_possible_truncation, reason = "int arguments are the low half")]
fn low_half(argument: u64) -> i32 {
    argument as i32
}

#[expect(clippy::cast_possible_truncation, reason = "the low byte is asked for")]
fn low_byte(value: u64) -> u8 {
    value as u8
}
