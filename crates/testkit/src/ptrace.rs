//! Thin wrappers of ptrace and its kin: the only unsafe code of the kit.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use libc::{c_int, c_long, c_void, pid_t};

pub type Registers = libc::user_regs_struct;

const NT_X86_XSTATE: c_long = 0x202;

fn check(what: &str, result: c_long) -> io::Result<c_long> {
    if result == -1 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(error.kind(), format!("{what}: {error}")));
    }
    Ok(result)
}

fn request(what: &str, request: u32, pid: pid_t, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: every caller passes an address and data that this request reads or writes as the
    // types it borrows for the length of the call; tracee memory is never given out.
    let result = unsafe { libc::ptrace(request, pid, address as *mut c_void, data as *mut c_void) };
    check(what, result).map(|_| ())
}

/// Keeps this thread, and what it starts, on the CPU where it is now.
pub fn pin_thread() -> io::Result<()> {
    // SAFETY: `set` is a plain bit set, valid when zeroed.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        check(
            "sched_setaffinity",
            c_long::from(libc::sched_setaffinity(0, size_of_val(&set), &set)),
        )?;
    }
    Ok(())
}

/// Starts the command without address randomisation; it is stopped behind its exec.
pub fn spawn_stopped(command: &mut Command) -> io::Result<Child> {
    // SAFETY: both calls are async-signal-safe, as the child of a fork needs.
    unsafe {
        command.pre_exec(|| {
            check("personality", c_long::from(libc::personality(libc::ADDR_NO_RANDOMIZE as u64)))?;
            check("PTRACE_TRACEME", libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0))?;
            Ok(())
        });
    }
    let child = command.spawn()?;
    let pid = child.id() as pid_t;
    wait(pid)?;
    let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;
    request("PTRACE_SETOPTIONS", libc::PTRACE_SETOPTIONS, pid, 0, options as usize)?;
    Ok(child)
}

/// Waits for the next stop or end: the raw wait status.
pub fn wait(pid: pid_t) -> io::Result<c_int> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        let result = unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
        match check("waitpid", c_long::from(result)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(status),
        }
    }
}

pub fn single_step(pid: pid_t, signal: c_int) -> io::Result<()> {
    request("PTRACE_SINGLESTEP", libc::PTRACE_SINGLESTEP, pid, 0, signal as usize)
}

pub fn resume(pid: pid_t, signal: c_int) -> io::Result<()> {
    request("PTRACE_CONT", libc::PTRACE_CONT, pid, 0, signal as usize)
}

pub fn resume_to_system_call(pid: pid_t, signal: c_int) -> io::Result<()> {
    request("PTRACE_SYSCALL", libc::PTRACE_SYSCALL, pid, 0, signal as usize)
}

pub fn registers(pid: pid_t) -> io::Result<Registers> {
    // SAFETY: the struct is plain integers, valid when zeroed.
    let mut registers: Registers = unsafe { std::mem::zeroed() };
    let data = &raw mut registers as usize;
    request("PTRACE_GETREGS", libc::PTRACE_GETREGS, pid, 0, data)?;
    Ok(registers)
}

pub fn set_registers(pid: pid_t, registers: &Registers) -> io::Result<()> {
    let data = std::ptr::from_ref(registers) as usize;
    request("PTRACE_SETREGS", libc::PTRACE_SETREGS, pid, 0, data)
}

/// The XSAVE image in standard format; returns how many bytes the kernel gave.
pub fn vector(pid: pid_t, image: &mut [u8]) -> io::Result<usize> {
    let mut vec = libc::iovec { iov_base: image.as_mut_ptr().cast(), iov_len: image.len() };
    let data = &raw mut vec as usize;
    request("PTRACE_GETREGSET", libc::PTRACE_GETREGSET, pid, NT_X86_XSTATE as usize, data)?;
    Ok(vec.iov_len)
}

pub fn set_vector(pid: pid_t, image: &[u8]) -> io::Result<()> {
    let vec = libc::iovec { iov_base: image.as_ptr() as *mut c_void, iov_len: image.len() };
    let data = &raw const vec as usize;
    request("PTRACE_SETREGSET", libc::PTRACE_SETREGSET, pid, NT_X86_XSTATE as usize, data)
}

/// Number, code and address of the signal that the tracee is stopped for.
pub fn signal_information(pid: pid_t) -> io::Result<(i32, i32, u64)> {
    // SAFETY: zeroed siginfo is valid, and `si_addr` is a plain word of the union.
    unsafe {
        let mut information: libc::siginfo_t = std::mem::zeroed();
        let data = &raw mut information as usize;
        request("PTRACE_GETSIGINFO", libc::PTRACE_GETSIGINFO, pid, 0, data)?;
        Ok((information.si_signo, information.si_code, information.si_addr() as u64))
    }
}

pub fn kill(pid: pid_t) {
    // SAFETY: the caller owns this child and has not waited for its end, so the id is not reused.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// An anonymous file that children inherit under the same descriptor.
pub fn inherited_file(name: &str, length: u64) -> io::Result<std::fs::File> {
    let name = CString::new(name).map_err(io::Error::other)?;
    // SAFETY: the descriptor is new and owned by the file made from it.
    let file = unsafe {
        let descriptor = check("memfd_create", c_long::from(libc::memfd_create(name.as_ptr(), 0)))?;
        std::fs::File::from_raw_fd(descriptor as c_int)
    };
    file.set_len(length)?;
    Ok(file)
}

/// XGETBV.
pub fn extended_control(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: programs that execute it have found OSXSAVE set; it changes nothing but its results.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") number, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(low) | u64::from(high) << 32
}
