//! The things that a recorded process tree is made of: tasks, thread groups, and their numbers.

use std::ops::Range;

use machine::Cpu;
use model::{Address, Registers, Tid};
use serde::{Deserialize, Serialize};

use crate::descriptors::Call;
use crate::preload::THREAD_LOCALS_BYTES;
use crate::registers::{self, NO_SYSCALL, Selectors};

/// An address space of the session; numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SpaceId(pub u32);

/// A descriptor table of the session; numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FilesId(pub u32);

/// A registration made by rseq(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rseq {
    pub pointer: Address,
    pub signature: u32,
}

/// One thread of the recorded program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub tid: Tid,
    /// The thread's number inside its own pid namespace.
    pub own_tid: Tid,
    /// The thread group, by the number of its leader.
    pub leader: Tid,
    pub space: SpaceId,
    pub files: FilesId,
    #[serde(with = "crate::checkpoint::cpu")]
    pub cpu: Cpu,
    /// [`NO_SYSCALL`] while user code runs, else the number of the system call.
    pub orig_rax: u64,
    pub selectors: Selectors,
    pub in_syscall: bool,
    /// Where rr lets system calls of this task write.
    pub scratch: Option<Range<Address>>,
    pub syscall_buffer: Option<Range<Address>>,
    /// `preload_globals` of the task's program.
    pub globals: Option<Address>,
    /// This task's bytes of the thread-locals page while another task's are there.
    #[serde(with = "serde_bytes")]
    pub thread_locals: [u8; THREAD_LOCALS_BYTES],
    pub rseq: Option<Rseq>,
    /// Counts tasks of the session; names the task's `cloned_data` file.
    pub serial: u32,
    pub cloned_data_position: u64,
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// A task killed inside the preload library does not have the recorded registers any more.
    pub unchecked: bool,
    /// System calls under way that have to do with descriptors: those that signal handlers
    /// interrupted, then the present one.
    pub calls: Vec<Call>,
    /// A call that is over, with its result, but whose memory is still in the library's hands.
    pub late_call: Option<(Call, i64)>,
    /// Bytes of records committed when the last buffered call was seen.
    pub buffered_at: Option<u32>,
    /// The next frame of the task did not happen in replay (rr-replay 6.7).
    pub skip_next: bool,
}

impl Task {
    /// The first task, before its program is there.
    pub fn initial(tid: Tid, space: SpaceId, files: FilesId) -> Task {
        Task {
            tid,
            own_tid: tid,
            leader: tid,
            space,
            files,
            cpu: Cpu::default(),
            orig_rax: NO_SYSCALL,
            selectors: Selectors::default(),
            in_syscall: false,
            scratch: None,
            syscall_buffer: None,
            globals: None,
            thread_locals: [0; THREAD_LOCALS_BYTES],
            rseq: None,
            serial: 1,
            cloned_data_position: 0,
            name: Vec::new(),
            unchecked: false,
            calls: Vec::new(),
            late_call: None,
            buffered_at: None,
            skip_next: false,
        }
    }

    pub fn registers(&self) -> Registers {
        registers::of_task(&self.cpu, self.orig_rax, self.selectors)
    }

    /// Takes a frame's registers over completely.
    pub fn load_registers(&mut self, registers: &Registers) {
        registers::load(registers, &mut self.cpu);
        self.orig_rax = registers.orig_rax;
        self.selectors = Selectors::from(registers);
    }
}

/// The tasks that one process consists of are those whose `leader` is the group's key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ThreadGroup {
    pub execs: u32,
    /// The kernel's wait status, once the recording told it.
    pub exit_status: Option<i32>,
}
