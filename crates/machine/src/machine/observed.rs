//! Observing what does not run in fast code, and stopping at watched ranges.
//!
//! Instructions that the engine executes one by one are observed here, from the state before and
//! behind them. Logs keep the order of execution: what fast code has logged is collected first.
//!
//! Watches: fast code logs all stores. At the end of a piece of fast code the log is searched;
//! when there was a store to a watched range, the piece is undone with the log's old values and
//! done again in shorter and shorter pieces, and at last instruction by instruction. Hence a stop
//! costs a few slices (some 50 ms where most instructions store), and no watch costs nothing.

use std::ops::Range;

use iced_x86::{Code, FlowControl, Instruction, Mnemonic};
use model::{Address, gpr};

use super::{Machine, SLICE, Step, fetch};
use crate::block::BLOCK_MAX;
use crate::block::Block;
use crate::faults::{self, Position, RolledBack};
use crate::memory::Journal;
use crate::observations::Observations;
use crate::translate::{Class, classify};
use crate::{CallRecord, Cpu, Error, Exit, Observers, Space, StoreRecord, Watch};

/// A rewound piece is done again in pieces of this part of it.
const FINER: u64 = 8;

/// The piece of fast code that is running.
#[derive(Debug)]
pub struct Piece {
    /// The counter when it began.
    pub start: u64,
    /// The state when it began, while there are watches.
    before: Option<Box<Cpu>>,
}

/// What is observed beyond what is compiled into fast code.
#[derive(Debug)]
pub struct Observing {
    pub watches: Vec<Watch>,
    pub piece: Option<Piece>,
    /// An instruction is being executed under observation.
    inside: bool,
    /// The engine carried it out itself.
    pub emulated: bool,
    /// The next instruction may access watched ranges.
    pub passing: bool,
    /// Up to this count of instructions, one at a time: among them is an access to find.
    careful_until: u64,
    /// Instructions in a piece at the most.
    piece_max: u64,
}

impl Default for Observing {
    fn default() -> Observing {
        Observing {
            watches: Vec::new(),
            piece: None,
            inside: false,
            emulated: false,
            passing: false,
            careful_until: 0,
            piece_max: SLICE,
        }
    }
}

impl Observing {
    /// A run begins: whatever was looked for is found.
    pub fn begin(&mut self) {
        self.passing = true;
        self.careful_until = 0;
        self.piece_max = SLICE;
    }

    /// Whether the next instruction is to be executed by itself.
    pub fn is_careful(&mut self, cpu: &Cpu) -> bool {
        if self.watches.is_empty() {
            return false;
        }
        let careful = cpu.instructions < self.careful_until;
        if !careful && self.careful_until > 0 {
            (self.careful_until, self.piece_max) = (0, SLICE);
        }
        careful || self.passing || self.watches.iter().any(|watch| watch.reads)
    }

    pub fn piece_max(&self) -> u64 {
        self.piece_max
    }

    /// The first watched byte among those accessed.
    fn hit(&self, range: &Range<Address>, write: bool) -> Option<Exit> {
        let watches = self.watches.iter().filter(|watch| write || watch.reads);
        let touched = watches.filter(|watch| !watch.range.is_empty() && !range.is_empty());
        touched
            .filter(|watch| watch.range.start < range.end && range.start < watch.range.end)
            .map(|watch| watch.range.start.max(range.start))
            .min()
            .map(|address| Exit::Watch { address, write })
    }
}

/// What must be known from before an instruction.
struct Before {
    instruction: Instruction,
    cpu: Box<Cpu>,
    /// Bytes that it stores to, should it run natively.
    stores: Vec<StoreRecord>,
    /// Bytes that it loads, should it run natively.
    loads: Vec<Range<Address>>,
    /// Words that it marks as written, should it run natively.
    marks: Vec<Range<Address>>,
}

