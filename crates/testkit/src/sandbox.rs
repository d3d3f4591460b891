//! A native process that holds nothing but test areas: short pieces of code run in it from a given
//! state, about 30 us each.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use machine::{Backing, Cpu, Machine, Protection, Space};
use model::{Address, PAGE_SIZE};

use crate::{Native, Registers, Stop, cpu_of, ptrace, registers_of};

/// One test area: the same guest and native addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub name: &'static str,
    pub start: u64,
    pub pages: u64,
    pub protection: Protection,
}

impl Area {
    pub const fn end(&self) -> u64 {
        self.start + self.pages * PAGE_SIZE
    }

    const fn bytes(&self) -> u64 {
        self.pages * PAGE_SIZE
    }
}

const fn area(name: &'static str, start: u64, pages: u64, rights: &[u8; 3]) -> Area {
    let protection = Protection {
        read: rights[0] == b'r',
        write: rights[1] == b'w',
        execute: rights[2] == b'x',
    };
    Area { name, start, pages, protection }
}

/// Where snippets are put.
pub const CODE_AREA: Area = area("code", 0x5555_5000_0000, 66, b"r-x");
/// In reach of a 32-bit absolute address, where the host keeps its code cache.
pub const LOW_AREA: Area = area("low", 0x1000_0000, 3, b"rw-");
/// In reach of code relative to rip; a page that cannot be written follows, then nothing.
pub const NEAR_AREA: Area = area("near", 0x5555_6000_0000, 3, b"rw-");
pub const READ_ONLY_AREA: Area = area("read-only", NEAR_AREA.end(), 1, b"r--");
/// On both sides of a border between units of 4 GiB; a page without any right follows.
pub const BORDER_AREA: Area = area("border", 0x7ffe_ffff_e000, 4, b"rw-");
pub const NONE_AREA: Area = area("none", BORDER_AREA.end(), 1, b"---");
pub const STACK_AREA: Area = area("stack", 0x7fff_f7a0_0000, 3, b"rw-");
/// The last page of the user half.
pub const TOP_AREA: Area = area("top", 0x7fff_ffff_e000, 1, b"rw-");

/// Everything that is mapped, in the order of its bytes in [`Memory`].
pub const AREAS: [Area; 8] =
    [CODE_AREA, LOW_AREA, NEAR_AREA, READ_ONLY_AREA, BORDER_AREA, NONE_AREA, STACK_AREA, TOP_AREA];
/// Areas whose contents a snippet can change or read.
pub const DATA_AREAS: [Area; 6] =
    [LOW_AREA, NEAR_AREA, READ_ONLY_AREA, BORDER_AREA, STACK_AREA, TOP_AREA];

/// Native system calls are injected here.
const STUB: u64 = 0x6666_0000_0000;

/// Offsets there of `popf; int3` and the flags for it.
const POPF: u64 = 0x100;
const POPF_FLAGS: u64 = 0x200;
/// ID: only popf changes it, ptrace does not.
const FLAG_IDENTIFICATION: u64 = 1 << 21;

/// Code to run and the state to begin with; `cpu.rip` is its first byte.
#[derive(Clone, Debug)]
pub struct Snippet {
    pub cpu: Cpu,
    pub code: Vec<u8>,
    /// Bytes of memory whose contents are not compared.
    pub ignored: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At an `int3`, not behind it.
    Breakpoint,
    /// Signal, code, address of the signal.
    Signal(i32, i32, u64),
    /// Runs on for ever.
    Endless,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub cpu: Cpu,
    pub ending: Ending,
    /// Bytes of the data areas that are different now: address, new contents.
    pub changes: Vec<(u64, [u8; 8])>,
}

/// Contents of the data areas, in order.
pub type Memory = Vec<u8>;

pub fn data_bytes() -> usize {
    DATA_AREAS.iter().map(|area| area.bytes() as usize).sum()
}

