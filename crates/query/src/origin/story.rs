//! The story of a value, from now down into the past.
//!
//! A *trail* is some of the value's bytes at a place and a moment. Memory is followed to its last
//! writers, a register to the instruction that defined it, and these to what they took the bytes
//! from. At each hop the bytes must be the same as before: where they are not, the story ends and
//! says so.

use std::ops::Range;
use std::rc::Rc;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpAccess, OpKind};
use model::{Address, Moment, Tid, gpr};

use super::definition::{self, Crossing, Definition, Found, Masks, Trust, Way, frame_at};
use super::hop::{Hop, HopKind, Operand, number, number_of};
use super::kernel;
use super::semantics::{Cell, Executed, From, State, Target};
use super::writers::{self, Written};
use crate::accesses::{Access, By};
use crate::ask::{Asked, Flow};
use crate::call_names;
use crate::effective::{Touched, touched};
use crate::engine::{Engine, Here};
use crate::eval::arguments;
use crate::failure::Failure;
use crate::frames::{Frame, Stack};
use crate::history::ChangeKind;
use crate::program::{Own, in_program, own_call, own_frame};
use crate::protocol::{Focus, FrameId, MomentText, Place};
use crate::questions::disassembled;
use crate::stretch::{FrameChange, FrameKind};
use crate::target::{Shape, hex};

/// Trails that wait at most: a value of many bytes from many places.
const TRAILS_MAX: usize = 4096;
/// Of memory that is zero because nobody has written to it.
const NEVER_WRITTEN: &str = "never written: zero since the program began";
/// execve and execveat.
const EXECUTES: [i32; 2] = [59, 322];
/// Copies between registers without a hop of their own, in a row.
const REGISTERS_MAX: usize = 10_000;

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    Memory { space: u32, address: Address },
    Register { cell: Cell, first: u8 },
}

/// Bytes of the value at a place, in front of a moment.
#[derive(Clone, Debug)]
pub struct Trail {
    /// Which bytes of the value. It may be fewer bytes that are followed: where a number was
    /// extended, its lower ones.
    pub bytes: Range<u64>,
    /// The content of those that are followed; it stays the same all the way.
    pub value: Vec<u8>,
    pub spot: Spot,
    pub tid: Tid,
    pub moment: Moment,
    /// Hops so far.
    pub depth: u32,
    /// A store whose value is being followed through registers, and calls that it passed: told
    /// when it is known what was stored.
    store: Option<Box<Store>>,
    /// Copies from register to register since the last hop.
    registers: usize,
}

#[derive(Clone, Debug)]
struct Store {
    hop: Hop,
    passed: Vec<Hop>,
    /// Where it was stored.
    space: u32,
    range: Range<Address>,
}

/// A read that is looked for on the way of a story that nobody is told.
#[derive(Debug)]
pub struct Sought {
    pub space: u32,
    pub range: Range<Address>,
    /// When it was read.
    pub found: Option<Moment>,
}

impl Trail {
    pub fn new(bytes: Range<u64>, value: Vec<u8>, spot: Spot, tid: Tid, moment: Moment) -> Trail {
        Trail { bytes, value, spot, tid, moment, depth: 0, store: None, registers: 0 }
    }

    /// Some of its bytes, counted from its own beginning.
    fn part(&self, part: &Range<u64>) -> Trail {
        let mut trail = self.clone();
        let end = match part.end == self.length() {
            true => self.bytes.end,
            false => self.bytes.start + part.end,
        };
        trail.bytes = self.bytes.start + part.start..end;
        trail.value = self.value[part.start as usize..part.end as usize].to_vec();
        trail.spot = match self.spot {
            Spot::Memory { space, address } => {
                Spot::Memory { space, address: address + part.start }
            }
            Spot::Register { cell, first } => {
                Spot::Register { cell, first: first + part.start as u8 }
            }
        };
        trail.relabel();
        trail
    }

    fn relabel(&mut self) {
        if let Some(store) = &mut self.store {
            for hop in [&mut store.hop].into_iter().chain(&mut store.passed) {
                hop.bytes = (self.bytes.start, self.bytes.end);
            }
        }
    }

    /// The part that a piece is about.
    fn piece(&self, piece: &Piece) -> Trail {
        let mut trail = self.part(&piece.range);
        if piece.extended == self.length() {
            trail.bytes.end = self.bytes.end;
            trail.relabel();
        }
        trail
    }

    fn length(&self) -> u64 {
        self.value.len() as u64
    }

    /// Where and when it was stored, of a value that is being followed through registers.
    pub(super) fn stored_at(&self) -> Option<(u32, Range<Address>, Moment)> {
        let store = self.store.as_ref()?;
        Some((store.space, store.range.clone(), store.hop.moment.0))
    }

    pub(super) fn warn(&mut self, warning: String) {
        if let Some(store) = &mut self.store {
            store.hop.warning = Some(warning);
        }
    }
}

/// What is still to be followed.
#[derive(Debug)]
enum Waiting {
    Trail(Trail),
    /// Memory with its last writer.
    Written(Trail, Box<Written>),
    /// A part of what an instruction wrote.
    Step(Box<Step>),
}

#[derive(Debug)]
struct Step {
    trail: Trail,
    from: From,
    definition: Rc<Definition>,
    state: Rc<State>,
    /// Of its first byte in what the instruction wrote.
    at: u64,
}

/// Neighbouring bytes of what an instruction wrote that come from one place.
#[derive(Clone, Debug)]
struct Piece {
    range: Range<u64>,
    /// Up to here they are an extension of these.
    extended: u64,
    from: From,
}

