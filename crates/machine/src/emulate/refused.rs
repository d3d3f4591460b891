//! Instructions that a user program cannot execute, and those that the engine does not know.

use iced_x86::{Instruction, Mnemonic};

use super::access::{Stop, invalid_opcode, protection_fault};
use super::registers::{self, ZERO};
use crate::Cpu;

/// Transactions are never entered (xbegin aborts at once), so these see none active.
pub fn transaction(cpu: &mut Cpu, instruction: &Instruction) -> Result<(), Stop> {
    match instruction.mnemonic() {
        Mnemonic::Xtest => registers::set_arithmetic_flags(cpu, ZERO),
        Mnemonic::Xend => return Err(protection_fault()),
        _ => {} // xabort
    }
    Ok(())
}

/// #UD: not for privilege level 3, or not there without CR4.CET, which Linux's shadow stacks would
/// set and rr does not allow, or not without user interrupts, which Linux lacks.
#[rustfmt::skip]
const ABSENT: &[Mnemonic] = {
    use Mnemonic::*;
    &[
        Ud0, Ud1, Ud2, Monitor, Mwait, Clac, Stac,
        Rsm, Encls, Enclv, Vmcall, Vmlaunch, Vmresume, Vmxoff,
        Vmxon, Vmread, Vmwrite, Vmclear, Vmptrld, Vmptrst, Vmfunc,
        Invept, Invvpid, Vmmcall, Vmrun, Vmload, Vmsave, Stgi,
        Clgi, Skinit, Invlpga, Into, Incsspd, Incsspq, Saveprevssp,
        Rstorssp, Senduipi, Clui, Stui, Testui, Uiret, Wrssd,
        Wrssq, Wrussd, Wrussq, Setssbsy, Clrssbsy,
    ]
};

/// #GP, besides those that are privileged by themselves.
#[rustfmt::skip]
const REFUSED: &[Mnemonic] = {
    use Mnemonic::*;
    &[Int, Cli, Sti, In, Out, Insb, Insw, Insd, Outsb, Outsw, Outsd, Hlt]
};

/// How the instruction ends.
pub fn refuse(cpu: &Cpu, instruction: &Instruction) -> Stop {
    use Mnemonic as M;
    if instruction.is_invalid() {
        return invalid_opcode(cpu);
    }
    match instruction.mnemonic() {
        mnemonic if ABSENT.contains(&mnemonic) => invalid_opcode(cpu),
        // Vector 4 is open to user programs and 3 and 0x80 are not ours.
        M::Int if matches!(instruction.immediate8(), 3 | 4 | 0x80) => Stop::Unsupported,
        mnemonic if REFUSED.contains(&mnemonic) => protection_fault(),
        // What Linux emulates when the processor refuses it (UMIP).
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw => Stop::Unsupported,
        _ if instruction.is_privileged() => protection_fault(),
        _ => Stop::Unsupported,
    }
}
