//! System calls that the host carries out: their pointers are replaced by buffers of ours.
//!
//! One table says what each argument is. A call that is not in it never reaches the host.
#![expect(unsafe_code, reason = "system calls with buffers of ours")]

use std::fs::File;
use std::os::fd::FromRawFd;

use libc::c_long;
use machine::Space;
use model::Address;

use super::{Answer, BUFFER_BYTES_MAX, Errno, Kernel, read_text};

/// What an argument is to the kernel.
#[derive(Clone, Copy, Debug)]
enum Argument {
    Value,
    /// A NUL-terminated string that is read.
    Text,
    /// Bytes that are read.
    Read(Length),
    /// Bytes of which the kernel writes as many as it returns.
    Data(Length),
    /// Bytes that are written from first to last if the call succeeds.
    Fill(Length),
    /// Bytes that are read, and some of them written.
    Update(Length),
}

/// How long the bytes behind a pointer are.
#[derive(Clone, Copy, Debug)]
enum Length {
    Fixed(u64),
    /// As many bytes as this argument says.
    In(usize),
    /// As many elements as the argument says, of so many bytes.
    Elements(usize, u64),
}

use Argument::{Data, Fill, Read, Text, Update, Value as V};
use Length::{Elements, Fixed, In};

const STAT: Argument = Fill(Fixed(144));
const STATFS: Argument = Fill(Fixed(120));
const TIMESPEC: Argument = Fill(Fixed(16));
const LIMIT: Argument = Fill(Fixed(16));
const USAGE: Argument = Fill(Fixed(144));

