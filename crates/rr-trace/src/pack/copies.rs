//! Copies files into the recording, equal ones once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::plan::{Mapped, Plan, Version};
use super::{Copied, mode};
use crate::Error;
use crate::error::MappedFileProblem;

/// Files are read in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;
/// Of a file's own name so many bytes are kept.
const NAME_BYTES_MAX: usize = 160;

/// The copies made so far.
pub struct Copies<'a> {
    directory: &'a Path,
    plan: &'a Plan,
    /// Sizes that more than one file has: only these can be equal.
    ambiguous: BTreeSet<u64>,
    by_inode: BTreeMap<(u64, u64), String>,
    /// By length and checksum. Equal checksums are a hint, no more.
    by_content: Option<BTreeMap<(u64, u128), Vec<String>>>,
    made: Vec<PathBuf>,
    next: u64,
}

impl<'a> Copies<'a> {
    pub fn new(directory: &'a Path, plan: &'a Plan) -> Copies<'a> {
        let mut sizes = BTreeSet::new();
        let mut files = BTreeSet::new();
        let mut ambiguous = BTreeSet::new();
        for mapped in &plan.outside {
            let Version { device, inode, bytes, .. } = mapped.version;
            if files.insert((device, inode)) && !sizes.insert(bytes) {
                ambiguous.insert(bytes);
            }
        }
        ambiguous.extend(plan.inside.values().filter(|bytes| sizes.contains(bytes)));
        Copies {
            directory,
            plan,
            ambiguous,
            by_inode: BTreeMap::new(),
            by_content: None,
            made: Vec::new(),
            next: 0,
        }
    }

    /// Copies a file, unless the recording has it.
    pub fn add(&mut self, mapped: &Mapped) -> Result<Copied, Error> {
        let Version { device, inode, bytes, .. } = mapped.version;
        let copied = |name: String, new| Copied { from: mapped.path.clone(), name, bytes, new };
        if let Some(name) = self.by_inode.get(&(device, inode)) {
            return Ok(copied(name.clone(), false));
        }
        let source = open(mapped)?;
        let known = match self.ambiguous.contains(&bytes) {
            true => self.equal(&source, mapped)?,
            false => Known::No(None),
        };
        let name = match known {
            Known::As(name) => {
                self.by_inode.insert((device, inode), name.clone());
                return Ok(copied(name, false));
            }
            Known::No(sum) => {
                let name = self.copy(&source, mapped)?;
                if let (Some(sum), Some(by_content)) = (sum, &mut self.by_content) {
                    by_content.entry((bytes, sum)).or_default().push(name.clone());
                }
                name
            }
        };
        self.by_inode.insert((device, inode), name.clone());
        Ok(copied(name, true))
    }

    /// Removes all copies that were made.
    pub fn remove(&mut self) {
        for path in self.made.drain(..) {
            // Best effort: they are in nobody's way.
            _ = fs::remove_file(path);
        }
    }

    /// Looks for a file of the recording with the same bytes.
    fn equal(&mut self, source: &File, mapped: &Mapped) -> Result<Known, Error> {
        let (directory, bytes) = (self.directory, mapped.version.bytes);
        if self.by_content.is_none() {
            let mut by_content = BTreeMap::<_, Vec<String>>::new();
            for (name, size) in &self.plan.inside {
                // Names that are no UTF-8 are not worth the trouble.
                let Ok(name) = std::str::from_utf8(name) else { continue };
                if self.ambiguous.contains(size) {
                    let sum = File::open(directory.join(name)).and_then(|file| checksum(&file));
                    let sum = sum.map_err(|source| read_failed(&directory.join(name), source))?;
                    by_content.entry((*size, sum)).or_default().push(name.into());
                }
            }
            self.by_content = Some(by_content);
        }
        let sum = checksum(source).map_err(|source| read_failed(&mapped.path, source))?;
        let by_content = self.by_content.as_ref().and_then(|known| known.get(&(bytes, sum)));
        for name in by_content.into_iter().flatten() {
            let path = directory.join(name);
            let same = File::open(&path).and_then(|other| same_bytes(source, &other));
            if same.map_err(|source| read_failed(&path, source))? {
                return Ok(Known::As(name.clone()));
            }
        }
        Ok(Known::No(Some(sum)))
    }

    fn copy(&mut self, source: &File, mapped: &Mapped) -> Result<String, Error> {
        let (name, target) = self.create(mapped)?;
        let path = self.directory.join(&name);
        self.made.push(path.clone());
        let failed = |source| Error::Write { file: path.clone(), source };
        // Shares the bytes where the file system can, since the kernel is asked to copy.
        let mut from = source;
        let length = io::copy(&mut from, &mut &target).map_err(failed)?;
        target.sync_all().map_err(failed)?;
        let now = source.metadata().map_err(|source| read_failed(&mapped.path, source))?;
        if length != mapped.version.bytes || Version::of(&now) != mapped.version {
            return Err(problem(self.directory, mapped, "changes while it is copied"));
        }
        Ok(name)
    }

    /// A new file with the first name that is free.
    fn create(&mut self, mapped: &Mapped) -> Result<(String, File), Error> {
        let base = base_name(&mapped.backing_name);
        loop {
            let name = format!("mmap_pack_{}_{base}", self.next);
            self.next += 1;
            let path = self.directory.join(&name);
            // Follows no symbolic link, since the file is new.
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(mode(mapped.version.mode));
            match options.open(&path) {
                Ok(file) => return Ok((name, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::Write { file: path, source }),
            }
        }
    }
}

