//! Variables: which can be seen at an address, and where they are there.

use std::collections::BTreeSet;
use std::ops::Range;

use gimli::{Abbreviation, AttributeValue, LittleEndian, RawLocListEntry, constants};
use model::Address;

use crate::debug::{Debug, UnitId};
use crate::die::{Die, DieId, first};
use crate::error::Error;
use crate::evaluate::{Context, budget};
use crate::frame::{Frame, Location, Place};
use crate::functions::SourcePlace;
use crate::index::NameKind;
use crate::ranges::{LinkRange, link_range};
use crate::types::{Computation, Count, Dimension, TypeId};
use crate::units::{Entry, R, Value, die_ranges};
use crate::walk::Visitor;

/// Blocks within blocks of an abstract instance.
const BLOCKS_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VariableKind {
    Parameter,
    Local,
    /// One for the whole run (or task): global, or static in a function.
    Static,
}

/// A variable that can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub id: DieId,
    pub name: String,
    pub type_: Option<TypeId>,
    pub kind: VariableKind,
    pub declared: Option<SourcePlace>,
    /// How many blocks are around it in its function: 0 for parameters.
    pub depth: u32,
    /// An inner one of the same name hides it.
    pub shadowed: bool,
    /// Made by the compiler.
    pub artificial: bool,
    /// Code of the innermost block around it; empty for the whole function.
    pub scope: Vec<LinkRange>,
}

/// A block with the variables declared in it.
#[derive(Default)]
struct Block<'a> {
    depth: u32,
    scope: Vec<LinkRange>,
    variables: Vec<Entry<'a>>,
    /// The block of the abstract instance that this is an instance of.
    origin: Option<DieId>,
    /// Whether its code contains the address.
    here: bool,
    /// Whether the call inlined at the address is in it.
    around_call: bool,
}

impl<'a> Debug<'a> {
    /// Variables of an activation at an address: those of the innermost block first, within a
    /// block in the order of their declarations.
    pub fn variables(&self, instance: DieId, address: u64) -> Result<Vec<Variable>, Error> {
        let unit = self.unit(instance.unit)?;
        let chain = self.activations(address);
        let inner = chain.windows(2).find(|pair| pair[1].instance == instance);
        let mut reader = Blocks {
            debug: self,
            id: instance.unit,
            unit: &unit,
            address,
            call: inner.map(|pair| pair[0].instance.offset as usize),
            open: Vec::new(),
            skipped: None,
            blocks: Vec::new(),
        };
        let offset = Some(instance.unit_offset());
        if let Err(error) = self.walk(instance.unit, &unit, offset, &mut reader) {
            self.trouble(instance.unit, error);
        }
        let mut blocks = reader.blocks;
        let instances_of: BTreeSet<DieId> =
            blocks.iter().filter_map(|block| block.origin).collect();
        // Where a call was inlined, the blocks are those around it: the compiler may have moved
        // its code out of theirs.
        let by_call = blocks.iter().any(|block| block.around_call);
        blocks.retain(|block| if by_call { block.around_call } else { block.here });
        let function = self.die(instance)?;
        let mut variables = Vec::new();
        for block in blocks.iter().rev() {
            let mut instances = BTreeSet::new();
            for entry in &block.variables {
                let die = self.sibling(&function, entry.clone());
                let origins = self.origins(die);
                instances.extend(origins.iter().skip(1).map(|die| die.id));
                variables.extend(self.variable_of(&origins, block));
            }
            // Of those that were optimised away no instance may be left.
            let mut left_over = Vec::new();
            if let Some(origin) = block.origin {
                self.abstract_variables(origin, &instances_of, 0, &mut left_over)?;
            }
            for die in left_over {
                if !instances.contains(&die.id) {
                    variables.extend(self.variable_of(&self.origins(die), block));
                }
            }
        }
        let mut seen = BTreeSet::new();
        for variable in &mut variables {
            variable.shadowed = !seen.insert(variable.name.clone());
        }
        Ok(variables)
    }

