//! Numbers of Linux on x86-64 that replay has to know: system calls, flags, errors, signals.

/// System calls with effects beyond their result and recorded memory (rr-replay 5).
pub mod syscall {
    pub const READ: i32 = 0;
    pub const CLOSE: i32 = 3;
    pub const MMAP: i32 = 9;
    pub const MPROTECT: i32 = 10;
    pub const MUNMAP: i32 = 11;
    pub const BRK: i32 = 12;
    pub const RT_SIGRETURN: i32 = 15;
    pub const WRITE: i32 = 1;
    pub const PWRITE64: i32 = 18;
    pub const WRITEV: i32 = 20;
    pub const MREMAP: i32 = 25;
    pub const MADVISE: i32 = 28;
    pub const SHMAT: i32 = 30;
    pub const DUP: i32 = 32;
    pub const DUP2: i32 = 33;
    pub const CLONE: i32 = 56;
    pub const FORK: i32 = 57;
    pub const VFORK: i32 = 58;
    pub const EXECVE: i32 = 59;
    pub const EXIT: i32 = 60;
    pub const SHMDT: i32 = 67;
    pub const FCNTL: i32 = 72;
    pub const PTRACE: i32 = 101;
    pub const MODIFY_LDT: i32 = 154;
    pub const PRCTL: i32 = 157;
    pub const ARCH_PRCTL: i32 = 158;
    pub const RESTART_SYSCALL: i32 = 219;
    pub const EXIT_GROUP: i32 = 231;
    pub const UNSHARE: i32 = 272;
    pub const DUP3: i32 = 292;
    pub const PWRITEV: i32 = 296;
    pub const EXECVEAT: i32 = 322;
    pub const PWRITEV2: i32 = 328;
    pub const PKEY_MPROTECT: i32 = 329;
    pub const PKEY_ALLOC: i32 = 330;
    pub const RSEQ: i32 = 334;
}

/// rr's own calls, relative to `rrcallBase` (rr-replay 6.8).
pub mod rrcall {
    pub const INIT_PRELOAD: i32 = 0;
    pub const INIT_BUFFERS: i32 = 1;
    pub const NOTIFY_SYSCALL_HOOK_EXIT: i32 = 2;
    pub const MPROTECT_RECORD: i32 = 5;
    pub const DETACH_TELEPORT: i32 = 9;
    pub const RDTSC: i32 = 12;
}

pub const PROT_READ: i32 = 1;
pub const PROT_WRITE: i32 = 2;
pub const PROT_EXEC: i32 = 4;
pub const PROT_GROWSDOWN: i32 = 0x0100_0000;

pub const MAP_SHARED: i32 = 1;
pub const MAP_ANONYMOUS: i32 = 0x20;
pub const MAP_GROWSDOWN: i32 = 0x100;

pub const MREMAP_DONTUNMAP: u64 = 4;

pub const SHM_RDONLY: u64 = 0x1000;
pub const SHM_EXEC: u64 = 0x8000;

pub const MADV_DONTNEED: u64 = 4;
pub const MADV_REMOVE: u64 = 9;
pub const MADV_DONTFORK: u64 = 10;
pub const MADV_DOFORK: u64 = 11;
pub const MADV_WIPEONFORK: u64 = 18;
pub const MADV_KEEPONFORK: u64 = 19;
pub const MADV_DONTNEED_LOCKED: u64 = 24;

pub const CLONE_VM: u64 = 0x100;
pub const CLONE_FILES: u64 = 0x400;
pub const CLONE_THREAD: u64 = 0x1_0000;
pub const CLONE_SETTLS: u64 = 0x8_0000;

pub const ARCH_SET_GS: u64 = 0x1001;
pub const ARCH_SET_FS: u64 = 0x1002;

pub const PR_SET_NAME: u64 = 15;

pub const F_DUPFD: u64 = 0;
pub const F_DUPFD_CLOEXEC: u64 = 1030;

pub const ENOMEM: i64 = 12;
pub const ENOSYS: i64 = 38;
/// Results that say "this call will be made again" (ERESTARTSYS, NOINTR, NOHAND, RESTARTBLOCK).
pub const RESTART_RESULTS: [i64; 4] = [-512, -513, -514, -516];

pub const SIGTRAP: i32 = 5;
pub const SIGBUS: i32 = 7;
pub const SIGSEGV: i32 = 11;
pub const SEGV_PKUERR: i32 = 4;
/// Codes of SIGTRAP: a single step, a debug register.
pub const TRAP_TRACE: i32 = 2;
pub const TRAP_HWBKPT: i32 = 4;

/// Whether this result is an error code.
pub fn is_error(result: i64) -> bool {
    (-4095..0).contains(&result)
}
