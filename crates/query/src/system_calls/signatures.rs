//! What the arguments of system calls are, by the call's name (its page in section 2 of the
//! manual).

use super::flags::{self, Table};

/// What an argument or a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 32 bits with a sign.
    Int,
    /// 32 bits without.
    Unsigned,
    /// 64 bits with a sign.
    Long,
    /// 64 bits without.
    Size,
    Octal,
    Hexadecimal,
    Pointer,
    Descriptor,
    /// A descriptor of a directory, or the current directory.
    Directory,
    Flags(&'static Table),
    /// One of several.
    Choice(&'static Table),
    /// Of open(2): a way of access, and flags.
    Open,
    /// Of clone(2): flags, and the signal at the end.
    Clone,
    Signal,
    /// A set of signals.
    SignalSet,
    SignalSetOut,
    /// `struct sigaction`.
    Action,
    ActionOut,
    /// Text up to a zero.
    Text,
    /// Lists of texts.
    Texts,
    /// As many bytes as another argument says.
    Bytes(usize),
    /// As many bytes as the call returned.
    BytesOut,
    TextOut,
    /// A list of so many buffers as another argument says.
    Vector(usize),
    VectorOut(usize),
    /// A socket's address, and its length in another argument.
    Socket(usize),
    /// The same from the kernel, the length being where another argument points to.
    SocketOut(usize),
    /// `struct timespec`, `struct timeval`, and two of the latter.
    Time,
    TimeOut,
    MicroTime,
    MicroTimeOut,
    Timer,
    TimerOut,
    /// `struct stat`.
    StatusOut,
    /// As wait(2) gives it.
    WaitOut,
    IntOut,
    /// Two descriptors.
    PairOut,
    /// `struct pollfd`s, as many as another argument says.
    Polls(usize),
    /// `struct rlimit`.
    Limit,
    LimitOut,
    /// `struct utsname`.
    SystemOut,
}

impl Kind {
    /// Whether the call leaves it in memory.
    pub fn is_output(self) -> bool {
        use Kind::*;
        matches!(
            self,
            SignalSetOut
                | ActionOut
                | BytesOut
                | TextOut
                | VectorOut(_)
                | SocketOut(_)
                | TimeOut
                | MicroTimeOut
                | TimerOut
                | StatusOut
                | WaitOut
                | IntOut
                | PairOut
                | LimitOut
                | SystemOut
        )
    }
}

/// Arguments and result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    pub arguments: &'static [Kind],
    pub result: Kind,
}

use Kind::*;

const ADVICE: Kind = Choice(&flags::ADVICE);
const AT: Kind = Flags(&flags::AT);
const PROTECTION: Kind = Flags(&flags::PROTECTION);
const CLOCK: Kind = Choice(&flags::CLOCKS);
const HOW: Kind = Choice(&flags::MASK_HOW);
const LIMIT: Kind = Choice(&flags::LIMITS);
const TIMER: Kind = Choice(&flags::TIMERS);
const WAIT: Kind = Flags(&flags::WAIT);
const WHENCE: Kind = Choice(&flags::WHENCE);
const MESSAGE: Kind = Flags(&flags::MESSAGE);
const FAMILY: Kind = Choice(&flags::FAMILIES);
const SOCKET: Kind = Choice(&flags::SOCKETS);
const CREATE: Kind = Flags(&flags::CREATE);

/// Names, and the arguments of all of them.
type Group = (&'static [&'static str], &'static [Kind]);

