//! From mapping records to guest memory (rr-replay 1.6, 3.3.6, 5.1).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use machine::{Backing, Protection, SharedObject};
use model::{Address, PAGE_SIZE, Tid};
use rr_trace::{MMap, MapSource};

use crate::address_space::protection;
use crate::descriptors::{FileIdentity, Monitor};
use crate::numbers::{MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_SHARED};
use crate::problem::{Problem, Result};
use crate::remap::Mapped;
use crate::session::Session;
use crate::shared_files::SharedFile;

/// The opened files that mappings get their bytes from.
#[derive(Clone, Debug, Default)]
pub struct BackingFiles(BTreeMap<PathBuf, (Arc<File>, u64)>);

/// Where a shared mapping lies in its file.
struct SharedPart {
    identity: FileIdentity,
    offset: u64,
    length: u64,
}

/// Copies of files are read in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;

impl BackingFiles {
    /// The file and its length in bytes.
    pub fn open(&mut self, path: &Path) -> Result<(Arc<File>, u64)> {
        if let Some((file, length)) = self.0.get(path) {
            return Ok((Arc::clone(file), *length));
        }
        let failed = |source| mapped_file(path, source);
        // Before opening: to open a pipe would wait for ever.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            let source = std::io::Error::new(ErrorKind::InvalidInput, "not a regular file");
            return Err(failed(source));
        }
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let file = Arc::new(file);
        self.0.insert(path.into(), (Arc::clone(&file), length));
        Ok((file, length))
    }

    /// The path that gave an opened file.
    pub fn path_of(&self, file: &Arc<File>) -> Option<&Path> {
        let mut entries = self.0.iter();
        entries.find(|(_, (known, _))| Arc::ptr_eq(known, file)).map(|(path, _)| path.as_path())
    }

    /// Takes over what another one has opened: mappings of one file must be of one opened file.
    pub fn adopt(&mut self, other: &BackingFiles) {
        self.0.extend(other.0.iter().map(|(path, entry)| (path.clone(), entry.clone())));
    }
}

fn mapped_file(path: &Path, source: std::io::Error) -> Problem {
    Problem::MappedFile { path: path.display().to_string(), source }
}

/// An unpacked recording shows files that anybody may have changed since. What follows may be
/// wrong then in ways that no register shows.
fn warn_of_changes(map: &MMap, path: &Path, file: &File) {
    let Ok(metadata) = file.metadata() else { return };
    let changes = map.changes_since_recording(&metadata).join(", ");
    if !changes.is_empty() {
        let (event, file) = (map.event, path.display());
        tracing::warn!(%event, %file, "another {changes} than when it was recorded");
    }
}

