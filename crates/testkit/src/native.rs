//! A native process under ptrace, moved by hand: the oracle.

use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use machine::{Cpu, FLAG_TRAP, Protection, VectorState, XSAVE_BYTES};
use model::Address;

use crate::ptrace;
pub use crate::ptrace::{Registers, pin_thread};

/// RF, which the kernel sets at some stops (SDM vol. 3, 17.3.1.1).
const FLAG_RESUME: u64 = 0x1_0000;
const PR_SET_TSC: u64 = 26;
const PR_TSC_SIGSEGV: u64 = 2;
/// What `rdtsc` gives to every program.
pub const TIME_STAMP: u64 = 0x1234_5678;
const AT_RANDOM: u64 = 25;
const AT_SYSINFO_EHDR: u64 = 33;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<String>,
    /// File given as standard input; none: /dev/null.
    pub input: Option<PathBuf>,
}

impl Program {
    pub fn new(path: &str, arguments: &[&str]) -> Program {
        let arguments = arguments.iter().map(|argument| argument.to_string()).collect();
        Program { path: path.into(), arguments, input: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Stopped for this signal, which has not been delivered.
    Signal(i32),
    /// At the entry or the exit of a system call.
    SystemCall,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeMapping {
    pub range: Range<Address>,
    pub protection: Protection,
    pub name: String,
}

#[derive(Debug)]
pub struct Native {
    child: Child,
    pid: i32,
    memory: File,
    vector_bytes: usize,
}

impl Drop for Native {
    fn drop(&mut self) {
        ptrace::kill(self.pid);
        let _ = self.child.wait();
    }
}

impl Native {
    /// Starts a program, stopped at its first instruction; without vDSO, random addresses and
    /// random bytes, on this thread's CPU.
    pub fn spawn(program: &Program) -> Result<Native> {
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).env_clear().current_dir("/");
        command.env("GLIBC_TUNABLES", "glibc.pthread.rseq=0").env("PATH", "/usr/bin:/bin");
        command.env("PYTHONHASHSEED", "0").env("LC_ALL", "C");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        match &program.input {
            Some(path) => command.stdin(File::open(path)?),
            None => command.stdin(Stdio::null()),
        };
        let native = Native::start(&mut command).with_context(|| format!("{program:?}"))?;
        native.hide_auxiliary()?;
        let entry = native.registers()?.rip;
        let mut code = [0; 3];
        native.read(entry, &mut code)?;
        native.inject(entry, libc::SYS_prctl as u64, [PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0, 0])?;
        native.write(entry, &code)?;
        Ok(native)
    }

    pub(crate) fn start(command: &mut Command) -> Result<Native> {
        let child = ptrace::spawn_stopped(command)?;
        let pid = child.id() as i32;
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        let mut native = Native { child, pid, memory, vector_bytes: XSAVE_BYTES };
        native.vector_bytes = ptrace::vector(pid, &mut [0; XSAVE_BYTES])?;
        Ok(native)
    }

    /// Takes the vDSO and the random bytes out of the auxiliary vector (ABI, 3.4.3).
    fn hide_auxiliary(&self) -> Result<()> {
        let mut at = self.registers()?.rsp;
        let arguments = self.read_u64(at)?;
        at += 8 * (arguments + 2);
        while self.read_u64(at)? != 0 {
            at += 8;
        }
        at += 8;
        loop {
            match self.read_u64(at)? {
                0 => return Ok(()),
                AT_SYSINFO_EHDR => self.write(at, &1_u64.to_le_bytes())?,
                AT_RANDOM => self.write(self.read_u64(at + 8)?, b"0123456789abcdef")?,
                _ => {}
            }
            at += 16;
        }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn registers(&self) -> Result<Registers> {
        Ok(ptrace::registers(self.pid)?)
    }

    pub fn set_registers(&self, registers: &Registers) -> Result<()> {
        Ok(ptrace::set_registers(self.pid, registers)?)
    }

    pub fn vector(&self) -> Result<VectorState> {
        let mut state = VectorState([0; XSAVE_BYTES]);
        ptrace::vector(self.pid, &mut state.0)?;
        Ok(state)
    }

    pub fn set_vector(&self, state: &VectorState) -> Result<()> {
        Ok(ptrace::set_vector(self.pid, &state.0[..self.vector_bytes])?)
    }

    pub fn step(&self, signal: i32) -> Result<Stop> {
        ptrace::single_step(self.pid, signal)?;
        self.wait()
    }

    pub fn resume(&self, signal: i32) -> Result<Stop> {
        ptrace::resume(self.pid, signal)?;
        self.wait()
    }

    /// Runs to the entry or exit of a system call, over `rdtsc`.
    pub fn resume_to_system_call(&self) -> Result<Stop> {
        loop {
            ptrace::resume_to_system_call(self.pid, 0)?;
            let stop = self.wait()?;
            if stop != Stop::Signal(libc::SIGSEGV) || !self.pass_time_stamp()? {
                return Ok(stop);
            }
        }
    }

    /// Does the `rdtsc` at which the process has got a SIGSEGV; false when it is another one.
    pub fn pass_time_stamp(&self) -> Result<bool> {
        let registers = self.registers()?;
        let mut code = [0; 2];
        self.read_mapped(registers.rip, &mut code);
        if code != [0x0f, 0x31] {
            return Ok(false);
        }
        let rip = registers.rip + 2;
        self.set_registers(&Registers { rip, rax: TIME_STAMP, rdx: 0, ..registers })?;
        Ok(true)
    }

    fn wait(&self) -> Result<Stop> {
        let status = ptrace::wait(self.pid)?;
        if !libc::WIFSTOPPED(status) {
            return Ok(Stop::Ended);
        }
        match libc::WSTOPSIG(status) {
            signal if signal == libc::SIGTRAP | 0x80 => Ok(Stop::SystemCall),
            signal => Ok(Stop::Signal(signal)),
        }
    }

    /// Number, code and address of the signal of the current stop.
    pub fn signal_information(&self) -> Result<(i32, i32, u64)> {
        Ok(ptrace::signal_information(self.pid)?)
    }

    /// Reads whatever the protection.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.memory.read_exact_at(bytes, address).with_context(|| format!("read at {address:#x}"))
    }

    /// Reads as much as is mapped, returns how much.
    pub fn read_mapped(&self, address: u64, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            match self.memory.read_at(&mut bytes[done..], address + done as u64) {
                Ok(0) | Err(_) => break,
                Ok(count) => done += count,
            }
        }
        done
    }

    /// Writes whatever the protection.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.memory.write_all_at(bytes, address).with_context(|| format!("write at {address:#x}"))
    }

