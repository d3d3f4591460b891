//! Observing what does not run in fast code, and stopping at watched ranges.
//!
//! Instructions that the engine executes one by one are observed here, from the state before and
//! behind them. Logs keep the order of execution: what fast code has logged is collected first.
//!
//! Watches: fast code logs all stores. At the end of a piece of fast code the log is searched;
//! when there was a store to a watched range, the piece is undone with the log's old values and
//! done again in shorter and shorter pieces, and at last instruction by instruction. An
//! instruction by itself is executed and, when it has accessed a watched range, undone. Pieces
//! are short behind a stop and grow from there: a stop costs about twice the way to it, and no
//! watch costs nothing.

use std::ops::Range;
use std::sync::Arc;

use iced_x86::{FlowControl, Instruction, Mnemonic};
use model::{Address, Call, Moment, gpr};

use super::taken::is_taken;
use super::{LOGGED_SLICE, Machine, SLICE, Step, fetch};
use crate::block::{BLOCK_MAX, Block, Place, instructions_between, ticks_of};
use crate::emulate;
use crate::faults::{self, Position, RolledBack};
use crate::memory::Journal;
use crate::observations::Observations;
use crate::translate::{Class, classify};
use crate::{Cpu, Error, Exit, Observers, Space, StoreRecord, Watch};

/// A rewound piece is done again in pieces of this part of it.
const FINER: u64 = 8;
/// Instructions in the first piece of a run with watches; each further one is twice as long.
const PIECE_FIRST: u64 = 2048;
/// Pieces that would be shorter than this are executed one instruction at a time.
const PIECE_MIN: u64 = 2 * BLOCK_MAX as u64;

/// The piece of fast code that is running.
#[derive(Debug)]
pub struct Piece {
    /// The counter when it began.
    pub start: u64,
    /// The state when it began, while there are watches.
    before: Option<Box<Cpu>>,
    /// The instructions that it executes in this order, where translated code does not count
    /// their executions.
    pub uncounted: Option<Arc<[Place]>>,
}

/// What the next instruction may do unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    Nothing,
    /// What a run has stopped at before; of a `rep` string the first iteration.
    Once,
    /// All of it.
    All,
}

/// Where a run has stopped for a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoppedAt {
    space: u64,
    rip: Address,
    instructions: u64,
    /// Tells iterations of a `rep` string apart.
    rcx: u64,
}

impl StoppedAt {
    fn new(space: &Space, cpu: &Cpu) -> StoppedAt {
        StoppedAt {
            space: space.id(),
            rip: cpu.rip,
            instructions: cpu.instructions,
            rcx: cpu.general[gpr::RCX],
        }
    }
}

/// What is observed beyond what is compiled into fast code.
#[derive(Debug)]
pub struct Observing {
    pub watches: Vec<Watch>,
    /// See [`Machine::expect_watches`].
    expects_watches: bool,
    pub piece: Option<Piece>,
    /// An instruction is being executed under observation.
    inside: bool,
    /// The engine carried it out itself.
    pub emulated: bool,
    passing: Passing,
    stopped_at: Option<StoppedAt>,
    /// An access to find lies before this count of instructions; 0 when none is known of.
    hit_before: u64,
    /// Instructions in a piece at the most.
    piece_max: u64,
}

impl Default for Observing {
    fn default() -> Observing {
        Observing {
            watches: Vec::new(),
            expects_watches: false,
            piece: None,
            inside: false,
            emulated: false,
            passing: Passing::Nothing,
            stopped_at: None,
            hit_before: 0,
            piece_max: SLICE,
        }
    }
}

impl Observing {
    /// A run begins; it goes on from where it has stopped, if this is the place.
    pub fn begin(&mut self, space: &Space, cpu: &Cpu) {
        let here = Some(StoppedAt::new(space, cpu));
        let goes_on = std::mem::take(&mut self.stopped_at) == here;
        self.passing = if goes_on { Passing::Once } else { Passing::Nothing };
        self.hit_before = 0;
        self.piece_max = if self.watches.is_empty() { SLICE } else { PIECE_FIRST };
    }

    /// A single step begins: it is not watched.
    pub fn begin_step(&mut self) {
        self.stopped_at = None;
        self.passing = Passing::All;
    }

    /// A run ends.
    pub fn end(&mut self, space: &Space, cpu: &Cpu, exit: &Result<Exit, Error>) {
        if matches!(exit, Ok(Exit::Watch { .. })) {
            self.stopped_at = Some(StoppedAt::new(space, cpu));
        }
    }

