//! The vocabulary of running: limits, exits, traps, faults, observers.
use model::Address;

use crate::{Space, StateImages};

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
///
/// Where several reasons meet, a limit comes first, then a hook, then a watch, then whatever the
/// instruction itself does.
#[derive(Clone, Debug, PartialEq)]
pub enum Exit {
    InstructionLimit,
    TickLimit,
    /// About to execute a hooked address, other than the one at which the run began: whoever runs
    /// from a hooked address, be it because a limit stopped there, knows that it is one.
    Hook,
    /// About to execute an instruction whose effect is for the caller to say; `length` in bytes.
    Trap {
        kind: Trap,
        length: u8,
    },
    /// About to execute an instruction that accesses a watched range and will retire, or in the
    /// middle of a `rep` string, about to do an iteration that does. To go on, run again.
    Watch {
        /// The lowest watched byte of the first access, where stores go before loads.
        address: Address,
        /// It is stored to; it may be loaded as well.
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
///
/// Whatever is exact is so for every way of execution: fast code, single steps, instructions that
/// the engine carries out. An instruction that faults leaves nothing behind but what it has really
/// done: stores of finished iterations of a `rep` string, of elements of a scatter, of `enter`.
/// Instructions that are the caller's ([`Exit::Trap`]) are not observed, nor is what the caller
/// writes, but for its marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Observers {
    /// Mark every 8-byte word written: `Space::take_written`. None is missing. Too many are marked:
    /// all of a masked operand, the word behind a store of two bytes or more, and what fast code
    /// was about to store when it faulted or was undone for a watch.
    pub written_words: bool,
    /// Mark every 64-byte line read: `Space::take_read`. None is missing but those read through
    /// rsp as the base or by `pop`, `ret` and the like. Too many are marked: all of a masked
    /// operand, and what faults.
    pub read_lines: bool,
    /// Count executions: `Machine::take_executions`. Exact: instructions that have retired, a
    /// `rep` string once.
    pub executions: bool,
    /// Log near calls and returns that have retired: `Machine::take_calls`. Exact.
    pub calls: bool,
    /// Log control flow: conditional outcomes and indirect targets. Exact.
    pub control_flow: bool,
    /// Log every store with address, size and old value: `Machine::take_stores`. Exact: undoing
    /// all of them in reverse gives the memory from before. A compare-and-exchange that fails
    /// stores what was there; bytes that a mask excludes may be there with the value they keep.
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

/// A range to stop at in whatever address space, before an instruction stores to one of its bytes;
/// see [`Exit::Watch`] and `Machine::set_watches`.
///
/// A run passes over an access only where it goes on from a stop: when the last call of `run` has
/// stopped for it, and `cpu` has the same address, count and rcx. `step` never stops for a watch.
///
/// Not seen: what the caller writes for a system call, and stores to the same memory by another
/// address. Accesses are those that the instruction makes in this state: a masked store or move
/// accesses the elements chosen, other masked loads all of their operand; a compare-and-exchange
/// stores even when it fails; `xsave` and `fxsave` store what is defined to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub range: std::ops::Range<Address>,
    /// Stop at loads too. Every instruction is executed by itself then.
    pub reads: bool,
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of translated code kept, hot and cold together; at most 768 MiB.
    pub code_cache_bytes: usize,
    /// What the guest's state images are like.
    pub images: StateImages,
}

impl Default for Options {
    fn default() -> Options {
        Options { code_cache_bytes: 256 << 20, images: StateImages::host() }
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
    /// Stretches translated for one use, to meet a limit.
    pub stretches: u64,
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
