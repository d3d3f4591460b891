//! Running guest code: the public face of the translator.

use model::Address;

use crate::{Cpu, Error, Space};

/// How far to run. A limit that is reached already stops at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Stop when `cpu.instructions` is this.
    pub instructions: Option<u64>,
    /// Stop when `cpu.ticks` is this: right behind the branch that made it so.
    pub ticks: Option<u64>,
}

/// Why the machine stopped. `cpu` is the exact state there; for all but the limits that is before
/// the instruction at `cpu.rip`, which has not retired.
#[derive(Clone, Debug, PartialEq)]
pub enum Exit {
    InstructionLimit,
    TickLimit,
    /// About to execute a hooked address.
    Hook,
    /// About to execute an instruction whose effect is for the caller to say; `length` in bytes.
    Trap { kind: Trap, length: u8 },
    /// The instruction at `cpu.rip` raised an exception (for `int3` and `int n` see `Trap`).
    Fault(Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// `syscall` (0f 05).
    Syscall,
    /// `int 0x80` (cd 80).
    Int80,
    Sysenter,
    Cpuid,
    Rdtsc,
    Rdtscp,
    Rdpid,
    Rdrand,
    Rdseed,
    Xgetbv,
    Rdpkru,
    Wrpkru,
    Tpause,
    Umwait,
    Xbegin,
    /// `int3` (cc), `int 3`, `int1`: a SIGTRAP whose rip is behind the instruction.
    Breakpoint,
}

/// An exception as Linux would deliver it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGTRAP.
    pub signal: i32,
    /// `si_code` of the signal.
    pub code: i32,
    /// The data or code address of a memory fault (0 where Linux reports none).
    pub address: Address,
}

/// What is observed while running; each is compiled into the code and costs nothing when off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Observers {
    /// Mark every 8-byte word written (supersets allowed): `Space::take_written`.
    pub written_words: bool,
    /// Mark every 64-byte line read, reads through the stack pointer left out.
    pub read_lines: bool,
    /// Count executions: `Machine::take_executions`.
    pub executions: bool,
    /// Log calls and returns: `Machine::take_calls`.
    pub calls: bool,
    /// Log control flow: conditional outcomes and indirect targets.
    pub control_flow: bool,
    /// Log every store with address, size and old value: `Machine::take_stores`.
    pub stores: bool,
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of translated code kept, hot and cold together; at most 768 MiB.
    pub code_cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { code_cache_bytes: 256 << 20 }
    }
}

/// The machine of this host process. A second one waits until the first is dropped.
#[derive(Debug)]
pub struct Machine {}

impl Machine {
    pub fn new(options: Options) -> Result<Machine, Error> {
        todo!()
    }
    /// An empty address space of this machine.
    pub fn new_space(&mut self) -> Result<Space, Error> {
        todo!()
    }
    pub fn set_observers(&mut self, observers: Observers) {
        todo!()
    }
    /// Stop before executing any of these addresses, in any address space. `run` never stops at
    /// a hook at its very first instruction.
    pub fn set_hooks(&mut self, addresses: &[Address]) {
        todo!()
    }
    /// Runs guest code of `space` from `cpu`, whose counts go on from what they are.
    pub fn run(&mut self, space: &mut Space, cpu: &mut Cpu, limits: Limits) -> Result<Exit, Error> {
        todo!()
    }
    /// Executes one instruction. A `rep` string runs at most `iterations` iterations and retires
    /// only when it has finished (rip stays otherwise).
    pub fn step(&mut self, space: &mut Space, cpu: &mut Cpu, iterations: Option<u64>) -> Result<Exit, Error> {
        todo!()
    }
    /// The last blocks executed, oldest first, as far as known: guest addresses.
    pub fn last_blocks(&self) -> Vec<Address> {
        todo!()
    }
}
