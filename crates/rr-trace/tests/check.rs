//! What `check` finds in whole recordings, and in ones put together from parts of several.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use rr_trace::{Checked, Trace, check};

fn small(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings").join(name).join("trace")
}

/// A copy of the recording `sum`, to be damaged.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Copy {
        let copy = Copy(tempfile::tempdir().unwrap());
        for entry in fs::read_dir(small("sum")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.path(entry.file_name().to_str().unwrap())).unwrap();
            }
        }
        copy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with_stream_of(self, name: &str, stream: &str) -> Copy {
        fs::copy(small(name).join(stream), self.path(stream)).unwrap();
        self
    }

    fn check(&self) -> Checked {
        check(&Trace::open(self.0.path()).unwrap()).unwrap()
    }

    /// The problems, a line each.
    fn problems(&self) -> String {
        self.check().problems.join("\n")
    }
}

#[test]
fn genuine_recordings_have_no_problems() {
    let mut recordings = support::recordings();
    for (_, path) in &mut recordings {
        path.push("trace");
    }
    for name in ["sum", "traced", "strings", "sharing", "race", "flows", "generated"] {
        recordings.push((name.into(), small(name)));
    }
    for (name, path) in recordings {
        let trace = Trace::open(&path).unwrap();
        let checked = check(&trace).unwrap();
        assert_eq!((&checked.problems[..], checked.more), (&[][..], 0), "{name}");
        let frames = trace.frames().unwrap().map(Result::unwrap);
        let payload: Vec<u64> = frames.map(|frame| frame.payload_length()).collect();
        assert_eq!(checked.events, payload.len() as u64, "{name}");
        assert_eq!(checked.memory_bytes, payload.iter().sum::<u64>(), "{name}");
        assert_eq!(checked.mappings, trace.mmaps().unwrap().count() as u64, "{name}");
        assert_eq!(checked.task_events, trace.tasks().unwrap().count() as u64, "{name}");
    }
}

#[test]
fn parts_that_do_not_belong_together_are_noticed() {
    let problems = Copy::new().with_stream_of("strings", "data").problems();
    let data = problems.contains("belong to no event") || problems.contains("data: truncated");
    assert!(data && problems.lines().count() == 1, "{problems}");
    let problems = Copy::new().with_stream_of("traced", "tasks").problems();
    assert!(problems.contains("which nobody made"), "{problems}");
    assert!(problems.contains("task records behind the last event"), "{problems}");
    let problems = Copy::new().with_stream_of("traced", "mmaps").problems();
    assert!(problems.contains("mmap_copy_4_traced: No such file"), "{problems}");
    let problems = Copy::new().with_stream_of("traced", "events").problems();
    assert!(problems.contains("which nobody made"), "{problems}");
}

#[test]
fn every_stream_is_read_to_its_end() {
    for stream in ["events", "data", "mmaps", "tasks"] {
        let copy = Copy::new();
        let path = copy.path(stream);
        let good = fs::read(&path).unwrap();
        for (what, bytes) in [
            ("truncated", good[..good.len() - 1].to_vec()),
            ("truncated", [&good[..], &[0; 3]].concat()),
            ("corrupt", [&good[..], &[1, 0, 0, 0, 9, 0, 0, 0, 0x3b]].concat()),
        ] {
            fs::write(&path, bytes).unwrap();
            let problems = copy.problems();
            let expected = format!("{stream}: {what}");
            assert!(problems.contains(&expected), "{expected}: {problems}");
        }
    }
}

#[test]
fn mapped_files_have_their_recorded_sizes() {
    let copy = Copy::new();
    let program = copy.path("mmap_copy_4_sum");
    let bytes = fs::read(&program).unwrap();
    fs::write(&program, &bytes[1..]).unwrap();
    let problems = copy.problems();
    let size = format!("has {} bytes and was recorded with {}", bytes.len() - 1, bytes.len());
    assert!(problems.contains(&size), "{problems}");
    fs::remove_file(&program).unwrap();
    fs::create_dir(&program).unwrap();
    let problems = copy.problems();
    assert!(problems.contains("mmap_copy_4_sum: not a regular file"), "{problems}");
    assert_eq!(problems.lines().count(), 1, "{problems}");
}

#[test]
fn a_recording_has_one_identity_wherever_it_lies() {
    let identity = |path: &Path| Trace::open(path).unwrap().identity().unwrap();
    let original = identity(&small("sum"));
    let copy = Copy::new();
    assert_eq!(identity(copy.0.path()), original);
    let stamp = || Trace::open(copy.0.path()).unwrap().stamp().unwrap();
    let before = stamp();
    assert_eq!(stamp(), before);
    let mut data = fs::read(copy.path("data")).unwrap();
    data.push(0);
    fs::write(copy.path("data"), data).unwrap();
    assert_ne!(stamp(), before);
    assert_ne!(identity(copy.0.path()), original);
    let copy = Copy::new().with_stream_of("strings", "mmaps");
    assert_ne!(identity(copy.0.path()), original);
}

/// Whatever the bytes are: problems, and no panic.
#[test]
fn damaged_streams_are_looked_through_as_well() {
    let copy = Copy::new();
    let mut state = 1_u64;
    let mut random = |below: usize| {
        // Knuth's MMIX generator.
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for stream in ["events", "data", "mmaps", "tasks"] {
        let path = copy.path(stream);
        let good = fs::read(&path).unwrap();
        let mut noticed = 0;
        for _ in 0..300 {
            let mut bad = good.clone();
            for _ in 0..1 + random(3) {
                let at = random(bad.len());
                bad[at] ^= 1 << random(8);
            }
            fs::write(&path, bad).unwrap();
            let checked = copy.check();
            assert!(checked.problems.iter().all(|problem| problem.len() < 1000));
            noticed += u32::from(!checked.problems.is_empty());
            if stream == "mmaps" {
                // Nothing is written where something is wrong.
                _ = rr_trace::Packing::plan(&Trace::open(copy.0.path()).unwrap());
            }
        }
        // Values of memory, registers and so on can be anything.
        assert!(noticed > 150, "{noticed} in {stream}");
        fs::write(path, good).unwrap();
    }
    assert_eq!(copy.problems(), "");
}
