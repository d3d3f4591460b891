//! Evaluates DWARF expressions (DWARF 5, 2.5) in a frame.

use std::cell::Cell;
use std::sync::Arc;

use gimli::{
    AttributeValue, DieReference, EvaluationResult, Expression, LittleEndian, UnitOffset, Value,
    ValueType, constants,
};
use model::Address;

use crate::debug::{Debug, UnitId};
use crate::die::DieId;
use crate::error::Error;
use crate::frame::{Frame, Location, Piece, Place};
use crate::units::R;

/// Operations of one expression.
const OPERATIONS_MAX: u32 = 10_000;
/// Expressions that one may need in turn: frame bases, entry values.
const EXPRESSIONS_MAX: u32 = 200;
/// Pieces of one value.
const PIECES_MAX: usize = 10_000;
/// What expressions outside of units are written in: those of unwinding.
const PLAIN: gimli::Encoding =
    gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };

/// Where and for what an expression is evaluated.
#[derive(Clone)]
pub(crate) struct Context<'d, 'a, 'f> {
    pub debug: &'d Debug<'a>,
    /// The unit that the expression is in, for types and indexed addresses.
    pub unit: Option<UnitId>,
    /// In the file, of the frame's next instruction; of the call in frames that called.
    pub address: u64,
    pub frame: &'f dyn Frame,
    left: &'f Cell<u32>,
}

/// Counts what evaluation of one question may still do.
pub(crate) fn budget() -> Cell<u32> {
    Cell::new(EXPRESSIONS_MAX)
}

/// Result of an expression: where something is, or just a number.
struct Outcome<'a> {
    pieces: Vec<gimli::Piece<R<'a>>>,
    value: Option<Value>,
}

impl<'d, 'a, 'f> Context<'d, 'a, 'f> {
    pub fn new(
        debug: &'d Debug<'a>,
        unit: Option<UnitId>,
        address: u64,
        frame: &'f dyn Frame,
        left: &'f Cell<u32>,
    ) -> Self {
        Context { debug, unit, address, frame, left }
    }

    /// Where an expression says that something is.
    pub fn location(&self, expression: R<'a>) -> Result<Location, Error> {
        if expression.is_empty() {
            return Ok(Location::single(Place::OptimisedOut));
        }
        let outcome = self.run(expression, None)?;
        let pieces = outcome.pieces.into_iter().map(|piece| self.piece(piece));
        Ok(Location { pieces: pieces.collect() })
    }

    /// The number that an expression computes; of a place that is a register, what is in it.
    pub fn number(&self, expression: R<'a>, initial: Option<u64>) -> Result<u64, Error> {
        let value = self.value(expression, initial)?;
        value.to_u64(u64::MAX).map_err(|error| self.wrong(error))
    }

    fn value(&self, expression: R<'a>, initial: Option<u64>) -> Result<Value, Error> {
        let outcome = self.run(expression, initial)?;
        if let Some(value) = outcome.value {
            return Ok(value);
        }
        match &outcome.pieces[..] {
            [piece] => match piece.location {
                gimli::Location::Register { register } => self.register(register, None),
                gimli::Location::Value { value } => Ok(value),
                gimli::Location::Address { address } => Ok(Value::Generic(address)),
                gimli::Location::Bytes { value } => Ok(Value::Generic(low_bytes(value.slice()))),
                _ => Err(self.unsupported("an expression without a value")),
            },
            _ => Err(self.unsupported("a number in pieces")),
        }
    }

    fn piece(&self, piece: gimli::Piece<R<'a>>) -> Piece {
        let place = match piece.location {
            gimli::Location::Empty => Place::OptimisedOut,
            gimli::Location::Register { register } => Place::Register(register.0),
            gimli::Location::Address { address } => Place::Memory(Address(address)),
            gimli::Location::Value { value } => Place::Value(bytes(value)),
            gimli::Location::Bytes { value } => Place::Value(value.slice().to_vec()),
            gimli::Location::ImplicitPointer { value, byte_offset } => {
                let target = self
                    .unit
                    .and_then(|unit| self.debug.target(unit, AttributeValue::DebugInfoRef(value)));
                match target {
                    Some(to) => Place::ImplicitPointer { to, offset: byte_offset },
                    None => Place::OptimisedOut,
                }
            }
        };
        Piece { bits: piece.size_in_bits, first_bit: piece.bit_offset.unwrap_or(0), place }
    }

