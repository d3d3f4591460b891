//! Unwinding: how the registers of a caller are found, from `.eh_frame` or `.debug_frame`.

use std::cell::Cell;
use std::collections::BTreeMap;

use gimli::{
    BaseAddresses, CfaRule as RawCfa, CieOrFde, DebugFrame, EhFrame, LittleEndian, Register,
    RegisterRule as RawRule, UnwindContext, UnwindSection,
};
use model::Address;

use crate::debug::Debug;
use crate::error::Error;
use crate::evaluate::{Context, budget};
use crate::frame::Frame;
use crate::ranges::{RangeMap, link_range};
use crate::units::R;
use crate::{LinkAddress, LinkRange};

/// The number of rsp in the psABI.
const STACK_POINTER: u16 = 7;
/// Descriptions of functions that are read.
const ENTRIES_MAX: usize = 16 << 20;

/// How to get from a frame to its caller's, at one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnwindRow {
    /// Addresses for which this holds.
    pub range: LinkRange,
    pub cfa: CfaRule,
    /// By register number, ascending. Registers without a rule are as in the caller, if it
    /// expects them to be kept at all.
    pub registers: Vec<(u16, RegisterRule)>,
    /// The register whose rule tells the return address.
    pub return_address: u16,
    /// The caller was interrupted, it did not call: its next instruction may be the first of a
    /// function.
    pub signal_frame: bool,
}

/// How the canonical frame address is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CfaRule {
    Register { register: u16, offset: i64 },
    Expression(Vec<u8>),
}

/// Where the caller's value of a register is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterRule {
    /// Lost.
    Undefined,
    SameValue,
    /// In memory at so many bytes from the canonical frame address.
    At(i64),
    /// The value is the canonical frame address and so many bytes.
    Is(i64),
    InRegister(u16),
    AtExpression(Vec<u8>),
    IsExpression(Vec<u8>),
    /// By convention of another machine.
    Other,
}

/// What a frame tells about its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub cfa: Address,
    /// Where the caller goes on; the call is in front of it. None for the outermost frame.
    pub return_address: Option<Address>,
    /// Registers by number. Those not here are as in this frame.
    pub registers: BTreeMap<u16, Saved>,
    pub signal_frame: bool,
}

/// Where a register of the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// Its value was overwritten.
    Lost,
    Memory(Address),
    Register(u16),
    Value(u64),
}

#[derive(Clone, Copy, Debug)]
enum Section {
    EhFrame,
    DebugFrame,
}

/// Descriptions of functions by address.
#[derive(Debug, Default)]
pub(crate) struct UnwindIndex(RangeMap<(Section, usize)>);

struct Found<'a> {
    row: UnwindRow,
    cfa: Option<R<'a>>,
    expressions: BTreeMap<u16, R<'a>>,
}

impl<'a> Debug<'a> {
    fn eh_frame(&self) -> (EhFrame<R<'a>>, BaseAddresses) {
        let frame = R::new(self.owner.image.section(".eh_frame"), LittleEndian);
        let address = |name: &str| {
            let mut sections = self.image.sections.iter();
            sections.find(|section| section.name == name).map(|section| section.range.start.0)
        };
        let mut bases = BaseAddresses::default();
        if let Some(at) = address(".eh_frame") {
            bases = bases.set_eh_frame(at);
        }
        if let Some(at) = address(".text") {
            bases = bases.set_text(at);
        }
        if let Some(at) = address(".got") {
            bases = bases.set_got(at);
        }
        let mut frame = EhFrame::from(frame);
        frame.set_address_size(8);
        (frame, bases)
    }

