//! System calls: done natively, what they did to registers and memory carried to the guest.
#![allow(non_upper_case_globals)] // names of libc in patterns

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use machine::{Backing, Cpu, Protection, Space};
use model::{Address, PAGE_SIZE};

use crate::{Native, NativeMapping, Registers, Stop, cpu_of};

/// Everything one system call did that the program can see.
#[derive(Clone, Debug)]
pub struct Effect {
    /// Native registers at the `syscall` instruction and behind it.
    pub before: Registers,
    pub after: Registers,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Map { range: Range<Address>, protection: Protection, backing: Backing },
    Unmap(Range<Address>),
    Protect(Range<Address>, Protection),
    Relocate(Range<Address>, Address),
    Discard(Range<Address>),
    Write(Address, Vec<u8>),
}

impl Effect {
    /// Gives the guest, which is at the `syscall` instruction, what the native process got.
    pub fn apply(&self, space: &mut Space, cpu: &mut Cpu) -> Result<()> {
        for change in &self.changes {
            match change.clone() {
                Change::Map { range, protection, backing } => {
                    space.map(range, protection, backing)?
                }
                Change::Unmap(range) => space.unmap(range)?,
                Change::Protect(range, protection) => space.protect(range, protection)?,
                Change::Relocate(from, to) => space.relocate(from, to)?,
                Change::Discard(range) => space.discard(range)?,
                Change::Write(address, bytes) => space.write(address, &bytes)?,
            }
        }
        let next = cpu_of(&self.after, cpu.vector.clone());
        *cpu = Cpu { instructions: cpu.instructions + 1, ticks: cpu.ticks, ..next };
        Ok(())
    }
}

/// How the native process comes to the end of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallMode {
    /// It is at the `syscall` instruction: one step.
    Step,
    /// It is at the system call's entry stop.
    Entered,
}

/// Carries out the system call at which the process is; `None` when that ended it.
pub fn system_call(
    native: &Native,
    mode: CallMode,
    program_break: &mut u64,
) -> Result<Option<Effect>> {
    let mut before = native.registers()?;
    if mode == CallMode::Entered {
        before.rax = before.orig_rax;
        before.rip -= 2;
    }
    let arguments = [before.rdi, before.rsi, before.rdx, before.r10, before.r8, before.r9];
    let number = before.rax as i64;
    let snapshot = match written(number, &arguments, 0) {
        Written::Unknown => Some(Snapshot::take(native)?),
        Written::Ranges(_) => None,
    };
    if refused(number) {
        bail!("system call {number} of the program is not supported by the test kit");
    }
    if number == libc::SYS_rseq {
        skip_call(native, mode, &before)?;
    } else {
        let stop = match mode {
            CallMode::Step => native.step(0)?,
            CallMode::Entered => native.resume_to_system_call()?,
        };
        match (mode, stop) {
            (_, Stop::Ended) => return Ok(None),
            (CallMode::Step, Stop::Signal(libc::SIGTRAP))
            | (CallMode::Entered, Stop::SystemCall) => {}
            _ => bail!("{stop:?} instead of the end of system call {number}"),
        }
    }
    let after = native.registers()?;
    if number == libc::SYS_getrandom && after.rax as i64 > 0 {
        native.write(arguments[0], &vec![0x5a; after.rax as usize])?;
    }
    let mut changes = mapping_changes(native, number, &arguments, after.rax, program_break)?;
    match (written(number, &arguments, after.rax as i64), snapshot) {
        (Written::Ranges(ranges), _) => {
            for (address, length) in ranges {
                let mut bytes = vec![0; length as usize];
                native.read(address, &mut bytes)?;
                changes.push(Change::Write(Address(address), bytes));
            }
        }
        (Written::Unknown, snapshot) => {
            changes.extend(snapshot.context("snapshot was taken above")?.changes(native)?);
        }
    }
    Ok(Some(Effect { before, after, changes }))
}