    fn run(&self, expression: R<'a>, initial: Option<u64>) -> Result<Outcome<'a>, Error> {
        let limit = u64::from(EXPRESSIONS_MAX);
        let what = "the number of expressions that one needs";
        let left = self.left.get().checked_sub(1).ok_or(Error::Limit { what, limit })?;
        self.left.set(left);
        let unit = self.unit.map(|unit| self.debug.unit(unit)).transpose()?;
        let encoding = unit.as_ref().map_or(PLAIN, |unit| unit.encoding());
        let mut evaluation = Expression(expression).evaluation(encoding);
        evaluation.set_max_iterations(OPERATIONS_MAX);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
            evaluation.set_object_address(initial);
        }
        let wrong = |error| self.wrong(error);
        let mut result = evaluation.evaluate().map_err(wrong)?;
        loop {
            let next = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresMemory { address, size, base_type, .. } => {
                    let type_ = self.value_type(base_type)?;
                    evaluation.resume_with_memory(self.memory(address, size, type_)?)
                }
                EvaluationResult::RequiresRegister { register, base_type } => {
                    let type_ = self.value_type(base_type)?;
                    evaluation.resume_with_register(self.register(register, Some(type_))?)
                }
                EvaluationResult::RequiresFrameBase => {
                    evaluation.resume_with_frame_base(self.frame_base()?)
                }
                EvaluationResult::RequiresTls(offset) => {
                    let address = self.frame.thread_local(offset);
                    let address = address.ok_or_else(|| missing("thread-local variables"))?;
                    evaluation.resume_with_tls(address.0)
                }
                EvaluationResult::RequiresCallFrameCfa => {
                    evaluation.resume_with_call_frame_cfa(self.cfa()?.0)
                }
                EvaluationResult::RequiresAtLocation(reference) => {
                    evaluation.resume_with_at_location(self.called(reference)?)
                }
                EvaluationResult::RequiresEntryValue(expression) => {
                    evaluation.resume_with_entry_value(self.entry_value(expression.0)?)
                }
                EvaluationResult::RequiresRelocatedAddress(address) => {
                    let address = address.wrapping_add(self.frame.bias());
                    evaluation.resume_with_relocated_address(address)
                }
                EvaluationResult::RequiresIndexedAddress { index, relocate } => {
                    let address = self.indexed_address(index)?;
                    let bias = if relocate { self.frame.bias() } else { 0 };
                    evaluation.resume_with_indexed_address(address.wrapping_add(bias))
                }
                EvaluationResult::RequiresBaseType(offset) => {
                    evaluation.resume_with_base_type(self.value_type(offset)?)
                }
                EvaluationResult::RequiresParameterRef(_) => {
                    return Err(self.unsupported("a parameter of the caller"));
                }
                _ => return Err(self.unsupported("an operation of another machine")),
            };
            result = next.map_err(wrong)?;
        }
        let value = evaluation.value_result();
        let pieces = evaluation.result();
        if pieces.len() > PIECES_MAX {
            return Err(Error::Limit { what: "the number of pieces", limit: PIECES_MAX as u64 });
        }
        Ok(Outcome { pieces, value })
    }

    fn wrong(&self, error: gimli::Error) -> Error {
        match error {
            gimli::Error::UnsupportedTypeOperation => self.unsupported("arithmetic of a wide type"),
            error => Error::Broken { place: self.place(), what: error.to_string() },
        }
    }

    fn unsupported(&self, what: &str) -> Error {
        Error::Unsupported { place: self.place(), what: what.to_owned() }
    }

    fn place(&self) -> String {
        match self.unit {
            Some(unit) => format!("an expression of {}", self.debug.place(unit, 0)),
            None => format!("unwinding at {:#x}", self.address),
        }
    }

    fn memory(&self, address: u64, size: u8, type_: ValueType) -> Result<Value, Error> {
        let mut bytes = [0; 8];
        let part =
            bytes.get_mut(..usize::from(size)).ok_or_else(|| self.unsupported("wide memory"))?;
        if !self.frame.memory(Address(address), part) {
            return Err(Error::Frame(format!("memory at {address:#x}")));
        }
        if type_ == ValueType::Generic {
            return Ok(Value::Generic(u64::from_le_bytes(bytes)));
        }
        Value::parse(type_, R::new(&bytes, LittleEndian)).map_err(|error| self.wrong(error))
    }

    fn register(
        &self,
        register: gimli::Register,
        type_: Option<ValueType>,
    ) -> Result<Value, Error> {
        let value = self.frame.register(register.0);
        let value = value.ok_or_else(|| missing(&format!("register {}", register.0)))?;
        match type_ {
            None | Some(ValueType::Generic) => Ok(Value::Generic(value as u64)),
            Some(type_) => Value::parse(type_, R::new(&value.to_le_bytes(), LittleEndian))
                .map_err(|error| self.wrong(error)),
        }
    }

    /// A base type, for arithmetic. 0 is the type of addresses.
    fn value_type(&self, offset: UnitOffset) -> Result<ValueType, Error> {
        if offset.0 == 0 {
            return Ok(ValueType::Generic);
        }
        let unit = self.unit.ok_or_else(|| self.unsupported("a type outside of a unit"))?;
        let die = self.debug.die(DieId::new(unit, offset.0))?;
        let size = die.number(constants::DW_AT_byte_size);
        let type_ = match (die.entry.attr_value(constants::DW_AT_encoding), size) {
            (Some(AttributeValue::Encoding(encoding)), Some(size)) => {
                ValueType::from_encoding(encoding, size)
            }
            _ => None,
        };
        type_.ok_or_else(|| self.unsupported("arithmetic of a wide type"))
    }

    /// `DW_AT_frame_base` of the function that the frame executes.
    fn frame_base(&self) -> Result<u64, Error> {
        let absent = || Error::Frame(format!("function with a frame base at {:#x}", self.address));
        let (unit, functions) = self.debug.functions_at(self.address).ok_or_else(absent)?;
        let (function, _) = functions.at(self.address).ok_or_else(absent)?;
        let dies = self.debug.origins(self.debug.die(DieId::new(unit, function.offset))?);
        let base = crate::die::first(&dies, constants::DW_AT_frame_base);
        let (die, value) = base.ok_or_else(absent)?;
        let expression = self.debug.expression_at(die, value, self.address)?;
        let context = Context { unit: Some(die.id.unit), ..self.clone() };
        context.number(expression.ok_or_else(absent)?, None)
    }

    fn cfa(&self) -> Result<Address, Error> {
        match self.frame.cfa() {
            Some(cfa) => Ok(cfa),
            None => self.debug.cfa(self.address, self.frame, self.left),
        }
    }

    /// The expression that `DW_OP_call` means: the place of another entry.
    fn called(&self, reference: DieReference) -> Result<R<'a>, Error> {
        let unit = self.unit.ok_or_else(|| self.unsupported("a call outside of a unit"))?;
        let id = match reference {
            DieReference::UnitRef(offset) => Some(DieId::new(unit, offset.0)),
            DieReference::DebugInfoRef(offset) => {
                self.debug.target(unit, AttributeValue::DebugInfoRef(offset))
            }
        };
        let id = id.ok_or_else(|| Error::Absent(format!("entry called in {}", self.place())))?;
        let die = self.debug.die(id)?;
        // DWARF 5, 2.5.1.5: without a location nothing happens.
        let Some(value) = die.entry.attr_value(constants::DW_AT_location) else {
            return Ok(R::new(&[], LittleEndian));
        };
        let expression = self.debug.expression_at(&die, value, self.address)?;
        Ok(expression.unwrap_or(R::new(&[], LittleEndian)))
    }

    /// What an expression was when the function was entered.
    fn entry_value(&self, expression: R<'a>) -> Result<Value, Error> {
        let frame = self.frame.entry().ok_or_else(|| missing("values at the function's entry"))?;
        let entry = self.debug.function_entry(self.address);
        let address = entry.map_or(self.address, |(_, start, _)| start);
        let context = Context { frame, address, ..self.clone() };
        context.value(expression, None)
    }

    fn indexed_address(&self, index: gimli::DebugAddrIndex) -> Result<u64, Error> {
        let id = self.unit.ok_or_else(|| self.unsupported("an index outside of a unit"))?;
        let unit: Arc<gimli::Unit<R<'a>>> = self.debug.unit(id)?;
        let address = self.debug.dwarf(id)?.address(&unit, index);
        address.map_err(|error| self.wrong(error))
    }
}

fn missing(what: &str) -> Error {
    Error::Frame(what.to_owned())
}

pub(crate) fn low_bytes(bytes: &[u8]) -> u64 {
    let mut low = [0; 8];
    let length = bytes.len().min(8);
    low[..length].copy_from_slice(&bytes[..length]);
    u64::from_le_bytes(low)
}

fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::Generic(value) => value.to_le_bytes().to_vec(),
        Value::I8(value) => value.to_le_bytes().to_vec(),
        Value::U8(value) => value.to_le_bytes().to_vec(),
        Value::I16(value) => value.to_le_bytes().to_vec(),
        Value::U16(value) => value.to_le_bytes().to_vec(),
        Value::I32(value) => value.to_le_bytes().to_vec(),
        Value::U32(value) => value.to_le_bytes().to_vec(),
        Value::I64(value) => value.to_le_bytes().to_vec(),
        Value::U64(value) => value.to_le_bytes().to_vec(),
        Value::F32(value) => value.to_le_bytes().to_vec(),
        Value::F64(value) => value.to_le_bytes().to_vec(),
    }
}
