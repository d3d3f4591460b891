//! Names of numbers in arguments (the kernel's headers, `include/uapi`).

/// Names of bits or of values, in the order in which they are told.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// What the names have in common, for what has no name.
    pub none: &'static str,
    pub names: &'static [(u64, &'static str)],
}

/// Bits by name, those without one as a number.
pub fn flags(table: &Table, value: u64) -> String {
    if value == 0 {
        return zero(table).to_owned();
    }
    let mut left = value;
    let mut parts: Vec<String> = Vec::new();
    for (bits, name) in table.names.iter().filter(|(bits, _)| *bits != 0) {
        if left & bits == *bits {
            parts.push((*name).to_owned());
            left &= !bits;
        }
    }
    if left != 0 || parts.is_empty() {
        parts.push(format!("{left:#x}"));
    }
    parts.join("|")
}

/// One value by name, else as a number.
pub fn choice(table: &Table, value: u64) -> String {
    let known = table.names.iter().find(|(known, _)| *known == value);
    known.map_or_else(|| format!("{value:#x}"), |(_, name)| (*name).to_owned())
}

fn zero(table: &Table) -> &str {
    let named = table.names.iter().find(|(bits, _)| *bits == 0);
    named.map_or(table.none, |(_, name)| name)
}

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident: $none:literal { $($bits:literal $text:literal),* $(,)? })*) => {
        $($(#[$doc])* pub const $name: Table = Table {
            none: $none,
            names: &[$(($bits, $text)),*],
        };)*
    };
}