const ARGUMENTS: &[Group] = &[
    (&["read"], &[Descriptor, BytesOut, Size]),
    (&["write"], &[Descriptor, Bytes(2), Size]),
    (&["pread64"], &[Descriptor, BytesOut, Size, Long]),
    (&["pwrite64"], &[Descriptor, Bytes(2), Size, Long]),
    (&["readv"], &[Descriptor, VectorOut(2), Int]),
    (&["writev"], &[Descriptor, Vector(2), Int]),
    (&["preadv"], &[Descriptor, VectorOut(2), Int, Long]),
    (&["pwritev"], &[Descriptor, Vector(2), Int, Long]),
    (&["open"], &[Text, Open, Octal]),
    (&["openat"], &[Directory, Text, Open, Octal]),
    (&["creat"], &[Text, Octal]),
    (&["close", "fsync", "fdatasync", "fchdir", "dup", "syncfs"], &[Descriptor]),
    (&["close_range"], &[Unsigned, Unsigned, Unsigned]),
    (&["dup2"], &[Descriptor, Descriptor]),
    (&["dup3"], &[Descriptor, Descriptor, CREATE]),
    (&["pipe"], &[PairOut]),
    (&["pipe2"], &[PairOut, CREATE]),
    (&["stat", "lstat"], &[Text, StatusOut]),
    (&["fstat"], &[Descriptor, StatusOut]),
    (&["newfstatat"], &[Directory, Text, StatusOut, AT]),
    (&["statx"], &[Directory, Text, AT, Pointer, Pointer]),
    (&["statfs"], &[Text, Pointer]),
    (&["fstatfs"], &[Descriptor, Pointer]),
    (&["access"], &[Text, Flags(&flags::ACCESS)]),
    (&["faccessat"], &[Directory, Text, Flags(&flags::ACCESS)]),
    (&["faccessat2"], &[Directory, Text, Flags(&flags::ACCESS), AT]),
    (&["readlink"], &[Text, BytesOut, Size]),
    (&["readlinkat"], &[Directory, Text, BytesOut, Size]),
    (&["lseek"], &[Descriptor, Long, WHENCE]),
    (&["getdents", "getdents64"], &[Descriptor, Pointer, Size]),
    (&["getcwd"], &[TextOut, Size]),
    (&["chdir", "rmdir", "unlink", "chroot"], &[Text]),
    (&["mkdir", "chmod"], &[Text, Octal]),
    (&["mkdirat"], &[Directory, Text, Octal]),
    (&["fchmod"], &[Descriptor, Octal]),
    (&["fchmodat"], &[Directory, Text, Octal]),
    (&["chown", "lchown"], &[Text, Int, Int]),
    (&["fchown"], &[Descriptor, Int, Int]),
    (&["fchownat"], &[Directory, Text, Int, Int, AT]),
    (&["rename", "link", "symlink"], &[Text, Text]),
    (&["renameat"], &[Directory, Text, Directory, Text]),
    (&["renameat2"], &[Directory, Text, Directory, Text, Unsigned]),
    (&["linkat"], &[Directory, Text, Directory, Text, AT]),
    (&["symlinkat"], &[Text, Directory, Text]),
    (&["unlinkat"], &[Directory, Text, AT]),
    (&["mknod"], &[Text, Octal, Size]),
    (&["mknodat"], &[Directory, Text, Octal, Size]),
    (&["truncate"], &[Text, Long]),
    (&["ftruncate"], &[Descriptor, Long]),
    (&["fallocate"], &[Descriptor, Int, Long, Long]),
    (&["fadvise64"], &[Descriptor, Long, Long, Int]),
    (&["flock"], &[Descriptor, Int]),
    (&["umask"], &[Octal]),
    (&["utimensat"], &[Directory, Text, Pointer, AT]),
    (&["fcntl"], &[Descriptor, Choice(&flags::CONTROL), Long]),
    (&["ioctl"], &[Descriptor, Choice(&flags::REQUESTS), Pointer]),
    (&["sendfile"], &[Descriptor, Descriptor, Pointer, Size]),
    (&["copy_file_range"], &[Descriptor, Pointer, Descriptor, Pointer, Size, Unsigned]),
    (&["splice"], &[Descriptor, Pointer, Descriptor, Pointer, Size, Unsigned]),
    (&["tee"], &[Descriptor, Descriptor, Size, Unsigned]),
    (&["memfd_create"], &[Text, Unsigned]),
    (&["eventfd2"], &[Unsigned, CREATE]),
    (&["eventfd"], &[Unsigned]),
    (&["epoll_create"], &[Int]),
    (&["timerfd_create"], &[CLOCK, CREATE]),
    (&["timerfd_settime"], &[Descriptor, Int, Pointer, Pointer]),
    (&["signalfd4"], &[Descriptor, SignalSet, Size, CREATE]),
    (&["inotify_init1", "epoll_create1"], &[CREATE]),
    (&["inotify_add_watch"], &[Descriptor, Text, Unsigned]),
    (&["inotify_rm_watch"], &[Descriptor, Int]),
    (&["epoll_ctl"], &[Descriptor, Choice(&flags::EPOLL), Descriptor, Pointer]),
    (&["epoll_wait"], &[Descriptor, Pointer, Int, Int]),
    (&["epoll_pwait"], &[Descriptor, Pointer, Int, Int, SignalSet, Size]),
    (&["poll"], &[Polls(1), Unsigned, Int]),
    (&["ppoll"], &[Polls(1), Unsigned, Time, SignalSet, Size]),
    (&["select"], &[Int, Pointer, Pointer, Pointer, MicroTime]),
    (&["pselect6"], &[Int, Pointer, Pointer, Pointer, Time, Pointer]),
    (&["mmap"], &[Pointer, Size, PROTECTION, Flags(&flags::MAP), Descriptor, Hexadecimal]),
    (&["munmap"], &[Pointer, Size]),
    (&["mprotect"], &[Pointer, Size, PROTECTION]),
    (&["pkey_mprotect"], &[Pointer, Size, PROTECTION, Int]),
    (&["mremap"], &[Pointer, Size, Size, Flags(&flags::REMAP), Pointer]),
    (&["madvise"], &[Pointer, Size, ADVICE]),
    (&["msync"], &[Pointer, Size, Flags(&flags::SYNC)]),
    (&["mlock", "munlock"], &[Pointer, Size]),
    (&["brk"], &[Pointer]),
    (&["rt_sigaction"], &[Signal, Action, ActionOut, Size]),
    (&["rt_sigprocmask"], &[HOW, SignalSet, SignalSetOut, Size]),
    (&["rt_sigpending"], &[SignalSetOut, Size]),
    (&["rt_sigsuspend"], &[SignalSet, Size]),
    (&["rt_sigtimedwait"], &[SignalSet, Pointer, Time, Size]),
    (&["rt_sigqueueinfo"], &[Int, Signal, Pointer]),
    (&["rt_tgsigqueueinfo"], &[Int, Int, Signal, Pointer]),
    (&["sigaltstack"], &[Pointer, Pointer]),
    (&["kill", "tkill"], &[Int, Signal]),
    (&["tgkill"], &[Int, Int, Signal]),
    (
        &[
            "rt_sigreturn",
            "pause",
            "getpid",
            "gettid",
            "getppid",
            "getuid",
            "geteuid",
            "getgid",
            "getegid",
            "getpgrp",
            "setsid",
            "sched_yield",
            "fork",
            "vfork",
            "sync",
            "inotify_init",
            "restart_syscall",
        ],
        &[],
    ),
    (&["nanosleep"], &[Time, TimeOut]),
    (&["clock_nanosleep"], &[CLOCK, Int, Time, TimeOut]),
    (&["clock_gettime", "clock_getres"], &[CLOCK, TimeOut]),
    (&["clock_settime"], &[CLOCK, Time]),
    (&["gettimeofday"], &[MicroTimeOut, Pointer]),
    (&["time", "times", "sysinfo"], &[Pointer]),
    (&["getitimer"], &[TIMER, TimerOut]),
    (&["setitimer"], &[TIMER, Timer, TimerOut]),
    (&["alarm"], &[Unsigned]),
    (&["timer_create"], &[CLOCK, Pointer, Pointer]),
    (&["socket"], &[FAMILY, SOCKET, Int]),
    (&["socketpair"], &[FAMILY, SOCKET, Int, PairOut]),
    (&["bind", "connect"], &[Descriptor, Socket(2), Int]),
    (&["accept"], &[Descriptor, SocketOut(2), Pointer]),
    (&["accept4"], &[Descriptor, SocketOut(2), Pointer, CREATE]),
    (&["getsockname", "getpeername"], &[Descriptor, SocketOut(2), Pointer]),
    (&["listen"], &[Descriptor, Int]),
    (&["shutdown"], &[Descriptor, Choice(&flags::SHUTDOWN)]),
    (&["sendto"], &[Descriptor, Bytes(2), Size, MESSAGE, Socket(5), Int]),
    (&["recvfrom"], &[Descriptor, BytesOut, Size, MESSAGE, SocketOut(5), Pointer]),
    (&["sendmsg", "recvmsg"], &[Descriptor, Pointer, MESSAGE]),
    (&["sendmmsg"], &[Descriptor, Pointer, Unsigned, MESSAGE]),
    (&["recvmmsg"], &[Descriptor, Pointer, Unsigned, MESSAGE, Time]),
    (&["setsockopt"], &[Descriptor, Int, Int, Bytes(4), Unsigned]),
    (&["getsockopt"], &[Descriptor, Int, Int, Pointer, Pointer]),
    (&["clone"], &[Clone, Pointer, Pointer, Pointer, Pointer]),
    (&["clone3"], &[Pointer, Size]),
    (&["unshare"], &[Clone]),
    (&["execve"], &[Text, Texts, Pointer]),
    (&["execveat"], &[Directory, Text, Texts, Pointer, AT]),
    (&["exit", "exit_group"], &[Int]),
    (&["wait4"], &[Int, WaitOut, WAIT, Pointer]),
    (&["waitid"], &[Int, Int, Pointer, WAIT, Pointer]),
    (&["uname"], &[SystemOut]),
    (&["prctl"], &[Choice(&flags::PROCESS), Pointer, Pointer, Pointer, Pointer]),
    (&["arch_prctl"], &[Choice(&flags::ARCH), Pointer]),
    (&["set_tid_address"], &[Pointer]),
    (&["set_robust_list"], &[Pointer, Size]),
    (&["rseq"], &[Pointer, Unsigned, Int, Pointer]),
    (&["futex"], &[Pointer, Choice(&flags::FUTEX), Unsigned, Pointer, Pointer, Unsigned]),
    (&["getrandom"], &[BytesOut, Size, Flags(&flags::RANDOM)]),
    (&["getrlimit"], &[LIMIT, LimitOut]),
    (&["setrlimit"], &[LIMIT, Limit]),
    (&["prlimit64"], &[Int, LIMIT, Limit, LimitOut]),
    (&["getrusage"], &[Int, Pointer]),
    (&["setuid", "setgid", "getpgid", "getsid"], &[Int]),
    (&["setpgid", "setreuid", "setregid", "getpriority"], &[Int, Int]),
    (&["setpriority", "setresuid", "setresgid"], &[Int, Int, Int]),
    (&["getresuid", "getresgid"], &[IntOut, IntOut, IntOut]),
    (&["sched_getaffinity", "sched_setaffinity"], &[Int, Size, Pointer]),
    (&["getcpu"], &[IntOut, IntOut, Pointer]),
    (&["pidfd_open"], &[Int, CREATE]),
    (&["pidfd_getfd"], &[Descriptor, Int, Unsigned]),
    (&["pidfd_send_signal"], &[Descriptor, Signal, Pointer, Unsigned]),
    (&["ptrace"], &[Long, Int, Pointer, Pointer]),
    (&["membarrier"], &[Int, Unsigned, Int]),
];

