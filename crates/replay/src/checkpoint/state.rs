//! The state of a checkpoint as bytes: everything but the contents of memory.
//!
//! Written by `postcard`: no names, numbers of variable length. Equal states are equal bytes.
//! Names of files are relative to the recording, whose UUID comes with them. What is read is
//! doubted: every number that an array, an allocation or arithmetic would rest on is checked
//! here or where it is used.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use machine::{Backing, Mapping, Pages, Protection, SharedObject, Snapshot};
use model::{Address, PAGE_SIZE};
use rr_trace::{Position, Trace};
use serde::{Deserialize, Serialize};

use super::{Checkpoint, ObjectState, Opened, Owner, SessionState};
use crate::address_space::{Marks, Ranges};
use crate::descriptors::FileIdentity;
use crate::maps::BackingFiles;
use crate::problem::Problem;
use crate::shared_files::{SharedFile, SharedFiles};
use crate::source::{Current, Source};
use crate::task::SpaceId;

/// Changes whenever the encoding of anything below does.
pub const VERSION: u32 = 1;
/// Counts stay far from overflow.
const COUNT_MAX: u64 = 1 << 60;
/// Largest syscall buffer that is believed.
const BUFFER_BYTES_MAX: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    uuid: [u8; 16],
}

#[derive(Serialize, Deserialize)]
struct State {
    session: SessionState,
    in_progress: Option<InProgress>,
    files: Vec<FileName>,
    objects: Vec<Object>,
    shared: Vec<Shared>,
    spaces: BTreeMap<SpaceId, Space>,
}

/// The event in progress: the recording has the rest.
#[derive(Serialize, Deserialize)]
struct InProgress {
    /// In front of its frame.
    start: Position,
    maps_left: usize,
    task_events_left: usize,
    next_write: usize,
    prepared: bool,
    flush_record_bytes: u32,
}

#[derive(Serialize, Deserialize)]
struct FileName(#[serde(with = "serde_bytes")] Vec<u8>);

#[derive(Serialize, Deserialize)]
struct Object {
    number: u32,
    name: String,
    length: u64,
}

#[derive(Serialize, Deserialize)]
struct Shared {
    identity: FileIdentity,
    object: u32,
    loaded: Ranges,
}

#[derive(Serialize, Deserialize)]
struct Space {
    marks: Marks,
    mappings: Vec<StoredMapping>,
}

#[derive(Serialize, Deserialize)]
struct StoredMapping {
    start: Address,
    length: u64,
    /// Read 1, write 2, execute 4.
    protection: u8,
    backing: StoredBacking,
}

#[derive(Serialize, Deserialize)]
enum StoredBacking {
    Zero,
    /// By index into `files`.
    File {
        file: u32,
        offset: u64,
        length: u64,
    },
    /// By number.
    Shared {
        object: u32,
        offset: u64,
    },
}

pub fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut files = Files { names: Vec::new(), checkpoint };
    let mut spaces = BTreeMap::new();
    for (id, (marks, contents)) in &checkpoint.spaces {
        let mappings = contents.mappings().iter().map(|mapping| files.store(mapping)).collect();
        spaces.insert(*id, Space { marks: marks.clone(), mappings });
    }
    let state = State {
        session: checkpoint.session.clone(),
        in_progress: checkpoint.current.as_ref().map(|current| InProgress {
            start: current.start,
            maps_left: current.maps.len(),
            task_events_left: current.task_events.len(),
            next_write: current.next_write,
            prepared: current.prepared,
            flush_record_bytes: current.flush_record_bytes,
        }),
        files: files.names.into_iter().map(FileName).collect(),
        objects: checkpoint.objects.iter().map(|(number, object)| object.stored(*number)).collect(),
        shared: checkpoint.shared.iter().map(Shared::of).collect(),
        spaces,
    };
    let head = Head { version: VERSION, uuid: checkpoint.uuid };
    let bytes = postcard::to_extend(&head, Vec::new());
    bytes
        .and_then(|bytes| postcard::to_extend(&state, bytes))
        .expect("memory takes whatever is written, and lengths are known")
}

impl ObjectState {
    fn stored(&self, number: u32) -> Object {
        Object { number, name: self.object.name().into(), length: self.length }
    }
}

impl Shared {
    fn of((identity, file): (&FileIdentity, &SharedFile)) -> Shared {
        let object = file.object.number();
        Shared { identity: *identity, object, loaded: file.loaded.clone() }
    }
}

/// Names of mapped files, in the order of their first use.
struct Files<'a> {
    names: Vec<Vec<u8>>,
    checkpoint: &'a Checkpoint,
}

