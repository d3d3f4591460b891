//! Guest memory as instructions see it: where an operand lies, and what becomes of an access that
//! is not allowed.

use iced_x86::{Instruction, Register};
use model::Address;

use super::components;
use super::registers;
use crate::memory::AccessKind;
use crate::{Cpu, Error, Fault, Space};

/// Why an instruction did not complete.
#[derive(Debug)]
pub enum Stop {
    Fault(Fault),
    Unsupported,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        match error {
            // Allowed, yet not there: the mapping goes on behind the end of its object.
            Error::NotMapped(address) => {
                Stop::Fault(Fault { signal: libc::SIGBUS, code: BUS_ADRERR, address })
            }
            error => Stop::Failed(error),
        }
    }
}

/// A linear address, and whether it belongs to the stack segment, whose faults are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub address: u64,
    pub stack: bool,
}

/// Linux's half begins behind it; an access that starts there may even wrap around.
const USER_END: u64 = 1 << 47;
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRERR: i32 = 2;
/// Linux's code for exceptions that have no page to blame.
const SI_KERNEL: i32 = 0x80;
const ILL_ILLOPN: i32 = 2;

impl Place {
    pub fn data(address: u64) -> Place {
        Place { address, stack: false }
    }

    pub fn stack(address: u64) -> Place {
        Place { address, stack: true }
    }

    pub fn offset(self, bytes: u64) -> Place {
        Place { address: self.address.wrapping_add(bytes), ..self }
    }
}

/// #GP as Linux delivers it.
pub fn protection_fault() -> Stop {
    Stop::Fault(Fault { signal: libc::SIGSEGV, code: SI_KERNEL, address: Address(0) })
}

/// #SS as Linux delivers it.
pub fn stack_fault() -> Stop {
    Stop::Fault(Fault { signal: libc::SIGBUS, code: SI_KERNEL, address: Address(0) })
}

/// #UD as Linux delivers it.
pub fn invalid_opcode(cpu: &Cpu) -> Stop {
    Stop::Fault(Fault { signal: libc::SIGILL, code: ILL_ILLOPN, address: cpu.rip })
}

/// Bits 47..63 equal, with 48 bits of linear address (SDM vol. 1, 3.3.7.1).
pub fn is_canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

/// The place of a memory operand; `element` counts the elements of a vector of addresses.
pub fn operand(cpu: &Cpu, instruction: &Instruction, number: u32, element: usize) -> Place {
    let address = instruction.virtual_address(number, element, |register, element, size| {
        Some(if register.is_vector_register() {
            let bytes = components::vector(&cpu.vector, register.number());
            little_endian(&bytes[element * size..(element + 1) * size])
        } else {
            registers::read(cpu, register)
        })
    });
    let base = instruction.memory_base().full_register();
    let own_segment = matches!(instruction.segment_prefix(), Register::FS | Register::GS);
    Place {
        address: address.unwrap_or_default(),
        stack: matches!(base, Register::RSP | Register::RBP) && !own_segment,
    }
}

/// Whether the guest may do this to every one of `length` bytes.
pub fn check(space: &Space, place: Place, length: u64, kind: AccessKind) -> Result<(), Stop> {
    if length == 0 {
        return Ok(());
    }
    let last = place.address.wrapping_add(length - 1);
    if !is_canonical(place.address) || !is_canonical(last) {
        return Err(if place.stack { stack_fault() } else { protection_fault() });
    }
    if place.address >= USER_END {
        let address = Address(place.address);
        return Err(Stop::Fault(Fault { signal: libc::SIGSEGV, code: SEGV_MAPERR, address }));
    }
    space.access(Address(place.address), length, kind).map_err(|fault| {
        let code = if fault.mapped { SEGV_ACCERR } else { SEGV_MAPERR };
        Stop::Fault(Fault { signal: libc::SIGSEGV, code, address: fault.address })
    })
}

pub fn load(space: &Space, place: Place, bytes: &mut [u8]) -> Result<(), Stop> {
    check(space, place, bytes.len() as u64, AccessKind::Read)?;
    Ok(space.read(Address(place.address), bytes)?)
}

pub fn store(space: &mut Space, place: Place, bytes: &[u8]) -> Result<(), Stop> {
    check(space, place, bytes.len() as u64, AccessKind::Write)?;
    Ok(space.write(Address(place.address), bytes)?)
}

/// Reads an unsigned integer of 1 to 8 bytes.
pub fn load_integer(space: &Space, place: Place, size: usize) -> Result<u64, Stop> {
    let mut bytes = [0; 8];
    load(space, place, &mut bytes[..size])?;
    Ok(u64::from_le_bytes(bytes))
}

/// Writes the low `size` bytes of an integer.
pub fn store_integer(space: &mut Space, place: Place, size: usize, value: u64) -> Result<(), Stop> {
    store(space, place, &value.to_le_bytes()[..size])
}

pub fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