/// Sizes are those of the kernel's structures on x86-64 (include/uapi/linux, arch/x86).
static CALLS: &[(c_long, &[Argument])] = &[
    (libc::SYS_read, &[V, Data(In(2)), V]),
    (libc::SYS_write, &[V, Read(In(2)), V]),
    (libc::SYS_pread64, &[V, Data(In(2)), V, V]),
    (libc::SYS_pwrite64, &[V, Read(In(2)), V, V]),
    (libc::SYS_open, &[Text, V, V]),
    (libc::SYS_openat, &[V, Text, V, V]),
    (libc::SYS_creat, &[Text, V]),
    (libc::SYS_memfd_create, &[Text, V]),
    (libc::SYS_close, &[V]),
    (libc::SYS_lseek, &[V, V, V]),
    (libc::SYS_dup, &[V]),
    (libc::SYS_dup2, &[V, V]),
    (libc::SYS_dup3, &[V, V, V]),
    (libc::SYS_pipe, &[Fill(Fixed(8))]),
    (libc::SYS_pipe2, &[Fill(Fixed(8)), V]),
    (libc::SYS_eventfd2, &[V, V]),
    (libc::SYS_epoll_create1, &[V]),
    (libc::SYS_poll, &[Update(Elements(1, 8)), V, V]),
    (libc::SYS_flock, &[V, V]),
    (libc::SYS_fsync, &[V]),
    (libc::SYS_fdatasync, &[V]),
    (libc::SYS_truncate, &[Text, V]),
    (libc::SYS_ftruncate, &[V, V]),
    (libc::SYS_fallocate, &[V, V, V, V]),
    (libc::SYS_fadvise64, &[V, V, V, V]),
    (libc::SYS_sendfile, &[V, V, Update(Fixed(8)), V]),
    (libc::SYS_copy_file_range, &[V, Update(Fixed(8)), V, Update(Fixed(8)), V, V]),
    (libc::SYS_getdents64, &[V, Data(In(2)), V]),
    (libc::SYS_stat, &[Text, STAT]),
    (libc::SYS_lstat, &[Text, STAT]),
    (libc::SYS_fstat, &[V, STAT]),
    (libc::SYS_newfstatat, &[V, Text, STAT, V]),
    (libc::SYS_statx, &[V, Text, V, V, Fill(Fixed(256))]),
    (libc::SYS_statfs, &[Text, STATFS]),
    (libc::SYS_fstatfs, &[V, STATFS]),
    (libc::SYS_access, &[Text, V]),
    (libc::SYS_faccessat, &[V, Text, V]),
    (libc::SYS_faccessat2, &[V, Text, V, V]),
    (libc::SYS_readlink, &[Text, Data(In(2)), V]),
    (libc::SYS_readlinkat, &[V, Text, Data(In(3)), V]),
    (libc::SYS_getcwd, &[Data(In(1)), V]),
    (libc::SYS_chdir, &[Text]),
    (libc::SYS_fchdir, &[V]),
    (libc::SYS_mkdir, &[Text, V]),
    (libc::SYS_mkdirat, &[V, Text, V]),
    (libc::SYS_rmdir, &[Text]),
    (libc::SYS_rename, &[Text, Text]),
    (libc::SYS_renameat, &[V, Text, V, Text]),
    (libc::SYS_renameat2, &[V, Text, V, Text, V]),
    (libc::SYS_link, &[Text, Text]),
    (libc::SYS_linkat, &[V, Text, V, Text, V]),
    (libc::SYS_unlink, &[Text]),
    (libc::SYS_unlinkat, &[V, Text, V]),
    (libc::SYS_symlink, &[Text, Text]),
    (libc::SYS_symlinkat, &[Text, V, Text]),
    (libc::SYS_chmod, &[Text, V]),
    (libc::SYS_fchmod, &[V, V]),
    (libc::SYS_fchmodat, &[V, Text, V]),
    (libc::SYS_chown, &[Text, V, V]),
    (libc::SYS_lchown, &[Text, V, V]),
    (libc::SYS_fchown, &[V, V, V]),
    (libc::SYS_fchownat, &[V, Text, V, V, V]),
    (libc::SYS_utimensat, &[V, Text, Read(Fixed(32)), V]),
    (libc::SYS_umask, &[V]),
    (libc::SYS_getpid, &[]),
    (libc::SYS_gettid, &[]),
    (libc::SYS_getppid, &[]),
    (libc::SYS_getpgrp, &[]),
    (libc::SYS_getpgid, &[V]),
    (libc::SYS_getsid, &[V]),
    (libc::SYS_getuid, &[]),
    (libc::SYS_geteuid, &[]),
    (libc::SYS_getgid, &[]),
    (libc::SYS_getegid, &[]),
    (libc::SYS_getgroups, &[V, Update(Elements(0, 4))]),
    (libc::SYS_getresuid, &[Fill(Fixed(4)), Fill(Fixed(4)), Fill(Fixed(4))]),
    (libc::SYS_getresgid, &[Fill(Fixed(4)), Fill(Fixed(4)), Fill(Fixed(4))]),
    (libc::SYS_getpriority, &[V, V]),
    (libc::SYS_getrlimit, &[V, LIMIT]),
    (libc::SYS_setrlimit, &[V, Read(Fixed(16))]),
    (libc::SYS_prlimit64, &[V, V, Read(Fixed(16)), LIMIT]),
    (libc::SYS_getrusage, &[V, USAGE]),
    (libc::SYS_sched_getaffinity, &[V, V, Data(In(1))]),
    (libc::SYS_sysinfo, &[Fill(Fixed(112))]),
    (libc::SYS_uname, &[Fill(Fixed(390))]),
    (libc::SYS_times, &[Fill(Fixed(32))]),
    (libc::SYS_time, &[Fill(Fixed(8))]),
    (libc::SYS_gettimeofday, &[TIMESPEC, Fill(Fixed(8))]),
    (libc::SYS_clock_gettime, &[V, TIMESPEC]),
    (libc::SYS_clock_getres, &[V, TIMESPEC]),
    (libc::SYS_clock_nanosleep, &[V, V, Read(Fixed(16)), Update(Fixed(16))]),
    (libc::SYS_nanosleep, &[Read(Fixed(16)), Update(Fixed(16))]),
    (libc::SYS_getrandom, &[Data(In(1)), V, V]),
];

impl Kernel {
    /// The host's answer; `None` for a call that is not in the table.
    pub(super) fn forward(
        &self,
        space: &mut Space,
        number: c_long,
        arguments: &[u64; 6],
    ) -> Option<Answer> {
        match number {
            libc::SYS_ioctl => return Some(ioctl(space, arguments)),
            libc::SYS_fcntl => return Some(fcntl(space, arguments)),
            _ => {}
        }
        let (_, shape) = CALLS.iter().find(|(call, _)| *call == number)?;
        Some(call_host(space, number, shape, arguments))
    }
}

/// Only requests whose argument's size is known.
fn ioctl(space: &mut Space, arguments: &[u64; 6]) -> Answer {
    let argument = match arguments[1] {
        libc::TCGETS => Fill(Fixed(36)),
        libc::TIOCGWINSZ => Fill(Fixed(8)),
        libc::TIOCGPGRP | libc::FIONREAD => Fill(Fixed(4)),
        libc::FIOCLEX | libc::FIONCLEX => V,
        _ => return Err(Errno(libc::ENOTTY)),
    };
    call_host(space, libc::SYS_ioctl, &[V, V, argument], arguments)
}

