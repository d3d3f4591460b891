//! The units of one file with debug information, found without reading what is in them.

use std::ops::Range;
use std::sync::Arc;

use gimli::{
    AttributeValue, DebugAddrBase, DebugLineOffset, DebugLocListsBase, DebugRngListsBase,
    DebugStrOffsetsBase, DwoId, EndianSlice, LittleEndian, UnitHeader, UnitType, constants,
};
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::Language;
use crate::error::Troubles;

pub(crate) type R<'a> = EndianSlice<'a, LittleEndian>;
pub(crate) type Dwarf<'a> = gimli::Dwarf<R<'a>>;
pub(crate) type Entry<'a> = gimli::DebuggingInformationEntry<R<'a>>;
pub(crate) type Value<'a> = AttributeValue<R<'a>>;

/// So many units of a file are read. The largest programs have some 50,000.
const UNITS_MAX: usize = 1 << 20;
/// So many units are imported by one.
const IMPORTS_MAX: usize = 1 << 16;
/// So many ranges of one entry are read.
pub(crate) const RANGES_MAX: usize = 1 << 20;

/// What the header and the root entry of a unit say.
#[derive(Debug)]
pub(crate) struct UnitHead<'a> {
    pub header: UnitHeader<R<'a>>,
    pub name: Option<R<'a>>,
    pub directory: Option<R<'a>>,
    pub language: Language,
    pub producer: Option<R<'a>>,
    pub lines: Option<DebugLineOffset>,
    /// Of the `.dwo` file that has the rest of the unit.
    pub split_name: Option<R<'a>>,
    pub split_id: Option<DwoId>,
    /// Units whose entries count as if they were here: references as the attribute has them.
    pub imports: Vec<Value<'a>>,
    /// In a type unit: where the type is.
    pub type_signature: Option<(u64, usize)>,
    low_pc: u64,
    str_offsets_base: DebugStrOffsetsBase<usize>,
    addr_base: DebugAddrBase<usize>,
    loclists_base: DebugLocListsBase<usize>,
    rnglists_base: DebugRngListsBase<usize>,
}

impl<'a> UnitHead<'a> {
    /// The unit as gimli wants it. Costs reading its abbreviations; its line program is not in it.
    pub fn unit(&self, dwarf: &Dwarf<'a>) -> gimli::Result<gimli::Unit<R<'a>>> {
        Ok(self.unit_with(dwarf.abbreviations(&self.header)?))
    }

    fn unit_with(&self, abbreviations: Arc<gimli::Abbreviations>) -> gimli::Unit<R<'a>> {
        gimli::Unit {
            header: self.header,
            abbreviations,
            name: self.name,
            comp_dir: self.directory,
            low_pc: self.low_pc,
            str_offsets_base: self.str_offsets_base,
            addr_base: self.addr_base,
            loclists_base: self.loclists_base,
            rnglists_base: self.rnglists_base,
            line_program: None,
            dwo_id: self.split_id,
        }
    }

    /// Where the unit is in its section.
    pub fn section_offset(&self) -> usize {
        self.header.offset().0
    }

    /// For a unit of split DWARF: addresses and ranges are found through the skeleton.
    pub fn take_from_skeleton(&mut self, skeleton: &UnitHead<'a>) {
        self.low_pc = skeleton.low_pc;
        self.addr_base = skeleton.addr_base;
        if self.header.version() < 5 {
            self.rnglists_base = skeleton.rnglists_base;
        }
        self.directory = self.directory.or(skeleton.directory);
    }
}

/// One file's debug information.
#[derive(Debug)]
pub(crate) struct DebugFile<'a> {
    pub dwarf: Dwarf<'a>,
    /// Those of `.debug_info` ascending by offset, then those of `.debug_types`.
    pub units: Vec<UnitHead<'a>>,
    pub info_units: usize,
    /// Type units by signature.
    pub signatures: FxHashMap<u64, u32>,
    pub label: String,
}

