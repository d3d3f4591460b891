//! The tree and memory at borders against scanning all leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use model::{Address, Moment, Tid};
use proptest::prelude::*;
use store::*;

#[path = "support/generate.rs"]
mod generate;
use generate::Random;

/// What happened in a leaf, in the form in which it is asked.
#[derive(Clone, Debug, Default)]
struct Model {
    /// (owner, word number).
    written: BTreeSet<(u32, u64)>,
    /// (owner, line number).
    read: BTreeSet<(u32, u64)>,
    /// (owner, address): count; by byte.
    code: BTreeMap<(u32, u64), u64>,
    called: BTreeMap<(u32, u64), u64>,
    keys: BTreeMap<(u32, u64), u64>,
    depths: BTreeMap<i32, i64>,
    /// (owner, page): dropped, words with values.
    memory: BTreeMap<(u32, u64), (bool, BTreeMap<u64, u64>)>,
    lineages: Vec<Lineage>,
}

fn page_id(owner: u32, page: u64) -> PageId {
    PageId { owner: Owner(owner), page }
}

fn mask_of(words: impl Iterator<Item = u64>) -> WordMask {
    let mut mask = [0; 8];
    for word in words {
        mask[word as usize / 64] |= 1 << (word % 64);
    }
    mask
}

impl Model {
    fn random(random: &mut Random, leaf: u64, owners: u32) -> Model {
        let mut model = Model::default();
        let sparse = random.one_in(3);
        let many = if sparse { 2 } else { 12 };
        for _ in 0..random.below(many) {
            let owner = random.below(u64::from(owners)) as u32;
            // Few hot places, many cold ones.
            let spread = if random.one_in(4) { 40_000 } else { 700 };
            model.written.insert((owner, random.below(spread)));
            model.read.insert((owner, random.below(spread / 8)));
            let start = random.below(60) * 5;
            let count = 1 + random.below(9);
            for address in start..start + 1 + random.below(30) {
                *model.code.entry((owner, address)).or_default() += count;
            }
            let key = (owner, random.rarely(4, 3000, 20));
            *model.called.entry(key).or_default() += count;
            *model.keys.entry((key.1 as u32 % 3, key.1)).or_default() += count;
            model.depths.insert(random.below(4) as i32 - 1, random.below(50) as i64 - 5);
            let page = model.memory.entry((owner, random.below(if sparse { 60 } else { 9 })));
            let (dropped, words) = page.or_default();
            if random.one_in(9) {
                *dropped = true;
            }
            let all = random.one_in(30);
            for word in 0..512 {
                if all || random.one_in(200) {
                    words.insert(word, leaf << 16 | random.below(1 << 16));
                }
            }
        }
        model.memory.retain(|_, (dropped, words)| *dropped || !words.is_empty());
        model
    }

    fn encode(&self) -> EncodedLeaf {
        let mut leaf = LeafEncoder::new(1).unwrap();
        let mut written: BTreeMap<(u32, u64), Vec<u64>> = BTreeMap::new();
        for (owner, word) in &self.written {
            written.entry((*owner, word / 512)).or_default().push(word % 512);
        }
        leaf.written(written.iter().map(|(&(owner, page), words)| WrittenPage {
            page: page_id(owner, page),
            words: mask_of(words.iter().copied()),
        }))
        .unwrap();
        let mut read: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        for (owner, line) in &self.read {
            *read.entry((*owner, line / 64)).or_default() |= 1 << (line % 64);
        }
        leaf.read(
            read.iter()
                .map(|(&(owner, page), &lines)| ReadPage { page: page_id(owner, page), lines }),
        )
        .unwrap();
        leaf.code(self.code.iter().map(|(&(owner, address), &count)| CodeRun {
            owner: Owner(owner),
            start: Address(address),
            end: Address(address + 1),
            count,
            children: 1,
        }))
        .unwrap();
        let count =
            |(&(class, key), &count): (&(u32, u64), &u64)| Count { class, key, count, children: 1 };
        leaf.called(self.called.iter().map(count)).unwrap();
        leaf.keys(self.keys.iter().map(count)).unwrap();
        let mut depths: Vec<(Tid, i64)> =
            self.depths.iter().map(|(&task, &depth)| (Tid(task), depth)).collect();
        depths.sort_by_key(|(task, _)| task.0 as u32);
        leaf.depths(depths).unwrap();
        leaf.memory(self.memory.iter().map(|(&(owner, page), (dropped, words))| PageDelta {
            page: page_id(owner, page),
            dropped: *dropped,
            words: mask_of(words.keys().copied()),
            values: words.values().copied().collect(),
            children: 1,
        }))
        .unwrap();
        leaf.lineages(self.lineages.iter().copied()).unwrap();
        leaf.finish().unwrap()
    }

