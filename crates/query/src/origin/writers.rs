//! Who wrote bytes of memory last.

use std::ops::Range;

use model::{Address, Moment};

use crate::accesses::{Access, By, in_piece, last_leaf};
use crate::ask::Asked;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::memory_identity::Bytes;

/// A part of some bytes, by its distance from their beginning, and its last writer before a
/// moment, if there is one.
#[derive(Clone, Debug)]
pub struct Written {
    pub part: Range<u64>,
    pub access: Option<Access>,
    /// Where the writer sees the part's first byte.
    pub address: Address,
}

/// The last writers of all bytes in front of a moment, in order of the bytes.
///
/// What the kernel or a mapping did at the moment itself is over by then. `None` if the question
/// was interrupted.
pub fn last(
    engine: &mut Engine<'_>,
    asked: &mut Asked<'_>,
    (space, address, length): (u32, Address, u64),
    moment: Moment,
) -> Result<Option<Vec<Written>>, Failure> {
    let db = engine.db;
    let mut found: Vec<Written> = Vec::new();
    // Pieces without a writer so far, each with the leaf in front of which it may have one.
    let mut open = vec![(0..length, engine.leaf_at(moment)? + 1)];
    while let Some((range, border)) = open.pop() {
        let size = range.end - range.start;
        let bytes = Bytes::at(db, space, address + range.start, size, moment);
        let Some(leaf) = last_leaf(db, &bytes, border, false)? else {
            let seen = address + range.start;
            found.push(Written { part: range, access: None, address: seen });
            continue;
        };
        if asked.is_interrupted() {
            return Ok(None);
        }
        let mut rest: Vec<Range<u64>> = std::iter::once(0..size).collect();
        // The latest piece first: most values are young.
        for piece in engine.pieces(leaf, moment)?.into_iter().rev() {
            let found_here = in_piece(engine, &bytes, leaf, piece)?;
            for access in found_here.accesses.iter().rev().filter(|access| is_over(access, moment))
            {
                rest = assign(access, rest, |part| {
                    let seen = bytes.address(access.space, part.start, access.moment);
                    found.push(Written {
                        part: range.start + part.start..range.start + part.end,
                        address: seen.unwrap_or(address + range.start + part.start),
                        access: Some(narrowed(access, part)),
                    });
                });
            }
            if rest.is_empty() {
                break;
            }
            if asked.is_interrupted() {
                return Ok(None);
            }
        }
        let left = rest.into_iter().map(|piece| range.start + piece.start..range.start + piece.end);
        open.extend(left.map(|piece| (piece, leaf)));
    }
    found.sort_by_key(|written| written.part.start);
    Ok(Some(found))
}

fn is_over(access: &Access, moment: Moment) -> bool {
    match access.by {
        By::Instruction => access.moment < moment,
        By::Kernel(_) | By::Mapping(_) => access.moment <= moment,
    }
}

/// Gives an access what it wrote of pieces; returns what is left.
fn assign(
    access: &Access,
    pieces: Vec<Range<u64>>,
    mut give: impl FnMut(Range<u64>),
) -> Vec<Range<u64>> {
    let mut rest = Vec::new();
    for piece in pieces {
        let start = piece.start.max(access.part.start);
        let end = piece.end.min(access.part.end);
        if start >= end {
            rest.push(piece);
            continue;
        }
        let around = [piece.start..start, end..piece.end];
        rest.extend(around.into_iter().filter(|range| !range.is_empty()));
        give(start..end);
    }
    rest
}

/// The access as one to a part of the bytes.
fn narrowed(access: &Access, part: Range<u64>) -> Access {
    let range = part.start as usize..part.end as usize;
    let cut = |content: &[Option<u8>]| content.get(range.clone()).map_or(Vec::new(), <[_]>::to_vec);
    Access { old: cut(&access.old), new: cut(&access.new), part, ..access.clone() }
}
