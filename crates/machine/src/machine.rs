//! The machine and its way through guest code.
//!
//! [`Machine::run`] alternates slices of fast code, whose budget keeps a safe distance from the
//! limit, and stretches and single instructions, which meet it exactly.

#![allow(unsafe_code)] // the state at its fixed address, and entering translated code

mod blocks;
mod fast;
mod faulting;
mod observed;
mod single;
mod taken;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::marker::PhantomData;
use std::rc::Rc;

use iced_x86::{Decoder, DecoderOptions, Instruction};
use model::{Address, Call, Moment, gpr};

use crate::block::{BLOCK_MAX, COUNT_WITHIN, TICKS_MAX};
use crate::cache::CodeCache;
use crate::code_map::CodeMapTable;
use crate::directory::Directory;
use crate::fixed::Fixed;
use crate::memory::Tables;
use crate::observations::Observations;
use crate::state::{State, state};
use crate::translate::Tools;
use crate::{
    ControlFlow, Cpu, Error, Exit, FLAG_TRAP, Limits, Observers, Options, Space, StateImages,
    Statistics, StoreRecord, TickFilter, entry, layout,
};
use observed::Observing;

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
    /// What the guest's state images are like.
    images: StateImages,
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
            images: options.images,
            fixed,
            _one_thread: PhantomData,
        })
    }

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
    pub fn take_calls(&mut self) -> Vec<Call> {
        self.take_calls_into(Vec::new())
    }

    /// As `take_calls`; the memory of `empty` takes the next ones.
    pub fn take_calls_into(&mut self, mut empty: Vec<Call>) -> Vec<Call> {
        empty.clear();
        std::mem::replace(&mut self.observations.calls, empty)
    }

    /// How many calls and returns there are since the last time.
    pub fn calls(&self) -> usize {
        self.observations.calls.len()
    }

    /// What follows is at this moment when `Cpu::instructions` is `instructions`: the clock of
    /// calls and returns. At first they are the same.
    pub fn set_clock(&mut self, moment: Moment, instructions: u64) {
        self.observations.clock = moment.0.wrapping_sub(instructions);
    }

    /// Stores since the last time, in order.
    pub fn take_stores(&mut self) -> Vec<StoreRecord> {
        std::mem::take(&mut self.observations.stores)
    }

    /// Control flow since the last time.
    pub fn take_control_flow(&mut self) -> ControlFlow {
        std::mem::take(&mut self.observations.flow)
    }

    /// How many conditional outcomes and indirect targets there are since the last time.
    pub fn control_flow_lengths(&self) -> (usize, usize) {
        (self.observations.flow.taken.len(), self.observations.flow.targets.len())
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
        if changed.is_empty() {
            return;
        }
        self.hooks = hooks;
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

/// Decodes the instruction at `address`; `None` when it cannot be fetched whole.
pub(crate) fn fetch(space: &Space, address: Address) -> Option<Instruction> {
    let mut bytes = [0; 15];
    let length = space.fetch(address, &mut bytes);
    let mut decoder = Decoder::with_ip(64, &bytes[..length], address.0, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let cut = decoder.last_error() == iced_x86::DecoderError::NoMoreBytes;
    (length > 0 && !(cut && instruction.is_invalid())).then_some(instruction)
}

fn has_repeat(instruction: &Instruction) -> bool {
    instruction.has_rep_prefix() || instruction.has_repe_prefix() || instruction.has_repne_prefix()
}
