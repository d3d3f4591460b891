//! The index file: where each record is, in the order in which they were completed.
//!
//! That order is by the last leaf that a record is about (then: what belongs to the leaf, the
//! leaf itself, nodes from the lowest up), so a record is found by searching.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::record::{FILE_HEADER, INDEX_ENTRY, IndexEntry, RecordId, RecordKind, index_header};

pub const NAME: &str = "index";

#[derive(Debug)]
pub struct Index {
    pub file: File,
    pub path: PathBuf,
}

impl Index {
    pub fn open(directory: &Path, file: File) -> Result<Index, Error> {
        let path = directory.join(NAME);
        check_header(&file, &path, &index_header())?;
        Ok(Index { file, path })
    }

    /// Complete entries in the file.
    pub fn entries(&self) -> Result<u64, Error> {
        let data = self.file.metadata().map_err(|source| Error::io(&self.path, source))?;
        Ok(data.len().saturating_sub(FILE_HEADER as u64) / INDEX_ENTRY as u64)
    }

    pub fn entry(&self, position: u64) -> Result<IndexEntry, Error> {
        let offset = entry_offset(position);
        let mut bytes = [0; INDEX_ENTRY];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| Error::io(&self.path, source))?;
        IndexEntry::get(&bytes).map_err(|error| Error::corrupt(&self.path, offset, error.0))
    }

    /// The last leaf among the first `entries`.
    pub fn last_leaf(&self, entries: u64) -> Result<Option<IndexEntry>, Error> {
        for position in (0..entries).rev() {
            let entry = self.entry(position)?;
            if entry.id.kind == RecordKind::LEAF {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Where a record is, if it is among the first `entries`, which have `leaves` leaves.
    pub fn locate(
        &self,
        id: RecordId,
        entries: u64,
        leaves: u64,
    ) -> Result<Option<(u64, IndexEntry)>, Error> {
        let group = id.last_leaf();
        let guess = u128::from(entries) * u128::from(group.min(leaves)) / u128::from(leaves.max(1));
        let first =
            self.first_from(entries, guess as u64, |entry| entry.id.last_leaf() >= group)?;
        for position in first..entries {
            let entry = self.entry(position)?;
            if entry.id == id {
                return Ok(Some((position, entry)));
            }
            if entry.id.last_leaf() != group {
                break;
            }
        }
        Ok(None)
    }

    /// The first of `entries` for which `is_behind` holds, as it does for all that follow. Looks
    /// near `guess` first.
    pub fn first_from(
        &self,
        entries: u64,
        guess: u64,
        is_behind: impl Fn(&IndexEntry) -> bool,
    ) -> Result<u64, Error> {
        let (mut low, mut high) = (0, entries);
        let (mut probe, mut step) = (guess, 1);
        while low < high {
            let at = probe.clamp(low, high - 1);
            if is_behind(&self.entry(at)?) {
                high = at;
                probe = at.saturating_sub(step);
            } else {
                low = at + 1;
                probe = at.saturating_add(step);
            }
            step *= 2;
            if step > high - low {
                probe = low + (high - low) / 2;
            }
        }
        Ok(low)
    }
}

/// Where an entry is in the file.
pub fn entry_offset(position: u64) -> u64 {
    FILE_HEADER as u64 + position * INDEX_ENTRY as u64
}

/// Compares the beginning of a file with what must be there.
pub fn check_header(file: &File, path: &Path, expected: &[u8]) -> Result<(), Error> {
    let mut found = vec![0; expected.len()];
    match file.read_exact_at(&mut found, 0) {
        Ok(()) if found == expected => Ok(()),
        Ok(()) => Err(Error::corrupt(path, 0, "its header is not as it should be")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Error::corrupt(path, 0, "it ends within its header"))
        }
        Err(source) => Err(Error::io(path, source)),
    }
}