impl Machine {
    /// Stop before instructions that write, or also read, bytes of these ranges, in any address
    /// space. `run` never stops at its very first instruction, so that it can go on from a stop.
    ///
    /// What a system call writes is not seen here. Masked vector stores and loads count as
    /// accessing all of their operand. Words that were marked as written may not have been
    /// written yet when a watch has stopped the run.
    pub fn set_watches(&mut self, watches: &[Watch]) -> Result<(), Error> {
        self.observing.watches = watches.to_vec();
        self.compile_observers(self.observers)
    }

    /// Says that the caller has carried out the instruction in these bytes (see [`Exit::Trap`]).
    pub fn count_execution(&mut self, bytes: Range<Address>) {
        if self.observers.executions {
            self.observations.count_executions(&bytes, 1);
            self.observations.accept_executions();
        }
    }

    /// Makes fast code observe what is asked for and what watches need.
    pub(super) fn compile_observers(&mut self, asked: Observers) -> Result<(), Error> {
        let logs = self.observing.watches.iter().any(|watch| !watch.reads);
        let compiled = Observers { stores: asked.stores || logs, ..asked };
        if compiled != self.compiled {
            self.observations.prepare(compiled)?;
            if compiled.executions {
                self.fixed.open_counters()?;
            }
            self.flush();
            self.compiled = compiled;
        }
        self.observers = asked;
        Ok(())
    }

    pub(super) fn observes_memory(&self) -> bool {
        self.compiled.written_words
            || self.compiled.read_lines
            || self.compiled.stores
            || !self.observing.watches.is_empty()
    }

    /// A piece of fast code begins with this value of the counter.
    pub(super) fn begin_piece(&mut self, cpu: &mut Cpu, start: u64) {
        self.state().counter = start;
        self.observations.start(self.state_unchecked());
        let before = (!self.observing.watches.is_empty()).then(|| {
            self.save(cpu);
            cpu.vector = self.state().vector.clone();
            if self.compiled.executions {
                self.harvest_counters();
            }
            Box::new(cpu.clone())
        });
        self.observing.piece = Some(Piece { start, before });
    }

