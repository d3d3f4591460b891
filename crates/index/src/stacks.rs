//! Call stacks, from nothing but calls and returns.
//!
//! A frame begins with a call and ends with the return that takes its return address off the
//! stack, or when the stack pointer is seen above it (longjmp, exceptions, a signal's return).
//! A task may have several *stacks* (a signal's alternative stack, coroutines): going to another
//! one suspends the frames of the first, it does not end them. A coroutine's stack may go on in
//! another task of the same address space.
//!
//! Stacks are told apart by address only. A call whose slot lies in the known extent of a stack,
//! or not too far below, belongs to it; the active stack comes first. So two stacks that touch
//! each other can be taken for one until both are known: frames are then attributed to the wrong
//! stack, but none is invented, and returns set it right.

use std::collections::BTreeMap;

use model::{Address, Tid};
use serde::{Deserialize, Serialize};
use store::Call;

/// How far below all that is known of a stack a call may lie to belong to it, in bytes: a frame
/// with a large buffer.
const GROWTH_MAX: u64 = 1 << 20;
/// How far above: the outermost function returned to whoever had called it before we looked.
const RISE_MAX: u64 = 1 << 12;

/// A stack of the recording; numbered in the order of their appearance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StackId(pub u32);

/// A call that has not returned yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Behind the call instruction.
    pub moment: u64,
    /// Where the call went.
    pub function: Address,
    /// Where the return address lies.
    pub slot: Address,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stack {
    space: u32,
    /// Slots that were seen, the lowest and the highest.
    low: u64,
    high: u64,
    frames: Vec<Frame>,
    /// The least number of frames since somebody asked.
    least: usize,
    /// Whether anything has happened here since somebody asked.
    touched: bool,
}

/// What happened to a stack since the last time that somebody asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackChange {
    pub stack: StackId,
    pub space: u32,
    /// The lowest and the highest slot seen so far.
    pub low: u64,
    pub high: u64,
    /// So many of the frames, from the outermost, are what they were and were never left.
    pub kept: usize,
    /// The others, outermost first.
    pub frames: Vec<Frame>,
}

/// The stacks of all tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stacks {
    stacks: BTreeMap<StackId, Stack>,
    active: BTreeMap<Tid, StackId>,
    next: u32,
}

impl Stacks {
    /// Takes the next transfer of a task into account; returns how many frames its stack has
    /// behind it.
    pub fn transfer(&mut self, tid: Tid, space: u32, transfer: &Call) -> usize {
        let slot = match transfer.is_call {
            true => transfer.stack.0,
            false => transfer.stack.0.wrapping_sub(8),
        };
        let id = self.stack_at(tid, space, slot);
        self.active.insert(tid, id);
        let stack = self.stacks.get_mut(&id).expect("just found");
        stack.low = stack.low.min(slot);
        stack.high = stack.high.max(slot);
        stack.touched = true;
        // What lies below the stack pointer has ended, and what lies at the slot is replaced or
        // returned from.
        let kept = stack.frames.iter().rposition(|frame| frame.slot.0 > slot);
        stack.frames.truncate(kept.map_or(0, |index| index + 1));
        stack.least = stack.least.min(stack.frames.len());
        if transfer.is_call {
            stack.frames.push(Frame {
                moment: transfer.moment.0,
                function: transfer.target,
                slot: Address(slot),
            });
        }
        stack.frames.len()
    }

    /// The frames of a task's active stack, outermost first.
    pub fn frames(&self, tid: Tid) -> &[Frame] {
        self.active.get(&tid).map_or(&[], |id| &self.stacks[id].frames)
    }

    /// The stack that a task was on last.
    pub fn active(&self) -> impl Iterator<Item = (Tid, StackId)> + '_ {
        self.active.iter().map(|(tid, id)| (*tid, *id))
    }

    /// Changes since the last time, in order of number.
    pub fn take_changes(&mut self) -> Vec<StackChange> {
        let mut changes = Vec::new();
        for (id, stack) in self.stacks.iter_mut().filter(|(_, stack)| stack.touched) {
            changes.push(StackChange {
                stack: *id,
                space: stack.space,
                low: stack.low,
                high: stack.high,
                kept: stack.least,
                frames: stack.frames[stack.least..].to_vec(),
            });
            stack.least = stack.frames.len();
            stack.touched = false;
        }
        changes
    }

    /// Makes changes that [`Stacks::take_changes`] has given, in the same order.
    pub fn apply(&mut self, changes: Vec<StackChange>, active: &[(Tid, StackId)], ended: &[u32]) {
        for StackChange { stack: id, space, low, high, kept, frames } in changes {
            self.next = self.next.max(id.0.saturating_add(1));
            let known = self.stacks.remove(&id).map_or(Vec::new(), |stack| stack.frames);
            let frames: Vec<Frame> = known.into_iter().take(kept).chain(frames).collect();
            let least = frames.len();
            let stack = Stack { space, low, high, frames, least, touched: false };
            self.stacks.insert(id, stack);
        }
        ended.iter().for_each(|space| self.forget_space(*space));
        let stacks = &self.stacks;
        let active = active.iter().filter(|(_, id)| stacks.contains_key(id));
        self.active = active.copied().collect();
    }

    /// An address space is gone, and its stacks with it.
    pub fn forget_space(&mut self, space: u32) {
        self.stacks.retain(|_, stack| stack.space != space);
        let stacks = &self.stacks;
        self.active.retain(|_, id| stacks.contains_key(id));
    }

    /// A process was copied: the child's only task goes on with a copy of its parent's stack.
    pub fn fork(&mut self, parent: Tid, child: Tid, child_space: u32) {
        let Some(stack) = self.active.get(&parent).map(|id| self.stacks[id].clone()) else {
            return;
        };
        let id = self.new_id();
        // Everything in it is new to whoever reads changes.
        let copy = Stack { space: child_space, least: 0, touched: true, ..stack };
        self.stacks.insert(id, copy);
        self.active.insert(child, id);
    }

    fn new_id(&mut self) -> StackId {
        let id = StackId(self.next);
        self.next += 1;
        id
    }

    fn stack_at(&mut self, tid: Tid, space: u32, slot: u64) -> StackId {
        let fits = |stack: &Stack| {
            stack.space == space
                && slot >= stack.low.saturating_sub(GROWTH_MAX)
                && slot <= stack.high.saturating_add(RISE_MAX)
        };
        let inside =
            |stack: &Stack| stack.space == space && (stack.low..=stack.high).contains(&slot);
        if let Some(id) = self.active.get(&tid).copied()
            && fits(&self.stacks[&id])
        {
            let other = self.stacks.iter().find(|(_, stack)| inside(stack));
            return other.map_or(id, |(other, _)| *other);
        }
        let known = self.stacks.iter().find(|(_, stack)| inside(stack));
        let known = known.or_else(|| {
            let fitting = self.stacks.iter().filter(|(_, stack)| fits(stack));
            fitting.min_by_key(|(_, stack)| stack.low.abs_diff(slot))
        });
        if let Some((id, _)) = known {
            return *id;
        }
        let id = self.new_id();
        let stack =
            Stack { space, low: slot, high: slot, frames: Vec::new(), least: 0, touched: true };
        self.stacks.insert(id, stack);
        id
    }
}

