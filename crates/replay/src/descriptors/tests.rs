//! Tables, positions and streams by themselves: calls on a made-up memory.

use super::sockets::Ends;
use super::*;
use crate::numbers::syscall::*;
use crate::numbers::{F_DUPFD_CLOEXEC, F_SETFL, O_APPEND, O_CREAT, O_TRUNC};
use model::Moment;

const TABLE: FilesId = FilesId(1);
const CHILD: FilesId = FilesId(2);

/// Pieces of memory by address.
#[derive(Default)]
struct Pieces(BTreeMap<u64, Vec<u8>>);

impl Memory for Pieces {
    fn read(&self, address: Address, bytes: &mut [u8]) -> bool {
        let Some((start, piece)) = self.0.range(..=address.0).next_back() else { return false };
        let offset = (address.0 - start) as usize;
        let Some(part) = piece.get(offset..offset + bytes.len()) else { return false };
        bytes.copy_from_slice(part);
        true
    }
}

#[derive(Default)]
struct World {
    descriptors: Descriptors,
    memory: Pieces,
}

impl World {
    fn put(&mut self, address: u64, words: &[u64]) {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.memory.0.insert(address, bytes);
    }

    fn begin(&mut self, table: FilesId, number: i32, arguments: &[u64]) -> Call {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let call = self.descriptors.begin(table, number, all, (Moment(7), 0), &self.memory);
        call.expect("the call has to do with descriptors")
    }

    fn end(&mut self, table: FilesId, call: &Call, result: i64) -> Vec<Happening> {
        self.end_between(table, call, result, Ends::default())
    }

    fn end_between(
        &mut self,
        table: FilesId,
        call: &Call,
        result: i64,
        ends: Ends<'_>,
    ) -> Vec<Happening> {
        let mut happenings = Happenings::new(true);
        let memory = (&self.memory as &dyn Memory, ends);
        self.descriptors.complete(table, call, result, memory, &mut happenings);
        happenings.into_list()
    }

    fn call_in(
        &mut self,
        table: FilesId,
        number: i32,
        arguments: &[u64],
        result: i64,
    ) -> Vec<Happening> {
        let call = self.begin(table, number, arguments);
        self.end(table, &call, result)
    }

    fn call(&mut self, number: i32, arguments: &[u64], result: i64) -> Vec<Happening> {
        self.call_in(TABLE, number, arguments, result)
    }

    fn open(&mut self, path: &[u8], flags: i32, descriptor: i64) {
        self.memory.0.insert(0x100, [path, &[0]].concat());
        self.call(OPEN, &[0x100, flags as u64], descriptor);
    }

    fn pipe(&mut self, read_end: u64, write_end: u64) {
        self.put(0x200, &[read_end | write_end << 32]);
        self.call(PIPE, &[0x200], 0);
    }

    /// Where the only transfer of a call took place: offset, start in the stream, length.
    fn place(&mut self, number: i32, arguments: &[u64], result: i64) -> (Option<u64>, u64, u64) {
        let transfers = transfers(self.call(number, arguments, result));
        let [transfer] = &transfers[..] else { panic!("{transfers:?}") };
        (transfer.offset.map(|offset| offset.value), transfer.start, transfer.length)
    }
}

fn transfers(happenings: Vec<Happening>) -> Vec<Transfer> {
    let transfers = happenings.into_iter().filter_map(|happening| match happening {
        Happening::Transferred(transfer) => Some(transfer),
        _ => None,
    });
    transfers.collect()
}

#[test]
fn duplicates_share_a_position() {
    let mut world = World::default();
    world.open(b"a", O_CREAT | O_TRUNC | 2, 3);
    world.call(DUP, &[3], 4);
    assert_eq!(world.place(WRITE, &[3, 0x1000, 10], 10), (Some(0), 0, 10));
    assert_eq!(world.place(WRITE, &[4, 0x1000, 10], 5), (Some(10), 10, 5));
    world.call(LSEEK, &[4, 2, 0], 2);
    assert_eq!(world.place(READ, &[3, 0x1000, 10], 10), (Some(2), 0, 10));
    assert_eq!(world.place(PWRITE64, &[3, 0x1000, 3, 100], 3), (Some(100), 15, 3));
    assert_eq!(world.place(READ, &[4, 0x1000, 10], 0), (Some(12), 10, 0));
    world.open(b"a", 0, 5);
    assert_eq!(world.place(READ, &[5, 0x1000, 10], 10), (Some(0), 0, 10));
}

