//! System calls that change the guest's address space.

use std::ops::Range;
use std::sync::Arc;

use libc::c_long;
use machine::{Backing, Protection, SharedObject, Space};
use model::{Address, PAGE_SIZE};

use super::forward::duplicate_high;
use super::{Answer, Errno, Kernel, low_half};
use crate::address_map::whole_pages;

const READ_WRITE: Protection = Protection { read: true, write: true, execute: false };

impl Kernel {
    pub(super) fn memory_call(
        &mut self,
        space: &mut Space,
        number: c_long,
        arguments: &[u64; 6],
    ) -> Option<Answer> {
        Some(match number {
            libc::SYS_brk => self.brk(space, Address(arguments[0])),
            libc::SYS_mmap => self.mmap(space, arguments),
            libc::SYS_munmap => self.munmap(space, arguments),
            libc::SYS_mprotect => self.mprotect(space, arguments),
            libc::SYS_mremap => self.mremap(space, arguments),
            libc::SYS_madvise => madvise(space, arguments),
            libc::SYS_msync | libc::SYS_mlock | libc::SYS_munlock => Ok(0),
            _ => return None,
        })
    }

    /// Where the heap ends now; it stays where it was when it cannot go to `end`.
    fn brk(&mut self, space: &mut Space, end: Address) -> Answer {
        let old = self.heap_end.page_ceil();
        let new = end.page_ceil();
        if end >= self.heap_start {
            if new > old && self.map.is_free(&(old..new)) {
                space.map(old..new, READ_WRITE, Backing::Zero)?;
                self.map.take(&(old..new));
                self.heap_end = end;
            } else if new < old {
                space.unmap(new..old)?;
                self.map.free(&(new..old));
                self.heap_end = end;
            } else if new == old {
                self.heap_end = end;
            }
        }
        Ok(self.heap_end.0.cast_signed())
    }

    fn mmap(&mut self, space: &mut Space, arguments: &[u64; 6]) -> Answer {
        let [wish, length, protection, flags, descriptor, offset] = *arguments;
        let flags = low_half(flags);
        let length = whole_pages(length).ok_or(Errno(libc::EINVAL))?;
        let backing = backing_of(flags, low_half(descriptor), offset, length, protection)?;
        let wished = Address(wish).range(length);
        let range = if flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) != 0 {
            if flags & libc::MAP_FIXED_NOREPLACE != 0 && !self.map.is_free(&wished) {
                return Err(Errno(libc::EEXIST));
            }
            wished
        } else if wish.is_multiple_of(PAGE_SIZE) && self.map.is_free(&wished) {
            wished
        } else {
            self.map.find(length).ok_or(Errno(libc::ENOMEM))?
        };
        space.map(range.clone(), protection_of(protection), backing)?;
        self.map.take(&range);
        Ok(range.start.0.cast_signed())
    }

    fn munmap(&mut self, space: &mut Space, arguments: &[u64; 6]) -> Answer {
        let range = pages(arguments[0], arguments[1])?;
        space.unmap(range.clone())?;
        self.map.free(&range);
        Ok(0)
    }

    fn mprotect(&mut self, space: &mut Space, arguments: &[u64; 6]) -> Answer {
        if arguments[1] == 0 {
            return Ok(0);
        }
        let range = pages(arguments[0], arguments[1])?;
        if self.map.is_free(&range) {
            return Err(Errno(libc::ENOMEM));
        }
        space.protect(range, protection_of(arguments[2]))?;
        Ok(0)
    }

    fn mremap(&mut self, space: &mut Space, arguments: &[u64; 6]) -> Answer {
        let flags = low_half(arguments[3]);
        let old = pages(arguments[0], arguments[1])?;
        let new_length = whole_pages(arguments[2]).ok_or(Errno(libc::EINVAL))?;
        let old_length = old.end - old.start;
        if flags & libc::MREMAP_FIXED != 0 {
            let target = pages(arguments[4], new_length)?;
            return self.move_mapping(space, old, target);
        }
        if new_length <= old_length {
            let tail = (old.start + new_length)..old.end;
            if !tail.is_empty() {
                space.unmap(tail.clone())?;
                self.map.free(&tail);
            }
            return Ok(old.start.0.cast_signed());
        }
        let growth = old.end..(old.start + new_length);
        if self.map.is_free(&growth) {
            grow(space, &old, growth.clone())?;
            self.map.take(&growth);
            return Ok(old.start.0.cast_signed());
        }
        if flags & libc::MREMAP_MAYMOVE == 0 {
            return Err(Errno(libc::ENOMEM));
        }
        let target = self.map.find(new_length).ok_or(Errno(libc::ENOMEM))?;
        self.move_mapping(space, old, target)
    }

    fn move_mapping(
        &mut self,
        space: &mut Space,
        old: Range<Address>,
        target: Range<Address>,
    ) -> Answer {
        let kept = (old.end - old.start).min(target.end - target.start);
        let moved = old.start..(old.start + kept);
        let growth = (target.start + kept)..target.end;
        if !growth.is_empty() {
            grow(space, &old, growth)?;
        }
        space.relocate(moved.clone(), target.start)?;
        if moved.end < old.end {
            space.unmap(moved.end..old.end)?;
        }
        self.map.free(&old);
        self.map.take(&target);
        Ok(target.start.0.cast_signed())
    }
}