impl Files<'_> {
    fn store(&mut self, mapping: &Mapping) -> StoredMapping {
        let Protection { read, write, execute } = mapping.protection;
        let backing = match &mapping.backing {
            Backing::Zero => StoredBacking::Zero,
            Backing::File { file, offset, length } => {
                let path = self.checkpoint.backing.path_of(file);
                let path = path.expect("a session maps files that it opened itself");
                let file = self.index(path);
                StoredBacking::File { file, offset: *offset, length: *length }
            }
            Backing::Shared { object, offset } => {
                StoredBacking::Shared { object: object.number(), offset: *offset }
            }
        };
        StoredMapping {
            start: mapping.range.start,
            length: mapping.range.end - mapping.range.start,
            protection: u8::from(read) | u8::from(write) << 1 | u8::from(execute) << 2,
            backing,
        }
    }

    fn index(&mut self, path: &Path) -> u32 {
        let name = path.strip_prefix(&self.checkpoint.directory).unwrap_or(path);
        let name = name.as_os_str().as_bytes();
        let known = self.names.iter().position(|known| known == name);
        let index = known.unwrap_or_else(|| {
            self.names.push(name.to_vec());
            self.names.len() - 1
        });
        index as u32
    }
}

/// Why a state could not be decoded.
#[derive(Debug)]
pub enum Failure {
    /// The state is not one, at this offset.
    Flaw { offset: u64, reason: String },
    /// What it needs of the recording or of the host is not there.
    Problem(Problem),
    /// Whoever has the pages failed.
    Pages(crate::Error),
}

type Result<T> = std::result::Result<T, Failure>;

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure::Problem(problem)
    }
}

impl From<machine::Error> for Failure {
    fn from(error: machine::Error) -> Failure {
        Failure::Problem(error.into())
    }
}

impl From<rr_trace::Error> for Failure {
    fn from(error: rr_trace::Error) -> Failure {
        Failure::Problem(error.into())
    }
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Failure {
        Failure::Pages(error)
    }
}

fn flaw<T>(reason: impl Into<String>) -> Result<T> {
    Err(Failure::Flaw { offset: 0, reason: reason.into() })
}

/// Gives the pages of an owner.
type PageSource<'a> = dyn FnMut(Owner) -> std::result::Result<Pages, crate::Error> + 'a;

/// The pages of each owner come from `pages`.
pub fn decode(
    bytes: &[u8],
    trace: &Trace,
    pages: &mut PageSource<'_>,
    opened: &Opened,
) -> Result<Checkpoint> {
    let (head, rest) = take::<Head>(bytes, bytes.len())?;
    if head.version != VERSION {
        let found = head.version;
        return flaw(format!("state of version {found}; this program reads version {VERSION}"));
    }
    if head.uuid != trace.header().uuid {
        return flaw("it belongs to another recording");
    }
    let (state, rest) = take::<State>(rest, bytes.len())?;
    if !rest.is_empty() {
        let offset = (bytes.len() - rest.len()) as u64;
        let reason = format!("{} bytes behind the state", rest.len());
        return Err(Failure::Flaw { offset, reason });
    }
    state.session.check()?;
    let mut backing = opened.backing.clone();
    let files = open_files(&state.files, trace, &mut backing)?;
    let objects = make_objects(&state, pages, opened)?;
    let mut spaces = BTreeMap::new();
    for (id, space) in state.spaces {
        let mappings = space.mappings.iter().map(|mapping| mapping.load(&files, &objects));
        let mappings = mappings.collect::<Result<Vec<_>>>()?;
        let contents = pages(Owner::Space(id.0))?;
        let snapshot = Snapshot::new(mappings, contents).map_err(|error| {
            let reason = format!("address space {}: {error}", id.0);
            Failure::Flaw { offset: 0, reason }
        })?;
        spaces.insert(id, (space.marks, snapshot));
    }
    let mut shared = SharedFiles::default();
    for stored in state.shared {
        let Some(state) = objects.get(&stored.object) else {
            return Err(no_object(stored.object));
        };
        let file = SharedFile { object: state.object.clone(), loaded: stored.loaded };
        shared.insert(stored.identity, file);
    }
    let current = match state.in_progress {
        Some(stored) => Some(stored.load(trace, &state.session.position)?),
        None => None,
    };
    Ok(Checkpoint {
        uuid: head.uuid,
        directory: trace.directory().into(),
        session: state.session,
        current,
        spaces,
        shared,
        objects,
        backing,
    })
}

fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8], total: usize) -> Result<(T, &'a [u8])> {
    postcard::take_from_bytes(bytes).map_err(|error| {
        let offset = (total - bytes.len()) as u64;
        Failure::Flaw { offset, reason: format!("the encoded state is damaged: {error}") }
    })
}

fn no_object(number: u32) -> Failure {
    Failure::Flaw { offset: 0, reason: format!("no shared object {number}") }
}

/// Opens what the mappings show: files of the recording, and where a recording is not packed,
/// files of the recording machine.
fn open_files(
    names: &[FileName],
    trace: &Trace,
    backing: &mut BackingFiles,
) -> Result<Vec<Arc<File>>> {
    let mut files = Vec::new();
    for FileName(name) in names {
        let absolute = name.starts_with(b"/");
        let plain = !name.contains(&b'/') && !matches!(name.as_slice(), b"" | b"." | b"..");
        if name.contains(&0) || !(absolute || plain) {
            let name = String::from_utf8_lossy(name);
            return flaw(format!("{name:?} is no name of a mapped file"));
        }
        let path = trace.directory().join(OsString::from_vec(name.clone()));
        files.push(backing.open(&path)?.0);
    }
    Ok(files)
}