#[test]
fn appended_bytes_go_to_the_end_that_is_known() {
    let mut world = World::default();
    world.open(b"new", O_CREAT | O_TRUNC | O_APPEND | 1, 3);
    assert_eq!(world.place(WRITE, &[3, 0x1000, 10], 10).0, Some(0));
    world.call(LSEEK, &[3, 4, 0], 4);
    assert_eq!(world.place(WRITE, &[3, 0x1000, 10], 10).0, Some(10));
    world.call(FTRUNCATE, &[3, 6], 0);
    assert_eq!(world.place(WRITE, &[3, 0x1000, 1], 1).0, Some(6));
    world.open(b"old", O_APPEND | 1, 4);
    assert_eq!(world.place(WRITE, &[4, 0x1000, 10], 10).0, None);
    world.open(b"late", O_CREAT | O_TRUNC | 1, 5);
    world.call(WRITE, &[5, 0x1000, 8], 8);
    world.call(FCNTL, &[5, F_SETFL, O_APPEND as u64], 0);
    world.call(LSEEK, &[5, 0, 0], 0);
    let written = transfers(world.call(WRITE, &[5, 0x1000, 2], 2));
    assert_eq!(written[0].offset, Some(Offset { value: 8, assumed: true }));
}

#[test]
fn pipes_tie_their_ends() {
    let mut world = World::default();
    world.pipe(3, 4);
    let written = transfers(world.call(WRITE, &[4, 0x1000, 10], 10));
    world.descriptors.copy_table(TABLE, CHILD);
    world.call(CLOSE, &[3], 0);
    let read = transfers(world.call_in(CHILD, READ, &[3, 0x2000, 99], 10));
    assert_eq!((read[0].stream, read[0].start), (written[0].stream, 0));
    assert_eq!(read[0].memory, [Address(0x2000)..Address(0x200a)]);
    assert_eq!(read[0].offset, None);
    let closed = world.call_in(CHILD, CLOSE, &[3], 0);
    assert!(matches!(closed[..], [Happening::Closed { last: true, .. }]), "{closed:?}");
}

#[test]
fn vectors_are_cut_at_the_result() {
    let mut world = World::default();
    world.pipe(3, 4);
    world.put(0x300, &[0x1000, 5, 0x2000, 0, 0x3000, 7]);
    let written = transfers(world.call(WRITEV, &[4, 0x300, 3], 8));
    let expected = [Address(0x1000)..Address(0x1005), Address(0x3000)..Address(0x3003)];
    assert_eq!(written[0].memory, expected);
}

#[test]
fn messages_are_taken_whole() {
    let mut world = World::default();
    world.put(0x200, &[5 | 6 << 32]);
    world.call(SOCKETPAIR, &[1, 2, 0, 0x200], 0);
    world.call(WRITE, &[5, 0x1000, 40], 40);
    world.call(WRITE, &[5, 0x1000, 20], 20);
    assert_eq!(world.place(READ, &[6, 0x2000, 15], 15), (None, 0, 15));
    assert_eq!(world.place(READ, &[6, 0x2000, 99], 20), (None, 40, 20));
}

#[test]
fn peeking_takes_nothing() {
    let mut world = World::default();
    world.put(0x200, &[5 | 6 << 32]);
    world.call(SOCKETPAIR, &[1, 1, 0, 0x200], 0);
    world.call(SENDTO, &[5, 0x1000, 40], 40);
    assert_eq!(world.place(RECVFROM, &[6, 0x2000, 15, 2], 15), (None, 0, 15));
    assert_eq!(world.place(RECVFROM, &[6, 0x2000, 15, 0], 15), (None, 0, 15));
    assert_eq!(world.place(RECVFROM, &[6, 0x2000, 15, 0], 15), (None, 15, 15));
}

