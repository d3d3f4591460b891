//! Guest memory against a model that knows pages only.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use proptest::prelude::*;

use super::*;

/// Each group is sixteen pages around a border between units, so that islands appear, grow,
/// meet and move.
const GROUPS: [u64; 5] = [1, 3, 2, 9, 0x7ffe];
const GROUP_PAGES: u64 = 16;

#[derive(Clone, Copy, Debug)]
struct Span {
    group: usize,
    first: u64,
    count: u64,
}

impl Span {
    fn range(self) -> Range<Address> {
        let border = (GROUPS[self.group] + 1) << (UNIT_BITS - 12);
        let first = self.first.min(GROUP_PAGES - 1);
        pages(border - GROUP_PAGES / 2 + first, self.count.clamp(1, GROUP_PAGES - first))
    }
}

const UNIT_BITS: u32 = crate::layout::UNIT_SHIFT;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Zero,
    File(u64),
    Shared(usize, u64),
}

#[derive(Clone, Debug)]
enum Step {
    Map(Span, u8, Kind),
    Unmap(Span),
    Protect(Span, u8),
    Relocate(Span, Span),
    Discard(Span),
    Write(Span, u16, u16, u8),
    GuestWrite(Span, u16, u64),
    NoteCode(Span),
    TakeStale,
    Marks(bool),
    TakeWritten,
    Snapshot,
    Restore(u8),
    Park,
}

