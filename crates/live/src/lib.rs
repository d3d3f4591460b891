//! Runs an ordinary x86-64 Linux program in the machine, live, as QEMU's user mode does.
//!
//! Development only: it exists for `cargo xtask bench machine` and for tests that run one program
//! under several configurations of the machine and compare the results. The debugger itself never
//! executes live programs, and nothing but tests and `xtask` may depend on this crate.
//!
//! It refuses what those two do not need: threads, child processes, signal delivery, shared
//! writable file mappings. Start reading at [`run`].

mod address_map;
mod kernel;
mod loader;
mod processor;

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use machine::{Cpu, Exit, Fault, Limits, Machine, Observers, Space, Trap};
use model::Address;

use crate::address_map::AddressMap;
use crate::kernel::{Kernel, Next};

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program's file; `$PATH` is not searched.
    pub program: PathBuf,
    /// All arguments, the program's name as the first.
    pub arguments: Vec<OsString>,
    /// The whole environment, as `NAME=value`.
    pub environment: Vec<OsString>,
    pub observers: Observers,
    /// The machine is left, and the observers' buffers drained, after so many instructions.
    pub slice_instructions: u64,
    pub inputs: Inputs,
    pub machine: machine::Options,
}

/// Where clocks, identifiers and random bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// The host.
    Host,
    /// Constants and the instruction count: two runs of a program that reads nothing else are
    /// the same to the last instruction.
    Fixed,
}

/// How a run ended, and what it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub status: i32,
    pub instructions: u64,
    pub ticks: u64,
    /// What the machine did for it.
    pub machine: machine::Statistics,
    pub system_calls: u64,
    /// Entries drained from the observers, by observer.
    pub observed: BTreeMap<&'static str, u64>,
    /// System calls answered with ENOSYS, by number, and how often.
    pub unsupported: BTreeMap<i64, u64>,
}

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path}: not a program that can be run: {reason}")]
    BadProgram { path: PathBuf, reason: &'static str },
    #[error("arguments and environment are longer than the stack")]
    ArgumentsTooLong,
    #[error("{name} at {rip}: {what} cannot be run live")]
    Unsupported { name: &'static str, rip: Address, what: &'static str },
    #[error("signal {} (code {}, address {}) at {rip}, instruction {instructions}",
        fault.signal, fault.code, fault.address)]
    Fault { fault: Fault, rip: Address, instructions: u64 },
    #[error("the program sent itself signal {signal} at {rip}")]
    Signal { signal: i32, rip: Address },
    #[error(transparent)]
    Machine(#[from] machine::Error),
}

/// Runs a program until it exits. Its standard streams are this process's.
pub fn run(options: &Options) -> Result<Outcome, Error> {
    let mut machine = Machine::new(options.machine.clone())?;
    run_in(&mut machine, options)
}

/// As [`run`], in a machine that exists already; leaves `options.observers` set in it.
pub fn run_in(machine: &mut Machine, options: &Options) -> Result<Outcome, Error> {
    machine.set_observers(options.observers)?;
    let mut guest = Guest::load(machine, options)?;
    let slice = options.slice_instructions.max(1);
    let mut limit = slice;
    loop {
        let limits = Limits { instructions: Some(limit), ticks: None };
        match machine.run(&mut guest.space, &mut guest.cpu, limits)? {
            Exit::InstructionLimit => {
                guest.drain(machine, options.observers)?;
                limit = guest.cpu.instructions.saturating_add(slice);
            }
            Exit::TickLimit | Exit::Hook | Exit::Watch { .. } => unreachable!("not asked for"),
            Exit::Fault(fault) => return Err(guest.fault(fault)),
            Exit::Trap { kind, length } => {
                if let Some(status) = guest.trap(kind, length)? {
                    guest.drain(machine, options.observers)?;
                    return Ok(guest.outcome(status, machine.statistics()));
                }
            }
        }
    }
}

