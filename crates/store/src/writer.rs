//! Writing a database, in order, so that a kill at any moment leaves all that was sealed.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use model::Moment;
use xxhash_rust::xxh3::Xxh3;

use crate::error::Error;
use crate::files;
use crate::index::{self, Index, entry_offset};
use crate::leaf::EncodedLeaf;
use crate::manifest::{self, Manifest, State};
use crate::reader::Reader;
use crate::record::{
    FILE_HEADER, IndexEntry, LEVEL_MAX, RECORD_HEADER, RecordId, RecordKind, index_header,
    leaves_below, volume_header,
};
use crate::section::Packer;
use crate::tree;
use crate::volume::{self, Volumes};

const LOCK: &str = "lock";
const DIRECTORY_MODE: u32 = 0o775;

/// How to write.
#[derive(Clone, Debug)]
pub struct Options {
    /// zstd's level for the nodes of the tree, 1 to 22. Decides about the bytes.
    pub level: i32,
    /// A volume that is so long gets no further record. Decides about the bytes.
    pub volume_bytes: u64,
    /// Written bytes are forced to the disk when there are so many.
    pub sync_bytes: u64,
    /// Decoded chunks kept while nodes are made.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { level: 3, volume_bytes: 1 << 30, sync_bytes: 64 << 20, cache_bytes: 16 << 20 }
    }
}

/// Appends leaves to a database, and the nodes above them as soon as they are complete.
///
/// Dropping it at any time, or the end of the process, loses nothing that was sealed.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    options: Options,
    manifest: Manifest,
    packer: Packer,
    index: Index,
    entries: u64,
    volumes: Volumes,
    volume: File,
    volume_number: u32,
    volume_end: u64,
    bytes_unsynced: u64,
    leaves: u64,
    end: u64,
    /// What was begun was not sealed: nothing can follow it.
    failed: bool,
    reader: Reader,
    /// Held until this is dropped.
    _lock: File,
}