/// Calls that return an address, or a descriptor.
const ADDRESSES: &[&str] = &["mmap", "mremap", "brk", "shmat"];
const DESCRIPTORS: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "socket",
    "accept",
    "accept4",
    "eventfd",
    "eventfd2",
    "timerfd_create",
    "signalfd4",
    "memfd_create",
    "inotify_init",
    "inotify_init1",
    "epoll_create",
    "epoll_create1",
    "pidfd_open",
    "pidfd_getfd",
];

/// What is known of a call.
pub fn signature(name: &str) -> Option<Signature> {
    let (_, arguments) = ARGUMENTS.iter().find(|(names, _)| names.contains(&name))?;
    let result = match name {
        _ if ADDRESSES.contains(&name) => Pointer,
        _ if DESCRIPTORS.contains(&name) => Descriptor,
        "umask" => Octal,
        _ => Long,
    };
    Some(Signature { arguments, result })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call_names;

    #[test]
    fn names_are_those_of_calls_and_told_once() {
        let mut names: Vec<&str> =
            ARGUMENTS.iter().flat_map(|(names, _)| names.iter().copied()).collect();
        for name in names.iter().chain(DESCRIPTORS).chain(ADDRESSES) {
            assert!(call_names::number(name).is_some(), "{name}");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn lengths_are_among_the_arguments() {
        for (names, arguments) in ARGUMENTS {
            for kind in *arguments {
                let (Bytes(at) | Vector(at) | VectorOut(at) | Socket(at) | SocketOut(at)
                | Polls(at)) = kind
                else {
                    continue;
                };
                assert!(*at < arguments.len(), "{names:?}");
            }
        }
    }
}
