//! Hops of instructions: what they stored, where they had it from, what they computed it from.

use std::rc::Rc;

use iced_x86::{Instruction, Mnemonic, OpAccess, OpKind};
use model::{Address, gpr};

use super::trail::{Store, Trail, pieces};
use super::{REGISTERS_MAX, Spot, Step, Story, Waiting};
use crate::accesses::Access;
use crate::call_names;
use crate::effective::{Touched, touched};
use crate::failure::Failure;
use crate::origin::definition::{Crossing, Definition, frame_at};
use crate::origin::hop::{HopKind, Operand, number, number_of};
use crate::origin::semantics::{Cell, Executed, From, State, Target};
use crate::questions::disassembled;

impl Story<'_, '_, '_> {
    /// An instruction wrote the memory.
    pub(super) fn stored(
        &mut self,
        trail: Trail,
        access: &Access,
        address: Address,
    ) -> Result<(), Failure> {
        let frame = frame_at(self.engine, access.tid, access.moment)?;
        let state = self.state(access.tid, access.moment)?;
        let Some(instruction) = self.decode(access.tid, access.moment, access.rip)? else {
            return self.lost(trail, access.moment, "its code is not there any more");
        };
        let definition =
            Definition { moment: access.moment, space: access.space, instruction, frame };
        let all = touched(&definition.instruction, &state.registers);
        // Which bytes they write is told by a vector's signs.
        if is_masked(definition.instruction.mnemonic()) {
            return self.lost(trail, access.moment, "masked stores are not followed");
        }
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
    pub(super) fn stored_text(
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

    /// An instruction defined the register.
    pub(super) fn defined(
        &mut self,
        trail: Trail,
        definition: Definition,
        crossings: Vec<Crossing>,
    ) -> Result<(), Failure> {
        let Spot::Register { cell, first } = trail.spot else { return Ok(()) };
        let mut trail = self.passed(trail, &crossings)?;
        // An exchange that took place has left the accumulator alone.
        let exchanged = definition.instruction.mnemonic() == Mnemonic::Cmpxchg
            && cell == Cell::General(gpr::RAX as u8)
            && self.content(&trail, definition.moment)?.as_ref() == Some(&trail.value);
        if exchanged {
            trail.moment = definition.moment;
            self.later(trail);
            return Ok(());
        }
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
    pub(super) fn step(&mut self, step: Step) -> Result<(), Failure> {
        let Step { mut trail, from, definition, state, at } = step;
        let (definition, state) = (&*definition, &*state);
        match from {
            From::Unchanged => self.later(trail),
            From::Register(cell, first) => {
                trail.spot = Spot::Register { cell, first };
                trail.registers += 1;
                if trail.registers > REGISTERS_MAX {
                    return self.lost(
                        trail,
                        definition.moment,
                        "it went through too many registers",
                    );
                }
                self.later(trail);
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
    pub(super) fn read(
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

    /// The registers that make the address of what is read or written.
    pub(super) fn address_operands(
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
    pub(super) fn operands(&mut self, definition: &Definition, state: &State) -> Vec<Operand> {
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

/// Stores of some bytes of a vector, chosen by the signs of another one.
fn is_masked(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Vmaskmovps
            | M::Vmaskmovpd
            | M::Vpmaskmovd
            | M::Vpmaskmovq
            | M::Maskmovq
            | M::Maskmovdqu
            | M::Vmaskmovdqu
    )
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
