//! The host's memory calls, confined to the areas of [`layout`] that hold guest memory and marks.
//!
//! The functions are safe to call because those areas are never borrowed by Rust: whatever is
//! mapped, moved or overwritten there, no Rust value changes. Each checks its range. What they
//! can do is fault, when asked to copy from a place without access.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Error, Protection};
use crate::layout;

pub const PAGE: u64 = model::PAGE_SIZE;

/// Host protection of a page: never execute, and nothing without read.
pub fn protection_bits(protection: Protection) -> i32 {
    match protection {
        Protection { write: true, .. } => libc::PROT_READ | libc::PROT_WRITE,
        Protection { read: false, execute: false, .. } => libc::PROT_NONE,
        _ => libc::PROT_READ,
    }
}

/// What a mapping shows.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Private zero pages.
    Zero,
    /// Private pages of a file.
    Private(&'a File, u64),
    /// The pages of a file themselves.
    Shared(&'a File, u64),
}

/// Takes a place that must be free; nothing there can be touched.
pub fn reserve(start: u64, length: u64) -> io::Result<()> {
    let flags = libc::MAP_FIXED_NOREPLACE;
    mmap(start, length, libc::PROT_NONE, flags, Source::Zero)
}

/// Maps over whatever is at `start`.
pub fn map(start: u64, length: u64, bits: i32, source: Source) -> io::Result<()> {
    mmap(start, length, bits, libc::MAP_FIXED, source)
}

fn mmap(start: u64, length: u64, bits: i32, flags: i32, source: Source) -> io::Result<()> {
    check(start, length);
    let (kind, descriptor, offset) = match source {
        Source::Zero => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
        Source::Private(file, offset) => (libc::MAP_PRIVATE, file.as_raw_fd(), offset),
        Source::Shared(file, offset) => (libc::MAP_SHARED, file.as_raw_fd(), offset),
    };
    let flags = flags | kind | libc::MAP_NORESERVE;
    // SAFETY: the range lies in an area that Rust never borrows (`check`).
    let place = unsafe {
        libc::mmap(start as *mut _, length as usize, bits, flags, descriptor, offset as i64)
    };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    if place as u64 != start {
        // A kernel before 4.17 takes MAP_FIXED_NOREPLACE as a hint.
        // SAFETY: this mapping was made just above and nothing knows it.
        unsafe { libc::munmap(place, length as usize) };
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    Ok(())
}

pub fn protect(start: u64, length: u64, bits: i32) -> io::Result<()> {
    check(start, length);
    // SAFETY: the range lies in an area that Rust never borrows (`check`).
    result(unsafe { libc::mprotect(start as *mut _, length as usize, bits) })
}

pub fn release(start: u64, length: u64) -> io::Result<()> {
    check(start, length);
    // SAFETY: the range lies in an area that Rust never borrows (`check`).
    result(unsafe { libc::munmap(start as *mut _, length as usize) })
}

/// Private pages go back to what they were when mapped.
pub fn discard(start: u64, length: u64) -> io::Result<()> {
    advise(start, length, libc::MADV_DONTNEED)
}

/// Marks are sparse: a touched byte must not cost 2 MiB.
pub fn small_pages(start: u64, length: u64) {
    // A kernel without huge pages refuses, and needs no telling.
    let _ = advise(start, length, libc::MADV_NOHUGEPAGE);
}

/// Makes pages that are about to be written, all at once. Only for speed.
pub fn populate(start: u64, length: u64) {
    let _ = advise(start, length, libc::MADV_POPULATE_WRITE);
}

fn advise(start: u64, length: u64, advice: i32) -> io::Result<()> {
    check(start, length);
    // SAFETY: the range lies in an area that Rust never borrows (`check`).
    result(unsafe { libc::madvise(start as *mut _, length as usize, advice) })
}

/// Moves mappings; leaves nothing mapped at `from`. One call moves one host mapping, and where
/// these end is the kernel's affair (it splits and joins them by protection and history), so a
/// range with several is cut in halves until each part moves.
pub fn relocate(from: u64, to: u64, length: u64) -> io::Result<()> {
    check(from, length);
    check(to, length);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both ranges lie in areas that Rust never borrows (`check`).
    let place = unsafe {
        libc::mremap(from as *mut _, length as usize, length as usize, flags, to as *mut u8)
    };
    if place != libc::MAP_FAILED {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::EFAULT) || length <= PAGE {
        return Err(error);
    }
    let half = length / 2 / PAGE * PAGE;
    relocate(from, to, half)?;
    relocate(from + half, to + half, length - half)
}

/// The range must be readable.
pub fn copy_out(start: u64, bytes: &mut [u8]) {
    check(start, bytes.len() as u64);
    // SAFETY: the source is guest or mark memory (`check`), which no reference covers, and
    // nothing else runs on it; the destination is borrowed. Without access it faults.
    unsafe { std::ptr::copy_nonoverlapping(start as *const u8, bytes.as_mut_ptr(), bytes.len()) };
}

/// The range must be writable.
pub fn copy_in(start: u64, bytes: &[u8]) {
    check(start, bytes.len() as u64);
    // SAFETY: the destination is guest or mark memory (`check`), which no reference covers, and
    // nothing else runs on it; the source is borrowed. Without access it faults.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start as *mut u8, bytes.len()) };
}

/// Reads a private mapping or shared one whatever its protection, which is `bits`.
pub fn force_read(start: u64, bytes: &mut [u8], bits: i32) -> io::Result<()> {
    check(start, bytes.len() as u64);
    if own_memory().and_then(|memory| memory.read_exact_at(bytes, start)).is_ok() {
        return Ok(());
    }
    let (page, length) = covering_pages(start, bytes.len() as u64);
    protect(page, length, libc::PROT_READ)?;
    copy_out(start, bytes);
    protect(page, length, bits)
}

/// Writes a private mapping whatever its protection, which is `bits`; a mapped file is left
/// alone. Through `/proc/self/mem`, because changing the protection of a part of a file mapping
/// for a moment makes it a host mapping of its own for ever (it becomes accounted).
pub fn force_write(start: u64, bytes: &[u8], bits: i32) -> io::Result<()> {
    check(start, bytes.len() as u64);
    if own_memory().and_then(|memory| memory.write_all_at(bytes, start)).is_ok() {
        return Ok(());
    }
    // The kernel may be told to refuse this (`proc_mem.force_override`).
    let (page, length) = covering_pages(start, bytes.len() as u64);
    protect(page, length, libc::PROT_READ | libc::PROT_WRITE)?;
    copy_in(start, bytes);
    protect(page, length, bits)
}

fn covering_pages(start: u64, length: u64) -> (u64, u64) {
    let page = start & !(PAGE - 1);
    (page, (start + length).next_multiple_of(PAGE) - page)
}

/// `/proc/self/mem`, opened once per process: after a fork the parent's would be the parent's.
/// [`super::Tables::reserve`] opens it early, before the process gives up its right to.
pub fn own_memory() -> io::Result<Arc<File>> {
    static OPEN: Mutex<Option<(u32, Arc<File>)>> = Mutex::new(None);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    match &*open {
        Some((opener, file)) if *opener == process => Ok(file.clone()),
        _ => {
            let file = File::options().read(true).write(true).open("/proc/self/mem")?;
            let file = Arc::new(file);
            *open = Some((process, file.clone()));
            Ok(file)
        }
    }
}

/// Panics when a range is not wholly in one of the areas of guest memory and marks.
fn check(start: u64, length: u64) {
    let areas = [
        layout::ISLANDS,
        layout::ISLANDS.start >> layout::WRITE_MARK_SHIFT
            ..layout::ISLANDS.end >> layout::WRITE_MARK_SHIFT,
        layout::ISLANDS.start >> layout::READ_MARK_SHIFT
            ..layout::ISLANDS.end >> layout::READ_MARK_SHIFT,
    ];
    let end = start.checked_add(length);
    let inside = areas.iter().any(|area| area.start <= start && end.is_some_and(|e| e <= area.end));
    assert!(inside, "host range {start:#x}+{length:#x} is outside the guest memory areas");
}

fn result(returned: i32) -> io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An error that says what was tried and, where memory was lacking, what to do about it.
pub fn error(what: String, source: io::Error) -> Error {
    let advice = match source.raw_os_error() {
        Some(libc::ENOMEM) => match address_space_limit() {
            Some(limit) => {
                format!(" (address space is limited to {}: raise `ulimit -v`)", amount(limit))
            }
            None => " (look at vm.max_map_count, vm.overcommit_memory and free memory)".into(),
        },
        Some(libc::EEXIST) => " (the place is taken by something else in this process)".into(),
        _ => String::new(),
    };
    Error::Host { what: what + &advice, source }
}

/// A size for people.
pub fn amount(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes.div_ceil(1024)),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

fn address_space_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local of the type that the call fills.
    let returned = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    (returned == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}
