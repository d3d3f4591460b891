//! Execution counts: how often the instruction at each code byte was executed.
//!
//! Translated code counts blocks, and the side exits behind which a block's rest was not executed.
//! Here these counters become changes of the count at an address against the byte before it, which
//! add up to runs of bytes in order of address. Taking them costs a look at every counter, four
//! bytes each, and a few nanoseconds for each one that moved: nothing is sorted but addresses that
//! were first met lately.

use std::ops::Range;

use model::Address;
use rustc_hash::FxHashMap;

/// Counters are harvested before they have counted so many instructions, and so never overflow.
const HARVEST_WITHIN: u64 = 1 << 31;
/// Fewer new addresses than this are not given their places in order.
const YOUNG_MIN: usize = 4096;

/// What a counter stands for: each count adds `factor` executions of the instructions in these
/// ranges.
#[derive(Clone, Debug)]
pub struct Counter {
    pub ranges: Vec<Range<Address>>,
    /// 1 or -1.
    pub factor: i64,
}

#[derive(Debug, Default)]
pub struct Executions {
    changes: Changes,
    /// Where the changes of each counter begin in `counted`; they end where the next one's begin.
    first: Vec<u32>,
    /// The place of a changed address, with [`FALLS`] where the count gets less.
    counted: Vec<u32>,
    /// Instructions since the last harvest.
    since_harvest: u64,
    /// Changes that may still be undone.
    recent: Vec<(Address, i64)>,
    /// Changes that do not come from counters, in no order.
    loose: Vec<(Address, i64)>,
}

const FALLS: u32 = 1 << 31;

impl Executions {
    /// Counters of freshly translated code, numbered on.
    pub fn add_counters(&mut self, counters: &[Counter]) {
        for counter in counters {
            self.first.push(self.counted.len() as u32);
            let falls = |falls: bool| if falls { FALLS } else { 0 };
            for range in &counter.ranges {
                self.counted.push(self.changes.place(range.start) | falls(counter.factor < 0));
                self.counted.push(self.changes.place(range.end) | falls(counter.factor > 0));
            }
        }
    }

    /// How many counters are in use.
    pub fn counters(&self) -> usize {
        self.first.len()
    }

    /// Counts executions of these bytes outside of translated counters; see [`Self::accept`].
    pub fn count(&mut self, range: &Range<Address>, times: i64) {
        self.recent.extend([(range.start, times), (range.end, -times)]);
    }

    /// What was counted lately, by [`Self::count`], has happened.
    pub fn accept(&mut self) {
        self.loose.append(&mut self.recent);
    }

    /// What was counted lately, by [`Self::count`], was undone.
    pub fn reject(&mut self) {
        self.recent.clear();
    }

    /// So many instructions have retired in translated code; whether the counters must be
    /// harvested now.
    pub fn retired(&mut self, instructions: u64) -> bool {
        self.since_harvest += instructions;
        self.since_harvest >= HARVEST_WITHIN
    }

    /// Adds up the counters and sets them to zero.
    pub fn harvest(&mut self, counters: &mut [u32]) {
        self.since_harvest = 0;
        let count = self.first.len();
        // Most stand still in a segment: they are passed over eight at a time.
        for (eight, counters) in counters[..count].chunks_mut(8).enumerate() {
            if counters.iter().fold(0, |all, value| all | value) == 0 {
                continue;
            }
            for (number, value) in (eight * 8..).zip(counters) {
                if *value == 0 {
                    continue;
                }
                let times = i64::from(std::mem::take(value));
                let end = self.first.get(number + 1).map_or(self.counted.len(), |n| *n as usize);
                for change in &self.counted[self.first[number] as usize..end] {
                    let times = if change & FALLS == 0 { times } else { -times };
                    self.changes.add((change & !FALLS) as usize, times);
                }
            }
        }
    }

