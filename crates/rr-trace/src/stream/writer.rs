//! Writes a stream of blocks.

use std::fs::File;
use std::io::{self, Write};

use brotli::enc::BrotliEncoderParams;

/// As rr cuts and compresses its streams of records.
const BLOCK_BYTES: usize = 64 << 10;
const QUALITY: i32 = 5;

/// Cuts what it is given into blocks.
#[derive(Debug)]
pub(crate) struct BlockWriter {
    file: File,
    pending: Vec<u8>,
}

impl BlockWriter {
    pub(crate) fn new(file: File) -> BlockWriter {
        BlockWriter { file, pending: Vec::new() }
    }

    /// Appends a message: blocks end where messages do.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= BLOCK_BYTES { self.write_pending() } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> io::Result<File> {
        if !self.pending.is_empty() {
            self.write_pending()?;
        }
        Ok(self.file)
    }

    fn write_pending(&mut self) -> io::Result<()> {
        let parameters = BrotliEncoderParams { quality: QUALITY, ..Default::default() };
        // A message can be longer than a block should be.
        for block in self.pending.chunks(16 * BLOCK_BYTES) {
            let mut compressed = Vec::new();
            brotli::BrotliCompress(&mut &*block, &mut compressed, &parameters)?;
            for length in [compressed.len(), block.len()] {
                let length = u32::try_from(length).map_err(io::Error::other)?;
                self.file.write_all(&length.to_le_bytes())?;
            }
            self.file.write_all(&compressed)?;
        }
        self.pending.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{BlockReader, Source, source::Input};

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 17 * BLOCK_BYTES + 5] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * i / 7 % 251) as u8).collect();
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut writer = BlockWriter::new(file.reopen().unwrap());
            for part in bytes.chunks(1000) {
                writer.append(part).unwrap();
            }
            writer.append(&bytes).unwrap();
            writer.finish().unwrap();
            let mut reader = BlockReader::new(Source::open(file.path()).unwrap());
            let mut read = Vec::new();
            loop {
                let part = reader.fill().unwrap();
                if part.is_empty() {
                    break;
                }
                read.extend_from_slice(part);
                let count = part.len();
                reader.consume(count);
            }
            assert!(read == [&bytes[..], &bytes].concat(), "{length}");
        }
    }
}
