//! A native process and the machine side by side.

use std::collections::{HashMap, VecDeque};

use anyhow::{Context, Result, bail, ensure};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use machine::{Cpu, Exit, FLAG_TRAP, Limits, Machine, Observers, Space, Trap};

use crate::{
    CallMode, Extent, Image, Native, Program, Stop, check_mappings, differences, disassemble,
    expected_trap, is_repeated, is_tick, memory_differences, pushes_flags, system_call,
};

/// Where the comparison begins: behind this many system calls of the program.
pub fn start(program: &Program, system_calls: u64) -> Result<Native> {
    let native = Native::spawn(program)?;
    for _ in 0..system_calls {
        for _ in 0..2 {
            let stop = native.resume_to_system_call()?;
            ensure!(stop == Stop::SystemCall, "{stop:?} before system call {system_calls}");
        }
    }
    Ok(native)
}

/// A native process, and a guest that is to do the same.
#[derive(Debug)]
pub struct Lockstep<'m> {
    pub native: Native,
    pub machine: &'m mut Machine,
    pub space: Space,
    /// The guest.
    pub cpu: Cpu,
    /// The native process: registers after its last step and its counts; vector state is stale.
    pub expected: Cpu,
    pub ended: bool,
    kinds: HashMap<u64, Kind>,
    recent: VecDeque<u64>,
    program_break: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Tick,
    Repeated,
    PushFlags,
    Trap(Trap),
}

fn kind_of(instruction: &Instruction) -> Kind {
    match expected_trap(instruction) {
        Some(trap) => Kind::Trap(trap),
        None if is_tick(instruction) => Kind::Tick,
        None if is_repeated(instruction) => Kind::Repeated,
        None if pushes_flags(instruction) => Kind::PushFlags,
        None => Kind::Plain,
    }
}

const RECENT: usize = 24;

