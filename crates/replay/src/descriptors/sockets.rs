//! What ties sockets of the recording together: socketpair(2), connect(2) with accept(2), and
//! descriptors that travel in messages.

use serde::{Deserialize, Serialize};

use super::{DescriptionId, Descriptors, Happening, Happenings, Kind, StreamId};
use crate::task::FilesId;

/// Connections that wait for their other end; the oldest are given up first.
const CONNECTIONS_MAX: usize = 4096;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// One end of a connection, as seen by connect(2), or by accept(2) if that returned first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Of the listening socket.
    address: Vec<u8>,
    /// Of the client, if the recording tells.
    client: Vec<u8>,
    accepted: bool,
    /// The streams of this end.
    reads: StreamId,
    writes: StreamId,
}

/// Addresses of a connection's ends, where the recording has them: as rr gives them, with ports in
/// the byte order of the host, and with bytes behind them that mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ends<'a> {
    pub local: &'a [u8],
    pub remote: &'a [u8],
}

impl Descriptors {
    /// connect(2) has succeeded, or goes on by itself.
    pub(super) fn connected(
        &mut self,
        id: DescriptionId,
        address: Vec<u8>,
        ends: Ends<'_>,
        happenings: &mut Happenings,
    ) {
        let Some(description) = self.descriptions.get(&id) else { return };
        let Kind::Socket { kind: 1 | 5, .. } = description.kind else { return };
        let client = as_bound(ends.local);
        let other = self.connections.iter().position(|end| {
            end.accepted
                && same_address(&end.address, &address)
                && same_client(&end.client, &client)
        });
        let Some(other) = other.and_then(|index| self.connections.remove(index)) else {
            self.await_other_end(id, address, client, false);
            return;
        };
        self.tie(id, &other, happenings);
    }

    /// accept(2) has made `id` from a listening socket with this address.
    pub(super) fn accepted(
        &mut self,
        id: DescriptionId,
        listening: Option<Vec<u8>>,
        ends: Ends<'_>,
        happenings: &mut Happenings,
    ) {
        let address = if ends.local.is_empty() { listening } else { Some(as_bound(ends.local)) };
        let Some(address) = address else { return };
        let client = as_bound(ends.remote);
        let other = self.connections.iter().position(|end| {
            !end.accepted
                && same_address(&address, &end.address)
                && same_client(&end.client, &client)
        });
        let Some(other) = other.and_then(|index| self.connections.remove(index)) else {
            self.await_other_end(id, address, client, true);
            return;
        };
        self.tie(id, &other, happenings);
    }

    fn await_other_end(
        &mut self,
        id: DescriptionId,
        address: Vec<u8>,
        client: Vec<u8>,
        accepted: bool,
    ) {
        let Some(description) = self.descriptions.get(&id) else { return };
        let (reads, writes) = (description.reads, description.writes);
        for stream in [reads, writes] {
            if let Some(stream) = self.streams.get_mut(&stream) {
                stream.holders += 1;
            }
        }
        if self.connections.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.connections.pop_front()
        {
            self.forget(&oldest);
        }
        self.connections.push_back(Connection { address, client, accepted, reads, writes });
    }

    fn forget(&mut self, end: &Connection) {
        for stream in [end.reads, end.writes] {
            for description in self.release_stream(stream) {
                self.release(description);
            }
        }
    }

    /// Makes the streams of the other end, crossed, those of a description without any bytes yet.
    fn tie(&mut self, id: DescriptionId, other: &Connection, happenings: &mut Happenings) {
        let Some(description) = self.descriptions.get_mut(&id) else { return };
        let old = [description.reads, description.writes];
        (description.reads, description.writes) = (other.writes, other.reads);
        for stream in [other.reads, other.writes] {
            if let Some(stream) = self.streams.get_mut(&stream) {
                stream.holders += 1;
            }
        }
        for stream in old {
            for released in self.release_stream(stream) {
                self.release(released);
            }
        }
        self.forget(other);
        if let Some(description) = self.descriptions.get(&id) {
            happenings.push(|| Happening::Described { description: description.clone() });
        }
    }

    /// Descriptors go with the byte `position` of a stream.
    pub(super) fn send_rights(
        &mut self,
        table: FilesId,
        numbers: &[i32],
        (stream, position): (StreamId, u64),
        happenings: &mut Happenings,
    ) {
        let mut sent = Vec::new();
        for &descriptor in numbers {
            let Some(description) = self.resolve(table, descriptor, happenings) else { continue };
            sent.push(description);
            happenings.push(|| Happening::Sent { descriptor, description, stream, position });
        }
        if sent.is_empty() {
            return;
        }
        if !self.streams.contains_key(&stream) {
            return;
        }
        for description in &sent {
            if let Some(description) = self.descriptions.get_mut(description) {
                description.holders += 1;
            }
        }
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.passing.push_back((position, sent));
        }
    }

    /// Descriptors have come with the bytes `start..end` of a stream and got these numbers.
    /// Bytes that were read in another way have lost theirs.
    pub(super) fn receive_rights(
        &mut self,
        table: FilesId,
        numbers: &[i32],
        (stream, start, end): (StreamId, u64, u64),
        (close_on_exec, peeked): (bool, bool),
        happenings: &mut Happenings,
    ) {
        let mut come = Vec::new();
        let mut lost = Vec::new();
        if let Some(stream) = self.streams.get_mut(&stream) {
            let within = |position: u64| position < end || position == start;
            if peeked {
                let passing = stream.passing.iter().filter(|(position, _)| within(*position));
                come.extend(passing.flat_map(|(_, ids)| ids).copied());
            } else {
                while stream.passing.front().is_some_and(|&(position, _)| within(position)) {
                    let (position, ids) = stream.passing.pop_front().unwrap_or_default();
                    if position >= start {
                        come.extend(&ids);
                    }
                    lost.extend(ids);
                }
            }
        }
        for (index, &descriptor) in numbers.iter().enumerate() {
            match come.get(index) {
                Some(&description) => {
                    self.attach(table, descriptor, description, close_on_exec, happenings);
                    happenings.push(|| Happening::Received {
                        descriptor,
                        description,
                        close_on_exec,
                    });
                }
                None => {
                    let id = self.new_description(Kind::Unknown, None, 0);
                    self.open(table, descriptor, id, close_on_exec, happenings);
                }
            }
        }
        for description in lost {
            self.release(description);
        }
    }
}

