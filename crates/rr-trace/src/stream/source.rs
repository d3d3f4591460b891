//! Bytes at offsets, from a file or from memory, with the name that errors mention.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::kept::KeptBlocks;
use crate::Error;

/// A file that is read at offsets, so that any number of readers can share it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    path: Arc<Path>,
    bytes: Bytes,
    length: u64,
    kept: KeptBlocks,
}

#[derive(Clone, Debug)]
enum Bytes {
    File(Arc<File>),
    Memory(Arc<[u8]>),
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Source, Error> {
        let io_error = |source| Error::Io { file: path.into(), source };
        // Before opening: to open a pipe that lies in a recording would wait for ever.
        if !std::fs::metadata(path).map_err(io_error)?.is_file() {
            let reason = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(io_error(reason));
        }
        let file = File::open(path).map_err(io_error)?;
        let length = file.metadata().map_err(io_error)?.len();
        Ok(Source {
            path: path.into(),
            bytes: Bytes::File(Arc::new(file)),
            length,
            kept: KeptBlocks::default(),
        })
    }

    /// For tests and fuzzing: `path` is only what errors call it.
    pub(crate) fn from_bytes(path: &Path, bytes: &[u8]) -> Source {
        let length = bytes.len() as u64;
        let kept = KeptBlocks::default();
        Source { path: path.into(), bytes: Bytes::Memory(bytes.into()), length, kept }
    }

    /// Shares decompressed blocks with other readers of the stream.
    pub(crate) fn sharing(self, kept: &KeptBlocks) -> Source {
        Source { kept: kept.clone(), ..self }
    }

    pub(crate) fn kept(&self) -> &KeptBlocks {
        &self.kept
    }

    /// As it was when the file was opened: a recording does not change any more.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Everything, if it is not more than `limit`; `what` it is called if it is.
    pub(crate) fn read_all(&self, what: &'static str, limit: u64) -> Result<Vec<u8>, Error> {
        if self.length > limit {
            return Err(self.too_large(0, what, self.length, limit));
        }
        let mut bytes = vec![0; usize::try_from(self.length).expect("below the limit")];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Fills `buffer`; the caller has compared with `length`.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let result = match &self.bytes {
            Bytes::File(file) => file.read_exact_at(buffer, offset),
            Bytes::Memory(bytes) => match usize::try_from(offset)
                .ok()
                .and_then(|start| bytes.get(start..)?.get(..buffer.len()))
            {
                Some(part) => {
                    buffer.copy_from_slice(part);
                    Ok(())
                }
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            },
        };
        result.map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated(offset, "the file became shorter"),
            _ => Error::Io { file: self.path.to_path_buf(), source },
        })
    }

    pub(crate) fn corrupt(&self, offset: u64, reason: impl Into<String>) -> Error {
        Error::Corrupt { file: self.path.to_path_buf(), offset, reason: reason.into() }
    }

    pub(crate) fn truncated(&self, offset: u64, reason: impl Into<String>) -> Error {
        Error::Truncated { file: self.path.to_path_buf(), offset, reason: reason.into() }
    }

    pub(crate) fn too_large(
        &self,
        offset: u64,
        what: &'static str,
        size: u64,
        limit: u64,
    ) -> Error {
        Error::TooLarge { file: self.path.to_path_buf(), offset, what, size, limit }
    }
}

/// Where messages come from: a stream of blocks, or plain bytes.
pub(crate) trait Input {
    /// The bytes at hand, at least one unless the input is at its end.
    fn fill(&mut self) -> Result<&[u8], Error>;
    /// Passes over bytes that `fill` showed.
    fn consume(&mut self, count: usize);
    /// Of the next byte.
    fn offset(&self) -> u64;
    fn source(&self) -> &Source;
}

/// Bytes that are in memory already, from `offset` on.
#[derive(Debug)]
pub(crate) struct Plain<'a> {
    source: Source,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Plain<'a> {
    pub(crate) fn new(path: &Path, bytes: &'a [u8], offset: usize) -> Plain<'a> {
        Plain { source: Source::from_bytes(path, &[]), bytes, offset: offset.min(bytes.len()) }
    }
}

impl Input for Plain<'_> {
    fn fill(&mut self) -> Result<&[u8], Error> {
        Ok(&self.bytes[self.offset..])
    }

    fn consume(&mut self, count: usize) {
        self.offset += count;
    }

    fn offset(&self) -> u64 {
        self.offset as u64
    }

    fn source(&self) -> &Source {
        &self.source
    }
}