#[rustfmt::skip]
table! {
    /// Of open(2), without the way of access.
    OPEN: "0" {
        0x40 "O_CREAT", 0x80 "O_EXCL", 0x100 "O_NOCTTY", 0x200 "O_TRUNC", 0x400 "O_APPEND",
        0x800 "O_NONBLOCK", 0x101000 "O_SYNC", 0x1000 "O_DSYNC", 0x2000 "O_ASYNC",
        0x4000 "O_DIRECT", 0x8000 "O_LARGEFILE", 0x410000 "O_TMPFILE", 0x10000 "O_DIRECTORY",
        0x20000 "O_NOFOLLOW", 0x40000 "O_NOATIME", 0x80000 "O_CLOEXEC", 0x200000 "O_PATH",
    }
    OPEN_ACCESS: "0" { 0 "O_RDONLY", 1 "O_WRONLY", 2 "O_RDWR", 3 "O_ACCMODE" }
    /// Of calls that make descriptors; other names for them mean the same.
    CREATE: "0" { 0x800 "O_NONBLOCK", 0x4000 "O_DIRECT", 0x80000 "O_CLOEXEC" }
    AT: "0" {
        0x100 "AT_SYMLINK_NOFOLLOW", 0x200 "AT_REMOVEDIR", 0x400 "AT_SYMLINK_FOLLOW",
        0x800 "AT_NO_AUTOMOUNT", 0x1000 "AT_EMPTY_PATH",
    }
    ACCESS: "0" { 0 "F_OK", 4 "R_OK", 2 "W_OK", 1 "X_OK" }
    WHENCE: "0" { 0 "SEEK_SET", 1 "SEEK_CUR", 2 "SEEK_END", 3 "SEEK_DATA", 4 "SEEK_HOLE" }
    PROTECTION: "0" {
        0 "PROT_NONE", 1 "PROT_READ", 2 "PROT_WRITE", 4 "PROT_EXEC",
        0x1000000 "PROT_GROWSDOWN", 0x2000000 "PROT_GROWSUP",
    }
    MAP: "0" {
        3 "MAP_SHARED_VALIDATE", 1 "MAP_SHARED", 2 "MAP_PRIVATE", 0x10 "MAP_FIXED",
        0x20 "MAP_ANONYMOUS", 0x40 "MAP_32BIT", 0x100 "MAP_GROWSDOWN", 0x800 "MAP_DENYWRITE",
        0x1000 "MAP_EXECUTABLE", 0x2000 "MAP_LOCKED", 0x4000 "MAP_NORESERVE",
        0x8000 "MAP_POPULATE", 0x10000 "MAP_NONBLOCK", 0x20000 "MAP_STACK", 0x40000 "MAP_HUGETLB",
        0x100000 "MAP_FIXED_NOREPLACE",
    }
    REMAP: "0" { 1 "MREMAP_MAYMOVE", 2 "MREMAP_FIXED", 4 "MREMAP_DONTUNMAP" }
    SYNC: "0" { 1 "MS_ASYNC", 2 "MS_INVALIDATE", 4 "MS_SYNC" }
    ADVICE: "0" {
        0 "MADV_NORMAL", 1 "MADV_RANDOM", 2 "MADV_SEQUENTIAL", 3 "MADV_WILLNEED",
        4 "MADV_DONTNEED", 8 "MADV_FREE", 9 "MADV_REMOVE", 10 "MADV_DONTFORK", 11 "MADV_DOFORK",
        12 "MADV_MERGEABLE", 13 "MADV_UNMERGEABLE", 14 "MADV_HUGEPAGE", 15 "MADV_NOHUGEPAGE",
        16 "MADV_DONTDUMP", 17 "MADV_DODUMP", 18 "MADV_WIPEONFORK", 19 "MADV_KEEPONFORK",
        20 "MADV_COLD", 21 "MADV_PAGEOUT", 22 "MADV_POPULATE_READ", 23 "MADV_POPULATE_WRITE",
    }
    CLONE: "0" {
        0x100 "CLONE_VM", 0x200 "CLONE_FS", 0x400 "CLONE_FILES", 0x800 "CLONE_SIGHAND",
        0x1000 "CLONE_PIDFD", 0x2000 "CLONE_PTRACE", 0x4000 "CLONE_VFORK", 0x8000 "CLONE_PARENT",
        0x10000 "CLONE_THREAD", 0x20000 "CLONE_NEWNS", 0x40000 "CLONE_SYSVSEM",
        0x80000 "CLONE_SETTLS", 0x100000 "CLONE_PARENT_SETTID", 0x200000 "CLONE_CHILD_CLEARTID",
        0x400000 "CLONE_DETACHED", 0x800000 "CLONE_UNTRACED", 0x1000000 "CLONE_CHILD_SETTID",
        0x2000000 "CLONE_NEWCGROUP", 0x4000000 "CLONE_NEWUTS", 0x8000000 "CLONE_NEWIPC",
        0x10000000 "CLONE_NEWUSER", 0x20000000 "CLONE_NEWPID", 0x40000000 "CLONE_NEWNET",
        0x80000000 "CLONE_IO",
    }
    CLOCKS: "0" {
        0 "CLOCK_REALTIME", 1 "CLOCK_MONOTONIC", 2 "CLOCK_PROCESS_CPUTIME_ID",
        3 "CLOCK_THREAD_CPUTIME_ID", 4 "CLOCK_MONOTONIC_RAW", 5 "CLOCK_REALTIME_COARSE",
        6 "CLOCK_MONOTONIC_COARSE", 7 "CLOCK_BOOTTIME", 8 "CLOCK_REALTIME_ALARM",
        9 "CLOCK_BOOTTIME_ALARM", 11 "CLOCK_TAI",
    }
    MASK_HOW: "0" { 0 "SIG_BLOCK", 1 "SIG_UNBLOCK", 2 "SIG_SETMASK" }
    /// Of sigaction(2).
    ACTION: "0" {
        1 "SA_NOCLDSTOP", 2 "SA_NOCLDWAIT", 4 "SA_SIGINFO", 0x4000000 "SA_RESTORER",
        0x8000000 "SA_ONSTACK", 0x10000000 "SA_RESTART", 0x40000000 "SA_NODEFER",
        0x80000000 "SA_RESETHAND",
    }
    LIMITS: "0" {
        0 "RLIMIT_CPU", 1 "RLIMIT_FSIZE", 2 "RLIMIT_DATA", 3 "RLIMIT_STACK", 4 "RLIMIT_CORE",
        5 "RLIMIT_RSS", 6 "RLIMIT_NPROC", 7 "RLIMIT_NOFILE", 8 "RLIMIT_MEMLOCK", 9 "RLIMIT_AS",
        10 "RLIMIT_LOCKS", 11 "RLIMIT_SIGPENDING", 12 "RLIMIT_MSGQUEUE", 13 "RLIMIT_NICE",
        14 "RLIMIT_RTPRIO", 15 "RLIMIT_RTTIME",
    }
    TIMERS: "0" { 0 "ITIMER_REAL", 1 "ITIMER_VIRTUAL", 2 "ITIMER_PROF" }
    WAIT: "0" {
        1 "WNOHANG", 2 "WUNTRACED", 4 "WEXITED", 8 "WCONTINUED", 0x1000000 "WNOWAIT",
        0x20000000 "__WNOTHREAD", 0x40000000 "__WALL", 0x80000000 "__WCLONE",
    }
    MESSAGE: "0" {
        1 "MSG_OOB", 2 "MSG_PEEK", 4 "MSG_DONTROUTE", 8 "MSG_CTRUNC", 0x20 "MSG_TRUNC",
        0x40 "MSG_DONTWAIT", 0x80 "MSG_EOR", 0x100 "MSG_WAITALL", 0x4000 "MSG_NOSIGNAL",
        0x8000 "MSG_MORE", 0x10000 "MSG_WAITFORONE", 0x40000000 "MSG_CMSG_CLOEXEC",
    }
    FAMILIES: "0" {
        0 "AF_UNSPEC", 1 "AF_UNIX", 2 "AF_INET", 10 "AF_INET6", 16 "AF_NETLINK", 17 "AF_PACKET",
        38 "AF_ALG", 40 "AF_VSOCK",
    }
    /// With the flags that may be added.
    SOCKETS: "0" {
        1 "SOCK_STREAM", 2 "SOCK_DGRAM", 3 "SOCK_RAW", 5 "SOCK_SEQPACKET",
        0x80001 "SOCK_STREAM|SOCK_CLOEXEC", 0x80002 "SOCK_DGRAM|SOCK_CLOEXEC",
        0x80003 "SOCK_RAW|SOCK_CLOEXEC", 0x80005 "SOCK_SEQPACKET|SOCK_CLOEXEC",
        0x801 "SOCK_STREAM|SOCK_NONBLOCK", 0x802 "SOCK_DGRAM|SOCK_NONBLOCK",
        0x803 "SOCK_RAW|SOCK_NONBLOCK", 0x805 "SOCK_SEQPACKET|SOCK_NONBLOCK",
        0x80801 "SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK",
        0x80802 "SOCK_DGRAM|SOCK_CLOEXEC|SOCK_NONBLOCK",
        0x80803 "SOCK_RAW|SOCK_CLOEXEC|SOCK_NONBLOCK",
        0x80805 "SOCK_SEQPACKET|SOCK_CLOEXEC|SOCK_NONBLOCK",
    }
    SHUTDOWN: "0" { 0 "SHUT_RD", 1 "SHUT_WR", 2 "SHUT_RDWR" }
    EPOLL: "0" { 1 "EPOLL_CTL_ADD", 2 "EPOLL_CTL_DEL", 3 "EPOLL_CTL_MOD" }
    POLL: "0" {
        1 "POLLIN", 2 "POLLPRI", 4 "POLLOUT", 8 "POLLERR", 0x10 "POLLHUP", 0x20 "POLLNVAL",
        0x40 "POLLRDNORM", 0x80 "POLLRDBAND", 0x100 "POLLWRNORM", 0x200 "POLLWRBAND",
        0x400 "POLLMSG", 0x2000 "POLLRDHUP",
    }
    CONTROL: "0" {
        0 "F_DUPFD", 1 "F_GETFD", 2 "F_SETFD", 3 "F_GETFL", 4 "F_SETFL", 5 "F_GETLK",
        6 "F_SETLK", 7 "F_SETLKW", 8 "F_SETOWN", 9 "F_GETOWN", 10 "F_SETSIG", 11 "F_GETSIG",
        15 "F_SETOWN_EX", 16 "F_GETOWN_EX", 36 "F_OFD_GETLK", 37 "F_OFD_SETLK",
        38 "F_OFD_SETLKW", 1024 "F_SETLEASE", 1025 "F_GETLEASE", 1026 "F_NOTIFY",
        1030 "F_DUPFD_CLOEXEC", 1031 "F_SETPIPE_SZ", 1032 "F_GETPIPE_SZ", 1033 "F_ADD_SEALS",
        1034 "F_GET_SEALS",
    }
    /// Of ioctl(2).
    REQUESTS: "0" {
        0x5401 "TCGETS", 0x5402 "TCSETS", 0x5403 "TCSETSW", 0x5404 "TCSETSF", 0x540b "TCFLSH",
        0x540f "TIOCGPGRP", 0x5410 "TIOCSPGRP", 0x5411 "TIOCOUTQ", 0x5413 "TIOCGWINSZ",
        0x5414 "TIOCSWINSZ", 0x541b "FIONREAD", 0x5421 "FIONBIO", 0x5450 "FIONCLEX",
        0x5451 "FIOCLEX", 0x5452 "FIOASYNC", 0x8912 "SIOCGIFCONF", 0x8913 "SIOCGIFFLAGS",
        0x40049409 "FICLONE", 0x4020940d "FICLONERANGE",
    }
    PROCESS: "0" {
        1 "PR_SET_PDEATHSIG", 2 "PR_GET_PDEATHSIG", 3 "PR_GET_DUMPABLE", 4 "PR_SET_DUMPABLE",
        7 "PR_GET_KEEPCAPS", 8 "PR_SET_KEEPCAPS", 15 "PR_SET_NAME", 16 "PR_GET_NAME",
        21 "PR_GET_SECCOMP", 22 "PR_SET_SECCOMP", 23 "PR_CAPBSET_READ", 24 "PR_CAPBSET_DROP",
        29 "PR_SET_TIMERSLACK", 30 "PR_GET_TIMERSLACK", 36 "PR_SET_CHILD_SUBREAPER",
        38 "PR_SET_NO_NEW_PRIVS", 39 "PR_GET_NO_NEW_PRIVS", 41 "PR_SET_THP_DISABLE",
        42 "PR_GET_THP_DISABLE", 0x53564d41 "PR_SET_VMA", 0x59616d61 "PR_SET_PTRACER",
    }
    ARCH: "0" {
        0x1001 "ARCH_SET_GS", 0x1002 "ARCH_SET_FS", 0x1003 "ARCH_GET_FS", 0x1004 "ARCH_GET_GS",
        0x1011 "ARCH_GET_CPUID", 0x1012 "ARCH_SET_CPUID", 0x3001 "ARCH_CET_STATUS",
    }
    FUTEX: "0" {
        0 "FUTEX_WAIT", 1 "FUTEX_WAKE", 3 "FUTEX_REQUEUE", 4 "FUTEX_CMP_REQUEUE",
        5 "FUTEX_WAKE_OP", 6 "FUTEX_LOCK_PI", 7 "FUTEX_UNLOCK_PI", 9 "FUTEX_WAIT_BITSET",
        10 "FUTEX_WAKE_BITSET", 0x80 "FUTEX_WAIT_PRIVATE", 0x81 "FUTEX_WAKE_PRIVATE",
        0x83 "FUTEX_REQUEUE_PRIVATE", 0x84 "FUTEX_CMP_REQUEUE_PRIVATE",
        0x85 "FUTEX_WAKE_OP_PRIVATE", 0x86 "FUTEX_LOCK_PI_PRIVATE", 0x87 "FUTEX_UNLOCK_PI_PRIVATE",
        0x89 "FUTEX_WAIT_BITSET_PRIVATE", 0x8a "FUTEX_WAKE_BITSET_PRIVATE",
        0x109 "FUTEX_WAIT_BITSET|FUTEX_CLOCK_REALTIME",
        0x189 "FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME",
    }
    RANDOM: "0" { 1 "GRND_NONBLOCK", 2 "GRND_RANDOM", 4 "GRND_INSECURE" }
    /// Of a file's mode.
    FILES: "0" {
        0o140000 "S_IFSOCK", 0o120000 "S_IFLNK", 0o100000 "S_IFREG", 0o060000 "S_IFBLK",
        0o040000 "S_IFDIR", 0o020000 "S_IFCHR", 0o010000 "S_IFIFO",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_values() {
        assert_eq!(flags(&PROTECTION, 3), "PROT_READ|PROT_WRITE");
        assert_eq!(flags(&PROTECTION, 0), "PROT_NONE");
        assert_eq!(flags(&AT, 0), "0");
        assert_eq!(flags(&MAP, 0x8000_0000_0022), "MAP_PRIVATE|MAP_ANONYMOUS|0x800000000000");
        assert_eq!(flags(&MAP, 3), "MAP_SHARED_VALIDATE");
        assert_eq!(choice(&WHENCE, 2), "SEEK_END");
        assert_eq!(choice(&REQUESTS, 0x1234), "0x1234");
    }
}
