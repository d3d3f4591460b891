//! Which instructions the machine leaves to its caller, and doing them on this host.

use iced_x86::{Code, Instruction, Mnemonic};
use machine::Trap;

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
    instruction.is_jcc_short_or_near() || instruction.is_jcx_short() || instruction.is_loop() || instruction.is_loopcc()
}

/// Whether this instruction may stop with its own address in rip, having done a part.
pub fn is_repeated(instruction: &Instruction) -> bool {
    (instruction.has_rep_prefix() || instruction.has_repne_prefix()) && instruction.is_string_instruction()
}

/// Whether this instruction stores RFLAGS on the stack.
pub fn pushes_flags(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Code::Pushfw | Code::Pushfq)
}
