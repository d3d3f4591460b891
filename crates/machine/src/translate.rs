//! From guest instructions to host code: decoding a block, counting it, and the exits.
//!
//! A block is a trace: it goes on behind conditional branches (whose taken side leaves it) and
//! through direct jumps. Start at [`translate`]; what becomes of one instruction is
//! in `operands` (pass-through), `stack`, `flow` and `strings`.

pub mod classify;
mod flow;
mod observe;
mod operands;
mod stack;
mod strings;

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, Instruction, InstructionInfoFactory, OpKind,
};
use model::Address;

use crate::block::{
    BLOCK_MAX, Block, COUNT_WITHIN, ExitKind, Mode, Phase, PhaseMark, Place, Source,
    counter_amount, counter_amounts,
};
use crate::emit::{COUNTER, Emitter, Mem, Reg, S, T};
use crate::executions::Counter;
use crate::layout::PROBE;
use crate::{Observers, Space, TickFilter, state::State};
pub use classify::{Class, classify};
use std::mem::offset_of;

/// Direct jumps and conditional branches that a block may go through.
const BRANCHES_MAX: usize = 4;

/// The result of translating: code for the two areas and what belongs to it.
#[derive(Debug)]
pub struct Translation {
    pub hot: Emitter,
    pub cold: Emitter,
    pub places: Vec<Place>,
    pub marks: Vec<PhaseMark>,
    pub exits: Vec<(ExitKind, u64)>,
    pub source: Source,
    /// Jumps from hot to cold code: offset of the operand, offset of its target.
    pub cold_jumps: Vec<(u32, u32)>,
    /// Execution counters used.
    pub counters: Vec<Counter>,
}

/// What the displacement in scratch T belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cached {
    Nothing,
    /// A guest register which has moved by `drift` bytes since.
    Base {
        register: Reg,
        drift: i64,
    },
    /// The middle of this unit.
    Unit(u64),
}

/// The mark whose address is in S, as long as nothing has written S.
#[derive(Clone, Copy, Debug)]
struct Marked {
    /// It is that of the word that lies so many bytes behind a register's value, or behind the
    /// middle of a unit.
    base: Cached,
    offset: i64,
    writes_of_s: u32,
}

/// Where the new code goes and what it may refer to.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    pub hot: u64,
    pub cold: u64,
    /// Number of the next exit record.
    pub exit: u32,
    /// Address of the stub that leaves with the guest target in S.
    pub indirect: u64,
    /// Number of the next execution counter.
    pub counter: u32,
}

/// Tools kept between translations.
pub struct Tools {
    encoder: Encoder,
    pub info: InstructionInfoFactory,
    /// Which conditional branches count; all of them without.
    pub ticks: Option<Rc<dyn TickFilter>>,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tools")
    }
}

impl Default for Tools {
    fn default() -> Tools {
        Tools { encoder: Encoder::new(64), info: InstructionInfoFactory::new(), ticks: None }
    }
}

pub struct Translator<'a> {
    tools: &'a mut Tools,
    mode: Mode,
    observers: Observers,
    site: Site,
    out: Translation,
    cached: Cached,
    /// S holds the value of this guest register, which is one that lives in the state; as long as
    /// the count of writes of S stays the same.
    held: Option<(Reg, u32)>,
    /// S holds the address of a word's mark.
    marked: Option<Marked>,
    /// Spill slots taken by the current instruction.
    spilled: Vec<(Reg, u8)>,
    side_exits: Vec<flow::SideExit>,
    /// The block's last instruction decides where to go on.
    flow_end: bool,
    /// The guest instruction being translated.
    current: Address,
}

/// The instructions of a block and the bytes that they came from.
struct Decoded {
    instructions: Vec<(Instruction, Class)>,
    bytes: Vec<u8>,
    offsets: Vec<usize>,
    sources: Vec<Range<Address>>,
    end: End,
}

impl Decoded {
    fn counted_branches(&self, space: &Space, filter: &dyn TickFilter) -> Vec<(Address, bool)> {
        let branches = self.instructions.iter().filter(|(_, class)| class.is_tick());
        let addresses = branches.map(|(instruction, _)| Address(instruction.ip()));
        addresses.map(|address| (address, filter.counts(space, address))).collect()
    }
}

/// How a block ends when its last instruction does not say.
enum End {
    Flow,
    Next(Address),
    Hook(Address),
}

