//! The outline of a unit: its functions and inlined calls by address, and what encloses what.

use std::ops::Range;
use std::sync::Arc;

use gimli::{Abbreviation, AttributeSpecification, DwTag, constants};

use crate::LinkAddress;
use crate::debug::{Debug, UnitId};
use crate::error::Error;
use crate::ranges::{RangeMap, normalise};
use crate::units::{Entry, R, die_ranges};
use crate::walk::Visitor;

/// A function with code.
#[derive(Debug)]
pub(crate) struct FunctionEntry {
    pub offset: usize,
    pub ranges: Range<u32>,
    /// Calls inlined into it, in the order of their entries: parents first.
    pub inlined: Range<u32>,
}

/// A call that was inlined.
#[derive(Debug)]
pub(crate) struct InlinedEntry {
    pub offset: usize,
    /// The inlined call that this one was inlined into.
    pub parent: Option<u32>,
    pub ranges: Range<u32>,
    pub call_file: Option<u32>,
    pub call_line: u32,
    pub call_column: u32,
}

/// What gives names inside it a path.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    /// Of the entry, and behind the last one inside it.
    pub offsets: Range<usize>,
    pub name: Option<R<'a>>,
    pub tag: DwTag,
    pub parent: Option<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct UnitFunctions<'a> {
    pub functions: Vec<FunctionEntry>,
    pub inlined: Vec<InlinedEntry>,
    ranges: Vec<Range<u64>>,
    pub by_address: RangeMap<u32>,
    /// Ascending by offset: outer ones first.
    pub scopes: Vec<Scope<'a>>,
    /// Some variable's place depends on the address: the compiler optimised.
    pub has_location_lists: bool,
}

impl UnitFunctions<'_> {
    pub fn ranges(&self, range: &Range<u32>) -> &[Range<u64>] {
        &self.ranges[range.start as usize..range.end as usize]
    }

    fn add_ranges(&mut self, ranges: Vec<Range<u64>>) -> Range<u32> {
        let start = self.ranges.len() as u32;
        self.ranges.extend(ranges);
        start..self.ranges.len() as u32
    }

    /// The innermost function at an address and the calls inlined there, outermost first.
    pub fn at(&self, address: u64) -> Option<(&FunctionEntry, Vec<&InlinedEntry>)> {
        let (_, function) = self.by_address.containing(address).next()?;
        let function = &self.functions[*function as usize];
        let mut chain: Vec<(u32, &InlinedEntry)> = Vec::new();
        let inlined = &self.inlined[function.inlined.start as usize..function.inlined.end as usize];
        for (call, index) in inlined.iter().zip(function.inlined.start..) {
            let is_child = call.parent == chain.last().map(|(index, _)| *index);
            if is_child && self.ranges(&call.ranges).iter().any(|range| range.contains(&address)) {
                chain.push((index, call));
            }
        }
        Some((function, chain.into_iter().map(|(_, call)| call).collect()))
    }

    /// The innermost scope that an entry is inside of (not the entry itself).
    pub fn scope_of(&self, offset: usize) -> Option<u32> {
        let behind = self.scopes.partition_point(|scope| scope.offsets.start < offset);
        let mut index = behind.checked_sub(1)? as u32;
        loop {
            let scope = &self.scopes[index as usize];
            if scope.offsets.contains(&offset) {
                return Some(index);
            }
            index = scope.parent?;
        }
    }

    fn bytes(&self) -> usize {
        self.functions.len() * 64
            + self.inlined.len() * size_of::<InlinedEntry>()
            + self.ranges.len() * 48
            + self.scopes.len() * size_of::<Scope<'_>>()
    }
}

/// What is open while entries are read.
enum Open {
    Function(u32),
    /// A function without code.
    Declaration,
    Inlined(u32),
    Scope(u32),
}

struct Reader<'d, 'a> {
    debug: &'d Debug<'a>,
    id: UnitId,
    unit: Arc<gimli::Unit<R<'a>>>,
    outline: UnitFunctions<'a>,
    /// With depths.
    stack: Vec<(isize, Open)>,
}

impl<'a> Debug<'a> {
    /// The outline of a unit.
    pub fn unit_functions(&self, id: UnitId) -> Result<Arc<UnitFunctions<'a>>, Error> {
        self.functions.get(id.key(), || {
            let unit = self.unit(id)?;
            let outline = UnitFunctions::default();
            let mut reader =
                Reader { debug: self, id, unit: Arc::clone(&unit), outline, stack: Vec::new() };
            if let Err(error) = self.walk(id, &unit, None, &mut reader) {
                self.trouble(id, error);
            }
            let outline = reader.finish();
            let bytes = outline.bytes();
            Ok((outline, bytes))
        })
    }
}

/// Whether entries of this kind give others a name in front of their own.
pub fn is_scope(tag: DwTag) -> bool {
    matches!(
        tag,
        constants::DW_TAG_subprogram
            | constants::DW_TAG_inlined_subroutine
            | constants::DW_TAG_namespace
            | constants::DW_TAG_module
            | constants::DW_TAG_class_type
            | constants::DW_TAG_structure_type
            | constants::DW_TAG_union_type
            | constants::DW_TAG_interface_type
            | constants::DW_TAG_enumeration_type
    )
}

impl<'a> Visitor<'a> for Reader<'_, 'a> {
    fn see(&mut self, abbreviation: &Abbreviation, offset: usize, depth: isize) -> bool {
        self.close(depth, offset);
        self.outline.has_location_lists |= abbreviation.attributes().iter().any(is_location_list);
        is_scope(abbreviation.tag())
    }

