//! Damaged and hostile checkpoints: always an error that names file and place, never a panic,
//! never much memory.

#[path = "support/checkpoints.rs"]
mod checkpoints;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use checkpoints::Parts;
use model::{Event, Moment};
use replay::{Border, Checkpoint, Error, Opened, Options, Owner, Session};
use rr_trace::Trace;

/// How long damaged input is tried: a second, or PERNOSCO_FUZZ_SECONDS.
fn fuzz_time() -> Duration {
    let seconds = std::env::var("PERNOSCO_FUZZ_SECONDS");
    Duration::from_secs(seconds.map_or(1, |text| text.parse().expect("a number of seconds")))
}

/// For all tests of this file together, which may run at the same time.
const MEMORY_MAX: usize = 500 << 20;

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

/// A checkpoint of the smallest recording, inside of an event.
fn checkpoint(trace: &Trace) -> Checkpoint {
    let mut session = Session::open(trace, Options::default()).unwrap();
    let border = Border::Instruction { moment: Moment(70_001), iterations: 0 };
    assert!(session.go_on_to(border, |_| {}).unwrap());
    assert!(session.is_in_event());
    session.checkpoint().unwrap()
}

fn file(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = Vec::new();
    checkpoint.write_to(&mut bytes).unwrap();
    bytes
}

/// Offset and reason of an error about a checkpoint.
fn explained(result: Result<Checkpoint, Error>) -> (u64, String) {
    match result.map(|_| ()).unwrap_err() {
        Error::Checkpoint { file, offset, reason } => {
            assert_eq!(file, Path::new(checkpoints::FILE));
            (offset, reason)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_byte_changed_is_noticed() {
    let trace = checkpoints::smallest_recording();
    let good = file(&checkpoint(&trace));
    let read = |bytes: &[u8]| Checkpoint::from_bytes(Path::new(checkpoints::FILE), bytes, &trace);
    read(&good).unwrap();
    let mut bytes = good.clone();
    for at in 0..bytes.len() {
        bytes[at] ^= 1 << (at % 8);
        let (offset, reason) = explained(read(&bytes));
        // A length is noticed behind itself.
        assert!(offset <= at as u64 + 4 && !reason.is_empty(), "{at}: {offset}: {reason}");
        bytes[at] = good[at];
    }
    check_memory();
}

#[test]
fn every_truncation_is_noticed() {
    let trace = checkpoints::smallest_recording();
    let good = file(&checkpoint(&trace));
    let read = |bytes: &[u8]| Checkpoint::from_bytes(Path::new(checkpoints::FILE), bytes, &trace);
    for length in 0..good.len() {
        let (offset, reason) = explained(read(&good[..length]));
        assert!(offset <= length as u64 && !reason.is_empty(), "{length}: {offset}: {reason}");
    }
    let (offset, reason) = explained(read(&[&good[..], b"x"].concat()));
    assert_eq!((offset, &reason[..]), (good.len() as u64, "1 bytes behind the last page"));
}

#[test]
fn other_versions_and_other_recordings_are_refused() {
    let trace = checkpoints::smallest_recording();
    let checkpoint = checkpoint(&trace);
    let good = file(&checkpoint);
    let read = |bytes: &[u8]| Checkpoint::from_bytes(Path::new(checkpoints::FILE), bytes, &trace);
    let mut other = good.clone();
    other[16] = 2;
    assert_eq!(explained(read(&other)), (16, "version 2; this program reads version 1".into()));
    let parts = Parts::of(&good);
    assert_eq!(parts.file(&trace), good);
    let mut newer = parts.clone();
    newer.state[0] = 9;
    let (_, reason) = explained(read(&newer.file(&trace)));
    assert_eq!(reason, "state of version 9; this program reads version 1");

    // The same recording under another name is another one.
    let directory = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(trace.directory()).unwrap() {
        let entry = entry.unwrap();
        // A database may be there, too.
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
        }
    }
    let copy = Trace::open(directory.path()).unwrap();
    Checkpoint::from_bytes(Path::new(checkpoints::FILE), &good, &copy).unwrap();
    let version = directory.path().join("version");
    let mut header = std::fs::read(&version).unwrap();
    let uuid = trace.header().uuid;
    let at = header.windows(8).position(|bytes| bytes == &uuid[..8]).unwrap();
    header[at] ^= 1;
    std::fs::write(&version, header).unwrap();
    let foreign = Trace::open(directory.path()).unwrap();
    let (_, reason) =
        explained(Checkpoint::from_bytes(Path::new(checkpoints::FILE), &good, &foreign));
    assert_eq!(reason, "it belongs to another recording");
    let decoded = Checkpoint::decode(
        &checkpoint.encode_state(),
        |_| Ok(Default::default()),
        &foreign,
        &Opened::default(),
    );
    assert!(decoded.unwrap_err().to_string().contains("another recording"));
    // Nor may a session go to it.
    drop(Session::open(&foreign, Options::default()).unwrap());
    assert!(Session::resume(&foreign, Options::default(), &checkpoint).is_err());
}

#[test]
fn files_appear_when_they_are_complete() {
    use std::os::unix::fs::PermissionsExt;
    let trace = checkpoints::smallest_recording();
    let checkpoint = checkpoint(&trace);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a checkpoint");
    checkpoint.write(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), file(&checkpoint));
    // The umask is not changed here: what a file gets by itself is the measure.
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
    // Replacing one is allowed, and nothing else is left.
    checkpoint.write(&path).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    let missing = directory.path().join("missing/file");
    let error = checkpoint.write(&missing).unwrap_err();
    assert!(error.to_string().contains("missing/file"), "{error}");
    let error = Checkpoint::read(directory.path(), &trace, &Opened::default()).unwrap_err();
    assert!(matches!(error, Error::CheckpointFile { .. }), "{error}");
    let read = Checkpoint::read(&path, &trace, &Opened::default()).unwrap();
    assert_eq!(read.digest(), checkpoint.digest());
}

#[test]
fn what_changed_makes_the_next_checkpoint_of_the_one_before() {
    let trace = checkpoints::smallest_recording();
    let mut session = Session::open(&trace, Options::default()).unwrap();
    let mut earlier: Option<Checkpoint> = None;
    let mut stored = std::collections::BTreeMap::<(Owner, u64), _>::new();
    let (mut changed, mut total) = (0, 0);
    for event in (5..41).step_by(6) {
        assert!(session.go_on_to(Border::Event(Event(event)), |_| {}).unwrap());
        let checkpoint = session.checkpoint().unwrap();
        let changes = match &earlier {
            Some(earlier) => checkpoint.changes_since(earlier, |owner| owner),
            None => {
                let mut all = Vec::new();
                for (owner, pages) in checkpoint.memory() {
                    let pages = pages.all().into_iter();
                    all.extend(pages.map(|(page, contents)| replay::PageChange {
                        owner,
                        page,
                        before: None,
                        contents: Some(contents),
                    }));
                }
                all
            }
        };
        changed += changes.len();
        total += checkpoint.memory().iter().map(|(_, pages)| pages.all().len()).sum::<usize>();
        for replay::PageChange { owner, page, before, contents } in changes {
            if earlier.is_some() {
                assert_eq!(stored.get(&(owner, page)), before.as_ref());
            }
            match contents {
                Some(contents) => stored.insert((owner, page), contents),
                None => stored.remove(&(owner, page)),
            };
        }
        let pages = |owner: Owner| {
            let mut pages = machine::Pages::default();
            for ((_, page), contents) in stored.range((owner, 0)..=(owner, u64::MAX)) {
                pages.insert(*page, contents.clone());
            }
            Ok(pages)
        };
        let again =
            Checkpoint::decode(&checkpoint.encode_state(), pages, &trace, &Opened::default())
                .unwrap();
        assert_eq!(checkpoint.differences(&again), [""; 0]);
        assert_eq!(checkpoint.digest(), again.digest());
        earlier = Some(checkpoint);
    }
    assert!(changed < total, "{changed} of {total} pages changed");
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

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    const INTERESTING: [u8; 8] = [0, 1, 7, 0x0f, 0x7f, 0x80, 0xfe, 0xff];
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 | 3 => bytes[at] = INTERESTING[random.below(8)],
            4 => bytes.insert(at, INTERESTING[random.below(8)]),
            _ => {
                bytes.remove(at);
            }
        }
    }
}

