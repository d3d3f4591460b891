//! Calls that open: files, pipes, sockets.

use super::call::Call;
use super::sockets::Ends;
use super::{Description, DescriptionId, Descriptors, Happening, Happenings, Kind};
use crate::numbers::{O_ACCMODE, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_STATUS, O_TRUNC};
use crate::task::FilesId;

const SOCK_TYPE_MASK: i32 = 0xf;

impl Descriptors {
    pub(super) fn opened(
        &mut self,
        table: FilesId,
        call: &Call,
        flags: i32,
        new: i32,
        happenings: &mut Happenings,
    ) {
        let path = call.path.clone().unwrap_or_default();
        let close_on_exec = flags & O_CLOEXEC != 0;
        let kept = flags & (O_ACCMODE | O_STATUS);
        if let Some(id) = self.reopened(table, &path, kept, happenings) {
            self.open(table, new, id, close_on_exec, happenings);
            return;
        }
        let kind = kind_of_path(&path, flags);
        if let Some(&stream) = self.named_pipes.get(&path) {
            let id = self.new_description_of(Kind::Pipe, Some(path), kept, stream, stream);
            self.open(table, new, id, close_on_exec, happenings);
            return;
        }
        let is_file = kind == Kind::File;
        let id = self.new_description(kind, Some(path.clone()), kept);
        if is_file {
            let empty = flags & O_TRUNC != 0 || flags & O_CREAT != 0 && flags & O_EXCL != 0;
            self.give_file(id, Some(&path), empty.then_some(0));
        }
        self.open(table, new, id, close_on_exec, happenings);
    }

    /// Names of descriptors in /proc and /dev: of files they open the file anew, of all else the
    /// same streams.
    fn reopened(
        &mut self,
        table: FilesId,
        path: &[u8],
        flags: i32,
        happenings: &mut Happenings,
    ) -> Option<DescriptionId> {
        let number: i32 = match path {
            b"/dev/stdin" => 0,
            b"/dev/stdout" => 1,
            b"/dev/stderr" => 2,
            _ => {
                let number = path
                    .strip_prefix(b"/proc/self/fd/")
                    .or_else(|| path.strip_prefix(b"/dev/fd/"))?;
                std::str::from_utf8(number).ok()?.parse().ok()?
            }
        };
        let id = self.resolve(table, number, happenings)?;
        let known = self.descriptions.get(&id)?.clone();
        let Description { kind, path, reads, writes, file, .. } = known;
        match kind {
            Kind::File | Kind::Memory => {
                let id = self.new_description(kind, path, flags);
                if let Some(file) = file.and_then(|file| self.files.get_mut(&file)) {
                    file.holders += 1;
                }
                self.descriptions.get_mut(&id)?.file = file;
                Some(id)
            }
            Kind::Pipe | Kind::Terminal | Kind::Unknown => {
                let id = self.new_description_of(kind, path, flags, reads, writes);
                Some(id)
            }
            _ => None,
        }
    }

    pub(super) fn give_file(
        &mut self,
        id: DescriptionId,
        path: Option<&[u8]>,
        length: Option<u64>,
    ) {
        let file = self.hold_file(path);
        if let Some(known) = self.files.get_mut(&file)
            && length.is_some()
        {
            known.length = length;
        }
        if let Some(description) = self.descriptions.get_mut(&id) {
            description.file = Some(file);
        }
    }

    pub(super) fn pipe(
        &mut self,
        table: FilesId,
        pair: Option<(i32, i32)>,
        flags: i32,
        happenings: &mut Happenings,
    ) {
        let Some((read_end, write_end)) = pair else { return };
        let (bytes, unused) = (self.new_stream(), self.new_stream());
        let kept = flags & O_STATUS;
        let reader = self.new_description_of(Kind::Pipe, None, kept, bytes, unused);
        let writer = self.new_description_of(Kind::Pipe, None, kept | 1, unused, bytes);
        let close_on_exec = flags & O_CLOEXEC != 0;
        self.open(table, read_end, reader, close_on_exec, happenings);
        self.open(table, write_end, writer, close_on_exec, happenings);
    }

    pub(super) fn socket_pair(
        &mut self,
        table: FilesId,
        pair: Option<(i32, i32)>,
        kind: Kind,
        flags: i32,
        happenings: &mut Happenings,
    ) {
        let Some((left, right)) = pair else { return };
        let (to_right, to_left) = (self.new_stream(), self.new_stream());
        let first = self.new_description_of(kind.clone(), None, flags | 2, to_left, to_right);
        let second = self.new_description_of(kind, None, flags | 2, to_right, to_left);
        let close_on_exec = flags & O_CLOEXEC != 0;
        self.open(table, left, first, close_on_exec, happenings);
        self.open(table, right, second, close_on_exec, happenings);
    }

    pub(super) fn bound(
        &mut self,
        table: FilesId,
        descriptor: i32,
        address: Option<Vec<u8>>,
        happenings: &mut Happenings,
    ) {
        let Some(id) = self.resolve(table, descriptor, happenings) else { return };
        let Some(description) = self.descriptions.get_mut(&id) else { return };
        if address.is_some() && description.address != address {
            description.address = address;
            happenings.push(|| Happening::Described { description: description.clone() });
        }
    }

    pub(super) fn connect(
        &mut self,
        table: FilesId,
        call: &Call,
        ends: Ends<'_>,
        happenings: &mut Happenings,
    ) {
        let Some(id) = self.argument(table, call, (0, 0), happenings) else { return };
        if let Some(address) = call.path.clone() {
            self.connected(id, address, ends, happenings);
        }
    }

    pub(super) fn accept(
        &mut self,
        table: FilesId,
        call: &Call,
        (new, flags): (i32, i32),
        ends: Ends<'_>,
        happenings: &mut Happenings,
    ) {
        let Some(listening) = self.argument(table, call, (0, 0), happenings) else { return };
        let listening = self.descriptions.get(&listening);
        let unknown = Kind::Socket { domain: 0, kind: 0, protocol: 0 };
        let kind = listening.map_or(unknown, |listening| listening.kind.clone());
        let address = listening.and_then(|listening| listening.address.clone());
        let id = self.new_description(kind, None, 2);
        self.open(table, new, id, flags & O_CLOEXEC != 0, happenings);
        self.accepted(id, address, ends, happenings);
    }
}

pub(super) fn socket_kind(domain: u64, kind: u64, protocol: u64) -> (Kind, i32) {
    let (kind, flags) = (kind as i32 & SOCK_TYPE_MASK, kind as i32 & !SOCK_TYPE_MASK);
    (Kind::Socket { domain: domain as i32, kind, protocol: protocol as i32 }, flags)
}

/// What a name tells; stat(2) may tell more later.
fn kind_of_path(path: &[u8], flags: i32) -> Kind {
    if flags & O_DIRECTORY != 0 {
        return Kind::Directory;
    }
    if path == b"/dev/tty" || path.starts_with(b"/dev/pts/") || path == b"/dev/console" {
        return Kind::Terminal;
    }
    if path.starts_with(b"/proc/") && path.ends_with(b"/mem") {
        return Kind::ProcessMemory;
    }
    if [&b"/dev/null"[..], b"/dev/zero", b"/dev/full", b"/dev/random", b"/dev/urandom"]
        .contains(&path)
    {
        return Kind::Device;
    }
    Kind::File
}