fn span() -> impl Strategy<Value = Span> {
    (0..GROUPS.len(), 0..GROUP_PAGES, 1..6u64).prop_map(|(group, first, count)| Span {
        group,
        first,
        count,
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Zero),
        2 => (0..4u64).prop_map(Kind::File),
        2 => (0..2usize, 0..6u64).prop_map(|(object, page)| Kind::Shared(object, page)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (span(), 0..8u8, kind()).prop_map(|(s, p, k)| Step::Map(s, p, k)),
        2 => span().prop_map(Step::Unmap),
        3 => (span(), 0..8u8).prop_map(|(s, p)| Step::Protect(s, p)),
        2 => (span(), span()).prop_map(|(from, to)| Step::Relocate(from, to)),
        2 => span().prop_map(Step::Discard),
        5 => (span(), 0..4096u16, 1..9000u16, any::<u8>())
            .prop_map(|(s, at, length, byte)| Step::Write(s, at, length, byte)),
        8 => (span(), 0..512u16, 0..3u64).prop_map(|(s, at, value)| Step::GuestWrite(s, at, value)),
        4 => span().prop_map(Step::NoteCode),
        2 => Just(Step::TakeStale),
        1 => any::<bool>().prop_map(Step::Marks),
        2 => Just(Step::TakeWritten),
        2 => Just(Step::Snapshot),
        2 => any::<u8>().prop_map(Step::Restore),
        1 => Just(Step::Park),
    ]
}

#[derive(Clone, Debug, PartialEq)]
enum Contents {
    Private { now: Vec<u8>, mapped: Vec<u8>, file_page: Option<u64> },
    Shared(usize, u64),
}

#[derive(Clone, Debug, PartialEq)]
struct ModelPage {
    protection: Protection,
    contents: Contents,
}

#[derive(Clone, Debug)]
struct Model {
    pages: BTreeMap<u64, ModelPage>,
    objects: [Vec<u8>; 2],
    code: BTreeSet<u64>,
    stale: BTreeSet<u64>,
    marks: bool,
    written: BTreeMap<u64, [u64; 8]>,
}

struct World {
    space: Space,
    model: Model,
    objects: [SharedObject; 2],
    file: Arc<File>,
    file_bytes: Vec<u8>,
    snapshots: Vec<(Snapshot, [Pages; 2], Model)>,
}

const OBJECT_PAGES: u64 = 12;
/// Of the file, these bytes are mapped; it is a little longer.
const FILE_LENGTH: u64 = 3 * PAGE + 100;

fn protection(bits: u8) -> Protection {
    Protection { read: bits & 1 != 0, write: bits & 2 != 0, execute: bits & 4 != 0 }
}

impl World {
    fn new() -> World {
        let mut file = tempfile::tempfile().unwrap();
        let file_bytes: Vec<u8> = (0..FILE_LENGTH + 500).map(|i| (i % 251) as u8 + 1).collect();
        file.write_all(&file_bytes).unwrap();
        let objects = [1, 2].map(|number| SharedObject::new(number, "object").unwrap());
        objects.iter().for_each(|object| object.grow(OBJECT_PAGES * PAGE).unwrap());
        let model = Model {
            pages: BTreeMap::new(),
            objects: std::array::from_fn(|_| vec![0; (OBJECT_PAGES * PAGE) as usize]),
            code: BTreeSet::new(),
            stale: BTreeSet::new(),
            marks: false,
            written: BTreeMap::new(),
        };
        let file = Arc::new(file);
        World { space: Space::new(), model, objects, file, file_bytes, snapshots: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Map(span, bits, kind) => self.map(span.range(), protection(bits), kind),
            Step::Unmap(span) => {
                self.space.unmap(span.range()).unwrap();
                self.model.unmap(&span.range());
            }
            Step::Protect(span, bits) => {
                self.space.protect(span.range(), protection(bits)).unwrap();
                self.model.protect(&span.range(), protection(bits));
            }
            Step::Relocate(from, to) => self.relocate(from.range(), to),
            Step::Discard(span) => {
                self.space.discard(span.range()).unwrap();
                self.model.discard(&span.range());
            }
            Step::Write(span, at, length, byte) => self.write(span.range(), at, length, byte),
            Step::GuestWrite(span, at, value) => self.guest_write(span.range().start, at, value),
            Step::NoteCode(span) => {
                for page in pages_of(&span.range()) {
                    if self.model.pages.get(&page).is_some_and(|p| p.protection.execute) {
                        self.space.unpark().unwrap();
                        self.space.note_code(pages(page, 1)).unwrap();
                        self.model.code.insert(page);
                    }
                }
            }
            Step::TakeStale => self.take_stale(),
            Step::Marks(on) => {
                self.space.enable_marks(on, false).unwrap();
                self.model.marks = on;
            }
            Step::TakeWritten => {
                let taken: BTreeMap<u64, [u64; 8]> = self
                    .space
                    .take_written()
                    .unwrap()
                    .into_iter()
                    .map(|(page, words)| (page.0 / PAGE, words))
                    .collect();
                assert_eq!(taken, std::mem::take(&mut self.model.written));
            }
            Step::Snapshot => {
                let snapshot = self.space.snapshot().unwrap();
                let objects = self.objects.each_ref().map(|object| object.snapshot().unwrap());
                self.snapshots.push((snapshot, objects, self.model.clone()));
            }
            Step::Restore(which) => self.restore(which),
            Step::Park => self.space.park().unwrap(),
        }
    }

    fn map(&mut self, range: Range<Address>, protection: Protection, kind: Kind) {
        let (backing, bytes) = match kind {
            Kind::Zero => (Backing::Zero, Vec::new()),
            Kind::File(page) => {
                let (file, offset) = (self.file.clone(), page * PAGE);
                let length = FILE_LENGTH.saturating_sub(offset);
                let bytes = self.file_bytes[..FILE_LENGTH as usize].iter();
                let bytes = bytes.skip(offset as usize).copied().collect();
                (Backing::File { file, offset, length }, bytes)
            }
            Kind::Shared(object, page) => {
                let shared = self.objects[object].clone();
                (Backing::Shared { object: shared, offset: page * PAGE }, Vec::new())
            }
        };
        self.space.map(range.clone(), protection, backing).unwrap();
        self.model.unmap(&range);
        for (index, page) in pages_of(&range).enumerate() {
            let contents = match kind {
                Kind::Shared(object, first) => Contents::Shared(object, first + index as u64),
                Kind::Zero | Kind::File(_) => {
                    let bytes = bytes.iter().skip(index * PAGE as usize).copied();
                    let mut now: Vec<u8> = bytes.take(PAGE as usize).collect();
                    now.resize(PAGE as usize, 0);
                    let file_page = if let Kind::File(first) = kind {
                        Some(first + index as u64)
                    } else {
                        None
                    };
                    Contents::Private { mapped: now.clone(), now, file_page }
                }
            };
            self.model.pages.insert(page, ModelPage { protection, contents });
        }
    }

    fn relocate(&mut self, from: Range<Address>, to: Span) {
        let count = (from.end - from.start) / PAGE;
        let to = Span { count, first: to.first.min(GROUP_PAGES - count), ..to }.range();
        let overlaps = to.start < from.end && from.start < to.end;
        let moved = self.space.relocate(from.clone(), to.start);
        assert_eq!(moved.is_err(), overlaps, "{moved:?}");
        if overlaps {
            return;
        }
        self.model.unmap(&to);
        for (old, new) in pages_of(&from).zip(pages_of(&to)) {
            if let Some(page) = self.model.pages.remove(&old) {
                self.model.pages.insert(new, page);
            }
            self.model.touch_code(old);
        }
    }

    fn write(&mut self, range: Range<Address>, at: u16, length: u16, byte: u8) {
        let at = range.start + u64::from(at);
        let bytes = vec![byte; length as usize];
        let mapped =
            (0..u64::from(length)).take_while(|&i| self.model.byte(at + i).is_some()).count();
        if byte.is_multiple_of(2) {
            assert_eq!(self.space.write(at, &bytes).is_ok(), mapped == bytes.len());
            if mapped < bytes.len() {
                return;
            }
        } else {
            assert_eq!(self.space.write_mapped(at, &bytes), mapped);
        }
        self.model.write(at, &bytes[..mapped]);
        self.model.mark(at, mapped as u64);
    }

    fn guest_write(&mut self, page: Address, at: u16, value: u64) {
        let address = page + u64::from(at) * 8;
        let writable = self.space.access(address, 8, AccessKind::Write).is_ok();
        let model_page = self.model.pages.get(&(page.0 / PAGE));
        assert_eq!(writable, model_page.is_some_and(|p| p.protection.write));
        if self.model.byte(address).is_none() || !writable {
            assert!(!self.space.write_fault(address).unwrap());
            return;
        }
        self.space.unpark().unwrap();
        self.space.shield_aliases().unwrap();
        if self.space.shielded(address, 8) {
            assert!(self.space.write_fault(address).unwrap());
        }
        if self.model.marks {
            marked_write(&mut self.space, address, value);
        } else {
            guest_write(&self.space, address, value);
        }
        self.model.write(address, &value.to_le_bytes());
        self.model.mark(address, 8);
    }

    fn take_stale(&mut self) {
        let taken: BTreeSet<u64> =
            self.space.take_stale().into_iter().flat_map(|range| pages_of(&range)).collect();
        let expected = std::mem::take(&mut self.model.stale);
        assert!(taken.is_superset(&expected), "{taken:?} {expected:?}");
        // A restore may know less than the model, never the other way round.
        for page in taken {
            assert!(self.model.code.remove(&page) || expected.contains(&page), "{page:#x}");
        }
    }

    fn restore(&mut self, which: u8) {
        if self.snapshots.is_empty() {
            return;
        }
        let (snapshot, objects, model) = &self.snapshots[which as usize % self.snapshots.len()];
        self.space.restore(snapshot).unwrap();
        for (object, pages) in self.objects.iter().zip(objects) {
            object.restore(OBJECT_PAGES * PAGE, pages).unwrap();
        }
        let before = std::mem::replace(&mut self.model, model.clone());
        let after = &self.model;
        let mut stale = before.stale.clone();
        for page in &before.code {
            let look = |model: &Model| {
                model.byte(Address(page * PAGE))?;
                let execute = model.pages[page].protection.execute;
                Some((model.page_bytes(*page), execute))
            };
            if look(&before) != look(after) {
                stale.insert(*page);
            }
        }
        let (marks, written) = (before.marks, before.written.clone());
        let code = before.code.difference(&stale).copied().collect();
        self.model.code = code;
        self.model.stale = stale;
        self.model.marks = marks;
        self.model.written = written;
        // What was mapped anew or suspected in vain is stale although it looks the same.
        for page in self.space.pending_stale() {
            self.model.touch_code(page);
        }
    }

    fn check(&mut self) {
        for (&page, expected) in &self.model.pages {
            let at = Address(page * PAGE);
            let mapping = self.space.mapping_at(at).expect("the model has it");
            assert_eq!(mapping.protection, expected.protection);
            let mut bytes = vec![0; PAGE as usize];
            match self.model.byte(at) {
                Some(_) => {
                    self.space.read(at, &mut bytes).unwrap();
                    let expected = self.model.page_bytes(page);
                    let differs = bytes.iter().zip(&expected).position(|(a, b)| a != b);
                    assert_eq!(differs, None, "page {page:#x} differs");
                }
                None => assert!(self.space.read(at, &mut bytes).is_err()),
            }
        }
        let mapped: u64 = self.space.mappings().map(|m| m.size() / PAGE).sum();
        assert_eq!(mapped, self.model.pages.len() as u64);
        self.check_host();
    }

    /// The host's protections are the guest's, but for shields, and these are where they must.
    fn check_host(&mut self) {
        if self.space.parked {
            return;
        }
        let mut shared_code = BTreeSet::new();
        for page in &self.model.code {
            if let Some(Contents::Shared(object, at)) =
                self.model.pages.get(page).map(|p| &p.contents)
            {
                shared_code.insert((*object, *at));
            }
        }
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let maps: Vec<(u64, u64, String)> = maps
            .lines()
            .map(|line| {
                let (range, rest) = line.split_once(' ').unwrap();
                let (start, end) = range.split_once('-').unwrap();
                let number = |text| u64::from_str_radix(text, 16).unwrap();
                (number(start), number(end), rest[..3].to_string())
            })
            .collect();
        for (&page, model) in &self.model.pages {
            let host = self.space.place(page * PAGE);
            let map = maps.iter().find(|(s, e, _)| (*s..*e).contains(&host)).unwrap();
            let shielded = self.space.shielded(Address(page * PAGE), 1);
            let has_code = self.model.code.contains(&page)
                || matches!(&model.contents, Contents::Shared(o, p)
                    if shared_code.contains(&(*o, *p)));
            if has_code && model.protection.write {
                assert!(shielded, "page {page:#x} has code and no shield");
            }
            let expected = match (model.protection.write, model.protection.readable()) {
                (true, _) if shielded => "r--",
                (true, _) => "rw-",
                (false, true) => "r--",
                (false, false) => "---",
            };
            assert_eq!(map.2, expected, "page {page:#x}");
        }
    }
}

impl Model {
    fn unmap(&mut self, range: &Range<Address>) {
        for page in pages_of(range) {
            self.pages.remove(&page);
            self.touch_code(page);
        }
    }

    fn protect(&mut self, range: &Range<Address>, protection: Protection) {
        for page in pages_of(range) {
            if let Some(there) = self.pages.get_mut(&page) {
                there.protection = protection;
                if !protection.execute {
                    self.touch_code(page);
                }
            }
        }
    }

    fn discard(&mut self, range: &Range<Address>) {
        for page in pages_of(range) {
            if let Some(ModelPage { contents: Contents::Private { now, mapped, .. }, .. }) =
                self.pages.get_mut(&page)
            {
                now.clone_from(mapped);
                self.touch_code(page);
            }
        }
    }

    fn touch_code(&mut self, page: u64) {
        if self.code.remove(&page) {
            self.stale.insert(page);
        }
    }

    fn byte(&self, address: Address) -> Option<u8> {
        let at = (address.0 % PAGE) as usize;
        match &self.pages.get(&(address.0 / PAGE))?.contents {
            Contents::Private { now, .. } => Some(now[at]),
            Contents::Shared(object, page) => {
                self.objects[*object].get((page * PAGE) as usize + at).copied()
            }
        }
    }

    fn page_bytes(&self, page: u64) -> Vec<u8> {
        match &self.pages[&page].contents {
            Contents::Private { now, .. } => now.clone(),
            Contents::Shared(object, at) => {
                let at = (at * PAGE) as usize;
                self.objects[*object][at..at + PAGE as usize].to_vec()
            }
        }
    }

    fn write(&mut self, address: Address, bytes: &[u8]) {
        for (index, &byte) in bytes.iter().enumerate() {
            let address = address + index as u64;
            let at = (address.0 % PAGE) as usize;
            let page = address.0 / PAGE;
            match &mut self.pages.get_mut(&page).unwrap().contents {
                Contents::Private { now, .. } => {
                    now[at] = byte;
                    if at == 0 || index == 0 {
                        self.touch_code(page);
                    }
                }
                Contents::Shared(object, shown) => {
                    let (object, shown) = (*object, *shown);
                    self.objects[object][(shown * PAGE) as usize + at] = byte;
                    if at == 0 || index == 0 {
                        let aliases: Vec<u64> = self
                            .pages
                            .iter()
                            .filter(|(_, p)| {
                                matches!(&p.contents,
                                Contents::Shared(o, s) if (*o, *s) == (object, shown))
                            })
                            .map(|(&page, _)| page)
                            .collect();
                        aliases.into_iter().for_each(|page| self.touch_code(page));
                    }
                }
            }
        }
    }

    fn mark(&mut self, address: Address, length: u64) {
        if self.marks && length > 0 {
            for word in address.0 / 8..(address.0 + length).div_ceil(8) {
                let words = self.written.entry(word / 512).or_default();
                words[(word % 512) as usize / 64] |= 1 << (word % 64);
            }
        }
    }
}

proptest! {
    #[test]
    fn memory_equals_model(steps in prop::collection::vec(step(), 1..60)) {
        let _guard = one_at_a_time();
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        let mut bytes = vec![0; world.file_bytes.len()];
        std::os::unix::fs::FileExt::read_exact_at(&*world.file, &mut bytes, 0).unwrap();
        prop_assert_eq!(bytes, world.file_bytes);
    }
}
