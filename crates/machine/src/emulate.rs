//! Instructions that the engine carries out itself: state images, implicit pointers, gathers,
//! anything whose native execution would see or change what belongs to the host.

mod access;
mod bits;
mod branch;
mod chosen;
pub(crate) mod components;
mod gather;
pub(crate) mod host;
mod masked;
mod refused;
mod registers;
mod segments;
mod stack;
mod strings;
#[cfg(test)]
mod tests;
mod x87;
mod xsave;

use iced_x86::{Instruction, Mnemonic};
use model::Address;

use crate::{Cpu, Error, Fault, Space, StateImages};
use access::Stop;
pub use chosen::{chosen_parts, is_masked, parts_by_mask};
pub use strings::first_iteration;

/// What became of an emulated instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Done; `cpu.rip` is where to go on.
    Done,
    /// A `rep` string has done as many iterations as it was allowed and is not finished.
    Partial,
    /// Nothing but completed iterations or elements has happened, or what else the processor
    /// leaves behind; `cpu.rip` is unchanged.
    Fault(Fault),
    /// Cannot be done; the caller reports the instruction.
    Unsupported,
}

/// Carries out `instruction`, which lies at `cpu.rip`, with state images like `images`. A `rep`
/// string runs at most `iterations`.
pub fn emulate(
    space: &mut Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
    images: &StateImages,
    iterations: Option<u64>,
) -> Result<Outcome, Error> {
    let outcome = if instruction.is_string_instruction() && !is_port_string(instruction) {
        strings::run(space, cpu, instruction, iterations)
    } else if is_transfer(instruction) {
        branch::transfer(space, cpu, instruction).map(|()| Outcome::Done)
    } else {
        straight(space, cpu, instruction, images).map(|()| {
            cpu.rip = Address(instruction.next_ip());
            Outcome::Done
        })
    };
    match outcome {
        Ok(outcome) => Ok(outcome),
        Err(Stop::Fault(fault)) => Ok(Outcome::Fault(fault)),
        Err(Stop::Unsupported) => Ok(Outcome::Unsupported),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn is_port_string(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(instruction.mnemonic(), M::Insb | M::Insw | M::Insd | M::Outsb | M::Outsw | M::Outsd)
}

fn is_transfer(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Call | Mnemonic::Jmp | Mnemonic::Ret)
}

/// Instructions behind which execution goes on with the next one.
fn straight(
    space: &mut Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
    images: &StateImages,
) -> Result<(), Stop> {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Xsave | M::Xsave64 | M::Xsavec | M::Xsavec64 | M::Xsaveopt | M::Xsaveopt64 => {
            xsave::save(space, cpu, instruction, images)
        }
        M::Xrstor | M::Xrstor64 => xsave::restore(space, cpu, instruction, images),
        M::Fxsave | M::Fxsave64 => xsave::save_legacy(space, cpu, instruction, images),
        M::Fxrstor | M::Fxrstor64 => xsave::restore_legacy_image(space, cpu, instruction, images),
        M::Fnstenv | M::Fstenv | M::Fnsave | M::Fsave => {
            x87::store_environment(space, cpu, instruction)
        }
        M::Push => stack::push(space, cpu, instruction),
        M::Pop => stack::pop(space, cpu, instruction),
        M::Pushf | M::Pushfq => stack::push_flags(space, cpu, instruction),
        M::Popf | M::Popfq => stack::pop_flags(space, cpu, instruction),
        M::Enter => stack::enter(space, cpu, instruction),
        M::Leave => stack::leave(space, cpu, instruction),
        M::Mov if has_segment_operand(instruction) => segments::mov(space, cpu, instruction),
        M::Rdfsbase | M::Rdgsbase | M::Wrfsbase | M::Wrgsbase => segments::base(cpu, instruction),
        M::Xlatb => masked::translate_byte(space, cpu, instruction),
        M::Maskmovq | M::Maskmovdqu | M::Vmaskmovdqu => {
            masked::store_masked(space, cpu, instruction)
        }
        M::Movdir64b => masked::move_line(space, cpu, instruction),
        M::Clzero => masked::zero_line(space, cpu, instruction),
        M::Clflush | M::Clflushopt | M::Clwb => masked::flush_line(space, cpu, instruction),
        M::Bt | M::Bts | M::Btr | M::Btc => bits::test(space, cpu, instruction),
        M::Xtest | M::Xend | M::Xabort => refused::transaction(cpu, instruction),
        _ if instruction.is_vsib() => gather::run(space, cpu, instruction),
        _ => Err(refused::refuse(cpu, instruction)),
    }
}

fn has_segment_operand(instruction: &Instruction) -> bool {
    (0..2).any(|number| instruction.op_register(number).is_segment_register())
}
