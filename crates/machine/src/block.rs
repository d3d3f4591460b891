//! A translated block: what the engine must know of it after the code has been emitted.

use std::ops::Range;

use model::Address;

use crate::Trap;

/// Instructions in a block at the most.
pub const BLOCK_MAX: usize = 64;

/// A block's counts are added before more than this many of its instructions have been executed.
pub const COUNT_WITHIN: usize = 8;

/// How code is translated; blocks of different modes never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Counted, chained, observed.
    Fast,
    /// As `Fast`, so many instructions, up to the first transfer of control: made for one use
    /// near a limit, and returns to the engine.
    Once,
    /// One instruction, no count, always returns to the engine.
    Exact,
    /// As `Exact`, with the memory operand at the host address in scratch S.
    Bound,
}

impl Mode {
    /// Whether the code adds to the counts itself.
    pub fn counts(self) -> bool {
        matches!(self, Mode::Fast | Mode::Once)
    }
}

/// What is true of the host's registers from some place of the emitted code on, until the next
/// [`Phase::Instruction`]; the fault handler walks these up to the faulting place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// The code of the instruction with this index begins.
    Instruction(u8),
    /// The block's counts have been added.
    Counted,
    /// The load that faults when the budget is used up.
    Probe,
    /// The register's guest value is in the spill slot.
    Spilled { register: u8, slot: u8 },
    /// No register's value is in a spill slot.
    Restored,
    /// The instruction has appended so many entries to the log of stores.
    StoreLogged(u8),
    /// rsi and rdi hold host addresses, displaced by S and T. Where the destination was is in an
    /// entry of the log of ranges that is not appended yet when `logged`.
    Strings { source: bool, destination: bool, logged: bool },
    /// The instruction is done; guest rsp is to become the value of this host register.
    SetStack(u8),
    /// The instruction is done; guest rip is the value of S.
    Indirect,
}

#[derive(Clone, Copy, Debug)]
pub struct PhaseMark {
    /// Offset into the hot code.
    pub offset: u32,
    pub phase: Phase,
}

/// One guest instruction of a block.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub address: Address,
    pub length: u8,
    /// A conditional branch that counts.
    pub tick: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExitKind {
    /// A direct transfer; `site` is the host address of the jump's 32-bit operand.
    Link { target: Address, site: u64 },
    /// A known next address, never linked.
    Next { target: Address },
    /// The budget is used up before the instruction with this index.
    Budget { index: u8 },
    /// The instruction at `address` is for the caller.
    Trap { address: Address, kind: Trap, length: u8 },
    /// The instruction at `address` is carried out by the engine.
    Emulate { address: Address },
    /// `address` is hooked.
    Hook { address: Address },
}

#[derive(Debug)]
pub struct ExitRecord {
    pub block: u32,
    pub kind: ExitKind,
    /// The cold stub that leaves with this record's number.
    pub stub: u64,
    pub linked: bool,
    /// While it is linked, the next exit that is linked to the same block.
    pub next: u32,
}

impl ExitRecord {
    pub fn new(block: u32, kind: ExitKind, stub: u64) -> ExitRecord {
        ExitRecord { block, kind, stub, linked: false, next: NONE }
    }
}

/// Guest bytes that were translated.
#[derive(Debug, Default)]
pub struct Source {
    pub ranges: Vec<Range<Address>>,
    pub bytes: Vec<u8>,
    /// The conditional branches and whether each counts; empty where all of them do.
    pub branches: Vec<(Address, bool)>,
}

impl Source {
    /// Whether a branch counts; `address` is that of a conditional branch.
    pub fn counts(&self, address: Address) -> bool {
        !self.branches.contains(&(address, false))
    }
}

/// A borrowed [`Source`].
#[derive(Clone, Copy, Debug)]
pub struct SourceView<'a> {
    pub ranges: &'a [Range<Address>],
    pub bytes: &'a [u8],
    pub branches: &'a [(Address, bool)],
}

/// What is kept of all blocks of a cache, one block's behind the other's: so that a block costs no
/// allocation of its own.
#[derive(Debug, Default)]
pub struct Pool {
    places: Vec<Place>,
    marks: Vec<PhaseMark>,
    cold_jumps: Vec<(u32, u32)>,
    ranges: Vec<Range<Address>>,
    bytes: Vec<u8>,
    branches: Vec<(Address, bool)>,
}

/// A block's part of a [`Pool`].
#[derive(Clone, Debug)]
pub struct Parts {
    places: Range<u32>,
    marks: Range<u32>,
    cold_jumps: Range<u32>,
    ranges: Range<u32>,
    bytes: Range<u32>,
    branches: Range<u32>,
}

fn put<T>(pool: &mut Vec<T>, items: impl IntoIterator<Item = T>) -> Range<u32> {
    let start = pool.len() as u32;
    pool.extend(items);
    start..pool.len() as u32
}

fn of<'a, T>(pool: &'a [T], range: &Range<u32>) -> &'a [T] {
    &pool[range.start as usize..range.end as usize]
}

