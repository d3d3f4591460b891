//! Descriptors of all tasks: tables, the open file descriptions behind them, and the streams and
//! files behind those, with the positions of all bytes that move, as far as a recording tells.
//!
//! The state follows the system calls, also the buffered ones, whether anybody observes or not:
//! whoever begins to observe in the middle of a replay finds it complete. `call.rs` takes down
//! what a call is about when it begins, `complete.rs` works out what it did when its result is
//! known. Nothing here depends on a machine: guest memory is behind [`Memory`].
//!
//! rr's own descriptors (for its performance counter, its socket, its copies of file data) are
//! left out, as are the calls that its preload library makes for itself.
//!
//! Not followed: descriptors that only appear in calls that rr refuses (io_uring, io_submit),
//! bytes that move through mappings of files, and processes outside of the recording.

mod call;
mod complete;
mod description;
mod event;
mod memory;
mod open;
mod session;
mod sockets;
mod table;
mod transfer;

use std::collections::{BTreeMap, VecDeque};

use model::Address;
use serde::{Deserialize, Serialize};

pub use call::Call;
pub use description::{
    Description, DescriptionId, FileId, FileIdentity, Kind, Offset, Stream, StreamId,
};
pub(crate) use event::Happenings;
pub use event::{Counterpart, DescriptorEvent, DescriptorObserver, Direction, Happening, Transfer};
pub use table::{Entry, Table};

use crate::numbers::O_CLOEXEC;
use crate::task::{FilesId, SpaceId};
use description::OpenFile;
use sockets::Connection;

/// Memory of a task.
pub trait Memory {
    /// False, with `bytes` undefined, if not all of it can be read.
    fn read(&self, address: Address, bytes: &mut [u8]) -> bool;
}

impl Memory for machine::Space {
    fn read(&self, address: Address, bytes: &mut [u8]) -> bool {
        machine::Space::read(self, address, bytes).is_ok()
    }
}

/// What a write to a description does to modelled memory (rr-replay 5.2.4, 5.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Monitor {
    /// Alias of a shared file mapping.
    Mapped(FileIdentity),
    /// `/proc/PID/mem` of a process of the recording.
    ProcessMemory(SpaceId),
}

/// All that is known about descriptors at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Descriptors {
    tables: BTreeMap<FilesId, Table>,
    descriptions: BTreeMap<DescriptionId, Description>,
    streams: BTreeMap<StreamId, Stream>,
    files: BTreeMap<FileId, OpenFile>,
    /// Open files by name.
    names: BTreeMap<Vec<u8>, FileId>,
    /// Named pipes that the recorded program made.
    named_pipes: BTreeMap<Vec<u8>, StreamId>,
    /// Descriptions that are older than the recording, by the number that they had then.
    inherited: BTreeMap<i32, DescriptionId>,
    /// Connections one of whose ends is still to be met.
    connections: VecDeque<Connection>,
    last_description: u32,
    last_stream: u32,
    last_file: u32,
}

impl Descriptors {
    pub fn description(&self, id: DescriptionId) -> Option<&Description> {
        self.descriptions.get(&id)
    }

