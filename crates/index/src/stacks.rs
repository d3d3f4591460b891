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

use model::{Address, Call, Tid};
use serde::{Deserialize, Serialize};

use crate::records::StackRecord;

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
    /// In order of number.
    stacks: Vec<(StackId, Stack)>,
    active: BTreeMap<Tid, StackId>,
    next: u32,
}

impl Stacks {
    /// Takes the next transfers of a task into account.
    pub fn follow(&mut self, tid: Tid, space: u32, calls: &[Call]) {
        let slot_of = |call: &Call| match call.is_call {
            true => call.stack.0,
            false => call.stack.0.wrapping_sub(8),
        };
        let mut rest = calls;
        while let Some(first) = rest.first() {
            let index = self.stack_at(tid, space, slot_of(first));
            let (id, stack) = &mut self.stacks[index];
            self.active.insert(tid, *id);
            // What lies in the extent of the active stack, there is no need to look for.
            let mut taken = 0;
            for call in rest {
                let slot = slot_of(call);
                if taken > 0 && !stack.has(slot) {
                    break;
                }
                stack.transfer(call, slot);
                taken += 1;
            }
            rest = &rest[taken..];
        }
    }

    /// The frames of a task's active stack, outermost first.
    pub fn frames(&self, tid: Tid) -> &[Frame] {
        let index = self.active.get(&tid).and_then(|id| self.find(*id).ok());
        index.map_or(&[], |index| &self.stacks[index].1.frames)
    }

    /// The frames of a task whose stack pointer is here, outermost first: it may have gone to
    /// another stack without a call. What lies below the pointer has ended.
    pub fn frames_at(&self, tid: Tid, pointer: Address) -> &[Frame] {
        let index = self.active.get(&tid).and_then(|id| self.find(*id).ok());
        let Some((_, active)) = index.map(|index| &self.stacks[index]) else { return &[] };
        let there = |(_, stack): &&(StackId, Stack)| {
            let outermost = stack.frames.first();
            stack.space == active.space
                && stack.has(pointer.0)
                && outermost.is_some_and(|frame| frame.slot >= pointer)
        };
        let other = || self.stacks.iter().find(there).map(|(_, stack)| stack);
        let stack = if active.has(pointer.0) { None } else { other() };
        &stack.unwrap_or(active).frames
    }

    /// The stack that a task is on, and its address space.
    pub fn of_task(&self, tid: Tid) -> Option<(StackId, u32)> {
        let id = *self.active.get(&tid)?;
        let index = self.find(id).ok()?;
        Some((id, self.stacks[index].1.space))
    }

    /// Whether a call has not ended, on whatever stack.
    pub fn has(&self, moment: u64, slot: Address) -> bool {
        self.stacks.iter().any(|(_, stack)| {
            let at = stack.frames.partition_point(|frame| frame.moment < moment);
            stack.frames.get(at).is_some_and(|frame| (frame.moment, frame.slot) == (moment, slot))
        })
    }

    /// The stack that a task was on last.
    pub fn active(&self) -> impl Iterator<Item = (Tid, StackId)> + '_ {
        self.active.iter().map(|(tid, id)| (*tid, *id))
    }

    /// Changes since the last time, in order of number.
    pub fn take_changes(&mut self) -> Vec<StackChange> {
        let mut changes = Vec::new();
        for (id, stack) in self.stacks.iter_mut().filter(|(_, stack)| stack.touched) {
            changes.push(stack.change(*id, stack.least));
            stack.least = stack.frames.len();
            stack.touched = false;
        }
        changes
    }

    /// All stacks, as changes of none.
    pub fn all(&self) -> Vec<StackChange> {
        self.stacks.iter().map(|(id, stack)| stack.change(*id, 0)).collect()
    }

    /// Makes changes again, in the order in which they were made.
    pub fn apply(&mut self, StackRecord { changes, active, gone }: StackRecord) {
        for StackChange { stack: id, space, low, high, kept, frames } in changes {
            self.next = self.next.max(id.0.saturating_add(1));
            let index = self.find(id);
            let known =
                index.map_or(Vec::new(), |at| std::mem::take(&mut self.stacks[at].1.frames));
            let frames: Vec<Frame> = known.into_iter().take(kept).chain(frames).collect();
            let least = frames.len();
            let stack = Stack { space, low, high, frames, least, touched: false };
            match index {
                Ok(at) => self.stacks[at].1 = stack,
                Err(at) => self.stacks.insert(at, (id, stack)),
            }
        }
        self.active = active.into_iter().collect();
        self.forget(&gone);
    }

    /// Address spaces are gone, and their stacks with them: these, in order.
    pub fn forget_spaces(&mut self, spaces: &[u32]) -> Vec<StackId> {
        let of_them = self.stacks.iter().filter(|(_, stack)| spaces.contains(&stack.space));
        let gone: Vec<StackId> = of_them.map(|(id, _)| *id).collect();
        self.forget(&gone);
        gone
    }

    /// Stacks in order of their number.
    fn forget(&mut self, gone: &[StackId]) {
        if !gone.is_empty() {
            self.stacks.retain(|(id, _)| gone.binary_search(id).is_err());
            self.active.retain(|_, id| gone.binary_search(id).is_err());
        }
    }

    /// A process was copied: the child's only task goes on with a copy of its parent's stack.
    pub fn fork(&mut self, parent: Tid, child: Tid, child_space: u32) {
        let Some(Ok(index)) = self.active.get(&parent).map(|id| self.find(*id)) else { return };
        let stack = self.stacks[index].1.clone();
        // Everything in it is new to whoever reads changes.
        let id = self.push(Stack { space: child_space, least: 0, touched: true, ..stack });
        self.active.insert(child, id);
    }

    fn find(&self, id: StackId) -> Result<usize, usize> {
        self.stacks.binary_search_by_key(&id, |(id, _)| *id)
    }

    fn push(&mut self, stack: Stack) -> StackId {
        let id = StackId(self.next);
        self.next += 1;
        self.stacks.push((id, stack));
        id
    }

    /// Index of the stack that a task is on when it uses a slot; a new one if none fits.
    fn stack_at(&mut self, tid: Tid, space: u32, slot: u64) -> usize {
        let fits = |stack: &Stack| {
            stack.space == space
                && slot >= stack.low.saturating_sub(GROWTH_MAX)
                && slot <= stack.high.saturating_add(RISE_MAX)
        };
        let active = self.active.get(&tid).and_then(|id| self.find(*id).ok());
        let active = active.filter(|index| fits(&self.stacks[*index].1));
        if let Some(index) = active.filter(|index| self.stacks[*index].1.has(slot)) {
            return index;
        }
        let inside = |(_, stack): &(_, Stack)| stack.space == space && stack.has(slot);
        let found = self.stacks.iter().position(inside).or(active).or_else(|| {
            let fitting = self.stacks.iter().enumerate().filter(|(_, (_, stack))| fits(stack));
            let nearest = fitting.min_by_key(|(_, (_, stack))| stack.low.abs_diff(slot));
            nearest.map(|(index, _)| index)
        });
        found.unwrap_or_else(|| {
            let frames = Vec::new();
            self.push(Stack { space, low: slot, high: slot, frames, least: 0, touched: true });
            self.stacks.len() - 1
        })
    }
}

