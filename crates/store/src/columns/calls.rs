//! Calls and returns of a task: what a predictor foretells is not stored.
//!
//! Programs repeat themselves. What follows is foretold from the last two targets; where a return
//! goes and what it leaves in the stack pointer, from the call that it belongs to. Only records with
//! wrong guesses are stored, by a byte that says which they are, and these alone. The predictor
//! begins anew with each chunk.

use model::{Address, Moment};
use rustc_hash::FxHashMap;

use crate::bytes::{join, put_varint, split, unzigzag, zigzag};
use crate::error::Malformed;
use crate::items::Call;
use crate::section::{Codec, Key};

/// Guesses that were wrong.
const KIND: u8 = 1;
const TARGET: u8 = 2;
const STACK: u8 = 4;
const MOMENT: u8 = 8;

const TABLE: usize = 1 << 13;
/// Open calls that are remembered, at most; more are forgotten together.
const OPEN_MAX: usize = 1 << 12;

#[derive(Debug)]
pub struct Calls;

impl Codec for Calls {
    type Item = Call;
    /// 32,768 records.
    const CHUNK_BYTES: usize = 4 << 15;

    fn key(item: &Call) -> Key {
        (0, item.moment.0)
    }

    fn size(_: &Call) -> usize {
        4
    }

    fn check(before: Option<&Call>, item: &Call) -> Result<(), &'static str> {
        if before.is_some_and(|before| before.moment > item.moment) {
            return Err("it is before the one before");
        }
        Ok(())
    }

    fn encode(items: &[Call], _: u8, out: &mut Vec<u8>) {
        let [mut gaps, mut misses, mut indices, mut targets, mut stacks, mut moments] =
            [const { Vec::new() }; 6];
        let mut predictor = Predictor::new();
        let mut dictionary: FxHashMap<u64, u64> = FxHashMap::default();
        let mut newest = 0;
        let mut gap = 0;
        for item in items {
            let guess = predictor.guess();
            let expected = predictor.expect(item.is_call, &guess);
            let passed = item.moment.0 - predictor.moment;
            let mut miss = 0;
            if guess.is_call != item.is_call {
                miss |= KIND;
            }
            if expected.target != item.target.0 {
                miss |= TARGET;
                let fresh = dictionary.len() as u64 + 1;
                let index = *dictionary.entry(item.target.0).or_insert(fresh);
                if index == fresh {
                    put_varint(&mut indices, 0);
                    put_varint(&mut targets, zigzag(item.target.0.wrapping_sub(newest) as i64));
                    newest = item.target.0;
                } else {
                    put_varint(&mut indices, index);
                }
            }
            if expected.stack != item.stack.0 {
                miss |= STACK;
                let distance = item.stack.0.wrapping_sub(predictor.stack) as i64;
                put_varint(&mut stacks, zigzag(distance));
            }
            if guess.passed != passed {
                miss |= MOMENT;
                put_varint(&mut moments, passed);
            }
            if miss == 0 {
                gap += 1;
            } else {
                put_varint(&mut gaps, std::mem::take(&mut gap));
                misses.push(miss);
            }
            predictor.learn(item, passed);
        }
        join([&gaps, &misses, &indices, &targets, &stacks, &moments], out);
    }

    fn decode(raw: &[u8], items: usize) -> Result<Vec<Call>, Malformed> {
        let [mut gaps, mut misses, mut indices, mut targets, mut stacks, mut moments] = split(raw)?;
        let missed = misses.rest_len();
        let mut misses = misses.bytes(missed)?.iter().copied();
        let mut next_gap = || if gaps.rest_len() == 0 { Ok(u64::MAX) } else { gaps.varint() };
        let mut gap = next_gap()?;
        let mut predictor = Predictor::new();
        let mut dictionary = Vec::new();
        let mut newest = 0_u64;
        let mut out = Vec::with_capacity(items);
        for _ in 0..items {
            let miss = if gap > 0 {
                gap -= 1;
                0
            } else {
                gap = next_gap()?;
                misses
                    .next()
                    .ok_or(Malformed("calls without the flags of what was not foretold"))?
            };
            if miss & !(KIND | TARGET | STACK | MOMENT) != 0 {
                return Err(Malformed("a call has unknown flags"));
            }
            let guess = predictor.guess();
            let is_call = guess.is_call != (miss & KIND != 0);
            let mut expected = predictor.expect(is_call, &guess);
            if miss & TARGET != 0 {
                expected.target = match indices.varint()? {
                    0 => {
                        newest = newest.wrapping_add(unzigzag(targets.varint()?) as u64);
                        dictionary.push(newest);
                        newest
                    }
                    index => known(&dictionary, index)?,
                };
            }
            if miss & STACK != 0 {
                let distance = unzigzag(stacks.varint()?) as u64;
                expected.stack = predictor.stack.wrapping_add(distance);
            }
            let passed = match miss & MOMENT {
                0 => guess.passed,
                _ => moments.varint()?,
            };
            let moment =
                predictor.moment.checked_add(passed).ok_or(Malformed("a moment overflows"))?;
            let (target, stack) = (Address(expected.target), Address(expected.stack));
            let call = Call { moment: Moment(moment), is_call, target, stack };
            predictor.learn(&call, passed);
            out.push(call);
        }
        if misses.next().is_some() {
            return Err(Malformed("more was not foretold than there are calls"));
        }
        for column in [gaps, indices, targets, stacks, moments] {
            column.end()?;
        }
        Ok(out)
    }
}