    fn debug_frame(&self) -> DebugFrame<R<'a>> {
        let in_image = self.owner.image.section(".debug_frame");
        let separate = self.owner.main().section(".debug_frame");
        let bytes = if in_image.is_empty() { separate } else { in_image };
        let mut frame = DebugFrame::from(R::new(bytes, LittleEndian));
        frame.set_address_size(8);
        frame
    }

    fn unwind_index(&self) -> &UnwindIndex {
        self.unwind.get_or_init(|| {
            let (eh_frame, bases) = self.eh_frame();
            let mut entries = self.descriptions(&eh_frame, &bases, Section::EhFrame, ".eh_frame");
            let plain = BaseAddresses::default();
            let (frame, section) = (self.debug_frame(), Section::DebugFrame);
            entries.extend(self.descriptions(&frame, &plain, section, ".debug_frame"));
            UnwindIndex(RangeMap::new(entries))
        })
    }

    fn descriptions<S>(
        &self,
        section: &S,
        bases: &BaseAddresses,
        kind: Section,
        name: &str,
    ) -> Vec<(std::ops::Range<u64>, (Section, usize))>
    where
        S: UnwindSection<R<'a>>,
    {
        let mut found = Vec::new();
        let mut entries = section.entries(bases);
        let mut cies = rustc_hash::FxHashMap::default();
        while found.len() < ENTRIES_MAX {
            let entry = match entries.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => {
                    self.troubles().add(name, error);
                    break;
                }
            };
            let CieOrFde::Fde(partial) = entry else { continue };
            let parsed = partial.parse(|section, bases, offset| {
                let key: usize = gimli::UnwindOffset::into(offset);
                match cies.get(&key) {
                    Some(cie) => Ok(Clone::clone(cie)),
                    None => {
                        let cie = section.cie_from_offset(bases, offset)?;
                        cies.insert(key, cie.clone());
                        Ok(cie)
                    }
                }
            });
            match parsed {
                Ok(fde) => {
                    let start = fde.initial_address();
                    let end = start.saturating_add(fde.len());
                    if start < end && self.image.is_code(LinkAddress(start)) {
                        found.push((start..end, (kind, fde.offset())));
                    }
                }
                Err(error) => {
                    self.troubles().add(format_args!("{name} {:#x}", partial.offset()), error);
                }
            }
        }
        found
    }

    /// The rules at an address.
    pub fn unwind_row(&self, address: u64) -> Result<Option<UnwindRow>, Error> {
        Ok(self.find_row(address)?.map(|found| found.row))
    }

    fn find_row(&self, address: u64) -> Result<Option<Found<'a>>, Error> {
        let mut containing = self.unwind_index().0.containing(address);
        let Some((_, (section, offset))) = containing.next() else { return Ok(None) };
        let broken = |error: gimli::Error| Error::Broken {
            place: format!("unwinding of {address:#x}"),
            what: error.to_string(),
        };
        match section {
            Section::EhFrame => {
                let (frame, bases) = self.eh_frame();
                row(&frame, &bases, gimli::EhFrameOffset(*offset), address).map_err(broken)
            }
            Section::DebugFrame => {
                let (frame, bases) = (self.debug_frame(), BaseAddresses::default());
                row(&frame, &bases, gimli::DebugFrameOffset(*offset), address).map_err(broken)
            }
        }
        .map(Some)
    }

    /// The canonical frame address of a frame.
    pub fn cfa(&self, address: u64, frame: &dyn Frame, left: &Cell<u32>) -> Result<Address, Error> {
        let found = self.find_row(address)?;
        let absent = || Error::Frame(format!("unwinding rules at {address:#x}"));
        self.cfa_of(&found.ok_or_else(absent)?, address, frame, left)
    }

    fn cfa_of(
        &self,
        found: &Found<'a>,
        address: u64,
        frame: &dyn Frame,
        left: &Cell<u32>,
    ) -> Result<Address, Error> {
        match (&found.row.cfa, found.cfa) {
            (CfaRule::Register { register, offset }, _) => {
                let value = frame.register(*register);
                let value = value.ok_or_else(|| Error::Frame(format!("register {register}")))?;
                Ok(Address((value as u64).wrapping_add_signed(*offset)))
            }
            (CfaRule::Expression(_), expression) => {
                let expression = expression.unwrap_or(R::new(&[], LittleEndian));
                let context = Context::new(self, None, address, frame, left);
                context.number(expression, None).map(Address)
            }
        }
    }

    /// Where the registers of a frame's caller are. None without rules for the address.
    pub fn caller(&self, address: u64, frame: &dyn Frame) -> Result<Option<Caller>, Error> {
        let Some(found) = self.find_row(address)? else { return Ok(None) };
        let left = budget();
        let cfa = self.cfa_of(&found, address, frame, &left)?;
        let context = Context::new(self, None, address, frame, &left);
        let expression = |register: &u16| {
            let expression = found.expressions.get(register).copied();
            let expression = expression.unwrap_or(R::new(&[], LittleEndian));
            context.number(expression, Some(cfa.0))
        };
        let mut registers = BTreeMap::new();
        // The psABI: the caller's stack pointer is the canonical frame address.
        registers.insert(STACK_POINTER, Saved::Value(cfa.0));
        for (register, rule) in &found.row.registers {
            let saved = match rule {
                RegisterRule::Undefined | RegisterRule::Other => Saved::Lost,
                RegisterRule::SameValue => Saved::Register(*register),
                RegisterRule::At(offset) => {
                    Saved::Memory(Address(cfa.0.wrapping_add_signed(*offset)))
                }
                RegisterRule::Is(offset) => Saved::Value(cfa.0.wrapping_add_signed(*offset)),
                RegisterRule::InRegister(other) => Saved::Register(*other),
                RegisterRule::AtExpression(_) => Saved::Memory(Address(expression(register)?)),
                RegisterRule::IsExpression(_) => Saved::Value(expression(register)?),
            };
            registers.insert(*register, saved);
        }
        let return_address = match registers.get(&found.row.return_address) {
            None | Some(Saved::Lost) => None,
            Some(Saved::Memory(at)) => {
                let mut bytes = [0; 8];
                let read = frame.memory(*at, &mut bytes);
                let absent = || Error::Frame(format!("memory at {at}, the return address"));
                Some(read.then(|| Address(u64::from_le_bytes(bytes))).ok_or_else(absent)?)
            }
            Some(Saved::Register(register)) => {
                frame.register(*register).map(|value| Address(value as u64))
            }
            Some(Saved::Value(value)) => Some(Address(*value)),
        };
        let signal_frame = found.row.signal_frame;
        Ok(Some(Caller { cfa, return_address, registers, signal_frame }))
    }
}