    /// Variables of a block of an abstract instance, and of blocks in it of which no instance is
    /// left.
    fn abstract_variables(
        &self,
        block: DieId,
        instances_of: &BTreeSet<DieId>,
        depth: usize,
        found: &mut Vec<Die<'a>>,
    ) -> Result<(), Error> {
        let block = self.die(block)?;
        for entry in self.children(&block)? {
            let child = self.sibling(&block, entry);
            if is_variable(child.entry.tag()) {
                found.push(child);
            } else if child.entry.tag() == constants::DW_TAG_lexical_block
                && !instances_of.contains(&child.id)
                && depth < BLOCKS_MAX
            {
                self.abstract_variables(child.id, instances_of, depth + 1, found)?;
            }
        }
        Ok(())
    }

    fn variable_of(&self, dies: &[Die<'a>], block: &Block<'a>) -> Option<Variable> {
        let die = dies.first()?;
        let (named, _) = first(dies, constants::DW_AT_name)?;
        let parameter = dies.iter().any(|d| d.entry.tag() == constants::DW_TAG_formal_parameter);
        // Declarations of globals inside functions are found by their names.
        if !parameter && dies.iter().all(|d| d.has(constants::DW_AT_declaration)) {
            return None;
        }
        let location = first(dies, constants::DW_AT_location).map(|(_, location)| location);
        let kind = match location {
            _ if parameter => VariableKind::Parameter,
            Some(AttributeValue::Exprloc(e)) if crate::index::is_static(e.0.slice()) => {
                VariableKind::Static
            }
            _ => VariableKind::Local,
        };
        Some(Variable {
            id: die.id,
            name: self.string(named, constants::DW_AT_name)?,
            type_: dies.iter().find_map(|die| self.type_of(die)),
            kind,
            declared: self.declared(dies),
            depth: block.depth,
            shadowed: false,
            artificial: dies.iter().any(|die| die.flag(constants::DW_AT_artificial)),
            scope: block.scope.clone(),
        })
    }

    /// A global or static variable.
    pub fn variable(&self, id: DieId) -> Result<Option<Variable>, Error> {
        let dies = self.origins(self.die(id)?);
        Ok(self.variable_of(&dies, &Block::default()))
    }

    /// Where a variable is, in a frame that executes the instruction at an address.
    pub fn locate(
        &self,
        variable: DieId,
        address: u64,
        frame: &dyn Frame,
    ) -> Result<Location, Error> {
        let dies = self.origins(self.die(variable)?);
        let left = budget();
        if let Some((die, value)) = first(&dies, constants::DW_AT_location) {
            let Some(expression) = self.expression_at(die, value, address)? else {
                return Ok(Location::single(Place::OptimisedOut));
            };
            let context = Context::new(self, Some(die.id.unit), address, frame, &left);
            return context.location(expression);
        }
        if let Some((die, value)) = first(&dies, constants::DW_AT_const_value) {
            let bytes = self.constant_bytes(die, value);
            let what = "a constant of an unknown form".to_owned();
            let place = self.place(die.id.unit, die.id.offset as usize);
            let bytes = bytes.ok_or(Error::Unsupported { place, what })?;
            return Ok(Location::single(Place::Value(bytes)));
        }
        match self.variable_definition(&dies) {
            Some(definition) => self.locate(definition, address, frame),
            None => Ok(Location::single(Place::OptimisedOut)),
        }
    }

    /// The expression that is in force at an address. None if there is none for it.
    pub fn expression_at(
        &self,
        die: &Die<'a>,
        value: Value<'a>,
        address: u64,
    ) -> Result<Option<R<'a>>, Error> {
        if let AttributeValue::Exprloc(expression) = value {
            return Ok(Some(expression.0));
        }
        if let AttributeValue::Block(block) = value {
            return Ok(Some(block));
        }
        let broken = |error| self.broken(die.id.unit, die.id.offset as usize, error);
        let locations = self.dwarf(die.id.unit)?.attr_locations(&die.unit, value);
        let Some(mut locations) = locations.map_err(broken)? else { return Ok(None) };
        let mut is_entry = None;
        while let Some(raw) = locations.next_raw().map_err(broken)? {
            let (raw, empty) = without_emptiness(raw);
            let Some(entry) = locations.convert_raw(raw).map_err(broken)? else { continue };
            if !(entry.range.begin <= address && address < entry.range.end) {
                continue;
            }
            // gcc writes so what holds at the first instruction of a function only.
            let at_entry =
                || self.function_entry(address).is_some_and(|(_, start, _)| start == address);
            if !empty || *is_entry.get_or_insert_with(at_entry) {
                return Ok(Some(entry.data.0));
            }
        }
        Ok(None)
    }

