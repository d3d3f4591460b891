//! Going through the entries of a unit, within limits.

use gimli::{Abbreviation, EntriesRaw, UnitOffset};

use crate::debug::{Debug, UnitId};
use crate::error::Error;
use crate::units::{Entry, R};

/// An abbreviation with more attributes is a trap: an entry of one byte would cost this much.
const ATTRIBUTES_MAX: usize = 1000;
/// Entries within entries.
const DEPTH_MAX: isize = 1000;

/// Looks at entries in the order of the file, parents before children.
pub(crate) trait Visitor<'a> {
    /// Sees every entry, before its attributes are read. They are read if this says so.
    fn see(&mut self, abbreviation: &Abbreviation, offset: usize, depth: isize) -> bool;
    fn take(&mut self, entry: &Entry<'a>, depth: isize);
    /// Called at the end with the offset behind the last entry.
    fn end(&mut self, _offset: usize) {}
}

impl<'a> Debug<'a> {
    /// Visits the entries of a unit, or an entry and what is inside it. After an error, what was
    /// visited until then stands.
    pub fn walk(
        &self,
        id: UnitId,
        unit: &gimli::Unit<R<'a>>,
        from: Option<UnitOffset>,
        visitor: &mut impl Visitor<'a>,
    ) -> Result<(), Error> {
        let start = from.map_or(0, |offset| offset.0);
        let mut entries = unit.entries_raw(from).map_err(|error| self.broken(id, start, error))?;
        let result = walk(&mut entries, visitor);
        let offset = entries.next_offset().0;
        visitor.end(offset);
        result.map_err(|error| self.broken(id, offset, error))
    }
}

fn walk<'a>(
    entries: &mut EntriesRaw<'_, R<'a>>,
    visitor: &mut impl Visitor<'a>,
) -> Result<(), String> {
    let text = |error: gimli::Error| error.to_string();
    let mut entry = gimli::DebuggingInformationEntry::null();
    let first_depth = entries.next_depth();
    while !entries.is_empty() {
        let (offset, depth) = (entries.next_offset().0, entries.next_depth());
        let mut ahead = entries.clone();
        if let Some(abbreviation) = ahead.read_abbreviation().map_err(text)? {
            let attributes = abbreviation.attributes();
            if attributes.len() > ATTRIBUTES_MAX || depth > DEPTH_MAX {
                return Err("an entry with too many attributes or too deep".to_owned());
            }
            if visitor.see(abbreviation, offset, depth) {
                entries.read_entry(&mut entry).map_err(text)?;
                visitor.take(&entry, depth);
            } else {
                ahead.skip_attributes(attributes).map_err(text)?;
                *entries = ahead;
            }
        } else {
            *entries = ahead;
        }
        if entries.next_depth() <= first_depth {
            break;
        }
    }
    Ok(())
}
