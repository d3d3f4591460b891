//! Changed words of pages with their new values.

use super::keys::{self, decode_children, encode_children};
use super::values;
use crate::bytes::{Cursor, join, split};
use crate::error::Malformed;
use crate::items::{Owner, PAGE_WORDS, PageDelta, PageId, WordMask};
use crate::section::{Codec, Key};

/// What the byte for each page says.
const DROPPED: u8 = 1;
/// All words; the masks are left out.
const WHOLE: u8 = 2;

#[derive(Debug)]
pub struct Pages;

impl Codec for Pages {
    type Item = PageDelta;

    fn key(item: &PageDelta) -> Key {
        (item.page.owner.0, item.page.page)
    }

    fn size(item: &PageDelta) -> usize {
        12 + 8 * item.values.len()
    }

    fn check(before: Option<&PageDelta>, item: &PageDelta) -> Result<(), &'static str> {
        if before.is_some_and(|before| before.page >= item.page) {
            return Err("it is not behind the one before");
        }
        if item.values.len() != count(&item.words) {
            return Err("it has not one value for each word");
        }
        if item.children == 0 || (item.values.is_empty() && !item.dropped) {
            return Err("it says that nothing happened");
        }
        Ok(())
    }

    const CHUNK_BYTES: usize = 64 << 10;
    /// The forms of the values.
    const VARIANTS: u8 = values::FORMS;

    fn encode(items: &[PageDelta], variant: u8, out: &mut Vec<u8>) {
        let columns = keys::encode(items.iter().map(Self::key));
        let [mut flags, mut lines, mut words] = [const { Vec::new() }; 3];
        for item in items {
            let whole = item.values.len() == PAGE_WORDS;
            flags.push(u8::from(item.dropped) * DROPPED + u8::from(whole) * WHOLE);
            if whole {
                continue;
            }
            let bytes: Vec<u8> = item.words.iter().flat_map(|bits| bits.to_le_bytes()).collect();
            for eight in bytes.chunks(8) {
                lines.push((0..8).map(|line| u8::from(eight[line] != 0) << line).sum());
            }
            words.extend(bytes.iter().filter(|byte| **byte != 0));
        }
        let values: Vec<u64> = items.iter().flat_map(|item| &item.values).copied().collect();
        let values = values::encode(variant, &values);
        let children: Vec<u16> = items.iter().map(|item| item.children).collect();
        let children = encode_children(&children);
        join([&columns.firsts, &columns.seconds, &flags, &lines, &words, &values, &children], out);
    }

    fn decode(raw: &[u8], items: usize) -> Result<Vec<PageDelta>, Malformed> {
        let [firsts, seconds, mut flags, mut lines, mut words, values, children] = split(raw)?;
        let keys = keys::decode(firsts, seconds, items)?;
        if keys.len() != items {
            return Err(Malformed("there are other numbers of keys and items"));
        }
        let children = decode_children(children, items)?;
        let mut masks = Vec::with_capacity(items);
        for _ in 0..items {
            let flag = flags.u8()?;
            if flag & !(DROPPED | WHOLE) != 0 {
                return Err(Malformed("a page has unknown flags"));
            }
            masks.push((
                flag,
                match flag & WHOLE {
                    0 => decode_mask(&mut lines, &mut words)?,
                    _ => [u64::MAX; 8],
                },
            ));
        }
        let values = values::decode(values, masks.iter().map(|(_, mask)| count(mask)).sum())?;
        let mut values = values.as_slice();
        let mut out = Vec::with_capacity(items);
        for (((owner, page), children), (flag, mask)) in keys.into_iter().zip(children).zip(masks) {
            let (own, rest) = values.split_at(count(&mask));
            values = rest;
            let page = PageId { owner: Owner(owner), page };
            let dropped = flag & DROPPED != 0;
            out.push(PageDelta { page, dropped, words: mask, values: own.to_vec(), children });
        }
        for column in [flags, lines, words] {
            column.end()?;
        }
        Ok(out)
    }

    fn memory(item: &PageDelta) -> usize {
        size_of::<PageDelta>() + item.values.len() * 8
    }
}

pub fn count(words: &WordMask) -> usize {
    words.iter().map(|bits| bits.count_ones() as usize).sum()
}

fn decode_mask(lines: &mut Cursor<'_>, words: &mut Cursor<'_>) -> Result<WordMask, Malformed> {
    let mut mask = [0; 8];
    for element in &mut mask {
        let present = lines.u8()?;
        let mut bytes = [0; 8];
        for (line, byte) in bytes.iter_mut().enumerate() {
            if present >> line & 1 == 1 {
                *byte = words.u8()?;
                if *byte == 0 {
                    return Err(Malformed("a line without words"));
                }
            }
        }
        *element = u64::from_le_bytes(bytes);
    }
    Ok(mask)
}