/// Damage below compression and checksums, where only the meaning can be wrong.
#[test]
fn hostile_checkpoints() {
    let trace = checkpoints::smallest_recording();
    let good = Parts::of(&file(&checkpoint(&trace)));
    let mut random = Random(0x1234_5678_9abc_def1);
    let (start, mut runs, mut errors) = (Instant::now(), 0, 0);
    while start.elapsed() < fuzz_time() {
        let mut parts = good.clone();
        match random.below(4) {
            0 => damage(&mut parts.map, &mut random),
            _ => damage(&mut parts.state, &mut random),
        }
        runs += 1;
        match checkpoints::file(&parts.file(&trace), &trace) {
            Ok(()) => {}
            Err(error) => {
                errors += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    eprintln!("{runs} damaged inputs, {errors} errors");
    assert!(errors > 0 && errors < runs);
    check_memory();
}

/// Pages that all are the same are kept once, however many a small file claims.
#[test]
fn a_small_file_does_not_become_large() {
    let trace = checkpoints::smallest_recording();
    let good = Parts::of(&file(&checkpoint(&trace)));
    let pages = vec![0xff; 100_000 * 4096];
    let hostile = Parts { pages, ..good }.file(&trace);
    assert!(hostile.len() < 100_000);
    PEAK.store(NOW.load(Relaxed), Relaxed);
    let before = NOW.load(Relaxed);
    Checkpoint::from_bytes(Path::new(checkpoints::FILE), &hostile, &trace).unwrap();
    let peak = PEAK.load(Relaxed) - before;
    assert!(peak < 40 << 20, "{} KiB allocated", peak >> 10);
    assert!(checkpoints::state(&[], &trace).is_err());
}
