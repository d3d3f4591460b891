//! Memory that several mappings share: one object for each file of the recording (rr-replay 5.2).

use std::collections::BTreeMap;

use machine::SharedObject;
use model::Address;

use crate::address_space::Ranges;
use crate::descriptors::FileIdentity;

/// Shared objects by the file that they stand for. Those that nothing maps mean nothing: the
/// recording has the contents of every new mapping.
#[derive(Clone, Debug, Default)]
pub struct SharedFiles {
    files: BTreeMap<FileIdentity, SharedFile>,
    /// When to look for files that are not mapped any more.
    limit: usize,
}

/// A growable stand-in for one file; the file itself is never touched.
#[derive(Clone, Debug)]
pub struct SharedFile {
    pub object: SharedObject,
    /// Offsets whose bytes have been taken from the recording's copy of the file.
    pub loaded: Ranges,
}

impl SharedFiles {
    pub fn get(&self, identity: FileIdentity) -> Option<&SharedFile> {
        self.files.get(&identity)
    }

    pub fn get_mut(&mut self, identity: FileIdentity) -> Option<&mut SharedFile> {
        self.files.get_mut(&identity)
    }

    pub fn insert(&mut self, identity: FileIdentity, file: SharedFile) {
        self.files.insert(identity, file);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&FileIdentity, &SharedFile)> {
        self.files.iter()
    }

    /// Forgets the files whose object does not fulfil the condition.
    pub fn retain(&mut self, keep: impl Fn(&SharedObject) -> bool) {
        self.files.retain(|_, file| keep(&file.object));
        self.limit = 2 * self.files.len() + 16;
    }

    /// Whether there are many more files than were mapped when somebody looked.
    pub fn is_crowded(&self) -> bool {
        self.files.len() > self.limit
    }
}

impl SharedFile {
    pub fn new(object: SharedObject) -> SharedFile {
        SharedFile { object, loaded: Ranges::default() }
    }

    /// Whether these offsets have to be filled from the file; from now on they count as filled.
    pub fn needs_loading(&mut self, offset: u64, length: u64) -> bool {
        let range = Address(offset)..Address(offset.saturating_add(length));
        if self.loaded.iter().any(|known| known.start <= range.start && range.end <= known.end) {
            return false;
        }
        self.loaded.insert(range);
        true
    }
}