impl Stack {
    fn has(&self, slot: u64) -> bool {
        (self.low..=self.high).contains(&slot)
    }

    fn transfer(&mut self, call: &Call, slot: u64) {
        self.low = self.low.min(slot);
        self.high = self.high.max(slot);
        self.touched = true;
        // What lies below the stack pointer has ended, and what lies at the slot is replaced or
        // returned from.
        while self.frames.pop_if(|frame| frame.slot.0 <= slot).is_some() {}
        self.least = self.least.min(self.frames.len());
        if call.is_call {
            let (moment, function) = (call.moment.0, call.target);
            self.frames.push(Frame { moment, function, slot: Address(slot) });
        }
    }

    fn change(&self, stack: StackId, kept: usize) -> StackChange {
        let (space, low, high) = (self.space, self.low, self.high);
        StackChange { stack, space, low, high, kept, frames: self.frames[kept..].to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use model::Moment;

    use super::*;

    const TASK: Tid = Tid(7);

    fn call(stacks: &mut Stacks, moment: u64, function: u64, slot: u64) {
        let transfer = Call {
            moment: Moment(moment),
            is_call: true,
            target: Address(function),
            stack: Address(slot),
        };
        stacks.follow(TASK, 1, &[transfer]);
    }

    fn ret(stacks: &mut Stacks, moment: u64, slot: u64) {
        let transfer = Call {
            moment: Moment(moment),
            is_call: false,
            target: Address(0),
            stack: Address(slot + 8),
        };
        stacks.follow(TASK, 1, &[transfer]);
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
    fn the_stack_pointer_tells_the_stack() {
        let mut stacks = Stacks::default();
        call(&mut stacks, 1, 0xa, 0x7000_1000);
        call(&mut stacks, 2, 0xb, 0x7000_0f00);
        call(&mut stacks, 3, 0xc, 0x1000_0000);
        call(&mut stacks, 4, 0xd, 0x0fff_ff00);
        let at = |pointer| {
            let frames = stacks.frames_at(TASK, Address(pointer)).iter();
            frames.map(|frame| frame.function.0).collect::<Vec<_>>()
        };
        assert_eq!(at(0x0fff_ff00), [0xc, 0xd]);
        // Left by a jump to the first stack, as far as it is known.
        assert_eq!(at(0x7000_0f80), [0xa, 0xb]);
        assert_eq!(at(0x9000_0000), [0xc, 0xd]);
        // A stack whose calls have all returned is nobody's.
        ret(&mut stacks, 5, 0x0fff_ff00);
        ret(&mut stacks, 6, 0x1000_0000);
        call(&mut stacks, 7, 0xe, 0x7000_0e00);
        let frames = stacks.frames_at(TASK, Address(0x0fff_ff80)).iter();
        assert_eq!(frames.map(|frame| frame.function.0).collect::<Vec<_>>(), [0xa, 0xb, 0xe]);
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
        assert_eq!(stacks.forget_spaces(&[2]), [StackId(1)]);
        assert!(stacks.frames(Tid(8)).is_empty());
    }
}