    /// The number that an entry stands for.
    pub fn constant(&self, id: DieId) -> Option<i128> {
        let dies = self.origins(self.die(id).ok()?);
        let (_, value) = first(&dies, constants::DW_AT_const_value)?;
        crate::types::constant(value)
    }

    fn constant_bytes(&self, die: &Die<'a>, value: Value<'a>) -> Option<Vec<u8>> {
        if let AttributeValue::Block(bytes) = value {
            return Some(bytes.slice().to_vec());
        }
        if let Some(number) = crate::types::constant(value) {
            return Some(number.to_le_bytes().to_vec());
        }
        let mut text = self.bytes(die.id.unit, &die.unit, value)?.slice().to_vec();
        text.push(0);
        Some(text)
    }

    /// The definition of a variable that is only declared: `extern`, or static in a class.
    fn variable_definition(&self, dies: &[Die<'a>]) -> Option<DieId> {
        let (die, _) = first(dies, constants::DW_AT_name)?;
        let name = self.path(die);
        let declared: BTreeSet<DieId> = dies.iter().map(|die| die.id).collect();
        let mut things = self.things_named(&name, &[NameKind::Variable]).into_iter();
        let found = things.find_map(|thing| thing.id.filter(|_| thing.full_name == name))?;
        (!declared.contains(&found)).then_some(found)
    }

    /// How many elements an array has in a dimension; none if nothing says it.
    pub fn count(
        &self,
        dimension: &Dimension,
        address: u64,
        frame: &dyn Frame,
    ) -> Result<Option<u64>, Error> {
        let last = match &dimension.count {
            Count::Known(count) => return Ok(Some(*count)),
            Count::Unknown => return Ok(None),
            Count::Computed(computation) => {
                self.compute(computation, Address(0), address, frame)?
            }
            Count::UpTo(variable) => match self.locate(*variable, address, frame)?.whole() {
                Some(Place::Value(bytes)) => crate::evaluate::low_bytes(bytes),
                Some(Place::Memory(at)) => {
                    let type_ = self.type_of(&self.die(*variable)?);
                    let size = type_.and_then(|id| self.size_of(&self.die(id.0).ok()?));
                    let mut bytes = [0; 8];
                    let read = frame.memory(*at, &mut bytes[..size.unwrap_or(8).min(8) as usize]);
                    let absent = || Error::Frame(format!("memory at {at}"));
                    read.then(|| u64::from_le_bytes(bytes)).ok_or_else(absent)?
                }
                Some(Place::Register(register)) => {
                    let value = frame.register(*register);
                    let absent = || Error::Frame(format!("register {register}"));
                    value.ok_or_else(absent)? as u64
                }
                _ => return Ok(None),
            },
        };
        Ok(Some(last.wrapping_add(1).wrapping_sub(dimension.lower.cast_unsigned())))
    }

    /// A number that depends on the address of a value: where a virtual base is, how long an
    /// array is.
    pub fn compute(
        &self,
        computation: &Computation,
        object: Address,
        address: u64,
        frame: &dyn Frame,
    ) -> Result<u64, Error> {
        let unit = computation.entry.unit;
        let left = budget();
        let context = Context::new(self, Some(unit), address, frame, &left);
        // The expression is taken from its file again, whose bytes live long enough.
        let die = self.die(computation.entry)?;
        let attributes = [
            constants::DW_AT_data_member_location,
            constants::DW_AT_upper_bound,
            constants::DW_AT_count,
        ];
        let expression = attributes.iter().find_map(|name| match die.entry.attr_value(*name)? {
            AttributeValue::Exprloc(expression) => Some(expression.0),
            _ => None,
        });
        let expression = expression.unwrap_or(R::new(&[], LittleEndian));
        context.number(expression, Some(object.0))
    }
}

/// Makes an empty range one byte long, and tells that it was.
fn without_emptiness(mut raw: RawLocListEntry<R<'_>>) -> (RawLocListEntry<R<'_>>, bool) {
    let mut empty = false;
    match &mut raw {
        RawLocListEntry::AddressOrOffsetPair { begin, end, .. }
        | RawLocListEntry::OffsetPair { begin, end, .. }
        | RawLocListEntry::StartEnd { begin, end, .. } => {
            empty = begin == end;
            *end = if empty { end.saturating_add(1) } else { *end };
        }
        RawLocListEntry::StartLength { length, .. }
        | RawLocListEntry::StartxLength { length, .. } => {
            empty = *length == 0;
            *length = (*length).max(1);
        }
        _ => {}
    }
    (raw, empty)
}

fn is_variable(tag: gimli::DwTag) -> bool {
    matches!(tag, constants::DW_TAG_formal_parameter | constants::DW_TAG_variable)
}

/// Reads the blocks of a function that contain an address.
struct Blocks<'d, 'a> {
    debug: &'d Debug<'a>,
    id: UnitId,
    unit: &'d gimli::Unit<R<'a>>,
    address: u64,
    /// The entry of the call that was inlined at the address.
    call: Option<usize>,
    /// Depths of the blocks around, with their numbers.
    open: Vec<(isize, usize)>,
    /// Inside an entry at this depth nothing is seen.
    skipped: Option<isize>,
    /// Outermost first.
    blocks: Vec<Block<'a>>,
}

impl<'a> Visitor<'a> for Blocks<'_, 'a> {
    fn see(&mut self, abbreviation: &Abbreviation, offset: usize, depth: isize) -> bool {
        if self.skipped.is_some_and(|skipped| depth > skipped) {
            return false;
        }
        self.skipped = None;
        while self.open.last().is_some_and(|(open, _)| *open >= depth) {
            self.open.pop();
        }
        if self.call == Some(offset) {
            for (_, block) in &self.open {
                self.blocks[*block].around_call = true;
            }
        }
        let tag = abbreviation.tag();
        let wanted = depth == 0 || is_variable(tag) || tag == constants::DW_TAG_lexical_block;
        if !wanted && abbreviation.has_children() {
            self.skipped = Some(depth);
        }
        wanted
    }

    fn take(&mut self, entry: &Entry<'a>, depth: isize) {
        if depth > 0 && is_variable(entry.tag()) {
            if let Some((_, block)) = self.open.last() {
                self.blocks[*block].variables.push(entry.clone());
            }
            return;
        }
        let ranges: Vec<Range<u64>> = match self.debug.dwarf(self.id) {
            Ok(dwarf) => die_ranges(dwarf, self.unit, entry).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        // A block without code of its own is a part of the one around it.
        let inside = ranges.is_empty() || ranges.iter().any(|range| range.contains(&self.address));
        let around = self.open.last().is_none_or(|(_, block)| self.blocks[*block].here);
        let here = depth == 0 || (inside && around);
        let origin = entry.attr_value(constants::DW_AT_abstract_origin);
        self.open.push((depth, self.blocks.len()));
        self.blocks.push(Block {
            depth: self.open.len() as u32 - 1,
            scope: if depth == 0 { Vec::new() } else { ranges.iter().map(link_range).collect() },
            variables: Vec::new(),
            origin: origin.and_then(|origin| self.debug.target(self.id, origin)),
            here,
            around_call: false,
        });
    }
}
