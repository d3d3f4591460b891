//! What has been translated for one address space.

use std::ops::Range;

use model::{Address, PAGE_SIZE};
use rustc_hash::FxHashMap;

use crate::block::Mode;
use crate::cache::CodeCache;
use crate::code_map::CodeMaps;

/// A block of one instruction with the bytes it was made from: such blocks are compared with
/// memory at each use instead of being protected.
#[derive(Clone, Copy, Debug)]
pub struct Single {
    pub block: u32,
    pub bytes: [u8; 15],
    pub length: u8,
}

#[derive(Debug, Default)]
pub struct Directory {
    pub fast: FxHashMap<Address, u32>,
    pub single: FxHashMap<(Address, Mode), Single>,
    /// Fast blocks by the pages of their bytes.
    pages: FxHashMap<Address, Vec<u32>>,
    pub maps: CodeMaps,
}

impl Directory {
    pub fn insert_fast(&mut self, start: Address, id: u32, sources: &[Range<Address>]) {
        self.fast.insert(start, id);
        for range in sources {
            let mut page = range.start.page_start();
            while page < range.end {
                let blocks = self.pages.entry(page).or_default();
                if blocks.last() != Some(&id) {
                    blocks.push(id);
                }
                page = page + PAGE_SIZE;
            }
        }
    }

    /// Whether there is code from every page of the range already.
    pub fn has_pages(&self, range: &Range<Address>) -> bool {
        let pages = (range.end.page_ceil() - range.start.page_start()) / PAGE_SIZE;
        (0..pages).all(|n| self.pages.contains_key(&(range.start.page_start() + n * PAGE_SIZE)))
    }

    /// Drops the blocks made from bytes in these pages.
    pub fn invalidate(&mut self, range: &Range<Address>, cache: &mut CodeCache) {
        let first = range.start.page_start();
        let count = (range.end.page_ceil() - first) / PAGE_SIZE;
        let pages: Vec<Address> = if count as usize > self.pages.len() {
            let mut pages: Vec<Address> = self
                .pages
                .keys()
                .copied()
                .filter(|page| (first..range.end).contains(page))
                .collect();
            pages.sort_unstable();
            pages
        } else {
            (0..count).map(|n| first + n * PAGE_SIZE).collect()
        };
        for page in pages {
            for id in self.pages.remove(&page).unwrap_or_default() {
                if !cache.blocks[id as usize].live {
                    continue;
                }
                let start = cache.blocks[id as usize].start;
                cache.unlink(id);
                self.fast.remove(&start);
                self.maps.remove(start, cache.indirect_stub);
            }
        }
    }

    pub fn clear(&mut self) {
        self.fast.clear();
        self.single.clear();
        self.pages.clear();
    }
}
