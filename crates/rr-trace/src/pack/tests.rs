//! Packing of a small recording whose program and library were put elsewhere.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::stream::{BlockReader, BlockWriter, Messages};
use crate::trace_capnp as schema;
use crate::{MMap, MapSource, Stat};

const PROGRAM: &str = "mmap_copy_4_sum";
const LIBRARY: &str = "mmap_pack_0_librrpage.so";

struct Recording {
    _temporary: tempfile::TempDir,
    directory: PathBuf,
    /// Where the program and its library lie.
    elsewhere: PathBuf,
}

impl Recording {
    /// As it came, save that the files in `moved` lie elsewhere.
    fn new(moved: &[&str]) -> Recording {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        let (directory, elsewhere) = (root.join("trace"), root.join("elsewhere"));
        fs::create_dir(&directory).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings/sum/trace");
        for entry in fs::read_dir(source).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
            }
        }
        let recording = Recording { _temporary: temporary, directory, elsewhere };
        for name in moved {
            fs::rename(recording.directory.join(name), recording.elsewhere.join(name)).unwrap();
        }
        let elsewhere = recording.elsewhere.clone();
        recording.rename(|name| {
            let name = std::str::from_utf8(name).unwrap();
            moved
                .contains(&name)
                .then(|| elsewhere.join(name).into_os_string().into_string().unwrap())
        });
        recording
    }

    fn open(&self) -> Trace {
        Trace::open(&self.directory).unwrap()
    }

    fn maps(&self) -> Vec<MMap> {
        self.open().mmaps().unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn backing_names(&self) -> BTreeSet<String> {
        let name = |map: MMap| match map.source {
            MapSource::File { backing_name } => String::from_utf8(backing_name).ok(),
            _ => None,
        };
        self.maps().into_iter().filter_map(name).collect()
    }

    /// Names of the files in the recording, and their contents.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(&self.directory).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap_or_default())
            })
            .collect()
    }

    /// Gives backing files other names, with the state that those files have now.
    fn rename(&self, new_name: impl Fn(&[u8]) -> Option<String>) {
        let path = self.directory.join("mmaps");
        let mut messages = Messages::new(BlockReader::new(self.open().mmaps_source().unwrap()));
        let new = self.directory.join("renamed");
        let mut writer = BlockWriter::new(File::create(&new).unwrap());
        while let Some(bytes) = messages
            .next(|message| {
                let old = message.reader.get_root::<schema::m_map::Reader<'_>>()?;
                let mut builder = capnp::message::Builder::new_default();
                builder.set_root(old)?;
                if let Ok(schema::m_map::source::Which::File(file)) = old.get_source().which()
                    && let Some(name) = new_name(file.get_backing_file_name()?)
                {
                    let file = fs::metadata(self.directory.join(&name)).unwrap();
                    let mut map = builder.get_root::<schema::m_map::Builder<'_>>()?;
                    map.set_inode(file.ino());
                    map.set_stat_mode(file.mode());
                    map.set_stat_uid(file.uid());
                    map.set_stat_gid(file.gid());
                    map.set_stat_size(file.size() as i64);
                    map.set_stat_m_time(file.mtime());
                    map.get_source().init_file().set_backing_file_name(name.as_bytes());
                }
                let mut bytes = Vec::new();
                capnp::serialize_packed::write_message(&mut bytes, &builder)?;
                Ok(bytes)
            })
            .unwrap()
        {
            writer.append(&bytes).unwrap();
        }
        writer.finish().unwrap();
        fs::rename(new, path).unwrap();
    }

    fn pack(&self) -> Result<Vec<Copied>, Error> {
        Packing::plan(&self.open())?.run()
    }

    fn refusal(&self) -> String {
        let before = self.files();
        let message = self.pack().unwrap_err().to_string();
        assert!(self.files() == before, "a failure leaves the recording as it was: {message}");
        message
    }
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn files_are_copied_and_everything_else_is_kept() {
    let recording = Recording::new(&[PROGRAM, LIBRARY]);
    let (before, files) = (recording.maps(), recording.files());
    let packing = Packing::plan(&recording.open()).unwrap();
    assert!(!packing.is_done());
    assert_eq!(packing.inside(), 0);
    let copied = packing.run().unwrap();
    let froms: BTreeSet<_> = copied.iter().map(|copy| copy.from.clone()).collect();
    let both = [PROGRAM, LIBRARY].map(|name| recording.elsewhere.join(name));
    assert_eq!(froms, BTreeSet::from(both.clone()));
    let mut expected = files;
    for copy in &copied {
        assert!(copy.new);
        expected.insert(copy.name.clone(), fs::read(&copy.from).unwrap());
    }
    let mut found = recording.files();
    for changed in [&mut found, &mut expected] {
        changed.remove("mmaps").unwrap();
    }
    assert!(found == expected);
    assert_eq!(
        recording.backing_names(),
        copied.iter().map(|copy| copy.name.clone()).collect::<BTreeSet<_>>()
    );
    for (old, new) in before.iter().zip(recording.maps()) {
        assert_eq!((old.event, &old.range, &old.name), (new.event, &new.range, &new.name));
        assert_eq!((old.inode, old.device, old.prot), (new.inode, new.device, new.prot));
        assert_eq!((old.flags, old.file_offset), (new.flags, new.file_offset));
        if matches!(new.source, MapSource::File { .. }) {
            assert_eq!(new.stat, Stat { size: old.stat.size, ..Stat::default() });
        } else {
            assert_eq!(&new, old);
        }
    }
    assert_eq!(before.len(), recording.maps().len());

    // Again: nothing to do, not even without the originals.
    fs::remove_dir_all(&recording.elsewhere).unwrap();
    let files = recording.files();
    let packing = Packing::plan(&recording.open()).unwrap();
    assert!(packing.is_done());
    assert_eq!((packing.inside(), packing.run().unwrap()), (2, vec![]));
    assert!(recording.files() == files);
}