/// Fails the call at whose instruction or entry the process is with ENOSYS.
fn skip_call(native: &Native, mode: CallMode, before: &Registers) -> Result<()> {
    let failed = -i64::from(libc::ENOSYS) as u64;
    match mode {
        CallMode::Step => {
            let rip = before.rip + 2;
            let registers = Registers { rip, rcx: rip, r11: before.eflags, rax: failed, ..*before };
            native.set_registers(&registers)
        }
        CallMode::Entered => {
            let mut registers = native.registers()?;
            registers.orig_rax = !0;
            native.set_registers(&registers)?;
            native.resume_to_system_call().map(|_| ())
        }
    }
}

enum Written {
    Ranges(Vec<(u64, u64)>),
    Unknown,
}

/// Calls that make threads or processes, or run signal handlers, have no place here.
fn refused(number: i64) -> bool {
    use libc::*;
    [SYS_clone, SYS_clone3, SYS_fork, SYS_vfork, SYS_execve, SYS_kill, SYS_tgkill, SYS_rt_sigreturn]
        .contains(&number)
}

/// The memory that the kernel writes for a call that returned `result`.
fn written(number: i64, arguments: &[u64; 6], result: i64) -> Written {
    use libc::*;
    let [a0, a1, a2, a3, a4, _] = *arguments;
    let stat = size_of::<libc::stat>() as u64;
    let filled = |address: u64, length: u64| {
        if result < 0 || address == 0 || length == 0 {
            Written::Ranges(Vec::new())
        } else {
            Written::Ranges(vec![(address, length)])
        }
    };
    let length = result.max(0) as u64;
    match number {
        SYS_read | SYS_pread64 | SYS_readlink | SYS_getdents64 => filled(a1, length),
        SYS_readlinkat => filled(a2, length),
        SYS_getcwd | SYS_getrandom => filled(a0, length),
        SYS_stat | SYS_lstat | SYS_fstat => filled(a1, stat),
        SYS_newfstatat => filled(a2, stat),
        SYS_statx => filled(a4, 256),
        SYS_rt_sigaction => filled(a2, 32),
        SYS_rt_sigprocmask => filled(a2, 8),
        SYS_prlimit64 => filled(a3, 16),
        SYS_clock_gettime | SYS_clock_getres | SYS_getrlimit => filled(a1, 16),
        SYS_getrusage => filled(a1, 144),
        SYS_uname => filled(a0, 390),
        SYS_sysinfo => filled(a0, 112),
        SYS_write | SYS_writev | SYS_open | SYS_openat | SYS_close | SYS_lseek | SYS_mmap
        | SYS_mprotect | SYS_munmap | SYS_mremap | SYS_madvise | SYS_brk | SYS_access
        | SYS_faccessat | SYS_faccessat2 | SYS_getpid | SYS_gettid | SYS_getuid | SYS_geteuid
        | SYS_getgid | SYS_getegid | SYS_getppid | SYS_set_tid_address | SYS_set_robust_list
        | SYS_arch_prctl | SYS_futex | SYS_unlink | SYS_fadvise64 | SYS_dup | SYS_dup2
        | SYS_chdir | SYS_umask | SYS_getpgrp | SYS_rseq | SYS_exit_group => {
            Written::Ranges(Vec::new())
        }
        _ => Written::Unknown,
    }
}