/// Translates the block at `start`, where a whole instruction can be fetched, of `most` instructions
/// at the most. Bytes are taken from `space` where they are executable.
#[expect(clippy::too_many_arguments, reason = "all that a translation depends on, once")]
pub fn translate(
    tools: &mut Tools,
    space: &Space,
    start: Address,
    mode: Mode,
    most: usize,
    observers: Observers,
    hooks: &BTreeSet<Address>,
    site: Site,
) -> Translation {
    let observers = match mode {
        Mode::Fast => observers,
        // It is known which of them are executed.
        Mode::Once => Observers { executions: false, ..observers },
        Mode::Exact | Mode::Bound => Observers::default(),
    };
    let decoded = decode(space, start, mode, most, observers, hooks);
    let branches = match &tools.ticks {
        Some(filter) => decoded.counted_branches(space, filter.as_ref()),
        None => Vec::new(),
    };
    let out = Translation {
        hot: Emitter::new(site.hot),
        cold: Emitter::new(site.cold),
        places: Vec::with_capacity(decoded.instructions.len()),
        marks: Vec::with_capacity(decoded.instructions.len() + 8),
        exits: Vec::with_capacity(8),
        source: Source { branches, ..Source::default() },
        cold_jumps: Vec::with_capacity(8),
        counters: Vec::new(),
    };
    let mut translator = Translator {
        tools,
        mode,
        observers,
        site,
        out,
        cached: Cached::Nothing,
        held: None,
        marked: None,
        spilled: Vec::new(),
        side_exits: Vec::new(),
        flow_end: matches!(decoded.end, End::Flow),
        current: start,
    };
    translator.block(&decoded);
    translator.out.source.ranges = decoded.sources;
    translator.out.source.bytes = decoded.bytes;
    translator.out
}

fn decode(
    space: &Space,
    start: Address,
    mode: Mode,
    limit: usize,
    observers: Observers,
    hooks: &BTreeSet<Address>,
) -> Decoded {
    let mut decoded = Decoded {
        instructions: Vec::with_capacity(16),
        bytes: Vec::with_capacity(64),
        offsets: Vec::with_capacity(16),
        sources: Vec::new(),
        end: End::Flow,
    };
    let branches_max = if mode == Mode::Fast { BRANCHES_MAX } else { 0 };
    let (mut at, mut branches) = (start, 0);
    loop {
        let mut buffer = [0; BLOCK_MAX * 15];
        let wanted = (limit - decoded.instructions.len()) * 15;
        let length = space.fetch(at, &mut buffer[..wanted]);
        let mut decoder = Decoder::with_ip(64, &buffer[..length], at.0, DecoderOptions::NONE);
        let from = at;
        let next = loop {
            if decoded.instructions.len() == limit {
                decoded.end = End::Next(at);
                break None;
            }
            if mode.counts() && hooks.contains(&at) {
                // A block of its own, found by its place when the hook goes.
                decoded.end = if decoded.instructions.is_empty() {
                    decoded.sources.push(at.range(1));
                    End::Hook(at)
                } else {
                    End::Next(at)
                };
                break None;
            }
            let position = decoder.position();
            let instruction = decoder.decode();
            if instruction.is_invalid()
                && decoder.last_error() == iced_x86::DecoderError::NoMoreBytes
            {
                // The caller has seen the first instruction whole.
                decoded.end = End::Next(at);
                break None;
            }
            let bytes = &buffer[position..position + instruction.len()];
            let instruction = classify::repaired(instruction, bytes);
            let class = match classify(&instruction) {
                Class::String if strings::are_observed(observers) => Class::Emulate,
                class => class,
            };
            decoded.offsets.push(decoded.bytes.len());
            decoded.bytes.extend(&buffer[position..position + instruction.len()]);
            at = Address(instruction.next_ip());
            decoded.instructions.push((instruction, class));
            let target = Address(instruction.near_branch_target());
            match class {
                Class::Conditional if branches < branches_max && target >= at => {
                    branches += 1;
                }
                Class::Jump if branches < branches_max => {
                    let seen = decoded.instructions.iter().any(|(i, _)| i.ip() == target.0);
                    if seen {
                        break None;
                    }
                    branches += 1;
                    break Some(target);
                }
                _ if class.ends_block() => break None,
                _ => {}
            }
        };
        if at > from {
            decoded.sources.push(from..at);
        }
        match next {
            Some(target) if decoded.instructions.len() < limit => at = target,
            Some(target) => {
                decoded.end = End::Next(target);
                return decoded;
            }
            None => return decoded,
        }
    }
}

