//! The files: kills at every byte, damage at every bit, disks that are full.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use model::{Address, Event, Moment, Tid};
use store::*;

#[path = "support/generate.rs"]
mod generate;
use generate::Random;

fn build() -> BTreeMap<String, String> {
    [("level".to_owned(), "1".to_owned())].into()
}

fn options() -> Options {
    Options { level: 1, volume_bytes: 9_000, sync_bytes: 20_000, ..Options::default() }
}

fn create(directory: &Path) -> Writer {
    Writer::create(directory, b"recording", build(), options()).unwrap()
}

fn resume(directory: &Path) -> Result<Writer, Error> {
    Writer::resume(directory, b"recording", &build(), options())
}

/// Something of every kind of section.
fn leaf(number: u64) -> EncodedLeaf {
    let mut random = Random(number);
    let mut leaf = LeafEncoder::new(1).unwrap();
    let page = PageId { owner: Owner(1), page: random.below(5) };
    leaf.written([WrittenPage { page, words: [number | 1; 8] }]).unwrap();
    leaf.read([ReadPage { page, lines: random.next() | 1 }]).unwrap();
    let (start, end) = (Address(random.below(50)), Address(60 + random.below(50)));
    leaf.code([CodeRun { owner: Owner(0), start, end, count: number + 1, children: 1 }]).unwrap();
    let count = Count { class: 1, key: random.below(9), count: 2, children: 1 };
    leaf.called([count]).unwrap();
    leaf.keys([count]).unwrap();
    leaf.depths([(Tid(4), number as i64 % 7)]).unwrap();
    let values = (0..512).map(|_| random.below(1 << 40)).collect();
    let words = [u64::MAX; 8];
    leaf.memory([PageDelta { page, dropped: false, words, values, children: 1 }]).unwrap();
    leaf.lineages([Lineage { owner: Owner(number as u32 + 1), parent: None }]).unwrap();
    leaf.calls(Tid(4), [&generate::program_calls(50, number)[..]]).unwrap();
    let (moment, event) = (Moment(number * 100), Event(number));
    leaf.happenings([Happening { moment, event, kind: 3, payload: vec![1, 2, 3] }]).unwrap();
    leaf.blob(1, &random.next().to_le_bytes()).unwrap();
    leaf.finish().unwrap()
}

const OWN: RecordKind = RecordKind::OWN;

fn append(writer: &mut Writer) -> Result<(), Error> {
    let number = writer.leaves();
    writer.append_own(OWN, format!("own {number}").as_bytes())?;
    writer.append_leaf(Moment((number + 1) * 100), &leaf(number))
}

fn append_to(writer: &mut Writer, leaves: u64) {
    while writer.leaves() < leaves {
        append(writer).unwrap();
    }
}

/// Names and bytes of all files.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

fn write_files(directory: &Path, files: &BTreeMap<String, Vec<u8>>) {
    _ = fs::remove_dir_all(directory);
    fs::create_dir(directory).unwrap();
    for (name, bytes) in files {
        fs::write(directory.join(name), bytes).unwrap();
    }
}

const LEAVES: u64 = 37;

#[test]
fn a_whole_database() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("db");
    let mut writer = create(&directory);
    append_to(&mut writer, LEAVES);
    writer.finish().unwrap();
    let reader = Reader::open(&directory, 1 << 20).unwrap();
    assert_eq!((reader.leaves(), reader.end()), (LEAVES, Moment(LEAVES * 100)));
    assert_eq!(reader.manifest().options, build());
    let verified = reader.verify(|_| ()).unwrap();
    // 37 leaves with a record of their own each; 3 nodes, and the root.
    assert_eq!((verified.leaves, verified.records), (37, 37 + 37 + 3 + 1));
    let files = files(&directory);
    assert!(files.len() > 6, "volumes were to be small");
    let sum: usize = files.iter().filter(|(name, _)| *name != "manifest").map(|f| f.1.len()).sum();
    assert_eq!(verified.bytes, sum as u64);
    for number in 0..LEAVES {
        let bytes = reader.record(RecordId::leaf(number), 1 << 20).unwrap().unwrap();
        assert!(bytes == leaf(number).as_bytes());
        let id = RecordId { kind: OWN, level: 0, number };
        let own = reader.record(id, 1 << 20).unwrap().unwrap();
        assert_eq!(own, format!("own {number}").as_bytes());
        assert_eq!(reader.span(number).unwrap(), Moment(number * 100)..Moment(number * 100 + 100));
    }
    assert!(reader.record(RecordId::leaf(LEAVES), 1 << 20).unwrap().is_none());
    assert!(reader.record(RecordId::leaf(0), 10).is_err(), "longer than the limit");
    assert!(matches!(reader.leaf(LEAVES), Err(Error::NoSuchLeaf { .. })));
    assert!(matches!(reader.leaf(u64::MAX), Err(Error::NoSuchLeaf { .. })));
    assert!(matches!(resume(&directory), Err(Error::Complete { .. })));
    let again = Writer::create(&directory, b"", build(), options());
    assert!(matches!(again, Err(Error::Exists { .. })));
}

