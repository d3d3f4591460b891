//! Numbers of Linux on x86-64 that replay has to know: system calls, flags, errors, signals.

/// System calls with effects beyond their result and recorded memory (rr-replay 5), or on
/// descriptors.
pub mod syscall {
    pub const READ: i32 = 0;
    pub const WRITE: i32 = 1;
    pub const OPEN: i32 = 2;
    pub const CLOSE: i32 = 3;
    pub const FSTAT: i32 = 5;
    pub const LSEEK: i32 = 8;
    pub const MMAP: i32 = 9;
    pub const MPROTECT: i32 = 10;
    pub const MUNMAP: i32 = 11;
    pub const BRK: i32 = 12;
    pub const RT_SIGRETURN: i32 = 15;
    pub const IOCTL: i32 = 16;
    pub const PREAD64: i32 = 17;
    pub const PWRITE64: i32 = 18;
    pub const READV: i32 = 19;
    pub const WRITEV: i32 = 20;
    pub const PIPE: i32 = 22;
    pub const MREMAP: i32 = 25;
    pub const MADVISE: i32 = 28;
    pub const SHMAT: i32 = 30;
    pub const DUP: i32 = 32;
    pub const DUP2: i32 = 33;
    pub const SENDFILE: i32 = 40;
    pub const SOCKET: i32 = 41;
    pub const CONNECT: i32 = 42;
    pub const ACCEPT: i32 = 43;
    pub const SENDTO: i32 = 44;
    pub const RECVFROM: i32 = 45;
    pub const SENDMSG: i32 = 46;
    pub const RECVMSG: i32 = 47;
    pub const BIND: i32 = 49;
    pub const GETSOCKNAME: i32 = 51;
    pub const SOCKETPAIR: i32 = 53;
    pub const CLONE: i32 = 56;
    pub const FORK: i32 = 57;
    pub const VFORK: i32 = 58;
    pub const EXECVE: i32 = 59;
    pub const EXIT: i32 = 60;
    pub const SHMDT: i32 = 67;
    pub const FCNTL: i32 = 72;
    pub const TRUNCATE: i32 = 76;
    pub const FTRUNCATE: i32 = 77;
    pub const RENAME: i32 = 82;
    pub const CREAT: i32 = 85;
    pub const UNLINK: i32 = 87;
    pub const PTRACE: i32 = 101;
    pub const MKNOD: i32 = 133;
    pub const MODIFY_LDT: i32 = 154;
    pub const PRCTL: i32 = 157;
    pub const ARCH_PRCTL: i32 = 158;
    pub const EPOLL_CREATE: i32 = 213;
    pub const RESTART_SYSCALL: i32 = 219;
    pub const EXIT_GROUP: i32 = 231;
    pub const MQ_OPEN: i32 = 240;
    pub const INOTIFY_INIT: i32 = 253;
    pub const OPENAT: i32 = 257;
    pub const MKNODAT: i32 = 259;
    pub const NEWFSTATAT: i32 = 262;
    pub const UNLINKAT: i32 = 263;
    pub const RENAMEAT: i32 = 264;
    pub const UNSHARE: i32 = 272;
    pub const SPLICE: i32 = 275;
    pub const TEE: i32 = 276;
    pub const VMSPLICE: i32 = 278;
    pub const SIGNALFD: i32 = 282;
    pub const TIMERFD_CREATE: i32 = 283;
    pub const EVENTFD: i32 = 284;
    pub const FALLOCATE: i32 = 285;
    pub const ACCEPT4: i32 = 288;
    pub const SIGNALFD4: i32 = 289;
    pub const EVENTFD2: i32 = 290;
    pub const EPOLL_CREATE1: i32 = 291;
    pub const DUP3: i32 = 292;
    pub const PIPE2: i32 = 293;
    pub const INOTIFY_INIT1: i32 = 294;
    pub const PREADV: i32 = 295;
    pub const PWRITEV: i32 = 296;
    pub const PERF_EVENT_OPEN: i32 = 298;
    pub const RECVMMSG: i32 = 299;
    pub const FANOTIFY_INIT: i32 = 300;
    pub const OPEN_BY_HANDLE_AT: i32 = 304;
    pub const SENDMMSG: i32 = 307;
    pub const RENAMEAT2: i32 = 316;
    pub const MEMFD_CREATE: i32 = 319;
    pub const EXECVEAT: i32 = 322;
    pub const USERFAULTFD: i32 = 323;
    pub const COPY_FILE_RANGE: i32 = 326;
    pub const PREADV2: i32 = 327;
    pub const PWRITEV2: i32 = 328;
    pub const PKEY_MPROTECT: i32 = 329;
    pub const PKEY_ALLOC: i32 = 330;
    pub const STATX: i32 = 332;
    pub const RSEQ: i32 = 334;
    pub const IO_URING_SETUP: i32 = 425;
    pub const OPEN_TREE: i32 = 428;
    pub const FSOPEN: i32 = 430;
    pub const FSMOUNT: i32 = 432;
    pub const FSPICK: i32 = 433;
    pub const PIDFD_OPEN: i32 = 434;
    pub const CLOSE_RANGE: i32 = 436;
    pub const OPENAT2: i32 = 437;
    pub const PIDFD_GETFD: i32 = 438;
    pub const LANDLOCK_CREATE_RULESET: i32 = 444;
    pub const MEMFD_SECRET: i32 = 447;
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
pub const CLOSE_RANGE_UNSHARE: u64 = 2;

pub const CLONE_PIDFD: u64 = 0x1000;
pub const CLONE_THREAD: u64 = 0x1_0000;
pub const CLONE_SETTLS: u64 = 0x8_0000;

pub const ARCH_SET_GS: u64 = 0x1001;
pub const ARCH_SET_FS: u64 = 0x1002;

pub const PR_SET_NAME: u64 = 15;

pub const O_ACCMODE: i32 = 3;
pub const O_CREAT: i32 = 0o100;
pub const O_EXCL: i32 = 0o200;
pub const O_TRUNC: i32 = 0o1000;
pub const O_APPEND: i32 = 0o2000;
pub const O_CLOEXEC: i32 = 0o200_0000;
pub const O_DIRECTORY: i32 = 0o20_0000;
/// Flags of open(2) that stay with the description and can be changed.
pub const O_STATUS: i32 = !(O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC | O_DIRECTORY);

pub const F_DUPFD: u64 = 0;
pub const F_SETFD: u64 = 2;
pub const F_GETFL: u64 = 3;
pub const F_SETFL: u64 = 4;
pub const F_DUPFD_CLOEXEC: u64 = 1030;

pub const EBADF: i64 = 9;
pub const ENOMEM: i64 = 12;
pub const ENOSYS: i64 = 38;
pub const EINPROGRESS: i64 = 115;
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