/// Maps `growth` so that it continues the anonymous mapping `old`.
fn grow(space: &mut Space, old: &Range<Address>, growth: Range<Address>) -> Result<(), Errno> {
    let mapping = space.mapping_at(old.end - 1).ok_or(Errno(libc::EFAULT))?;
    let protection = mapping.protection;
    match mapping.backing {
        Backing::Zero => Ok(space.map(growth, protection, Backing::Zero)?),
        _ => Err(Errno(libc::ENOMEM)),
    }
}

fn madvise(space: &mut Space, arguments: &[u64; 6]) -> Answer {
    if low_half(arguments[2]) == libc::MADV_DONTNEED && arguments[1] > 0 {
        space.discard(pages(arguments[0], arguments[1])?)?;
    }
    Ok(0)
}

/// A range of whole pages, as far as the caller gave one.
fn pages(start: u64, length: u64) -> Result<Range<Address>, Errno> {
    let length = whole_pages(length).ok_or(Errno(libc::EINVAL))?;
    if !start.is_multiple_of(PAGE_SIZE) || start.checked_add(length).is_none() {
        return Err(Errno(libc::EINVAL));
    }
    Ok(Address(start).range(length))
}

/// Write and execute imply read, as the processor has it.
fn protection_of(bits: u64) -> Protection {
    let has = |bit: i32| low_half(bits) & bit != 0;
    Protection {
        read: has(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC),
        write: has(libc::PROT_WRITE),
        execute: has(libc::PROT_EXEC),
    }
}

fn backing_of(
    flags: i32,
    descriptor: i32,
    offset: u64,
    length: u64,
    protection: u64,
) -> Result<Backing, Errno> {
    let shared = flags & libc::MAP_TYPE != libc::MAP_PRIVATE;
    if flags & libc::MAP_ANONYMOUS != 0 {
        if !shared {
            return Ok(Backing::Zero);
        }
        let object = SharedObject::new(0, "anonymous")?;
        object.grow(length)?;
        return Ok(Backing::Shared { object, offset: 0 });
    }
    // A shared mapping that nobody writes through is as good as a private one while nobody
    // changes the file; one that is written through would need the file's own pages.
    if shared && protection_of(protection).write {
        return Err(Errno(libc::ENODEV));
    }
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno(libc::EINVAL));
    }
    // The guest may close its descriptor, and use its number again: the mapping gets its own.
    let file = duplicate_high(descriptor).map_err(|_| Errno(libc::EBADF))?;
    let size = file.metadata().map_err(|_| Errno(libc::EBADF))?;
    if !size.is_file() {
        return Err(Errno(libc::ENODEV));
    }
    let length = size.len().saturating_sub(offset).min(length);
    Ok(Backing::File { file: Arc::new(file), offset, length })
}
