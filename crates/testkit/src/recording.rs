//! A native run at full speed, stopped only at system calls, to be repeated by the machine.

use anyhow::{Context, Result, bail, ensure};
use machine::{Cpu, Exit, Limits, Machine, Space, Trap};
use model::gpr;

use crate::{
    CallMode, Effect, Extent, Image, Native, Registers, Sample, Stop, cpu_of, differences,
    do_on_host, initial_break, start, system_call,
};

/// The start, what each system call did, and the end.
#[derive(Debug)]
pub struct Recording {
    pub start: Image,
    effects: Vec<Effect>,
    /// State at the entry of the first system call that is not repeated.
    end: Image,
}

impl Recording {
    /// Runs a sample until its end or for `calls_max` system calls.
    pub fn make(sample: &Sample, calls_max: usize) -> Result<Recording> {
        let native = start(&sample.program, sample.system_calls)?;
        let image = Image::capture(&native)?;
        let mut program_break = initial_break(&native)?;
        let mut effects = Vec::new();
        loop {
            let stop = native.resume_to_system_call()?;
            ensure!(stop == Stop::SystemCall, "{}: {stop:?}", sample.name);
            let number = native.registers()?.orig_rax as i64;
            if number == libc::SYS_exit_group || effects.len() == calls_max {
                break;
            }
            match system_call(&native, CallMode::Entered, &mut program_break)? {
                Some(effect) => effects.push(effect),
                None => bail!("{} ended in system call {number}", sample.name),
            }
        }
        let mut end = Image::capture(&native)?;
        end.cpu = at_call(&entered(&native)?, end.cpu);
        Ok(Recording { start: image, effects, end })
    }

    /// Repeats it. `run` moves the machine on, to a trap or any other exit that it does not
    /// handle itself. Fails where the machine differs from the hardware.
    pub fn repeat(
        &self,
        machine: &mut Machine,
        mut run: impl FnMut(&mut Machine, &mut Space, &mut Cpu) -> Result<Exit>,
    ) -> Result<(Space, Cpu)> {
        let mut space = self.start.load(machine)?;
        let mut cpu = self.start.cpu.clone();
        for (index, effect) in self.effects.iter().enumerate() {
            let context = || format!("before system call {index} of {}", self.effects.len());
            to_call(machine, &mut space, &mut cpu, &mut run).with_context(context)?;
            let expected = at_call(&effect.before, cpu.clone());
            check(&expected, &cpu, Extent::General).with_context(context)?;
            effect.apply(&mut space, &mut cpu)?;
        }
        to_call(machine, &mut space, &mut cpu, &mut run).context("behind the last system call")?;
        check(&self.end.cpu, &cpu, Extent::WithVector).context("at the end")?;
        let lines = self.end.differences(&space)?;
        ensure!(lines.is_empty(), "at the end: {}", lines.join("\n"));
        Ok((space, cpu))
    }

    pub fn calls(&self) -> usize {
        self.effects.len()
    }
}

/// Runs to the next limit or trap without slices.
pub fn run_freely(machine: &mut Machine, space: &mut Space, cpu: &mut Cpu) -> Result<Exit> {
    Ok(machine.run(space, cpu, Limits::default())?)
}

/// Runs in slices of so many instructions.
pub fn run_sliced(slice: u64) -> impl FnMut(&mut Machine, &mut Space, &mut Cpu) -> Result<Exit> {
    move |machine, space, cpu| {
        loop {
            let limit = cpu.instructions + slice;
            let limits = Limits { instructions: Some(limit), ticks: None };
            match machine.run(space, cpu, limits)? {
                Exit::InstructionLimit => {
                    ensure!(
                        cpu.instructions == limit,
                        "stopped at {} of {limit}",
                        cpu.instructions
                    );
                }
                exit => return Ok(exit),
            }
        }
    }
}

/// Runs to a system call; other traps are done on this host.
fn to_call(
    machine: &mut Machine,
    space: &mut Space,
    cpu: &mut Cpu,
    run: &mut impl FnMut(&mut Machine, &mut Space, &mut Cpu) -> Result<Exit>,
) -> Result<()> {
    loop {
        match run(machine, space, cpu)? {
            Exit::Trap { kind: Trap::Syscall, .. } => return Ok(()),
            Exit::Trap { kind, length } => do_on_host(kind, length, cpu)?,
            exit => bail!("{exit:?} at {}, last blocks {:?}", cpu.rip, machine.last_blocks()),
        }
    }
}

/// Registers as at the `syscall` instruction of the entry stop.
fn entered(native: &Native) -> Result<Registers> {
    let registers = native.registers()?;
    Ok(Registers { rip: registers.rip - 2, rax: registers.orig_rax, ..registers })
}

/// The native state at a `syscall` instruction; rcx and r11, which the entry has overwritten,
/// are those of `guest`.
fn at_call(before: &Registers, guest: Cpu) -> Cpu {
    let mut cpu = cpu_of(before, guest.vector);
    for number in [gpr::RCX, gpr::R11] {
        cpu.general[number] = guest.general[number];
    }
    cpu
}

fn check(expected: &Cpu, found: &Cpu, extent: Extent) -> Result<()> {
    let mut expected = expected.clone();
    for number in [gpr::RCX, gpr::R11] {
        expected.general[number] = found.general[number];
    }
    let lines = differences(&expected, found, extent);
    ensure!(lines.is_empty(), "after {} instructions: {}", found.instructions, lines.join("\n"));
    Ok(())
}