fn fcntl(space: &mut Space, arguments: &[u64; 6]) -> Answer {
    let argument = match super::low_half(arguments[1]) {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC | libc::F_GETFD | libc::F_SETFD => V,
        libc::F_GETFL | libc::F_SETFL => V,
        libc::F_GETLK | libc::F_SETLK | libc::F_SETLKW => Update(Fixed(32)),
        _ => return Err(Errno(libc::EINVAL)),
    };
    call_host(space, libc::SYS_fcntl, &[V, V, argument], arguments)
}

fn call_host(
    space: &mut Space,
    number: c_long,
    shape: &[Argument],
    arguments: &[u64; 6],
) -> Answer {
    let mut actual = *arguments;
    let mut buffers: [Vec<u8>; 6] = Default::default();
    for (index, argument) in shape.iter().enumerate() {
        let pointer = arguments[index];
        if pointer == 0 {
            continue;
        }
        let buffer = &mut buffers[index];
        match *argument {
            Argument::Value => continue,
            Text => *buffer = read_text(space, pointer)?,
            Read(length) | Update(length) => {
                *buffer = vec![0; length.of(&mut actual)];
                space.read(Address(pointer), buffer)?;
            }
            Data(length) | Fill(length) => *buffer = vec![0; length.of(&mut actual)],
        }
        actual[index] = buffer.as_mut_ptr().expose_provenance() as u64;
    }
    // SAFETY: every caller's `shape` names each pointer argument of the call; those are now null
    // or point to a live buffer that is as long as the kernel will read or write, or, where an
    // argument gives the length, as that argument, which `Length::of` has cut to the buffer's.
    // None of these calls keeps a pointer or changes our address space.
    let result = unsafe {
        libc::syscall(number, actual[0], actual[1], actual[2], actual[3], actual[4], actual[5])
    };
    if result < 0 {
        return Err(last_error());
    }
    for (index, argument) in shape.iter().enumerate() {
        let buffer = &buffers[index];
        let written = match argument {
            Argument::Value | Text | Read(_) => 0,
            Data(_) => usize::try_from(result).unwrap_or(0).min(buffer.len()),
            Fill(_) | Update(_) => buffer.len(),
        };
        if arguments[index] != 0 && written > 0 {
            space.write(Address(arguments[index]), &buffer[..written])?;
        }
    }
    Ok(result)
}

impl Length {
    /// Bytes, at most `BUFFER_BYTES_MAX`: a longer length argument is cut.
    fn of(self, arguments: &mut [u64; 6]) -> usize {
        let length = match self {
            Fixed(bytes) => bytes,
            In(index) => {
                arguments[index] = arguments[index].min(BUFFER_BYTES_MAX);
                arguments[index]
            }
            Elements(index, bytes) => {
                arguments[index] = arguments[index].min(BUFFER_BYTES_MAX / bytes);
                arguments[index] * bytes
            }
        };
        usize::try_from(length).unwrap_or(0)
    }
}

fn last_error() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// A descriptor of our own for the guest's open file, out of the way of the numbers that the
/// guest will be given.
pub fn duplicate_high(descriptor: i32) -> std::io::Result<File> {
    const LOWEST: i32 = 512;
    // SAFETY: takes no pointer; the kernel checks the number.
    let own = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, LOWEST) };
    if own < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(own) })
}

/// Reads at an offset, or at the descriptor's own without one.
pub fn read_at(descriptor: i32, buffer: &mut [u8], at: Option<i64>) -> Result<usize, Errno> {
    let (place, length) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the kernel writes at most `length` bytes to `place`, which are the slice's.
    let result = unsafe {
        match at {
            None => libc::read(descriptor, place, length),
            Some(offset) => libc::pread(descriptor, place, length, offset),
        }
    };
    usize::try_from(result).map_err(|_| last_error())
}

/// Writes at an offset, or at the descriptor's own without one.
pub fn write_at(descriptor: i32, buffer: &[u8], at: Option<i64>) -> Result<usize, Errno> {
    let (place, length) = (buffer.as_ptr().cast(), buffer.len());
    // SAFETY: the kernel reads at most `length` bytes from `place`, which are the slice's.
    let result = unsafe {
        match at {
            None => libc::write(descriptor, place, length),
            Some(offset) => libc::pwrite(descriptor, place, length, offset),
        }
    };
    usize::try_from(result).map_err(|_| last_error())
}