impl<'a> DebugFile<'a> {
    /// Reads all headers and all root entries, in parallel if asked to. Also gives the ranges of
    /// each unit.
    pub fn new(
        mut dwarf: Dwarf<'a>,
        label: String,
        troubles: &Troubles,
        parallel: bool,
    ) -> (DebugFile<'a>, Vec<Vec<Range<u64>>>) {
        dwarf.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
        let mut headers = Vec::new();
        let mut units = dwarf.units();
        loop {
            match units.next() {
                Ok(Some(header)) if headers.len() < UNITS_MAX => headers.push(header),
                Ok(None) => break,
                Ok(Some(_)) => {
                    troubles.add(format_args!("{label} .debug_info"), "too many units");
                    break;
                }
                Err(error) => {
                    let behind = headers.last().map_or(0, |header| header.offset().0);
                    let place = format_args!("{label} .debug_info behind unit {behind:#x}");
                    troubles.add(place, error);
                    break;
                }
            }
        }
        let info_headers = headers.len();
        let mut type_units = dwarf.type_units();
        loop {
            match type_units.next() {
                Ok(Some(header)) if headers.len() < UNITS_MAX => headers.push(header),
                Ok(_) => break,
                Err(error) => {
                    troubles.add(format_args!("{label} .debug_types"), error);
                    break;
                }
            }
        }
        let head = |header: UnitHeader<R<'a>>| {
            let place = header.offset().0;
            read_head(&dwarf, header).inspect_err(|error| {
                troubles.add(format_args!("{label} unit {place:#x}"), error);
            })
        };
        let heads: Vec<_> = if parallel {
            headers.into_par_iter().map(head).collect()
        } else {
            headers.into_iter().map(head).collect()
        };
        let info_units = heads[..info_headers].iter().filter(|head| head.is_ok()).count();
        let (units, ranges): (Vec<_>, Vec<_>) = heads.into_iter().flatten().unzip();
        let mut signatures = FxHashMap::default();
        for (unit, index) in units.iter().zip(0..) {
            if let Some((signature, _)) = unit.type_signature {
                signatures.entry(signature).or_insert(index);
            }
        }
        (DebugFile { dwarf, units, info_units, signatures, label }, ranges)
    }

    /// The unit of `.debug_info` that an offset into the section lies in.
    pub fn unit_at(&self, offset: usize) -> Option<(u32, usize)> {
        let units = &self.units[..self.info_units];
        let behind = units.partition_point(|unit| unit.section_offset() <= offset);
        let index = behind.checked_sub(1)?;
        let inside = offset - units[index].section_offset();
        (inside < units[index].header.length_including_self()).then_some((index as u32, inside))
    }
}

