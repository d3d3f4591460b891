//! Executing instructions by themselves: translated alone, or carried out by the engine.

use iced_x86::{Instruction, Mnemonic};
use model::Address;

use super::faulting::fetch_fault;
use super::{Machine, Step, fetch};
use crate::block::Mode;
use crate::emulate::{self, Outcome};
use crate::state::EXIT_FAULT;
use crate::translate::{Class, classify};
use crate::{Cpu, Error, Exit, Fault, Space};

impl Machine {
    /// Executes one instruction under the guest's trap flag.
    pub(super) fn trapped(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<Exit, Error> {
        const TRAP_TRACE: i32 = 2;
        let pushes = fetch(space, cpu.rip)
            .filter(|i| matches!(i.mnemonic(), Mnemonic::Pushf | Mnemonic::Pushfq));
        let step = match pushes {
            Some(instruction) => self.emulate(space, cpu, &instruction, None)?,
            None => self.single(space, cpu)?,
        };
        Ok(match step {
            Step::Exit(exit) => exit,
            Step::Continue => {
                Exit::Fault(Fault { signal: libc::SIGTRAP, code: TRAP_TRACE, address: cpu.rip })
            }
        })
    }

    /// Executes the instruction at `cpu.rip` by itself.
    pub(super) fn single(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<Step, Error> {
        self.single_in(space, cpu, Mode::Exact)
    }

    pub(super) fn single_in(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        mode: Mode,
    ) -> Result<Step, Error> {
        self.observed(space, cpu, |machine, space, cpu| machine.single_unobserved(space, cpu, mode))
    }

    pub(super) fn single_unobserved(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        mode: Mode,
    ) -> Result<Step, Error> {
        // The engine knows what each iteration of a string does.
        if mode == Mode::Exact
            && self.observes_memory()
            && let Some(instruction) = fetch(space, cpu.rip)
            && matches!(classify(&instruction), Class::String)
        {
            return self.emulate(space, cpu, &instruction, None);
        }
        self.statistics.singles += 1;
        self.statistics.bound += u64::from(mode == Mode::Bound);
        let Some(id) = self.single_block(space, cpu.rip, mode)? else {
            return Ok(Step::Exit(fetch_fault(space, cpu.rip)));
        };
        let place = self.cache.view(id).places.first().copied();
        self.enter(cpu, id);
        let faulted = self.state().exit == EXIT_FAULT;
        let step = self.left(space, cpu)?.unwrap_or(Step::Continue);
        if let Some(place) = place.filter(|_| !faulted) {
            cpu.instructions += 1;
            cpu.ticks += u64::from(place.tick);
        }
        Ok(step)
    }

    /// Carries an instruction out in the engine and counts it.
    pub(super) fn emulate(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        instruction: &Instruction,
        iterations: Option<u64>,
    ) -> Result<Step, Error> {
        self.observed(space, cpu, |machine, space, cpu| {
            machine.emulate_unobserved(space, cpu, instruction, iterations)
        })
    }

    pub(super) fn emulate_unobserved(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        instruction: &Instruction,
        iterations: Option<u64>,
    ) -> Result<Step, Error> {
        self.observing.emulated = true;
        self.statistics.emulated += 1;
        let address = cpu.rip;
        self.save(cpu);
        cpu.vector = self.state().vector.clone();
        let outcome = emulate::emulate(space, cpu, instruction, &self.images, iterations)?;
        self.state().vector = cpu.vector.clone();
        self.load(cpu);
        match outcome {
            Outcome::Done => {
                cpu.instructions += 1;
                Ok(Step::Continue)
            }
            Outcome::Partial => Ok(Step::Continue),
            Outcome::Fault(fault) => Ok(Step::Exit(Exit::Fault(fault))),
            Outcome::Unsupported => Err(self.unsupported(address, instruction)),
        }
    }

    pub(super) fn unsupported(&self, address: Address, instruction: &Instruction) -> Error {
        Error::Unsupported { instruction: instruction.to_string(), address }
    }
}
