//! Facts about instructions: how each is to be translated. Everything that is not recognised as
//! harmless goes to the engine, never to the generic path.

use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use crate::Trap;
use crate::emit::Reg;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Runs natively once its operands have been rewritten.
    Plain,
    /// Has no effect here: prefetches, hints, long nops.
    Nothing,
    Lea,
    Push,
    Pop,
    Leave,
    String,
    /// Jcc.
    Conditional,
    /// Jmp to a known target.
    Jump,
    /// Loop, loopcc, jrcxz.
    CountedBranch,
    Call,
    IndirectJump,
    IndirectCall,
    Return,
    Trap(Trap),
    Emulate,
}

impl Class {
    pub fn ends_block(self) -> bool {
        !matches!(
            self,
            Class::Plain
                | Class::Nothing
                | Class::Lea
                | Class::Push
                | Class::Pop
                | Class::Leave
                | Class::String
        )
    }

    /// Whether translated code retires it (or else the engine or the caller does).
    pub fn retires_here(self) -> bool {
        !matches!(self, Class::Trap(_) | Class::Emulate)
    }

    pub fn is_tick(self) -> bool {
        matches!(self, Class::Conditional | Class::CountedBranch)
    }
}

/// `f3 41 90`: the REX prefix makes it an exchange with r8, which the decoder takes for `pause`.
pub fn repaired(instruction: Instruction, bytes: &[u8]) -> Instruction {
    let [.., rex, 0x90] = *bytes else { return instruction };
    if instruction.mnemonic() != Mnemonic::Pause || rex & 0xf1 != 0x41 {
        return instruction;
    }
    let (code, r8, rax) = if rex & 8 != 0 {
        (Code::Xchg_r64_RAX, Register::R8, Register::RAX)
    } else if bytes.contains(&0x66) {
        (Code::Xchg_r16_AX, Register::R8W, Register::AX)
    } else {
        (Code::Xchg_r32_EAX, Register::R8D, Register::EAX)
    };
    let Ok(mut exchange) = Instruction::with2(code, r8, rax) else { return instruction };
    // The address is kept relative to the end: the length goes first.
    exchange.set_len(instruction.len());
    exchange.set_ip(instruction.ip());
    exchange
}

pub fn classify(instruction: &Instruction) -> Class {
    if instruction.is_invalid() {
        // The host decides: an invalid opcode here is one there.
        return Class::Emulate;
    }
    match instruction.flow_control() {
        FlowControl::Next => classify_plain(instruction),
        _ => classify_flow(instruction),
    }
}

fn classify_flow(instruction: &Instruction) -> Class {
    use Mnemonic as M;
    let near = !instruction.is_call_far()
        && !instruction.is_jmp_far()
        && !instruction.is_call_far_indirect()
        && !instruction.is_jmp_far_indirect();
    let wide = !matches!(
        instruction.op0_kind(),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::FarBranch16 | OpKind::FarBranch32
    );
    match instruction.mnemonic() {
        M::Syscall => Class::Trap(Trap::Syscall),
        M::Sysenter => Class::Trap(Trap::Sysenter),
        M::Int if instruction.immediate8() == 0x80 => Class::Trap(Trap::Int80),
        M::Int if instruction.immediate8() == 3 => Class::Trap(Trap::Breakpoint),
        M::Int3 | M::Int1 => Class::Trap(Trap::Breakpoint),
        M::Xbegin => Class::Trap(Trap::Xbegin),
        M::Loop | M::Loope | M::Loopne | M::Jrcxz | M::Jecxz if wide => Class::CountedBranch,
        M::Ret if matches!(instruction.code(), Code::Retnq | Code::Retnq_imm16) => Class::Return,
        M::Call if near && instruction.is_call_near() && wide => Class::Call,
        M::Call if matches!(instruction.code(), Code::Call_rm64) => Class::IndirectCall,
        M::Jmp if near && instruction.is_jmp_short_or_near() && wide => Class::Jump,
        M::Jmp if matches!(instruction.code(), Code::Jmp_rm64) => Class::IndirectJump,
        _ if instruction.is_jcc_short_or_near() && wide => Class::Conditional,
        _ => Class::Emulate,
    }
}

