//! Bytes that are followed: where they are, and what is known of them.

use std::ops::Range;

use model::{Address, Moment, Tid};

use crate::origin::hop::Hop;
use crate::origin::semantics::{Cell, From};

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    Memory { space: u32, address: Address },
    Register { cell: Cell, first: u8 },
}

/// Bytes of the value at a place, in front of a moment.
#[derive(Clone, Debug)]
pub struct Trail {
    /// Which bytes of the value. It may be fewer bytes that are followed: where a number was
    /// extended, its lower ones.
    pub bytes: Range<u64>,
    /// The content of those that are followed; it stays the same all the way.
    pub value: Vec<u8>,
    pub spot: Spot,
    pub tid: Tid,
    pub moment: Moment,
    /// Hops so far.
    pub depth: u32,
    /// A store whose value is being followed through registers, and calls that it passed: told
    /// when it is known what was stored.
    pub store: Option<Box<Store>>,
    /// Copies from register to register since the last hop.
    pub registers: usize,
}

#[derive(Clone, Debug)]
pub struct Store {
    pub hop: Hop,
    pub passed: Vec<Hop>,
    /// Where it was stored.
    pub space: u32,
    pub range: Range<Address>,
}

impl Trail {
    pub fn new(bytes: Range<u64>, value: Vec<u8>, spot: Spot, tid: Tid, moment: Moment) -> Trail {
        Trail { bytes, value, spot, tid, moment, depth: 0, store: None, registers: 0 }
    }

    /// Some of its bytes, counted from its own beginning.
    pub fn part(&self, part: &Range<u64>) -> Trail {
        let mut trail = self.clone();
        let end = match part.end == self.length() {
            true => self.bytes.end,
            false => self.bytes.start + part.end,
        };
        trail.bytes = self.bytes.start + part.start..end;
        trail.value = self.value[part.start as usize..part.end as usize].to_vec();
        trail.spot = match self.spot {
            Spot::Memory { space, address } => {
                Spot::Memory { space, address: address + part.start }
            }
            Spot::Register { cell, first } => {
                Spot::Register { cell, first: first + part.start as u8 }
            }
        };
        trail.relabel();
        trail
    }

    pub fn relabel(&mut self) {
        if let Some(store) = &mut self.store {
            for hop in [&mut store.hop].into_iter().chain(&mut store.passed) {
                hop.bytes = (self.bytes.start, self.bytes.end);
            }
        }
    }

    /// The part that a piece is about.
    pub fn piece(&self, piece: &Piece) -> Trail {
        let mut trail = self.part(&piece.range);
        if piece.extended == self.length() {
            trail.bytes.end = self.bytes.end;
            trail.relabel();
        }
        trail
    }

    pub fn length(&self) -> u64 {
        self.value.len() as u64
    }

    /// Where and when it was stored, of a value that is being followed through registers.
    pub fn stored_at(&self) -> Option<(u32, Range<Address>, Moment)> {
        let store = self.store.as_ref()?;
        Some((store.space, store.range.clone(), store.hop.moment.0))
    }

    pub fn warn(&mut self, warning: String) {
        if let Some(store) = &mut self.store {
            store.hop.warning = Some(warning);
        }
    }
}

/// Neighbouring bytes of what an instruction wrote that come from one place.
#[derive(Clone, Debug)]
pub struct Piece {
    pub range: Range<u64>,
    /// Up to here they are an extension of these.
    pub extended: u64,
    pub from: From,
}

/// Neighbours that come from neighbouring bytes of one place, together.
pub fn pieces(length: u64, from: impl Fn(u64) -> From) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::new();
    for byte in 0..length {
        let next = from(byte);
        if let Some(piece) = all.last_mut() {
            let distance = byte - piece.range.start;
            let goes_on = match (piece.from, next) {
                (From::Register(cell, from), From::Register(other, to)) => {
                    cell == other && u64::from(from) + distance == u64::from(to)
                }
                (From::Memory(from), From::Memory(to)) => from + distance == to,
                (one, other) => one == other,
            };
            if goes_on && piece.extended == piece.range.end {
                piece.range.end = byte + 1;
                piece.extended = byte + 1;
                continue;
            }
            if next == From::Extension && piece.from != From::Unchanged {
                piece.extended = byte + 1;
                continue;
            }
        }
        all.push(Piece { range: byte..byte + 1, extended: byte + 1, from: next });
    }
    all
}
