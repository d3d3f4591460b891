//! How often things with a number happened.

use super::keys::{self, decode_children, encode_children};
use crate::bytes::{join, put_varint, split};
use crate::error::Malformed;
use crate::items::Count;
use crate::section::{Codec, Key};

#[derive(Debug)]
pub struct Counts;

impl Codec for Counts {
    type Item = Count;

    fn key(item: &Count) -> Key {
        (item.class, item.key)
    }

    fn size(_: &Count) -> usize {
        6
    }

    fn check(before: Option<&Count>, item: &Count) -> Result<(), &'static str> {
        if before.is_some_and(|before| Self::key(before) >= Self::key(item)) {
            return Err("it is not behind the one before");
        }
        if item.count == 0 || item.children == 0 {
            return Err("it says that nothing happened");
        }
        Ok(())
    }

    fn encode(items: &[Count], _: u8, out: &mut Vec<u8>) {
        let columns = keys::encode(items.iter().map(Self::key));
        let mut counts = Vec::new();
        for item in items {
            put_varint(&mut counts, item.count - 1);
        }
        let children: Vec<u16> = items.iter().map(|item| item.children).collect();
        let children = encode_children(&children);
        join([&columns.firsts, &columns.seconds, &counts, &children], out);
    }

    fn decode(raw: &[u8], items: usize) -> Result<Vec<Count>, Malformed> {
        let [firsts, seconds, mut counts, children] = split(raw)?;
        let keys = keys::decode(firsts, seconds, items)?;
        if keys.len() != items {
            return Err(Malformed("there are other numbers of keys and items"));
        }
        let children = decode_children(children, items)?;
        let mut out = Vec::with_capacity(items);
        for ((class, key), children) in keys.into_iter().zip(children) {
            let count = counts.varint()?.checked_add(1).ok_or(Malformed("a count overflows"))?;
            out.push(Count { class, key, count, children });
        }
        counts.end()?;
        Ok(out)
    }
}
