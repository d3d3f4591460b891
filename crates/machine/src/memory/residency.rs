//! Which pages of a host range hold something: asked of the kernel, so that the cost follows
//! the memory that was touched and not the size of its mapping.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::host::PAGE;

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct ScanArguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    region_count: u64,
    pages_max: u64,
    category_inverted: u64,
    category_mask: u64,
    category_any_mask: u64,
    return_mask: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`; Linux 6.7 and later.
const PAGEMAP_SCAN: libc::Ioctl = 0xc060_6610_u32 as libc::Ioctl;
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_ZERO_PAGE: u64 = 1 << 5;

/// Runs of pages in `range` that are private to the process and were written: anonymous pages
/// that exist, and pages of private file mappings that are copies.
pub fn changed_pages(range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let pagemap = own_pagemap()?;
    match scan(&pagemap, range.clone()) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => {
            read_entries(&pagemap, range)
        }
        result => result,
    }
}

fn scan(pagemap: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut runs = Vec::new();
    let mut regions = [PageRegion::default(); 256];
    let mut at = range.start;
    while at < range.end {
        let mut arguments = ScanArguments {
            size: size_of::<ScanArguments>() as u64,
            start: at,
            end: range.end,
            regions: regions.as_mut_ptr() as u64,
            region_count: regions.len() as u64,
            category_inverted: IS_FILE | IS_ZERO_PAGE,
            category_mask: IS_FILE | IS_ZERO_PAGE,
            category_any_mask: IS_PRESENT | IS_SWAPPED,
            return_mask: IS_PRESENT | IS_SWAPPED,
            ..ScanArguments::default()
        };
        // SAFETY: both structures have the kernel's layout and outlive the call, and the
        // kernel fills at most `region_count` regions.
        let filled = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &mut arguments) };
        if filled < 0 {
            return Err(io::Error::last_os_error());
        }
        for region in &regions[..filled as usize] {
            push(&mut runs, region.start..region.end);
        }
        if arguments.walk_end <= at {
            break;
        }
        at = arguments.walk_end;
    }
    Ok(runs)
}

/// As [`scan`] with one word per page, for older kernels: follows the size of the range.
fn read_entries(pagemap: &File, range: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut runs = Vec::new();
    let mut bytes = vec![0; 8 << 12];
    let mut at = range.start;
    while at < range.end {
        let pages = ((range.end - at) / PAGE).min(1 << 12);
        let bytes = &mut bytes[..pages as usize * 8];
        pagemap.read_exact_at(bytes, at / PAGE * 8)?;
        for (index, entry) in bytes.chunks_exact(8).enumerate() {
            let entry = u64::from_le_bytes(entry.try_into().expect("eight bytes"));
            // Documentation/admin-guide/mm/pagemap.rst: present, swapped, file or shared.
            if entry & (1 << 63 | 1 << 62) != 0 && entry & (1 << 61) == 0 {
                let page = at + index as u64 * PAGE;
                push(&mut runs, page..page + PAGE);
            }
        }
        at += pages * PAGE;
    }
    Ok(runs)
}

fn push(runs: &mut Vec<Range<u64>>, run: Range<u64>) {
    match runs.last_mut() {
        Some(last) if last.end == run.start => last.end = run.end,
        _ => runs.push(run),
    }
}

/// `/proc/self/pagemap` of this process (not of its parent, see `host::own_memory`).
pub fn own_pagemap() -> io::Result<Arc<File>> {
    static OPEN: Mutex<Option<(u32, Arc<File>)>> = Mutex::new(None);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    match &*open {
        Some((opener, file)) if *opener == process => Ok(file.clone()),
        _ => {
            let file = Arc::new(File::open("/proc/self/pagemap")?);
            *open = Some((process, file.clone()));
            Ok(file)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree() {
        let length = 64 * PAGE;
        // SAFETY: a fresh anonymous mapping wherever the kernel likes.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let bits = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), length as usize, bits, flags, -1, 0) as u64
        };
        for page in [3, 4, 9, 63] {
            // SAFETY: inside the mapping made above.
            unsafe { *((start + page * PAGE) as *mut u8) = 1 };
        }
        let pagemap = own_pagemap().unwrap();
        let expected: Vec<_> = [(3, 5), (9, 10), (63, 64)]
            .map(|(first, end)| start + first * PAGE..start + end * PAGE)
            .to_vec();
        assert_eq!(read_entries(&pagemap, start..start + length).unwrap(), expected);
        assert_eq!(changed_pages(start..start + length).unwrap(), expected);
        // SAFETY: the mapping made above, not used any more.
        unsafe { libc::munmap(start as *mut _, length as usize) };
    }
}
