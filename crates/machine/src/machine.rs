//! Running guest code: finding, making, linking and leaving blocks.
//!
//! [`Machine::run`] alternates slices of fast code, whose budget keeps a safe distance from the
//! limit, and single instructions, which meet it exactly.

#![allow(unsafe_code)] // the state at its fixed address, and entering translated code

mod observed;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::marker::PhantomData;
use std::rc::Rc;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};
use model::{Address, gpr};

use crate::block::{
    BLOCK_MAX, Block, COUNT_WITHIN, ExitKind, Mode, Source, TICKS_MAX, counter_amount,
    counter_with_budget,
};
use crate::cache::CodeCache;
use crate::code_map::CodeMapTable;
use crate::directory::{Directory, Single};
use crate::emulate::{self, Outcome};
use crate::faults::{self, Position};
use crate::fixed::Fixed;
use crate::memory::{AccessKind, Tables};
use crate::observations::Observations;
use crate::state::{EXIT_FAULT, EXIT_INDIRECT, State, state};
use crate::translate::{Class, Tools, classify, translate};
use crate::{
    CallRecord, ControlFlow, Cpu, Error, Exit, FLAG_TRAP, Fault, Limits, Observers, Options, Space,
    Statistics, StoreRecord, TickFilter, entry, layout,
};
use observed::{Observing, correct_executions};

/// Fast code never comes nearer to a limit than this: more than what a block executes before it
/// looks at the budget.
const SLACK: u64 = COUNT_WITHIN as u64 + 1;
/// So near to a limit of instructions, what is left is translated for this one time: fast code
/// would soon stop at a block that is too long.
const NEAR: u64 = 40;
/// Instructions in a slice at the most: the counter's tick field and the guards allow no more.
pub(crate) const SLICE: u64 = 1_040_000;
const _: () = assert!(SLICE + 2 * BLOCK_MAX as u64 <= TICKS_MAX);
/// And where calls, stores or control flow are logged: so much of the logs stays in the host's
/// second cache.
const LOGGED_SLICE: u64 = 260_000;
/// Block starts remembered for reports.
const RECENT: usize = 64;

/// The machine of this host process. A second one waits until the first is dropped.
#[derive(Debug)]
pub struct Machine {
    tools: Tools,
    cache: CodeCache,
    tables: Tables,
    code_maps: CodeMapTable,
    directories: HashMap<u64, Directory>,
    active: Option<u64>,
    /// What is asked for, and what is compiled into fast code.
    observers: Observers,
    compiled: Observers,
    observing: Observing,
    hooks: BTreeSet<Address>,
    recent: VecDeque<Address>,
    statistics: Statistics,
    observations: Observations,
    // Dropped last: it holds the state and the right to be the only machine.
    fixed: Fixed,
    _one_thread: PhantomData<*mut ()>,
}

/// How a piece of running ended.
enum Step {
    /// Go on at `cpu.rip`.
    Continue,
    Exit(Exit),
}

impl Machine {
    pub fn new(options: Options) -> Result<Machine, Error> {
        let fixed = Fixed::new()?;
        Ok(Machine {
            tools: Tools::default(),
            cache: CodeCache::new(options.code_cache_bytes)?,
            tables: Tables::reserve()?,
            code_maps: CodeMapTable::new()?,
            directories: HashMap::new(),
            active: None,
            observers: Observers::default(),
            compiled: Observers::default(),
            observing: Observing::default(),
            hooks: BTreeSet::new(),
            recent: VecDeque::new(),
            statistics: Statistics::default(),
            observations: Observations::default(),
            fixed,
            _one_thread: PhantomData,
        })
    }

    /// An empty address space of this machine.
    /// An empty address space. What is written to it is marked from the beginning, if written
    /// words are observed.
    pub fn new_space(&mut self) -> Result<Space, Error> {
        let mut space = Space::new();
        self.mark_from_now(&mut space)?;
        Ok(space)
    }

    /// Marks in a space what is observed now, as running in it does: for what is written to it
    /// before it runs.
    pub fn mark_from_now(&self, space: &mut Space) -> Result<(), Error> {
        space.enable_marks(self.observers.written_words, self.observers.read_lines)
    }

    pub fn observers(&self) -> Observers {
        self.observers
    }

