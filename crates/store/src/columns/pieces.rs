//! Opaque bytes in pieces.

use crate::error::Malformed;
use crate::section::{Codec, Key};

/// Bytes in a piece but the last.
pub const PIECE_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub struct Pieces;

/// Consecutive bytes, from an offset on.
#[derive(Debug)]
pub struct Piece {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

impl Codec for Pieces {
    type Item = Piece;
    /// A chunk for each.
    const CHUNK_BYTES: usize = 0;

    fn key(item: &Piece) -> Key {
        (0, item.offset)
    }

    fn size(item: &Piece) -> usize {
        item.bytes.len()
    }

    fn check(_: Option<&Piece>, _: &Piece) -> Result<(), &'static str> {
        Ok(())
    }

    fn encode(items: &[Piece], _: u8, out: &mut Vec<u8>) {
        out.extend(items.iter().flat_map(|piece| &piece.bytes));
    }

    /// The offset is in the directory.
    fn decode(raw: &[u8], items: usize) -> Result<Vec<Piece>, Malformed> {
        if items != 1 || raw.len() > PIECE_BYTES {
            return Err(Malformed("a piece of a blob is not one"));
        }
        Ok(vec![Piece { offset: 0, bytes: raw.to_vec() }])
    }

    fn memory(item: &Piece) -> usize {
        item.bytes.len()
    }
}
