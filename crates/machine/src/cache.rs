//! The code cache: host memory for translated code, the blocks in it, and their exits.
//!
//! One memory file is mapped twice, executable at the fixed place and writable elsewhere, so no
//! page is ever both. When either area is full everything is dropped: bounded and simple.

#![allow(unsafe_code)] // writes translated code through the writable view

use crate::Error;

use model::Address;
use rustc_hash::FxHashMap;

use crate::block::{Block, ExitKind, ExitRecord, Mode, NONE, PhaseMark, Pool, SourceView, View};
use crate::emit::Emitter;
use crate::host::{self, Reservation};
use crate::layout;
use crate::state::{EXIT_INDIRECT, State};
use crate::translate::{Site, Translation};
use std::mem::offset_of;

/// More than any block needs in either area.
const BLOCK_BYTES_MAX: u64 = 32 << 10;
/// Where a stub has its exit record's number: behind `mov dword [disp32],`.
const STUB_NUMBER: usize = 7;
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
    /// The last fast block made for each first instruction's address, of all address spaces.
    by_start: FxHashMap<Address, u32>,
    pool: Pool,
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
            by_start: FxHashMap::default(),
            pool: Pool::default(),
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
        let counters = (layout::COUNTERS.end - layout::COUNTERS.start) / 4;
        let few = (counters_used as u64) + 1000 < counters;
        (room(&self.hot) && room(&self.cold) && few).then_some(Site {
            hot: self.hot.next,
            cold: self.cold.next,
            exit: self.exits.len() as u32,
            indirect: self.indirect_stub,
            counter: counters_used as u32,
        })
    }

    /// Takes a translation made for the current site; returns the block's number.
    pub fn insert(&mut self, start: Address, mode: Mode, translation: Translation) -> u32 {
        let id = self.blocks.len() as u32;
        let Translation { hot, cold, exits, places, marks, cold_jumps, source, .. } = translation;
        let first = self.exits.len() as u32;
        self.exits.extend(exits.into_iter().map(|(kind, stub)| ExitRecord::new(id, kind, stub)));
        let block = Block {
            start,
            mode,
            hot: hot.start..hot.here(),
            cold: cold.start..cold.here(),
            parts: self.pool.keep(places, marks, cold_jumps, source),
            exits: first..self.exits.len() as u32,
            incoming: NONE,
            earlier: if mode == Mode::Fast {
                self.by_start.insert(start, id).unwrap_or(NONE)
            } else {
                NONE
            },
            live: true,
        };
        self.place(block, &hot.bytes, &cold.bytes)
    }

    /// A block with what is kept of it.
    pub fn view(&self, id: u32) -> View<'_> {
        self.pool.view(&self.blocks[id as usize])
    }

    fn place(&mut self, block: Block, hot: &[u8], cold: &[u8]) -> u32 {
        assert!(hot.len().max(cold.len()) as u64 <= BLOCK_BYTES_MAX);
        self.write(block.hot.start, hot);
        self.write(block.cold.start, cold);
        self.hot.next = (block.hot.end + 15) & !15;
        self.cold.next = block.cold.end;
        self.blocks.push(block);
        self.blocks.len() as u32 - 1
    }

    /// A fast block made from bytes that `holds` confirms to be at their places: translated once,
    /// whatever address space asks. The copy has its own exits, so it is linked by itself.
    pub fn copy(
        &mut self,
        start: Address,
        site: &Site,
        holds: impl Fn(SourceView<'_>) -> bool,
    ) -> Option<u32> {
        let mut candidate = *self.by_start.get(&start)?;
        let View { block: made, cold_jumps, .. } = loop {
            let made = self.blocks.get(candidate as usize)?;
            let view = self.pool.view(made);
            if !view.source.bytes.is_empty() && holds(view.source) {
                break view;
            }
            candidate = made.earlier;
        };
        let mut hot = self.read(&made.hot);
        let mut cold = self.read(&made.cold);
        let (hot_at, cold_at) = (site.hot, site.cold);
        let moved = |at: u64| match made.hot.contains(&at) {
            true => at - made.hot.start + hot_at,
            false => at - made.cold.start + cold_at,
        };
        for (operand, target) in cold_jumps {
            let next = hot_at + u64::from(*operand) + 4;
            let relative = (cold_at + u64::from(*target)).wrapping_sub(next) as i32;
            let operand = *operand as usize;
            hot[operand..operand + 4].copy_from_slice(&relative.to_le_bytes());
        }
        let id = self.blocks.len() as u32;
        let mut exits = Vec::with_capacity(made.exits.len());
        for number in made.exits.clone() {
            let record = &self.exits[number as usize];
            let stub = moved(record.stub);
            let own = site.exit + exits.len() as u32;
            let offset = (stub - cold_at) as usize + STUB_NUMBER;
            cold[offset..offset + 4].copy_from_slice(&own.to_le_bytes());
            let kind = match record.kind.clone() {
                ExitKind::Link { target, site: at } => ExitKind::Link { target, site: moved(at) },
                kind => kind,
            };
            exits.push(ExitRecord::new(id, kind, stub));
        }
        let block = Block {
            start,
            mode: Mode::Fast,
            hot: hot_at..hot_at + hot.len() as u64,
            cold: cold_at..cold_at + cold.len() as u64,
            parts: made.parts.clone(),
            exits: site.exit..site.exit + exits.len() as u32,
            incoming: NONE,
            // Copies are as good as what they were made from.
            earlier: NONE,
            live: true,
        };
        self.exits.extend(exits);
        Some(self.place(block, &hot, &cold))
    }

    /// Takes back a block that was made for one use, unless others have been made since.
    pub fn take_back(&mut self, id: u32) {
        let last = self.blocks.len().checked_sub(1) == Some(id as usize);
        if !last || self.blocks[id as usize].mode != Mode::Once {
            return;
        }
        let block = self.blocks.pop().expect("just looked at");
        self.pool.take_back(&block.parts);
        self.exits.truncate(block.exits.start as usize);
        self.hot.next = block.hot.start;
        self.cold.next = block.cold.start;
    }

    /// The block that was made last is not to be copied.
    pub fn keep_from_copying(&mut self, start: Address, id: u32) {
        match self.blocks[id as usize].earlier {
            NONE => self.by_start.remove(&start),
            earlier => self.by_start.insert(start, earlier),
        };
    }

    /// Drops everything.
    pub fn flush(&mut self) {
        self.blocks.clear();
        self.by_start.clear();
        self.pool.clear();
        self.exits.clear();
        self.hot.next = self.hot.start;
        self.cold.next = self.cold.start;
        self.prologue();
        self.flushes += 1;
    }

    /// The block whose hot code holds a host address.
    pub fn block_at(&self, host: u64) -> Option<View<'_>> {
        let after = self.blocks.partition_point(|block| block.hot.start <= host);
        let block = &self.blocks[after.checked_sub(1)?];
        block.hot.contains(&host).then(|| self.pool.view(block))
    }

    /// Makes the jump of a link exit go to `target` directly.
    pub fn link(&mut self, exit: u32, target: u32) {
        let (block, record) = (&mut self.blocks[target as usize], &mut self.exits[exit as usize]);
        let ExitKind::Link { site, .. } = record.kind else { return };
        if std::mem::replace(&mut record.linked, true) {
            return;
        }
        record.next = std::mem::replace(&mut block.incoming, exit);
        let to = block.hot.start;
        self.patch(site, to);
    }

    /// Makes a block unreachable: links to it go back to their stubs.
    pub fn unlink(&mut self, id: u32) {
        let block = &mut self.blocks[id as usize];
        block.live = false;
        let mut exit = std::mem::replace(&mut block.incoming, NONE);
        while let Some(record) = self.exits.get_mut(exit as usize) {
            record.linked = false;
            exit = std::mem::replace(&mut record.next, NONE);
            if let ExitKind::Link { site, .. } = record.kind {
                let stub = record.stub;
                self.patch(site, stub);
            }
        }
    }

    fn patch(&mut self, site: u64, target: u64) {
        let relative = target.wrapping_sub(site + 4) as i32;
        self.write(site, &relative.to_le_bytes());
    }

    fn read(&self, range: &std::ops::Range<u64>) -> Vec<u8> {
        let (area, view) = if range.start >= self.cold.start {
            (&self.cold, &self.cold_view)
        } else {
            (&self.hot, &self.hot_view)
        };
        assert!(range.start >= area.start && range.end <= area.end);
        let from = (view.start() + (range.start - area.start)) as *const u8;
        // SAFETY: as in `write`; nothing writes while `self` is borrowed.
        let bytes = unsafe { std::slice::from_raw_parts(from, (range.end - range.start) as usize) };
        bytes.to_vec()
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
pub fn marks_until(view: View<'_>, offset: u32) -> &[PhaseMark] {
    let end = view.marks.partition_point(|mark| mark.offset <= offset);
    &view.marks[..end]
}
