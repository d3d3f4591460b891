//! One function for each untrusted input of this crate: for /fuzz and for tests/corruption.rs.
//!
//! Each reads all that it can. Whatever the bytes are, it must come back, if with an error then
//! with one that says which file and where.

use std::path::Path;

use model::{Address, Event, Tid};
use rr_trace::{DataStream, Error, Frames, Header, Hole, MMaps, MemWrite, Piece, Tasks};

/// How far reading came: records or bytes, and the error that ended it.
pub type Outcome = (u64, Option<Error>);

pub type Parser = fn(&[u8]) -> Outcome;

pub const FILE: &str = "hostile";

fn count<T>(records: impl Iterator<Item = Result<T, Error>>) -> Outcome {
    let mut good = 0;
    for record in records {
        match record {
            Ok(_) => good += 1,
            Err(error) => return (good, Some(error)),
        }
    }
    (good, None)
}

pub fn header(bytes: &[u8]) -> Outcome {
    match Header::parse(Path::new(FILE), bytes) {
        Ok(_) => (1, None),
        Err(error) => (0, Some(error)),
    }
}

pub fn frames(bytes: &[u8]) -> Outcome {
    count(Frames::from_bytes(Path::new(FILE), bytes))
}

pub fn mmaps(bytes: &[u8]) -> Outcome {
    count(MMaps::from_bytes(Path::new(FILE), bytes))
}

/// Also through the interface that looks ahead.
pub fn tasks(bytes: &[u8]) -> Outcome {
    let mut tasks = Tasks::from_bytes(Path::new(FILE), bytes);
    let mut good = 0;
    for event in 0..20 {
        loop {
            match tasks.next_until(Event(event)) {
                Ok(Some(_)) => good += 1,
                Ok(None) => break,
                Err(error) => return (good, Some(error)),
            }
        }
    }
    let (rest, error) = count(tasks);
    (good + rest, error)
}

/// Reads writes of 10,000 bytes, each with a hole, then skips, until the stream ends.
pub fn data(bytes: &[u8]) -> Outcome {
    let mut data = DataStream::from_bytes(Path::new(FILE), bytes);
    let write = MemWrite {
        tid: Tid(1),
        address: Address(0),
        length: 10_100,
        holes: vec![Hole { offset: 50, length: 100 }],
        length_is_conservative: false,
    };
    let mut good = 0;
    for round in 0.. {
        let result = if round % 3 == 2 {
            data.skip(&write).map(|()| good += write.payload_length())
        } else {
            data.read_write::<Error>(&write, |piece| {
                if let Piece::Bytes { bytes, .. } = piece {
                    good += bytes.len() as u64;
                }
                Ok(())
            })
        };
        match result.and_then(|()| data.at_end()) {
            Ok(false) => {}
            Ok(true) => break,
            Err(error) => return (good, Some(error)),
        }
    }
    (good, None)
}

/// A file of one block that holds `bytes` uncompressed (RFC 7932, 9.2), where damage hits the
/// messages and not the compression.
pub fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut brotli = Vec::new();
    for (index, part) in bytes.chunks(1 << 16).enumerate() {
        let header = (part.len() as u32 - 1) << 3 | 1 << 19;
        let header = if index == 0 { header << 1 } else { header };
        brotli.extend(&header.to_le_bytes()[..3]);
        brotli.extend(part);
    }
    brotli.push(if bytes.is_empty() { 6 } else { 3 });
    let lengths = [brotli.len() as u32, bytes.len() as u32];
    lengths.into_iter().flat_map(u32::to_le_bytes).chain(brotli).collect()
}
