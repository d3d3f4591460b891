//! Small hand-assembled guests: code, data and a stack at fixed places, driven in several ways.

use anyhow::{Result, ensure};
use machine::{Backing, Cpu, Exit, Limits, Machine, Observers, Options, Protection, Space};
use model::{Address, PAGE_SIZE, gpr};

/// How the machine is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    Steps,
    /// Stops by limits of so many instructions.
    Slices(u64),
    Freely,
}

impl Drive {
    pub const ALL: [Drive; 5] =
        [Drive::Freely, Drive::Steps, Drive::Slices(1), Drive::Slices(7), Drive::Slices(1000)];

    /// Runs to something other than a limit.
    pub fn run(self, machine: &mut Machine, space: &mut Space, cpu: &mut Cpu) -> Result<Exit> {
        loop {
            let exit = match self {
                Drive::Steps => machine.step(space, cpu, None)?,
                Drive::Slices(count) => {
                    let instructions = Some(cpu.instructions + count);
                    machine.run(space, cpu, Limits { instructions, ticks: None })?
                }
                Drive::Freely => machine.run(space, cpu, Limits::default())?,
            };
            if exit != Exit::InstructionLimit {
                return Ok(exit);
            }
            ensure!(cpu.instructions < 10_000_000, "runs away");
        }
    }
}

pub const NO_OBSERVERS: Observers = Observers {
    written_words: false,
    read_lines: false,
    executions: false,
    calls: false,
    control_flow: false,
    stores: false,
};

pub const ALL_OBSERVERS: Observers = Observers {
    written_words: true,
    read_lines: true,
    executions: true,
    calls: true,
    control_flow: true,
    stores: true,
};

pub const READ_WRITE: Protection = Protection { read: true, write: true, execute: false };
pub const READ_ONLY: Protection = Protection { read: true, write: false, execute: false };
pub const READ_EXECUTE: Protection = Protection { read: true, write: false, execute: true };
pub const READ_WRITE_EXECUTE: Protection = Protection { read: true, write: true, execute: true };

/// A machine with one program in it: code that it cannot write, data, and a stack.
#[derive(Debug)]
pub struct Guest {
    pub machine: Machine,
    pub space: Space,
    pub cpu: Cpu,
}

impl Guest {
    pub const CODE: u64 = 0x40_0000;
    /// Eight pages; nothing is mapped around them.
    pub const DATA: u64 = 0x5555_0010_0000;
    pub const DATA_END: u64 = Guest::DATA + 8 * PAGE_SIZE;
    /// Two pages; nothing is mapped around them.
    pub const STACK: u64 = 0x7fff_8000_0000;

    /// At the start of `code`, rsp in the middle of the stack, all other registers 0.
    pub fn new(observers: Observers, code: &[u8]) -> Result<Guest> {
        Guest::with_options(&Options::default(), observers, code)
    }

    pub fn with_options(options: &Options, observers: Observers, code: &[u8]) -> Result<Guest> {
        let mut machine = Machine::new(options.clone())?;
        machine.set_observers(observers)?;
        let space = Guest::space(&mut machine, code)?;
        Ok(Guest { machine, space, cpu: Guest::start() })
    }

    /// An address space with the program.
    pub fn space(machine: &mut Machine, code: &[u8]) -> Result<Space> {
        let mut space = machine.new_space()?;
        let pages = |start, bytes: u64| Address(start)..Address(start + bytes).page_ceil();
        let code_range = pages(Guest::CODE, code.len() as u64 + PAGE_SIZE);
        space.map(code_range, READ_EXECUTE, Backing::Zero)?;
        space.write(Address(Guest::CODE), code)?;
        space.map(Address(Guest::DATA)..Address(Guest::DATA_END), READ_WRITE, Backing::Zero)?;
        space.map(pages(Guest::STACK, 2 * PAGE_SIZE), READ_WRITE, Backing::Zero)?;
        Ok(space)
    }

    /// The state that a program starts in.
    pub fn start() -> Cpu {
        let mut cpu = Cpu { rip: Address(Guest::CODE), ..Cpu::default() };
        cpu.general[gpr::RSP] = Guest::STACK + PAGE_SIZE;
        cpu
    }

    /// Runs to something other than a limit.
    pub fn run(&mut self, drive: Drive) -> Result<Exit> {
        drive.run(&mut self.machine, &mut self.space, &mut self.cpu)
    }

    /// Runs to a limit of instructions or something before.
    pub fn run_until(&mut self, instructions: u64) -> Result<Exit> {
        let limits = Limits { instructions: Some(instructions), ticks: None };
        Ok(self.machine.run(&mut self.space, &mut self.cpu, limits)?)
    }

    /// All of data and stack.
    pub fn memory(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; (Guest::DATA_END - Guest::DATA + 2 * PAGE_SIZE) as usize];
        let (data, stack) = bytes.split_at_mut((Guest::DATA_END - Guest::DATA) as usize);
        self.space.read(Address(Guest::DATA), data)?;
        self.space.read(Address(Guest::STACK), stack)?;
        Ok(bytes)
    }
}

/// `mov $value,%eax`
pub fn set_eax(value: u32) -> Vec<u8> {
    [&[0xb8][..], &value.to_le_bytes()].concat()
}

/// `mov $value,%ecx`
pub fn set_ecx(value: u32) -> Vec<u8> {
    [&[0xb9][..], &value.to_le_bytes()].concat()
}

/// `movabs $value,%rdi`
pub fn set_rdi(value: u64) -> Vec<u8> {
    [&[0x48, 0xbf][..], &value.to_le_bytes()].concat()
}