fn family(address: &[u8]) -> u16 {
    match address {
        [low, high, ..] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}

/// An address of [`Ends`] as a program gives it.
fn as_bound(recorded: &[u8]) -> Vec<u8> {
    let length = match family(recorded) {
        AF_INET => 16,
        AF_INET6 => 28,
        _ => return recorded.to_vec(),
    };
    let mut address = recorded[..length.min(recorded.len())].to_vec();
    if let Some(port) = address.get_mut(2..4) {
        port.swap(0, 1);
    }
    address
}

/// Whether a socket bound to `bound` is reached under `wanted`.
fn same_address(bound: &[u8], wanted: &[u8]) -> bool {
    let kind = family(bound);
    if kind != family(wanted) {
        return false;
    }
    let same = |range: std::ops::Range<usize>| {
        bound.len() >= range.end && bound.get(range.clone()) == wanted.get(range)
    };
    let any = |range| bound.get(range).is_some_and(|part: &[u8]| part.iter().all(|&b| b == 0));
    match kind {
        AF_UNIX => unix_name(bound) == unix_name(wanted) && !unix_name(bound).is_empty(),
        AF_INET => same(2..4) && (any(4..8) || same(4..8)),
        AF_INET6 => same(2..4) && (any(8..24) || same(8..24)),
        _ => false,
    }
}

/// A path ends at its zero; an abstract name begins with one and has all bytes.
fn unix_name(address: &[u8]) -> &[u8] {
    let name = address.get(2..).unwrap_or_default();
    match name.first() {
        Some(0) | None => name,
        Some(_) => name.split(|&byte| byte == 0).next().unwrap_or_default(),
    }
}

/// Clients are told apart if both ends know more than the family of the client's address.
fn same_client(one: &[u8], other: &[u8]) -> bool {
    let unnamed = |address: &[u8]| address.len() <= 2;
    unnamed(one)
        || unnamed(other)
        || same_address(one, other)
        || words_reversed(other).is_some_and(|other| same_address(one, &other))
}

/// rr 5.6 writes the four words of a remote IPv6 address in reverse order.
fn words_reversed(address: &[u8]) -> Option<Vec<u8>> {
    if family(address) != AF_INET6 {
        return None;
    }
    let mut reversed = address.to_vec();
    let words = reversed.get_mut(8..24)?.as_chunks_mut::<4>().0;
    words.reverse();
    Some(reversed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let unix = |name: &[u8]| [&[1, 0], name].concat();
        assert!(same_address(&unix(b"sock"), &unix(b"sock\0\0")));
        assert!(!same_address(&unix(b"sock"), &unix(b"sock2")));
        assert!(!same_address(&unix(b"\0a"), &unix(b"\0a\0")));
        assert!(!same_address(&unix(b""), &unix(b"")));
        let inet = |port, last| [2, 0, 0, port, 127, 0, 0, last, 0, 0, 0, 0, 0, 0, 0, 0];
        let any = [2, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(same_address(&inet(7, 1), &inet(7, 1)));
        assert!(same_address(&any, &inet(7, 1)));
        assert!(!same_address(&inet(7, 1), &inet(7, 2)));
        assert!(!same_address(&inet(7, 1), &inet(8, 1)));
        assert!(!same_address(&[2], &[2]));
        assert!(same_client(&[], &inet(7, 1)));
        assert!(!same_client(&inet(7, 1), &inet(8, 1)));
        assert_eq!(as_bound(&[&[2, 0, 7, 0][..], &inet(7, 1)[4..], b"rest"].concat()), inet(7, 1));
        assert_eq!(as_bound(&[10, 0, 7, 8]), [10, 0, 8, 7]);
        let inet6 = |words: [u32; 4]| {
            let words = words.map(u32::to_be_bytes).concat();
            [&[10, 0, 0, 7, 0, 0, 0, 0][..], &words, &[0; 4]].concat()
        };
        assert!(same_client(&inet6([0xfd00_0000, 2, 3, 4]), &inet6([4, 3, 2, 0xfd00_0000])));
        assert!(!same_client(&inet6([0xfd00_0000, 2, 3, 4]), &inet6([4, 3, 2, 0xfd00_0001])));
        assert_eq!(as_bound(&unix(b"name")), unix(b"name"));
    }
}