    /// Whether the next instruction is to be executed by itself.
    pub fn is_careful(&mut self, cpu: &Cpu) -> bool {
        if self.watches.is_empty() {
            return false;
        }
        if self.hit_before > 0 && cpu.instructions >= self.hit_before {
            self.hit_before = 0;
            self.piece_max = self.piece_max.max(PIECE_FIRST);
        }
        self.hit_before > 0 && self.piece_max <= PIECE_MIN
            || self.passing != Passing::Nothing
            || self.watches.iter().any(|watch| watch.reads)
    }

    /// Whether what runs now may yet be undone.
    pub fn may_rewind(&self) -> bool {
        self.piece.as_ref().is_some_and(|piece| piece.before.is_some())
    }

    pub fn piece_max(&self) -> u64 {
        self.piece_max
    }

    /// A piece has ended without an access to find.
    fn lengthen(&mut self) {
        if self.hit_before == 0 {
            self.piece_max = (self.piece_max * 2).min(LOGGED_SLICE);
        }
    }

    /// Ranges to stop at when they are written or, respectively, read.
    fn watched(&self, write: bool) -> impl Iterator<Item = &Range<Address>> {
        let watches = self.watches.iter().filter(move |watch| write || watch.reads);
        watches.map(|watch| &watch.range).filter(|range| !range.is_empty())
    }

    /// The first watched byte among those accessed.
    fn hit(&self, range: &Range<Address>, write: bool) -> Option<Exit> {
        self.watched(write)
            .filter(|watched| !range.is_empty() && watched.start < range.end)
            .filter(|watched| range.start < watched.end)
            .map(|watched| watched.start.max(range.start))
            .min()
            .map(|address| Exit::Watch { address, write })
    }

    /// The first of these accesses to a watched range; of a store before those of loads.
    fn first_hit(&self, accesses: &Journal) -> Option<Exit> {
        let store =
            |record: &StoreRecord| self.hit(&record.address.range(record.size.into()), true);
        let load = |range: &Range<Address>| self.hit(range, false);
        accesses.stores.iter().find_map(store).or_else(|| accesses.loads.iter().find_map(load))
    }
}

/// What must be known from before an instruction.
struct Before {
    instruction: Instruction,
    cpu: Box<Cpu>,
    /// What it accesses, should it run natively.
    accesses: Journal,
    /// What it is marked for then: as in fast code, which does not look at masks.
    marks: Marks,
}

/// Ranges to be marked as written or read.
#[derive(Default)]
struct Marks {
    written: Vec<Range<Address>>,
    read: Vec<Range<Address>>,
}

impl Machine {
    /// Stops at accesses to these ranges; see [`Watch`]. Where the last run has stopped is
    /// forgotten: the next one stops there again if one of these ranges is accessed there.
    pub fn set_watches(&mut self, watches: &[Watch]) -> Result<(), Error> {
        self.observing.watches = watches.to_vec();
        self.observing.stopped_at = None;
        self.compile_observers(self.observers)
    }

    /// Code is made so that watches can be set and taken away without making it anew; without
    /// watches it is slower than it could be, as if stores were observed.
    ///
    /// # Errors
    ///
    /// As of [`Machine::set_observers`].
    pub fn expect_watches(&mut self, expected: bool) -> Result<(), Error> {
        self.observing.expects_watches = expected;
        self.compile_observers(self.observers)
    }

    /// Says that the caller has carried out the instruction in these bytes (see [`Exit::Trap`]).
    pub fn count_execution(&mut self, bytes: Range<Address>) {
        if self.observers.executions {
            self.observations.executions.count(&bytes, 1);
            self.observations.executions.accept();
        }
    }