impl Writer {
    /// Makes the directory if there is none. What an earlier `create` left that was killed before
    /// it had a manifest is overwritten; anything else in the directory is an error.
    pub fn create(
        directory: &Path,
        identity: &[u8],
        build: std::collections::BTreeMap<String, String>,
        options: Options,
    ) -> Result<Writer, Error> {
        let made = fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory);
        match made {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => refuse_used(directory)?,
            Err(source) => return Err(Error::io(directory, source)),
        }
        let lock = lock(directory)?;
        // Somebody may have been quicker.
        refuse_used(directory)?;
        write_file(&directory.join(index::NAME), &index_header())?;
        write_file(&directory.join(volume::name(0)), &volume_header(0))?;
        let manifest =
            Manifest { identity: identity.to_owned(), options: build, state: State::Building };
        manifest.write(directory)?;
        Writer::open(directory, manifest, options, lock)
    }

    /// Goes on with a build that was interrupted, killed, or stopped at a divergence: what was not
    /// sealed is removed; [`Writer::leaves`] says where to go on. `identity` and `build` must be
    /// those that it was created with.
    pub fn resume(
        directory: &Path,
        identity: &[u8],
        build: &std::collections::BTreeMap<String, String>,
        options: Options,
    ) -> Result<Writer, Error> {
        let mut manifest = Manifest::read(directory)?;
        let other = |what: &str| {
            Err(Error::OtherBuild { directory: directory.to_owned(), what: what.to_owned() })
        };
        if manifest.identity != identity {
            return other("recording");
        }
        for key in manifest.options.keys().chain(build.keys()) {
            if manifest.options.get(key) != build.get(key) {
                return other(&format!("value of `{key}`"));
            }
        }
        let lock = lock(directory)?;
        manifest = Manifest { state: Manifest::read(directory)?.state, ..manifest };
        if manifest.state == State::Complete {
            return Err(Error::Complete { directory: directory.to_owned() });
        }
        if manifest.state != State::Building {
            manifest.state = State::Building;
            manifest.write(directory)?;
        }
        remove_unsealed(directory, options.sync_bytes)?;
        Writer::open(directory, manifest, options, lock)
    }

    /// The files end with what is sealed.
    fn open(
        directory: &Path,
        manifest: Manifest,
        options: Options,
        lock: File,
    ) -> Result<Writer, Error> {
        let index = open_index(directory)?;
        let entries = index.entries()?;
        let last = entries.checked_sub(1).map(|last| index.entry(last)).transpose()?;
        let last_leaf = index.last_leaf(entries)?;
        let (volume_number, volume_end) =
            last.map_or((0, FILE_HEADER as u64), |last| (last.volume, last.volume_end()));
        let packer = Packer::new(options.level).map_err(|e| Error::io("zstd".as_ref(), e))?;
        let mut writer = Writer {
            directory: directory.to_owned(),
            manifest,
            packer,
            index,
            entries,
            volumes: Volumes::new(directory),
            volume: append_to(&directory.join(volume::name(volume_number)))?,
            volume_number,
            volume_end,
            bytes_unsynced: 0,
            leaves: last_leaf.map_or(0, |leaf| leaf.id.number + 1),
            end: last_leaf.map_or(0, |leaf| leaf.end),
            failed: false,
            reader: Reader::open(directory, options.cache_bytes)?,
            options,
            _lock: lock,
        };
        writer.close_nodes(false)?;
        Ok(writer)
    }

    /// How many leaves are sealed: the number of the next one.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// The moment at which the last sealed leaf ends: the beginning of the next one.
    pub fn end(&self) -> Moment {
        Moment(self.end)
    }

    /// Reads what is sealed. For a reader that is used longer than the writer, open another one.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Appends an opaque record that belongs to the next leaf: before the leaf itself, kinds from
    /// [`RecordKind::OWN`] on in ascending order, each once.
    pub fn append_own(&mut self, kind: RecordKind, payload: &[u8]) -> Result<(), Error> {
        let id = RecordId { kind, level: 0, number: self.leaves };
        let last = self.entries.checked_sub(1).map(|last| self.index.entry(last)).transpose()?;
        let is_behind = last.is_none_or(|last| last.id.number < id.number || last.id.level > 0)
            || last.is_some_and(|last| last.id.kind < kind);
        if kind < RecordKind::OWN || !is_behind {
            let reason = "kinds begin with 16 and ascend";
            let section = format!("records of kind {}", kind.0);
            return Err(Error::Refused { section, item: id.number, reason });
        }
        let end = self.end;
        self.append(id, end..end, |_, sink, failed| sink.write_all(payload).map_err(failed))
    }

    /// Appends the next leaf, about the moments from [`Writer::end`] to `end`, and all nodes that
    /// are complete with it. When this returns, they are sealed.
    pub fn append_leaf(&mut self, end: Moment, leaf: &EncodedLeaf) -> Result<(), Error> {
        let (id, end) = (RecordId::leaf(self.leaves), end.0);
        if end < self.end {
            let (section, item) = ("leaves".to_owned(), id.number);
            return Err(Error::Refused { section, item, reason: "it ends before it begins" });
        }
        self.append(id, self.end..end, |_, sink, failed| {
            sink.write_all(&leaf.bytes).map_err(failed)
        })?;
        self.leaves += 1;
        self.end = end;
        self.close_nodes(false)?;
        if self.bytes_unsynced >= self.options.sync_bytes {
            self.sync()?;
        }
        Ok(())
    }

    /// Closes the nodes that are not full, up to one root, and says that the build is complete.
    pub fn finish(mut self) -> Result<(), Error> {
        self.close_nodes(true)?;
        self.stop(State::Complete)
    }

    /// Ends the build before the end of the recording. It can be resumed.
    pub fn interrupt(self) -> Result<(), Error> {
        self.stop(State::Interrupted)
    }

    /// Ends the build because the replay differs from the recording from [`Writer::end`] on.
    /// It can be resumed, by a program that knows better.
    pub fn diverge(self, reason: &str) -> Result<(), Error> {
        self.stop(State::Diverged(reason.to_owned()))
    }

    fn stop(mut self, state: State) -> Result<(), Error> {
        self.sync()?;
        Manifest { state, ..self.manifest }.write(&self.directory)
    }

    /// Forces everything sealed to the disk.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.check_usable()?;
        let path = self.volumes.path(self.volume_number);
        self.volume.sync_data().map_err(|source| Error::io(&path, source))?;
        self.index.file.sync_data().map_err(|source| Error::io(&self.index.path, source))?;
        self.bytes_unsynced = 0;
        Ok(())
    }

    fn check_usable(&self) -> Result<(), Error> {
        match self.failed {
            true => Err(Error::Poisoned { directory: self.directory.clone() }),
            false => Ok(()),
        }
    }

    /// Writes the nodes whose children are all there; with `all`, also those whose children will
    /// never be.
    fn close_nodes(&mut self, all: bool) -> Result<(), Error> {
        for level in 1..=LEVEL_MAX {
            let below = leaves_below(level - 1);
            // Nodes or leaves one level below, complete or not.
            let children = self.leaves.div_ceil(below);
            if children == 0 || (all && children == 1) {
                break;
            }
            if !all && !self.leaves.is_multiple_of(leaves_below(level)) {
                break;
            }
            let number = (children - 1) / tree::FANOUT;
            self.reader.refresh()?;
            if self.reader.payload(level, number)?.is_none() {
                self.write_node(level, number, children)?;
            }
        }
        self.reader.refresh()
    }

    fn write_node(&mut self, level: u8, number: u64, children: u64) -> Result<(), Error> {
        let numbers = number * tree::FANOUT..children;
        let first_leaf = number * leaves_below(level);
        let start = self.reader.span(first_leaf)?.start.0;
        let mut payloads = Vec::new();
        for child in numbers {
            let payload = self.reader.payload(level - 1, child)?;
            payloads.push(payload.ok_or(Error::NoSuchLeaf { leaf: child, leaves: self.leaves })?);
        }
        let id = RecordId::node(level, number);
        self.append(id, start..self.end, |packer, sink, failed| {
            tree::write_node(&payloads, packer, sink, &failed).map(|_| ())
        })
    }

    /// Writes a record behind the last one and seals it with its entry in the index.
    fn append(
        &mut self,
        id: RecordId,
        span: Range<u64>,
        write: impl FnOnce(&mut Packer, &mut Sink<'_>, Failed<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.check_usable()?;
        self.failed = true;
        let has_records = self.volume_end > FILE_HEADER as u64;
        if has_records && self.volume_end >= self.options.volume_bytes {
            self.next_volume()?;
        }
        let path = self.volumes.path(self.volume_number);
        let failed = |source| Error::io(&path, source);
        let offset = self.volume_end;
        let start = offset + RECORD_HEADER as u64;
        self.volume.seek(SeekFrom::Start(start)).map_err(failed)?;
        let file = BufWriter::with_capacity(1 << 18, &self.volume);
        let mut sink = Sink { file, sum: Xxh3::new(), length: 0 };
        write(&mut self.packer, &mut sink, &failed)?;
        sink.file.flush().map_err(failed)?;
        let (sum, length) = (sink.sum.digest(), sink.length);
        drop(sink);
        let volume = self.volume_number;
        let entry =
            IndexEntry { id, volume, offset, length, start: span.start, end: span.end, sum };
        self.volume.write_all_at(&entry.record_header(), offset).map_err(failed)?;
        self.index
            .file
            .write_all_at(&entry.put(), entry_offset(self.entries))
            .map_err(|source| Error::io(&self.index.path, source))?;
        self.entries += 1;
        self.volume_end = entry.volume_end();
        self.bytes_unsynced += RECORD_HEADER as u64 + length;
        self.failed = false;
        Ok(())
    }

    fn next_volume(&mut self) -> Result<(), Error> {
        let path = self.volumes.path(self.volume_number);
        self.volume.sync_data().map_err(|source| Error::io(&path, source))?;
        let number = self.volume_number + 1;
        let path = self.volumes.path(number);
        write_file(&path, &volume_header(number))?;
        self.volume = append_to(&path)?;
        (self.volume_number, self.volume_end) = (number, FILE_HEADER as u64);
        Ok(())
    }
}

