//! The tree of sixteenths over the leaves: which of them can hold an answer.

mod key;
pub mod merge;
mod search;

pub use key::{Counted, Key};
pub use search::{Nth, Tree};

use std::io::Write;
use std::sync::Arc;

use crate::columns::counts::Counts;
use crate::columns::depths::LeastDepths;
use crate::columns::kind;
use crate::columns::lines::Lines;
use crate::columns::pages::Pages;
use crate::columns::runs::Runs;
use crate::error::Error;
use crate::payload::{Payload, table_bytes, write_section};
use crate::section::{Codec, Packer, SectionEntry};

/// Children of a node.
pub const FANOUT: u64 = 16;

/// Writes the payload of the node over `children`, in order, and returns its length.
pub fn write_node(
    children: &[Arc<Payload>],
    packer: &mut Packer,
    sink: &mut impl Write,
    failed: &dyn Fn(std::io::Error) -> Error,
) -> Result<u64, Error> {
    let mut node = NodeWriter { packer, sink, failed, table: Vec::new(), position: 0 };
    for kind in [kind::WRITTEN, kind::READ] {
        let lines = merge::Merge::<Lines>::new(children, kind)?;
        node.section::<Lines>(kind, lines.fold(merge::fold_lines))?;
    }
    node.section::<Runs>(kind::CODE, merge::SumRuns::new(children, kind::CODE)?)?;
    for kind in [kind::CALLED, kind::KEYS] {
        let counts = merge::Merge::<Counts>::new(children, kind)?;
        node.section::<Counts>(kind, counts.fold(merge::fold_counts))?;
    }
    let depths = merge::Merge::<LeastDepths>::new(children, kind::DEPTHS)?;
    node.section::<LeastDepths>(kind::DEPTHS, depths.fold(merge::fold_depths))?;
    let pages = merge::Merge::<Pages>::new(children, kind::MEMORY)?;
    node.section::<Pages>(kind::MEMORY, pages.fold(merge::fold_pages))?;
    node.finish()
}

struct NodeWriter<'a, W> {
    packer: &'a mut Packer,
    sink: &'a mut W,
    failed: &'a dyn Fn(std::io::Error) -> Error,
    table: Vec<SectionEntry>,
    position: u64,
}

impl<W: Write> NodeWriter<'_, W> {
    fn section<C: Codec>(
        &mut self,
        kind: u16,
        items: impl Iterator<Item = Result<C::Item, Error>>,
    ) -> Result<(), Error> {
        let (packer, sink) = (&mut *self.packer, &mut *self.sink);
        let id = (kind, 0);
        let entry = write_section::<C, _>(id, self.position, items, packer, sink, self.failed)?;
        self.position += entry.map_or(0, |entry| entry.length);
        self.table.extend(entry);
        Ok(())
    }

    fn finish(self) -> Result<u64, Error> {
        let table = table_bytes(&self.table);
        self.sink.write_all(&table).map_err(self.failed)?;
        Ok(self.position + table.len() as u64)
    }
}
