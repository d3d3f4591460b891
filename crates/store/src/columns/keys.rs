//! Strictly ascending keys of two parts, and sets of children.

use crate::bytes::{Cursor, put_varint};
use crate::error::Malformed;
use crate::section::Key;

/// First parts as runs (distance, length), second parts as distances within a run.
#[derive(Debug, Default)]
pub struct KeyColumns {
    pub firsts: Vec<u8>,
    pub seconds: Vec<u8>,
}

pub fn encode(keys: impl Iterator<Item = Key>) -> KeyColumns {
    let mut columns = KeyColumns::default();
    let mut run: Option<(Key, u64)> = None;
    let mut before = 0;
    for key in keys {
        match &mut run {
            Some((last, length)) if last.0 == key.0 => {
                put_varint(&mut columns.seconds, key.1 - last.1 - 1);
                *last = key;
                *length += 1;
            }
            _ => {
                if let Some((last, length)) = run {
                    put_varint(&mut columns.firsts, length);
                    before = last.0;
                }
                put_varint(&mut columns.firsts, u64::from(key.0 - before));
                put_varint(&mut columns.seconds, key.1);
                run = Some((key, 1));
            }
        }
    }
    if let Some((_, length)) = run {
        put_varint(&mut columns.firsts, length);
    }
    columns
}

/// The inverse: at most `limit` keys, strictly ascending.
pub fn decode(
    mut firsts: Cursor<'_>,
    mut seconds: Cursor<'_>,
    limit: usize,
) -> Result<Vec<Key>, Malformed> {
    const FULL: Malformed = Malformed("keys overflow");
    let mut keys: Vec<Key> = Vec::new();
    let mut first = 0_u32;
    while firsts.rest_len() > 0 {
        let distance = u32::try_from(firsts.varint()?).map_err(|_| FULL)?;
        if distance == 0 && !keys.is_empty() {
            return Err(Malformed("a run of keys continues the one before"));
        }
        first = first.checked_add(distance).ok_or(FULL)?;
        let length = firsts.varint()?;
        if length == 0 || length > (limit - keys.len()) as u64 {
            return Err(Malformed("there are other numbers of keys and items"));
        }
        let mut second = seconds.varint()?;
        keys.push((first, second));
        for _ in 1..length {
            let distance = seconds.varint()?;
            second = second.checked_add(distance).and_then(|s| s.checked_add(1)).ok_or(FULL)?;
            keys.push((first, second));
        }
    }
    seconds.end()?;
    Ok(keys)
}

/// Sets of children: no bytes at all if each is just the first, as in every leaf. Else the low
/// halves, then the high ones.
pub fn encode_children(children: &[u16]) -> Vec<u8> {
    if children.iter().all(|set| *set == 1) {
        return Vec::new();
    }
    let low = children.iter().map(|set| *set as u8);
    low.chain(children.iter().map(|set| (set >> 8) as u8)).collect()
}

pub fn decode_children(column: Cursor<'_>, items: usize) -> Result<Vec<u16>, Malformed> {
    let mut column = column;
    if column.rest_len() == 0 {
        return Ok(vec![1; items]);
    }
    let (low, high) = (column.bytes(items)?, column.bytes(items)?);
    column.end()?;
    let sets: Vec<u16> = low.iter().zip(high).map(|(l, h)| u16::from_le_bytes([*l, *h])).collect();
    if sets.contains(&0) {
        return Err(Malformed("an item is in no child"));
    }
    Ok(sets)
}
