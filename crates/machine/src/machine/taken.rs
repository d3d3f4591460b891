//! Which way a conditional branch went, from the states before and behind it.

use iced_x86::{Code, Instruction, Mnemonic};
use model::gpr;

use crate::Cpu;

/// Whether a conditional branch was taken.
pub(super) fn is_taken(instruction: &Instruction, before: &Cpu, after: &Cpu) -> bool {
    let next = instruction.next_ip();
    if instruction.near_branch_target() != next {
        return after.rip.0 != next;
    }
    // Both ways lead to the same place.
    let narrow = matches!(
        instruction.code(),
        Code::Jecxz_rel8_64
            | Code::Loop_rel8_64_ECX
            | Code::Loope_rel8_64_ECX
            | Code::Loopne_rel8_64_ECX
    );
    let count = |cpu: &Cpu| {
        let value = cpu.general[gpr::RCX];
        if narrow { value & 0xffff_ffff } else { value }
    };
    let zero = before.rflags & 1 << 6 != 0;
    match instruction.mnemonic() {
        Mnemonic::Jecxz | Mnemonic::Jrcxz => count(before) == 0,
        Mnemonic::Loop => count(after) != 0,
        Mnemonic::Loope => count(after) != 0 && zero,
        Mnemonic::Loopne => count(after) != 0 && !zero,
        _ => holds(instruction.condition_code(), before.rflags),
    }
}

/// Whether the condition of a jump holds.
fn holds(condition: iced_x86::ConditionCode, rflags: u64) -> bool {
    use iced_x86::ConditionCode as C;
    let flag = |bit: u32| rflags >> bit & 1 != 0;
    let (carry, parity, zero, sign, overflow) = (flag(0), flag(2), flag(6), flag(7), flag(11));
    match condition {
        C::o => overflow,
        C::no => !overflow,
        C::b => carry,
        C::ae => !carry,
        C::e => zero,
        C::ne => !zero,
        C::be => carry || zero,
        C::a => !carry && !zero,
        C::s => sign,
        C::ns => !sign,
        C::p => parity,
        C::np => !parity,
        C::l => sign != overflow,
        C::ge => sign == overflow,
        C::le => zero || sign != overflow,
        _ => !zero && sign == overflow,
    }
}
