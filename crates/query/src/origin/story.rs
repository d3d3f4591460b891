//! The story of a value, from now down into the past.
//!
//! A *trail* is some of the value's bytes at a place and a moment. Memory is followed to its last
//! writers, a register to the instruction that defined it, and these to what they took the bytes
//! from. At each hop the bytes must be the same as before: where they are not, the story ends and
//! says so.

mod calls;
mod instructions;
mod sources;
mod trail;

use std::ops::Range;
use std::rc::Rc;

use iced_x86::{Decoder, DecoderOptions, Instruction};
use model::{Address, Moment, Tid};

pub use trail::{Spot, Trail};

use super::definition::{self, Definition, Found, Masks, Trust};
use super::hop::{Hop, HopKind, number};
use super::semantics::{Cell, From, State};
use super::writers::{self, Written};
use crate::accesses::{Access, By};
use crate::ask::{Asked, Flow};
use crate::engine::{Engine, Here};
use crate::failure::Failure;
use crate::program::{Own, own_call};
use crate::protocol::{Focus, FrameId, MomentText, Place};
use crate::questions::disassembled;
use crate::target::{Shape, hex};
use trail::Store;

/// Trails that wait at most: a value of many bytes from many places.
const TRAILS_MAX: usize = 4096;
/// Of memory that is zero because nobody has written to it.
const NEVER_WRITTEN: &str = "never written: zero since the program began";
/// execve and execveat.
const EXECUTES: [i32; 2] = [59, 322];
/// Copies between registers without a hop of their own, in a row.
const REGISTERS_MAX: usize = 10_000;

/// A read that is looked for on the way of a story that nobody is told.
#[derive(Debug)]
pub struct Sought {
    pub space: u32,
    pub range: Range<Address>,
    /// When it was read.
    pub found: Option<Moment>,
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

/// Tells a story, hop by hop.
#[derive(Debug)]
pub struct Story<'e, 'a, 'd> {
    pub engine: &'e mut Engine<'d>,
    pub asked: &'e mut Asked<'a>,
    pub shape: Shape,
    /// Of the whole value, in bytes.
    pub length: u64,
    /// Hops that earlier pages have told.
    skip: usize,
    /// Hops that may still be told.
    left: usize,
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
        (skip, limit): (usize, usize),
    ) -> Story<'e, 'a, 'd> {
        let (masks, waiting) = (Masks::default(), Vec::new());
        Story {
            engine,
            asked,
            shape,
            length,
            skip,
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

    /// Something was left out. Of a story that nobody is told, nobody cares.
    fn note_inexact(&mut self) {
        self.asked.exact &= self.is_seeking();
    }

    fn later(&mut self, trail: Trail) {
        self.push(vec![Waiting::Trail(trail)]);
    }

    fn push(&mut self, next: Vec<Waiting>) {
        self.waiting.extend(next.into_iter().rev());
        if self.waiting.len() > TRAILS_MAX {
            self.note_inexact();
            let drop = self.waiting.len() - TRAILS_MAX;
            self.waiting.drain(..drop);
        }
    }

    fn send(&mut self, hop: Hop) {
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        if self.left == 0 {
            self.ended = true;
            self.note_inexact();
            return;
        }
        self.left -= 1;
        if self.is_seeking() {
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
        if self.is_seeking() {
            return hop;
        }
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

    fn here(&self, tid: Tid, moment: Moment) -> Here {
        Here { moment, tid, task: number(self.engine, tid, moment) }
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

    /// It cannot be followed further: said, not guessed.
    fn lost(&mut self, trail: Trail, moment: Moment, why: &str) -> Result<(), Failure> {
        self.note_inexact();
        let mut trail = trail;
        self.tell_store(&mut trail, HopKind::Stored, None);
        let mut hop = self.hop(&trail, HopKind::Source, moment, "not followed further".into());
        hop.warning = Some(why.to_owned());
        self.send(hop);
        Ok(())
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
