//! Guest memory: address spaces, their mappings, and where the host keeps them.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use model::Address;

/// What the guest may do with a page. Execute and write both imply read (x86).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Protection {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

/// Memory shared by several mappings, in one or several address spaces; clones are the same
/// memory.
#[derive(Clone, Debug)]
pub struct SharedObject {}

impl SharedObject {
    pub fn new(name: &str) -> Result<SharedObject, Error> {
        todo!()
    }
    /// Makes the object at least `length` bytes long; new bytes are zero.
    pub fn grow(&self, length: u64) -> Result<(), Error> {
        todo!()
    }
}

/// Where the bytes of a new mapping come from.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Private zero pages.
    Zero,
    /// Private copy-on-write pages of a file: bytes `offset..offset + length` of the file, and
    /// zeroes behind; `offset` is a multiple of the page size.
    File { file: Arc<File>, offset: u64, length: u64 },
    /// Pages of a shared object from `offset` (a multiple of the page size).
    Shared { object: SharedObject, offset: u64 },
}

#[derive(Clone, Debug)]
pub struct Mapping {
    pub range: Range<Address>,
    pub protection: Protection,
    pub backing: Backing,
}

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{what}: {source}")]
    Host { what: String, source: std::io::Error },
    #[error("guest range {0:?} is not page aligned, is empty or leaves the user half")]
    BadRange(Range<Address>),
    #[error("guest memory at {0} is not mapped")]
    NotMapped(Address),
}

/// One guest address space.
#[derive(Debug)]
pub struct Space {}

impl Space {
    /// Maps `range` anew, replacing whatever was there.
    pub fn map(&mut self, range: Range<Address>, protection: Protection, backing: Backing) -> Result<(), Error> {
        todo!()
    }
    pub fn unmap(&mut self, range: Range<Address>) -> Result<(), Error> {
        todo!()
    }
    /// Changes the protection of the mapped parts of `range`; parts not mapped are passed over.
    pub fn protect(&mut self, range: Range<Address>, protection: Protection) -> Result<(), Error> {
        todo!()
    }
    /// Moves the mappings of `from` (contents, protection, backing) to `to`, replacing what was
    /// there; leaves `from` unmapped.
    pub fn relocate(&mut self, from: Range<Address>, to: Address) -> Result<(), Error> {
        todo!()
    }
    /// Private pages of `range` go back to what they were when mapped; shared ones stay.
    pub fn discard(&mut self, range: Range<Address>) -> Result<(), Error> {
        todo!()
    }
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        [].iter()
    }
    pub fn mapping_at(&self, address: Address) -> Option<&Mapping> {
        todo!()
    }
    /// Reads whatever the protection; fails at the first byte that is not mapped.
    pub fn read(&self, address: Address, bytes: &mut [u8]) -> Result<(), Error> {
        todo!()
    }
    /// Writes whatever the protection, as a debugger does; nothing is written when a byte is not
    /// mapped. Marks words, and translations made from these bytes are dropped.
    pub fn write(&mut self, address: Address, bytes: &[u8]) -> Result<(), Error> {
        todo!()
    }
    /// As `write`, up to the first byte that is not mapped; returns how many bytes were written.
    pub fn write_mapped(&mut self, address: Address, bytes: &[u8]) -> usize {
        todo!()
    }
    pub fn read_u64(&self, address: Address) -> Result<u64, Error> {
        todo!()
    }
    pub fn write_u64(&mut self, address: Address, value: u64) -> Result<(), Error> {
        todo!()
    }
}
