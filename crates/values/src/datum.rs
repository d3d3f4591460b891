//! A value with its type and its place, not read yet.

use std::cell::Cell;
use std::sync::Arc;

use model::Address;
use symbols::{DieId, LinkAddress, Location, MemberPlace, Module, Piece, Place, TypeId};

use crate::printers::Printers;
use crate::target::{ModuleFrame, Standing, Target};
use crate::types::{Ty, Types};
use crate::value::{Badge, Lives};

/// Reads of memory for one question, and bytes read.
const READS_MAX: u32 = 400_000;
const BYTES_MAX: u64 = 64 << 20;

/// What a question may still read.
#[derive(Debug)]
pub(crate) struct Budget {
    reads: Cell<u32>,
    bytes: Cell<u64>,
}

impl Budget {
    pub fn new() -> Budget {
        Budget { reads: Cell::new(READS_MAX), bytes: Cell::new(BYTES_MAX) }
    }
}

/// What values are read with.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub types: &'a Types,
    pub printers: &'a Printers,
    pub target: &'a dyn Target,
    pub standing: Option<Standing>,
    pub budget: &'a Budget,
    /// Without printers.
    pub raw: bool,
    /// How many values may still be shown by way of another.
    pub nesting: u32,
}

/// Something with a type and a place.
#[derive(Clone, Debug)]
pub(crate) struct Datum {
    pub ty: Arc<Ty>,
    pub home: Home,
    /// Of a bit field: from which bit of the home on, and how many.
    pub bits: Option<(u64, u64)>,
    /// A pointer led here, so it may be a part of an object of another type.
    pub pointed: bool,
}

/// Where a value is.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    Memory(Address),
    /// In parts, and from which bit of all of them on.
    Pieces(Arc<[Piece]>, u64),
    /// Computed: no place.
    Number(u128),
    /// Computed, and from which byte on.
    Bytes(Arc<[u8]>, usize),
    Absent(Badge),
}

