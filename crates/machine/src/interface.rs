//! The vocabulary of running: limits, exits, traps, faults, observers.
use model::Address;

use crate::Space;

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
    Trap {
        kind: Trap,
        length: u8,
    },
    /// About to execute an instruction that accesses a watched range, first at `address`.
    Watch {
        address: Address,
        write: bool,
    },
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

/// Says which conditional branches count as ticks, where not all of them do.
///
/// It is asked when code is translated, or executed by itself; the answer may depend on the
/// mapping of the branch and on its bytes, nothing else. Must not panic.
pub trait TickFilter: std::fmt::Debug {
    /// Whether the conditional branch at `address` counts.
    fn counts(&self, space: &Space, address: Address) -> bool;
}

/// A range to stop at; see `Machine::set_watches`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub range: std::ops::Range<Address>,
    /// Stop at reads too. Every instruction is executed by itself then.
    pub reads: bool,
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

/// What the machine has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub blocks_translated: u64,
    /// Blocks taken over from an earlier translation of the same bytes.
    pub blocks_copied: u64,
    pub instructions_translated: u64,
    pub exits: u64,
    /// Instructions executed one at a time, and those of them with their operand bound.
    pub singles: u64,
    pub bound: u64,
    /// Instructions carried out by the engine.
    pub emulated: u64,
    /// Host faults inside translated code.
    pub faults: u64,
    pub cache_flushes: u64,
    pub cache_bytes: u64,
}
