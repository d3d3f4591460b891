//! Made-up programs, deterministic: what they call, execute, read and write.

#![allow(dead_code)] // each test uses a part

use model::{Address, Moment};
use store::Call;

/// A generator of random numbers (SplitMix64): the same everywhere for a seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// Of fewer than so many bits, small numbers as often as large ones.
    pub fn magnitude(&mut self, bits_min: u64, bits_end: u64) -> u64 {
        let bits = bits_min + self.below(bits_end - bits_min);
        self.below(1 << bits)
    }

    /// Below one limit once in so many times, below another else.
    pub fn rarely(&mut self, times: u64, rare: u64, usual: u64) -> u64 {
        let limit = if self.one_in(times) { rare } else { usual };
        self.below(limit)
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A function of a made-up program: its address, its frame, and where it calls what, in a loop.
struct Function {
    address: u64,
    frame: u64,
    calls: Vec<(u64, usize)>,
}

/// Calls and returns of a program of 300 functions that walks its call graph at random, with
/// loops and data-dependent branches, and now and then leaves several frames at once.
pub fn program_calls(records: usize, seed: u64) -> Vec<Call> {
    let mut random = Random(seed);
    let functions: Vec<Function> = (0..300)
        .map(|index| Function {
            address: 0x5555_5555_4000 + index * 240 + random.below(200),
            frame: 16 * (1 + random.below(12)),
            calls: (0..random.below(6))
                .map(|site| (site * 30 + 5 + random.below(20), random.below(300) as usize))
                .collect(),
        })
        .collect();
    let mut out = Vec::new();
    let mut moment = 1_000_000;
    let mut stack = vec![(0_usize, 0_usize, 0x7fff_ffff_e000_u64)];
    while out.len() < records {
        let Some(&(function, site, sp)) = stack.last() else {
            stack.push((random.below(300) as usize, 0, 0x7fff_ffff_e000));
            continue;
        };
        let frame = functions[function].frame;
        if stack.len() < 40 && site < functions[function].calls.len() {
            let top = stack.len() - 1;
            // Loop over the site, pass it over, or go on.
            stack[top].1 = site + usize::from(!random.one_in(4));
            let spread = if random.one_in(8) { 60 } else { 2 };
            moment += 3 + random.below(spread);
            if random.one_in(3) {
                continue;
            }
            let callee = functions[function].calls[site].1;
            let target = Address(functions[callee].address);
            let sp = sp - frame - 8;
            out.push(Call { moment: Moment(moment), is_call: true, target, stack: Address(sp) });
            stack.push((callee, 0, sp));
        } else if stack.len() > 2 && random.one_in(500) {
            // longjmp
            stack.truncate(stack.len() - 2);
        } else {
            stack.pop();
            moment += 4;
            let Some(&(caller, next_site, _)) = stack.last() else { continue };
            let site = functions[caller].calls.get(next_site.saturating_sub(1));
            let offset = site.map_or(9, |(offset, _)| *offset);
            let target = Address(functions[caller].address + offset + 5);
            out.push(Call {
                moment: Moment(moment),
                is_call: false,
                target,
                stack: Address(sp + 8),
            });
        }
    }
    out
}