    pub fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(&id)
    }

    pub fn table(&self, id: FilesId) -> Option<&Table> {
        self.tables.get(&id)
    }

    pub(crate) fn monitor(&self, table: FilesId, descriptor: i32) -> Option<Monitor> {
        let entry = self.tables.get(&table)?.get(descriptor)?;
        self.descriptions.get(&entry.description)?.monitor
    }

    pub(crate) fn set_monitor(
        &mut self,
        table: FilesId,
        descriptor: i32,
        monitor: Monitor,
        happenings: &mut Happenings,
    ) {
        let id = self.resolve(table, descriptor, happenings);
        if let Some(description) = id.and_then(|id| self.descriptions.get_mut(&id)) {
            description.monitor = Some(monitor);
            if let Monitor::ProcessMemory(_) = monitor {
                description.kind = Kind::ProcessMemory;
            }
        }
    }

    /// What the recorder says about a descriptor that a call has made.
    pub(crate) fn recorded(
        &mut self,
        table: FilesId,
        opened: &rr_trace::OpenedFd,
        monitor: Option<Monitor>,
        happenings: &mut Happenings,
    ) {
        let Some(id) = self.resolve(table, opened.fd, happenings) else { return };
        let Some(description) = self.descriptions.get_mut(&id) else { return };
        description.monitor = monitor;
        let kind = match monitor {
            Some(Monitor::ProcessMemory(_)) => Kind::ProcessMemory,
            _ if opened.path == b"terminal" => Kind::Terminal,
            _ => return,
        };
        if description.kind != kind {
            description.kind = kind;
            happenings.push(|| Happening::Described { description: description.clone() });
        }
    }

    /// What a descriptor refers to, as far as it has been met.
    pub(crate) fn lookup(&self, table: FilesId, descriptor: i32) -> Option<DescriptionId> {
        let known = self.tables.get(&table);
        if let Some(entry) = known.and_then(|table| table.get(descriptor)) {
            return Some(entry.description);
        }
        if known.is_some_and(|table| table.is_known(descriptor)) {
            return None;
        }
        self.inherited.get(&descriptor).copied()
    }

    /// What a descriptor refers to that must be open, as a call with it has succeeded.
    pub(crate) fn resolve(
        &mut self,
        table: FilesId,
        descriptor: i32,
        happenings: &mut Happenings,
    ) -> Option<DescriptionId> {
        if descriptor < 0 {
            return None;
        }
        let known = self.tables.entry(table).or_default();
        if let Some(entry) = known.get(descriptor) {
            return Some(entry.description);
        }
        if known.is_known(descriptor) {
            // It was opened in a way that is not followed.
            let id = self.new_description(Kind::Unknown, None, 0);
            self.open(table, descriptor, id, false, happenings);
            return Some(id);
        }
        let id = match self.inherited.get(&descriptor) {
            Some(&id) => id,
            None => {
                let id = self.new_description(Kind::Unknown, None, 0);
                if let Some(description) = self.descriptions.get_mut(&id) {
                    description.inherited = Some(descriptor);
                    // Other tables may refer to it without having shown it yet.
                    description.holders = 1;
                }
                self.inherited.insert(descriptor, id);
                id
            }
        };
        self.open(table, descriptor, id, false, happenings);
        Some(id)
    }

    /// A description with streams of its own, and nothing that refers to it yet.
    pub(crate) fn new_description(
        &mut self,
        kind: Kind,
        path: Option<Vec<u8>>,
        flags: i32,
    ) -> DescriptionId {
        let (reads, writes) = (self.new_stream(), self.new_stream());
        self.new_description_of(kind, path, flags, reads, writes)
    }

    pub(crate) fn new_description_of(
        &mut self,
        kind: Kind,
        path: Option<Vec<u8>>,
        flags: i32,
        reads: StreamId,
        writes: StreamId,
    ) -> DescriptionId {
        self.last_description += 1;
        let id = DescriptionId(self.last_description);
        for stream in [reads, writes] {
            if let Some(stream) = self.streams.get_mut(&stream) {
                stream.holders += 1;
                if kind.has_messages() {
                    stream.messages.get_or_insert_default();
                }
            }
        }
        let begins_at_zero = kind.is_seekable() && kind != Kind::Unknown;
        let offset = begins_at_zero.then_some(Offset::exact(0));
        let description = Description {
            id,
            kind,
            path,
            flags: flags & !O_CLOEXEC,
            offset,
            reads,
            writes,
            inherited: None,
            file: None,
            address: None,
            monitor: None,
            holders: 0,
        };
        self.descriptions.insert(id, description);
        id
    }

    pub(crate) fn new_stream(&mut self) -> StreamId {
        self.last_stream += 1;
        let id = StreamId(self.last_stream);
        self.streams.insert(id, Stream::default());
        id
    }

    /// Gives a description a descriptor, and tells of it as newly opened.
    pub(crate) fn open(
        &mut self,
        table: FilesId,
        descriptor: i32,
        id: DescriptionId,
        close_on_exec: bool,
        happenings: &mut Happenings,
    ) {
        self.attach(table, descriptor, id, close_on_exec, happenings);
        if let Some(description) = self.descriptions.get(&id) {
            happenings.push(|| Happening::Opened {
                descriptor,
                description: description.clone(),
                close_on_exec,
            });
        }
    }

    pub(crate) fn attach(
        &mut self,
        table: FilesId,
        descriptor: i32,
        description: DescriptionId,
        close_on_exec: bool,
        happenings: &mut Happenings,
    ) {
        if let Some(held) = self.descriptions.get_mut(&description) {
            held.holders += 1;
        }
        let entry = Entry { description, close_on_exec };
        if let Some(before) = self.tables.entry(table).or_default().set(descriptor, entry) {
            self.tell_closed(descriptor, before.description, happenings);
        }
    }

    pub(crate) fn duplicate(
        &mut self,
        table: FilesId,
        from: i32,
        to: i32,
        close_on_exec: bool,
        happenings: &mut Happenings,
    ) {
        let Some(description) = self.resolve(table, from, happenings) else { return };
        if from == to || to < 0 {
            return;
        }
        self.attach(table, to, description, close_on_exec, happenings);
        happenings.push(|| Happening::Duplicated {
            from,
            descriptor: to,
            description,
            close_on_exec,
        });
    }

    /// pidfd_getfd(2): `from` of another table becomes `to` of this one.
    pub(crate) fn take_from(
        &mut self,
        other: FilesId,
        from: i32,
        table: FilesId,
        to: i32,
        happenings: &mut Happenings,
    ) {
        let Some(description) = self.resolve(other, from, happenings) else { return };
        self.attach(table, to, description, true, happenings);
        happenings.push(|| Happening::Received {
            descriptor: to,
            description,
            close_on_exec: true,
        });
    }

    pub(crate) fn close(&mut self, table: FilesId, descriptor: i32, happenings: &mut Happenings) {
        if descriptor < 0 || self.resolve(table, descriptor, happenings).is_none() {
            return;
        }
        let entry = self.tables.entry(table).or_default().remove(descriptor);
        if let Some(entry) = entry {
            self.tell_closed(descriptor, entry.description, happenings);
        }
    }

    pub(crate) fn close_range(
        &mut self,
        table: FilesId,
        first: i32,
        last: i32,
        happenings: &mut Happenings,
    ) {
        let inherited: Vec<i32> = self.inherited.range(first..=last).map(|(&fd, _)| fd).collect();
        for descriptor in inherited {
            if self.lookup(table, descriptor).is_some() {
                self.resolve(table, descriptor, happenings);
            }
        }
        for descriptor in self.descriptors_between(table, first, last) {
            self.close(table, descriptor, happenings);
        }
        self.tables.entry(table).or_default().know(first, last);
    }

    pub(crate) fn descriptors_between(&self, table: FilesId, first: i32, last: i32) -> Vec<i32> {
        let entries = self.tables.get(&table).into_iter().flat_map(Table::entries);
        let numbers = entries.map(|(descriptor, _)| descriptor);
        numbers.filter(|number| (first..=last).contains(number)).collect()
    }

    pub(crate) fn set_close_on_exec(
        &mut self,
        table: FilesId,
        descriptor: i32,
        wanted: bool,
        happenings: &mut Happenings,
    ) {
        if self.resolve(table, descriptor, happenings).is_some() {
            self.tables.entry(table).or_default().set_close_on_exec(descriptor, wanted);
        }
    }

    /// A table of its own for a task that had `from` so far, or whose parent has.
    pub(crate) fn copy_table(&mut self, from: FilesId, to: FilesId) {
        let table = self.tables.get(&from).cloned().unwrap_or_default();
        for (_, entry) in table.entries() {
            if let Some(description) = self.descriptions.get_mut(&entry.description) {
                description.holders += 1;
            }
        }
        self.tables.insert(to, table);
    }

    /// What exec does to descriptors; the recorder knows some for sure.
    pub(crate) fn close_on_exec(
        &mut self,
        table: FilesId,
        recorded: &[i32],
        happenings: &mut Happenings,
    ) {
        let entries = self.tables.get(&table).into_iter().flat_map(Table::entries);
        let closing = entries
            .filter(|(descriptor, entry)| entry.close_on_exec || recorded.contains(descriptor))
            .map(|(descriptor, _)| descriptor);
        for descriptor in closing.collect::<Vec<_>>() {
            self.close(table, descriptor, happenings);
        }
    }

    /// The last task that used a table is gone.
    pub(crate) fn drop_table(&mut self, table: FilesId, happenings: &mut Happenings) {
        let Some(table) = self.tables.remove(&table) else { return };
        for (descriptor, entry) in table.entries() {
            self.tell_closed(descriptor, entry.description, happenings);
        }
    }

    fn tell_closed(
        &mut self,
        descriptor: i32,
        description: DescriptionId,
        happenings: &mut Happenings,
    ) {
        let last = self.release(description);
        happenings.push(|| Happening::Closed { descriptor, description, last });
    }

    /// Whether counting on is far from overflow: what came from a checkpoint's file may be anything.
    pub(crate) fn can_count_on(&self) -> bool {
        let given = [self.last_description, self.last_stream, self.last_file];
        let descriptions = self.descriptions.values().map(|description| description.holders);
        let streams = self.streams.values().map(|stream| stream.holders);
        let files = self.files.values().map(|file| file.holders);
        let mut all = given.into_iter().chain(descriptions).chain(streams).chain(files);
        all.all(|count| count < u32::MAX / 2)
    }

    /// One reference less; true if it was the last.
    pub(crate) fn release(&mut self, id: DescriptionId) -> bool {
        // Messages under way may hold descriptions that hold messages: no recursion.
        let mut releasing = vec![id];
        let mut last = false;
        while let Some(released) = releasing.pop() {
            let Some(description) = self.descriptions.get_mut(&released) else { continue };
            description.holders = description.holders.saturating_sub(1);
            if description.holders > 0 {
                continue;
            }
            last |= released == id;
            let Some(description) = self.descriptions.remove(&released) else { continue };
            for stream in [description.reads, description.writes] {
                releasing.extend(self.release_stream(stream));
            }
            self.release_file(description.file);
        }
        last
    }

    /// The descriptions that were under way on a stream that nothing leads to any more.
    pub(crate) fn release_stream(&mut self, id: StreamId) -> Vec<DescriptionId> {
        let Some(stream) = self.streams.get_mut(&id) else { return Vec::new() };
        stream.holders = stream.holders.saturating_sub(1);
        if stream.holders > 0 {
            return Vec::new();
        }
        let stream = self.streams.remove(&id).unwrap_or_default();
        stream.passing.into_iter().flat_map(|(_, descriptions)| descriptions).collect()
    }

    fn release_file(&mut self, id: Option<FileId>) {
        let Some(id) = id else { return };
        let Some(file) = self.files.get_mut(&id) else { return };
        file.holders = file.holders.saturating_sub(1);
        if file.holders == 0 {
            let file = self.files.remove(&id);
            if let Some(path) = file.and_then(|file| file.path)
                && self.names.get(&path) == Some(&id)
            {
                self.names.remove(&path);
            }
        }
    }

    /// The file of this name; a new one if none is open.
    pub(crate) fn hold_file(&mut self, path: Option<&[u8]>) -> FileId {
        let known = path.and_then(|path| self.names.get(path).copied());
        let id = known.unwrap_or_else(|| {
            self.last_file += 1;
            FileId(self.last_file)
        });
        let fresh =
            OpenFile { path: path.map(<[u8]>::to_vec), identity: None, length: None, holders: 0 };
        self.files.entry(id).or_insert(fresh).holders += 1;
        if let Some(path) = path {
            self.names.insert(path.to_vec(), id);
        }
        id
    }

    pub(crate) fn forget_name(&mut self, path: &[u8]) {
        self.names.remove(path);
        self.named_pipes.remove(path);
    }
}

#[cfg(test)]
mod tests;
