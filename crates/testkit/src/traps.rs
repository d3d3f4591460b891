//! Which instructions the machine leaves to its caller, and doing them on this host.

use std::arch::x86_64::__cpuid_count;

use anyhow::{Result, bail};
use iced_x86::{Code, Instruction, Mnemonic};
use machine::{Cpu, Trap};
use model::gpr;

use crate::TIME_STAMP;
use crate::ptrace::extended_control;

/// The trap that the machine must report for this instruction.
pub fn expected_trap(instruction: &Instruction) -> Option<Trap> {
    let trap = match instruction.mnemonic() {
        Mnemonic::Syscall => Trap::Syscall,
        Mnemonic::Int if instruction.immediate8() == 0x80 => Trap::Int80,
        Mnemonic::Int if instruction.immediate8() == 3 => Trap::Breakpoint,
        Mnemonic::Int3 | Mnemonic::Int1 => Trap::Breakpoint,
        Mnemonic::Sysenter => Trap::Sysenter,
        Mnemonic::Cpuid => Trap::Cpuid,
        Mnemonic::Rdtsc => Trap::Rdtsc,
        Mnemonic::Rdtscp => Trap::Rdtscp,
        Mnemonic::Rdpid => Trap::Rdpid,
        Mnemonic::Rdrand => Trap::Rdrand,
        Mnemonic::Rdseed => Trap::Rdseed,
        Mnemonic::Xgetbv => Trap::Xgetbv,
        Mnemonic::Rdpkru => Trap::Rdpkru,
        Mnemonic::Wrpkru => Trap::Wrpkru,
        Mnemonic::Tpause => Trap::Tpause,
        Mnemonic::Umwait => Trap::Umwait,
        Mnemonic::Xbegin => Trap::Xbegin,
        _ => return None,
    };
    Some(trap)
}

/// Whether retiring this instruction makes a tick: Jcc, JrCXZ, LOOPcc.
pub fn is_tick(instruction: &Instruction) -> bool {
    instruction.is_jcc_short_or_near()
        || instruction.is_jcx_short()
        || instruction.is_loop()
        || instruction.is_loopcc()
}

/// Whether this instruction may stop with its own address in rip, having done a part.
pub fn is_repeated(instruction: &Instruction) -> bool {
    (instruction.has_rep_prefix() || instruction.has_repne_prefix())
        && instruction.is_string_instruction()
}

/// Whether this instruction stores RFLAGS on the stack.
pub fn pushes_flags(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Code::Pushfw | Code::Pushfq)
}

/// Executes a trapped instruction whose result does not change on this host.
pub fn do_on_host(trap: Trap, length: u8, cpu: &mut Cpu) -> Result<()> {
    let [rax, rcx] = [cpu.general[gpr::RAX] as u32, cpu.general[gpr::RCX] as u32];
    let results = match trap {
        Trap::Cpuid => {
            let leaf = __cpuid_count(rax, rcx);
            [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
        }
        Trap::Xgetbv => {
            let value = extended_control(rcx);
            cpu.general[gpr::RAX] = value & 0xffff_ffff;
            cpu.general[gpr::RDX] = value >> 32;
            return retire(cpu, length);
        }
        Trap::Rdtsc => {
            cpu.general[gpr::RAX] = TIME_STAMP;
            cpu.general[gpr::RDX] = 0;
            return retire(cpu, length);
        }
        _ => bail!("{trap:?} at {} is not the same on every run", cpu.rip),
    };
    for (number, result) in [gpr::RAX, gpr::RBX, gpr::RCX, gpr::RDX].into_iter().zip(results) {
        cpu.general[number] = u64::from(result);
    }
    retire(cpu, length)
}

fn retire(cpu: &mut Cpu, length: u8) -> Result<()> {
    cpu.rip = cpu.rip + u64::from(length);
    cpu.instructions += 1;
    Ok(())
}