impl<'m> Lockstep<'m> {
    pub fn new(native: Native, machine: &'m mut Machine) -> Result<Lockstep<'m>> {
        let image = Image::capture(&native)?;
        let space = image.load(machine)?;
        let program_break = initial_break(&native)?;
        Ok(Lockstep {
            native,
            machine,
            space,
            cpu: image.cpu.clone(),
            expected: image.cpu,
            ended: false,
            kinds: HashMap::new(),
            recent: VecDeque::new(),
            program_break,
        })
    }

    /// What the native process executes next.
    pub fn next_kind(&mut self) -> Result<Kind> {
        let rip = self.expected.rip.0;
        if let Some(kind) = self.kinds.get(&rip) {
            return Ok(*kind);
        }
        let mut bytes = [0; 15];
        let length = self.native.read_mapped(rip, &mut bytes);
        let mut decoder = Decoder::with_ip(64, &bytes[..length], rip, DecoderOptions::NONE);
        let kind = kind_of(&decoder.decode());
        self.kinds.insert(rip, kind);
        Ok(kind)
    }

    /// One whole native instruction that is not a trap.
    pub fn native_step(&mut self, kind: Kind) -> Result<()> {
        let rip = self.expected.rip.0;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(rip);
        let registers = loop {
            match self.native.step(0)? {
                Stop::Signal(libc::SIGTRAP) => {}
                stop => bail!("native {stop:?} at {rip:#x}"),
            }
            let registers = self.native.registers()?;
            if kind != Kind::Repeated || registers.rip != rip {
                break registers;
            }
        };
        if kind == Kind::PushFlags {
            let pushed = self.native.read_u64(registers.rsp)? & !FLAG_TRAP;
            self.native.write(registers.rsp, &pushed.to_le_bytes()[..2])?;
        }
        let (instructions, ticks) = (self.expected.instructions + 1, self.expected.ticks);
        let vector = std::mem::take(&mut self.expected.vector);
        self.expected = crate::cpu_of(&registers, vector);
        self.expected.instructions = instructions;
        self.expected.ticks = ticks + u64::from(kind == Kind::Tick);
        Ok(())
    }

    /// The trap at which both are: done natively, its effect carried over.
    pub fn carry_trap(&mut self, trap: Trap) -> Result<()> {
        let at = self.expected.rip.0;
        self.recent.push_back(at);
        if trap == Trap::Syscall {
            let number = self.expected.general[0] as i64;
            let call = system_call(&self.native, CallMode::Step, &mut self.program_break)
                .with_context(|| format!("system call {number} at {at:#x}"))?;
            let Some(effect) = call else {
                self.ended = true;
                return Ok(());
            };
            effect.apply(&mut self.space, &mut self.cpu)?;
            if [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect].contains(&number) {
                self.kinds.clear();
            }
        } else {
            let stop = self.native.step(0)?;
            let passed = stop == Stop::Signal(libc::SIGTRAP)
                || stop == Stop::Signal(libc::SIGSEGV) && self.native.pass_time_stamp()?;
            ensure!(passed, "{stop:?} at {trap:?} at {at:#x}");
            let (instructions, ticks) = (self.cpu.instructions + 1, self.cpu.ticks);
            let registers = self.native.registers()?;
            self.cpu =
                Cpu { instructions, ticks, ..crate::cpu_of(&registers, self.cpu.vector.clone()) };
        }
        let vector = std::mem::take(&mut self.expected.vector);
        self.expected = Cpu { vector, ..self.cpu.clone() };
        Ok(())
    }

    /// Both execute one instruction.
    pub fn step_both(&mut self, extent: Extent) -> Result<()> {
        let kind = self.next_kind()?;
        let exit = self.machine.step(&mut self.space, &mut self.cpu, None)?;
        if let Kind::Trap(trap) = kind {
            ensure!(
                matches!(exit, Exit::Trap { kind, .. } if kind == trap),
                "{}",
                self.found(&exit, kind)
            );
            return self.carry_trap(trap);
        }
        self.native_step(kind)?;
        ensure!(
            matches!(exit, Exit::InstructionLimit | Exit::TickLimit),
            "{}",
            self.found(&exit, kind)
        );
        self.compare(extent)
    }

    /// The guest runs freely to a limit (or trap), the native process follows.
    pub fn run_both(&mut self, limits: Limits, extent: Extent) -> Result<()> {
        let exit = self.machine.run(&mut self.space, &mut self.cpu, limits)?;
        let from = self.expected.instructions;
        let distance = self.cpu.instructions.wrapping_sub(from);
        ensure!(distance < 1 << 24, "guest ran from {from} to {}", self.cpu.instructions);
        for done in 0..distance {
            let kind = self.next_kind()?;
            if let Kind::Trap(trap) = kind {
                bail!("ran {distance} instructions past {trap:?} after {done}\n{}", self.context());
            }
            self.native_step(kind)?;
            if self.expected.instructions < self.cpu.instructions
                && limits.ticks == Some(self.expected.ticks)
            {
                bail!(
                    "guest passed tick limit {limits:?} by {}\n{}",
                    distance - done - 1,
                    self.context()
                );
            }
        }
        self.compare(extent)?;
        match exit {
            Exit::InstructionLimit => ensure!(
                limits.instructions == Some(self.cpu.instructions),
                "{limits:?}: early stop"
            ),
            Exit::TickLimit => {
                ensure!(limits.ticks == Some(self.cpu.ticks), "{limits:?}: early stop")
            }
            Exit::Trap { kind, .. } => {
                let next = self.next_kind()?;
                ensure!(next == Kind::Trap(kind), "{}", self.found(&exit, next));
                self.carry_trap(kind)?;
            }
            exit => bail!("{}", self.found(&exit, Kind::Plain)),
        }
        Ok(())
    }

    /// Fails when guest and native process differ in registers or counts.
    pub fn compare(&mut self, extent: Extent) -> Result<()> {
        if extent == Extent::WithVector {
            self.expected.vector = self.native.vector()?;
        }
        let mut lines = differences(&self.expected, &self.cpu, extent);
        for (name, expected, found) in [
            ("instructions", self.expected.instructions, self.cpu.instructions),
            ("ticks", self.expected.ticks, self.cpu.ticks),
        ] {
            if expected != found {
                lines.push(format!("{name}: expected {expected} found {found}"));
            }
        }
        ensure!(lines.is_empty(), "{}\n{}", lines.join("\n"), self.context());
        Ok(())
    }

    /// Fails when writable memory differs.
    pub fn compare_memory(&self) -> Result<()> {
        let lines = memory_differences(&self.native, &self.space)?;
        ensure!(lines.is_empty(), "{}\n{}", lines.join("\n"), self.context());
        check_mappings(&self.native, &self.space)
    }

    pub fn set_observers(&mut self, observers: Observers) -> Result<()> {
        Ok(self.machine.set_observers(observers)?)
    }

    fn found(&self, exit: &Exit, kind: Kind) -> String {
        format!("machine exit {exit:?}, next native instruction is {kind:?}\n{}", self.context())
    }

    /// The last native instructions, oldest first, and the counts.
    fn context(&self) -> String {
        let mut text = format!(
            "after {} instructions, {} ticks:\n",
            self.expected.instructions, self.expected.ticks
        );
        let next = self.expected.rip.0;
        for &rip in self.recent.iter().chain([&next]) {
            let mut bytes = [0; 15];
            let length = self.native.read_mapped(rip, &mut bytes);
            text.push_str(&disassemble(&bytes[..length], model::Address(rip), 1));
        }
        let g = &self.expected.general;
        text.push_str(&format!("native registers now: {g:x?}\n"));
        text
    }
}

/// The program break, as far as the mappings tell; 0 when there is no heap yet.
pub fn initial_break(native: &Native) -> Result<u64> {
    let heap = native.mappings()?.into_iter().find(|mapping| mapping.name == "[heap]");
    Ok(heap.map_or(0, |heap| heap.range.end.0))
}