fn mapping_changes(
    native: &Native,
    number: i64,
    arguments: &[u64; 6],
    result: u64,
    program_break: &mut u64,
) -> Result<Vec<Change>> {
    use libc::*;
    let [a0, a1, a2, a3, a4, a5] = *arguments;
    if (result as i64) < 0 && result as i64 > -4096 {
        return Ok(Vec::new());
    }
    let pages = |address: u64, length: u64| Address(address)..Address(address + length).page_ceil();
    let change = match number {
        SYS_mmap => {
            let backing = if a3 as i32 & MAP_ANONYMOUS != 0 {
                Backing::Zero
            } else {
                file(native, a4, a5, a1)?
            };
            Change::Map { range: pages(result, a1), protection: protection(a2), backing }
        }
        SYS_munmap => Change::Unmap(pages(a0, a1)),
        SYS_mprotect => Change::Protect(pages(a0, a1), protection(a2)),
        SYS_madvise if a2 as i32 == MADV_DONTNEED => Change::Discard(pages(a0, a1)),
        SYS_brk => {
            let old = std::mem::replace(program_break, result);
            let (old, new) = (Address(old).page_ceil(), Address(result).page_ceil());
            match old.cmp(&new) {
                _ if old == Address(0) => return first_break(native, new),
                std::cmp::Ordering::Less => Change::Map {
                    range: old..new,
                    protection: protection(3),
                    backing: Backing::Zero,
                },
                std::cmp::Ordering::Greater => Change::Unmap(new..old),
                std::cmp::Ordering::Equal => return Ok(Vec::new()),
            }
        }
        SYS_mremap => return Ok(remapped(pages(a0, a1), pages(result, a2))),
        _ => return Ok(Vec::new()),
    };
    Ok(vec![change])
}

/// The break was not known before: the heap is as large as the native one.
fn first_break(native: &Native, end: Address) -> Result<Vec<Change>> {
    let heap = native.mappings()?.into_iter().find(|mapping| mapping.name == "[heap]");
    Ok(heap
        .into_iter()
        .map(|heap| Change::Map {
            range: heap.range.start..end,
            protection: protection(3),
            backing: Backing::Zero,
        })
        .collect())
}

fn remapped(from: Range<Address>, to: Range<Address>) -> Vec<Change> {
    let mut changes = Vec::new();
    let (old, new) = (from.end - from.start, to.end - to.start);
    if from.start != to.start {
        let kept = from.start..from.start + old.min(new);
        changes.push(Change::Relocate(kept, to.start));
    }
    if new > old {
        let range = to.start + old..to.end;
        changes.push(Change::Map { range, protection: protection(3), backing: Backing::Zero });
    } else if new < old {
        changes.push(Change::Unmap(from.start + new..from.end));
    }
    changes
}

fn protection(bits: u64) -> Protection {
    let has = |bit: i32| bits as i32 & bit != 0;
    Protection {
        read: has(libc::PROT_READ),
        write: has(libc::PROT_WRITE),
        execute: has(libc::PROT_EXEC),
    }
}

fn file(native: &Native, descriptor: u64, offset: u64, length: u64) -> Result<Backing> {
    let path = format!("/proc/{}/fd/{}", native.pid(), descriptor as i32);
    let file = File::open(&path).with_context(|| path.clone())?;
    let available = file.metadata()?.len().saturating_sub(offset);
    let length = length.next_multiple_of(PAGE_SIZE).min(available);
    Ok(Backing::File { file: Arc::new(file), offset, length })
}

/// All writable memory of the process, to find out what a call wrote.
struct Snapshot(Vec<(NativeMapping, Vec<u8>)>);

impl Snapshot {
    fn take(native: &Native) -> Result<Snapshot> {
        let mut list = Vec::new();
        for mapping in native.mappings()?.into_iter().filter(|mapping| mapping.protection.write) {
            let mut bytes = vec![0; (mapping.range.end - mapping.range.start) as usize];
            native.read_mapped(mapping.range.start.0, &mut bytes);
            list.push((mapping, bytes));
        }
        Ok(Snapshot(list))
    }

    /// Words that are different now.
    fn changes(&self, native: &Native) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for (mapping, before) in &self.0 {
            let mut after = vec![0; before.len()];
            let start = mapping.range.start;
            native.read(start.0, &mut after)?;
            for (index, (before, after)) in before.chunks(8).zip(after.chunks(8)).enumerate() {
                if before != after {
                    changes.push(Change::Write(start + 8 * index as u64, after.to_vec()));
                }
            }
        }
        Ok(changes)
    }
}