/// A descriptor of the caller's own for its standard error, out of the program's way: programs
/// close theirs, which is this process's, before they exit.
pub fn keep_standard_error() -> std::io::Result<File> {
    kernel::duplicate_high(libc::STDERR_FILENO)
}

/// CPU seconds that this process has used, in user mode and in the kernel.
pub fn cpu_seconds() -> f64 {
    processor::cpu_seconds()
}

/// The program while it runs.
struct Guest {
    space: Space,
    cpu: Cpu,
    kernel: Kernel,
    observed: BTreeMap<&'static str, u64>,
    /// Taken last; their memory takes the next ones.
    calls: Vec<model::Call>,
}

impl Guest {
    fn load(machine: &mut Machine, options: &Options) -> Result<Guest, Error> {
        let mut space = machine.new_space()?;
        let mut map = AddressMap::new();
        let image = loader::load(&mut space, &mut map, options)?;
        let mut cpu = Cpu { rip: image.entry, ..Cpu::default() };
        cpu.general[model::gpr::RSP] = image.stack_pointer.0;
        let program = std::path::absolute(&options.program)
            .map_err(|source| Error::File { path: options.program.clone(), source })?;
        let program = CString::new(program.as_os_str().as_bytes()).unwrap_or_default();
        let kernel = Kernel::new(map, image.program_end, program, options.inputs);
        Ok(Guest { space, cpu, kernel, observed: BTreeMap::new(), calls: Vec::new() })
    }

    /// Does what the instruction at `rip` asks for; the exit status when the program has ended.
    fn trap(&mut self, kind: Trap, length: u8) -> Result<Option<i32>, Error> {
        if kind != Trap::Syscall {
            if !processor::answer(kind, &mut self.cpu, self.kernel.inputs) {
                let what = "this instruction";
                let name = processor::name(kind);
                return Err(Error::Unsupported { name, rip: self.cpu.rip, what });
            }
            self.cpu.rip = self.cpu.rip + u64::from(length);
            self.cpu.instructions += 1;
            return Ok(None);
        }
        match self.kernel.system_call(&mut self.space, &mut self.cpu)? {
            Next::Exit(status) => {
                self.cpu.instructions += 1;
                Ok(Some(status))
            }
            Next::Return(result) => {
                self.cpu.rip = self.cpu.rip + u64::from(length);
                self.cpu.instructions += 1;
                self.cpu.general[model::gpr::RAX] = result.cast_unsigned();
                self.cpu.general[model::gpr::RCX] = self.cpu.rip.0;
                self.cpu.general[model::gpr::R11] = self.cpu.rflags;
                Ok(None)
            }
        }
    }

    /// Empties the buffers of the observers, counting what was in them.
    fn drain(&mut self, machine: &mut Machine, observers: Observers) -> Result<(), Error> {
        let mut count = |name, entries: usize| {
            *self.observed.entry(name).or_default() += entries as u64;
        };
        if observers.written_words {
            count("pages written", self.space.take_written()?.len());
        }
        if observers.read_lines {
            count("pages read", self.space.take_read()?.len());
        }
        if observers.executions {
            count("ranges executed", machine.take_executions().len());
        }
        if observers.calls {
            self.calls = machine.take_calls_into(std::mem::take(&mut self.calls));
            count("calls and returns", self.calls.len());
        }
        if observers.control_flow {
            let flow = machine.take_control_flow();
            count("conditional outcomes", flow.taken.len());
            count("indirect targets", flow.targets.len());
        }
        if observers.stores {
            count("stores", machine.take_stores().len());
        }
        Ok(())
    }

    fn fault(&self, fault: Fault) -> Error {
        Error::Fault { fault, rip: self.cpu.rip, instructions: self.cpu.instructions }
    }

    fn outcome(self, status: i32, machine: machine::Statistics) -> Outcome {
        Outcome {
            status,
            instructions: self.cpu.instructions,
            ticks: self.cpu.ticks,
            system_calls: self.kernel.system_calls,
            observed: self.observed,
            machine,
            unsupported: self.kernel.unsupported,
        }
    }
}