#[cfg(test)]
mod tests {
    use model::Moment;

    use super::*;

    const TASK: Tid = Tid(7);

    fn call(stacks: &mut Stacks, moment: u64, function: u64, slot: u64) -> usize {
        let transfer = Call {
            moment: Moment(moment),
            is_call: true,
            target: Address(function),
            stack: Address(slot),
        };
        stacks.transfer(TASK, 1, &transfer)
    }

    fn ret(stacks: &mut Stacks, moment: u64, slot: u64) -> usize {
        let transfer = Call {
            moment: Moment(moment),
            is_call: false,
            target: Address(0),
            stack: Address(slot + 8),
        };
        stacks.transfer(TASK, 1, &transfer)
    }

    fn functions(stacks: &Stacks) -> Vec<u64> {
        stacks.frames(TASK).iter().map(|frame| frame.function.0).collect()
    }

    #[test]
    fn calls_nest_and_returns_unnest() {
        let mut stacks = Stacks::default();
        call(&mut stacks, 1, 0xa, 0x7000_1000);
        call(&mut stacks, 2, 0xb, 0x7000_0f00);
        assert_eq!(functions(&stacks), [0xa, 0xb]);
        ret(&mut stacks, 3, 0x7000_0f00);
        assert_eq!(functions(&stacks), [0xa]);
        call(&mut stacks, 4, 0xc, 0x7000_0f00);
        assert_eq!(functions(&stacks), [0xa, 0xc]);
    }

    #[test]
    fn a_long_jump_ends_what_it_leaves() {
        let mut stacks = Stacks::default();
        call(&mut stacks, 1, 0xa, 0x7000_1000);
        call(&mut stacks, 2, 0xb, 0x7000_0f00);
        call(&mut stacks, 3, 0xc, 0x7000_0e00);
        // Back in 0xa without a return; its next call tells.
        call(&mut stacks, 9, 0xd, 0x7000_0f80);
        assert_eq!(functions(&stacks), [0xa, 0xd]);
    }

    #[test]
    fn other_stacks_suspend() {
        let mut stacks = Stacks::default();
        call(&mut stacks, 1, 0xa, 0x7000_1000);
        call(&mut stacks, 2, 0xb, 0x1000_0000);
        call(&mut stacks, 3, 0xc, 0x0fff_ff00);
        assert_eq!(functions(&stacks), [0xb, 0xc]);
        call(&mut stacks, 4, 0xd, 0x7000_0f00);
        assert_eq!(functions(&stacks), [0xa, 0xd]);
        ret(&mut stacks, 5, 0x0fff_ff00);
        assert_eq!(functions(&stacks), [0xb]);
    }

    #[test]
    fn changes_say_what_was_kept() {
        let mut stacks = Stacks::default();
        call(&mut stacks, 1, 0xa, 0x7000_1000);
        call(&mut stacks, 2, 0xb, 0x7000_0f00);
        let [change] = &stacks.take_changes()[..] else { panic!("one stack") };
        assert_eq!((change.kept, change.frames.len()), (0, 2));
        assert_eq!(stacks.take_changes(), []);
        ret(&mut stacks, 3, 0x7000_0f00);
        call(&mut stacks, 4, 0xc, 0x7000_0f00);
        let [change] = &stacks.take_changes()[..] else { panic!("one stack") };
        assert_eq!((change.kept, change.frames[0].function), (1, Address(0xc)));
    }

    #[test]
    fn a_copied_process_has_its_own_copy() {
        let mut stacks = Stacks::default();
        call(&mut stacks, 1, 0xa, 0x7000_1000);
        stacks.fork(TASK, Tid(8), 2);
        ret(&mut stacks, 2, 0x7000_1000);
        assert_eq!(stacks.frames(Tid(8)).len(), 1);
        let changes = stacks.take_changes();
        assert_eq!(changes.iter().map(|change| change.kept).collect::<Vec<_>>(), [0, 0]);
        stacks.forget_space(2);
        assert!(stacks.frames(Tid(8)).is_empty());
    }
}