/// Two builds of the same, one interrupted in all ways: the same bytes.
#[test]
fn interruptions_leave_no_trace() {
    let base = tempfile::tempdir().unwrap();
    let (plain, broken) = (base.path().join("plain"), base.path().join("broken"));
    let mut writer = create(&plain);
    append_to(&mut writer, LEAVES);
    writer.finish().unwrap();

    let mut writer = create(&broken);
    append_to(&mut writer, 5);
    drop(writer);
    let mut writer = resume(&broken).unwrap();
    append_to(&mut writer, 16);
    writer.interrupt().unwrap();
    assert_eq!(Reader::open(&broken, 0).unwrap().manifest().state, State::Interrupted);
    let mut writer = resume(&broken).unwrap();
    assert_eq!(Reader::open(&broken, 0).unwrap().manifest().state, State::Building);
    append_to(&mut writer, 20);
    // A record that belongs to a leaf that never comes.
    writer.append_own(OWN, b"own 20").unwrap();
    writer.diverge("rax is 1").unwrap();
    let state = Reader::open(&broken, 0).unwrap().manifest().state;
    assert_eq!(state, State::Diverged("rax is 1".to_owned()));
    let mut writer = resume(&broken).unwrap();
    append_to(&mut writer, LEAVES);
    writer.finish().unwrap();
    assert!(files(&plain) == files(&broken));
}

/// A kill leaves a prefix of what was written, in the order of writing: of the volume, then of the
/// index. From every such state a build goes on to the same bytes.
#[test]
fn kills_at_any_byte() {
    let base = tempfile::tempdir().unwrap();
    let (whole, cut) = (base.path().join("whole"), base.path().join("cut"));
    let mut states = vec![];
    let mut writer = create(&whole);
    for leaves in 0..20 {
        append_to(&mut writer, leaves);
        states.push(files(&whole));
    }
    let last = states.len() - 1;
    drop(writer);
    let expected = &states[last];
    let mut random = Random(5);
    for round in 0..150 {
        let leaves = random.below(last as u64) as usize;
        let (before, after) = (&states[leaves], &states[leaves + 1]);
        let mut state = before.clone();
        let mut sealed = leaves as u64;
        // Volumes grow first, by some bytes of what comes; or everything is there but the entries.
        let all = round % 3 == 0;
        for (name, bytes) in after.iter().filter(|(name, _)| name.starts_with("volume")) {
            let old = before.get(name).map_or(0, Vec::len);
            let length = old + random.below((bytes.len() - old) as u64 + 1) as usize;
            let length = if all { bytes.len() } else { length };
            state.insert(name.clone(), bytes[..length].to_vec());
            if !all {
                break;
            }
        }
        if all {
            let (old, new) = (before["index"].len(), after["index"].len());
            let length = old + random.below((new - old) as u64 + 1) as usize;
            state.insert("index".to_owned(), after["index"][..length].to_vec());
            // The record of its own, the leaf, perhaps a node.
            sealed += u64::from(length - old >= 128);
        }
        write_files(&cut, &state);
        // Readers see what is sealed, meanwhile.
        let reader = Reader::open(&cut, 1 << 20).unwrap();
        assert_eq!(reader.leaves(), sealed);
        reader.verify(|_| ()).unwrap();
        let mut writer = resume(&cut).unwrap();
        assert_eq!(writer.leaves(), sealed);
        append_to(&mut writer, last as u64);
        drop(writer);
        assert!(files(&cut) == *expected, "from leaf {leaves}, round {round}");
    }
}

