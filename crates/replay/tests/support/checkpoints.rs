//! The untrusted inputs that checkpoints are: for /fuzz and for tests/checkpoint_files.rs.
//!
//! Whatever the bytes are, reading must come back, and a session that stands at what was read
//! must go on or fail, but not panic.

use std::path::Path;

use model::PAGE_SIZE;
use replay::{Checkpoint, Error, Opened, Options, Session};
use rr_trace::Trace;
use xxhash_rust::xxh3::xxh3_64;

pub const FILE: &str = "hostile";
const MAGIC: &[u8] = b"rr checkpoint\r\n\0";
const HEADER_BYTES: usize = 52;

/// The recording that is in the tree.
pub fn smallest_recording() -> Trace {
    let crates = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // Both crates that include this file lie in the workspace, but not equally deep.
    let path = ["../tests", "tests"].map(|tests| crates.join(tests).join("recordings/sum/trace"));
    let found = path.iter().find(|path| path.is_dir()).expect("the recording is in the tree");
    Trace::open(found).expect("it is a recording")
}

/// What is below compression and checksums.
#[derive(Clone, Debug)]
pub struct Parts {
    pub state: Vec<u8>,
    pub map: Vec<u8>,
    pub pages: Vec<u8>,
}

impl Parts {
    /// From a file that is right.
    pub fn of(file: &[u8]) -> Parts {
        let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let (state, map, groups) = (number(36), number(40), number(44));
        let unpack = |at: usize, length: usize| zstd::decode_all(&file[at..at + length]).unwrap();
        let state_at = HEADER_BYTES + 8;
        let map_at = state_at + state + 8;
        let mut at = map_at + map + 8;
        let mut pages = Vec::new();
        for _ in 0..groups {
            let length = number(at);
            pages.extend(unpack(at + 4, length));
            at += 4 + length + 8;
        }
        assert_eq!(at, file.len());
        Parts { state: unpack(state_at, state), map: unpack(map_at, map), pages }
    }

    /// Any bytes: the first four say where the parts begin.
    #[allow(dead_code, reason = "for /fuzz")]
    pub fn any(bytes: &[u8]) -> Parts {
        let (lengths, rest) = bytes.split_at(bytes.len().min(4));
        let length = |at: usize| -> usize {
            let byte = |at: usize| usize::from(lengths.get(at).copied().unwrap_or(0));
            byte(at) | byte(at + 1) << 8
        };
        let (state, rest) = rest.split_at(length(0).min(rest.len()));
        let (map, pages) = rest.split_at(length(2).min(rest.len()));
        Parts { state: state.into(), map: map.into(), pages: pages.into() }
    }

    /// A file of this recording whose checksums are right.
    pub fn file(&self, trace: &Trace) -> Vec<u8> {
        let pack = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
        let (state, map) = (pack(&self.state), pack(&self.map));
        let pages = self.pages.len() / PAGE_SIZE as usize;
        let pages_bytes = &self.pages[..pages * PAGE_SIZE as usize];
        let groups: Vec<&[u8]> = pages_bytes.chunks(256 * PAGE_SIZE as usize).collect();
        let mut file = MAGIC.to_vec();
        file.extend(1u32.to_le_bytes());
        file.extend(trace.header().uuid);
        for number in [state.len(), map.len(), groups.len(), pages] {
            file.extend((number as u32).to_le_bytes());
        }
        let mut start = 0;
        let mut seal = |file: &mut Vec<u8>| {
            file.extend(xxh3_64(&file[start..]).to_le_bytes());
            start = file.len();
        };
        seal(&mut file);
        for section in [state, map] {
            file.extend(section);
            seal(&mut file);
        }
        for group in groups {
            let packed = pack(group);
            file.extend((packed.len() as u32).to_le_bytes());
            file.extend(packed);
            seal(&mut file);
        }
        file
    }
}

/// Reads a file and goes on from there for some instructions.
pub fn file(bytes: &[u8], trace: &Trace) -> Result<(), Error> {
    let checkpoint = Checkpoint::from_bytes(Path::new(FILE), bytes, trace)?;
    assert_eq!(checkpoint.differences(&checkpoint), [""; 0]);
    checkpoint.digest();
    let mut session = Session::resume(trace, Options::default(), &checkpoint)?;
    let until = session.moment() + 1000;
    session.advance(Some(until))?;
    session.advance(Some(until))?;
    Ok(())
}

/// Decodes a state without pages.
pub fn state(bytes: &[u8], trace: &Trace) -> Result<Checkpoint, Error> {
    Checkpoint::decode(bytes, |_| Ok(machine::Pages::default()), trace, &Opened::default())
}