    /// Harvests and forgets all counters, before their code is dropped. What they have counted
    /// since the last harvest `may_be_undone`.
    pub fn drop_counters(&mut self, counters: &mut [u32], may_be_undone: bool) {
        self.changes.take_all(&mut self.loose);
        self.harvest(counters);
        self.changes.take_all(if may_be_undone { &mut self.recent } else { &mut self.loose });
        self.changes = Changes::default();
        self.first.clear();
        self.counted.clear();
    }

    /// Runs of bytes with how often the instructions there were executed, in order of address.
    pub fn take(&mut self) -> Vec<(Range<Address>, u64)> {
        let mut unsorted = std::mem::take(&mut self.loose);
        self.changes.take_young(&mut unsorted);
        unsorted.sort_unstable_by_key(|(address, _)| *address);
        let mut runs = Runs::default();
        let mut unsorted = unsorted.drain(..).peekable();
        self.changes.take_ordered(|address, change| {
            while let Some(earlier) = unsorted.next_if(|(other, _)| *other < address) {
                runs.add(earlier.0, earlier.1);
            }
            runs.add(address, change);
        });
        unsorted.for_each(|(address, change)| runs.add(address, change));
        if self.changes.has_many_young() {
            self.changes.put_in_order(&mut self.counted);
        }
        runs.finish()
    }
}

/// Changes of counts by address.
#[derive(Debug, Default)]
struct Changes {
    places: FxHashMap<Address, u32>,
    /// By place; the first `ordered` of them are in order, and younger ones are behind.
    addresses: Vec<Address>,
    ordered: usize,
    /// By place: not zero only where the bit in `touched` is set.
    values: Vec<i64>,
    touched: Vec<u64>,
}

impl Changes {
    /// The place of an address; good until [`Self::put_in_order`].
    fn place(&mut self, address: Address) -> u32 {
        let next = self.addresses.len();
        *self.places.entry(address).or_insert_with(|| {
            self.addresses.push(address);
            self.values.push(0);
            self.touched.resize(next / 64 + 1, 0);
            next as u32
        })
    }

    fn add(&mut self, place: usize, change: i64) {
        self.values[place] += change;
        self.touched[place / 64] |= 1 << (place % 64);
    }

    /// Hands out and clears the changes at places from `first` on.
    fn take_from(&mut self, first: usize, mut found: impl FnMut(Address, i64)) {
        for word in first / 64..self.touched.len() {
            let below = if word == first / 64 { (1 << (first % 64)) - 1 } else { 0 };
            let mut bits = self.touched[word] & !below;
            self.touched[word] &= below;
            while bits != 0 {
                let place = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                found(self.addresses[place], std::mem::take(&mut self.values[place]));
            }
        }
    }

    fn take_young(&mut self, unsorted: &mut Vec<(Address, i64)>) {
        let first = self.ordered;
        self.take_from(first, |address, change| unsorted.push((address, change)));
    }

    /// What remains when the young ones have been taken, in order of address.
    fn take_ordered(&mut self, found: impl FnMut(Address, i64)) {
        self.take_from(0, found);
    }

    /// Whether so many addresses are young that it pays to put all in order: each is moved a
    /// bounded number of times on average.
    fn has_many_young(&self) -> bool {
        self.addresses.len() - self.ordered > YOUNG_MIN.max(self.ordered / 4)
    }

    /// Gives all addresses places in order and renames them in `counted`; all changes have been
    /// taken.
    fn put_in_order(&mut self, counted: &mut [u32]) {
        let mut order: Vec<u32> = (0..self.addresses.len() as u32).collect();
        let key = |place: &u32| self.addresses[*place as usize];
        order[self.ordered..].sort_unstable_by_key(key);
        // A stable sort merges what is in order already.
        order.sort_by_key(key);
        let mut renamed = vec![0; order.len()];
        for (new, old) in (0..).zip(&order) {
            renamed[*old as usize] = new;
        }
        self.addresses = order.iter().map(key).collect();
        self.ordered = order.len();
        self.places.values_mut().for_each(|place| *place = renamed[*place as usize]);
        for change in counted {
            *change = renamed[(*change & !FALLS) as usize] | *change & FALLS;
        }
    }

