//! Damaged and hostile recordings: always an error that names file and place, never a panic,
//! never much memory.

#[path = "support/parsers.rs"]
mod parsers;
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use model::{Address, Tid};
use parsers::Parser;
use rr_trace::{DataStream, Error, MemWrite, Trace};

/// How long each parser gets damaged input: a second, or PERNOSCO_FUZZ_SECONDS.
fn fuzz_time() -> Duration {
    let seconds = std::env::var("PERNOSCO_FUZZ_SECONDS");
    Duration::from_secs(seconds.map_or(1, |text| text.parse().expect("a number of seconds")))
}

/// For all tests of this file together, which run at the same time.
const MEMORY_MAX: usize = 300 << 20;

/// Measures what this program allocates.
struct Meter;
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
#[global_allocator]
static METER: Meter = Meter;

// SAFETY: every call goes to the system's allocator unchanged; only numbers are kept here.
#[allow(unsafe_code, reason = "there is no other way to measure allocations")]
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn check_memory() {
    let peak = PEAK.load(Relaxed);
    assert!(peak < MEMORY_MAX, "{} MiB allocated", peak >> 20);
}

fn check_error(error: &Error) {
    match error {
        Error::Corrupt { file, reason, .. } | Error::Truncated { file, reason, .. } => {
            assert!(file == Path::new(parsers::FILE) && !reason.is_empty());
        }
        Error::TooLarge { file, size, limit, .. } => {
            assert!(file == Path::new(parsers::FILE) && size > limit);
        }
        Error::WrongVersion { .. } | Error::Unsupported { .. } => {}
        other => panic!("{other:?}"),
    }
}

/// The same numbers on every run (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

fn traces() -> Vec<PathBuf> {
    support::recordings().into_iter().map(|(_, directory)| directory.join("trace")).collect()
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    const INTERESTING: [u8; 8] = [0, 1, 7, 0x0f, 0x7f, 0x80, 0xfe, 0xff];
    if bytes.is_empty() {
        return;
    }
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = INTERESTING[random.below(8)],
            3 => bytes.truncate(at.max(1)),
            4 => bytes.insert(at, INTERESTING[random.below(8)]),
            _ => {
                let end = bytes.len().min(at + random.below(32));
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, part);
            }
        }
    }
}

/// The decompressed content of a stream: the data reader does not care what it means.
fn decompressed(stream: &[u8]) -> Vec<u8> {
    let mut reader = DataStream::from_bytes(Path::new("seed"), stream);
    let mut all = Vec::new();
    while !reader.at_end().unwrap() {
        let write = MemWrite {
            tid: Tid(0),
            address: Address(0),
            length: 1,
            holes: vec![],
            length_is_conservative: false,
        };
        all.extend(reader.read_to_vec(&write, 1).unwrap());
    }
    all
}

/// Damages real files and, below the compression, real messages, for a while.
fn fuzz(file: &str, compressed: bool, parse: Parser) {
    let seeds: Vec<Vec<u8>> =
        traces().iter().map(|trace| std::fs::read(trace.join(file)).unwrap()).collect();
    let messages: Vec<Vec<u8>> = match compressed {
        true => seeds.iter().map(|seed| decompressed(seed)).collect(),
        false => vec![],
    };
    let mut random = Random(0x1234_5678_9abc_def1);
    let (time, start, mut runs, mut errors) = (fuzz_time(), Instant::now(), 0, 0);
    while start.elapsed() < time {
        let below = !messages.is_empty() && random.below(4) > 0;
        let pool = if below { &messages } else { &seeds };
        let mut bytes = pool[random.below(pool.len())].clone();
        damage(&mut bytes, &mut random);
        let bytes = if below { parsers::stored(&bytes) } else { bytes };
        let (_, error) = parse(&bytes);
        runs += 1;
        if let Some(error) = error {
            check_error(&error);
            errors += 1;
        }
    }
    eprintln!("{file}: {runs} damaged inputs, {errors} errors");
    assert!(errors > 0);
    check_memory();
}

#[test]
fn damaged_headers() {
    fuzz("version", false, parsers::header);
}

#[test]
fn damaged_frames() {
    fuzz("events", true, parsers::frames);
}

#[test]
fn damaged_mappings() {
    fuzz("mmaps", true, parsers::mmaps);
}

#[test]
fn damaged_task_events() {
    fuzz("tasks", true, parsers::tasks);
}

