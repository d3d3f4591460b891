//! Warnings of lost updates: others wrote between a read and the write made from it.

use std::ops::Range;

use model::{Address, Moment, Tid};

use super::definition::Definition;
use super::hop::number;
use super::semantics::{Cell, State, read_cells};
use super::story::{Sought, Spot, Story, Trail, cell_bytes};
use crate::accesses::{By, in_leaf};
use crate::failure::Failure;
use crate::memory_identity::Bytes;

/// Hops from what was computed back to the read.
const HOPS_MAX: usize = 8;
/// Leaves between them.
const LEAVES_MAX: u64 = 16;

impl Story<'_, '_, '_> {
    /// Of a value that an instruction computed and that was stored: whether it was made from what
    /// was at the same place before, and others wrote there in between.
    pub(super) fn warn_of_races(
        &mut self,
        trail: &mut Trail,
        definition: &Definition,
        state: &State,
    ) -> Result<(), Failure> {
        let Some((space, range, stored)) = trail.stored_at() else { return Ok(()) };
        if self.is_seeking() || !self.has_company(trail.tid, stored) {
            return Ok(());
        }
        let mut trails = Vec::new();
        for cell in read_cells(&definition.instruction) {
            let Some(bytes) = cell_bytes(state, cell) else { continue };
            let length = if matches!(cell, Cell::General(_)) { 8 } else { 16 };
            let value = bytes[..length].to_vec();
            let spot = Spot::Register { cell, first: 0 };
            trails.push(Trail::new(0..length as u64, value, spot, trail.tid, definition.moment));
        }
        let shape = self.shape.clone();
        let sought = Sought { space, range: range.clone(), found: None };
        let quiet = Story::new(self.engine, self.asked, shape, u64::MAX, (0, HOPS_MAX));
        let Some(read) = quiet.seek(trails, sought)? else { return Ok(()) };
        let others = self.writes_between(space, range, (read, stored), trail.tid)?;
        let Some(first) = others.first() else { return Ok(()) };
        let count = others.len();
        let writes = if count == 1 { "1 write".to_owned() } else { format!("{count} writes") };
        let task = number(self.engine, first.0, first.1);
        let warning = format!(
            "{writes} by others since it was read at moment {read}, the first by task {task} at \
             moment {}: lost",
            first.1
        );
        trail.warn(warning);
        Ok(())
    }

    /// Whether there are other tasks in its process.
    fn has_company(&self, tid: Tid, moment: Moment) -> bool {
        let history = &self.engine.db.history;
        let Some(task) = history.task(tid, moment) else { return false };
        history.tasks.iter().filter(|other| other.process == task.process).count() > 1
    }

    /// Who else wrote to memory, and when, between two moments.
    fn writes_between(
        &mut self,
        space: u32,
        range: Range<Address>,
        (from, to): (Moment, Moment),
        tid: Tid,
    ) -> Result<Vec<(Tid, Moment)>, Failure> {
        let length = range.end - range.start;
        let bytes = Bytes::at(self.engine.db, space, range.start, length, to);
        let (first, last) = (self.engine.leaf_at(from)?, self.engine.leaf_at(to)?);
        let mut others = Vec::new();
        for leaf in first.max(last.saturating_sub(LEAVES_MAX))..=last {
            let found = in_leaf(self.engine, &bytes, leaf, false)?;
            let between = found.accesses.iter().filter(|access| {
                access.tid != tid
                    && access.by == By::Instruction
                    && (from..to).contains(&access.moment)
            });
            others.extend(between.map(|access| (access.tid, access.moment)));
        }
        Ok(others)
    }
}
