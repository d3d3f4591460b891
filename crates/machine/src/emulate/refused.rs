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

/// How the instruction ends.
pub fn refuse(cpu: &Cpu, instruction: &Instruction) -> Stop {
    use Mnemonic as M;
    if instruction.is_invalid() {
        return invalid_opcode(cpu);
    }
    match instruction.mnemonic() {
        // Not for privilege level 3, or not there without CR4.CET, which Linux's shadow stacks
        // would set and rr does not allow, or not without user interrupts, which Linux lacks.
        M::Ud0
        | M::Ud1
        | M::Ud2
        | M::Monitor
        | M::Mwait
        | M::Clac
        | M::Stac
        | M::Rsm
        | M::Encls
        | M::Enclv
        | M::Vmcall
        | M::Vmlaunch
        | M::Vmresume
        | M::Vmxoff
        | M::Vmxon
        | M::Vmread
        | M::Vmwrite
        | M::Vmclear
        | M::Vmptrld
        | M::Vmptrst
        | M::Vmfunc
        | M::Invept
        | M::Invvpid
        | M::Vmmcall
        | M::Vmrun
        | M::Vmload
        | M::Vmsave
        | M::Stgi
        | M::Clgi
        | M::Skinit
        | M::Invlpga
        | M::Into
        | M::Incsspd
        | M::Incsspq
        | M::Saveprevssp
        | M::Rstorssp
        | M::Senduipi
        | M::Clui
        | M::Stui
        | M::Testui
        | M::Uiret
        | M::Wrssd
        | M::Wrssq
        | M::Wrussd
        | M::Wrussq
        | M::Setssbsy
        | M::Clrssbsy => invalid_opcode(cpu),
        // Vector 4 is open to user programs and 3 and 0x80 are not ours.
        M::Int if matches!(instruction.immediate8(), 3 | 4 | 0x80) => Stop::Unsupported,
        M::Int
        | M::Cli
        | M::Sti
        | M::In
        | M::Out
        | M::Insb
        | M::Insw
        | M::Insd
        | M::Outsb
        | M::Outsw
        | M::Outsd
        | M::Hlt => protection_fault(),
        // What Linux emulates when the processor refuses it (UMIP).
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw => Stop::Unsupported,
        _ if instruction.is_privileged() => protection_fault(),
        _ => Stop::Unsupported,
    }
}