    fn take_all(&mut self, taken: &mut Vec<(Address, i64)>) {
        self.take_from(0, |address, change| taken.push((address, change)));
    }
}

/// Adds changes up to runs.
#[derive(Default)]
struct Runs {
    found: Vec<(Range<Address>, u64)>,
    /// The count in force from an address on.
    from: Address,
    times: i64,
    /// The changes met last.
    at: Address,
    change: i64,
}

impl Runs {
    /// Addresses come in order, each any number of times.
    fn add(&mut self, address: Address, change: i64) {
        if address != self.at {
            self.settle();
            self.at = address;
        }
        self.change += change;
    }

    fn settle(&mut self) {
        if self.change == 0 {
            return;
        }
        if self.times > 0 {
            self.found.push((self.from..self.at, self.times as u64));
        }
        self.from = self.at;
        self.times += std::mem::take(&mut self.change);
    }

    fn finish(mut self) -> Vec<(Range<Address>, u64)> {
        self.settle();
        self.found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn runs_of(counts: &BTreeMap<u64, u64>) -> Vec<(Range<Address>, u64)> {
        let mut runs: Vec<(Range<Address>, u64)> = Vec::new();
        for (byte, times) in counts {
            match runs.last_mut() {
                Some((range, same)) if range.end.0 == *byte && same == times => {
                    range.end = Address(byte + 1);
                }
                _ => runs.push((Address(*byte)..Address(byte + 1), *times)),
            }
        }
        runs
    }

    /// Counters, side exits and single counts, taken again and again while more are made, against
    /// a count for each byte.
    #[test]
    fn counts_are_those_of_each_byte() {
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut executions = Executions::default();
        let mut blocks: Vec<Range<Address>> = Vec::new();
        let mut counters: Vec<u32> = Vec::new();
        for round in 0..60 {
            for _ in 0..next(600) {
                let start = next(40_000);
                let range = Address(start)..Address(start + 2 + next(60));
                let middle = Address(range.start.0 + 1 + next(range.end.0 - range.start.0 - 1));
                let side = Counter { ranges: vec![middle..range.end], factor: -1 };
                executions
                    .add_counters(&[Counter { ranges: vec![range.clone()], factor: 1 }, side]);
                blocks.push(range.start..middle);
                blocks.push(middle..range.end);
                counters.extend([0, 0]);
            }
            let mut counts = BTreeMap::new();
            let mut expect = |range: &Range<Address>, times: u64| {
                for byte in range.start.0..range.end.0 {
                    *counts.entry(byte).or_default() += times;
                }
            };
            for _ in 0..next(400) {
                let block = next(counters.len() as u64 / 2) as usize;
                let times = 1 + next(5);
                let left = next(times + 1);
                counters[block * 2] += times as u32;
                counters[block * 2 + 1] += left as u32;
                expect(&blocks[block * 2], times);
                expect(&blocks[block * 2 + 1], times - left);
            }
            for _ in 0..next(50) {
                let start = next(41_000);
                let range = Address(start)..Address(start + 1 + next(4));
                executions.count(&range, 1);
                executions.accept();
                expect(&range, 1);
            }
            counts.retain(|_, times| *times != 0);
            executions.count(&(Address(5)..Address(9)), 1);
            executions.reject();
            if round % 13 == 12 {
                executions.drop_counters(&mut counters, true);
                (blocks, counters) = (Vec::new(), Vec::new());
                executions.accept();
            } else {
                executions.harvest(&mut counters);
            }
            assert!(counters.iter().all(|value| *value == 0));
            assert_eq!(executions.take(), runs_of(&counts), "round {round}");
        }
    }
}