fn make_objects(
    state: &State,
    pages: &mut PageSource<'_>,
    opened: &Opened,
) -> Result<BTreeMap<u32, ObjectState>> {
    let mut objects = BTreeMap::new();
    for Object { number, name, length } in &state.objects {
        if *number > state.session.next_id || objects.contains_key(number) {
            return flaw(format!("a shared object may not have number {number}"));
        }
        if *length > machine::USER_END {
            return flaw(format!("shared object {number} of {length} bytes"));
        }
        let contents = pages(Owner::Object(*number))?;
        let last = contents.all().last().map(|(page, _)| *page);
        if last.is_some_and(|page| page * PAGE_SIZE >= *length) {
            return flaw(format!("pages behind the end of shared object {number}"));
        }
        let object = match opened.objects.get(number).filter(|object| object.name() == name) {
            Some(object) => object.clone(),
            None => SharedObject::new(*number, name)?,
        };
        object.grow(*length)?;
        objects.insert(*number, ObjectState { object, length: *length, pages: contents });
    }
    Ok(objects)
}

impl StoredMapping {
    fn load(&self, files: &[Arc<File>], objects: &BTreeMap<u32, ObjectState>) -> Result<Mapping> {
        let backing = match self.backing {
            StoredBacking::Zero => Backing::Zero,
            StoredBacking::File { file, offset, length } => {
                let Some(file) = files.get(file as usize) else {
                    return flaw(format!("no mapped file {file}"));
                };
                if length > self.length {
                    return flaw(format!("more of a file than its mapping at {}", self.start));
                }
                Backing::File { file: file.clone(), offset, length }
            }
            StoredBacking::Shared { object, offset } => {
                let state = objects.get(&object).ok_or_else(|| no_object(object))?;
                let end = offset.checked_add(self.length);
                if end.is_none_or(|end| end > state.length.next_multiple_of(PAGE_SIZE)) {
                    return flaw(format!("a mapping behind the end of shared object {object}"));
                }
                Backing::Shared { object: state.object.clone(), offset }
            }
        };
        if self.protection > 7 {
            return flaw(format!("protection {} at {}", self.protection, self.start));
        }
        let bit = |bit: u8| self.protection & bit != 0;
        Ok(Mapping {
            range: self.start.range(self.length),
            protection: Protection { read: bit(1), write: bit(2), execute: bit(4) },
            backing,
        })
    }
}

impl InProgress {
    /// Reads the frame again. Behind it, the streams must be where the session was.
    fn load(self, trace: &Trace, position: &Position) -> Result<Current> {
        let mut source = Source::open(trace)?;
        source.seek(&self.start)?;
        let Some(mut current) = source.next()? else {
            return flaw("the event in progress is behind the end of the recording");
        };
        let there = Position { data: position.data, ..source.position() };
        let same = there == *position
            && self.maps_left <= current.maps.len()
            && self.task_events_left <= current.task_events.len()
            && self.next_write <= current.frame.writes.len();
        if !same {
            return flaw("the event in progress is not the one of the recording");
        }
        // Records are taken from the front.
        current.maps.drain(..current.maps.len() - self.maps_left);
        current.task_events.drain(..current.task_events.len() - self.task_events_left);
        current.next_write = self.next_write;
        current.prepared = self.prepared;
        current.flush_record_bytes = self.flush_record_bytes;
        Ok(current)
    }
}

impl SessionState {
    /// Refuses what would overflow or allocate without bound later.
    fn check(&self) -> Result<()> {
        let mut total = self.former_ticks;
        for (tid, task) in &self.tasks {
            let sum = total.checked_add(task.cpu.ticks);
            total = sum.filter(|sum| *sum < COUNT_MAX).unwrap_or(COUNT_MAX);
            let buffer = task.syscall_buffer.as_ref();
            let buffer = buffer.map_or(0, |area| area.end.0.wrapping_sub(area.start.0));
            let serials = task.serial.max(self.next_id) < u32::MAX / 2;
            if task.cpu.instructions >= COUNT_MAX
                || task.cloned_data_position >= COUNT_MAX
                || buffer > BUFFER_BYTES_MAX
                || !serials
                || task.tid != *tid
            {
                return flaw(format!("task {tid} cannot be like that"));
            }
        }
        let execs = self.groups.values().any(|group| group.execs >= u32::MAX / 2);
        if total >= COUNT_MAX
            || self.moment.0 >= COUNT_MAX
            || self.last_event.0 >= COUNT_MAX
            || self.position.event.0 >= COUNT_MAX
            || self.tasks_created >= u32::MAX / 2
            || self.next_id >= u32::MAX / 2
            || execs
            || !self.descriptors.can_count_on()
        {
            return flaw("counts that no replay reaches");
        }
        Ok(())
    }
}