/// Tells a story, hop by hop.
#[derive(Debug)]
pub struct Story<'e, 'a, 'd> {
    pub engine: &'e mut Engine<'d>,
    pub asked: &'e mut Asked<'a>,
    pub shape: Shape,
    /// Of the whole value, in bytes.
    pub length: u64,
    /// Hops that may still be told.
    pub left: usize,
    pub masks: Masks,
    waiting: Vec<Waiting>,
    ended: bool,
    /// Nothing is told, if there is something.
    sought: Option<Sought>,
}

impl<'e, 'a, 'd> Story<'e, 'a, 'd> {
    pub fn new(
        engine: &'e mut Engine<'d>,
        asked: &'e mut Asked<'a>,
        shape: Shape,
        length: u64,
        limit: usize,
    ) -> Story<'e, 'a, 'd> {
        let (masks, waiting) = (Masks::default(), Vec::new());
        Story {
            engine,
            asked,
            shape,
            length,
            left: limit,
            masks,
            waiting,
            ended: false,
            sought: None,
        }
    }

    /// Follows trails quietly until memory is read that is sought.
    pub fn seek(mut self, trails: Vec<Trail>, sought: Sought) -> Result<Option<Moment>, Failure> {
        self.sought = Some(sought);
        self.tell(trails)?;
        Ok(self.sought.and_then(|sought| sought.found))
    }

    /// Follows trails to their ends, in order of their bytes.
    pub fn tell(&mut self, trails: Vec<Trail>) -> Result<(), Failure> {
        self.push(trails.into_iter().map(Waiting::Trail).collect());
        while let Some(next) = self.waiting.pop() {
            if self.ended || self.asked.is_interrupted() {
                break;
            }
            match next {
                Waiting::Step(step) => self.step(*step)?,
                Waiting::Written(trail, written) => self.written(trail, &written)?,
                Waiting::Trail(trail) => match trail.spot {
                    Spot::Memory { space, address } => self.memory(trail, space, address)?,
                    Spot::Register { cell, .. } => self.register(trail, cell)?,
                },
            }
        }
        Ok(())
    }

    pub(super) fn is_seeking(&self) -> bool {
        self.sought.is_some()
    }

    fn later(&mut self, trail: Trail) {
        self.push(vec![Waiting::Trail(trail)]);
    }

    fn push(&mut self, next: Vec<Waiting>) {
        self.waiting.extend(next.into_iter().rev());
        if self.waiting.len() > TRAILS_MAX {
            self.asked.exact = false;
            let drop = self.waiting.len() - TRAILS_MAX;
            self.waiting.drain(..drop);
        }
    }

    fn send(&mut self, hop: Hop) {
        if self.left == 0 {
            self.ended = true;
            self.asked.exact &= self.sought.is_some();
            return;
        }
        self.left -= 1;
        if self.sought.is_some() {
            return;
        }
        if self.asked.row(&hop) == Flow::Full {
            self.ended = true;
        }
    }

    /// A hop of a trail, with what all hops have.
    fn hop(&mut self, trail: &Trail, kind: HopKind, moment: Moment, text: String) -> Hop {
        let whole = trail.bytes.end - trail.bytes.start == self.length;
        let content: Vec<Option<u8>> = trail.value.iter().copied().map(Some).collect();
        // A part of a number is no number that anybody knows.
        let value = match whole {
            true => self.shape.text(&content),
            false => hex(&trail.value),
        };
        let task = number(self.engine, trail.tid, moment);
        Hop {
            depth: trail.depth,
            kind,
            bytes: (trail.bytes.start, trail.bytes.end),
            moment: MomentText(moment),
            task,
            place: Place::default(),
            frame: None,
            text,
            value,
            old: None,
            instruction: None,
            operands: Vec::new(),
            own: None,
            called: None,
            warning: None,
            focus: Focus::at(moment, task),
        }
    }

    /// What an instruction did.
    fn instruction_hop(
        &mut self,
        trail: &Trail,
        kind: HopKind,
        definition: &Definition,
        text: String,
    ) -> Hop {
        let Definition { moment, space, instruction, frame } = definition;
        let mut hop = self.hop(trail, kind, *moment, text);
        let address = Address(instruction.ip());
        let spot = self.engine.places.look(self.engine.db, *space, address, *moment);
        hop.place = spot.innermost();
        hop.frame = Some(FrameId { entry: frame.entry, inlined: spot.levels() as u32 - 1 });
        hop.focus.frame = hop.frame;
        hop.instruction = Some(disassembled(instruction));
        if !hop.place.own {
            let here = self.here(frame.tid, *moment);
            let own = own_call(self.engine, here).ok().filter(|own| own.place.own);
            if let Some(Own { place, called, .. }) = own {
                (hop.own, hop.called) = (Some(place), called);
            }
        }
        hop
    }

    /// Tells what was stored, now that it is known where it came from.
    fn tell_store(&mut self, trail: &mut Trail, kind: HopKind, from: Option<String>) {
        let Some(store) = trail.store.take() else { return };
        let Store { mut hop, passed, .. } = *store;
        hop.kind = kind;
        if let Some(from) = from {
            hop.text = from;
        }
        hop.depth = trail.depth;
        trail.depth += 1;
        self.send(hop);
        for mut hop in passed {
            hop.depth = trail.depth;
            trail.depth += 1;
            self.send(hop);
        }
    }

    /// Memory: its last writers.
    fn memory(&mut self, trail: Trail, space: u32, address: Address) -> Result<(), Failure> {
        let wanted = (space, address, trail.length());
        let Some(all) = writers::last(self.engine, self.asked, wanted, trail.moment)? else {
            return Ok(());
        };
        let parts = all.into_iter().map(|written| {
            let part = trail.part(&written.part);
            Waiting::Written(part, Box::new(written))
        });
        self.push(parts.collect());
        Ok(())
    }

    fn written(&mut self, mut trail: Trail, written: &Written) -> Result<(), Failure> {
        let Some(access) = &written.access else {
            return self.never_written(trail, written.address);
        };
        let same = access.new.iter().zip(&trail.value).all(|(new, byte)| *new == Some(*byte));
        if !same && !matches!(access.by, By::Mapping(_)) {
            return self.lost(trail, access.moment, "the bytes changed in a way that is not known");
        }
        self.bridge(&mut trail, access);
        match access.by {
            By::Mapping(kind) => self.mapped(trail, access, kind, written.address),
            By::Kernel(call) => self.kernel(trail, access, call, written.address),
            By::Instruction => self.stored(trail, access, written.address),
        }
    }

    /// The story goes on in another task.
    fn bridge(&mut self, trail: &mut Trail, access: &Access) {
        let loaded = match access.by {
            By::Mapping(_) => true,
            By::Kernel(call) => call.is_some_and(|call| EXECUTES.contains(&call)),
            By::Instruction => false,
        };
        if access.tid == trail.tid || loaded {
            return;
        }
        let history = &self.engine.db.history;
        let process = |tid, moment| history.task(tid, moment).map(|task| task.process);
        let same = process(access.tid, access.moment) == process(trail.tid, trail.moment);
        let (kind, how) = match same {
            true => (HopKind::Thread, "memory written by"),
            false => (HopKind::Process, "shared memory, or memory from before a fork, written by"),
        };
        trail.tid = access.tid;
        let text = format!("{how} {}", self.task_name(access.tid, access.moment));
        let mut hop = self.hop(trail, kind, access.moment, text);
        let place =
            self.engine.places.look(self.engine.db, access.space, access.rip, access.moment);
        hop.place = place.innermost();
        trail.depth += 1;
        self.send(hop);
    }

    fn task_name(&self, tid: Tid, moment: Moment) -> String {
        let task = self.engine.db.history.task(tid, moment);
        match task {
            Some(task) if task.name().is_empty() => format!("task {} ({tid})", task.number.0),
            Some(task) => format!("task {} ({}, {tid})", task.number.0, task.name()),
            None => format!("task {tid}"),
        }
    }

    /// An instruction wrote the memory.
    fn stored(&mut self, trail: Trail, access: &Access, address: Address) -> Result<(), Failure> {
        let frame = frame_at(self.engine, access.tid, access.moment)?;
        let state = self.state(access.tid, access.moment)?;
        let Some(instruction) = self.decode(access.tid, access.moment, access.rip)? else {
            return self.lost(trail, access.moment, "its code is not there any more");
        };
        let definition =
            Definition { moment: access.moment, space: access.space, instruction, frame };
        let all = touched(&definition.instruction, &state.registers);
        let Some(start) = start_of(&definition.instruction, &all, address, &state) else {
            return self.lost(trail, access.moment, "what it wrote is not known exactly");
        };
        // An exchange that did not take place wrote what was there.
        let instruction = &definition.instruction;
        let undone = instruction.mnemonic() == Mnemonic::Cmpxchg
            && access.old == access.new
            && instruction.op0_kind() == OpKind::Memory;
        let old: Vec<Option<u8>> = access.old.clone();
        let executed = Executed { instruction, state: &state };
        let offset = address - start;
        let length = trail.length();
        let target = Target::Memory(length);
        let pieces = pieces(length, |byte| match undone {
            true => From::Unchanged,
            false => executed.source(target, offset + byte),
        });
        let operands = self.address_operands(&definition, &state, OpAccess::Write);
        let what = self.stored_text(&trail, access, start, &all)?;
        let (definition, state) = (Rc::new(definition), Rc::new(state));
        let mut steps = Vec::new();
        for piece in pieces {
            let mut part = trail.piece(&piece);
            part.tid = access.tid;
            part.moment = access.moment;
            if piece.from == From::Unchanged {
                let address = address + piece.range.start;
                part.spot = Spot::Memory { space: access.space, address };
                steps.push(Waiting::Trail(part));
                continue;
            }
            let what = what.clone();
            let mut hop = self.instruction_hop(&part, HopKind::Stored, &definition, what);
            let before = old.get(piece.range.start as usize..piece.extended as usize);
            let before = before.unwrap_or_default();
            hop.old = before.iter().all(Option::is_some).then(|| self.text_of(before));
            hop.operands.clone_from(&operands);
            let from = address + piece.range.start;
            let range = from..from + part.length();
            let (space, passed) = (access.space, Vec::new());
            part.store = Some(Box::new(Store { hop, passed, space, range }));
            steps.push(Waiting::Step(Box::new(Step {
                trail: part,
                from: piece.from,
                definition: Rc::clone(&definition),
                state: Rc::clone(&state),
                at: offset + piece.range.start,
            })));
        }
        self.push(steps);
        Ok(())
    }

    /// What an instruction stored, as a whole.
    fn stored_text(
        &mut self,
        trail: &Trail,
        access: &Access,
        start: Address,
        all: &[Touched],
    ) -> Result<String, Failure> {
        let written = all.iter().find(|touched| touched.writes && touched.range.start == start);
        let length = written.map_or(0, |touched| touched.range.end - touched.range.start);
        if trail.length() == self.length || !(1..=8).contains(&length) {
            return Ok(String::new());
        }
        let mut bytes = [0; 8];
        let session = self.engine.at(access.moment + 1)?;
        let memory = session.space_id(access.tid).and_then(|space| session.memory_of(space));
        let read = memory.map(|memory| memory.read(start, &mut bytes[..length as usize]));
        if !matches!(read, Some(Ok(()))) {
            return Ok(String::new());
        }
        let unused = 64 - 8 * length as u32;
        let number = ((u64::from_le_bytes(bytes) << unused) as i64) >> unused;
        Ok(format!("stored {number}"))
    }

    fn text_of(&self, content: &[Option<u8>]) -> String {
        let whole = content.len() as u64 == self.length;
        match whole {
            true => self.shape.text(content),
            false => hex(&content.iter().copied().flatten().collect::<Vec<u8>>()),
        }
    }

    /// A register: what defined it.
    fn register(&mut self, trail: Trail, cell: Cell) -> Result<(), Failure> {
        let mut found = None;
        for trust in [Trust::Calls, Trust::Nobody] {
            let key = (trail.tid, cell);
            let next = definition::last(
                self.engine,
                self.asked,
                &mut self.masks,
                key,
                trail.moment,
                trust,
            )?;
            // What was kept must be what is there.
            let kept = match &next {
                Found::Defined(definition, _) => {
                    let content = self.content(&trail, definition.moment + 1)?;
                    content.as_deref() == Some(&trail.value[..])
                }
                _ => true,
            };
            if kept {
                found = Some(next);
                break;
            }
        }
        let Some(found) = found else {
            let moment = trail.moment;
            return self.lost(trail, moment, "the register changed in a way that is not known");
        };
        match found {
            Found::Defined(definition, crossings) => self.defined(trail, *definition, crossings),
            Found::Handler(frame, crossings) => {
                let trail = self.passed(trail, &crossings)?;
                let text = "set by the kernel for the handler of a signal".into();
                self.ends(trail, HopKind::Kernel, frame.entry, text)
            }
            Found::Began(moment, crossings) => {
                let trail = self.passed(trail, &crossings)?;
                self.began(trail, moment, cell)
            }
            Found::Interrupted => Ok(()),
        }
    }

    /// The trail's bytes, if it is a register, at another moment.
    fn content(&mut self, trail: &Trail, moment: Moment) -> Result<Option<Vec<u8>>, Failure> {
        let Spot::Register { cell, first } = trail.spot else { return Ok(None) };
        let state = self.state(trail.tid, moment)?;
        let range = usize::from(first)..usize::from(first) + trail.value.len();
        Ok(cell_bytes(&state, cell).and_then(|bytes| bytes.get(range).map(<[u8]>::to_vec)))
    }

    fn state(&mut self, tid: Tid, moment: Moment) -> Result<State, Failure> {
        state(self.engine, tid, moment)
    }

    fn decode(
        &mut self,
        tid: Tid,
        moment: Moment,
        address: Address,
    ) -> Result<Option<Instruction>, Failure> {
        let session = self.engine.at(moment)?;
        let Some(memory) = session.memory(tid) else { return Ok(None) };
        let mut code = [0; 15];
        let length =
            (1..=15).rev().find(|length| memory.read(address, &mut code[..*length]).is_ok());
        let Some(length) = length else { return Ok(None) };
        let code = &code[..length];
        let decoded = Decoder::with_ip(64, code, address.0, DecoderOptions::NONE).decode();
        Ok((!decoded.is_invalid()).then_some(decoded))
    }

    /// An instruction defined the register.
    fn defined(
        &mut self,
        trail: Trail,
        definition: Definition,
        crossings: Vec<Crossing>,
    ) -> Result<(), Failure> {
        let Spot::Register { cell, first } = trail.spot else { return Ok(()) };
        let trail = self.passed(trail, &crossings)?;
        let state = self.state(trail.tid, definition.moment)?;
        let executed = Executed { instruction: &definition.instruction, state: &state };
        let first = u64::from(first);
        let pieces =
            pieces(trail.length(), |byte| executed.source(Target::Register(cell), first + byte));
        let (definition, state) = (Rc::new(definition), Rc::new(state));
        let mut steps = Vec::new();
        for piece in pieces {
            let mut part = trail.piece(&piece);
            part.moment = definition.moment;
            steps.push(Waiting::Step(Box::new(Step {
                trail: part,
                from: piece.from,
                definition: Rc::clone(&definition),
                state: Rc::clone(&state),
                at: first + piece.range.start,
            })));
        }
        self.push(steps);
        Ok(())
    }

    /// Goes on from what an instruction took the bytes from; the trail is what it wrote.
    fn step(&mut self, step: Step) -> Result<(), Failure> {
        let Step { mut trail, from, definition, state, at } = step;
        let (definition, state) = (&*definition, &*state);
        match from {
            From::Unchanged => self.later(trail),
            From::Register(cell, first) => {
                trail.spot = Spot::Register { cell, first };
                trail.registers += 1;
                if trail.registers > REGISTERS_MAX {
                    self.asked.exact = false;
                } else {
                    self.later(trail);
                }
            }
            From::Memory(offset) => self.read(trail, definition, state, offset)?,
            From::Literal => {
                self.tell_store(&mut trail, HopKind::Stored, None);
                let text = literal(&definition.instruction, at);
                let hop = self.instruction_hop(&trail, HopKind::Source, definition, text);
                self.send(hop);
            }
            From::Computed | From::Extension
                if definition.instruction.mnemonic() == Mnemonic::Syscall =>
            {
                let call = state.registers.general[gpr::RAX] as i32;
                let text = format!("result of the system call {}", call_names::name(call));
                self.ends(trail, HopKind::Kernel, definition.moment, text)?;
            }
            From::Computed | From::Extension => {
                self.warn_of_races(&mut trail, definition, state)?;
                self.tell_store(&mut trail, HopKind::Stored, None);
                let (kind, text) = match computed(&definition.instruction) {
                    Some(text) => (HopKind::Source, text.to_owned()),
                    None => (HopKind::Computed, disassembled(&definition.instruction)),
                };
                let mut hop = self.instruction_hop(&trail, kind, definition, text);
                hop.operands = self.operands(definition, state);
                self.send(hop);
            }
        }
        Ok(())
    }

    /// Goes on with the memory that an instruction read.
    fn read(
        &mut self,
        mut trail: Trail,
        definition: &Definition,
        state: &State,
        offset: u64,
    ) -> Result<(), Failure> {
        let all = touched(&definition.instruction, &state.registers);
        let Some(read) = all.iter().find(|touched| touched.reads) else {
            return self.lost(trail, definition.moment, "what it read is not known");
        };
        // Iterations of a string instruction read as they write.
        let address = match definition.instruction.is_string_instruction() {
            true => Address(state.registers.general[gpr::RSI].wrapping_add(offset)),
            false => read.range.start + offset,
        };
        if let Some(sought) = &mut self.sought {
            let range = address..address + trail.length();
            let overlaps = range.start < sought.range.end && sought.range.start < range.end;
            if overlaps && sought.space == definition.space {
                sought.found = Some(definition.moment);
                self.ended = true;
                return Ok(());
            }
        }
        let text = format!("from memory at {address}");
        let operands = self.address_operands(definition, state, OpAccess::Read);
        match &mut trail.store {
            Some(store) => {
                store.hop.operands.extend(operands);
                self.tell_store(&mut trail, HopKind::Copied, Some(text));
            }
            None => {
                let mut hop = self.instruction_hop(&trail, HopKind::Copied, definition, text);
                hop.operands = operands;
                trail.depth += 1;
                self.send(hop);
            }
        }
        trail.registers = 0;
        trail.spot = Spot::Memory { space: definition.space, address };
        self.later(trail);
        Ok(())
    }

    /// Calls that the content went through.
    fn passed(&mut self, mut trail: Trail, crossings: &[Crossing]) -> Result<Trail, Failure> {
        for crossing in crossings {
            let Crossing { frame, way } = *crossing;
            if frame.kind != FrameKind::Call {
                continue;
            }
            let moment = frame.entry;
            let here = self.here(trail.tid, moment);
            let Spot::Register { cell, .. } = trail.spot else { break };
            if !carries(cell, way) {
                continue;
            }
            let (text, place) = self.call_text(here, &frame, way)?;
            let mut hop = self.hop(&trail, HopKind::Passed, moment, text);
            hop.place = place;
            hop.frame = Some(FrameId { entry: frame.entry, inlined: 0 });
            hop.focus.frame = hop.frame;
            match &mut trail.store {
                Some(store) => store.passed.push(hop),
                None => {
                    trail.depth += 1;
                    self.send(hop);
                }
            }
        }
        Ok(trail)
    }

    fn here(&self, tid: Tid, moment: Moment) -> Here {
        Here { moment, tid, task: number(self.engine, tid, moment) }
    }

    /// `make(serial=10)`, and where it was called.
    fn call_text(
        &mut self,
        here: Here,
        frame: &FrameChange,
        way: Way,
    ) -> Result<(String, Place), Failure> {
        let stack = Stack::innermost(self.engine, here, frame)?;
        let space = stack.space;
        let known: Frame = stack.frames[0];
        let spot = self.engine.places.look(self.engine.db, space, frame.function, here.moment);
        let function = spot.place(0).function;
        let name = function.unwrap_or_else(|| format!("{}", frame.function));
        let arguments = arguments(self.engine, here, space, &known)?;
        let list: Vec<String> = arguments.iter().map(|row| row.in_list()).collect();
        let call = format!("{name}({})", list.join(", "));
        let text = match way {
            Way::In => call,
            Way::Out => format!("returned by {call}"),
        };
        let word = {
            let session = self.engine.at(here.moment)?;
            session.memory(here.tid).and_then(|memory| memory.read_u64(frame.slot).ok())
        };
        let back = Address(word.unwrap_or_default().wrapping_sub(1));
        let place = self.engine.places.look(self.engine.db, space, back, here.moment).innermost();
        Ok((text, place))
    }

    /// The content was there when the task or its program began.
    fn began(&mut self, mut trail: Trail, moment: Moment, cell: Cell) -> Result<(), Failure> {
        self.tell_store(&mut trail, HopKind::Stored, None);
        let db = self.engine.db;
        let life = db.history.task(trail.tid, moment);
        let by_program = life.is_some_and(|life| {
            life.programs.iter().any(|program| program.moment == moment) || life.parent.is_none()
        });
        let parent = life.and_then(|life| life.parent);
        let parent = parent.and_then(|number| db.history.task_numbered(number));
        let Some(parent) = parent.filter(|_| !by_program) else {
            let text = "set when the program began".into();
            return self.ends(trail, HopKind::Source, moment, text);
        };
        if cell == Cell::General(gpr::RAX as u8) {
            let text = "result of the system call that made the task".into();
            return self.ends(trail, HopKind::Kernel, moment, text);
        }
        let threads = life.map(|life| life.process) == Some(parent.process);
        let kind = if threads { HopKind::Thread } else { HopKind::Process };
        let text = format!("copied from {}", self.task_name(parent.tid, moment));
        trail.tid = parent.tid;
        trail.moment = moment;
        let hop = self.hop(&trail, kind, moment, text);
        trail.depth += 1;
        self.send(hop);
        self.later(trail);
        Ok(())
    }

    /// The kernel wrote the memory.
    fn kernel(
        &mut self,
        mut trail: Trail,
        access: &Access,
        call: Option<i32>,
        address: Address,
    ) -> Result<(), Failure> {
        let name = call.map_or_else(|| "the kernel".to_owned(), call_names::name);
        if call.is_some_and(|call| EXECUTES.contains(&call)) {
            return self.loaded(trail, access, address);
        }
        let found = kernel::reader(self.engine, access.tid, address, access.moment)?;
        let Some(moved) = found else {
            let text = match call {
                Some(_) => format!("written by the system call {name}"),
                None => "written by the kernel".to_owned(),
            };
            let moment = access.moment;
            return self.ends_in_program(trail, HopKind::Kernel, moment, text);
        };
        let leaf = self.engine.leaf_at(moved.event.moment)?;
        let description = kernel::description(self.engine.db, leaf, moved.transfer.description)?;
        let what = kernel::described(description.as_ref());
        let from = moved.transfer.start + moved.at;
        let length = trail.length().min(moved.length);
        let descriptor = moved.transfer.descriptor;
        if length < trail.length() {
            let rest = trail.part(&(length..trail.length()));
            self.later(rest);
            trail = trail.part(&(0..length));
        }
        let place = match moved.transfer.offset {
            Some(offset) => format!("from offset {}", offset.value + moved.at),
            None => format!("byte {from} of the stream"),
        };
        let text = format!("{name}({descriptor}) from {what}, {place}");
        let begun = moved.transfer.begun;
        let writer = kernel::writer(self.engine, self.asked, &moved)?;
        let Some(writer) = writer else {
            return self.ends_in_program(trail, HopKind::Kernel, begun, text);
        };
        let mut hop = self.hop(&trail, HopKind::Kernel, begun, text);
        self.in_program(&mut hop, trail.tid, begun)?;
        trail.depth += 1;
        self.send(hop);
        self.given(trail, &writer, &what)
    }

    /// The memory is as it was when a program began.
    fn loaded(&mut self, trail: Trail, access: &Access, address: Address) -> Result<(), Failure> {
        let history = &self.engine.db.history;
        let mapped = history.mapped(access.space, address, access.moment);
        let text = match mapped {
            Some(mapped) if mapped.name.starts_with('/') => {
                let offset = mapped.offset + (address - mapped.range.start);
                format!("content of the file {} from offset {offset}", mapped.name)
            }
            Some(mapped) if &*mapped.name == "[stack]" => {
                // The program has what lies above the stack pointer that it begins with.
                let began = self.engine.at(access.moment + 1)?.registers(access.tid);
                let top = began.unwrap_or_default().general[gpr::RSP];
                match address.0 < top {
                    true => NEVER_WRITTEN.to_owned(),
                    false => "an argument or the environment of the program".to_owned(),
                }
            }
            _ if trail.value.iter().all(|byte| *byte == 0) => NEVER_WRITTEN.to_owned(),
            _ => "put there by execve".to_owned(),
        };
        let moment = trail.moment;
        let text = self.with_string(&trail, moment, address, text)?;
        self.ends(trail, HopKind::Source, access.moment, text)
    }

    /// If it is in a string of letters, the string.
    fn with_string(
        &mut self,
        trail: &Trail,
        moment: Moment,
        address: Address,
        text: String,
    ) -> Result<String, Failure> {
        const STRING_MAX: u64 = 200;
        if trail.value.iter().all(|byte| *byte == 0) && !text.starts_with("content") {
            return Ok(text);
        }
        let session = self.engine.at(moment)?;
        let Some(memory) = session.memory(trail.tid) else { return Ok(text) };
        let byte = |at: Address| {
            let mut byte = [0];
            memory.read(at, &mut byte).ok().map(|()| byte[0])
        };
        let is_text = |byte: Option<u8>| {
            byte.is_some_and(|byte| (b' '..=b'~').contains(&byte) || byte >= 0x80)
                || matches!(byte, Some(b'\n' | b'\t'))
        };
        let mut start = address;
        while address - start < STRING_MAX && is_text(byte(Address(start.0.wrapping_sub(1)))) {
            start = Address(start.0 - 1);
        }
        let mut content = Vec::new();
        while (content.len() as u64) < STRING_MAX
            && let Some(next) =
                byte(start + content.len() as u64).filter(|next| is_text(Some(*next)))
        {
            content.push(next);
        }
        let ends = byte(start + content.len() as u64) == Some(0);
        if content.len() < 2 || !ends {
            return Ok(text);
        }
        Ok(format!("{text}: {:?}", String::from_utf8_lossy(&content)))
    }

    /// Goes on in the memory of who gave the bytes to the kernel.
    fn given(
        &mut self,
        mut trail: Trail,
        writer: &kernel::Moved,
        what: &str,
    ) -> Result<(), Failure> {
        let begun = writer.transfer.begun;
        let tid = writer.event.tid;
        let place = kernel::memory_of(&writer.transfer, writer.at);
        let many = place.map_or(writer.length, |(_, length)| length).min(writer.length);
        if many < trail.length() {
            // The rest came by another write: found when it is asked about again.
            let mut rest = trail.part(&(many..trail.length()));
            rest.depth = rest.depth.saturating_sub(1);
            self.later(rest);
            trail = trail.part(&(0..many));
        }
        let history = &self.engine.db.history;
        let process = |tid, moment| history.task(tid, moment).map(|task| task.process);
        let kind = match process(tid, begun) == process(trail.tid, trail.moment) {
            _ if tid == trail.tid => HopKind::Kernel,
            true => HopKind::Thread,
            false => HopKind::Process,
        };
        let length = trail.length();
        trail.tid = tid;
        let call = writer.event.call.map_or_else(|| "write".to_owned(), call_names::name);
        let name = self.task_name(tid, begun);
        let descriptor = writer.transfer.descriptor;
        let text = format!("{what}, {length} bytes, {call}({descriptor}) by {name}");
        let mut hop = self.hop(&trail, kind, begun, text);
        self.in_program(&mut hop, tid, begun)?;
        trail.depth += 1;
        self.send(hop);
        let space = self.engine.at(begun)?.space_id(tid);
        let (Some((address, _)), Some(space)) = (place, space) else { return Ok(()) };
        trail.spot = Spot::Memory { space: space.0, address };
        trail.moment = begun;
        self.later(trail);
        Ok(())
    }

    /// Where the program was, not the recorder's library.
    fn in_program(&mut self, hop: &mut Hop, tid: Tid, moment: Moment) -> Result<(), Failure> {
        let here = self.here(tid, moment);
        let here = in_program(self.engine, here)?;
        if let Ok((frame, place)) = own_frame(self.engine, here) {
            hop.place = place;
            hop.frame = Some(frame);
        }
        hop.focus = Focus { frame: hop.frame, ..Focus::at(here.moment, here.task) };
        Ok(())
    }

    /// The memory became what it was by a mapping.
    fn mapped(
        &mut self,
        trail: Trail,
        access: &Access,
        kind: ChangeKind,
        address: Address,
    ) -> Result<(), Failure> {
        let history = self.engine.db.history.spaces.get(&access.space);
        let change = history.and_then(|history| {
            let changes = history.changes.iter();
            let mut of = changes
                .filter(|change| change.moment == access.moment && change.range.contains(&address));
            of.next_back().cloned()
        });
        if let (ChangeKind::Moved { from }, Some(change)) = (kind, &change) {
            let mut trail = trail;
            let old = from + (address - change.range.start);
            let text = format!("moved from {old} by mremap");
            let hop = self.hop(&trail, HopKind::Copied, access.moment, text);
            trail.depth += 1;
            self.send(hop);
            trail.spot = Spot::Memory { space: access.space, address: old };
            trail.moment = Moment(access.moment.0.saturating_sub(1));
            self.later(trail);
            return Ok(());
        }
        let text = match (kind, change) {
            (ChangeKind::Mapped, Some(change)) if change.name.starts_with('/') => {
                let offset = change.offset + (address - change.range.start);
                format!("content of the file {} from offset {offset}", change.name)
            }
            (ChangeKind::Mapped, Some(change)) if !change.name.is_empty() => {
                format!("never written: {} is zero when it is mapped", change.name)
            }
            (ChangeKind::Discarded, _) => "discarded: zero by madvise".into(),
            _ => "never written: zero when it was mapped".into(),
        };
        let moment = trail.moment;
        let text = self.with_string(&trail, moment, address, text)?;
        self.ends_in_program(trail, HopKind::Source, access.moment, text)
    }

    fn never_written(&mut self, trail: Trail, address: Address) -> Result<(), Failure> {
        let moment = trail.moment;
        let Spot::Memory { space, .. } = trail.spot else { return Ok(()) };
        let mapped = self.engine.db.history.mapped(space, address, moment);
        let text = match mapped {
            Some(mapped) if mapped.name.starts_with('/') => {
                let offset = mapped.offset + (address - mapped.range.start);
                format!("content of the file {} from offset {offset}", mapped.name)
            }
            _ => "never written".to_owned(),
        };
        self.ends(trail, HopKind::Source, moment, text)
    }

    fn ends(
        &mut self,
        mut trail: Trail,
        kind: HopKind,
        moment: Moment,
        text: String,
    ) -> Result<(), Failure> {
        self.tell_store(&mut trail, HopKind::Stored, None);
        let hop = self.hop(&trail, kind, moment, text);
        self.send(hop);
        Ok(())
    }

    fn ends_in_program(
        &mut self,
        mut trail: Trail,
        kind: HopKind,
        moment: Moment,
        text: String,
    ) -> Result<(), Failure> {
        self.tell_store(&mut trail, HopKind::Stored, None);
        let mut hop = self.hop(&trail, kind, moment, text);
        self.in_program(&mut hop, trail.tid, moment)?;
        self.send(hop);
        Ok(())
    }

    /// It cannot be followed further: said, not guessed.
    fn lost(&mut self, trail: Trail, moment: Moment, why: &str) -> Result<(), Failure> {
        self.asked.exact = false;
        let mut trail = trail;
        self.tell_store(&mut trail, HopKind::Stored, None);
        let mut hop = self.hop(&trail, HopKind::Source, moment, "not followed further".into());
        hop.warning = Some(why.to_owned());
        self.send(hop);
        Ok(())
    }

    /// The registers that make the address of what is read or written.
    fn address_operands(
        &mut self,
        definition: &Definition,
        state: &State,
        access: OpAccess,
    ) -> Vec<Operand> {
        let instruction = &definition.instruction;
        let string = instruction.is_string_instruction();
        let registers = match (string, access) {
            (true, OpAccess::Write) => vec![iced_x86::Register::RDI],
            (true, _) => vec![iced_x86::Register::RSI],
            _ => vec![instruction.memory_base(), instruction.memory_index()],
        };
        let task = number(self.engine, definition.frame.tid, definition.moment);
        let role = if access == OpAccess::Write { "address written" } else { "address read" };
        let operands = registers.into_iter().filter_map(|register| {
            let at = crate::effective::general(register)?;
            // What the stack pointer is, nobody asks.
            if at == gpr::RSP || at == gpr::RBP {
                return None;
            }
            Some(Operand::register(register, state, role, definition.moment, task))
        });
        operands.collect()
    }

    /// What an instruction computed from.
    fn operands(&mut self, definition: &Definition, state: &State) -> Vec<Operand> {
        let instruction = &definition.instruction;
        let mut factory = iced_x86::InstructionInfoFactory::new();
        let info = factory.info(instruction);
        let task = number(self.engine, definition.frame.tid, definition.moment);
        let moment = definition.moment;
        let mut operands: Vec<Operand> = Vec::new();
        for index in 0..instruction.op_count() {
            let reads = matches!(
                info.op_access(index),
                OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            if reads && instruction.op_kind(index) == OpKind::Register {
                let register = instruction.op_register(index);
                operands.push(Operand::register(register, state, "", moment, task));
            }
        }
        for used in touched(instruction, &state.registers).iter().filter(|used| used.reads) {
            let length = (used.range.end - used.range.start).min(64);
            let mut bytes = vec![0; length as usize];
            let read = self.engine.at(moment).ok().and_then(|session| {
                session.memory(definition.frame.tid)?.read(used.range.start, &mut bytes).ok()
            });
            let value = read.map(|()| number_of(&bytes)).unwrap_or_default();
            operands.push(Operand::memory(used.range.start, length, value, moment, task));
        }
        let address = self.address_operands(definition, state, OpAccess::Read);
        if instruction.mnemonic() == Mnemonic::Lea {
            operands.extend(address.into_iter().map(|operand| operand.without_role()));
        } else if instruction.memory_size() != iced_x86::MemorySize::Unknown {
            operands.extend(address);
        }
        let mut seen: Vec<String> = Vec::new();
        operands.retain(|operand| {
            let new = !seen.contains(&operand.data);
            seen.push(operand.data.clone());
            new
        });
        operands
    }
}

