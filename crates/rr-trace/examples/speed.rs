//! Measures reading: `cargo run --release -p rr-trace --example speed -- TRACE`.
//!
//! Recordings of tests are small, so their streams are repeated (blocks can be strung together)
//! until they are large.

use std::path::Path;
use std::time::Instant;

use model::{Address, Tid};
use rr_trace::{DataStream, Error, Frames, MMaps, MemWrite, Piece};

fn repeated(path: &Path, length: usize) -> std::io::Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.repeat(length.div_ceil(bytes.len().max(1))))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: speed TRACE")?;
    let directory = Path::new(&directory);

    let events = repeated(&directory.join("events"), 8 << 20)?;
    let start = Instant::now();
    let mut frames = 0u64;
    for frame in Frames::from_bytes(Path::new("events"), &events) {
        frame?;
        frames += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("events: {frames} frames, {:.2} M frames/s", frames as f64 / seconds / 1e6);

    let mmaps = repeated(&directory.join("mmaps"), 8 << 20)?;
    let start = Instant::now();
    let mut records = 0u64;
    for record in MMaps::from_bytes(Path::new("mmaps"), &mmaps) {
        record?;
        records += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("mmaps: {records} records, {:.2} M records/s", records as f64 / seconds / 1e6);

    let data = repeated(&directory.join("data"), 64 << 20)?;
    let mut stream = DataStream::from_bytes(Path::new("data"), &data);
    let length = 4096;
    let (tid, address) = (Tid(0), Address(0));
    let page = MemWrite { tid, address, length, holes: vec![], length_is_conservative: false };
    let start = Instant::now();
    let mut bytes = 0u64;
    while !stream.at_end()? {
        let result = stream.read_write::<Error>(&page, |piece| {
            if let Piece::Bytes { bytes: part, .. } = piece {
                bytes += part.len() as u64;
            }
            Ok(())
        });
        if result.is_err() {
            break;
        }
    }
    let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!(
        "data: {} MB compressed, {} MB, {rate:.0} MB/s",
        data.len() / 1_000_000,
        bytes / 1_000_000
    );
    Ok(())
}
