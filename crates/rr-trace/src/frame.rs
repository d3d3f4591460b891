//! Frames: the events of a recording, with everything that was recorded about each.

use std::ops::Range;

use model::{Address, Event, Ticks, Tid};

use crate::FrameRegisters;

/// One event: "the next interesting thing happened to this task".
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub event: Event,
    pub tid: Tid,
    /// The task's total since its creation (since its exec, for the first successful one).
    pub ticks: Ticks,
    /// Of the recorder's monotonic clock; only differences mean anything.
    pub monotonic_seconds: f64,
    pub arch: Arch,
    /// Absent for buffer, map-growing and exit events.
    pub registers: Option<FrameRegisters>,
    /// XSAVE area in standard format, where the kernel changed it (rr-replay 2.2).
    pub extra_registers: Option<Vec<u8>>,
    /// Not zero: happened inside the preload library; its value is the program counter there.
    pub in_syscallbuf_syscall_hook: Address,
    /// To be applied in this order; their bytes are in the data stream in this order.
    pub writes: Vec<MemWrite>,
    pub kind: EventKind,
}

impl Frame {
    /// Bytes that the writes of this frame take in the data stream.
    pub fn payload_length(&self) -> u64 {
        self.writes.iter().fold(0, |sum, write| sum.saturating_add(write.payload_length()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    X86,
    X8664,
    Aarch64,
}

/// What happened. The order is that of the tags in the recording.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    InstructionTrap,
    PatchSyscall,
    SyscallbufAbortCommit,
    SyscallbufReset,
    Sched,
    GrowMap,
    Signal(Signal),
    SignalDelivery(Signal),
    SignalHandler(Signal),
    Exit,
    SyscallbufFlush { mprotect_records: Vec<MprotectRecord> },
    Syscall(Syscall),
    PatchAfterSyscall,
    PatchVsyscall,
    PatchTrappingInstruction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    pub siginfo_arch: Arch,
    /// `siginfo_t` as the kernel filled it, at least 12 bytes: use [`Signal::number`] and so on.
    pub siginfo: Vec<u8>,
    /// Raised by the instruction itself.
    pub deterministic: bool,
    pub disposition: Disposition,
}

impl Signal {
    pub fn number(&self) -> i32 {
        self.word(0)
    }

    /// `si_code`.
    pub fn code(&self) -> i32 {
        self.word(8)
    }

    fn word(&self, offset: usize) -> i32 {
        let bytes = self.siginfo.get(offset..offset + 4);
        bytes.map_or(0, |bytes| i32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disposition {
    Fatal,
    UserHandler,
    Ignored,
}

/// An mprotect that the program made through the syscall buffer. Informative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MprotectRecord {
    pub start: Address,
    pub length: u64,
    pub prot: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// Of the system call's calling convention: `int 0x80` in a 64-bit task gives `X86`.
    pub arch: Arch,
    pub number: i32,
    pub state: SyscallState,
    pub failed_during_preparation: bool,
    pub extra: SyscallExtra,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyscallState {
    EnteringPtrace,
    Entering,
    Exiting,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyscallExtra {
    None,
    WriteOffset(i64),
    ExecFdsToClose(Vec<i32>),
    OpenedFds(Vec<OpenedFd>),
    SocketAddrs { local: Vec<u8>, remote: Vec<u8> },
    MadviseRanges(Vec<Range<Address>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedFd {
    pub fd: i32,
    /// As the kernel gives it: bytes, not necessarily UTF-8.
    pub path: Vec<u8>,
    pub device: u64,
    pub inode: u64,
}

/// One piece of recorded memory; the bytes themselves come from [`crate::DataStream`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemWrite {
    /// Through whose address space it goes; may differ from the frame's task.
    pub tid: Tid,
    /// 0 is a placeholder: consume the bytes, write nothing.
    pub address: Address,
    pub length: u64,
    /// Zeroes that are not in the data stream: ascending, disjoint, inside `length` (checked).
    pub holes: Vec<Hole>,
    /// The tail may not be writable in a replay: write what is mapped.
    pub length_is_conservative: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// From the beginning of the write.
    pub offset: u64,
    pub length: u64,
}

impl MemWrite {
    /// Bytes that this write takes in the data stream.
    pub fn payload_length(&self) -> u64 {
        self.holes.iter().fold(self.length, |left, hole| left.saturating_sub(hole.length))
    }
}