fn classify_plain(instruction: &Instruction) -> Class {
    use Mnemonic as M;
    let segment_operand = (0..instruction.op_count()).any(|n| {
        instruction.op_kind(n) == OpKind::Register
            && instruction.op_register(n).is_segment_register()
    });
    if segment_operand {
        return Class::Emulate;
    }
    let nothing = super::has_memory(instruction) || instruction.op_count() == 0;
    match instruction.mnemonic() {
        M::Cpuid => Class::Trap(Trap::Cpuid),
        M::Rdtsc => Class::Trap(Trap::Rdtsc),
        M::Rdtscp => Class::Trap(Trap::Rdtscp),
        M::Rdpid => Class::Trap(Trap::Rdpid),
        M::Rdrand => Class::Trap(Trap::Rdrand),
        M::Rdseed => Class::Trap(Trap::Rdseed),
        M::Xgetbv => Class::Trap(Trap::Xgetbv),
        M::Rdpkru => Class::Trap(Trap::Rdpkru),
        M::Wrpkru => Class::Trap(Trap::Wrpkru),
        M::Tpause => Class::Trap(Trap::Tpause),
        M::Umwait => Class::Trap(Trap::Umwait),
        M::Nop
        | M::Endbr64
        | M::Endbr32
        | M::Pause
        | M::Prefetchnta
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Prefetchw
        | M::Prefetchwt1
        | M::Prefetch
        | M::Prefetchit0
        | M::Prefetchit1
        | M::Cldemote
        | M::Rdsspd
        | M::Rdsspq
        | M::Serialize
        | M::Reservednop
        | M::Bndcl
        | M::Bndcu
        | M::Bndcn
        | M::Bndmk
        | M::Bndmov
        | M::Bndldx
        | M::Bndstx
            if nothing =>
        {
            Class::Nothing
        }
        M::Lea => Class::Lea,
        M::Leave if instruction.code() == Code::Leaveq => Class::Leave,
        M::Leave | M::Enter | M::Popfq | M::Popf | M::Popfd => Class::Emulate,
        M::Push | M::Pushfq | M::Pushf => push_class(instruction, Class::Push),
        // Its address counts from rsp behind the pop.
        M::Pop if instruction.memory_base() == Register::RSP => Class::Emulate,
        M::Pop => push_class(instruction, Class::Pop),
        M::Movsb
        | M::Movsw
        | M::Movsq
        | M::Stosb
        | M::Stosw
        | M::Stosd
        | M::Stosq
        | M::Lodsb
        | M::Lodsw
        | M::Lodsd
        | M::Lodsq
        | M::Scasb
        | M::Scasw
        | M::Scasd
        | M::Scasq
        | M::Cmpsb
        | M::Cmpsw
        | M::Cmpsq => string_class(instruction),
        M::Movsd | M::Cmpsd if instruction.is_string_instruction() => string_class(instruction),
        M::Bt | M::Bts | M::Btr | M::Btc
            if instruction.op0_kind() == OpKind::Memory
                && instruction.op1_kind() == OpKind::Register =>
        {
            Class::Emulate
        }
        _ if is_emulated(instruction) => Class::Emulate,
        _ => Class::Plain,
    }
}

fn push_class(instruction: &Instruction, class: Class) -> Class {
    let wide = matches!(
        instruction.code(),
        Code::Push_r64
            | Code::Push_rm64
            | Code::Pushq_imm8
            | Code::Pushq_imm32
            | Code::Pushfq
            | Code::Pop_r64
            | Code::Pop_rm64
    );
    if wide { class } else { Class::Emulate }
}

/// Native only with both implicit pointers in their ordinary segment and width.
fn string_class(instruction: &Instruction) -> Class {
    let segment = matches!(instruction.segment_prefix(), Register::FS | Register::GS);
    let narrow = (0..instruction.op_count()).any(|n| {
        matches!(
            instruction.op_kind(n),
            OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI
        )
    });
    if segment || narrow { Class::Emulate } else { Class::String }
}