/// A task's registers at a moment.
pub fn state(engine: &mut Engine<'_>, tid: Tid, moment: Moment) -> Result<State, Failure> {
    let session = engine.at(moment)?;
    let registers = session.registers(tid).unwrap_or_default();
    Ok(State { registers, vectors: session.vector_registers(tid) })
}

/// All bytes of a register.
pub fn cell_bytes(state: &State, cell: Cell) -> Option<Vec<u8>> {
    match cell {
        Cell::General(number) => {
            let value = state.registers.general.get(usize::from(number))?;
            Some(value.to_le_bytes().to_vec())
        }
        Cell::Vector(number) => {
            let vectors = state.vectors.as_ref()?;
            Some(vectors.vector.get(usize::from(number))?.0.to_vec())
        }
    }
}

/// Neighbours that come from neighbouring bytes of one place, together.
fn pieces(length: u64, from: impl Fn(u64) -> From) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::new();
    for byte in 0..length {
        let next = from(byte);
        if let Some(piece) = all.last_mut() {
            let distance = byte - piece.range.start;
            let goes_on = match (piece.from, next) {
                (From::Register(cell, from), From::Register(other, to)) => {
                    cell == other && u64::from(from) + distance == u64::from(to)
                }
                (From::Memory(from), From::Memory(to)) => from + distance == to,
                (one, other) => one == other,
            };
            if goes_on && piece.extended == piece.range.end {
                piece.range.end = byte + 1;
                piece.extended = byte + 1;
                continue;
            }
            if next == From::Extension && piece.from != From::Unchanged {
                piece.extended = byte + 1;
                continue;
            }
        }
        all.push(Piece { range: byte..byte + 1, extended: byte + 1, from: next });
    }
    all
}

