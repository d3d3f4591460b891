//! What an expression may ask of the place in the run where it is evaluated, and what it gives.

use model::Address;

use crate::die::DieId;

/// A frame of a task at a moment: registers and memory as that frame sees them. For a frame that
/// has called another, registers are those at the return from the call.
pub trait Frame {
    /// A register by its number in the psABI (figure 3.36: 0 is rax, 7 rsp, 16 the return
    /// address, 17 xmm0), its lower 128 bits. `None` if it is not known in this frame.
    fn register(&self, register: u16) -> Option<u128>;

    /// Fills `bytes` from memory; false if some of it is not mapped.
    fn memory(&self, address: Address, bytes: &mut [u8]) -> bool;

    /// What the module's addresses have more at run time than in its file.
    fn bias(&self) -> u64;

    /// The canonical frame address, if it is known already. It is computed otherwise.
    fn cfa(&self) -> Option<Address> {
        None
    }

    /// The address of what is at an offset of the module's block of thread-local variables, for
    /// the frame's task.
    fn thread_local(&self, _offset: u64) -> Option<Address> {
        None
    }

    /// The same frame at the first instruction of its function: what parameters were then.
    fn entry(&self) -> Option<&dyn Frame> {
        None
    }
}

/// Where a value is: one piece, or several that together make it up, lowest address first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// How many bits of the value it holds; none if it is the only one.
    pub bits: Option<u64>,
    /// From which bit of the place on, counted from the least significant one.
    pub first_bit: u64,
    pub place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Memory(Address),
    /// By its number in the psABI.
    Register(u16),
    /// There is no place, but this is the value, little endian. It may have more bytes than the
    /// variable.
    Value(Vec<u8>),
    /// A pointer that the compiler dropped, to a variable that is known: to so many bytes behind
    /// the beginning of its value.
    ImplicitPointer {
        to: DieId,
        offset: i64,
    },
    /// The compiler did not keep it.
    OptimisedOut,
}

impl Location {
    pub(crate) fn single(place: Place) -> Location {
        Location { pieces: vec![Piece { bits: None, first_bit: 0, place }] }
    }

    /// The place of the whole value, if it is one.
    pub fn whole(&self) -> Option<&Place> {
        match &self.pieces[..] {
            [Piece { first_bit: 0, place, .. }] => Some(place),
            _ => None,
        }
    }

    /// Whether nothing of the value was kept.
    pub fn is_optimised_out(&self) -> bool {
        self.pieces.iter().all(|piece| piece.place == Place::OptimisedOut)
    }
}