    fn take(&mut self, entry: &Entry<'a>, depth: isize) {
        let open = match entry.tag() {
            constants::DW_TAG_subprogram => {
                self.open_scope(entry, depth);
                self.function(entry)
            }
            constants::DW_TAG_inlined_subroutine => self.inlined(entry),
            _ => {
                self.open_scope(entry, depth);
                return;
            }
        };
        if let Some(open) = open {
            self.stack.push((depth, open));
        }
    }

    fn end(&mut self, offset: usize) {
        self.close(isize::MIN, offset);
    }
}

impl<'a> Reader<'_, 'a> {
    /// Closes what an entry at this depth is not inside of.
    fn close(&mut self, depth: isize, offset: usize) {
        while self.stack.last().is_some_and(|(open, _)| *open >= depth) {
            match self.stack.pop() {
                Some((_, Open::Scope(index))) => {
                    self.outline.scopes[index as usize].offsets.end = offset;
                }
                Some((_, Open::Function(index))) => {
                    let end = self.outline.inlined.len() as u32;
                    self.outline.functions[index as usize].inlined.end = end;
                }
                _ => {}
            }
        }
    }

    fn open_scope(&mut self, entry: &Entry<'a>, depth: isize) {
        let name = entry.attr_value(constants::DW_AT_name);
        let name = name.and_then(|name| self.debug.bytes(self.id, &self.unit, name));
        let around = self.stack.iter().rev().find_map(|(_, open)| match open {
            Open::Scope(index) => Some(*index),
            _ => None,
        });
        // What is defined outside of the scope that declares it belongs to that.
        let parent = match entry.attr_value(constants::DW_AT_specification) {
            Some(gimli::AttributeValue::UnitRef(offset)) => self.outline.scope_of(offset.0),
            _ => around,
        };
        let start = entry.offset().0;
        let index = self.outline.scopes.len() as u32;
        self.outline.scopes.push(Scope {
            offsets: start..usize::MAX,
            name,
            tag: entry.tag(),
            parent,
        });
        self.stack.push((depth, Open::Scope(index)));
    }

    fn code_ranges(&self, entry: &Entry<'a>) -> Vec<Range<u64>> {
        let dwarf = self.debug.dwarf(self.id);
        let ranges = dwarf.map(|dwarf| die_ranges(dwarf, &self.unit, entry));
        let ranges = match ranges {
            Ok(Ok(ranges)) => ranges,
            Ok(Err(error)) => {
                self.debug.troubles().add(self.debug.place(self.id, entry.offset().0), error);
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        let code = ranges.into_iter().filter(|r| self.debug.image.is_code(LinkAddress(r.start)));
        code.collect()
    }

    fn function(&mut self, entry: &Entry<'a>) -> Option<Open> {
        // In the order of the list: the first range has the entry.
        let ranges = self.code_ranges(entry);
        if ranges.is_empty() {
            return Some(Open::Declaration);
        }
        let index = self.outline.functions.len() as u32;
        let ranges = self.outline.add_ranges(ranges);
        let first = self.outline.inlined.len() as u32;
        self.outline.functions.push(FunctionEntry {
            offset: entry.offset().0,
            ranges,
            inlined: first..first,
        });
        Some(Open::Function(index))
    }

    fn inlined(&mut self, entry: &Entry<'a>) -> Option<Open> {
        let ranges = normalise(self.code_ranges(entry));
        let inside = self.stack.iter().rev().find_map(|(_, open)| match open {
            Open::Inlined(index) => Some(Some(Some(*index))),
            Open::Function(_) => Some(Some(None)),
            Open::Declaration => Some(None),
            Open::Scope(_) => None,
        });
        // Inside an abstract function it says nothing about code.
        let parent = inside??;
        let index = self.outline.inlined.len() as u32;
        let number = |name| entry.attr(name).and_then(|a| u32::try_from(a.udata_value()?).ok());
        let file = match entry.attr_value(constants::DW_AT_call_file) {
            Some(gimli::AttributeValue::FileIndex(index)) => u32::try_from(index).ok(),
            _ => number(constants::DW_AT_call_file),
        };
        let ranges = self.outline.add_ranges(ranges);
        self.outline.inlined.push(InlinedEntry {
            offset: entry.offset().0,
            parent,
            ranges,
            call_file: file,
            call_line: number(constants::DW_AT_call_line).unwrap_or(0),
            call_column: number(constants::DW_AT_call_column).unwrap_or(0),
        });
        Some(Open::Inlined(index))
    }

    fn finish(mut self) -> UnitFunctions<'a> {
        let functions = self.outline.functions.iter().zip(0..);
        let ranges = functions.flat_map(|(function, index)| {
            let ranges = self.outline.ranges(&function.ranges).iter().cloned();
            ranges.map(move |range| (range, index))
        });
        let by_address = RangeMap::new(ranges.collect());
        self.outline.by_address = by_address;
        self.outline
    }
}

/// Whether an attribute is a list of places, by its form: DWARF 5, 7.5.5, and data before 4.
fn is_location_list(attribute: &AttributeSpecification) -> bool {
    attribute.name() == constants::DW_AT_location
        && matches!(
            attribute.form(),
            constants::DW_FORM_sec_offset
                | constants::DW_FORM_loclistx
                | constants::DW_FORM_data4
                | constants::DW_FORM_data8
        )
}