#[test]
fn damaged_data() {
    // Any stream will do, and the files called data are long.
    fuzz("events", true, parsers::data);
}

#[test]
fn truncated_files() {
    let trace = traces().into_iter().next().unwrap();
    let cases: [(&str, Parser); 4] = [
        ("version", parsers::header),
        ("events", parsers::frames),
        ("mmaps", parsers::mmaps),
        ("tasks", parsers::tasks),
    ];
    for (file, parse) in cases {
        let bytes = std::fs::read(trace.join(file)).unwrap();
        assert!(parse(&bytes).1.is_none());
        let step = (bytes.len() / 150).max(1);
        for length in (1..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            let (_, error) = parse(&bytes[..length]);
            check_error(&error.unwrap_or_else(|| panic!("{file}: {length} bytes are enough?")));
        }
    }
}

#[test]
fn truncated_data() {
    let directory = traces().into_iter().next().unwrap();
    let trace = Trace::open(&directory).unwrap();
    let frames: Vec<_> = trace.frames().unwrap().map(Result::unwrap).collect();
    let bytes = std::fs::read(directory.join("data")).unwrap();
    for length in (0..bytes.len()).step_by(bytes.len() / 12 + 1).chain([bytes.len() - 1]) {
        let mut data = DataStream::from_bytes(Path::new(parsers::FILE), &bytes[..length]);
        let error = frames
            .iter()
            .flat_map(|frame| &frame.writes)
            .find_map(|write| data.read_write::<Error>(write, |_| Ok(())).err());
        check_error(&error.expect("some byte is missed"));
    }
    check_memory();
}

#[test]
fn blocks_that_decompress_to_far_more_than_they_are() {
    // Packed zeroes: two bytes for 2 KiB. The message claims 120 MiB and has all of it.
    let words = 15u32 << 20;
    let [w0, w1, w2, w3] = words.to_le_bytes();
    let mut packed = vec![0xf0, w0, w1, w2, w3];
    for _ in 0..words.div_ceil(256) {
        packed.extend([0, 255]);
    }
    let (good, error) = parsers::frames(&parsers::stored(&packed));
    // All zero is a valid frame: no pointer, everything at its default.
    assert_eq!(good, 1, "{error:?}");
    let claim = [0xf0, 0xff, 0xff, 0xff, 0x00];
    let (_, error) = parsers::frames(&parsers::stored(&claim));
    assert!(matches!(error, Some(Error::Truncated { .. } | Error::TooLarge { .. })), "{error:?}");
    check_memory();
}

/// Lists in a message may share memory; reading them all must not multiply it.
#[test]
fn lists_that_share_memory() {
    // A frame: root pointer, 56 bytes of data, 5 pointers. Writes: as many as fit, each of
    // whose hole lists is one and the same list behind them.
    let (writes, holes) = (20_000u64, 20_000u64);
    let mut words = vec![0u64; 13];
    words[0] = 7 << 32 | 5 << 48;
    let tag_at = words.len() as u64;
    words[8] = ((tag_at - 9) << 2 | 1) | 7 << 32 | (writes * 4) << 35;
    words.push(writes << 2 | 3 << 32 | 1 << 48);
    let list_at = tag_at + 1 + writes * 4;
    for _ in 0..writes {
        let pointer_at = words.len() as u64 + 3;
        words.extend([0, 0, 1 << 40]);
        words.push(((list_at - pointer_at - 1) << 2 | 1) | 7 << 32 | (holes * 2) << 35);
    }
    words.push(holes << 2 | 2 << 32);
    for hole in 0..holes {
        words.extend([hole * 4096, 4096]);
    }
    let table = (words.len() as u64) << 32;
    let packed: Vec<u8> = [table]
        .into_iter()
        .chain(words)
        .flat_map(|word| {
            let bytes = word.to_le_bytes();
            let tag = (0..8).fold(0, |tag, bit| tag | u8::from(bytes[bit] != 0) << bit);
            let used = bytes.into_iter().filter(|&byte| byte != 0);
            let run = matches!(tag, 0 | 0xff).then_some(0);
            [tag].into_iter().chain(used).chain(run).collect::<Vec<_>>()
        })
        .collect();
    let (good, error) = parsers::frames(&parsers::stored(&packed));
    assert_eq!(good, 0);
    let text = error.unwrap().to_string();
    assert!(text.contains("limit"), "{text}");
    check_memory();
}
