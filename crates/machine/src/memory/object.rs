//! Memory shared by several mappings: a memfd, and which of its pages have translated code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Error;
use super::host::{self, PAGE};
use super::pages::{Page, Pages};

/// Memory shared by several mappings, in one or several address spaces; clones are the same
/// memory.
#[derive(Clone, Debug)]
pub struct SharedObject {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    number: u32,
    name: String,
    file: File,
    length: AtomicU64,
    state: Mutex<State>,
}

const ZERO: Page = [0; PAGE as usize];

/// Pages are counted from the object's start. Stamps come from [`CHANGES`].
#[derive(Debug, Default)]
pub struct State {
    /// Pages that some space has code of and nobody wrote since, with when that was noted: to
    /// be write-protected in every space.
    pub code: BTreeMap<u64, u64>,
    /// Pages of `code` that were written: their translations are stale if older.
    pub writes: BTreeMap<u64, u64>,
    /// Contents at the last snapshot of any space.
    pub pages: Pages,
}

/// Counts changes to `code` and `writes` of all objects, so that a space sees at a glance that
/// there is nothing new.
static CHANGES: AtomicU64 = AtomicU64::new(0);

pub fn changes() -> u64 {
    CHANGES.load(Ordering::Acquire)
}

impl SharedObject {
    /// An object of length 0. Number and name are for the caller; the host sees the name.
    pub fn new(number: u32, name: &str) -> Result<SharedObject, Error> {
        let label = std::ffi::CString::new(name.replace('\0', " ")).expect("no zero byte inside");
        // SAFETY: the name is a C string that outlives the call.
        let descriptor = unsafe { libc::memfd_create(label.as_ptr(), libc::MFD_CLOEXEC) };
        if descriptor < 0 {
            let source = io::Error::last_os_error();
            return Err(host::error(format!("creating shared memory {name}"), source));
        }
        // SAFETY: the descriptor is new and has no other owner.
        let file = unsafe { File::from_raw_fd(descriptor) };
        let (length, state) = (AtomicU64::new(0), Mutex::default());
        Ok(SharedObject {
            inner: Arc::new(Inner { number, name: name.into(), file, length, state }),
        })
    }

    /// Makes the object at least `length` bytes long; new bytes are zero.
    pub fn grow(&self, length: u64) -> Result<(), Error> {
        let _state = self.state();
        if length > self.length() {
            self.set_length(length)?;
        }
        Ok(())
    }

    /// The caller holds the lock.
    fn set_length(&self, length: u64) -> Result<(), Error> {
        self.inner.file.set_len(length).map_err(|source| {
            let (name, size) = (&self.inner.name, host::amount(length));
            host::error(format!("making shared memory {name} {size} long"), source)
        })?;
        self.inner.length.store(length, Ordering::Release);
        Ok(())
    }

    /// The pages that are not zero, by their number in the object, sharing memory with earlier
    /// snapshots. Costs a comparison of every page that exists: any space may have written it.
    pub fn snapshot(&self) -> Result<Pages, Error> {
        let extents = self.extents()?;
        let mut state = self.state();
        let mut buffer = ZERO;
        for page in extents.into_iter().flat_map(|extent| extent.start / PAGE..extent.end / PAGE) {
            self.read_page(page, &mut buffer)?;
            if buffer == ZERO {
                state.pages.remove(page);
            } else if state.pages.get(page).is_none_or(|known| **known != buffer) {
                state.pages.insert(page, Arc::new(buffer));
            }
        }
        Ok(state.pages.clone())
    }

    /// Makes length and contents what they were; code of what changes is stale in every space.
    /// Mappings behind the end must be gone.
    pub fn restore(&self, length: u64, wanted: &Pages) -> Result<(), Error> {
        {
            let _state = self.state();
            if length != self.length() {
                self.set_length(length)?;
            }
        }
        let mut pages: BTreeSet<u64> = wanted.all().iter().map(|(page, _)| *page).collect();
        let extents = self.extents()?;
        pages.extend(extents.into_iter().flat_map(|e| e.start / PAGE..e.end / PAGE));
        let mut buffer = ZERO;
        for page in pages.into_iter().filter(|page| page * PAGE < length) {
            self.read_page(page, &mut buffer)?;
            let wanted = wanted.get(page).map_or(&ZERO, |contents| contents);
            if buffer != *wanted {
                let there = PAGE.min(length - page * PAGE) as usize;
                self.write(page * PAGE, &wanted[..there])?;
            }
        }
        self.state().pages = wanted.clone();
        Ok(())
    }

    /// The last page may be cut short by the object's end; the rest of it is zero.
    fn read_page(&self, page: u64, buffer: &mut Page) -> Result<(), Error> {
        let length = PAGE.min(self.length() - page * PAGE) as usize;
        buffer[length..].fill(0);
        self.read(page * PAGE, &mut buffer[..length])
    }

    pub fn number(&self) -> u32 {
        self.inner.number
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub fn length(&self) -> u64 {
        self.inner.length.load(Ordering::Acquire)
    }

    pub(super) fn file(&self) -> &File {
        &self.inner.file
    }

    /// Whether both are the same memory.
    pub fn same(&self, other: &SharedObject) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.inner.file.read_exact_at(bytes, offset).map_err(|source| self.error("reading", source))
    }

    /// Writes, and makes code of these bytes stale in every space.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.inner
            .file
            .write_all_at(bytes, offset)
            .map_err(|source| self.error("writing", source))?;
        self.note_write(offset..offset + bytes.len() as u64);
        Ok(())
    }

    /// Code of the pages of a byte range that are being written is stale in every space.
    pub(super) fn note_write(&self, bytes: Range<u64>) {
        let mut state = self.state();
        let pages = bytes.start / PAGE..bytes.end.div_ceil(PAGE);
        let written: Vec<u64> = state.code.range(pages).map(|(&page, _)| page).collect();
        for page in written {
            state.code.remove(&page);
            state.writes.insert(page, CHANGES.fetch_add(1, Ordering::AcqRel) + 1);
        }
    }

    /// Code was made of a page.
    pub(super) fn note_code(&self, page: u64) {
        let mut state = self.state();
        state.code.entry(page).or_insert_with(|| CHANGES.fetch_add(1, Ordering::AcqRel) + 1);
    }

    /// Byte ranges that are not holes.
    pub(super) fn extents(&self) -> Result<Vec<Range<u64>>, Error> {
        let mut extents = Vec::new();
        let mut at = 0;
        loop {
            let Some(start) = self.seek(at, libc::SEEK_DATA)? else { return Ok(extents) };
            let end = self.seek(start, libc::SEEK_HOLE)?.unwrap_or_else(|| self.length());
            extents.push(start / PAGE * PAGE..end.next_multiple_of(PAGE));
            at = end;
        }
    }

    fn seek(&self, from: u64, whence: i32) -> Result<Option<u64>, Error> {
        // SAFETY: seeking touches no memory; nobody else uses the file's position.
        let at = unsafe { libc::lseek(self.inner.file.as_raw_fd(), from as i64, whence) };
        if at >= 0 {
            return Ok(Some(at as u64));
        }
        let source = io::Error::last_os_error();
        match source.raw_os_error() {
            Some(libc::ENXIO) => Ok(None),
            _ => Err(self.error("examining", source)),
        }
    }

    /// Bytes that can be touched: the last page counts whole.
    pub(super) fn touchable(&self) -> u64 {
        self.length().next_multiple_of(PAGE)
    }

    fn error(&self, doing: &str, source: io::Error) -> Error {
        host::error(format!("{doing} shared memory {}", self.inner.name), source)
    }
}