/// Where the operand begins that an instruction wrote a byte of.
fn start_of(
    instruction: &Instruction,
    all: &[Touched],
    address: Address,
    state: &State,
) -> Option<Address> {
    if instruction.is_string_instruction() {
        return Some(Address(state.registers.general[gpr::RDI]));
    }
    let mut written = all.iter().filter(|touched| touched.writes);
    let holds = written.clone().find(|touched| touched.range.contains(&address));
    // State that is saved has no size of its own.
    let only = || written.next().filter(|touched| touched.range.start <= address);
    holds.or_else(only).map(|touched| touched.range.start)
}

/// Whether a register carries arguments into calls, or results out of them (psABI, 3.2.3).
fn carries(cell: Cell, way: Way) -> bool {
    const ARGUMENTS: [usize; 6] = [gpr::RDI, gpr::RSI, gpr::RDX, gpr::RCX, gpr::R8, gpr::R9];
    const RESULTS: [usize; 2] = [gpr::RAX, gpr::RDX];
    match (cell, way) {
        (Cell::General(number), Way::In) => ARGUMENTS.contains(&usize::from(number)),
        (Cell::General(number), Way::Out) => RESULTS.contains(&usize::from(number)),
        (Cell::Vector(number), Way::In) => number < 8,
        (Cell::Vector(number), Way::Out) => number < 2,
    }
}

