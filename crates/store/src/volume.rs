//! The volumes: files of at least 1 GiB (but the last) in which the records follow each other.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use crate::error::Error;
use crate::files;
use crate::index::check_header;
use crate::payload::Source;
use crate::record::{IndexEntry, RECORD_HEADER, volume_header};

/// The name of a volume in its directory.
pub fn name(number: u32) -> String {
    format!("volume-{number:05}")
}

/// Volumes open for reading; each stays open once it was used.
#[derive(Debug)]
pub struct Volumes {
    directory: PathBuf,
    open: Mutex<BTreeMap<u32, Arc<File>>>,
}

impl Volumes {
    pub fn new(directory: &Path) -> Volumes {
        Volumes { directory: directory.to_owned(), open: Mutex::default() }
    }

    pub fn path(&self, number: u32) -> PathBuf {
        self.directory.join(name(number))
    }

    fn file(&self, number: u32) -> Result<Arc<File>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&number) {
            return Ok(file.clone());
        }
        let path = self.path(number);
        let file = files::open_to_read(&path).map_err(|source| Error::io(&path, source))?;
        check_header(&file, &path, &volume_header(number))?;
        let file = Arc::new(file);
        open.insert(number, file.clone());
        Ok(file)
    }

    /// The payload of a record, whose header is compared with the entry.
    pub fn source(&self, entry: &IndexEntry) -> Result<Source, Error> {
        let file = self.file(entry.volume)?;
        let path = self.path(entry.volume);
        let length = file.metadata().map_err(|source| Error::io(&path, source))?.len();
        if length < entry.volume_end() {
            return Err(Error::corrupt(&path, length, "the volume ends within a record"));
        }
        let mut header = [0; RECORD_HEADER];
        file.read_exact_at(&mut header, entry.offset).map_err(|source| Error::io(&path, source))?;
        if header != entry.record_header() {
            let reason = "the header of a record differs from the index";
            return Err(Error::corrupt(&path, entry.offset, reason));
        }
        let offset = entry.offset + RECORD_HEADER as u64;
        Ok(Source::File { file, path, offset, length: entry.length })
    }

    /// Reads a whole payload past all caches and compares its checksum.
    pub fn verify(&self, entry: &IndexEntry) -> Result<(), Error> {
        const PIECE: u64 = 1 << 20;
        let Source::File { file, path, offset, length } = self.source(entry)? else {
            unreachable!("a record is in a file");
        };
        let mut sum = Xxh3::new();
        let mut bytes = vec![0; length.min(PIECE) as usize];
        let mut done = 0;
        while done < length {
            let piece = &mut bytes[..(length - done).min(PIECE) as usize];
            file.read_exact_at(piece, offset + done).map_err(|source| Error::io(&path, source))?;
            sum.update(piece);
            done += piece.len() as u64;
        }
        if sum.digest() != entry.sum {
            return Err(Error::corrupt(&path, entry.offset, "the checksum of a record is wrong"));
        }
        Ok(())
    }
}