fn read_head<'a>(
    dwarf: &Dwarf<'a>,
    header: UnitHeader<R<'a>>,
) -> gimli::Result<(UnitHead<'a>, Vec<Range<u64>>)> {
    let mut head = UnitHead {
        name: None,
        directory: None,
        language: Language::Unknown,
        producer: None,
        lines: None,
        split_name: None,
        imports: Vec::new(),
        split_id: match header.type_() {
            UnitType::Skeleton(id) | UnitType::SplitCompilation(id) => Some(id),
            _ => None,
        },
        type_signature: match header.type_() {
            UnitType::Type { type_signature, type_offset }
            | UnitType::SplitType { type_signature, type_offset } => {
                Some((type_signature.0, type_offset.0))
            }
            _ => None,
        },
        low_pc: 0,
        str_offsets_base: DebugStrOffsetsBase::default_for_encoding_and_file(
            header.encoding(),
            dwarf.file_type,
        ),
        addr_base: DebugAddrBase(0),
        loclists_base: DebugLocListsBase::default_for_encoding_and_file(
            header.encoding(),
            dwarf.file_type,
        ),
        rnglists_base: DebugRngListsBase::default_for_encoding_and_file(
            header.encoding(),
            dwarf.file_type,
        ),
        header,
    };
    let abbreviations = dwarf.abbreviations(&header)?;
    let borrowed = Arc::clone(&abbreviations);
    let mut entries = header.entries_raw(&borrowed, None)?;
    let mut root = gimli::DebuggingInformationEntry::null();
    if !entries.read_entry(&mut root)? {
        return Err(gimli::Error::MissingUnitDie);
    }
    for attribute in root.attrs() {
        let value = attribute.value();
        match (attribute.name(), value) {
            (constants::DW_AT_stmt_list, AttributeValue::DebugLineRef(offset)) => {
                head.lines = Some(offset);
            }
            (_, AttributeValue::DebugStrOffsetsBase(base)) => head.str_offsets_base = base,
            (_, AttributeValue::DebugAddrBase(base)) => head.addr_base = base,
            (_, AttributeValue::DebugLocListsBase(base)) => head.loclists_base = base,
            (_, AttributeValue::DebugRngListsBase(base)) => head.rnglists_base = base,
            (_, AttributeValue::DwoId(id)) => head.split_id = head.split_id.or(Some(id)),
            (_, AttributeValue::Language(language)) => head.language = Language::new(language),
            _ => {}
        }
    }
    let unit = head.unit_with(abbreviations);
    let string = |name| dwarf.attr_string(&unit, root.attr_value(name)?).ok();
    head.name = string(constants::DW_AT_name);
    head.directory = string(constants::DW_AT_comp_dir);
    head.producer = string(constants::DW_AT_producer);
    head.split_name =
        string(constants::DW_AT_dwo_name).or_else(|| string(constants::DW_AT_GNU_dwo_name));
    if let Some(value) = root.attr_value(constants::DW_AT_low_pc) {
        head.low_pc = dwarf.attr_address(&unit, value)?.unwrap_or(0);
    }
    let unit = head.unit_with(unit.abbreviations);
    // A broken list of ranges leaves the unit reachable by name.
    let ranges = die_ranges(dwarf, &unit, &root).unwrap_or_default();
    // dwz puts imports first.
    while head.imports.len() < IMPORTS_MAX
        && let Ok(true) = entries.read_entry(&mut root)
        && root.tag() == constants::DW_TAG_imported_unit
    {
        head.imports.extend(root.attr_value(constants::DW_AT_import));
    }
    Ok((head, ranges))
}

/// The addresses of an entry: `DW_AT_low_pc` and `DW_AT_high_pc`, or `DW_AT_ranges`.
pub(crate) fn die_ranges<'a>(
    dwarf: &Dwarf<'a>,
    unit: &gimli::Unit<R<'a>>,
    entry: &Entry<'a>,
) -> gimli::Result<Vec<Range<u64>>> {
    let mut low = None;
    let mut high = None;
    for attribute in entry.attrs() {
        match attribute.name() {
            constants::DW_AT_low_pc => low = dwarf.attr_address(unit, attribute.value())?,
            constants::DW_AT_high_pc => high = Some(attribute.value()),
            constants::DW_AT_ranges => {
                let Some(mut list) = dwarf.attr_ranges(unit, attribute.value())? else { continue };
                let mut ranges = Vec::new();
                while let Some(range) = list.next()? {
                    if range.begin < range.end && ranges.len() < RANGES_MAX {
                        ranges.push(range.begin..range.end);
                    }
                }
                return Ok(ranges);
            }
            _ => {}
        }
    }
    let (Some(low), Some(high)) = (low, high) else { return Ok(Vec::new()) };
    let end = match high {
        AttributeValue::Udata(length) => low.saturating_add(length),
        value => match (dwarf.attr_address(unit, value)?, value.udata_value()) {
            (Some(end), _) => end,
            (None, Some(length)) => low.saturating_add(length),
            (None, None) => low,
        },
    };
    Ok(std::iter::once(low..end).filter(|range| range.start < range.end).collect())
}

pub(crate) fn text(bytes: R<'_>) -> String {
    bytes.to_string_lossy().into_owned()
}