    /// Changes what is observed; code translated for other observers is dropped. Marks of words
    /// and lines are made in the address spaces that run from now on.
    pub fn set_observers(&mut self, observers: Observers) -> Result<(), Error> {
        self.compile_observers(observers)
    }

    /// Calls and returns since the last time.
    pub fn take_calls(&mut self) -> Vec<CallRecord> {
        std::mem::take(&mut self.observations.calls)
    }

    /// The same, one by one, and their memory is kept: for those who take them often.
    pub fn drain_calls(&mut self) -> std::vec::Drain<'_, CallRecord> {
        self.observations.calls.drain(..)
    }

    /// Stores since the last time, in order.
    pub fn take_stores(&mut self) -> Vec<StoreRecord> {
        std::mem::take(&mut self.observations.stores)
    }

    /// Control flow since the last time.
    pub fn take_control_flow(&mut self) -> ControlFlow {
        std::mem::take(&mut self.observations.flow)
    }

    /// Runs of code bytes with how often the instructions in them were executed since the last
    /// time, in order of address; of all address spaces together.
    pub fn take_executions(&mut self) -> Vec<(std::ops::Range<Address>, u64)> {
        self.harvest_counters();
        self.observations.executions.accept();
        self.observations.executions.take()
    }

    fn harvest_counters(&mut self) {
        let count = self.observations.executions.counters();
        if count > 0 {
            self.observations.executions.harvest(self.fixed.counters(count));
        }
    }

    /// Stop before executing any of these addresses, in any address space: once for each
    /// execution. `run` never stops at a hook at its very first instruction.
    pub fn set_hooks(&mut self, addresses: &[Address]) {
        let hooks: BTreeSet<Address> = addresses.iter().copied().collect();
        let changed: Vec<Address> = hooks.symmetric_difference(&self.hooks).copied().collect();
        self.hooks = hooks;
        self.cache.forget_copies();
        // Code that runs through a changed address is made anew.
        #[expect(clippy::iter_over_hash_type, reason = "every directory gets the same treatment")]
        for directory in self.directories.values_mut() {
            for address in &changed {
                directory.invalidate(&address.range(1), &mut self.cache);
            }
        }
    }

    /// From now on only the conditional branches count that the filter names; all of them
    /// without one. Translations are dropped.
    pub fn set_tick_filter(&mut self, filter: Option<Rc<dyn TickFilter>>) {
        self.flush();
        self.tools.ticks = filter;
    }

    pub fn statistics(&self) -> Statistics {
        Statistics {
            cache_flushes: self.cache.flushes,
            cache_bytes: self.cache.bytes(),
            ..self.statistics
        }
    }

    /// The last blocks at which the engine was left or entered, oldest first: guest addresses.
    pub fn last_blocks(&self) -> Vec<Address> {
        self.recent.iter().copied().collect()
    }

    /// Runs guest code of `space` from `cpu`, whose counts go on from what they are.
    pub fn run(&mut self, space: &mut Space, cpu: &mut Cpu, limits: Limits) -> Result<Exit, Error> {
        self.enter_space(space, cpu)?;
        self.observing.begin(space, cpu);
        let exit = self.run_loop(space, cpu, limits);
        self.leave_space(cpu);
        self.observing.end(space, cpu, &exit);
        exit
    }

    /// Executes one instruction, whatever hooks and watches there are. A `rep` string runs at most
    /// `iterations` iterations and retires only when it has finished (rip stays otherwise).
    pub fn step(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        iterations: Option<u64>,
    ) -> Result<Exit, Error> {
        self.enter_space(space, cpu)?;
        self.observing.begin_step();
        let exit = self.step_here(space, cpu, iterations);
        self.leave_space(cpu);
        exit
    }

    fn step_here(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        iterations: Option<u64>,
    ) -> Result<Exit, Error> {
        self.drop_stale(space);
        if let Some(limit) = iterations {
            let instruction = fetch(space, cpu.rip);
            if instruction.is_some_and(|i| i.is_string_instruction() && has_repeat(&i)) {
                let instruction = instruction.expect("checked");
                return self.emulate(space, cpu, &instruction, Some(limit)).map(
                    |step| match step {
                        Step::Continue => Exit::InstructionLimit,
                        Step::Exit(exit) => exit,
                    },
                );
            }
        }
        match self.single(space, cpu)? {
            Step::Continue => Ok(Exit::InstructionLimit),
            Step::Exit(exit) => Ok(exit),
        }
    }

    fn run_loop(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        limits: Limits,
    ) -> Result<Exit, Error> {
        let mut first = true;
        // Set when the budget does not let a single block through.
        let mut stuck = false;
        loop {
            self.drop_stale(space);
            let left_of = |limit: Option<u64>, count: u64| limit.map(|l| l.saturating_sub(count));
            let instructions = left_of(limits.instructions, cpu.instructions);
            let ticks = left_of(limits.ticks, cpu.ticks);
            if instructions == Some(0) {
                return Ok(Exit::InstructionLimit);
            }
            if ticks == Some(0) {
                return Ok(Exit::TickLimit);
            }
            let hooked = self.hooks.contains(&cpu.rip);
            if hooked && !first {
                return Ok(Exit::Hook);
            }
            if cpu.rflags & FLAG_TRAP != 0 {
                return self.trapped(space, cpu);
            }
            let left = instructions.unwrap_or(u64::MAX).min(ticks.unwrap_or(u64::MAX));
            let careful = self.observing.is_careful(cpu);
            let step = if hooked && first || careful {
                self.single(space, cpu)?
            } else if left <= SLACK || instructions.is_some_and(|left| left <= NEAR) || stuck {
                stuck = false;
                self.stretch(space, cpu, instructions.unwrap_or(u64::MAX))?
            } else {
                let before = (cpu.instructions, cpu.rip);
                let budget = (left - SLACK).min(self.slice_max());
                let step = self.slice(space, cpu, budget)?;
                stuck = budget <= BLOCK_MAX as u64 && before == (cpu.instructions, cpu.rip);
                step
            };
            first = false;
            if let Step::Exit(exit) = step {
                return Ok(exit);
            }
        }
    }

    /// Executes one instruction under the guest's trap flag.
    fn trapped(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<Exit, Error> {
        const TRAP_TRACE: i32 = 2;
        let pushes = fetch(space, cpu.rip)
            .filter(|i| matches!(i.mnemonic(), Mnemonic::Pushf | Mnemonic::Pushfq));
        let step = match pushes {
            Some(instruction) => self.emulate(space, cpu, &instruction, None)?,
            None => self.single(space, cpu)?,
        };
        Ok(match step {
            Step::Exit(exit) => exit,
            Step::Continue => {
                Exit::Fault(Fault { signal: libc::SIGTRAP, code: TRAP_TRACE, address: cpu.rip })
            }
        })
    }

    fn slice_max(&self) -> u64 {
        let Observers { calls, control_flow, stores, .. } = self.compiled;
        let most = if calls || control_flow || stores { LOGGED_SLICE } else { SLICE };
        self.observing.piece_max().min(most)
    }

    /// Runs fast code until about `budget` instructions have retired or something is to be done.
    fn slice(&mut self, space: &mut Space, cpu: &mut Cpu, budget: u64) -> Result<Step, Error> {
        self.begin_piece(cpu, counter_with_budget(budget));
        let result = self.fast(space, cpu);
        if self.settle(space, cpu)? {
            return Ok(Step::Continue);
        }
        result
    }

    /// Executes up to `most` instructions, up to the first transfer of control, and at least one.
    fn stretch(&mut self, space: &mut Space, cpu: &mut Cpu, most: u64) -> Result<Step, Error> {
        let most = most.min(BLOCK_MAX as u64);
        if most == 1 || !self.observing.watches.is_empty() {
            return self.single(space, cpu);
        }
        let Some(id) = self.make(space, cpu.rip, Mode::Once, most as usize)? else {
            return Ok(Step::Exit(fetch_fault(space, cpu.rip)));
        };
        let block = &self.cache.blocks[id as usize];
        let (source, places) = (block.source.clone(), block.places.clone());
        // Only where a store to the code would be noticed.
        let directory = self.directory(space);
        if !source.ranges.iter().all(|range| directory.has_pages(range)) {
            self.cache.take_back(id);
            return self.single(space, cpu);
        }
        self.statistics.stretches += 1;
        // The budget outlasts it.
        self.begin_piece(cpu, counter_with_budget(most + 1));
        self.observing.piece.as_mut().expect("just begun").uncounted = Some(places);
        self.enter(cpu, id);
        let result = self.left(space, cpu);
        self.cache.take_back(id);
        self.settle(space, cpu)?;
        Ok(result?.unwrap_or(Step::Continue))
    }

    /// What translated code was left for; `None` when it is to go on at `cpu.rip`.
    fn left(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<Option<Step>, Error> {
        match self.state().exit {
            EXIT_FAULT => self.fault(space, cpu),
            EXIT_INDIRECT => {
                cpu.rip = Address(self.state().s);
                Ok(None)
            }
            exit => self.exit(space, cpu, exit),
        }
    }

    fn fast(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<Step, Error> {
        let mut id = match self.fast_block(space, cpu.rip)? {
            Some(id) => id,
            None => return Ok(Step::Exit(fetch_fault(space, cpu.rip))),
        };
        loop {
            self.enter(cpu, id);
            let exit = self.state().exit;
            if let Some(step) = self.left(space, cpu)? {
                return Ok(step);
            }
            // Without a number it is an indirect jump that missed.
            let link = (!matches!(exit, EXIT_FAULT | EXIT_INDIRECT)).then_some(exit);
            let flushes = self.cache.flushes;
            let Some(next) = self.fast_block(space, cpu.rip)? else {
                return Ok(Step::Exit(fetch_fault(space, cpu.rip)));
            };
            match link {
                Some(exit) if flushes == self.cache.flushes => self.cache.link(exit, next),
                Some(_) => {}
                None => self.enter_code_map(space, cpu.rip, next)?,
            }
            id = next;
        }
    }

    /// What a numbered exit asks for; `None` when the next block is to be linked.
    fn exit(&mut self, space: &mut Space, cpu: &mut Cpu, exit: u32) -> Result<Option<Step>, Error> {
        let record = &self.cache.exits[exit as usize];
        let step = match record.kind {
            ExitKind::Link { target, .. } => {
                cpu.rip = target;
                return Ok(None);
            }
            ExitKind::Next { target } => {
                cpu.rip = target;
                Step::Continue
            }
            ExitKind::Budget { index } => {
                let block = &self.cache.blocks[record.block as usize];
                let (total, before) = (block.counts(), block.counts_before(usize::from(index)));
                let change = counter_amount(before.0, before.1) - counter_amount(total.0, total.1);
                cpu.rip = block.places[usize::from(index)].address;
                if self.compiled.executions {
                    for range in Block::bytes_of(&block.places[..usize::from(index)]) {
                        self.observations.executions.count(&range, 1);
                    }
                }
                let counter = &mut self.state().counter;
                *counter = counter.wrapping_add(change as u64);
                Step::Continue
            }
            ExitKind::Trap { address, kind, length } => {
                cpu.rip = address;
                Step::Exit(Exit::Trap { kind, length })
            }
            ExitKind::Hook { address } => {
                cpu.rip = address;
                Step::Exit(Exit::Hook)
            }
            ExitKind::Emulate { address } => {
                cpu.rip = address;
                match fetch(space, address) {
                    Some(instruction) => self.emulate(space, cpu, &instruction, None)?,
                    None => Step::Exit(fetch_fault(space, address)),
                }
            }
        };
        Ok(Some(step))
    }

    /// Executes the instruction at `cpu.rip` by itself.
    fn single(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<Step, Error> {
        self.single_in(space, cpu, Mode::Exact)
    }

    fn single_in(&mut self, space: &mut Space, cpu: &mut Cpu, mode: Mode) -> Result<Step, Error> {
        self.observed(space, cpu, |machine, space, cpu| machine.single_unobserved(space, cpu, mode))
    }

    fn single_unobserved(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        mode: Mode,
    ) -> Result<Step, Error> {
        // The engine knows what each iteration of a string does.
        if mode == Mode::Exact
            && self.observes_memory()
            && let Some(instruction) = fetch(space, cpu.rip)
            && matches!(classify(&instruction), Class::String)
        {
            return self.emulate(space, cpu, &instruction, None);
        }
        self.statistics.singles += 1;
        self.statistics.bound += u64::from(mode == Mode::Bound);
        let Some(id) = self.single_block(space, cpu.rip, mode)? else {
            return Ok(Step::Exit(fetch_fault(space, cpu.rip)));
        };
        let place = self.cache.blocks[id as usize].places.first().copied();
        self.enter(cpu, id);
        let faulted = self.state().exit == EXIT_FAULT;
        let step = self.left(space, cpu)?.unwrap_or(Step::Continue);
        if let Some(place) = place.filter(|_| !faulted) {
            cpu.instructions += 1;
            cpu.ticks += u64::from(place.tick);
        }
        Ok(step)
    }

    /// Carries an instruction out in the engine and counts it.
    fn emulate(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        instruction: &Instruction,
        iterations: Option<u64>,
    ) -> Result<Step, Error> {
        self.observed(space, cpu, |machine, space, cpu| {
            machine.emulate_unobserved(space, cpu, instruction, iterations)
        })
    }

    fn emulate_unobserved(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        instruction: &Instruction,
        iterations: Option<u64>,
    ) -> Result<Step, Error> {
        self.observing.emulated = true;
        self.statistics.emulated += 1;
        let address = cpu.rip;
        self.save(cpu);
        cpu.vector = self.state().vector.clone();
        let outcome = emulate::emulate(space, cpu, instruction, iterations)?;
        self.state().vector = cpu.vector.clone();
        self.load(cpu);
        match outcome {
            Outcome::Done => {
                cpu.instructions += 1;
                Ok(Step::Continue)
            }
            Outcome::Partial => Ok(Step::Continue),
            Outcome::Fault(fault) => Ok(Step::Exit(Exit::Fault(fault))),
            Outcome::Unsupported => Err(self.unsupported(address, instruction)),
        }
    }

    fn unsupported(&self, address: Address, instruction: &Instruction) -> Error {
        Error::Unsupported { instruction: instruction.to_string(), address }
    }

    /// Makes the state precise after a host fault and finds out what it was. `None` is a missed
    /// indirect jump to `cpu.rip`.
    fn fault(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<Option<Step>, Error> {
        self.statistics.faults += 1;
        let state = self.state();
        let fault = state.fault;
        if fault.rip == 0 {
            cpu.rip = Address(state.s);
            return Ok(None);
        }
        let Some(block) = self.cache.block_at(fault.rip) else {
            panic!("host fault in the code cache but in no block: {fault:x?}");
        };
        let state = self.state_unchecked();
        let found = faults::roll_back(state, block);
        let (position, mode) = (found.position, block.mode);
        if mode == Mode::Fast && self.compiled.executions {
            correct_executions(&mut self.observations, block, found);
        }
        match position {
            Position::Indirect => {
                cpu.rip = Address(state.s);
                if !mode.counts() {
                    count(cpu, &block.places[0]);
                    return Ok(Some(Step::Continue));
                }
                return Ok(None);
            }
            Position::Budget(index) => {
                cpu.rip = block.places[index].address;
                return Ok(Some(Step::Continue));
            }
            Position::StackSet(index, value) => {
                let place = block.places[index];
                state.general[gpr::RSP] = value;
                cpu.rip = place.address + u64::from(place.length);
                if !mode.counts() {
                    count(cpu, &place);
                }
                return Ok(Some(Step::Continue));
            }
            Position::Before(index) => cpu.rip = block.places[index].address,
        }
        self.guest_fault(space, cpu, mode).map(Some)
    }

    /// The instruction at `cpu.rip` faulted in the host: the guest's doing, or ours to mend.
    fn guest_fault(&mut self, space: &mut Space, cpu: &mut Cpu, mode: Mode) -> Result<Step, Error> {
        let host = self.state().fault;
        let Some(instruction) = fetch(space, cpu.rip) else {
            return Ok(Step::Exit(fetch_fault(space, cpu.rip)));
        };
        if !matches!(host.vector, faults::STACK | faults::PROTECTION | faults::PAGE) {
            if host.signal == libc::SIGILL && !host_has(&instruction) {
                return Err(self.unsupported(cpu.rip, &instruction));
            }
            return Ok(Step::Exit(Exit::Fault(faults::plain_fault(&host, cpu.rip))));
        }
        if host.vector == faults::PAGE
            && host.error & 2 != 0
            && let Some(address) = space.guest(host.address)
            && space.write_fault(address)?
        {
            self.drop_stale(space);
            return self.single(space, cpu);
        }
        self.save(cpu);
        let accesses = faults::accesses(&mut self.tools.info, &instruction, cpu);
        if mode == Mode::Bound {
            cpu.vector = self.state().vector.clone();
            let fault = access_fault(space, cpu, &instruction, &accesses, &host);
            return Ok(Step::Exit(Exit::Fault(fault)));
        }
        self.carry_out(space, cpu, &instruction, &accesses)
    }

    /// Executes an instruction whose operand the fast sequence cannot reach.
    fn carry_out(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        instruction: &Instruction,
        accesses: &[faults::Access],
    ) -> Result<Step, Error> {
        let plain = translates_bound(instruction) && accesses.len() == 1;
        if !plain {
            return self.emulate(space, cpu, instruction, None);
        }
        let access = &accesses[0];
        let canonical = access.address >> 47 == 0;
        let host = if canonical { space.host(Address(access.address)) } else { None };
        // Alignment is preserved: it may matter more than the address.
        self.state().s = host.unwrap_or(layout::NOWHERE + access.address % 4096);
        self.single_in(space, cpu, Mode::Bound)
    }

    /// The fast block at `start`, made when there is none; `None` when it cannot be fetched.
    fn fast_block(&mut self, space: &mut Space, start: Address) -> Result<Option<u32>, Error> {
        self.remember(start);
        if let Some(id) = self.directory(space).fast.get(&start) {
            return Ok(Some(*id));
        }
        let Some(id) = self.make(space, start, Mode::Fast, BLOCK_MAX)? else { return Ok(None) };
        let directory = self.directories.entry(space.id()).or_default();
        let source = self.cache.blocks[id as usize].source.clone();
        for range in &source.ranges {
            if !directory.has_pages(range) {
                space.note_code(range.clone())?;
            }
        }
        directory.insert_fast(start, id, &source.ranges);
        for exit in self.cache.blocks[id as usize].exits.clone() {
            let ExitKind::Link { target, .. } = self.cache.exits[exit as usize].kind else {
                continue;
            };
            if let Some(next) = directory.fast.get(&target) {
                self.cache.link(exit, *next);
            }
        }
        Ok(Some(id))
    }

    /// The block of the one instruction at `start`, compared with memory before it is used.
    fn single_block(
        &mut self,
        space: &mut Space,
        start: Address,
        mode: Mode,
    ) -> Result<Option<u32>, Error> {
        let mut bytes = [0; 15];
        let length = space.fetch(start, &mut bytes);
        if let Some(single) = self.directory(space).single.get(&(start, mode)) {
            let single = *single;
            let n = usize::from(single.length);
            let source = &self.cache.blocks[single.block as usize].source;
            if n <= length
                && single.bytes[..n] == bytes[..n]
                && counts_the_same(&self.tools, space, source)
            {
                return Ok(Some(single.block));
            }
        }
        let Some(block) = self.make(space, start, mode, 1)? else { return Ok(None) };
        let length = self.cache.blocks[block as usize].source.bytes.len() as u8;
        let single = Single { block, bytes, length };
        self.directory(space).single.insert((start, mode), single);
        Ok(Some(block))
    }

    fn make(
        &mut self,
        space: &Space,
        start: Address,
        mode: Mode,
        most: usize,
    ) -> Result<Option<u32>, Error> {
        // Nothing is kept of an instruction that is cut off: its rest may come.
        let mut first = [0; 15];
        if space.fetch(start, &mut first) < first.len() && fetch(space, start).is_none() {
            return Ok(None);
        }
        let site = match self.cache.site(self.observations.executions.counters()) {
            Some(site) => site,
            None => {
                self.flush();
                self.cache.site(0).expect("an empty cache has room")
            }
        };
        if mode == Mode::Fast
            && let Some(id) = self.cache.copy(start, &site, |source| {
                holds(space, source) && counts_the_same(&self.tools, space, source)
            })
        {
            self.statistics.blocks_copied += 1;
            return Ok(Some(id));
        }
        let translation =
            translate(&mut self.tools, space, start, mode, most, self.compiled, &self.hooks, site);
        if mode != Mode::Once {
            self.statistics.blocks_translated += 1;
            self.statistics.instructions_translated += translation.places.len() as u64;
        }
        self.observations.executions.add_counters(&translation.counters);
        Ok(Some(self.cache.insert(start, mode, translation)))
    }

    fn enter_code_map(&mut self, space: &Space, guest: Address, id: u32) -> Result<(), Error> {
        let Some(mapping) = space.mapping_at(guest) else { return Ok(()) };
        let range = mapping.range.clone();
        let code = self.cache.blocks[id as usize].hot.start;
        let miss = self.cache.indirect_stub;
        let directory = self.directories.entry(space.id()).or_default();
        directory.maps.enter(&mut self.code_maps, guest, &range, code, miss)
    }

    fn directory(&mut self, space: &Space) -> &mut Directory {
        self.directories.entry(space.id()).or_default()
    }

    /// Drops translations of bytes that have changed.
    fn drop_stale(&mut self, space: &mut Space) {
        let stale = space.take_stale();
        if stale.is_empty() {
            return;
        }
        let directory = self.directories.entry(space.id()).or_default();
        for range in stale {
            directory.invalidate(&range, &mut self.cache);
        }
    }

    /// Drops all translations.
    fn flush(&mut self) {
        let counters = self.observations.executions.counters();
        if counters > 0 {
            let counters = self.fixed.counters(counters);
            let may_be_undone = self.observing.may_rewind();
            self.observations.executions.drop_counters(counters, may_be_undone);
        }
        self.cache.flush();
        let active = self.active;
        #[expect(clippy::iter_over_hash_type, reason = "every directory gets the same treatment")]
        for (id, directory) in &mut self.directories {
            directory.clear();
            directory.maps.clear(&mut self.code_maps, active == Some(*id));
        }
    }

    /// Forgets what was translated for an address space that is gone.
    pub fn forget_space(&mut self, space: &Space) {
        if let Some(mut directory) = self.directories.remove(&space.id()) {
            directory.maps.clear(&mut self.code_maps, self.active == Some(space.id()));
        }
        if self.active == Some(space.id()) {
            self.active = None;
        }
    }

    fn remember(&mut self, start: Address) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(start);
    }

    fn enter_space(&mut self, space: &mut Space, cpu: &Cpu) -> Result<(), Error> {
        self.mark_from_now(space)?;
        space.activate(&mut self.tables)?;
        if self.active != Some(space.id()) {
            if let Some(directory) = self.active.and_then(|id| self.directories.get(&id)) {
                directory.maps.deactivate(&mut self.code_maps);
            }
            self.active = Some(space.id());
            if let Some(directory) = self.directories.get(&space.id()) {
                directory.maps.activate(&mut self.code_maps);
            }
        }
        self.load(cpu);
        self.state().vector = cpu.vector.clone();
        Ok(())
    }

    fn leave_space(&mut self, cpu: &mut Cpu) {
        self.save(cpu);
        cpu.vector = self.state().vector.clone();
    }

    /// Guest registers from the state to `cpu`; vector state stays.
    fn save(&mut self, cpu: &mut Cpu) {
        let state = self.state();
        cpu.general = state.general;
        // The trap flag is never set in the host.
        cpu.rflags = state.rflags | cpu.rflags & FLAG_TRAP;
    }

    /// Guest registers from `cpu` to the state.
    fn load(&mut self, cpu: &Cpu) {
        let state = self.state();
        state.general = cpu.general;
        state.rflags = cpu.rflags & 0x24_0cd5 | 0x202;
        state.fs_base = cpu.fs_base;
        state.gs_base = cpu.gs_base;
        let (fs, gs) = (self.host_base(cpu.fs_base), self.host_base(cpu.gs_base));
        let state = self.state();
        (state.fs_host, state.gs_host) = (fs, gs);
    }

    /// The host address of a segment base.
    fn host_base(&self, base: u64) -> u64 {
        match self.tables.displacement(base) {
            Some(displacement) => base.wrapping_add(displacement),
            None => layout::NOWHERE,
        }
    }

    /// Runs a block's code until it leaves.
    fn enter(&mut self, _cpu: &mut Cpu, id: u32) {
        self.statistics.exits += 1;
        let code = self.cache.blocks[id as usize].hot.start;
        let stack = self.state().general[gpr::RSP];
        // A stack pointer without a unit gets a displacement at which every access faults.
        let displacement =
            self.tables.displacement(stack).unwrap_or(layout::NOWHERE.wrapping_sub(stack));
        let state = self.state();
        state.general[gpr::RSP] = stack.wrapping_add(displacement);
        state.stack_back = displacement.wrapping_neg();
        state.entry = code;
        // SAFETY: the code cache holds complete blocks; all that they reach is guest memory, the
        // state and the tables; faults come back as exits.
        unsafe { entry::enter() };
        let state = self.state();
        state.general[gpr::RSP] = state.general[gpr::RSP].wrapping_add(state.stack_back);
    }

    /// The state while another part of `self` is borrowed.
    fn state_unchecked<'a>(&self) -> &'a mut State {
        // SAFETY: as in `state`; callers hold no other reference to it.
        unsafe { &mut *state_pointer() }
    }

    fn state(&mut self) -> &mut State {
        // SAFETY: mapped by `Fixed`, which lives as long as `self`; translated code, the only
        // other user, runs while `enter` holds `self`.
        unsafe { &mut *state_pointer() }
    }
}

fn state_pointer() -> *mut State {
    state()
}

fn count(cpu: &mut Cpu, place: &crate::block::Place) {
    cpu.instructions += 1;
    cpu.ticks += u64::from(place.tick);
}

/// Whether the bytes that a translation was made from are executable and the same in `space`.
fn holds(space: &Space, source: &Source) -> bool {
    let mut bytes = &source.bytes[..];
    source.ranges.iter().all(|range| {
        let (wanted, rest) = bytes.split_at((range.end - range.start) as usize);
        bytes = rest;
        let mut there = [0; BLOCK_MAX * 15];
        let there = &mut there[..wanted.len()];
        space.fetch(range.start, there) == wanted.len() && there == wanted
    })
}

/// Whether the branches of a translation count in `space` as they did where it was made.
fn counts_the_same(tools: &Tools, space: &Space, source: &Source) -> bool {
    let Some(filter) = &tools.ticks else { return true };
    source.branches.iter().all(|(address, counted)| filter.counts(space, *address) == *counted)
}

/// Decodes the instruction at `address`; `None` when it cannot be fetched whole.
pub(crate) fn fetch(space: &Space, address: Address) -> Option<Instruction> {
    let mut bytes = [0; 15];
    let length = space.fetch(address, &mut bytes);
    let mut decoder = Decoder::with_ip(64, &bytes[..length], address.0, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let cut = decoder.last_error() == iced_x86::DecoderError::NoMoreBytes;
    (length > 0 && !(cut && instruction.is_invalid())).then_some(instruction)
}

/// The fault of fetching at an address that is not executable, or at the page behind one that is.
fn fetch_fault(space: &Space, rip: Address) -> Exit {
    let mut bytes = [0; 15];
    let first = rip + space.fetch(rip, &mut bytes) as u64;
    if !faults::is_canonical(first.0) {
        return Exit::Fault(faults::protection_fault(false));
    }
    let mapped = space.access(first, 1, AccessKind::Execute).is_err_and(|refused| refused.mapped);
    Exit::Fault(faults::page_fault(first.0, mapped))
}

/// The guest fault for an access that the host refused.
fn access_fault(
    space: &Space,
    cpu: &Cpu,
    instruction: &Instruction,
    accesses: &[faults::Access],
    host: &crate::state::HostFault,
) -> Fault {
    for access in accesses {
        let kind = if access.write { AccessKind::Write } else { AccessKind::Read };
        for part in emulate::parts_by_mask(cpu, instruction, access) {
            let last = Address(part.end.0.wrapping_sub(1));
            if !faults::is_canonical(part.start.0) || !faults::is_canonical(last.0) {
                return faults::protection_fault(access.stack);
            }
            if host.vector == faults::PROTECTION {
                break;
            }
            if part.start.0 >> 47 != 0 {
                return faults::page_fault(part.start.0, false);
            }
            if let Err(refused) = space.access(part.start, part.end - part.start, kind) {
                return faults::page_fault(refused.address.0, refused.mapped);
            }
        }
    }
    // All of it is accessible: an alignment that the instruction demands.
    faults::protection_fault(false)
}

fn has_repeat(instruction: &Instruction) -> bool {
    instruction.has_rep_prefix() || instruction.has_repe_prefix() || instruction.has_repne_prefix()
}

/// Whether the instruction can run with its one memory operand at a host address in scratch S.
fn translates_bound(instruction: &Instruction) -> bool {
    crate::translate::has_memory(instruction) && matches!(classify(instruction), Class::Plain)
}

/// Whether this host's processor has every feature that the instruction needs, as far as known.
fn host_has(instruction: &Instruction) -> bool {
    instruction.is_invalid()
        || instruction.flow_control() == iced_x86::FlowControl::Exception
        || crate::features::host_has(instruction)
}