    /// Makes fast code observe what is asked for and what watches need.
    pub(super) fn compile_observers(&mut self, asked: Observers) -> Result<(), Error> {
        let watches = self.observing.watches.iter().any(|watch| !watch.reads);
        let logs = watches || self.observing.expects_watches;
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
            // What was counted up to here stays if the piece is undone.
            self.harvest_counters();
            self.observations.executions.accept();
            Box::new(cpu.clone())
        });
        self.observing.piece = Some(Piece { start, before, uncounted: None });
    }

    /// Ends the running piece of fast code, if any: counts and logs are taken over. True when it
    /// was undone instead, because it has written to a watched range.
    pub(super) fn settle(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<bool, Error> {
        let Some(piece) = self.observing.piece.take() else { return Ok(false) };
        let state = self.state_unchecked();
        let counter = state.counter;
        let retired = instructions_between(piece.start, counter);
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
            self.observing.lengthen();
        }
        if let Some(places) = piece.uncounted.filter(|_| self.compiled.executions) {
            for range in Block::bytes_of(&places[..retired as usize]) {
                self.observations.executions.count(&range, 1);
            }
        }
        let keep = self.observers.stores;
        for range in self.observations.ranges_of(state) {
            space.mark_written(range);
        }
        self.observations.collect(state, space, cpu.instructions, piece.start, keep);
        self.observations.start(state);
        self.observations.executions.accept();
        if self.observations.executions.retired(retired) {
            self.harvest_counters();
        }
        cpu.instructions += retired;
        cpu.ticks += ticks_of(counter);
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
        self.observations.executions.reject();
        let counters = self.observations.executions.counters();
        if counters > 0 {
            self.fixed.counters(counters).fill(0);
        }
        self.observing.piece_max = retired / FINER;
        self.observing.hit_before = cpu.instructions + retired;
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
        let passing = std::mem::replace(&mut self.observing.passing, Passing::Nothing);
        let watching = !self.observing.watches.is_empty() && passing != Passing::All;
        if watching && let Some((iterations, exit)) = self.string_hit(cpu, &instruction, passing) {
            return self.stop_in_string(space, cpu, instruction, iterations, exit);
        }
        let before = self.before(space, cpu, instruction);
        let (step, journal) = self.journaled(space, cpu, run)?;
        let accesses = self.accesses_made(space, cpu, &before, journal);
        // A repeated string's accesses were looked at above.
        if watching
            && passing == Passing::Nothing
            && !is_repeated_string(&instruction)
            && let Some(exit) = self.observing.first_hit(&accesses)
        {
            self.take_back(space, cpu, &before, &accesses)?;
            return Ok(Step::Exit(exit));
        }
        self.note(space, cpu, &before, accesses);
        Ok(step)
    }

    /// Runs an instruction and says what the engine itself has accessed for it.
    fn journaled(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        run: impl FnOnce(&mut Machine, &mut Space, &mut Cpu) -> Result<Step, Error>,
    ) -> Result<(Step, Journal), Error> {
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
        Ok((step, journal))
    }

    /// Undoes an instruction.
    fn take_back(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        before: &Before,
        accesses: &Journal,
    ) -> Result<(), Error> {
        undo(space, &accesses.stores)?;
        *cpu = (*before.cpu).clone();
        self.state().vector = cpu.vector.clone();
        self.load(cpu);
        Ok(())
    }

    /// The first iteration of a repeated string that is about to access a watched range.
    fn string_hit(
        &self,
        cpu: &Cpu,
        instruction: &Instruction,
        passing: Passing,
    ) -> Option<(u64, Exit)> {
        if !is_repeated_string(instruction) {
            return None;
        }
        let from = u64::from(passing == Passing::Once);
        let stores = self.observing.watched(true).map(|range| (range, true));
        let loads = self.observing.watched(false).map(|range| (range, false));
        stores
            .chain(loads)
            .filter_map(|(range, write)| {
                let first = emulate::first_iteration(cpu, instruction, from, range, write)?;
                let exit = self.observing.hit(&first.accessed, write)?;
                Some((first.iteration, exit))
            })
            // A store goes before a load of the same iteration.
            .min_by_key(|(iteration, exit)| match exit {
                Exit::Watch { address, write } => (*iteration, !write, *address),
                _ => unreachable!("a hit is a watch"),
            })
    }

    /// Executes so many iterations of a string, and stops if it comes so far and the next
    /// iteration does what it is stopped for.
    fn stop_in_string(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        instruction: Instruction,
        iterations: u64,
        exit: Exit,
    ) -> Result<Step, Error> {
        let emulate = |limit| {
            move |machine: &mut Machine, space: &mut Space, cpu: &mut Cpu| {
                machine.emulate_unobserved(space, cpu, &instruction, Some(limit))
            }
        };
        if iterations > 0 {
            let before = self.before(space, cpu, instruction);
            let (step, journal) = self.journaled(space, cpu, emulate(iterations))?;
            self.note(space, cpu, &before, journal);
            if matches!(step, Step::Exit(_)) || cpu.instructions != before.cpu.instructions {
                return Ok(step);
            }
        }
        let before = self.before(space, cpu, instruction);
        let (step, journal) = self.journaled(space, cpu, emulate(1))?;
        if matches!(step, Step::Exit(_)) {
            return Ok(step);
        }
        self.take_back(space, cpu, &before, &journal)?;
        Ok(Step::Exit(exit))
    }

    fn before(&mut self, space: &Space, cpu: &mut Cpu, instruction: Instruction) -> Before {
        if !self.observing.watches.is_empty() || emulate::is_masked(&instruction) {
            cpu.vector = self.state().vector.clone();
        }
        let (mut accesses, mut marks) = (Journal::default(), Marks::default());
        if self.observes_memory() && classify(&instruction) != Class::Nothing {
            for access in faults::accesses(&mut self.tools.info, &instruction, cpu) {
                if access.write {
                    marks.written.push(marked_words(access.address, access.size));
                }
                if access.read && !access.top {
                    marks.read.push(Address(access.address).range(access.size));
                }
                for range in emulate::chosen_parts(cpu, &instruction, &access) {
                    if access.write {
                        accesses.stores.extend(space.old_bytes(&range));
                    }
                    if access.read {
                        accesses.loads.push(range);
                    }
                }
            }
        }
        Before { instruction, cpu: Box::new(cpu.clone()), accesses, marks }
    }

    /// What an instruction has accessed that was executed.
    fn accesses_made(
        &self,
        space: &Space,
        cpu: &Cpu,
        before: &Before,
        journal: Journal,
    ) -> Journal {
        let retired = cpu.instructions != before.cpu.instructions;
        if !self.observing.emulated {
            let accesses = before.accesses.clone();
            if retired {
                return accesses;
            }
            return Journal { stores: changed(space, accesses.stores), loads: Vec::new() };
        }
        // What was stored before a fault stays; what was loaded is of no consequence, but for
        // elements that a gather has finished and iterations of a string.
        let partial = before.instruction.is_vsib() || before.instruction.is_string_instruction();
        let loads = if retired || partial { journal.loads } else { Vec::new() };
        Journal { stores: journal.stores, loads }
    }

    /// Adds an instruction that was executed to what has been observed.
    fn note(&mut self, space: &mut Space, cpu: &Cpu, before: &Before, accesses: Journal) {
        let retired = cpu.instructions != before.cpu.instructions;
        if retired {
            self.note_flow(cpu, before);
        }
        let natively = retired && !self.observing.emulated;
        if natively && self.observers.written_words {
            before.marks.written.iter().for_each(|words| space.mark_written(words.clone()));
        } else if !retired && !self.observing.emulated && self.observers.written_words {
            for record in &accesses.stores {
                space.mark_written(record.address.range(record.size.into()));
            }
        }
        if self.observers.read_lines {
            let read = if natively { &before.marks.read } else { &accesses.loads };
            read.iter().for_each(|range| space.mark_read(range.clone()));
        }
        if self.observers.stores {
            self.observations.stores.extend(accesses.stores);
        }
    }

    fn note_flow(&mut self, cpu: &Cpu, before: &Before) {
        let (instruction, observers) = (&before.instruction, self.observers);
        if observers.executions {
            let bytes = Address(instruction.ip()).range(instruction.len() as u64);
            self.observations.executions.count(&bytes, 1);
            self.observations.executions.accept();
        }
        let (call, ret) =
            (instruction.mnemonic() == Mnemonic::Call, instruction.mnemonic() == Mnemonic::Ret);
        if observers.calls && (call || ret) {
            self.observations.calls.push(Call {
                moment: Moment(cpu.instructions.wrapping_add(self.observations.clock)),
                is_call: call,
                target: cpu.rip,
                stack: Address(cpu.general[gpr::RSP]),
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
pub fn correct_executions(observations: &mut Observations, places: &[Place], found: RolledBack) {
    let done = match found.position {
        Position::Before(n) | Position::Budget(n) => n,
        Position::StackSet(n, _) => n + 1,
        Position::Indirect => places.len(),
    };
    let (part, times) = if found.uncounted { (&places[..done], 1) } else { (&places[done..], -1) };
    for range in Block::bytes_of(part) {
        observations.executions.count(&range, times);
    }
}

/// The words that fast code marks for a store: the marks must not depend on where it ends.
fn marked_words(address: u64, size: u64) -> Range<Address> {
    let words = if size <= 1 { 1 } else { size.div_ceil(8) + 1 };
    Address(address & !7).range(words * 8)
}

fn is_repeated_string(instruction: &Instruction) -> bool {
    instruction.is_string_instruction() && super::has_repeat(instruction)
}

/// Those of an instruction that faulted that have been made all the same: on Intel's processors the
/// first eight bytes of ten that `fstp` and `fbstp` store across the border of a page (observed on
/// Emerald Rapids).
pub fn changed(space: &Space, mut stores: Vec<StoreRecord>) -> Vec<StoreRecord> {
    stores.retain(|record| {
        let mut now = [0; 8];
        let now = &mut now[..record.size.into()];
        let old = record.old.to_le_bytes();
        space.read(record.address, now).is_ok() && now[..] != old[..now.len()]
    });
    stores
}

/// Takes back stores, the last one first.
pub fn undo(space: &mut Space, stores: &[StoreRecord]) -> Result<(), Error> {
    for record in stores.iter().rev() {
        space.write(record.address, &record.old.to_le_bytes()[..record.size.into()])?;
    }
    Ok(())
}
