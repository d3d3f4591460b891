//! fnstenv and fnsave, whose images hold the last-instruction pointers: these are stored as zero
//! (SDM vol. 1, 8.1.10, figures 8-9 and 8-11).

use iced_x86::{Code, Instruction};
use model::Address;

use super::access::{Stop, check, operand, store};
use super::components::{self, X87};
use crate::memory::AccessKind;
use crate::{Cpu, Fault, Space};

pub fn store_environment(
    space: &mut Space,
    cpu: &mut Cpu,
    instruction: &Instruction,
) -> Result<(), Stop> {
    use Code as C;
    let code = instruction.code();
    let waits = matches!(
        code,
        C::Fstenv_m14byte | C::Fstenv_m28byte | C::Fsave_m94byte | C::Fsave_m108byte
    );
    let whole = matches!(
        code,
        C::Fnsave_m94byte | C::Fnsave_m108byte | C::Fsave_m94byte | C::Fsave_m108byte
    );
    let narrow = matches!(
        code,
        C::Fnstenv_m14byte | C::Fstenv_m14byte | C::Fnsave_m94byte | C::Fsave_m94byte
    );
    let mut x87 = components::x87(&cpu.vector);
    if waits {
        check_pending(cpu, &x87)?;
    }
    let mut image = environment(&x87, narrow);
    if whole {
        image.extend(x87.registers.as_flattened());
    }
    let place = operand(cpu, instruction, 0, 0);
    // The last byte is probed after the control word (observed on Zen 5 and Emerald Rapids).
    check(space, place, if narrow { 2 } else { 4 }, AccessKind::Write)?;
    check(space, place.offset(image.len() as u64 - 1), 1, AccessKind::Write)?;
    store(space, place, &image)?;
    if whole {
        let top = x87.top();
        x87.registers.rotate_right(top);
        x87 = X87 { registers: x87.registers, ..X87::INITIAL };
    } else {
        // All exceptions become masked, hence none is pending: ES and B go.
        x87.control |= 0x3f;
        x87.status &= !0x8080;
    }
    components::set_x87(&mut cpu.vector, &x87);
    Ok(())
}

/// #MF of an instruction that waits.
pub fn check_pending(cpu: &Cpu, x87: &X87) -> Result<(), Stop> {
    if !x87.is_pending() {
        return Ok(());
    }
    // Linux, fpu__exception_code: the first unmasked exception decides.
    let raised = x87.status & !x87.control;
    let code = match raised {
        _ if raised & 0x01 != 0 => 7, // FPE_FLTINV
        _ if raised & 0x04 != 0 => 3, // FPE_FLTDIV
        _ if raised & 0x08 != 0 => 4, // FPE_FLTOVF
        _ if raised & 0x12 != 0 => 5, // FPE_FLTUND
        _ => 6,                       // FPE_FLTRES
    };
    Err(Stop::Fault(Fault { signal: libc::SIGFPE, code, address: Address(cpu.rip.0) }))
}

fn environment(x87: &X87, narrow: bool) -> Vec<u8> {
    let words = [x87.control, x87.status, full_tag(x87), 0, 0, 0, 0];
    if narrow {
        return words.iter().flat_map(|word| word.to_le_bytes()).collect();
    }
    // The processor fills the upper halves of registers of 16 bits with ones; the third and
    // fifth double words hold FIP and FDP, the fourth FCS and FOP.
    let uppers = [0xffff_u16, 0xffff, 0xffff, 0, 0, 0, 0xffff];
    words
        .iter()
        .zip(uppers)
        .flat_map(|(word, upper)| (u32::from(upper) << 16 | u32::from(*word)).to_le_bytes())
        .collect()
}

/// Two bits for each physical register: valid, zero, special, empty.
fn full_tag(x87: &X87) -> u16 {
    (0..8).fold(0, |tags, physical| {
        let register = &x87.registers[(physical + 8 - x87.top()) & 7];
        let exponent = u16::from_le_bytes([register[8], register[9]]) & 0x7fff;
        let tag = match exponent {
            _ if x87.valid >> physical & 1 == 0 => 3,
            0 if register[..8].iter().all(|byte| *byte == 0) => 1,
            0 | 0x7fff => 2,
            _ if register[7] & 0x80 == 0 => 2,
            _ => 0,
        };
        tags | tag << (2 * physical)
    })
}