impl<'a> Context<'a> {
    pub fn deeper(&self) -> Context<'a> {
        Context { nesting: self.nesting.saturating_sub(1), ..*self }
    }

    /// Fills bytes from memory, within the budget.
    pub fn read(&self, address: Address, bytes: &mut [u8]) -> Result<(), Badge> {
        let reads = self.budget.reads.get().checked_sub(1).ok_or(Badge::TooMuch)?;
        let length = bytes.len() as u64;
        let left = self.budget.bytes.get().checked_sub(length).ok_or(Badge::TooMuch)?;
        self.budget.reads.set(reads);
        self.budget.bytes.set(left);
        if self.target.read(address, bytes) { Ok(()) } else { Err(Badge::Unreadable(address)) }
    }

    /// As many bytes as can be read, up to a number; at least one.
    pub fn read_some(&self, address: Address, length: usize) -> Result<Vec<u8>, Badge> {
        let mut bytes = vec![0; length];
        if length == 0 || self.read(address, &mut bytes).is_ok() {
            return Ok(bytes);
        }
        // Up to the end of what is mapped: pages are mapped whole.
        let mut known = 0;
        while known < length {
            let at = address + known as u64;
            let page = (model::PAGE_SIZE - at.0 % model::PAGE_SIZE) as usize;
            let end = length.min(known + page);
            if let Err(badge) = self.read(at, &mut bytes[known..end]) {
                if known == 0 {
                    return Err(badge);
                }
                break;
            }
            known = end;
        }
        bytes.truncate(known);
        Ok(bytes)
    }

    pub fn word(&self, address: Address) -> Result<u64, Badge> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The number of a module among the loaded ones.
    pub fn number_of(&self, module: &Arc<Module>) -> Option<usize> {
        self.target.modules().iter().position(|loaded| Arc::ptr_eq(&loaded.module, module))
    }

    /// The module that is mapped at an address.
    pub fn module_at(&self, address: Address) -> Option<usize> {
        self.target.modules().iter().position(|loaded| loaded.contains(address))
    }

    pub fn own_module(&self) -> Option<&'a Arc<Module>> {
        let standing = self.standing?;
        Some(&self.target.modules().get(standing.module)?.module)
    }

    /// The target as a module's symbols see it, and the address that is executed there.
    fn frame(&self, module: usize) -> (ModuleFrame<'a>, LinkAddress) {
        let own = self.standing.filter(|standing| standing.module == module);
        let frame = ModuleFrame { target: self.target, module, own };
        (frame, own.map_or(LinkAddress(0), |standing| standing.address))
    }

    /// A variable of a module, with its type.
    pub fn variable(&self, module: usize, variable: DieId, type_: Option<TypeId>) -> Datum {
        let Some(loaded) = self.target.modules().get(module) else {
            return Datum::absent(
                crate::types::void(),
                Badge::NotKnown("its module is not loaded".to_owned()),
            );
        };
        let ty = self.types.get(&loaded.module, type_);
        let (frame, address) = self.frame(module);
        let home = match loaded.module.locate(variable, address, &frame) {
            Ok(location) => Home::of(location),
            Err(error) => Home::Absent(badge(error)),
        };
        Datum { ty, home, bits: None, pointed: false }
    }

    /// The number of elements in a dimension of an array. None if nothing tells it.
    pub fn count(&self, ty: &Ty, dimension: &symbols::Dimension) -> Result<Option<u64>, Badge> {
        if let symbols::Count::Known(count) = dimension.count {
            return Ok(Some(count));
        }
        let Some((module, number)) = self.module_of(ty) else { return Ok(None) };
        let (frame, address) = self.frame(number);
        module.count(dimension, address, &frame).map_err(badge)
    }

    fn module_of<'t>(&self, ty: &'t Ty) -> Option<(&'t Arc<Module>, usize)> {
        let module = ty.module.as_ref()?;
        Some((module, self.number_of(module)?))
    }

    /// A member or base of a value.
    pub fn part(&self, of: &Datum, place: &MemberPlace, type_: Option<TypeId>) -> Datum {
        let ty = self.types.of(&of.ty, type_);
        match place {
            MemberPlace::Bytes(offset) => {
                Datum { ty, home: of.home.at(*offset), bits: None, pointed: false }
            }
            MemberPlace::Bits { offset, size } => Datum {
                ty,
                home: of.home.at(offset / 8),
                bits: Some((offset % 8, *size)),
                pointed: false,
            },
            MemberPlace::Computed(_) => {
                let home = match self.computed(of, place) {
                    Ok(address) => Home::Memory(address),
                    Err(badge) => Home::Absent(badge),
                };
                Datum { ty, home, bits: None, pointed: false }
            }
        }
    }

    fn computed(&self, of: &Datum, place: &MemberPlace) -> Result<Address, Badge> {
        let object = match &of.home {
            Home::Memory(address) => *address,
            Home::Absent(badge) => return Err(badge.clone()),
            _ => return Err(Badge::NotKnown("the object is not in memory".to_owned())),
        };
        let unloaded = || Badge::NotKnown("its module is not loaded".to_owned());
        let (module, number) = self.module_of(&of.ty).ok_or_else(unloaded)?;
        let (frame, address) = self.frame(number);
        module.member_address(place, object, address, &frame).map_err(badge)
    }

    /// The bits of a value of at most 16 bytes, the lowest first; none beyond its size.
    pub fn bits(&self, datum: &Datum) -> Result<u128, Badge> {
        let bits = match datum.bits {
            Some((first, bits)) => {
                let bits = bits.min(128);
                let mut bytes = [0; 24];
                let length = ((first + bits).div_ceil(8) as usize).min(bytes.len());
                self.fill(&datum.home, &mut bytes[..length])?;
                let low = low_bits(&bytes[..16]);
                let high = low_bits(&bytes[16..]);
                let shifted = if first == 0 { low } else { low >> first | high << (128 - first) };
                return Ok(shifted & mask(bits));
            }
            None => datum.ty.size.unwrap_or(0).min(16),
        };
        match &datum.home {
            Home::Number(number) => Ok(number & mask(bits * 8)),
            home => {
                let mut bytes = [0; 16];
                self.fill(home, &mut bytes[..bits as usize])?;
                Ok(u128::from_le_bytes(bytes))
            }
        }
    }

    /// The bytes of a value, `length` of them.
    pub fn bytes(&self, datum: &Datum, length: usize) -> Result<Vec<u8>, Badge> {
        let mut bytes = vec![0; length];
        self.fill(&datum.home, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills bytes from where a value is.
    pub fn fill(&self, home: &Home, bytes: &mut [u8]) -> Result<(), Badge> {
        match home {
            Home::Memory(address) => self.read(*address, bytes),
            Home::Pieces(pieces, from) => self.gather(pieces, *from, bytes),
            Home::Number(number) => {
                for (byte, value) in bytes.iter_mut().zip(number.to_le_bytes()) {
                    *byte = value;
                }
                Ok(())
            }
            Home::Bytes(known, from) => {
                let known = known.get(*from..).unwrap_or_default();
                let length = known.len().min(bytes.len());
                bytes[..length].copy_from_slice(&known[..length]);
                Ok(())
            }
            Home::Absent(badge) => Err(badge.clone()),
        }
    }

    /// Puts together what lies in pieces.
    fn gather(&self, pieces: &[Piece], from: u64, bytes: &mut [u8]) -> Result<(), Badge> {
        let wanted = from..from.saturating_add(bytes.len() as u64 * 8);
        let mut start = 0u64;
        for piece in pieces {
            let end = piece.bits.map_or(u64::MAX, |bits| start.saturating_add(bits));
            let (low, high) = (start.max(wanted.start), end.min(wanted.end));
            if low < high {
                let inside = low - start + piece.first_bit;
                let part = self.piece_bits(piece, inside, high - low)?;
                put_bits(bytes, low - wanted.start, &part, inside % 8, high - low);
            }
            start = end;
        }
        if start < wanted.end { Err(Badge::OptimisedOut) } else { Ok(()) }
    }

    /// The bytes of a piece from the one with bit `first` on that hold so many bits.
    fn piece_bits(&self, piece: &Piece, first: u64, bits: u64) -> Result<Vec<u8>, Badge> {
        let skip = (first / 8) as usize;
        let length = ((first % 8 + bits).div_ceil(8)) as usize;
        let cut = |known: &[u8]| {
            let known = known.get(skip..).unwrap_or_default();
            let mut part = known[..known.len().min(length)].to_vec();
            part.resize(length, 0);
            part
        };
        match &piece.place {
            Place::Memory(address) => {
                let mut part = vec![0; length];
                self.read(*address + skip as u64, &mut part)?;
                Ok(part)
            }
            Place::Register(number) => match self.target.register(*number) {
                Some(value) => Ok(cut(&value.to_le_bytes())),
                None => Err(Badge::NotKnown(format!("{} in this frame", register_name(*number)))),
            },
            Place::Value(value) => Ok(cut(value)),
            Place::ImplicitPointer { .. } => {
                Err(Badge::NotKnown("a pointer that the compiler dropped".to_owned()))
            }
            Place::OptimisedOut => Err(Badge::OptimisedOut),
        }
    }

    /// What a pointer points to that the compiler dropped, if it is one.
    pub fn implicit_target(&self, pointer: &Datum) -> Option<(usize, DieId, i64)> {
        let Home::Pieces(pieces, 0) = &pointer.home else { return None };
        let [Piece { first_bit: 0, place: Place::ImplicitPointer { to, offset }, .. }] =
            &pieces[..]
        else {
            return None;
        };
        let number = self.number_of(pointer.ty.module.as_ref()?)?;
        Some((number, *to, *offset))
    }
}

impl Home {
    pub fn of(location: Location) -> Home {
        if location.is_optimised_out() {
            return Home::Absent(Badge::OptimisedOut);
        }
        match location.whole() {
            Some(Place::Memory(address)) => Home::Memory(*address),
            _ => Home::Pieces(location.pieces.into(), 0),
        }
    }

    /// So many bytes further.
    pub fn at(&self, offset: u64) -> Home {
        match self {
            Home::Memory(address) => Home::Memory(*address + offset),
            Home::Pieces(pieces, from) => {
                Home::Pieces(Arc::clone(pieces), from.saturating_add(offset.saturating_mul(8)))
            }
            Home::Number(number) => {
                let shift = u32::try_from(offset.saturating_mul(8)).unwrap_or(u32::MAX);
                Home::Number(number.checked_shr(shift).unwrap_or(0))
            }
            Home::Bytes(bytes, from) => Home::Bytes(
                Arc::clone(bytes),
                from.saturating_add(usize::try_from(offset).unwrap_or(usize::MAX)),
            ),
            Home::Absent(badge) => Home::Absent(badge.clone()),
        }
    }
}

impl Datum {
    pub fn absent(ty: Arc<Ty>, badge: Badge) -> Datum {
        Datum { ty, home: Home::Absent(badge), bits: None, pointed: false }
    }

    pub fn number(ty: Arc<Ty>, number: u128) -> Datum {
        Datum { ty, home: Home::Number(number), bits: None, pointed: false }
    }

    pub fn at(ty: Arc<Ty>, address: Address) -> Datum {
        Datum { ty, home: Home::Memory(address), bits: None, pointed: false }
    }

    /// Where it is in memory, as a whole.
    pub fn address(&self) -> Option<Address> {
        match (&self.home, self.bits) {
            (Home::Memory(address), None) => Some(*address),
            _ => None,
        }
    }

    /// Where its so many bytes are, for people and for questions about the place.
    pub fn lives(&self, size: u64) -> Vec<Lives> {
        let (first_bit, bits) = self.bits.unwrap_or((0, size.saturating_mul(8)));
        match &self.home {
            Home::Memory(address) if self.bits.is_some() => {
                vec![Lives::MemoryBits { address: *address, first_bit, bits }]
            }
            Home::Memory(address) => vec![Lives::Memory { address: *address, size }],
            Home::Pieces(pieces, from) => lives_in(pieces, from.saturating_add(first_bit), bits),
            _ => Vec::new(),
        }
    }
}

fn lives_in(pieces: &[Piece], from: u64, bits: u64) -> Vec<Lives> {
    let end_wanted = from.saturating_add(bits);
    let mut lives = Vec::new();
    let mut start = 0u64;
    for piece in pieces {
        let end = piece.bits.map_or(u64::MAX, |bits| start.saturating_add(bits));
        let (low, high) = (start.max(from), end.min(end_wanted));
        if low < high {
            let first_bit = low - start + piece.first_bit;
            let bits = high - low;
            lives.push(match &piece.place {
                Place::Memory(address) if first_bit.is_multiple_of(8) && bits.is_multiple_of(8) => {
                    Lives::Memory { address: *address + first_bit / 8, size: bits / 8 }
                }
                Place::Memory(address) => Lives::MemoryBits { address: *address, first_bit, bits },
                Place::Register(number) => Lives::Register { number: *number, first_bit, bits },
                Place::Value(_) | Place::ImplicitPointer { .. } | Place::OptimisedOut => {
                    Lives::Nowhere { bits }
                }
            });
        }
        start = end;
    }
    lives
}

/// Copies bits into bytes from bit `to` on, from bit `from` (below 8) of other bytes on.
fn put_bits(bytes: &mut [u8], to: u64, part: &[u8], from: u64, bits: u64) {
    if to.is_multiple_of(8) && from == 0 && bits.is_multiple_of(8) {
        let to = (to / 8) as usize;
        let length = (bits / 8) as usize;
        bytes[to..to + length].copy_from_slice(&part[..length]);
        return;
    }
    for bit in 0..bits {
        let (source, target) = (from + bit, to + bit);
        if part[(source / 8) as usize] >> (source % 8) & 1 == 1 {
            bytes[(target / 8) as usize] |= 1 << (target % 8);
        }
    }
}

fn low_bits(bytes: &[u8]) -> u128 {
    let mut low = [0; 16];
    let length = bytes.len().min(16);
    low[..length].copy_from_slice(&bytes[..length]);
    u128::from_le_bytes(low)
}

pub(crate) fn mask(bits: u64) -> u128 {
    if bits >= 128 { u128::MAX } else { (1u128 << bits) - 1 }
}

pub(crate) fn sign_extended(bits: u128, width: u64) -> i128 {
    if width == 0 || width >= 128 {
        return bits.cast_signed();
    }
    let shift = 128 - width;
    (bits << shift).cast_signed() >> shift
}

pub(crate) fn badge(error: symbols::Error) -> Badge {
    match error {
        symbols::Error::Frame(what) => Badge::NotKnown(format!("the frame has no {what}")),
        error => Badge::Broken(error.to_string()),
    }
}

/// The names of registers by their numbers in the psABI.
const REGISTERS: [&str; 17] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip",
];