/// What an instruction says itself.
fn literal(instruction: &Instruction, at: u64) -> String {
    let immediate = (0..instruction.op_count()).rev().find(|index| {
        matches!(
            instruction.op_kind(*index),
            OpKind::Immediate8
                | OpKind::Immediate16
                | OpKind::Immediate32
                | OpKind::Immediate64
                | OpKind::Immediate8to16
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate32to64
        )
    });
    match (instruction.mnemonic(), immediate) {
        (Mnemonic::Mov | Mnemonic::Push, Some(index)) if at < 8 => {
            let value = instruction.immediate(index);
            let size = match instruction.op0_kind() {
                OpKind::Register => instruction.op0_register().size(),
                _ => instruction.memory_size().size(),
            };
            let unused = 64 - 8 * size.clamp(1, 8) as u32;
            format!("literal {}", ((value << unused) as i64) >> unused)
        }
        (Mnemonic::Lea, _) => {
            format!("the address {:#x}", instruction.ip_rel_memory_address())
        }
        (Mnemonic::Call, _) => "the return address of a call".into(),
        _ => "set to zero".into(),
    }
}

/// Sources that are no arithmetic.
fn computed(instruction: &Instruction) -> Option<&'static str> {
    use Mnemonic as M;
    Some(match instruction.mnemonic() {
        M::Rdtsc | M::Rdtscp => "the time stamp counter",
        M::Rdrand | M::Rdseed => "a random number of the processor",
        M::Cpuid => "what the processor says of itself",
        _ => return None,
    })
}
