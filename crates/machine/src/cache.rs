//! The code cache: host memory for translated code, the blocks in it, and their exits.
//!
//! One memory file is mapped twice, executable at the fixed place and writable elsewhere, so no
//! page is ever both. When either area is full everything is dropped: bounded and simple.

#![allow(unsafe_code)] // writes translated code through the writable view

use crate::Error;
use crate::block::{Block, ExitKind, ExitRecord, PhaseMark};
use crate::emit::Emitter;
use crate::host::{self, Reservation};
use crate::layout;
use crate::state::{EXIT_INDIRECT, State};
use crate::translate::{Site, Translation};
use std::mem::offset_of;

/// More than any block needs in either area.
const BLOCK_BYTES_MAX: u64 = 32 << 10;
/// Cold stubs begin this far behind the hot code.
const COLD: u64 = 0x2000_0000;

#[derive(Debug)]
pub struct CodeCache {
    hot_view: Reservation,
    cold_view: Reservation,
    _executable: [Reservation; 2],
    hot: Area,
    cold: Area,
    pub indirect_stub: u64,
    pub blocks: Vec<Block>,
    pub exits: Vec<ExitRecord>,
    /// How often everything was dropped.
    pub flushes: u64,
}

#[derive(Debug)]
struct Area {
    start: u64,
    end: u64,
    next: u64,
}

impl CodeCache {
    pub fn new(bytes: usize) -> Result<CodeCache, Error> {
        let bytes = (bytes as u64).clamp(4 << 20, 768 << 20);
        let hot = (bytes / 3 * 2).min(COLD) & !0xffff;
        let cold = (bytes / 3) & !0xffff;
        let (hot_view, hot_code) = host::code_memory(layout::CODE.start, hot)?;
        let (cold_view, cold_code) = host::code_memory(layout::CODE.start + COLD, cold)?;
        let area = |start, length| Area { start, end: start + length, next: start };
        let mut cache = CodeCache {
            hot_view,
            cold_view,
            _executable: [hot_code, cold_code],
            hot: area(layout::CODE.start, hot),
            cold: area(layout::CODE.start + COLD, cold),
            indirect_stub: 0,
            blocks: Vec::new(),
            exits: Vec::new(),
            flushes: 0,
        };
        cache.prologue();
        Ok(cache)
    }

    /// The stub that leaves with a guest target in S.
    fn prologue(&mut self) {
        let mut stub = Emitter::new(self.cold.next);
        stub.store_dword(crate::emit::Mem::state(offset_of!(State, exit)), EXIT_INDIRECT);
        stub.jmp_mem(crate::emit::Mem::state(offset_of!(State, exit_code)));
        self.indirect_stub = stub.start;
        self.write(stub.start, &stub.bytes);
        self.cold.next = (stub.here() + 15) & !15;
    }

    /// Where the next block goes; `None` when everything has to be dropped first.
    pub fn site(&self, counters_used: usize) -> Option<Site> {
        let room = |area: &Area| area.end - area.next >= BLOCK_BYTES_MAX;
        let counters = (layout::COUNTERS.end - layout::COUNTERS.start) / 8;
        let few = (counters_used as u64) + 1000 < counters;
        (room(&self.hot) && room(&self.cold) && few).then(|| Site {
            hot: self.hot.next,
            cold: self.cold.next,
            exit: self.exits.len() as u32,
            indirect: self.indirect_stub,
            counter: counters_used as u32,
        })
    }

    /// Takes a translation made for the current site; returns the block's number.
    pub fn insert(&mut self, translation: Translation, mut block: Block) -> u32 {
        let id = self.blocks.len() as u32;
        let Translation { hot, cold, exits, .. } = translation;
        assert!(hot.bytes.len().max(cold.bytes.len()) as u64 <= BLOCK_BYTES_MAX);
        self.write(hot.start, &hot.bytes);
        self.write(cold.start, &cold.bytes);
        self.hot.next = (hot.here() + 15) & !15;
        self.cold.next = cold.here();
        block.hot = hot.start..hot.here();
        self.exits.extend(exits.into_iter().map(|(kind, stub)| ExitRecord {
            block: id,
            kind,
            stub,
        }));
        self.blocks.push(block);
        id
    }

    /// The exits of the block made last, whose number is `id`.
    pub fn exits_of(&self, id: u32) -> std::ops::Range<u32> {
        let own = self.exits.iter().rev().take_while(|exit| exit.block == id).count() as u32;
        let end = self.exits.len() as u32;
        end - own..end
    }

    /// Drops everything.
    pub fn flush(&mut self) {
        self.blocks.clear();
        self.exits.clear();
        self.hot.next = self.hot.start;
        self.cold.next = self.cold.start;
        self.prologue();
        self.flushes += 1;
    }

    /// The block whose hot code holds a host address.
    pub fn block_at(&self, host: u64) -> Option<&Block> {
        let after = self.blocks.partition_point(|block| block.hot.start <= host);
        let block = &self.blocks[after.checked_sub(1)?];
        block.hot.contains(&host).then_some(block)
    }

    /// Makes the jump of a link exit go to `target` directly.
    pub fn link(&mut self, exit: u32, target: u32) {
        let ExitKind::Link { site, .. } = self.exits[exit as usize].kind else { return };
        let to = self.blocks[target as usize].hot.start;
        self.patch(site, to);
        self.blocks[target as usize].incoming.push(exit);
    }

    /// Makes a block unreachable: links to it go back to their stubs.
    pub fn unlink(&mut self, id: u32) {
        self.blocks[id as usize].live = false;
        for exit in std::mem::take(&mut self.blocks[id as usize].incoming) {
            let ExitKind::Link { site, .. } = self.exits[exit as usize].kind else { continue };
            let stub = self.exits[exit as usize].stub;
            self.patch(site, stub);
        }
    }

    fn patch(&mut self, site: u64, target: u64) {
        let relative = target.wrapping_sub(site + 4) as i32;
        self.write(site, &relative.to_le_bytes());
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let (area, view) = if at >= self.cold.start {
            (&self.cold, &self.cold_view)
        } else {
            (&self.hot, &self.hot_view)
        };
        assert!(at >= area.start && at + bytes.len() as u64 <= area.end);
        let to = (view.start() + (at - area.start)) as *mut u8;
        // SAFETY: the view is as long as the area, and the place was checked to lie in it; it is
        // written by this thread alone, which is not inside `enter`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Bytes of code in use, hot and cold.
    pub fn bytes(&self) -> u64 {
        self.hot.next - self.hot.start + self.cold.next - self.cold.start
    }
}

/// The phases in force at a host offset, for the fault handler.
pub fn marks_until(block: &Block, offset: u32) -> &[PhaseMark] {
    let end = block.marks.partition_point(|mark| mark.offset <= offset);
    &block.marks[..end]
}