/// What did not reach the disk when the power failed is noticed and built again.
#[test]
fn records_that_were_lost() {
    let base = tempfile::tempdir().unwrap();
    let (whole, bad) = (base.path().join("whole"), base.path().join("bad"));
    let mut writer = create(&whole);
    append_to(&mut writer, 20);
    drop(writer);
    let good = files(&whole);
    let volumes: Vec<String> =
        good.keys().filter(|name| name.starts_with("volume")).cloned().collect();
    let last = &volumes[volumes.len() - 1];
    let mut random = Random(6);
    for round in 0..60 {
        let mut state = good.clone();
        match round % 3 {
            0 => {
                state.remove(last);
            }
            1 => {
                let bytes = state.get_mut(last).unwrap();
                bytes.truncate(random.below(bytes.len() as u64) as usize);
            }
            _ => {
                let bytes = state.get_mut(last).unwrap();
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at..].fill(0);
            }
        }
        write_files(&bad, &state);
        let mut writer = resume(&bad).unwrap();
        assert!(writer.leaves() <= 20);
        append_to(&mut writer, 20);
        drop(writer);
        assert!(files(&bad) == good, "round {round}");
    }
}

#[test]
fn other_builds_and_other_builders_are_refused() {
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("db");
    let writer = create(&directory);
    assert!(matches!(resume(&directory), Err(Error::Locked { .. })));
    drop(writer);
    let other = Writer::resume(&directory, b"another", &build(), options());
    assert!(matches!(other, Err(Error::OtherBuild { .. })));
    let other = Writer::resume(&directory, b"recording", &BTreeMap::new(), options());
    assert!(matches!(other, Err(Error::OtherBuild { .. })));
    resume(&directory).unwrap();

    let foreign = base.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.tex"), "precious").unwrap();
    let refused = Writer::create(&foreign, b"", build(), options());
    assert!(matches!(refused, Err(Error::Exists { .. })));
    assert!(matches!(Reader::open(&foreign, 0), Err(Error::NotADatabase { .. })));
    assert_eq!(files(&foreign).len(), 1);
    // Killed before there was a manifest: that may be begun anew.
    let begun = base.path().join("begun");
    fs::create_dir(&begun).unwrap();
    fs::write(begun.join("index"), "half a head").unwrap();
    append_to(&mut create(&begun), 3);
}

#[test]
fn nobody_else_may_write_the_files() {
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("db");
    let mut writer = create(&directory);
    append_to(&mut writer, 20);
    writer.finish().unwrap();
    for entry in fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o002, 0, "{:?} is {mode:o}", entry.file_name());
    }
}

/// Goes through everything that there is to read.
fn read_all(reader: &Reader) -> Result<(), Error> {
    fn drain<T>(items: Result<impl Iterator<Item = Result<T, Error>>, Error>) -> Result<(), Error> {
        items?.try_for_each(|item| item.map(|_| ()))
    }
    let leaves = reader.leaves();
    for number in 0..leaves {
        let leaf = reader.leaf(number)?;
        drain(leaf.written())?;
        drain(leaf.read())?;
        drain(leaf.code())?;
        drain(leaf.called())?;
        drain(leaf.keys())?;
        drain(leaf.depths())?;
        drain(leaf.memory())?;
        drain(leaf.lineages())?;
        drain(leaf.happenings(Moment(0)))?;
        for task in leaf.tasks_with_calls().collect::<Vec<_>>() {
            drain(leaf.calls(task, Moment(0)))?;
        }
        for tag in leaf.blobs().collect::<Vec<_>>() {
            drain(leaf.blob(tag))?;
        }
    }
    let tree = Tree::new(reader);
    let owner = Owner(1);
    let keys = [
        Key::Written { owner, bytes: 0..9000 },
        Key::Read { owner, bytes: 0..9000 },
        Key::Executed { owner: Owner(0), code: Address(0)..Address(200) },
        Key::Shallower { task: Tid(4), limit: 3 },
        Key::Counted(Counted::Key { class: 1, key: 4 }),
    ];
    for key in keys {
        tree.last_before(&key, leaves)?;
        tree.first_from(&key, 0)?;
    }
    tree.nth(Counted::Executed { owner: Owner(0), address: Address(55) }, 40)?;
    tree.min_depth(Tid(4), 1..leaves)?;
    let view = MemoryView::new(reader);
    view.page(PageId { owner, page: 2 }, leaves)?;
    drain(view.pages(owner, leaves))?;
    Ok(())
}