#[test]
fn bytes_inside_the_kernel_have_two_sides() {
    let mut world = World::default();
    world.open(b"in", 0, 3);
    world.pipe(4, 5);
    world.put(0x400, &[30]);
    let both = transfers(world.call(SPLICE, &[3, 0x400, 5, 0, 20, 0], 20));
    let [read, write] = &both[..] else { panic!("{both:?}") };
    assert_eq!(read.offset, Some(Offset::exact(30)));
    assert_eq!(read.counterpart.expect("pipe").stream, write.stream);
    assert_eq!(write.counterpart.expect("file").offset, Some(Offset::exact(30)));
    // The position was not used.
    assert_eq!(world.place(READ, &[3, 0x1000, 5], 5).0, Some(0));
}

#[test]
fn who_inherits_is_known_when_it_shows() {
    let mut world = World::default();
    world.descriptors.copy_table(TABLE, CHILD);
    let first = transfers(world.call(WRITE, &[1, 0x1000, 5], 5));
    let second = transfers(world.call_in(CHILD, WRITE, &[1, 0x1000, 5], 5));
    assert_eq!(first[0].description, second[0].description);
    assert_eq!((first[0].start, second[0].start), (0, 5));
    let description = world.descriptors.description(first[0].description).expect("it is open");
    assert_eq!(description.inherited, Some(1));
    // A failed call shows nothing, and what was closed is not inherited.
    assert_eq!(world.call(READ, &[77, 0x1000, 5], -9), []);
    world.call(CLOSE_RANGE, &[3, u64::from(u32::MAX), 0], 0);
    assert_eq!(world.descriptors.lookup(TABLE, 77), None);
    world.call(READ, &[77, 0x1000, 5], 5);
    let id = world.descriptors.lookup(TABLE, 77).expect("it must have been opened");
    assert_eq!(world.descriptors.description(id).expect("open").inherited, None);
}

#[test]
fn exec_closes_what_is_marked() {
    let mut world = World::default();
    world.open(b"a", 0, 3);
    world.call(FCNTL, &[3, F_DUPFD_CLOEXEC, 10], 10);
    world.call(DUP2, &[3, 11], 11);
    let mut happenings = Happenings::new(true);
    world.descriptors.close_on_exec(TABLE, &[11], &mut happenings);
    let left = world.descriptors.descriptors_between(TABLE, 0, i32::MAX);
    assert_eq!(left, [3]);
    assert_eq!(happenings.into_list().len(), 2);
}

/// A message header with one piece of memory and one descriptor in its control data.
fn message(world: &mut World, descriptor: u64) {
    world.put(0x500, &[0, 0, 0x600, 1, 0x700, 24, 0]);
    world.put(0x600, &[0x1000, 4]);
    world.put(0x700, &[20, 1 | 1 << 32, descriptor]);
}

#[test]
fn descriptors_travel() {
    let mut world = World::default();
    world.put(0x200, &[5 | 6 << 32]);
    world.call(SOCKETPAIR, &[1, 1, 0, 0x200], 0);
    world.open(b"a", 0, 3);
    let id = world.descriptors.lookup(TABLE, 3);
    message(&mut world, 3);
    world.call(SENDMSG, &[5, 0x500], 4);
    world.call(CLOSE, &[3], 0);
    message(&mut world, 9);
    let received = world.call(RECVMSG, &[6, 0x500], 4);
    assert_eq!(world.descriptors.lookup(TABLE, 9), id, "{received:?}");
    // One that nobody takes is closed with its socket.
    message(&mut world, 9);
    world.call(SENDMSG, &[5, 0x500], 4);
    world.call(CLOSE, &[9], 0);
    assert!(world.descriptors.description(id.expect("it was open")).is_some());
    world.call(CLOSE, &[5], 0);
    world.call(CLOSE, &[6], 0);
    assert!(world.descriptors.description(id.expect("it was open")).is_none());
    assert!(world.descriptors.streams.is_empty(), "{:?}", world.descriptors.streams);
}