#[test]
fn links_in_the_recording_are_replaced() {
    let recording = Recording::new(&[PROGRAM]);
    let program = recording.elsewhere.join(PROGRAM);
    let own = recording.directory.join("mmap_hardlink_4_sum");
    fs::hard_link(&program, &own).unwrap();
    let library = recording.directory.join(LIBRARY);
    fs::rename(&library, recording.elsewhere.join("page")).unwrap();
    symlink("../elsewhere/page", &library).unwrap();
    recording.rename(|name| name.starts_with(b"/").then(|| "mmap_hardlink_4_sum".into()));
    let copied = recording.pack().unwrap();
    assert_eq!(copied.len(), 2);
    assert!(copied.iter().any(|copy| copy.from == recording.elsewhere.join("page")), "{copied:?}");
    assert!(copied.iter().any(|copy| copy.name.ends_with("_sum")), "{copied:?}");
    assert!(!own.exists() && fs::symlink_metadata(library).is_err());
    fs::write(program, "overwritten").unwrap();
    assert!(Packing::plan(&recording.open()).unwrap().is_done());
    for copy in &copied {
        let file = fs::symlink_metadata(recording.directory.join(&copy.name)).unwrap();
        assert!(file.is_file() && file.nlink() == 1);
    }
}

#[test]
fn equal_files_are_copied_once() {
    let recording = Recording::new(&[PROGRAM, LIBRARY]);
    // The library has the program's bytes, by another name.
    let program = recording.elsewhere.join(PROGRAM);
    fs::copy(&program, recording.elsewhere.join(LIBRARY)).unwrap();
    let elsewhere = recording.elsewhere.clone();
    recording.rename(|name| {
        let path = elsewhere.join(LIBRARY);
        name.ends_with(LIBRARY.as_bytes()).then(|| path.to_str().unwrap().into())
    });
    let copied = recording.pack().unwrap();
    assert_eq!(copied.iter().map(|copy| copy.new).collect::<Vec<_>>(), [true, false]);
    assert_eq!(copied[0].name, copied[1].name);
    assert_eq!(recording.backing_names().len(), 1);

    // Of the same length only.
    let recording = Recording::new(&[PROGRAM]);
    let inside = recording.directory.join(LIBRARY);
    let mut bytes = fs::read(recording.elsewhere.join(PROGRAM)).unwrap();
    fs::write(&inside, &bytes).unwrap();
    let copied = recording.pack().unwrap();
    assert_eq!((copied[0].new, copied[0].name.as_str()), (false, LIBRARY));
    let recording = Recording::new(&[PROGRAM]);
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(recording.directory.join(LIBRARY), &bytes).unwrap();
    assert!(recording.pack().unwrap()[0].new);
}

#[test]
fn changed_files_are_refused() {
    let recording = Recording::new(&[PROGRAM, LIBRARY]);
    let program = recording.elsewhere.join(PROGRAM);
    let original = fs::read(&program).unwrap();
    let recorded = fs::metadata(&program).unwrap().modified().unwrap();
    let touch = |time| File::options().write(true).open(&program).unwrap().set_modified(time);
    fs::write(&program, &original[1..]).unwrap();
    touch(recorded).unwrap();
    let message = recording.refusal();
    assert!(message.contains("elsewhere/mmap_copy_4_sum: has changed since"), "{message}");
    assert!(message.contains("another size") && !message.contains("time"), "{message}");
    fs::write(&program, &original).unwrap();
    touch(recorded + std::time::Duration::from_secs(1)).unwrap();
    let message = recording.refusal();
    assert!(message.contains("another modification time"), "{message}");
    touch(recorded).unwrap();
    // Other rights are worth a warning only.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o640)).unwrap();
    let copied = recording.pack().unwrap();
    let copy = copied.iter().find(|copy| copy.from == program).unwrap();
    let mode = mode_of(&recording.directory.join(&copy.name));
    assert_eq!(mode & !0o640, 0, "{mode:o}");
}