/// Where the contents of an address lie in [`Memory`].
pub fn data_offset(address: u64) -> Option<usize> {
    let mut offset = 0;
    for area in DATA_AREAS {
        if (area.start..area.end()).contains(&address) {
            return Some(offset + (address - area.start) as usize);
        }
        offset += area.bytes() as usize;
    }
    None
}

#[derive(Debug)]
pub struct Sandbox {
    native: Native,
    base: Registers,
    /// Backs all areas: the data areas in order, then the others.
    file: File,
    memory: Memory,
}

impl Sandbox {
    pub fn new() -> Result<Sandbox> {
        let all: u64 = AREAS.iter().map(Area::bytes).sum();
        let file = ptrace::inherited_file("sandbox", all)?;
        let native = Native::start(&mut Command::new("/bin/true"))?;
        let entry = native.registers()?.rip;
        let fixed = (libc::MAP_FIXED | libc::MAP_ANONYMOUS | libc::MAP_PRIVATE) as u64;
        native.inject(entry, libc::SYS_mmap as u64, [STUB, PAGE_SIZE, 5, fixed, !0, 0])?;
        for mapping in native.mappings()?.iter().filter(|mapping| mapping.range.start.0 != STUB) {
            let length = mapping.range.end - mapping.range.start;
            native.inject(
                STUB,
                libc::SYS_munmap as u64,
                [mapping.range.start.0, length, 0, 0, 0, 0],
            )?;
        }
        for area in AREAS {
            let shared = (libc::MAP_FIXED | libc::MAP_SHARED) as u64;
            let rights = protection_bits(area.protection);
            let descriptor = file.as_raw_fd() as u64;
            let arguments =
                [area.start, area.bytes(), rights, shared, descriptor, file_offset(area)];
            native.inject(STUB, libc::SYS_mmap as u64, arguments)?;
        }
        let interval: Vec<u8> =
            [0_u64, 500_000, 0, 500_000].iter().flat_map(|w| w.to_le_bytes()).collect();
        native.write(STUB + 64, &interval)?;
        let virtual_timer = 1;
        native.inject(STUB, libc::SYS_setitimer as u64, [virtual_timer, STUB + 64, 0, 0, 0, 0])?;
        native.write(STUB + POPF, &[0x9d, 0xcc])?;
        native.write(STUB + POPF_FLAGS, &0x202_u64.to_le_bytes())?;
        let base = native.registers()?;
        Ok(Sandbox { native, base, file, memory: vec![0; data_bytes()] })
    }

    /// The same areas as guest memory.
    pub fn space(machine: &mut Machine) -> Result<Space> {
        let mut space = machine.new_space()?;
        for area in AREAS {
            space.map(Address(area.start)..Address(area.end()), area.protection, Backing::Zero)?;
        }
        Ok(space)
    }

    /// Sets the contents of all data areas.
    pub fn set_memory(&mut self, memory: &Memory) -> Result<()> {
        self.file.write_all_at(memory, 0)?;
        self.memory.clone_from(memory);
        Ok(())
    }

    pub fn set_code(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        ensure!(address >= CODE_AREA.start && address + bytes.len() as u64 <= CODE_AREA.end());
        let offset = file_offset(CODE_AREA) + address - CODE_AREA.start;
        Ok(self.file.write_all_at(bytes, offset)?)
    }

    /// Runs code that `set_code` has put in place; memory is put back afterwards.
    pub fn run(&mut self, start: &Cpu) -> Result<Outcome> {
        self.native.set_registers(&registers_of(start, &self.base))?;
        self.native.set_vector(&start.vector)?;
        let mut ending = self.resume()?;
        let mut registers = self.native.registers()?;
        if ending == Ending::Breakpoint {
            registers.rip -= 1;
        } else if let Ending::Signal(libc::SIGVTALRM, ..) = ending {
            ending = Ending::Endless;
        }
        if registers.eflags & machine::FLAG_TRAP != 0 {
            ending = Ending::Signal(libc::SIGTRAP, 0, 0);
        }
        let cpu = cpu_of(&registers, self.native.vector()?);
        if registers.eflags & FLAG_IDENTIFICATION != 0 {
            let (rip, rsp) = (STUB + POPF, STUB + POPF_FLAGS);
            self.native.set_registers(&Registers { rip, rsp, eflags: 0x202, ..self.base })?;
            ensure!(self.native.resume(0)? == Stop::Signal(libc::SIGTRAP), "sandbox: popf");
        }
        Ok(Outcome { cpu, ending, changes: self.take_changes()? })
    }