#[test]
fn connections_are_tied_in_either_order() {
    for accept_first in [false, true] {
        let mut world = World::default();
        world.memory.0.insert(0x800, b"\x01\0name\0".to_vec());
        world.call(SOCKET, &[1, 1, 0], 3);
        world.call(BIND, &[3, 0x800, 7], 0);
        world.call(SOCKET, &[1, 1, 0], 4);
        let connect = world.begin(TABLE, CONNECT, &[4, 0x800, 7]);
        if accept_first {
            world.call(ACCEPT, &[3, 0, 0], 5);
            world.end(TABLE, &connect, 0);
        } else {
            world.end(TABLE, &connect, 0);
            world.call(ACCEPT, &[3, 0, 0], 5);
        }
        let written = transfers(world.call(WRITE, &[4, 0x1000, 5], 5));
        let read = transfers(world.call(READ, &[5, 0x1000, 5], 5));
        assert_eq!(written[0].stream, read[0].stream);
        let written = transfers(world.call(WRITE, &[5, 0x1000, 5], 5));
        let read = transfers(world.call(READ, &[4, 0x1000, 5], 5));
        assert_eq!(written[0].stream, read[0].stream);
        for descriptor in 3..6 {
            world.call(CLOSE, &[descriptor], 0);
        }
        assert!(world.descriptors.streams.is_empty(), "{:?}", world.descriptors.streams);
    }
}

#[test]
fn connections_over_the_network_are_tied_by_both_addresses() {
    // In the order of the host, with what was there before behind it.
    let recorded = |port: u8| {
        let mut address = vec![2, 0, port, 0, 127, 0, 0, 1];
        address.resize(128, port);
        address
    };
    let mut world = World::default();
    world.memory.0.insert(0x800, [&[2, 0, 0, 80, 127, 0, 0, 1][..], &[0; 8]].concat());
    world.call(SOCKET, &[2, 1, 0], 3);
    world.call(BIND, &[3, 0x800, 16], 0);
    let (server, clients) = (recorded(80), [recorded(7), recorded(8)]);
    for (descriptor, client) in [4, 5].into_iter().zip(&clients) {
        world.call(SOCKET, &[2, 1, 0], descriptor);
        let connect = world.begin(TABLE, CONNECT, &[descriptor as u64, 0x800, 16]);
        world.end_between(TABLE, &connect, 0, Ends { local: client, remote: &server });
    }
    // Accepted in the other order.
    for (descriptor, client) in [15, 14].into_iter().zip(clients.iter().rev()) {
        let accept = world.begin(TABLE, ACCEPT, &[3, 0, 0]);
        world.end_between(TABLE, &accept, descriptor, Ends { local: &server, remote: client });
    }
    for descriptor in [4, 5] {
        for (from, to) in [(descriptor, descriptor + 10), (descriptor + 10, descriptor)] {
            let written = transfers(world.call(WRITE, &[from, 0x1000, 5], 5));
            let read = transfers(world.call(READ, &[to, 0x1000, 5], 5));
            assert_eq!(written[0].stream, read[0].stream, "{from} to {to}");
        }
    }
}

#[test]
fn an_unknown_order_is_said() {
    let mut world = World::default();
    world.pipe(3, 4);
    let blocked = world.begin(TABLE, WRITE, &[4, 0x1000, 70000]);
    let other = transfers(world.call(WRITE, &[4, 0x1000, 10], 10));
    assert!(other[0].order_uncertain);
    let blocked = transfers(world.end(TABLE, &blocked, 70000));
    assert!(blocked[0].order_uncertain);
    let alone = transfers(world.call(WRITE, &[4, 0x1000, 10], 10));
    assert!(!alone[0].order_uncertain);
}
