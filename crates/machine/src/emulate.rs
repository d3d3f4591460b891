//! Instructions that the engine carries out itself: state images, implicit pointers, gathers,
//! anything whose native execution would see or change what belongs to the host.

use iced_x86::Instruction;
use model::Address;

use crate::{Cpu, Error, Fault, Space};

/// What became of an emulated instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Done; `cpu.rip` is where to go on.
    Done,
    /// A `rep` string has done as many iterations as it was allowed and is not finished.
    Partial,
    /// Nothing but completed iterations or elements has happened; `cpu.rip` is unchanged.
    Fault(Fault),
    /// Cannot be done; the caller reports the instruction.
    Unsupported,
}

/// Carries out `instruction`, which lies at `cpu.rip`. A `rep` string runs at most `iterations`.
pub fn emulate(
    space: &mut Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
    iterations: Option<u64>,
) -> Result<Outcome, Error> {
    let _ = (space, cpu, instruction, iterations, Address(0));
    Ok(Outcome::Unsupported)
}
