//! Lines that were written or read: page by page, with the words of each line.

use super::keys::{self, decode_children, encode_children};
use crate::bytes::{join, split};
use crate::error::Malformed;
use crate::items::{Owner, PAGE_LINES, TouchedLine};
use crate::section::{CHUNK_ITEMS_MAX, Codec, Key};

#[derive(Debug)]
pub struct Lines;

impl Codec for Lines {
    type Item = TouchedLine;

    fn key(item: &TouchedLine) -> Key {
        (item.owner.0, item.line)
    }

    fn size(_: &TouchedLine) -> usize {
        4
    }

    fn check(before: Option<&TouchedLine>, item: &TouchedLine) -> Result<(), &'static str> {
        if before.is_some_and(|before| Self::key(before) >= Self::key(item)) {
            return Err("it is not behind the one before");
        }
        if item.words == 0 || item.children == 0 {
            return Err("it says that nothing happened");
        }
        Ok(())
    }

    fn encode(items: &[TouchedLine], _: u8, out: &mut Vec<u8>) {
        let mut pages: Vec<(Key, u64)> = Vec::new();
        for item in items {
            let page = (item.owner.0, item.line / PAGE_LINES);
            let bit = 1 << (item.line % PAGE_LINES);
            match pages.last_mut() {
                Some((last, lines)) if *last == page => *lines |= bit,
                _ => pages.push((page, bit)),
            }
        }
        let columns = keys::encode(pages.iter().map(|(page, _)| *page));
        let lines: Vec<u8> = pages.iter().flat_map(|(_, lines)| lines.to_le_bytes()).collect();
        let mut words: Vec<u8> = items.iter().map(|item| item.words).collect();
        if words.iter().all(|words| *words == 0xff) {
            words.clear();
        }
        let children: Vec<u16> = items.iter().map(|item| item.children).collect();
        let children = encode_children(&children);
        join([&columns.firsts, &columns.seconds, &lines, &words, &children], out);
    }

    fn decode(raw: &[u8], items: usize) -> Result<Vec<TouchedLine>, Malformed> {
        let [firsts, seconds, mut lines, mut words, children] = split(raw)?;
        let pages = keys::decode(firsts, seconds, CHUNK_ITEMS_MAX)?;
        let children = decode_children(children, items)?;
        let words = match words.rest_len() {
            0 => &[],
            _ => words.bytes(words.rest_len())?,
        };
        if !words.is_empty() && (words.len() != items || words.contains(&0)) {
            return Err(Malformed("the words of lines are missing"));
        }
        let mut out: Vec<TouchedLine> = Vec::with_capacity(items);
        for (owner, page) in pages {
            let mut bits = lines.u64()?;
            if bits == 0 || page > u64::MAX / PAGE_LINES {
                return Err(Malformed("a page without lines"));
            }
            while bits != 0 {
                let index = out.len();
                let children = *children.get(index).ok_or(Malformed("there are more lines"))?;
                let line = page * PAGE_LINES + u64::from(bits.trailing_zeros());
                let words = words.get(index).copied().unwrap_or(0xff);
                out.push(TouchedLine { owner: Owner(owner), line, words, children });
                bits &= bits - 1;
            }
        }
        lines.end()?;
        if out.len() != items {
            return Err(Malformed("there are fewer lines"));
        }
        Ok(out)
    }
}
