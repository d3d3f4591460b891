//! Makes a recording self-contained: files that it maps are copied into it (rr-replay 1.7).
//!
//! The result is what `rr pack` would make: copies are called `mmap_pack_N_name`, and only the
//! stream of mappings is written anew. Nothing that the recording had is touched before its new
//! stream is complete and has replaced the old one, so whoever is stopped in between leaves the
//! recording as it was. What belongs to neither is removed by the next one.
//!
//! A recording can name any file of the machine that it lies on. So only regular files are copied,
//! only if they are as they were recorded, and the caller is told of each.

mod copies;
mod plan;
mod rewrite;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{Error, StreamName, Trace};
use copies::Copies;
use plan::Plan;
pub(crate) use plan::examine;

/// In front of the names of files that packing makes.
const PACKED: &[u8] = b"mmap_pack_";
/// The new stream of mappings until it replaces the old one. Locked while somebody packs.
const NEW_STREAM: &str = "mmaps.new";

/// What has to be copied into a recording for it to be self-contained.
#[derive(Debug)]
pub struct Packing {
    trace: Trace,
    plan: Plan,
}

/// A file that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The file of this machine, without symbolic links that lie in the recording.
    pub from: PathBuf,
    /// Its name in the recording.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// False if the recording had these bytes under this name already.
    pub new: bool,
}

impl Packing {
    /// Looks at every mapping and every file that is mapped; changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::MappedFiles`] if one is not there, is no regular file, or has another size or
    /// modification time than recorded.
    pub fn plan(trace: &Trace) -> Result<Packing, Error> {
        Ok(Packing { trace: trace.clone(), plan: Plan::make(trace)? })
    }

    /// Nothing is to be done.
    pub fn is_done(&self) -> bool {
        self.plan.outside.is_empty()
    }

    /// How many mapped files the recording has itself.
    pub fn inside(&self) -> usize {
        self.plan.inside.len()
    }

    /// Copies the files and rewrites the recording's stream of mappings.
    ///
    /// # Errors
    ///
    /// The recording is then as it was.
    pub fn run(&self) -> Result<Vec<Copied>, Error> {
        if self.is_done() {
            return Ok(Vec::new());
        }
        let directory = self.trace.directory();
        let stream = directory.join(NEW_STREAM);
        let lock = lock(&self.trace, &stream)?;
        // Somebody may have been quicker.
        let plan = match Plan::make(&self.trace) {
            Ok(plan) if !plan.outside.is_empty() => plan,
            other => {
                _ = fs::remove_file(&stream);
                return other.map(|_| Vec::new());
            }
        };
        let mut copies = Copies::new(directory, &plan);
        let result = self.run_locked(&plan, lock, &stream, &mut copies);
        if result.is_err() {
            // Best effort: the error that matters is the first.
            copies.remove();
            _ = fs::remove_file(&stream);
        }
        result
    }

    fn run_locked(
        &self,
        plan: &Plan,
        stream: File,
        stream_path: &Path,
        copies: &mut Copies<'_>,
    ) -> Result<Vec<Copied>, Error> {
        let directory = self.trace.directory();
        let failed = |source| Error::Write { file: stream_path.into(), source };
        stream.set_len(0).map_err(failed)?;
        remove_leftovers(directory, &plan.inside.keys().cloned().collect());
        let mut copied = Vec::new();
        let mut names = BTreeMap::new();
        for mapped in &plan.outside {
            let copy = copies.add(mapped)?;
            tracing::debug!(from = %copy.from.display(), name = copy.name, "copied");
            names.insert(mapped.backing_name.clone(), copy.name.clone().into_bytes());
            copied.push(copy);
        }
        let stream = rewrite::rewrite(&self.trace, &names, stream, stream_path)?;
        rewrite::compare(&self.trace, &names, stream_path)?;
        stream.sync_all().map_err(failed)?;
        let sync = || File::open(directory).and_then(|directory| directory.sync_all());
        sync().map_err(failed)?;
        let old_path = directory.join(StreamName::MMaps.file_name());
        fs::rename(stream_path, &old_path).map_err(failed)?;
        sync().map_err(failed)?;
        // The links that the copies stand for. Who stops here leaves files that nobody asks for.
        for mapped in plan.outside.iter().filter(|mapped| mapped.is_in_recording()) {
            let path = directory.join(std::ffi::OsStr::from_bytes(&mapped.backing_name));
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "cannot remove a link");
            }
        }
        drop(stream);
        Ok(copied)
    }
}

/// Removes what somebody copied who was stopped.
fn remove_leftovers(directory: &Path, used: &BTreeSet<Vec<u8>>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.as_bytes().starts_with(PACKED) && !used.contains(name.as_bytes()) {
            // What cannot be removed is in nobody's way.
            _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes the new stream, empty or with whatever somebody left in it who was stopped, and keeps
/// others from it.
fn lock(trace: &Trace, path: &Path) -> Result<File, Error> {
    let failed = |source| Error::Write { file: path.into(), source };
    let old = trace.directory().join(StreamName::MMaps.file_name());
    let old = fs::metadata(&old).map_err(|source| Error::Io { file: old, source })?;
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(mode(old.mode()))
            // Neither through a symbolic link nor waiting for a pipe.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(failed)?;
        let opened = file.metadata().map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Packing { directory: trace.directory().into() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // It may have become the stream since it was opened, or have been removed.
        match fs::symlink_metadata(path) {
            Ok(now) if (now.dev(), now.ino()) == (opened.dev(), opened.ino()) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => continue,
        }
        if !opened.is_file() || opened.nlink() != 1 {
            let reason = "not a plain file: remove it";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, reason)));
        }
        return Ok(file);
    }
}

/// The mode for a copy: who could not read the original cannot read the copy, and nobody but the
/// owner may write. The umask applies besides.
fn mode(original: u32) -> u32 {
    0o600 | (original & 0o044)
}

#[cfg(test)]
mod tests;