fn row<'a, S>(
    section: &S,
    bases: &BaseAddresses,
    offset: S::Offset,
    address: u64,
) -> Result<Found<'a>, gimli::Error>
where
    S: UnwindSection<R<'a>>,
{
    let fde = section.fde_from_offset(bases, offset, S::cie_from_offset)?;
    let mut context = UnwindContext::new();
    let row = fde.unwind_info_for_address(section, bases, &mut context, address)?;
    let mut expressions = BTreeMap::new();
    let (cfa, cfa_expression) = match row.cfa() {
        RawCfa::RegisterAndOffset { register, offset } => {
            (CfaRule::Register { register: register.0, offset: *offset }, None)
        }
        RawCfa::Expression(expression) => {
            let expression = expression.get(section)?.0;
            (CfaRule::Expression(expression.slice().to_vec()), Some(expression))
        }
    };
    let mut registers = Vec::new();
    for (Register(register), rule) in row.registers() {
        let mut expression = |expression: &gimli::UnwindExpression<usize>| {
            let expression = expression.get(section)?.0;
            expressions.insert(*register, expression);
            Ok::<_, gimli::Error>(expression.slice().to_vec())
        };
        let rule = match rule {
            RawRule::Undefined => RegisterRule::Undefined,
            RawRule::SameValue => RegisterRule::SameValue,
            RawRule::Offset(offset) => RegisterRule::At(*offset),
            RawRule::ValOffset(offset) => RegisterRule::Is(*offset),
            RawRule::Register(other) => RegisterRule::InRegister(other.0),
            RawRule::Expression(e) => RegisterRule::AtExpression(expression(e)?),
            RawRule::ValExpression(e) => RegisterRule::IsExpression(expression(e)?),
            _ => RegisterRule::Other,
        };
        registers.push((*register, rule));
    }
    registers.sort_by_key(|(register, _)| *register);
    let row = UnwindRow {
        range: link_range(&(row.start_address()..row.end_address())),
        cfa,
        registers,
        return_address: fde.cie().return_address_register().0,
        signal_frame: fde.is_signal_trampoline(),
    };
    Ok(Found { row, cfa: cfa_expression, expressions })
}
