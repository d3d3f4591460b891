//! The files of a database that answers questions about a whole execution.
//!
//! The run is cut into *leaves*; what happened in each is stored in sections that decompress
//! independently ([`LeafEncoder`], [`Leaf`]). Above them grows a tree of sixteenths whose nodes
//! say which leaves can hold an answer ([`Tree`]) and what memory was at any border
//! ([`MemoryView`]). A [`Writer`] appends leaves in order and closes nodes as they become full;
//! a kill at any moment leaves all that was sealed, and the bytes depend on nothing but what was
//! put in. A [`Reader`] opens a database in constant time and memory, also while it grows.
//!
//! Refused here: knowing what a recording or a machine is. Files are not trusted: they give
//! errors that name the file and the offset, never panics, and allocate no more than a chunk at a
//! time (32 MiB at most, 16 to 64 KiB usually) and the tables that are really there.
//!
//! Costs: see `docs/store-format.md`, which also has the grammar of the bytes.
//!
//! Start reading at [`Writer::append_leaf`], then `section.rs`, `columns.rs`, `tree.rs`.

mod bytes;
mod cache;
mod columns;
mod error;
mod files;
mod index;
mod items;
mod leaf;
mod manifest;
mod memory;
mod payload;
mod reader;
mod record;
mod section;
mod tree;
mod volume;
mod writer;

pub use error::Error;
pub use items::{
    Call, CodeRun, Count, Depths, Happening, Lineage, Owner, PAGE_LINES, PAGE_WORDS, PageDelta,
    PageId, ReadPage, TouchedLine, WordMask, WrittenPage,
};
pub use leaf::{EncodedLeaf, Leaf, LeafEncoder, class};
pub use manifest::{Manifest, State};
pub use memory::{Changes, LINEAGE_MAX, MemoryView, PageView};
pub use payload::SectionSize;
pub use reader::{Reader, Verified};
pub use record::{FORMAT_VERSION, RecordId, RecordKind};
pub use tree::{Counted, Key, Nth, Tree};
pub use writer::{Options, Writer};