    fn count(&self, counted: &Counted) -> u64 {
        let count = match counted {
            Counted::Executed { owner, address } => self.code.get(&(owner.0, address.0)),
            Counted::Called { owner, target } => self.called.get(&(owner.0, target.0)),
            Counted::Key { class, key } => self.keys.get(&(*class, *key)),
        };
        count.copied().unwrap_or(0)
    }

    fn has(&self, key: &Key) -> bool {
        match key {
            Key::Written { owner, bytes } if !bytes.is_empty() => {
                let words = (owner.0, bytes.start / 8)..=(owner.0, (bytes.end - 1) / 8);
                self.written.range(words).next().is_some()
            }
            Key::Read { owner, bytes } if !bytes.is_empty() => {
                let lines = (owner.0, bytes.start / 64)..=(owner.0, (bytes.end - 1) / 64);
                self.read.range(lines).next().is_some()
            }
            Key::Executed { owner, code } if !code.is_empty() => {
                let bytes = (owner.0, code.start.0)..(owner.0, code.end.0);
                self.code.range(bytes).next().is_some()
            }
            Key::Written { .. } | Key::Read { .. } | Key::Executed { .. } => false,
            Key::Shallower { task, limit } => {
                self.depths.get(&task.0).is_some_and(|depth| depth < limit)
            }
            Key::Counted(counted) => self.count(counted) > 0,
        }
    }
}

fn any_key(random: &mut Random, owners: u32) -> Key {
    let owner = Owner(random.below(u64::from(owners) + 1) as u32);
    let length = random.rarely(4, 3000, 20);
    let start = random.below(6000);
    match random.below(5) {
        0 => Key::Written { owner, bytes: start..start + length },
        1 => Key::Read { owner, bytes: start..start + length },
        2 => {
            let start = start % 400;
            Key::Executed { owner, code: Address(start)..Address(start + length % 50) }
        }
        3 => {
            let (task, limit) = (random.below(5) as i32 - 1, random.below(60) as i64 - 6);
            Key::Shallower { task: Tid(task), limit }
        }
        _ => Key::Counted(any_counted(random, owners)),
    }
}

fn any_counted(random: &mut Random, owners: u32) -> Counted {
    let owner = Owner(random.below(u64::from(owners)) as u32);
    let key = random.rarely(3, 3000, 20);
    match random.below(3) {
        0 => Counted::Executed { owner, address: Address(random.below(350)) },
        1 => Counted::Called { owner, target: Address(key) },
        _ => Counted::Key { class: key as u32 % 3, key },
    }
}

fn check_tree(reader: &Reader, models: &[Model], random: &mut Random, owners: u32, asks: usize) {
    let tree = Tree::new(reader);
    let leaves = models.len() as u64;
    for _ in 0..asks {
        let key = any_key(random, owners);
        let border = random.below(leaves + 3);
        let has = |leaf: &u64| models[*leaf as usize].has(&key);
        let expected = (0..border.min(leaves)).rev().find(has);
        assert_eq!(tree.last_before(&key, border).unwrap(), expected, "{key:?} before {border}");
        let expected = (border..leaves).find(has);
        assert_eq!(tree.first_from(&key, border).unwrap(), expected, "{key:?} from {border}");

        let counted = any_counted(random, owners);
        let (a, b) = (random.below(leaves + 2), random.below(leaves + 2));
        let range = a.min(b)..a.max(b);
        let count = |range: Range<u64>| -> u64 {
            let range = range.start.min(leaves) as usize..range.end.min(leaves) as usize;
            models[range].iter().map(|model| model.count(&counted)).sum()
        };
        assert_eq!(
            tree.count(counted, range.clone()).unwrap(),
            count(range.clone()),
            "{counted:?}"
        );
        let total = count(0..leaves);
        let n = random.below(total + 2);
        let (mut left, mut expected) = (n, None);
        for (leaf, model) in (0..).zip(models) {
            let count = model.count(&counted);
            if left < count {
                expected = Some(Nth { leaf, rank: left });
                break;
            }
            left -= count;
        }
        assert_eq!(tree.nth(counted, n).unwrap(), expected, "{n} of {counted:?}");

        let task = random.below(5) as i32 - 1;
        let within = models.iter().take(range.end as usize).skip(range.start as usize);
        let expected = within.filter_map(|model| model.depths.get(&task).copied()).min();
        assert_eq!(tree.min_depth(Tid(task), range).unwrap(), expected);
    }
}