    /// The states behind each instruction of code that `set_code` has put in place, up to a
    /// signal; memory is put back afterwards.
    pub fn trace(&mut self, start: &Cpu, count: usize) -> Result<Vec<Cpu>> {
        self.native.set_registers(&registers_of(start, &self.base))?;
        self.native.set_vector(&start.vector)?;
        let mut states = Vec::new();
        for _ in 0..count {
            if self.native.step(0)? != Stop::Signal(libc::SIGTRAP) {
                break;
            }
            states.push(cpu_of(&self.native.registers()?, self.native.vector()?));
        }
        self.take_changes()?;
        Ok(states)
    }

    fn resume(&self) -> Result<Ending> {
        for patience in [true, false] {
            let Stop::Signal(signal) = self.native.resume(0)? else { bail!("sandbox has ended") };
            if signal == libc::SIGVTALRM && patience {
                continue;
            }
            let (number, code, address) = self.native.signal_information()?;
            const SI_KERNEL: i32 = 0x80;
            if number == libc::SIGTRAP && code == SI_KERNEL {
                return Ok(Ending::Breakpoint);
            }
            return Ok(Ending::Signal(number, code, address));
        }
        Ok(Ending::Endless)
    }

    fn take_changes(&mut self) -> Result<Vec<(u64, [u8; 8])>> {
        let mut changes = Vec::new();
        let mut page = [0; PAGE_SIZE as usize];
        let mut offset = 0;
        for area in DATA_AREAS {
            for number in 0..area.pages {
                let before = &self.memory[offset..offset + page.len()];
                self.file.read_exact_at(&mut page, offset as u64)?;
                if before != page {
                    for (index, (before, after)) in before.chunks(8).zip(page.chunks(8)).enumerate()
                    {
                        if before != after {
                            let address = area.start + number * PAGE_SIZE + 8 * index as u64;
                            changes.push((address, after.try_into().expect("eight bytes")));
                        }
                    }
                    self.file.write_all_at(before, offset as u64)?;
                }
                offset += page.len();
            }
        }
        Ok(changes)
    }
}

/// Offset of an area in the sandbox's file.
fn file_offset(area: Area) -> u64 {
    if let Some(offset) = data_offset(area.start) {
        return offset as u64;
    }
    let mut offset = data_bytes() as u64;
    for other in AREAS.iter().filter(|other| data_offset(other.start).is_none()) {
        if *other == area {
            break;
        }
        offset += other.bytes();
    }
    offset
}

fn protection_bits(protection: Protection) -> u64 {
    u64::from(protection.read)
        | u64::from(protection.write) << 1
        | u64::from(protection.execute) << 2
}

/// Sets the guest's data areas.
pub fn set_guest_memory(space: &mut Space, memory: &Memory) -> Result<()> {
    let mut offset = 0;
    for area in DATA_AREAS {
        let length = area.bytes() as usize;
        space.write(Address(area.start), &memory[offset..offset + length])?;
        offset += length;
    }
    Ok(())
}

/// Reads the guest's data areas.
pub fn guest_memory(space: &Space, memory: &mut Memory) -> Result<()> {
    let mut offset = 0;
    for area in DATA_AREAS {
        let length = area.bytes() as usize;
        space.read(Address(area.start), &mut memory[offset..offset + length])?;
        offset += length;
    }
    Ok(())
}