enum Known {
    As(String),
    /// With the checksum, if it was needed.
    No(Option<u128>),
}

/// Opens what was planned to be copied, and nothing else.
fn open(mapped: &Mapped) -> Result<File, Error> {
    let failed = |source| read_failed(&mapped.path, source);
    // Should it be a pipe by now: not to wait for a writer.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(&mapped.path).map_err(failed)?;
    let found = Version::of(&file.metadata().map_err(failed)?);
    match found == mapped.version {
        true => Ok(file),
        false => {
            let directory = mapped.path.parent().unwrap_or(&mapped.path);
            Err(problem(directory, mapped, "changes while the recording is packed"))
        }
    }
}

fn problem(directory: &Path, mapped: &Mapped, what: &str) -> Error {
    let problem = MappedFileProblem { file: mapped.path.clone(), what: what.into() };
    Error::MappedFiles { directory: directory.into(), problems: vec![problem], more: 0 }
}

fn read_failed(file: &Path, source: io::Error) -> Error {
    Error::Io { file: file.into(), source }
}

/// A file's own name, as far as rr and people need it: without what rr put in front of it.
fn base_name(backing_name: &[u8]) -> String {
    let name = backing_name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let own = name.strip_prefix(b"mmap_").and_then(|rest| {
        // `hardlink_12_libc.so.6`
        let mut parts = rest.splitn(3, |byte| *byte == b'_');
        let (_, number, own) = (parts.next()?, parts.next()?, parts.next()?);
        (!number.is_empty() && number.iter().all(u8::is_ascii_digit)).then_some(own)
    });
    let own = own.filter(|own| !own.is_empty()).unwrap_or(name);
    let plain = |c: char| if c.is_control() || c == '\u{fffd}' { '_' } else { c };
    let mut text = String::new();
    for c in String::from_utf8_lossy(own).chars().map(plain) {
        if text.len() + c.len_utf8() > NAME_BYTES_MAX {
            break;
        }
        text.push(c);
    }
    text
}

/// From the beginning; leaves the file at its beginning.
fn checksum(file: &File) -> io::Result<u128> {
    let mut sum = Xxh3::new();
    for_each_piece(file, |piece| {
        sum.update(piece);
        Ok(true)
    })?;
    Ok(sum.digest128())
}

fn same_bytes(one: &File, other: &File) -> io::Result<bool> {
    let mut piece_of_other = vec![0; PIECE_BYTES];
    let mut same = true;
    let mut reader = other;
    for_each_piece(one, |piece| {
        let other = &mut piece_of_other[..piece.len()];
        same = match reader.read_exact(other) {
            Ok(()) => other == piece,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
        };
        Ok(same)
    })?;
    Ok(same && reader.read(&mut [0])? == 0)
}

/// Calls `piece` until it says no; the file then stands at its beginning again.
fn for_each_piece(
    mut file: &File,
    mut piece: impl FnMut(&[u8]) -> io::Result<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let length = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if !piece(&buffer[..length])? {
            break;
        }
    }
    io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_short() {
        assert_eq!(base_name(b"/usr/lib/libc.so.6"), "libc.so.6");
        assert_eq!(base_name(b"mmap_hardlink_12_ld-linux_x.so"), "ld-linux_x.so");
        assert_eq!(base_name(b"mmap_symlink_x_y"), "mmap_symlink_x_y");
        assert_eq!(base_name(b"mmap_copy_3_"), "mmap_copy_3_");
        assert_eq!(base_name(b"/a/\x1b[1m\xff.so"), "_[1m_.so");
        assert_eq!(base_name(&[b'x'; 4000]).len(), NAME_BYTES_MAX);
        assert_eq!(base_name("ä".repeat(100).as_bytes()).chars().count(), NAME_BYTES_MAX / 2);
    }

    #[test]
    fn bytes_are_compared_to_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, bytes).unwrap();
            File::open(path).unwrap()
        };
        let long = vec![7; 3 * PIECE_BYTES + 5];
        let one = file("one", &long);
        assert!(same_bytes(&one, &file("same", &long)).unwrap());
        assert!(!same_bytes(&one, &file("longer", &[&long[..], &[7]].concat())).unwrap());
        assert!(!same_bytes(&one, &file("shorter", &long[1..])).unwrap());
        let mut other = long.clone();
        *other.last_mut().unwrap() = 8;
        assert!(!same_bytes(&one, &file("other", &other)).unwrap());
        assert_eq!(checksum(&one).unwrap(), checksum(&file("again", &long)).unwrap());
        assert_eq!(checksum(&one).unwrap(), checksum(&one).unwrap());
    }
}