/// Exactly `length` bytes of a file from `offset`.
pub fn read_part(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
    let failed = |source| mapped_file(path, source);
    let mut file = File::open(path).map_err(failed)?;
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Range and protection that a mapping gets; the record knows the rest.
#[derive(Clone, Debug)]
pub struct Place {
    pub range: Range<Address>,
    pub prot: i32,
    pub flags: i32,
}

impl Place {
    /// As the record says: for mappings that are not made by mmap(2).
    pub fn of_record(map: &MMap) -> Place {
        Place { range: map.range.clone(), prot: map.prot, flags: map.flags }
    }

    fn protection(&self) -> Protection {
        protection(self.prot)
    }
}

impl Session {
    /// Makes the mapping that `map` describes at `place`, replacing what is there.
    pub(crate) fn map_record(&mut self, tid: Tid, map: &MMap, place: &Place) -> Result<()> {
        if place.range.is_empty() {
            return Ok(());
        }
        if place.flags & MAP_SHARED != 0 {
            return self.map_shared(tid, map, place);
        }
        let backing = self.private_backing(map, place.range.end - place.range.start)?;
        self.map_at(tid, place, backing, Mapped { name: &map.name, offset: map.file_offset })?;
        if matches!(map.source, MapSource::Trace) && map.inode != 0 {
            self.space_of_mut(tid)?.marks.unknown_origin.insert(place.range.clone());
        }
        Ok(())
    }

    pub(crate) fn map_at(
        &mut self,
        tid: Tid,
        place: &Place,
        backing: Backing,
        of: Mapped<'_>,
    ) -> Result<()> {
        self.remap(tid, place.range.clone(), place.protection(), backing, of)?;
        if place.flags & MAP_GROWSDOWN != 0 {
            self.space_of_mut(tid)?.marks.grows_down.insert(place.range.clone());
        }
        Ok(())
    }

    fn private_backing(&mut self, map: &MMap, length: u64) -> Result<Backing> {
        let Some(path) = self.source.backing_path(map)? else { return Ok(Backing::Zero) };
        let is_new = !self.backing.0.contains_key(&path);
        let (file, file_length) = self.backing.open(&path)?;
        if is_new {
            warn_of_changes(map, &path, &file);
        }
        let size = match u64::try_from(map.stat.size) {
            Ok(0) | Err(_) => file_length,
            Ok(recorded) => recorded.min(file_length),
        };
        let offset = map.file_offset;
        let available = size.saturating_sub(offset).min(length);
        if available == 0 || !offset.is_multiple_of(PAGE_SIZE) {
            return Ok(Backing::Zero);
        }
        Ok(Backing::File { file, offset, length: available })
    }

    fn map_shared(&mut self, tid: Tid, map: &MMap, place: &Place) -> Result<()> {
        let length = place.range.end - place.range.start;
        let anonymous = place.flags & MAP_ANONYMOUS != 0;
        let part = SharedPart {
            identity: FileIdentity { device: map.device, inode: map.inode },
            offset: if anonymous { 0 } else { map.file_offset },
            length,
        };
        if !part.offset.is_multiple_of(PAGE_SIZE) {
            return Err(Problem::malformed("a shared mapping at an odd offset"));
        }
        let end = part.offset.checked_add(length);
        let end = end.ok_or_else(|| Problem::malformed("a shared mapping behind any file"))?;
        // The kernel uses the identity of anonymous memory again for other memory.
        if anonymous || self.mapped_file(part.identity).is_none() {
            if self.shared.is_crowded() {
                self.forget_unmapped_files();
            }
            let name = String::from_utf8_lossy(&map.name);
            let object = SharedObject::new(self.new_id(), &name)?;
            self.shared.insert(part.identity, SharedFile::new(object));
        }
        let file = self.shared.get_mut(part.identity);
        let file = file.ok_or_else(|| Problem::malformed("no such shared file"))?;
        file.object.grow(end)?;
        let object = file.object.clone();
        let from_file = matches!(map.source, MapSource::File { .. });
        let load = from_file && file.needs_loading(part.offset, length);
        let backing = Backing::Shared { object, offset: part.offset };
        self.map_at(tid, place, backing, Mapped { name: &map.name, offset: map.file_offset })?;
        if load {
            self.load_shared(tid, map, place.range.start, &part)?;
        }
        self.watch_descriptors(map, part.identity)?;
        Ok(())
    }

    /// The shared file of this identity, if something maps it. The others are forgotten sooner
    /// or later, which nothing may depend on.
    pub(crate) fn mapped_file(&self, identity: FileIdentity) -> Option<&SharedFile> {
        let file = self.shared.get(identity)?;
        let mut mappings = self.spaces.values().flat_map(|space| space.space.mappings());
        let mapped = mappings.any(|mapping| {
            matches!(&mapping.backing, Backing::Shared { object, .. } if object.same(&file.object))
        });
        mapped.then_some(file)
    }

    pub(crate) fn forget_unmapped_files(&mut self) {
        let mapped = self.mapped_objects();
        self.shared.retain(|object| mapped.contains_key(&object.number()));
    }

    /// The shared objects that are mapped somewhere, by number.
    pub(crate) fn mapped_objects(&self) -> BTreeMap<u32, SharedObject> {
        let mut objects = BTreeMap::new();
        for mapping in self.spaces.values().flat_map(|space| space.space.mappings()) {
            if let Backing::Shared { object, .. } = &mapping.backing {
                objects.entry(object.number()).or_insert_with(|| object.clone());
            }
        }
        objects
    }

    /// Fills a shared mapping from the recording's copy of its file.
    fn load_shared(
        &mut self,
        tid: Tid,
        map: &MMap,
        start: Address,
        part: &SharedPart,
    ) -> Result<()> {
        let Some(path) = self.source.backing_path(map)? else { return Ok(()) };
        let (_, file_length) = self.backing.open(&path)?;
        let available = file_length.saturating_sub(part.offset).min(part.length);
        let mut done = 0;
        while done < available {
            let count = (available - done).min(PIECE_BYTES);
            let bytes = read_part(&path, part.offset + done, count as usize)?;
            self.space_of_mut(tid)?.space.write(start + done, &bytes)?;
            done += count;
        }
        Ok(())
    }

    fn watch_descriptors(&mut self, map: &MMap, identity: FileIdentity) -> Result<()> {
        for alias in &map.extra_fds {
            if !self.tasks.contains_key(&alias.tid) {
                continue;
            }
            let monitor = Monitor::Mapped(identity);
            self.with_descriptors(alias.tid, None, |descriptors, table, happenings| {
                descriptors.set_monitor(table, alias.fd, monitor, happenings);
            })?;
        }
        Ok(())
    }
}