    /// Ends the running piece of fast code, if any: counts and logs are taken over. True when it
    /// was undone instead, because it has written to a watched range.
    pub(super) fn settle(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<bool, Error> {
        let Some(piece) = self.observing.piece.take() else { return Ok(false) };
        let state = self.state_unchecked();
        let counter = state.counter;
        let retired = (counter.wrapping_sub(piece.start) as i64 >> 24) as u64;
        // The low bits stay the shift count that translated code takes from it.
        state.counter = 32;
        if let Some(before) = piece.before {
            let hit = self.observations.stores_of(state, space).any(|record| {
                let range = record.address.range(record.size.into());
                self.observing.hit(&range, true).is_some()
            });
            if hit {
                self.rewind(space, cpu, *before, retired)?;
                return Ok(true);
            }
        }
        let keep = self.observers.stores;
        self.observations.collect(state, space, cpu.instructions, piece.start, keep);
        self.observations.start(state);
        self.observations.accept_executions();
        cpu.instructions += retired;
        cpu.ticks += counter >> 6 & 0x3_ffff;
        Ok(false)
    }

    /// Undoes a piece that retired so many instructions and makes the next ones shorter.
    fn rewind(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        before: Cpu,
        retired: u64,
    ) -> Result<(), Error> {
        let state = self.state_unchecked();
        let stores: Vec<StoreRecord> = self.observations.stores_of(state, space).collect();
        undo(space, &stores)?;
        *cpu = before;
        state.vector = cpu.vector.clone();
        self.load(cpu);
        self.observations.start(state);
        self.observations.reject_executions();
        let counters = self.observations.counters();
        if counters > 0 {
            self.fixed.counters(counters).fill(0);
        }
        self.observing.piece_max = retired / FINER;
        if self.observing.piece_max <= 2 * BLOCK_MAX as u64 {
            self.observing.careful_until = cpu.instructions + retired;
        }
        Ok(())
    }

    /// Runs an instruction outside of fast code, by `run`, and observes it. Every way to execute
    /// one comes through here first; what it makes use of on the way is not observed again.
    pub(super) fn observed(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        run: impl FnOnce(&mut Machine, &mut Space, &mut Cpu) -> Result<Step, Error>,
    ) -> Result<Step, Error> {
        if self.observing.inside {
            return run(self, space, cpu);
        }
        if self.settle(space, cpu)? {
            return Ok(Step::Continue);
        }
        let off = self.compiled == Observers::default() && self.observing.watches.is_empty();
        self.save(cpu);
        let instruction = if off { None } else { fetch(space, cpu.rip) };
        let Some(instruction) = instruction else { return run(self, space, cpu) };
        let passing = std::mem::take(&mut self.observing.passing);
        let before = self.before(space, cpu, instruction);
        if !passing && let Some(exit) = self.native_hit(&before) {
            return Ok(Step::Exit(exit));
        }
        let memory = self.observes_memory();
        if memory {
            space.open_journal();
        }
        (self.observing.inside, self.observing.emulated) = (true, false);
        let result = run(self, space, cpu);
        self.observing.inside = false;
        let journal = if memory { space.close_journal() } else { Journal::default() };
        let step = result?;
        self.save(cpu);
        if !passing && let Some(exit) = self.journal_hit(&journal) {
            undo(space, &journal.stores)?;
            *cpu = *before.cpu;
            self.state().vector = cpu.vector.clone();
            self.load(cpu);
            self.observations.reject_executions();
            return Ok(Step::Exit(exit));
        }
        self.note(space, cpu, &before, journal);
        Ok(step)
    }

    fn before(&mut self, space: &Space, cpu: &mut Cpu, instruction: Instruction) -> Before {
        let mut before = Before {
            instruction,
            cpu: Box::default(),
            stores: Vec::new(),
            loads: Vec::new(),
            marks: Vec::new(),
        };
        if self.observes_memory() {
            for access in faults::accesses(&mut self.tools.info, &instruction, cpu) {
                let range = Address(access.address).range(access.size);
                if access.write {
                    before.marks.push(marked_words(access.address, access.size));
                    before.stores.extend(space.old_bytes(&range));
                }
                let watched = self.observing.hit(&range, false).is_some();
                if access.read && (!access.top || watched) {
                    before.loads.push(range);
                }
            }
        }
        if !self.observing.watches.is_empty() {
            cpu.vector = self.state().vector.clone();
        }
        before.cpu = Box::new(cpu.clone());
        before
    }

    /// Whether an instruction that runs natively is about to access a watched range.
    fn native_hit(&self, before: &Before) -> Option<Exit> {
        // The engine's own loads and stores are looked at behind the instruction.
        if self.observing.watches.is_empty()
            || matches!(classify(&before.instruction), Class::Emulate | Class::String)
        {
            return None;
        }
        self.first_hit(&before.stores, &before.loads)
    }

    fn journal_hit(&self, journal: &Journal) -> Option<Exit> {
        self.first_hit(&journal.stores, &journal.loads)
    }

    fn first_hit(&self, stores: &[StoreRecord], loads: &[Range<Address>]) -> Option<Exit> {
        let store = |record: &StoreRecord| {
            self.observing.hit(&record.address.range(record.size.into()), true)
        };
        let load = |range| self.observing.hit(range, false);
        stores.iter().find_map(store).or_else(|| loads.iter().find_map(load))
    }

    /// Adds an instruction that was executed to what has been observed.
    fn note(&mut self, space: &mut Space, cpu: &Cpu, before: &Before, journal: Journal) {
        let retired = cpu.instructions != before.cpu.instructions;
        if retired {
            self.note_flow(cpu, before);
        }
        let (stores, loads) = if self.observing.emulated {
            (journal.stores, journal.loads)
        } else if retired {
            (before.stores.clone(), before.loads.clone())
        } else {
            return;
        };
        if self.observers.written_words && !self.observing.emulated {
            before.marks.iter().for_each(|words| space.mark_written(words.clone()));
        }
        if self.observers.read_lines {
            for range in loads {
                space.mark_read(range);
            }
        }
        if self.observers.stores {
            self.observations.stores.extend(stores);
        }
    }

    fn note_flow(&mut self, cpu: &Cpu, before: &Before) {
        let (instruction, observers) = (&before.instruction, self.observers);
        if observers.executions {
            let bytes = Address(instruction.ip()).range(instruction.len() as u64);
            self.observations.count_executions(&bytes, 1);
            self.observations.accept_executions();
        }
        let (call, ret) =
            (instruction.mnemonic() == Mnemonic::Call, instruction.mnemonic() == Mnemonic::Ret);
        if observers.calls && (call || ret) {
            self.observations.calls.push(CallRecord {
                call,
                target: cpu.rip,
                stack: Address(cpu.general[gpr::RSP]),
                instructions: cpu.instructions,
            });
        }
        if !observers.control_flow {
            return;
        }
        if classify(instruction).is_tick() {
            self.observations.flow.taken.push(is_taken(instruction, &before.cpu, cpu));
        }
        let indirect = matches!(
            instruction.flow_control(),
            FlowControl::IndirectCall | FlowControl::IndirectBranch
        );
        if indirect || ret {
            self.observations.flow.targets.push(cpu.rip);
        }
    }
}

/// Makes execution counts exact where fast code was left by a fault.
pub fn correct_executions(observations: &mut Observations, block: &Block, found: RolledBack) {
    let places = &block.places;
    let done = match found.position {
        Position::Before(n) | Position::Budget(n) => n,
        Position::StackSet(n, _) => n + 1,
        Position::Indirect => places.len(),
    };
    let (part, times) = if found.uncounted { (&places[..done], 1) } else { (&places[done..], -1) };
    for range in Block::bytes_of(part) {
        observations.count_executions(&range, times);
    }
}

/// The words that fast code marks for a store: the marks must not depend on where it ends.
fn marked_words(address: u64, size: u64) -> Range<Address> {
    let words = if size <= 1 { 1 } else { size.div_ceil(8) + 1 };
    Address(address & !7).range(words * 8)
}

/// Whether a conditional branch was taken.
fn is_taken(instruction: &Instruction, before: &Cpu, after: &Cpu) -> bool {
    let next = instruction.next_ip();
    if instruction.near_branch_target() != next {
        return after.rip.0 != next;
    }
    // Both ways lead to the same place.
    let narrow = matches!(
        instruction.code(),
        Code::Jecxz_rel8_64
            | Code::Loop_rel8_64_ECX
            | Code::Loope_rel8_64_ECX
            | Code::Loopne_rel8_64_ECX
    );
    let count = |cpu: &Cpu| {
        let value = cpu.general[gpr::RCX];
        if narrow { value & 0xffff_ffff } else { value }
    };
    let zero = before.rflags & 1 << 6 != 0;
    match instruction.mnemonic() {
        Mnemonic::Jecxz | Mnemonic::Jrcxz => count(before) == 0,
        Mnemonic::Loop => count(after) != 0,
        Mnemonic::Loope => count(after) != 0 && zero,
        Mnemonic::Loopne => count(after) != 0 && !zero,
        _ => holds(instruction.condition_code(), before.rflags),
    }
}

/// Whether the condition of a jump holds.
fn holds(condition: iced_x86::ConditionCode, rflags: u64) -> bool {
    use iced_x86::ConditionCode as C;
    let flag = |bit: u32| rflags >> bit & 1 != 0;
    let (carry, parity, zero, sign, overflow) = (flag(0), flag(2), flag(6), flag(7), flag(11));
    match condition {
        C::o => overflow,
        C::no => !overflow,
        C::b => carry,
        C::ae => !carry,
        C::e => zero,
        C::ne => !zero,
        C::be => carry || zero,
        C::a => !carry && !zero,
        C::s => sign,
        C::ns => !sign,
        C::p => parity,
        C::np => !parity,
        C::l => sign != overflow,
        C::ge => sign == overflow,
        C::le => zero || sign != overflow,
        _ => !zero && sign == overflow,
    }
}

/// Takes back stores, the last one first.
fn undo(space: &mut Space, stores: &[StoreRecord]) -> Result<(), Error> {
    for record in stores.iter().rev() {
        space.write(record.address, &record.old.to_le_bytes()[..record.size.into()])?;
    }
    Ok(())
}
