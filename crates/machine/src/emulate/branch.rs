//! Near calls, jumps and returns of 64-bit operand size.

use iced_x86::{Code, Instruction, OpKind};
use model::{Address, gpr};

use super::access::{
    Place, Stop, check, is_canonical, load_integer, operand, protection_fault, store_integer,
};
use super::host::{Vendor, host};
use super::registers;
use super::stack;
use crate::memory::AccessKind;
use crate::{Cpu, Space};

/// Carries out the transfer and sets rip.
pub fn transfer(space: &mut Space, cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    use Code as C;
    let target = match instruction.code() {
        C::Call_rel32_64 | C::Jmp_rel8_64 | C::Jmp_rel32_64 => instruction.near_branch64(),
        C::Call_rm64 | C::Jmp_rm64 if instruction.op0_kind() == OpKind::Register => {
            registers::read(cpu, instruction.op0_register())
        }
        C::Call_rm64 | C::Jmp_rm64 => load_integer(space, operand(cpu, instruction, 0, 0), 8)?,
        C::Retnq | C::Retnq_imm16 => load_integer(space, stack::top(cpu), 8)?,
        _ => return Err(Stop::Unsupported),
    };
    let top = cpu.general[gpr::RSP];
    match instruction.code() {
        C::Call_rel32_64 | C::Call_rm64 => {
            let place = Place::stack(top.wrapping_sub(8));
            // A target that cannot be: Intel's processors notice it behind the store, which stays
            // (observed on Emerald Rapids), AMD's in front of it (observed on Zen 5).
            match host().vendor {
                Vendor::Amd => check(space, place, 8, AccessKind::Write)?,
                Vendor::Intel => store_integer(space, place, 8, instruction.next_ip())?,
            }
            check_target(target)?;
            stack::push_value(space, cpu, 8, instruction.next_ip())?;
        }
        C::Retnq | C::Retnq_imm16 => {
            check_target(target)?;
            let released = match instruction.code() {
                C::Retnq_imm16 => u64::from(instruction.immediate16()),
                _ => 0,
            };
            cpu.general[gpr::RSP] = top.wrapping_add(8).wrapping_add(released);
        }
        _ => check_target(target)?,
    }
    cpu.rip = Address(target);
    Ok(())
}

fn check_target(target: u64) -> Result<(), Stop> {
    if is_canonical(target) { Ok(()) } else { Err(protection_fault()) }
}
