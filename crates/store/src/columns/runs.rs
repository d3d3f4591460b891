//! Runs of executed code: gaps and lengths, counts against the run before.

use model::Address;

use super::keys::{decode_children, encode_children};
use crate::bytes::{join, put_varint, split, unzigzag, zigzag};
use crate::error::Malformed;
use crate::items::{CodeRun, Owner};
use crate::section::{Codec, Key};

#[derive(Debug)]
pub struct Runs;

impl Codec for Runs {
    type Item = CodeRun;

    fn key(item: &CodeRun) -> Key {
        (item.owner.0, item.start.0)
    }

    fn size(_: &CodeRun) -> usize {
        6
    }

    fn check(before: Option<&CodeRun>, item: &CodeRun) -> Result<(), &'static str> {
        let follows = |before: &CodeRun| {
            (before.owner, before.end) <= (item.owner, item.start) || before.owner < item.owner
        };
        if before.is_some_and(|before| !follows(before)) {
            return Err("it is not behind the one before");
        }
        if item.start >= item.end || item.count == 0 || item.children == 0 {
            return Err("it says that nothing happened");
        }
        Ok(())
    }

    fn encode(items: &[CodeRun], _: u8, out: &mut Vec<u8>) {
        let [mut owners, mut gaps, mut lengths, mut counts] = [const { Vec::new() }; 4];
        let (mut owner, mut end, mut count) = (0, 0, 0_u64);
        for item in items {
            put_varint(&mut owners, u64::from(item.owner.0 - owner));
            if item.owner.0 != owner {
                end = 0;
            }
            put_varint(&mut gaps, item.start.0 - end);
            put_varint(&mut lengths, item.end - item.start);
            put_varint(&mut counts, zigzag(item.count.wrapping_sub(count) as i64));
            (owner, end, count) = (item.owner.0, item.end.0, item.count);
        }
        let children: Vec<u16> = items.iter().map(|item| item.children).collect();
        join([&owners, &gaps, &lengths, &counts, &encode_children(&children)], out);
    }

    fn decode(raw: &[u8], items: usize) -> Result<Vec<CodeRun>, Malformed> {
        const OVERFLOW: Malformed = Malformed("a code run overflows");
        let [mut owners, mut gaps, mut lengths, mut counts, children] = split(raw)?;
        let children = decode_children(children, items)?;
        let mut out = Vec::with_capacity(items);
        let (mut owner, mut end, mut count) = (0_u32, 0_u64, 0_u64);
        for children in children {
            let distance = u32::try_from(owners.varint()?).map_err(|_| OVERFLOW)?;
            owner = owner.checked_add(distance).ok_or(OVERFLOW)?;
            if distance != 0 {
                end = 0;
            }
            let start = end.checked_add(gaps.varint()?).ok_or(OVERFLOW)?;
            end = start.checked_add(lengths.varint()?).ok_or(OVERFLOW)?;
            count = count.wrapping_add(unzigzag(counts.varint()?) as u64);
            if start == end || count == 0 {
                return Err(Malformed("an empty code run"));
            }
            let (start, end) = (Address(start), Address(end));
            out.push(CodeRun { owner: Owner(owner), start, end, count, children });
        }
        for column in [owners, gaps, lengths, counts] {
            column.end()?;
        }
        Ok(out)
    }
}