fn known(dictionary: &[u64], index: u64) -> Result<u64, Malformed> {
    let index = usize::try_from(index - 1).unwrap_or(usize::MAX);
    dictionary.get(index).copied().ok_or(Malformed("a target that was not mentioned"))
}

/// What followed the last time.
#[derive(Clone, Copy, Debug, Default)]
struct Guess {
    is_call: bool,
    target: u64,
    /// Of the stack pointer, since the record before; for calls.
    moved: u64,
    passed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Expected {
    target: u64,
    stack: u64,
}

/// A call that has not returned.
#[derive(Clone, Copy, Debug)]
struct Open {
    stack: u64,
    /// Names the place of the call, as far as it is known.
    place: usize,
}

#[derive(Debug)]
struct Predictor {
    next: Vec<Guess>,
    /// Where calls from a place returned to.
    returns: Vec<u64>,
    open: Vec<Open>,
    last: [u64; 2],
    /// Of `last`, in `next`.
    slot: usize,
    stack: u64,
    moment: u64,
}

impl Predictor {
    fn new() -> Predictor {
        Predictor {
            next: vec![Guess::default(); TABLE],
            returns: vec![0; TABLE],
            open: Vec::new(),
            last: [0; 2],
            slot: slot([0; 2]),
            stack: 0,
            moment: 0,
        }
    }

    fn guess(&self) -> Guess {
        self.next[self.slot]
    }

    fn expect(&self, is_call: bool, guess: &Guess) -> Expected {
        if is_call {
            return Expected { target: guess.target, stack: self.stack.wrapping_add(guess.moved) };
        }
        match self.open.last() {
            Some(open) => {
                Expected { target: self.returns[open.place], stack: open.stack.wrapping_add(8) }
            }
            None => Expected { target: guess.target, stack: self.stack.wrapping_add(8) },
        }
    }

    fn learn(&mut self, call: &Call, passed: u64) {
        let (target, stack) = (call.target.0, call.stack.0);
        let moved = stack.wrapping_sub(self.stack);
        self.next[self.slot] = Guess { is_call: call.is_call, target, moved, passed };
        if call.is_call {
            if self.open.len() == OPEN_MAX {
                self.open.clear();
            }
            self.open.push(Open { stack, place: slot([self.last[0], target]) });
        } else {
            // Calls that were left without a return, by longjmp or an exception, lie below.
            while let Some(open) = self.open.last().filter(|open| open.stack < stack) {
                let open = *open;
                self.open.pop();
                if open.stack.wrapping_add(8) == stack {
                    self.returns[open.place] = target;
                    break;
                }
            }
        }
        self.last = [target, self.last[0]];
        self.slot = slot(self.last);
        (self.stack, self.moment) = (stack, call.moment.0);
    }
}

/// An entry of a table for two targets. Part of the format.
fn slot(targets: [u64; 2]) -> usize {
    let mixed = targets[0].wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ targets[1];
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - TABLE.trailing_zeros())) as usize
}