/// What is known of an owner's pages at each border, by brute force.
type Pages = BTreeMap<(u32, u64), Rc<BTreeMap<u64, u64>>>;

fn apply(pages: &mut Pages, model: &Model, before: &dyn Fn(u64) -> Pages) {
    for lineage in &model.lineages {
        let Some((parent, border)) = lineage.parent else { continue };
        // Forked in this leaf, the parent has what it took over itself.
        let fresh = model.lineages.iter().any(|other| other.owner == parent);
        let inherited = if fresh { pages.clone() } else { before(border) };
        for (&(_, page), words) in inherited.iter().filter(|((owner, _), _)| *owner == parent.0) {
            pages.insert((lineage.owner.0, page), words.clone());
        }
    }
    for (page, (dropped, words)) in &model.memory {
        let known = Rc::make_mut(pages.entry(*page).or_default());
        if *dropped {
            known.clear();
        }
        known.extend(words.iter().map(|(word, value)| (*word, *value)));
    }
    pages.retain(|_, words| !words.is_empty());
}

fn check_memory(reader: &Reader, borders: &[Pages], random: &mut Random, owners: u32, asks: usize) {
    let view = MemoryView::new(reader);
    let leaves = borders.len() as u64 - 1;
    for _ in 0..asks {
        let border = random.below(leaves + 1);
        let owner = random.below(u64::from(owners) + 1) as u32;
        let pages = &borders[border as usize];
        for page in [random.below(9), random.below(60)] {
            let found = view.page(page_id(owner, page), border).unwrap();
            let expected = pages.get(&(owner, page));
            assert_eq!(found.is_some(), expected.is_some(), "{owner} {page} at {border}");
            let (Some(found), Some(expected)) = (found, expected) else { continue };
            assert_eq!(found.words, mask_of(expected.keys().copied()));
            for word in 0..512 {
                let value = expected.get(&word).copied().unwrap_or(0);
                assert_eq!(found.values[word as usize], value);
            }
        }
        if random.one_in(10) {
            let all: Vec<PageDelta> =
                view.pages(Owner(owner), border).unwrap().map(Result::unwrap).collect();
            let expected: Vec<PageDelta> = pages
                .range((owner, 0)..(owner + 1, 0))
                .map(|(&(owner, page), words)| PageDelta {
                    page: page_id(owner, page),
                    dropped: false,
                    words: mask_of(words.keys().copied()),
                    values: words.values().copied().collect(),
                    children: 1,
                })
                .collect();
            assert_eq!(all, expected, "owner {owner} at {border}");
        }
    }
    assert!(view.page(page_id(0, 0), leaves + 1).is_err());
}

/// Applies what changed between two borders to the earlier one.
fn check_changes(reader: &Reader, borders: &[Pages], random: &mut Random, created: &[u64]) {
    let leaves = borders.len() as u64 - 1;
    let view = MemoryView::new(reader);
    for _ in 0..10 {
        let owner = random.below(created.len() as u64) as u32;
        // An owner must have existed at the first of the borders.
        let a = random.below(leaves + 1).max(created[owner as usize]).min(leaves);
        let b = a + random.below(leaves - a + 1);
        let of = |pages: &Pages| -> Pages {
            let pages = pages.range((owner, 0)..(owner + 1, 0));
            pages.map(|(page, words)| (*page, words.clone())).collect()
        };
        let mut pages = of(&borders[a as usize]);
        for delta in view.changed(Owner(owner), a..b).unwrap() {
            let delta = delta.unwrap();
            let known = Rc::make_mut(pages.entry((owner, delta.page.page)).or_default());
            if delta.dropped {
                known.clear();
            }
            known.extend((0..512).filter_map(|w| Some((w as u64, delta.value(w)?))));
        }
        pages.retain(|_, words| !words.is_empty());
        assert_eq!(pages, of(&borders[b as usize]), "owner {owner}, {a}..{b}");
    }
}