fn is_emulated(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    instruction.is_vsib()
        || matches!(
            instruction.mnemonic(),
            M::Xsave
                | M::Xsave64
                | M::Xsavec
                | M::Xsavec64
                | M::Xsaveopt
                | M::Xsaveopt64
                | M::Xrstor
                | M::Xrstor64
                | M::Fxsave
                | M::Fxsave64
                | M::Fxrstor
                | M::Fxrstor64
                | M::Fnstenv
                | M::Fstenv
                | M::Fnsave
                | M::Fsave
                | M::Rdfsbase
                | M::Rdgsbase
                | M::Wrfsbase
                | M::Wrgsbase
                | M::Maskmovq
                | M::Maskmovdqu
                | M::Vmaskmovdqu
                | M::Xlatb
                | M::Lar
                | M::Lsl
                | M::Verr
                | M::Verw
                | M::Sgdt
                | M::Sidt
                | M::Sldt
                | M::Smsw
                | M::Str
                | M::Rdpmc
                | M::Xabort
                | M::Xend
                | M::Xtest
                | M::Movdir64b
                | M::Enqcmd
                | M::Enqcmds
                | M::Clzero
                | M::Clflush
                | M::Clflushopt
                | M::Clwb
                | M::Umonitor
                | M::Monitor
                | M::Mwait
                | M::Monitorx
                | M::Mwaitx
                | M::Incsspd
                | M::Incsspq
                | M::Saveprevssp
                | M::Rstorssp
                | M::Wrssd
                | M::Wrssq
                | M::Setssbsy
                | M::Clrssbsy
                | M::Senduipi
                | M::Clui
                | M::Stui
                | M::Testui
                | M::Uiret
                | M::Enclu
                | M::Fninit
                | M::Finit
                | M::Ldtilecfg
                | M::Sttilecfg
                | M::Tileloadd
                | M::Tileloaddt1
                | M::Tilestored
                | M::Tilezero
                | M::Tilerelease
                | M::Wbinvd
                | M::Insb
                | M::Insw
                | M::Insd
                | M::Outsb
                | M::Outsw
                | M::Outsd
                | M::In
                | M::Out
                | M::Hlt
                | M::Cli
                | M::Sti
                | M::Rdpru
                | M::Les
                | M::Lds
                | M::Lfs
                | M::Lgs
                | M::Lss
                | M::Swapgs
                | M::Rdmsr
                | M::Wrmsr
        ) && !matches!(instruction.mnemonic(), M::Fninit | M::Finit)
        || implicit_memory(instruction)
}

/// A memory operand that is not written in the instruction's bytes as one.
fn implicit_memory(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|n| {
        matches!(
            instruction.op_kind(n),
            OpKind::MemorySegSI
                | OpKind::MemorySegESI
                | OpKind::MemorySegRSI
                | OpKind::MemorySegDI
                | OpKind::MemorySegEDI
                | OpKind::MemorySegRDI
                | OpKind::MemoryESDI
                | OpKind::MemoryESEDI
                | OpKind::MemoryESRDI
        )
    })
}

/// Whether it writes all six arithmetic flags and reads none, and whatever can fault in it can be
/// done before: either no memory operand, or one that is only read by a move-like operand.
pub fn kills_flags(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    let mnemonic = instruction.mnemonic();
    let killer =
        matches!(mnemonic, M::Add | M::Sub | M::Cmp | M::Neg | M::And | M::Or | M::Xor | M::Test);
    if !killer || instruction.has_lock_prefix() {
        return false;
    }
    let memory = (0..instruction.op_count()).find(|n| instruction.op_kind(*n) == OpKind::Memory);
    let high = (0..instruction.op_count()).any(|n| {
        matches!(
            instruction.op_register(n),
            Register::AH | Register::BH | Register::CH | Register::DH
        )
    });
    match memory {
        None => true,
        Some(_) if high => false,
        Some(0) => matches!(mnemonic, M::Cmp | M::Test),
        Some(_) => true,
    }
}

/// The number of a general register in the encoding, whatever part of it is named.
pub fn number(register: Register) -> Option<Reg> {
    register.is_gpr().then(|| register.full_register().number() as Reg)
}

