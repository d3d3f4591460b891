//! Descriptor tables, as far as replay needs them: which descriptors write into modelled memory
//! or to the program's output (rr-replay 9.4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::task::SpaceId;

/// What a write to a descriptor does besides going to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Monitor {
    /// The program's standard output or error: 1 or 2.
    Output(i32),
    /// Alias of a shared file mapping.
    Mapped(FileIdentity),
    /// `/proc/PID/mem` of a process of the recording.
    ProcessMemory(SpaceId),
}

/// Device and inode on the recording machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    pub device: u64,
    pub inode: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors(BTreeMap<i32, Monitor>);

impl Default for Descriptors {
    fn default() -> Descriptors {
        Descriptors(BTreeMap::from([(1, Monitor::Output(1)), (2, Monitor::Output(2))]))
    }
}

impl Descriptors {
    pub fn monitor(&self, descriptor: i32) -> Option<Monitor> {
        self.0.get(&descriptor).copied()
    }

    pub fn set(&mut self, descriptor: i32, monitor: Monitor) {
        self.0.insert(descriptor, monitor);
    }

    pub fn close(&mut self, descriptor: i32) {
        self.0.remove(&descriptor);
    }

    /// dup and its relatives.
    pub fn duplicate(&mut self, from: i32, to: i32) {
        match self.monitor(from) {
            _ if from == to => {}
            Some(monitor) => self.set(to, monitor),
            None => self.close(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_replace_what_was_there() {
        let mut table = Descriptors::default();
        table.duplicate(1, 7);
        assert_eq!(table.monitor(7), Some(Monitor::Output(1)));
        table.duplicate(5, 1);
        assert_eq!(table.monitor(1), None);
        table.close(7);
        assert_eq!(table.monitor(7), None);
    }
}
