//! Running fast code in slices, and stretches made for one use, and what its exits ask for.

use model::Address;

use super::faulting::fetch_fault;
use super::{LOGGED_SLICE, Machine, SLICE, Step, fetch};
use crate::block::{BLOCK_MAX, Block, ExitKind, Mode, counter_amount, counter_with_budget};
use crate::state::{EXIT_FAULT, EXIT_INDIRECT};
use crate::{Cpu, Error, Exit, Observers, Space};

impl Machine {
    pub(super) fn slice_max(&self) -> u64 {
        let Observers { calls, control_flow, stores, .. } = self.compiled;
        let most = if calls || control_flow || stores { LOGGED_SLICE } else { SLICE };
        self.observing.piece_max().min(most)
    }

    /// Runs fast code until about `budget` instructions have retired or something is to be done.
    pub(super) fn slice(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        budget: u64,
    ) -> Result<Step, Error> {
        self.begin_piece(cpu, counter_with_budget(budget));
        let result = self.fast(space, cpu);
        if self.settle(space, cpu)? {
            return Ok(Step::Continue);
        }
        result
    }

    /// Executes up to `most` instructions, up to the first transfer of control, and at least one.
    pub(super) fn stretch(
        &mut self,
        space: &mut Space,
        cpu: &mut Cpu,
        most: u64,
    ) -> Result<Step, Error> {
        let most = most.min(BLOCK_MAX as u64);
        if most == 1 || !self.observing.watches.is_empty() {
            return self.single(space, cpu);
        }
        let Some(id) = self.make(space, cpu.rip, Mode::Once, most as usize)? else {
            return Ok(Step::Exit(fetch_fault(space, cpu.rip)));
        };
        let view = self.cache.view(id);
        let uncounted = self.compiled.executions.then(|| view.places.into());
        // Only where a store to the code would be noticed.
        let directory = self.directories.get(&space.id());
        let noticed = |range| directory.is_some_and(|directory| directory.has_pages(range));
        if !view.source.ranges.iter().all(noticed) {
            self.cache.take_back(id);
            return self.single(space, cpu);
        }
        self.statistics.stretches += 1;
        // The budget outlasts it.
        self.begin_piece(cpu, counter_with_budget(most + 1));
        self.observing.piece.as_mut().expect("just begun").uncounted = uncounted;
        self.enter(cpu, id);
        let result = self.left(space, cpu);
        self.cache.take_back(id);
        self.settle(space, cpu)?;
        Ok(result?.unwrap_or(Step::Continue))
    }

    /// What translated code was left for; `None` when it is to go on at `cpu.rip`.
    pub(super) fn left(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<Option<Step>, Error> {
        match self.state().exit {
            EXIT_FAULT => self.fault(space, cpu),
            EXIT_INDIRECT => {
                cpu.rip = Address(self.state().s);
                Ok(None)
            }
            exit => self.exit(space, cpu, exit),
        }
    }

    fn fast(&mut self, space: &mut Space, cpu: &mut Cpu) -> Result<Step, Error> {
        let mut id = match self.fast_block(space, cpu.rip)? {
            Some(id) => id,
            None => return Ok(Step::Exit(fetch_fault(space, cpu.rip))),
        };
        loop {
            self.enter(cpu, id);
            let exit = self.state().exit;
            if let Some(step) = self.left(space, cpu)? {
                return Ok(step);
            }
            // Without a number it is an indirect jump that missed.
            let link = (!matches!(exit, EXIT_FAULT | EXIT_INDIRECT)).then_some(exit);
            let flushes = self.cache.flushes;
            let Some(next) = self.fast_block(space, cpu.rip)? else {
                return Ok(Step::Exit(fetch_fault(space, cpu.rip)));
            };
            match link {
                Some(exit) if flushes == self.cache.flushes => self.cache.link(exit, next),
                Some(_) => {}
                None => self.enter_code_map(space, cpu.rip, next)?,
            }
            id = next;
        }
    }

    /// What a numbered exit asks for; `None` when the next block is to be linked.
    fn exit(&mut self, space: &mut Space, cpu: &mut Cpu, exit: u32) -> Result<Option<Step>, Error> {
        let record = &self.cache.exits[exit as usize];
        let step = match record.kind {
            ExitKind::Link { target, .. } => {
                cpu.rip = target;
                return Ok(None);
            }
            ExitKind::Next { target } => {
                cpu.rip = target;
                Step::Continue
            }
            ExitKind::Budget { index } => {
                let view = self.cache.view(record.block);
                let (total, before) = (view.counts(), view.counts_before(usize::from(index)));
                let change = counter_amount(before.0, before.1) - counter_amount(total.0, total.1);
                cpu.rip = view.places[usize::from(index)].address;
                if self.compiled.executions {
                    for range in Block::bytes_of(&view.places[..usize::from(index)]) {
                        self.observations.executions.count(&range, 1);
                    }
                }
                let counter = &mut self.state().counter;
                *counter = counter.wrapping_add(change as u64);
                Step::Continue
            }
            ExitKind::Trap { address, kind, length } => {
                cpu.rip = address;
                Step::Exit(Exit::Trap { kind, length })
            }
            ExitKind::Hook { address } => {
                cpu.rip = address;
                Step::Exit(Exit::Hook)
            }
            ExitKind::Emulate { address } => {
                cpu.rip = address;
                match fetch(space, address) {
                    Some(instruction) => self.emulate(space, cpu, &instruction, None)?,
                    None => Step::Exit(fetch_fault(space, address)),
                }
            }
        };
        Ok(Some(step))
    }
}
