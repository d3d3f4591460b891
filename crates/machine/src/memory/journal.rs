//! What the engine itself loads and stores while it carries out one instruction for the guest.
//!
//! Off but for instructions under observation; loads are only noted by range.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use model::Address;

use super::Space;
use crate::StoreRecord;

#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// In order, with old values.
    pub stores: Vec<StoreRecord>,
    /// Neighbours joined: a `rep` string takes one range for each of its pointers.
    pub loads: Vec<Range<Address>>,
}

impl Journal {
    fn note_load(&mut self, range: Range<Address>) {
        // cmps loads from two places in turn.
        for known in self.loads.iter_mut().rev().take(2) {
            if known.end == range.start {
                known.end = range.end;
                return;
            }
            if range.end == known.start {
                known.start = range.start;
                return;
            }
        }
        self.loads.push(range);
    }
}

impl Space {
    pub(crate) fn open_journal(&mut self) {
        self.journal = Some(Mutex::default());
    }

    /// What has happened since the journal was opened.
    pub(crate) fn close_journal(&mut self) -> Journal {
        let journal = self.journal.take().unwrap_or_default();
        journal.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest loaded these bytes, by way of the engine.
    pub(crate) fn note_load(&self, range: Range<Address>) {
        if let Some(journal) = &self.journal {
            journal.lock().unwrap_or_else(PoisonError::into_inner).note_load(range);
        }
    }

    /// What the journal is to say of a store that is about to be made.
    pub(crate) fn before_store(&self, range: &Range<Address>) -> Vec<StoreRecord> {
        if self.journal.is_some() { self.old_bytes(range) } else { Vec::new() }
    }

    /// The store was made.
    pub(crate) fn note_store(&mut self, records: Vec<StoreRecord>) {
        if let Some(journal) = &mut self.journal {
            journal.get_mut().unwrap_or_else(PoisonError::into_inner).stores.extend(records);
        }
    }

    /// Records with the present bytes of a range, as far as it is mapped.
    pub(crate) fn old_bytes(&self, range: &Range<Address>) -> Vec<StoreRecord> {
        let mut records = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let left = (range.end - at).min(8) as u8;
            let mut size = 1 << left.ilog2();
            let old = loop {
                let mut bytes = [0; 8];
                if self.read(at, &mut bytes[..usize::from(size)]).is_ok() {
                    break Some(u64::from_le_bytes(bytes));
                }
                if size == 1 {
                    break None;
                }
                size /= 2;
            };
            if let Some(old) = old {
                records.push(StoreRecord { address: at, size, old });
            }
            at = at + u64::from(size);
        }
        records
    }
}
