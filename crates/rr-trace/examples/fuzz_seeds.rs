//! Seeds for /fuzz: `cargo run -p rr-trace --example fuzz_seeds -- DIRECTORY TRACE...`
//!
//! For each stream, DIRECTORY/rr_trace_STREAM gets the file as it is and what it holds below the
//! compression, which the fuzz targets pack again: fuzzers find little behind a compression.

use std::path::Path;

use model::{Address, Tid};
use rr_trace::{DataStream, Error, MemWrite};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: fuzz_seeds DIRECTORY TRACE...";
    let directory = arguments.next().ok_or(usage)?;
    for (number, trace) in arguments.enumerate() {
        for (file, target) in [
            ("version", "rr_trace_header"),
            ("events", "rr_trace_frames"),
            ("mmaps", "rr_trace_mmaps"),
            ("tasks", "rr_trace_tasks"),
            ("data", "rr_trace_data"),
        ] {
            let seeds = Path::new(&directory).join(target);
            std::fs::create_dir_all(&seeds)?;
            let path = Path::new(&trace).join(file);
            let bytes = std::fs::read(&path)?;
            std::fs::write(seeds.join(format!("{number}-file")), &bytes)?;
            if file != "version" {
                std::fs::write(seeds.join(format!("{number}-content")), content(&path, &bytes)?)?;
            }
        }
    }
    Ok(())
}

/// The decompressed content of a stream: the data reader does not care what it means.
fn content(path: &Path, stream: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = DataStream::from_bytes(path, stream);
    let one = MemWrite {
        tid: Tid(0),
        address: Address(0),
        length: 1,
        holes: vec![],
        length_is_conservative: false,
    };
    let mut all = Vec::new();
    while !reader.at_end()? {
        all.extend(reader.read_to_vec(&one, 1)?);
    }
    Ok(all)
}