pub(crate) fn register_name(number: u16) -> String {
    match REGISTERS.get(usize::from(number)) {
        Some(name) => (*name).to_owned(),
        None if (17..33).contains(&number) => format!("xmm{}", number - 17),
        None if (33..41).contains(&number) => format!("st{}", number - 33),
        None => format!("register {number}"),
    }
}

/// The number of a register in the psABI.
pub(crate) fn register_number(name: &str) -> Option<u16> {
    if let Some(at) = REGISTERS.iter().position(|known| *known == name) {
        return u16::try_from(at).ok();
    }
    let in_range = |text: &str, first: u16, count: u16| {
        let number: u16 = text.parse().ok()?;
        (number < count).then_some(first + number)
    };
    match name {
        "pc" => Some(16),
        "sp" => Some(7),
        "fp" => Some(6),
        _ => match name.strip_prefix("xmm") {
            Some(number) => in_range(number, 17, 16),
            None => in_range(name.strip_prefix("st")?, 33, 8),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_put_together() {
        let mut bytes = [0u8; 4];
        put_bits(&mut bytes, 4, &[0xab, 0xcd], 0, 16);
        assert_eq!(u32::from_le_bytes(bytes), 0xcdab0);
        let mut bytes = [0u8; 2];
        put_bits(&mut bytes, 0, &[0b1111_0100], 2, 6);
        assert_eq!(bytes, [0b11_1101, 0]);
        assert_eq!(sign_extended(0b111, 3), -1);
        assert_eq!(sign_extended(0b011, 3), 3);
        assert_eq!(sign_extended(u128::MAX, 128), -1);
    }

    #[test]
    fn registers_by_name() {
        for number in 0..41 {
            assert_eq!(register_number(&register_name(number)), Some(number));
        }
        assert_eq!(register_number("xmm16"), None);
        assert_eq!(register_number("rip"), Some(16));
    }
}