/// Every bit of every file counts, and no damage does more than give an error.
#[test]
fn every_damage_is_noticed() {
    let base = tempfile::tempdir().unwrap();
    let (whole, bad) = (base.path().join("whole"), base.path().join("bad"));
    let mut writer = create(&whole);
    append_to(&mut writer, 18);
    writer.finish().unwrap();
    let good = files(&whole);
    write_files(&bad, &good);
    let check = || {
        let reader = Reader::open(&bad, 1 << 16)?;
        if reader.leaves() < 18 {
            return Err(Error::NoSuchLeaf { leaf: 18, leaves: reader.leaves() });
        }
        // Whether it is noticed by reading or not: it must end, without a panic.
        _ = read_all(&reader);
        reader.verify(|_| ()).map(|_| ())
    };
    check().unwrap();
    let mut random = Random(7);
    for (name, bytes) in &good {
        let path = bad.join(name);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for at in 0..bytes.len() as u64 {
            // All bytes of small files, some of larger ones.
            if bytes.len() > 3000 && !random.one_in(bytes.len() as u64 / 1000) {
                continue;
            }
            let byte = bytes[at as usize];
            file.write_all_at(&[byte ^ 1 << random.below(8)], at).unwrap();
            check().expect_err("a bit of a file does not matter");
            file.write_all_at(&[byte], at).unwrap();
        }
        for _ in 0..100.min(bytes.len()) {
            let length = random.below(bytes.len() as u64);
            file.set_len(length).unwrap();
            check().expect_err("the end of a file does not matter");
            file.set_len(0).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        }
    }
    check().unwrap();
}

/// Checksums keep out accidents only: what is wrong behind right ones must not panic either.
#[test]
fn hostile_payloads() {
    let good = leaf(3).as_bytes().to_vec();
    let mut random = Random(8);
    let mut opened = 0;
    for _ in 0..20_000 {
        let mut bad = good.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(bad.len() as u64) as usize;
            bad[at] = random.next() as u8;
        }
        support_hostile::repair(&mut bad);
        opened += u32::from(support_hostile::read(&bad));
    }
    assert!(opened > 1000, "checksums were to be repaired, and {opened} payloads opened");
}

#[path = "support/hostile.rs"]
mod support_hostile;

/// A limit on the length of files is as good as a full disk: this test runs itself under one.
#[test]
fn full_disks() {
    const DIRECTORY: &str = "STORE_TEST_FULL_DISK";
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return fill_up(Path::new(&directory));
    }
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("db");
    let mut writer = create(&directory);
    append_to(&mut writer, 3);
    drop(writer);
    let limited = std::process::Command::new("sh")
        .args(["-c", "ulimit -f 14; trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full_disks", "--nocapture"])
        .env(DIRECTORY, &directory)
        .output()
        .unwrap();
    assert!(limited.status.success(), "{limited:?}");
    let sealed = Reader::open(&directory, 0).unwrap().leaves();
    let mut writer = resume(&directory).unwrap();
    assert!(sealed >= 3 && writer.leaves() == sealed);
    append_to(&mut writer, 10);
    Reader::open(&directory, 0).unwrap().verify(|_| ()).unwrap();
}

fn fill_up(directory: &Path) {
    let mut writer = resume(directory).unwrap();
    let error = loop {
        if let Err(error) = append(&mut writer) {
            break error;
        }
        assert!(writer.leaves() < 30, "the volume never filled up");
    };
    let text = error.to_string();
    assert!(text.contains("volume-") && text.contains("make room"), "{text}");
    let number = writer.leaves();
    let again = writer.append_leaf(Moment((number + 1) * 100), &leaf(number));
    assert!(matches!(again, Err(Error::Poisoned { .. })), "{again:?}");
}
