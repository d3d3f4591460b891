//! Memory that several mappings share: one object for each file of the recording (rr-replay 5.2).

use std::collections::BTreeMap;

use machine::SharedObject;
use model::Address;

use crate::address_space::Ranges;
use crate::descriptors::FileIdentity;

/// Shared objects by the file that they stand for.
#[derive(Clone, Debug, Default)]
pub struct SharedFiles(BTreeMap<FileIdentity, SharedFile>);

/// A growable stand-in for one file; the file itself is never touched.
#[derive(Clone, Debug)]
pub struct SharedFile {
    pub object: SharedObject,
    /// Offsets whose bytes have been taken from the recording's copy of the file.
    loaded: Ranges,
}

impl SharedFiles {
    /// The object of `identity`, at least `length` bytes long; a new one is given `number`.
    pub fn get(
        &mut self,
        identity: FileIdentity,
        name: &str,
        number: u32,
        length: u64,
    ) -> Result<&mut SharedFile, machine::Error> {
        use std::collections::btree_map::Entry;
        let file = match self.0.entry(identity) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let object = SharedObject::new(name, number)?;
                entry.insert(SharedFile { object, loaded: Ranges::default() })
            }
        };
        file.object.grow(length)?;
        Ok(file)
    }

    /// Forgets what the identity stood for: the kernel uses it for new memory.
    pub fn replace(
        &mut self,
        identity: FileIdentity,
        name: &str,
        number: u32,
        length: u64,
    ) -> Result<&mut SharedFile, machine::Error> {
        self.0.remove(&identity);
        self.get(identity, name, number, length)
    }

    /// Forgets the files whose object does not fulfil the condition.
    pub fn retain(&mut self, keep: impl Fn(&SharedObject) -> bool) {
        self.0.retain(|_, file| keep(&file.object));
    }

    pub fn existing(&self, identity: FileIdentity) -> Option<&SharedFile> {
        self.0.get(&identity)
    }
}

impl SharedFile {
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