type Failed<'a> = &'a dyn Fn(io::Error) -> Error;

/// The payload of the record that is being written.
struct Sink<'a> {
    file: BufWriter<&'a File>,
    sum: Xxh3,
    length: u64,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Refuses a directory in which something else is than what a killed `create` leaves.
fn refuse_used(directory: &Path) -> Result<(), Error> {
    let failed = |source| Error::io(directory, source);
    let ours = [LOCK.to_owned(), index::NAME.to_owned(), volume::name(0), manifest_temporary()];
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !ours.iter().any(|ours| name == ours.as_str()) {
            return Err(Error::Exists { directory: directory.to_owned() });
        }
    }
    Ok(())
}

fn manifest_temporary() -> String {
    manifest::TEMPORARY.to_owned()
}

fn lock(directory: &Path) -> Result<File, Error> {
    let path = directory.join(LOCK);
    let file = files::make(&path).map_err(|source| Error::io(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { directory: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::io(&path, source)),
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || files::make_empty(path)?.write_all(bytes);
    write().map_err(|source| Error::io(path, source))
}

fn append_to(path: &Path) -> Result<File, Error> {
    files::open_to_write(path).map_err(|source| Error::io(path, source))
}

fn open_index(directory: &Path) -> Result<Index, Error> {
    Index::open(directory, append_to(&directory.join(index::NAME))?)
}

/// Cuts off what is not sealed: incomplete entries, entries whose record is not what it should
/// be, nodes of an unfinished `finish`, records that belong to a leaf that is not there.
fn remove_unsealed(directory: &Path, sync_bytes: u64) -> Result<(), Error> {
    let index = open_index(directory)?;
    let volumes = Volumes::new(directory);
    let mut kept = index.entries()?;
    // Everything that may not have reached the disk is read.
    let (mut position, mut verified) = (kept, 0);
    while position > 0 && verified <= 2 * sync_bytes {
        position -= 1;
        let entry = index.entry(position).and_then(|entry| volumes.verify(&entry).map(|()| entry));
        match entry {
            Ok(entry) => verified += RECORD_HEADER as u64 + entry.length,
            Err(Error::Io { file, source }) if !is_missing(&source) => {
                return Err(Error::Io { file, source });
            }
            Err(_) => (kept, verified) = (position, 0),
        }
    }
    let leaves = index.last_leaf(kept)?.map_or(0, |leaf| leaf.id.number + 1);
    let mut last = None;
    while kept > 0 {
        let entry = index.entry(kept - 1)?;
        if entry.id.last_leaf() < leaves {
            last = Some(entry);
            break;
        }
        kept -= 1;
    }
    let cut = |path: &Path, file: &File, length| {
        file.set_len(length)
            .and_then(|()| file.sync_all())
            .map_err(|source| Error::io(path, source))
    };
    cut(&index.path, &index.file, entry_offset(kept))?;
    let (number, end) = last.map_or((0, FILE_HEADER as u64), |e| (e.volume, e.volume_end()));
    let path = volumes.path(number);
    if last.is_none() {
        write_file(&path, &volume_header(0))?;
    }
    cut(&path, &append_to(&path)?, end)?;
    for number in number + 1.. {
        match fs::remove_file(volumes.path(number)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(source) => return Err(Error::io(&volumes.path(number), source)),
        }
    }
    Ok(())
}

/// Errors that a record gives which was not completely written.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}