#[test]
fn only_regular_files_are_copied() {
    let recording = Recording::new(&[PROGRAM, LIBRARY]);
    let [program, library] = [PROGRAM, LIBRARY].map(|name| recording.elsewhere.join(name));
    fs::remove_file(&program).unwrap();
    let message = recording.refusal();
    assert!(message.contains("mmap_copy_4_sum: No such file"), "{message}");
    fs::create_dir(&program).unwrap();
    fs::remove_file(&library).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(&library).status().unwrap();
    assert!(pipe.success());
    let message = recording.refusal();
    assert!(message.contains("2 mapped files are not as recorded"), "{message}");
    assert_eq!(message.matches("not a regular file").count(), 2, "{message}");

    // A file that nothing is known of.
    let recording = Recording::new(&[PROGRAM]);
    let target = recording.elsewhere.join("secret");
    fs::write(&target, "secret").unwrap();
    let names = BTreeMap::from([(
        recording.elsewhere.join(PROGRAM).into_os_string().into_encoded_bytes(),
        target.into_os_string().into_encoded_bytes(),
    )]);
    let new = recording.directory.join("renamed");
    rewrite::rewrite(&recording.open(), &names, File::create(&new).unwrap(), &new).unwrap();
    fs::rename(new, recording.directory.join("mmaps")).unwrap();
    let message = recording.refusal();
    assert!(message.contains("secret: the recording does not say what it was like"), "{message}");
}

#[test]
fn nothing_is_written_through_links() {
    let recording = Recording::new(&[PROGRAM]);
    let victim = recording.elsewhere.join("victim");
    fs::write(&victim, "precious").unwrap();
    let stream = recording.directory.join(NEW_STREAM);
    symlink(&victim, &stream).unwrap();
    let message = recording.refusal();
    assert!(message.contains("mmaps.new"), "{message}");
    fs::remove_file(&stream).unwrap();
    fs::hard_link(&victim, &stream).unwrap();
    let error = recording.pack().unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().ends_with("mmaps.new"), "{error}");
    assert!(source.contains("not a plain file"), "{source}");
    fs::remove_file(&stream).unwrap();
    // A stream that is a link is replaced, what it points to is not touched.
    let moved = recording.elsewhere.join("mmaps");
    let old = recording.directory.join("mmaps");
    fs::rename(&old, &moved).unwrap();
    symlink(&moved, &old).unwrap();
    let before = fs::read(&moved).unwrap();
    recording.pack().unwrap();
    assert!(fs::symlink_metadata(&old).unwrap().is_file());
    assert_eq!(fs::read(&moved).unwrap(), before);
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn what_a_killed_packing_left_is_removed() {
    let recording = Recording::new(&[PROGRAM]);
    let half = recording.directory.join("mmap_pack_0_sum");
    fs::write(&half, "half a program").unwrap();
    fs::write(recording.directory.join("mmap_pack_7_old"), "left over").unwrap();
    fs::write(recording.directory.join(NEW_STREAM), "half a stream").unwrap();
    let copied = recording.pack().unwrap();
    assert_eq!(copied[0].name, "mmap_pack_0_sum");
    let names: Vec<_> = recording.files().into_keys().collect();
    let expected =
        ["data", "events", "mmap_pack_0_librrpage.so", "mmap_pack_0_sum", "mmaps", "tasks"];
    assert_eq!(names[..6], expected);
    assert_eq!(names[6..], ["version"]);
}

#[test]
fn one_process_packs_at_a_time() {
    let recording = Recording::new(&[PROGRAM]);
    let stream = recording.directory.join(NEW_STREAM);
    let held = lock(&recording.open(), &stream).unwrap();
    let error = recording.pack().unwrap_err();
    assert!(matches!(error, Error::Packing { .. }), "{error}");
    drop(held);
    recording.pack().unwrap();
}

#[test]
fn what_becomes_another_file_meanwhile_is_not_copied() {
    let recording = Recording::new(&[PROGRAM]);
    let trace = recording.open();
    let plan = Plan::make(&trace).unwrap();
    let program = recording.elsewhere.join(PROGRAM);
    let bytes = fs::read(&program).unwrap();
    fs::remove_file(&program).unwrap();
    fs::write(&program, bytes).unwrap();
    let error = Copies::new(&recording.directory, &plan).add(&plan.outside[0]).unwrap_err();
    assert!(error.to_string().contains("changes while"), "{error}");
}