/// By how much the instruction moves this register, when that is a constant.
pub fn constant_move(instruction: &Instruction, register: Reg) -> Option<i64> {
    let wide = |n| {
        instruction.op_kind(n) == OpKind::Register
            && instruction.op_register(n).is_gpr64()
            && number(instruction.op_register(n)) == Some(register)
    };
    if instruction.op_count() == 0 || !wide(0) {
        return None;
    }
    let immediate = |n| match instruction.op_kind(n) {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => Some(instruction.immediate(n) as i64),
        _ => None,
    };
    match instruction.mnemonic() {
        Mnemonic::Add => immediate(1),
        Mnemonic::Sub => immediate(1).map(|amount| -amount),
        Mnemonic::Inc => Some(1),
        Mnemonic::Dec => Some(-1),
        Mnemonic::Cmp | Mnemonic::Test => Some(0),
        Mnemonic::Lea
            if number(instruction.memory_base()) == Some(register)
                && instruction.memory_base().is_gpr64()
                && instruction.memory_index() == Register::None =>
        {
            Some(instruction.memory_displacement64() as i64)
        }
        _ => None,
    }
}

/// Whether any part of this general register is written.
pub fn writes(info: &mut InstructionInfoFactory, instruction: &Instruction, register: Reg) -> bool {
    use Mnemonic as M;
    let first = instruction.op_count() > 0
        && instruction.op0_kind() == OpKind::Register
        && number(instruction.op0_register()) == Some(register);
    let only_first = matches!(
        instruction.mnemonic(),
        M::Mov
            | M::Add
            | M::Sub
            | M::And
            | M::Or
            | M::Xor
            | M::Cmp
            | M::Test
            | M::Lea
            | M::Movzx
            | M::Movsx
            | M::Movsxd
            | M::Shl
            | M::Shr
            | M::Sar
            | M::Inc
            | M::Dec
            | M::Neg
            | M::Not
            | M::Movups
            | M::Movaps
            | M::Movdqu
            | M::Movdqa
            | M::Movss
            | M::Movq
            | M::Movd
            | M::Jmp
            | M::Nop
    ) || instruction.is_jcc_short_or_near();
    if first || only_first && !instruction.is_string_instruction() {
        return first;
    }
    info.info(instruction).used_registers().iter().any(|used| {
        number(used.register()) == Some(register)
            && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None)
    })
}

/// The general registers that the instruction uses in any way, as a bit set.
pub fn used(info: &mut InstructionInfoFactory, instruction: &Instruction) -> u32 {
    info.info(instruction)
        .used_registers()
        .iter()
        .filter_map(|used| number(used.register()))
        .fold(0, |set, register| set | 1 << register)
}

#[cfg(test)]
mod tests {
    use iced_x86::{Code, OpAccess, OpCodeOperandKind};

    use super::*;

    /// The log of stores has room for 64 bytes of each instruction of a slice.
    #[test]
    fn fast_code_stores_64_bytes_at_the_most() {
        let mut factory = InstructionInfoFactory::new();
        let (mut stores, mut emulated) = (0, Vec::new());
        for code in Code::values() {
            let operation = code.op_code();
            let memory = |kind: &OpCodeOperandKind| format!("{kind:?}").contains("mem");
            let Some(number) = operation.op_kinds().iter().position(memory) else { continue };
            let mut instruction = Instruction::new();
            instruction.set_code(code);
            for operand in 0..operation.op_count().min(4) {
                instruction.set_op_kind(operand, OpKind::Register);
                instruction.set_op_register(operand, Register::RAX);
            }
            instruction.set_op_kind(number as u32, OpKind::Memory);
            instruction.set_memory_base(Register::RBX);
            let access = factory.info(&instruction).op_access(number as u32);
            let writes = !matches!(
                access,
                OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None
            );
            if !writes || !operation.mode64() {
                continue;
            }
            match classify(&instruction) {
                Class::Emulate => emulated.push(code),
                _ => {
                    stores += 1;
                    assert!(instruction.memory_size().size() <= 64, "{code:?}");
                }
            }
        }
        assert!(stores > 500 && emulated.contains(&Code::Fxsave_m512byte), "{stores} {emulated:?}");
    }
}