    pub fn read_u64(&self, address: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The mappings a guest has too: all but the kernel's own pages that differ by machine.
    pub fn mappings(&self) -> Result<Vec<NativeMapping>> {
        let text = fs::read_to_string(format!("/proc/{}/maps", self.pid))?;
        let mut mappings = Vec::new();
        for line in text.lines() {
            let mapping = parse_mapping(line).with_context(|| format!("maps line {line:?}"))?;
            if !mapping.name.starts_with("[vvar") && mapping.name != "[vsyscall]" {
                mappings.push(mapping);
            }
        }
        Ok(mappings)
    }

    /// The whole processor state, counts left 0.
    pub fn cpu(&self) -> Result<Cpu> {
        Ok(cpu_of(&self.registers()?, self.vector()?))
    }

    /// Runs one system call in the child, wherever it is; registers are put back.
    pub(crate) fn inject(&self, code: u64, number: u64, arguments: [u64; 6]) -> Result<u64> {
        let saved = self.registers()?;
        self.write(code, &[0x0f, 0x05, 0xcc])?;
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let call =
            Registers { rip: code, rax: number, rdi, rsi, rdx, r10, r8, r9, orig_rax: !0, ..saved };
        self.set_registers(&call)?;
        let stop = self.step(0)?;
        if stop != Stop::Signal(libc::SIGTRAP) {
            bail!("system call {number} in the child: {stop:?}");
        }
        let result = self.registers()?.rax;
        self.set_registers(&saved)?;
        if result as i64 > -4096 && (result as i64) < 0 {
            bail!("system call {number} {arguments:x?} in the child failed: {}", result as i64);
        }
        Ok(result)
    }
}

/// The machine's form of native registers.
pub fn cpu_of(native: &Registers, vector: VectorState) -> Cpu {
    let r = native;
    Cpu {
        general: [
            r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11,
            r.r12, r.r13, r.r14, r.r15,
        ],
        rip: Address(r.rip),
        rflags: r.eflags & !FLAG_RESUME & !FLAG_TRAP,
        fs_base: r.fs_base,
        gs_base: r.gs_base,
        vector,
        ..Cpu::default()
    }
}

/// `base` with the guest's values in it.
pub fn registers_of(cpu: &Cpu, base: &Registers) -> Registers {
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] =
        cpu.general;
    Registers {
        rax,
        rcx,
        rdx,
        rbx,
        rsp,
        rbp,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip: cpu.rip.0,
        eflags: cpu.rflags,
        fs_base: cpu.fs_base,
        gs_base: cpu.gs_base,
        orig_rax: !0,
        ..*base
    }
}

fn parse_mapping(line: &str) -> Option<NativeMapping> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let rights = fields.next()?.as_bytes();
    let name = fields.nth(3).unwrap_or("").to_string();
    let address = |text| u64::from_str_radix(text, 16).ok().map(Address);
    let protection = Protection {
        read: rights[0] == b'r',
        write: rights[1] == b'w',
        execute: rights[2] == b'x',
    };
    Some(NativeMapping { range: address(start)?..address(end)?, protection, name })
}
