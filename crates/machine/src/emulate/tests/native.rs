//! A traced child process in which single instructions run natively.
#![allow(unsafe_code, reason = "system calls without a safe form")]

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use model::Address;

use crate::emulate::host::host;
use crate::{Cpu, Fault, Protection};

const NT_X86_XSTATE: usize = 0x202;

#[derive(Debug)]
pub struct Native {
    pid: libc::pid_t,
    memory: File,
}

#[derive(Clone, Copy, Debug)]
pub struct Region {
    pub start: u64,
    pub length: u64,
    pub protection: Protection,
}

impl Native {
    /// A child with these regions mapped, zeroed.
    pub fn start(regions: &[Region]) -> Native {
        // SAFETY: the child makes nothing but system calls on values from before the fork.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: the child ends in a stop that only the tracer's kill leaves.
            unsafe { child(regions) }
        }
        assert!(pid > 0, "fork failed");
        assert_eq!(wait(pid), libc::SIGSTOP);
        ptrace(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_EXITKILL as usize);
        let path = format!("/proc/{pid}/mem");
        let memory = File::options().read(true).write(true).open(path).unwrap();
        Native { pid, memory }
    }

    pub fn read(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.memory.read_exact_at(&mut bytes, range.start).unwrap();
        bytes
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, address).unwrap();
    }

    /// Runs from `cpu` up to a breakpoint, whose address becomes rip, or a fault.
    pub fn run(&self, cpu: &Cpu) -> (Cpu, Option<Fault>) {
        self.set_state(cpu);
        ptrace(libc::PTRACE_CONT, self.pid, 0, 0);
        let signal = wait(self.pid);
        let mut after = self.state(cpu);
        if signal == libc::SIGTRAP {
            after.rip = after.rip - 1;
            return (after, None);
        }
        // SAFETY: a siginfo of zeroes is valid, and the kernel fills it in.
        let info: libc::siginfo_t = unsafe {
            let mut info = std::mem::zeroed();
            ptrace(libc::PTRACE_GETSIGINFO, self.pid, 0, &raw mut info as usize);
            info
        };
        // SAFETY: all signals met here are faults, which have an address.
        let address = Address(unsafe { info.si_addr() } as u64);
        (after, Some(Fault { signal, code: info.si_code, address }))
    }

    /// The ID flag is not the tracer's to set.
    pub fn possible_flags(&self, flags: u64) -> u64 {
        let id = 1 << 21;
        flags & !id | self.registers().eflags & id
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: integers only, filled in by the kernel.
        unsafe {
            let mut registers = std::mem::zeroed();
            ptrace(libc::PTRACE_GETREGS, self.pid, 0, &raw mut registers as usize);
            registers
        }
    }

    fn set_state(&self, cpu: &Cpu) {
        let mut registers = self.registers();
        for (to, from) in general(&mut registers).into_iter().zip(cpu.general) {
            *to = from;
        }
        registers.rip = cpu.rip.0;
        registers.eflags = cpu.rflags;
        registers.fs_base = cpu.fs_base;
        registers.gs_base = cpu.gs_base;
        registers.orig_rax = u64::MAX;
        (registers.ds, registers.es, registers.fs, registers.gs) = (0, 0, 0, 0);
        ptrace(libc::PTRACE_SETREGS, self.pid, 0, &raw mut registers as usize);
        let size = self.transfer(libc::PTRACE_GETREGSET, &mut crate::VectorState::default());
        // First zeroes everywhere: the kernel leaves a component that becomes initial in its
        // buffer, and now and then the processor's xsaves calls these bytes valid.
        let mut zeroes = crate::VectorState::default();
        zeroes.set_xstate_bv(host().images.xcr0);
        for image in [&mut zeroes, &mut cpu.vector.clone()] {
            let mut part = libc::iovec { iov_base: image.0.as_mut_ptr().cast(), iov_len: size };
            ptrace(libc::PTRACE_SETREGSET, self.pid, NT_X86_XSTATE, &raw mut part as usize);
        }
    }

    fn state(&self, before: &Cpu) -> Cpu {
        let mut registers = self.registers();
        let mut cpu = before.clone();
        for (to, from) in cpu.general.iter_mut().zip(general(&mut registers)) {
            *to = *from;
        }
        cpu.rip = Address(registers.rip);
        cpu.rflags = registers.eflags;
        cpu.fs_base = registers.fs_base;
        cpu.gs_base = registers.gs_base;
        cpu.vector = crate::VectorState::default();
        self.transfer(libc::PTRACE_GETREGSET, &mut cpu.vector);
        if cpu.vector.xstate_bv() & 2 == 0 {
            // What the kernel shows is stale: the processor's compacted image of an SSE state
            // that is initial, MXCSR included, has no MXCSR.
            crate::emulate::components::set_mxcsr(&mut cpu.vector, 0x1f80);
        }
        assert_eq!(cpu.vector.xstate_bv() & !host().images.xcr0, 0);
        cpu
    }

    fn transfer(&self, request: libc::c_uint, image: &mut crate::VectorState) -> usize {
        let length = image.0.len();
        let mut part = libc::iovec { iov_base: image.0.as_mut_ptr().cast(), iov_len: length };
        ptrace(request, self.pid, NT_X86_XSTATE, &raw mut part as usize);
        part.iov_len
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: the process is our child and has not been waited for.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

fn general(registers: &mut libc::user_regs_struct) -> [&mut u64; 16] {
    let r = registers;
    [
        &mut r.rax, &mut r.rcx, &mut r.rdx, &mut r.rbx, &mut r.rsp, &mut r.rbp, &mut r.rsi,
        &mut r.rdi, &mut r.r8, &mut r.r9, &mut r.r10, &mut r.r11, &mut r.r12, &mut r.r13,
        &mut r.r14, &mut r.r15,
    ]
}

unsafe fn child(regions: &[Region]) -> ! {
    for region in regions {
        let flag = |set, bit| if set { bit } else { 0 };
        let protection = flag(region.protection.read, libc::PROT_READ)
            | flag(region.protection.write, libc::PROT_WRITE)
            | flag(region.protection.execute, libc::PROT_EXEC);
        // SAFETY: the child has no use for what may have been there.
        unsafe {
            libc::mmap(
                region.start as *mut _,
                region.length as usize,
                protection,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            );
        }
    }
    // SAFETY: plain system calls.
    unsafe {
        libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
        libc::kill(libc::getpid(), libc::SIGSTOP);
        libc::_exit(1)
    }
}

fn ptrace(request: libc::c_uint, pid: libc::pid_t, address: usize, data: usize) {
    // SAFETY: callers pass the addresses of live structures of the kind that the request needs.
    let result = unsafe { libc::ptrace(request, pid, address, data) };
    assert!(result >= 0, "ptrace {request:#x}: {}", std::io::Error::last_os_error());
}

/// The signal with which the child stopped.
fn wait(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: waits for our own child.
    let result = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
    assert!(result == pid && libc::WIFSTOPPED(status), "child is gone: {status:#x}");
    libc::WSTOPSIG(status)
}
