//! Whether the tree over the leaves says what the leaves say.

use std::collections::BTreeMap;

use model::{Address, Tid};
use store::{Counted, Key, Owner, Reader, Tree};

use crate::Error;

/// Leaves of which keys are taken.
const SAMPLED_LEAVES: u64 = 16;
/// Keys of each kind that are taken of a leaf.
const SAMPLED_KEYS: usize = 32;

/// What a leaf says of a key: how often, or whether (1). Keys in which nothing is counted are
/// compared by which leaves have them only.
type Found = BTreeMap<u64, u64>;

/// Something to look for, in the leaves and in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sample {
    /// A word of memory.
    Written {
        owner: u32,
        word: u64,
    },
    /// A line of memory.
    Read {
        owner: u32,
        line: u64,
    },
    Executed {
        owner: u32,
        address: u64,
    },
    Called {
        owner: u32,
        target: u64,
    },
    Counted {
        class: u32,
        key: u64,
    },
    Depth {
        task: i32,
    },
}

/// Scans all leaves for a sample of what is in some, and asks the tree for the same. What the
/// tree says otherwise.
pub fn verify(reader: &Reader) -> Result<Vec<String>, Error> {
    let leaves = reader.leaves();
    let mut found: BTreeMap<Sample, Found> = BTreeMap::new();
    for leaf in (0..leaves).step_by(leaves.div_ceil(SAMPLED_LEAVES).max(1) as usize) {
        each(reader, leaf, &mut Sampler::default(), |sample, _| {
            found.insert(sample, Found::new());
        })?;
    }
    for leaf in 0..leaves {
        each(reader, leaf, &mut All, |sample, count| {
            if let Some(found) = found.get_mut(&sample) {
                found.insert(leaf, count);
            }
        })?;
        executed(reader, leaf, &mut found)?;
    }
    let tree = Tree::new(reader);
    let mut differences = Vec::new();
    for (sample, found) in &found {
        if !agrees(&tree, *sample, found, leaves)? {
            differences.push(format!("the tree is wrong about {sample:?}"));
        }
    }
    Ok(differences)
}

/// Which of many keys of a kind are looked at.
trait Choice {
    fn takes(&mut self) -> bool;
    /// Keys of another kind follow.
    fn begin(&mut self, _count: usize) {}
}

struct All;

impl Choice for All {
    fn takes(&mut self) -> bool {
        true
    }
}

/// Evenly spread.
#[derive(Default)]
struct Sampler {
    step: usize,
    index: usize,
}

impl Choice for Sampler {
    fn takes(&mut self) -> bool {
        self.index += 1;
        (self.index - 1).is_multiple_of(self.step)
    }

    fn begin(&mut self, count: usize) {
        (self.step, self.index) = (count.div_ceil(SAMPLED_KEYS).max(1), 0);
    }
}

/// Tells everything that a leaf has, with how often; of code, where each run begins.
fn each(
    reader: &Reader,
    leaf: u64,
    choice: &mut impl Choice,
    mut tell: impl FnMut(Sample, u64),
) -> Result<(), Error> {
    let leaf = reader.leaf(leaf)?;
    let mut tell_all = |samples: Vec<(Sample, u64)>| {
        choice.begin(samples.len());
        for (sample, count) in samples {
            if choice.takes() {
                tell(sample, count);
            }
        }
    };
    let mut samples = Vec::new();
    for line in leaf.written()? {
        let line = line?;
        let owner = line.owner.0;
        let words = (0..8).filter(|word| line.words >> word & 1 == 1);
        samples
            .extend(words.map(|word| (Sample::Written { owner, word: line.line * 8 + word }, 1)));
    }
    tell_all(std::mem::take(&mut samples));
    for line in leaf.read()? {
        let line = line?;
        samples.push((Sample::Read { owner: line.owner.0, line: line.line }, 1));
    }
    tell_all(std::mem::take(&mut samples));
    for run in leaf.code()? {
        let run = run?;
        let sample = Sample::Executed { owner: run.owner.0, address: run.start.0 };
        samples.push((sample, run.count));
    }
    tell_all(std::mem::take(&mut samples));
    for called in leaf.called()? {
        let called = called?;
        let sample = Sample::Called { owner: called.class, target: called.key };
        samples.push((sample, called.count));
    }
    tell_all(std::mem::take(&mut samples));
    for counted in leaf.keys()? {
        let counted = counted?;
        let sample = Sample::Counted { class: counted.class, key: counted.key };
        samples.push((sample, counted.count));
    }
    tell_all(std::mem::take(&mut samples));
    for depth in leaf.depths()? {
        let depth = depth?;
        let least = depth.depths.first().copied().unwrap_or_default();
        samples.push((Sample::Depth { task: depth.task.0 }, least as u64));
    }
    tell_all(samples);
    Ok(())
}

/// Code that was looked at where a run begins in one leaf may lie inside of one in another.
fn executed(
    reader: &Reader,
    number: u64,
    found: &mut BTreeMap<Sample, Found>,
) -> Result<(), Error> {
    for run in reader.leaf(number)?.code()? {
        let run = run?;
        let at = |address: Address| Sample::Executed { owner: run.owner.0, address: address.0 };
        for (_, found) in found.range_mut(at(run.start)..at(run.end)) {
            found.insert(number, run.count);
        }
    }
    Ok(())
}

fn agrees(tree: &Tree<'_>, sample: Sample, found: &Found, leaves: u64) -> Result<bool, Error> {
    if let Sample::Depth { task } = sample {
        let least = found.values().map(|depth| *depth as i64).min();
        return Ok(tree.min_depth(Tid(task), 0..leaves)? == least);
    }
    let counted = match sample {
        Sample::Executed { owner, address } => {
            Some(Counted::Executed { owner: Owner(owner), address: Address(address) })
        }
        Sample::Called { owner, target } => {
            Some(Counted::Called { owner: Owner(owner), target: Address(target) })
        }
        Sample::Counted { class, key } => Some(Counted::Key { class, key }),
        _ => None,
    };
    let key = match (sample, counted) {
        (_, Some(counted)) => Key::Counted(counted),
        (Sample::Written { owner, word }, _) => {
            Key::Written { owner: Owner(owner), bytes: word * 8..word * 8 + 8 }
        }
        (Sample::Read { owner, line }, _) => {
            Key::Read { owner: Owner(owner), bytes: line * 64..line * 64 + 64 }
        }
        _ => return Ok(true),
    };
    // At the borders where the answer changes, and next to them.
    let near = found.keys().flat_map(|leaf| [leaf.saturating_sub(1), *leaf, leaf + 1]);
    for border in near.chain([0, leaves]).filter(|border| *border <= leaves) {
        let before = found.range(..border).next_back().map(|(leaf, _)| *leaf);
        let after = found.range(border..).next().map(|(leaf, _)| *leaf);
        if tree.last_before(&key, border)? != before || tree.first_from(&key, border)? != after {
            return Ok(false);
        }
        if let Some(counted) = counted {
            let count: u64 = found.range(..border).map(|(_, count)| *count).sum();
            if tree.count(counted, 0..border)? != count {
                return Ok(false);
            }
        }
    }
    let Some(counted) = counted else { return Ok(true) };
    let mut before = 0;
    for (leaf, count) in found {
        for rank in [0, count - 1] {
            let nth = tree.nth(counted, before + rank)?;
            if nth.is_none_or(|nth| (nth.leaf, nth.rank) != (*leaf, rank)) {
                return Ok(false);
            }
        }
        before += count;
    }
    Ok(tree.nth(counted, before)?.is_none())
}