/// Random leaves; forks now and then.
fn run(leaves: u64, seed: u64, asks: usize) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("db");
    let mut random = Random(seed);
    let options = Options { volume_bytes: 1 << random.below(20), ..Options::default() };
    let mut writer = Writer::create(&directory, b"id", BTreeMap::new(), options).unwrap();
    // Seen before anything is in it: it must follow.
    let reader = Reader::open(&directory, 1 << (12 + random.below(14))).unwrap();
    let (mut models, mut borders) = (Vec::new(), vec![Pages::new()]);
    let mut created = vec![0, 0];
    let mut depth = vec![0, 0];
    for leaf in 0..leaves {
        let owners = created.len() as u32;
        let mut model = Model::random(&mut random, leaf, owners);
        if random.one_in(leaves / 6 + 1) && created.len() < 20 {
            let parent = if random.one_in(3) { 0 } else { owners - 1 };
            for (owner, parent) in [(owners, parent), (owners + 1, owners)] {
                let parent = (depth[parent as usize] < LINEAGE_MAX).then_some(parent);
                depth.push(parent.map_or(0, |parent| depth[parent as usize] + 1));
                created.push(leaf + 1);
                let parent = parent.map(|parent| (Owner(parent), leaf));
                model.lineages.push(Lineage { owner: Owner(owner), parent });
                let words = [(3, leaf << 16)].into();
                model.memory.insert((owner, 5), (random.one_in(2), words));
            }
        }
        writer.append_leaf(Moment((leaf + 1) * 10), &model.encode()).unwrap();
        let mut pages = borders[leaf as usize].clone();
        apply(&mut pages, &model, &|border| borders[border as usize].clone());
        models.push(model);
        borders.push(pages);
        let now = leaf + 1;
        if now % if leaves > 1000 { 997 } else { 97 } == 0 || now == 16 || now == 17 {
            reader.refresh().unwrap();
            let owners = created.len() as u32;
            check_tree(&reader, &models, &mut random, owners, asks / 10 + 1);
            check_memory(&reader, &borders, &mut random, owners, asks / 10 + 1);
        }
    }
    let growing = Reader::open(&directory, 1 << 20).unwrap();
    writer.finish().unwrap();
    let owners = created.len() as u32;
    reader.refresh().unwrap();
    assert_eq!(reader.manifest().state, State::Complete);
    for reader in [&growing, &reader] {
        check_tree(reader, &models, &mut random, owners, asks);
        check_memory(reader, &borders, &mut random, owners, asks);
        check_changes(reader, &borders, &mut random, &created);
    }
    for (owner, depth) in (0..).zip(depth) {
        assert_eq!(MemoryView::new(&reader).ancestors(Owner(owner)).unwrap(), depth);
    }
    let moment = random.below(leaves * 10);
    assert_eq!(reader.leaf_at(Moment(moment)).unwrap(), Some(moment / 10));
    assert_eq!(reader.leaf_at(Moment(leaves * 10)).unwrap(), None);
    assert_eq!(reader.verify(|_| ()).unwrap().leaves, leaves);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn few_leaves(leaves in 1_u64..40, seed: u64) {
        run(leaves, seed, 30);
    }
}

#[test]
fn hundreds_of_leaves() {
    run(256, 1, 200);
    run(700, 2, 200);
}

#[test]
fn thousands_of_leaves() {
    run(4097 + 300, 3, 300);
}

#[test]
fn lineages_that_are_too_deep_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("db");
    let mut writer = Writer::create(&directory, b"", BTreeMap::new(), Options::default()).unwrap();
    let mut leaf = LeafEncoder::new(1).unwrap();
    let lineage = |n| Lineage { owner: Owner(n), parent: (n > 1).then(|| (Owner(n - 1), 0)) };
    leaf.lineages((1..30).map(lineage)).unwrap();
    writer.append_leaf(Moment(1), &leaf.finish().unwrap()).unwrap();
    let reader = Reader::open(&directory, 1 << 20).unwrap();
    let view = MemoryView::new(&reader);
    assert_eq!(view.ancestors(Owner(17)).unwrap(), 16);
    assert!(matches!(view.ancestors(Owner(18)), Err(Error::LineageTooDeep { .. })));
}