impl Pool {
    pub fn keep(
        &mut self,
        places: Vec<Place>,
        marks: Vec<PhaseMark>,
        cold_jumps: Vec<(u32, u32)>,
        source: Source,
    ) -> Parts {
        Parts {
            places: put(&mut self.places, places),
            marks: put(&mut self.marks, marks),
            cold_jumps: put(&mut self.cold_jumps, cold_jumps),
            ranges: put(&mut self.ranges, source.ranges),
            bytes: put(&mut self.bytes, source.bytes),
            branches: put(&mut self.branches, source.branches),
        }
    }

    /// Forgets the parts that were kept last.
    pub fn take_back(&mut self, parts: &Parts) {
        self.places.truncate(parts.places.start as usize);
        self.marks.truncate(parts.marks.start as usize);
        self.cold_jumps.truncate(parts.cold_jumps.start as usize);
        self.ranges.truncate(parts.ranges.start as usize);
        self.bytes.truncate(parts.bytes.start as usize);
        self.branches.truncate(parts.branches.start as usize);
    }

    /// Forgets everything, and keeps the memory.
    pub fn clear(&mut self) {
        self.places.clear();
        self.marks.clear();
        self.cold_jumps.clear();
        self.ranges.clear();
        self.bytes.clear();
        self.branches.clear();
    }

    pub fn view<'a>(&'a self, block: &'a Block) -> View<'a> {
        let parts = &block.parts;
        View {
            block,
            places: of(&self.places, &parts.places),
            marks: of(&self.marks, &parts.marks),
            cold_jumps: of(&self.cold_jumps, &parts.cold_jumps),
            source: SourceView {
                ranges: of(&self.ranges, &parts.ranges),
                bytes: of(&self.bytes, &parts.bytes),
                branches: of(&self.branches, &parts.branches),
            },
        }
    }
}

/// No number of an exit or a block.
pub const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub struct Block {
    pub start: Address,
    pub mode: Mode,
    pub hot: Range<u64>,
    pub cold: Range<u64>,
    pub parts: Parts,
    /// Its exit records.
    pub exits: Range<u32>,
    /// The first exit that is linked to it; [`ExitRecord::next`] has the others.
    pub incoming: u32,
    /// The block made for the same start before.
    pub earlier: u32,
    pub live: bool,
}

/// A block with its parts.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub block: &'a Block,
    pub places: &'a [Place],
    pub marks: &'a [PhaseMark],
    /// Jumps from hot to cold code: offset of the operand, offset of its target.
    pub cold_jumps: &'a [(u32, u32)],
    /// The guest bytes that it was made from: ranges, and what was there.
    pub source: SourceView<'a>,
}

impl View<'_> {
    /// Instructions and ticks retired before the place with this index.
    pub fn counts_before(&self, index: usize) -> (u64, u64) {
        let ticks = self.places[..index].iter().filter(|place| place.tick).count();
        (index as u64, ticks as u64)
    }

    pub fn counts(&self) -> (u64, u64) {
        self.counts_before(self.places.len())
    }
}

impl Block {
    /// The bytes of some of its instructions.
    pub fn bytes_of(places: &[Place]) -> Vec<Range<Address>> {
        let mut runs: Vec<Range<Address>> = Vec::new();
        for place in places {
            let range = place.address.range(u64::from(place.length));
            match runs.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => runs.push(range),
            }
        }
        runs
    }
}

/// Where the counter register has its fields: retired instructions from here up, counted from
/// minus the budget, and ticks below.
const INSTRUCTIONS_AT: u32 = 26;
const TICKS_AT: u32 = 6;
/// Ticks that a counter can hold; they never outrun instructions.
pub const TICKS_MAX: u64 = 1 << (INSTRUCTIONS_AT - TICKS_AT);
/// So many instructions and their ticks make an amount that is added as a 32-bit constant.
const ADDED_AT_ONCE: i64 = 31;

/// The amount that a count of instructions and ticks adds to the counter register.
pub fn counter_amount(instructions: u64, ticks: u64) -> i64 {
    (instructions << INSTRUCTIONS_AT | ticks << TICKS_AT) as i64
}

/// The same as constants to be added one after the other.
pub fn counter_amounts(amount: i64) -> impl Iterator<Item = i32> {
    let most = ADDED_AT_ONCE << INSTRUCTIONS_AT;
    let mut left = amount;
    std::iter::from_fn(move || {
        let next = left.clamp(-most, most);
        left -= next;
        (next != 0).then_some(next as i32)
    })
}

/// The counter register when so many instructions may be executed. Its low bits are the shift
/// count for units.
pub fn counter_with_budget(instructions: u64) -> u64 {
    (instructions << INSTRUCTIONS_AT).wrapping_neg() | 32
}

/// Instructions that have retired between two values of the counter register.
pub fn instructions_between(start: u64, counter: u64) -> u64 {
    (counter.wrapping_sub(start) as i64 >> INSTRUCTIONS_AT) as u64
}

/// Ticks since the counter register was given a budget.
pub fn ticks_of(counter: u64) -> u64 {
    counter >> TICKS_AT & (TICKS_MAX - 1)
}