impl Translator<'_> {
    fn block(&mut self, decoded: &Decoded) {
        for (instruction, class) in &decoded.instructions {
            if class.retires_here() {
                let address = Address(instruction.ip());
                self.out.places.push(Place {
                    address,
                    length: instruction.len() as u8,
                    tick: class.is_tick() && self.out.source.counts(address),
                });
            }
        }
        let total = self.out.places.len();
        let count_at = if self.mode.counts() { self.count_place(decoded, total) } else { None };
        if self.mode.counts() && total > 0 && count_at.is_none() {
            self.count_without_flags(total);
        }
        for (index, (instruction, class)) in decoded.instructions.iter().enumerate() {
            let offset = decoded.offsets[index];
            let bytes = &decoded.bytes[offset..offset + instruction.len()];
            let counts_here = count_at == Some(index);
            self.mark(Phase::Instruction(index as u8));
            self.current = Address(instruction.ip());
            self.instruction(instruction, *class, bytes, index, counts_here, decoded);
            self.end_instruction(instruction);
        }
        match decoded.end {
            End::Flow => {}
            End::Next(target) => self.go(target),
            End::Hook(address) => self.leave(ExitKind::Hook { address }),
        }
        self.side_exits();
    }

    /// The first instruction before any exit that writes all arithmetic flags, reads none, and
    /// can only fault before it does so.
    fn count_place(&mut self, decoded: &Decoded, total: usize) -> Option<usize> {
        for (index, (instruction, class)) in
            decoded.instructions.iter().enumerate().take(total.min(COUNT_WITHIN))
        {
            if *class == Class::Plain && classify::kills_flags(instruction) {
                return Some(index);
            }
            if matches!(class, Class::Conditional) || class.ends_block() && *class != Class::Jump {
                return None;
            }
        }
        None
    }

    /// Adds the block's counts where the flags are dead; stops when the budget is used up.
    fn count_with_flags(&mut self, index: usize) {
        for amount in counter_amounts(self.total_amount()) {
            self.out.hot.add(COUNTER, amount);
        }
        self.mark(Phase::Counted);
        let stub = self.stub(ExitKind::Budget { index: index as u8 });
        self.jump_cold(Some(9), stub);
        if self.observers.executions {
            let counter = self.new_counter(Block::bytes_of(&self.out.places), 1);
            self.out.hot.increment(counter);
        }
    }

    /// Adds the block's counts without touching flags; a load faults when the budget is used up.
    fn count_without_flags(&mut self, _total: usize) {
        self.mark(Phase::Instruction(0));
        for amount in counter_amounts(self.total_amount()) {
            self.out.hot.lea(COUNTER, Mem::base(COUNTER, amount));
        }
        self.mark(Phase::Counted);
        self.out.hot.sarx(S, COUNTER, COUNTER);
        self.mark(Phase::Probe);
        self.out.hot.load_sized(
            1,
            S,
            Mem { index: Some((S, 0)), disp: PROBE as i32, ..Mem::default() },
        );
        if self.observers.executions {
            let counter = self.new_counter(Block::bytes_of(&self.out.places), 1);
            self.out.hot.load32(S, counter);
            self.out.hot.lea(S, Mem::base(S, 1));
            self.out.hot.store32(counter, S);
        }
    }

    fn total_amount(&self) -> i64 {
        let ticks = self.out.places.iter().filter(|place| place.tick).count();
        counter_amount(self.out.places.len() as u64, ticks as u64)
    }

    /// What has been counted but lies behind the instruction with this index.
    fn amount_behind(&self, index: usize) -> i64 {
        let behind = &self.out.places[index + 1..];
        let ticks = behind.iter().filter(|place| place.tick).count();
        counter_amount(behind.len() as u64, ticks as u64)
    }

    fn instruction(
        &mut self,
        instruction: &Instruction,
        class: Class,
        bytes: &[u8],
        index: usize,
        counts_here: bool,
        decoded: &Decoded,
    ) {
        let address = Address(instruction.ip());
        match class {
            Class::Plain => self.plain(instruction, bytes, counts_here.then_some(index)),
            Class::Nothing => {}
            Class::Lea => self.lea(instruction, bytes),
            Class::Push | Class::Pop => self.push_or_pop(instruction, bytes),
            Class::Leave => self.leave_frame(),
            Class::String => self.string(instruction, bytes),
            Class::Conditional => {
                self.conditional(instruction, index, index + 1 == decoded.instructions.len());
            }
            Class::Jump => {
                if index + 1 == decoded.instructions.len() && matches!(decoded.end, End::Flow) {
                    self.go(Address(instruction.near_branch_target()));
                }
            }
            Class::CountedBranch => self.counted_branch(instruction),
            Class::Call => self.call(instruction),
            Class::IndirectJump | Class::IndirectCall => self.indirect(instruction),
            Class::Return => self.ret(instruction),
            Class::Trap(kind) => {
                self.leave(ExitKind::Trap { address, kind, length: instruction.len() as u8 })
            }
            Class::Emulate => self.leave(ExitKind::Emulate { address }),
        }
    }

    /// Forgets the cached displacement where the instruction moved its base.
    fn end_instruction(&mut self, instruction: &Instruction) {
        debug_assert!(self.spilled.is_empty());
        self.move_mark(instruction);
        let Cached::Base { register, drift } = self.cached else { return };
        let drifted = match classify::constant_move(instruction, register) {
            Some(amount) => drift + amount,
            None if classify::writes(&mut self.tools.info, instruction, register) => i64::MAX,
            None => drift,
        };
        self.cached = if drifted.unsigned_abs() < 1 << 20 {
            Cached::Base { register, drift: drifted }
        } else {
            Cached::Nothing
        };
    }

    fn mark(&mut self, phase: Phase) {
        self.out.marks.push(PhaseMark { offset: self.out.hot.bytes.len() as u32, phase });
    }

    /// A cold stub that leaves with this exit; returns its address.
    fn stub(&mut self, kind: ExitKind) -> u64 {
        let at = self.out.cold.here();
        let id = self.site.exit + self.out.exits.len() as u32;
        self.out.exits.push((kind, at));
        self.out.cold.store_dword(Mem::state(offset_of!(State, exit)), id);
        self.out.cold.jmp_mem(Mem::state(offset_of!(State, exit_code)));
        at
    }

    /// A jump, on a condition or always, from hot to cold code.
    fn jump_cold(&mut self, condition: Option<u8>, target: u64) {
        match condition {
            Some(condition) => self.out.hot.jcc(condition, target),
            None => self.out.hot.jmp(target),
        }
        let operand = self.out.hot.bytes.len() as u32 - 4;
        self.out.cold_jumps.push((operand, (target - self.site.cold) as u32));
    }

    /// Leaves unconditionally.
    fn leave(&mut self, kind: ExitKind) {
        let stub = self.stub(kind);
        self.jump_cold(None, stub);
    }

    /// Goes on at a known guest address.
    fn go(&mut self, target: Address) {
        if self.mode == Mode::Fast {
            let site = self.out.hot.here() + 1;
            self.leave(ExitKind::Link { target, site });
        } else {
            self.leave(ExitKind::Next { target });
        }
    }

    /// Goes on at the guest address in S, whose code map is in T.
    fn go_indirect(&mut self) {
        self.mark(Phase::Indirect);
        if self.mode == Mode::Fast {
            self.out.hot.jump_through_map();
        } else {
            self.out.hot.jmp(self.site.indirect);
        }
    }

    /// Puts a guest register's value into its spill slot so that the host register can be used.
    fn borrow(&mut self, instruction: &Instruction) -> Reg {
        let used = classify::used(&mut self.tools.info, instruction);
        const CANDIDATES: [Reg; 12] = [3, 5, 6, 7, 0, 1, 2, 8, 12, 13, 14, 15];
        let taken: u32 = self.spilled.iter().map(|(reg, _)| 1 << reg).sum();
        let register = CANDIDATES
            .into_iter()
            .find(|reg| (used | taken) >> reg & 1 == 0)
            .expect("an instruction uses at most seven general registers");
        let slot = self.spilled.len() as u8;
        self.out.hot.store(Mem::state(crate::state::spill(slot as usize)), register);
        self.mark(Phase::Spilled { register, slot });
        self.spilled.push((register, slot));
        if matches!(self.cached, Cached::Base { register: base, .. } if base == register) {
            self.cached = Cached::Nothing;
        }
        register
    }

    fn give_back(&mut self) {
        for (register, slot) in std::mem::take(&mut self.spilled) {
            self.out.hot.load(register, Mem::state(crate::state::spill(slot as usize)));
        }
    }

    /// Encodes a rewritten instruction.
    fn encode(&mut self, instruction: &Instruction) {
        let at = self.out.hot.here();
        match self.tools.encoder.encode(instruction, at) {
            Ok(_) => {
                let buffer = self.tools.encoder.take_buffer();
                self.out.hot.bytes.extend(&buffer);
                // Given back, so that it is not allocated each time.
                self.tools.encoder.set_buffer(cleared(buffer));
            }
            // The engine reports it by name when it gets there.
            Err(_) => self.leave(ExitKind::Emulate { address: self.current }),
        }
    }

    /// The scratch register T no longer holds a displacement.
    fn use_t(&mut self) -> Reg {
        self.cached = Cached::Nothing;
        T
    }
}

fn cleared(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer
}

/// Whether the instruction has an explicit memory operand.
pub fn has_memory(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|n| matches!(instruction.op_kind(n), OpKind::Memory))
}

/// Whether `code` is one of the forms with a 64-bit absolute offset (moffs).
fn is_moffs(code: Code) -> bool {
    matches!(
        code,
        Code::Mov_AL_moffs8
            | Code::Mov_AX_moffs16
            | Code::Mov_EAX_moffs32
            | Code::Mov_RAX_moffs64
            | Code::Mov_moffs8_AL
            | Code::Mov_moffs16_AX
            | Code::Mov_moffs32_EAX
            | Code::Mov_moffs64_RAX
    )
}
