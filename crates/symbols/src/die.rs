//! Entries of debug information: identity, attributes, references to other entries.

use std::sync::Arc;

use gimli::{AttributeValue, DwAt, UnitOffset, constants};

use crate::Error;
use crate::debug::{Debug, UnitId, place};
use crate::units::{Entry, R, Value, text};

/// References followed from one entry to the next, until something is taken for a cycle.
pub(crate) const HOPS_MAX: usize = 16;

/// An entry of debug information in a module. Means nothing in another module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DieId {
    pub(crate) unit: UnitId,
    pub(crate) offset: u64,
}

impl DieId {
    pub(crate) fn new(unit: UnitId, offset: usize) -> DieId {
        DieId { unit, offset: offset as u64 }
    }

    pub(crate) fn unit_offset(self) -> UnitOffset {
        UnitOffset(self.offset as usize)
    }
}

impl std::fmt::Debug for DieId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{:#x}", self.unit.file, self.unit.unit, self.offset)
    }
}

/// An entry with its attributes.
#[derive(Clone, Debug)]
pub(crate) struct Die<'a> {
    pub id: DieId,
    pub unit: Arc<gimli::Unit<R<'a>>>,
    pub entry: Entry<'a>,
}

impl<'a> Die<'a> {
    pub fn has(&self, name: DwAt) -> bool {
        self.entry.has_attr(name)
    }

    pub fn flag(&self, name: DwAt) -> bool {
        matches!(self.entry.attr_value(name), Some(AttributeValue::Flag(true)))
    }

    pub fn number(&self, name: DwAt) -> Option<u64> {
        let attribute = self.entry.attr(name)?;
        attribute.udata_value().or_else(|| match attribute.value() {
            AttributeValue::FileIndex(index) => Some(index),
            _ => None,
        })
    }
}

impl<'a> Debug<'a> {
    pub fn die(&self, id: DieId) -> Result<Die<'a>, Error> {
        let unit = self.unit(id.unit)?;
        let entry = unit.entry(id.unit_offset());
        let entry = entry.map_err(|error| self.broken(id.unit, id.offset as usize, error))?;
        Ok(Die { id, unit, entry })
    }

    /// What an attribute refers to.
    pub fn target(&self, unit: UnitId, value: Value<'a>) -> Option<DieId> {
        let in_info = |file: u32, offset: usize| {
            let (unit, inside) = self.file(file)?.unit_at(offset)?;
            Some(DieId::new(UnitId { file, unit }, inside))
        };
        match value {
            AttributeValue::UnitRef(offset) => Some(DieId::new(unit, offset.0)),
            AttributeValue::DebugInfoRef(offset) => in_info(unit.file, offset.0),
            AttributeValue::DebugInfoRefSup(offset) => in_info(place::ALTERNATE, offset.0),
            AttributeValue::DebugTypesRef(signature) => {
                let (unit, offset) = self.type_unit(unit.file, signature.0)?;
                Some(DieId::new(unit, offset))
            }
            _ => None,
        }
    }

    pub fn referred(&self, die: &Die<'a>, name: DwAt) -> Option<DieId> {
        self.target(die.id.unit, die.entry.attr_value(name)?)
    }

    pub fn string(&self, die: &Die<'a>, name: DwAt) -> Option<String> {
        self.bytes(die.id.unit, &die.unit, die.entry.attr_value(name)?).map(text)
    }

    pub fn bytes(&self, id: UnitId, unit: &gimli::Unit<R<'a>>, value: Value<'a>) -> Option<R<'a>> {
        self.dwarf(id).ok()?.attr_string(unit, value).ok()
    }

    /// The entry itself and what it is an instance or a definition of, nearest first.
    pub fn origins(&self, die: Die<'a>) -> Vec<Die<'a>> {
        let mut origins = vec![die];
        while let Some(last) = origins.last()
            && origins.len() < HOPS_MAX
        {
            let next = self
                .referred(last, constants::DW_AT_abstract_origin)
                .or_else(|| self.referred(last, constants::DW_AT_specification));
            let Some(next) = next.and_then(|next| self.die(next).ok()) else { break };
            origins.push(next);
        }
        origins
    }
}

/// An attribute of the first entry that has it.
pub(crate) fn first<'d, 'a>(dies: &'d [Die<'a>], name: DwAt) -> Option<(&'d Die<'a>, Value<'a>)> {
    dies.iter().find_map(|die| Some((die, die.entry.attr_value(name)?)))
}
