//! Where owners come from.

use super::keys;
use crate::bytes::{join, put_varint, split};
use crate::error::Malformed;
use crate::items::{Lineage, Owner};
use crate::section::{Codec, Key};

#[derive(Debug)]
pub struct Lineages;

impl Codec for Lineages {
    type Item = Lineage;

    fn key(item: &Lineage) -> Key {
        (0, u64::from(item.owner.0))
    }

    fn size(_: &Lineage) -> usize {
        8
    }

    fn check(before: Option<&Lineage>, item: &Lineage) -> Result<(), &'static str> {
        if before.is_some_and(|before| before.owner >= item.owner) {
            return Err("it is not behind the one before");
        }
        if item.parent.is_some_and(|(parent, _)| parent >= item.owner) {
            return Err("its parent is not older");
        }
        Ok(())
    }

    fn encode(items: &[Lineage], _: u8, out: &mut Vec<u8>) {
        let columns = keys::encode(items.iter().map(Self::key));
        let mut parents = Vec::new();
        for item in items {
            let Some((parent, border)) = item.parent else {
                put_varint(&mut parents, 0);
                continue;
            };
            put_varint(&mut parents, u64::from(item.owner.0 - parent.0));
            put_varint(&mut parents, border);
        }
        join([&columns.firsts, &columns.seconds, &parents], out);
    }

    fn decode(raw: &[u8], items: usize) -> Result<Vec<Lineage>, Malformed> {
        let [firsts, seconds, mut parents] = split(raw)?;
        let keys = keys::decode(firsts, seconds, items)?;
        if keys.len() != items {
            return Err(Malformed("there are other numbers of owners and items"));
        }
        let mut out = Vec::with_capacity(items);
        for (zero, owner) in keys {
            let owner =
                u32::try_from(owner).map_err(|_| Malformed("an owner's number is too large"))?;
            let distance = parents.varint()?;
            if zero != 0 || distance > u64::from(owner) {
                return Err(Malformed("an owner without its parent"));
            }
            let parent = match distance {
                0 => None,
                _ => Some((Owner(owner - distance as u32), parents.varint()?)),
            };
            out.push(Lineage { owner: Owner(owner), parent });
        }
        parents.end()?;
        Ok(out)
    }
}
