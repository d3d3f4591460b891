//! Host memory that the machine reserves at places of its own choosing.

#![allow(unsafe_code)] // mmap and friends

use std::io;

use crate::Error;

/// A range of host addresses, unmapped when dropped.
#[derive(Debug)]
pub struct Reservation {
    start: u64,
    length: u64,
}

impl Reservation {
    /// Reserves `length` bytes without access at exactly `start`, or anywhere for `None`.
    pub fn new(start: Option<u64>, length: u64, what: &str) -> Result<Reservation, Error> {
        map(start, length, libc::PROT_NONE, libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, what)
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    /// Makes part of it readable and writable.
    pub fn open(&self, offset: u64, length: u64, what: &str) -> Result<(), Error> {
        assert!(offset + length <= self.length);
        // SAFETY: the range belongs to this reservation.
        let result = unsafe {
            libc::mprotect(
                (self.start + offset) as *mut libc::c_void,
                length as usize,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        if result == 0 { Ok(()) } else { Err(failure(what, length)) }
    }

    /// Asks for huge pages, where the kernel has them. Refusal is harmless.
    pub fn prefer_huge_pages(&self) {
        // SAFETY: advice about a range that is ours; it changes no contents.
        unsafe {
            libc::madvise(
                self.start as *mut libc::c_void,
                self.length as usize,
                libc::MADV_HUGEPAGE,
            );
        }
    }

    /// The open part as 32-bit words; as [`Self::words`].
    pub fn half_words(&mut self, words: usize) -> &mut [u32] {
        assert!(words as u64 * 4 <= self.length);
        // SAFETY: as in `words`.
        unsafe { std::slice::from_raw_parts_mut(self.start as *mut u32, words) }
    }

    /// The open part as 64-bit words. The caller has opened it and shares it with no one.
    pub fn words(&mut self, words: usize) -> &mut [u64] {
        assert!(words as u64 * 8 <= self.length);
        // SAFETY: opened by the caller as its contract says; a fault otherwise, never other memory.
        unsafe { std::slice::from_raw_parts_mut(self.start as *mut u64, words) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range is ours and nobody else knows it any more.
        unsafe { libc::munmap(self.start as *mut libc::c_void, self.length as usize) };
    }
}

fn failure(what: &str, length: u64) -> Error {
    Error::Host {
        what: format!(
            "cannot reserve {} MiB of host addresses for {what} (see `ulimit -v` and \
             /proc/sys/vm/overcommit_memory)",
            length >> 20
        ),
        source: io::Error::last_os_error(),
    }
}

fn map(
    start: Option<u64>,
    length: u64,
    protection: i32,
    flags: i32,
    file: i32,
    what: &str,
) -> Result<Reservation, Error> {
    let fixed = if start.is_some() { libc::MAP_FIXED_NOREPLACE } else { 0 };
    let kind = if file >= 0 { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    // SAFETY: a new mapping that replaces nothing.
    let at = unsafe {
        libc::mmap(
            start.unwrap_or(0) as *mut libc::c_void,
            length as usize,
            protection,
            kind | flags | fixed,
            file,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return Err(failure(what, length));
    }
    let reservation = Reservation { start: at as u64, length };
    match start {
        Some(wanted) if wanted != at as u64 => Err(Error::Host {
            what: format!("{wanted:#x} is taken, for {what}"),
            source: io::ErrorKind::AddrInUse.into(),
        }),
        _ => Ok(reservation),
    }
}

/// Memory for code: a writable view anywhere and an executable one at `at`.
pub fn code_memory(at: u64, length: u64) -> Result<(Reservation, Reservation), Error> {
    let what = "translated code";
    // SAFETY: a plain system call with a terminated name.
    let file = unsafe { libc::memfd_create(c"pernosco-code".as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return Err(failure(what, length));
    }
    // SAFETY: `file` is the descriptor just made.
    let sized = unsafe { libc::ftruncate(file, length as i64) };
    let views = if sized != 0 {
        Err(failure(what, length))
    } else {
        let read_write = libc::PROT_READ | libc::PROT_WRITE;
        map(None, length, read_write, 0, file, what).and_then(|writable| {
            let code = libc::PROT_READ | libc::PROT_EXEC;
            Ok((writable, map(Some(at), length, code, 0, file, what)?))
        })
    };
    // SAFETY: as above; the mappings keep the memory alive.
    unsafe { libc::close(file) };
    views
}

/// Sets this thread's gs base, which the Rust runtime does not use.
pub fn set_gs_base(base: u64) -> io::Result<()> {
    const ARCH_SET_GS: i64 = 0x1001;
    // SAFETY: changes a register that nothing else in this process relies on.
    match unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
