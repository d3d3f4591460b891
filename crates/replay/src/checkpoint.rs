//! All of a session at one moment, to go back to: also inside an event.

use std::collections::{BTreeMap, BTreeSet};

use machine::{Backing, Snapshot};
use model::{Address, Event, Moment, Tid};
use rr_trace::Position;

use crate::address_space::{AddressSpace, Marks};
use crate::descriptors::Descriptors;
use crate::problem::{Problem, Result};
use crate::session::Session;
use crate::shared_files::SharedFiles;
use crate::source::Current;
use crate::task::{SpaceId, Task, ThreadGroup};
use crate::{Error, TickRule};

/// Made by [`Session::checkpoint`]. Pages are shared with other checkpoints as far as they are
/// the same.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    spaces: BTreeMap<SpaceId, (Marks, Snapshot)>,
    shared: SharedFiles,
    tasks: BTreeMap<Tid, Task>,
    groups: BTreeMap<Tid, ThreadGroup>,
    descriptors: Descriptors,
    former_spaces: BTreeMap<Tid, SpaceId>,
    former_ticks: u64,
    moment: Moment,
    started: bool,
    last_task: Option<Tid>,
    tick_rule: TickRule,
    hooks: BTreeSet<Address>,
    tasks_created: u32,
    next_id: u32,
    /// The event in progress, with its phase.
    current: Option<Current>,
    last_event: Event,
    ended: bool,
    position: Position,
}

impl Checkpoint {
    pub fn moment(&self) -> Moment {
        self.moment
    }

    pub fn last_event(&self) -> Event {
        self.last_event
    }
}

impl Session {
    pub fn checkpoint(&mut self) -> std::result::Result<Checkpoint, Error> {
        self.make_checkpoint().map_err(|problem| self.error_here(problem))
    }

    /// Goes to where the checkpoint was made. It must be of a session of the same recording in
    /// this process. After an error the session is in between, but can be restored again.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> std::result::Result<(), Error> {
        self.go_to(checkpoint).map_err(|problem| self.error_here(problem))
    }

    fn make_checkpoint(&mut self) -> Result<Checkpoint> {
        let mut spaces = BTreeMap::new();
        for (id, space) in &mut self.spaces {
            spaces.insert(*id, (space.marks.clone(), space.space.snapshot()?));
        }
        self.forget_unmapped_files();
        Ok(Checkpoint {
            spaces,
            shared: self.shared.clone(),
            tasks: self.tasks.clone(),
            groups: self.groups.clone(),
            descriptors: self.descriptors.clone(),
            former_spaces: self.former_spaces.clone(),
            former_ticks: self.former_ticks,
            moment: self.moment,
            started: self.started,
            last_task: self.last_task,
            tick_rule: self.tick_rule,
            hooks: self.hooks.clone(),
            tasks_created: self.tasks_created,
            next_id: self.next_id,
            current: self.current.clone(),
            last_event: self.last_event,
            ended: self.ended,
            position: self.source.position(),
        })
    }

    /// What no mapping shows is not in a snapshot, and what it was does not matter: the recording
    /// has the contents of every new mapping.
    fn forget_unmapped_files(&mut self) {
        let spaces = self.spaces.values().flat_map(|space| space.space.mappings());
        let mut mapped = Vec::new();
        for mapping in spaces {
            if let Backing::Shared { object, .. } = &mapping.backing {
                mapped.push(object);
            }
        }
        self.shared.retain(|object| mapped.iter().any(|known| known.same(object)));
    }

    fn go_to(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let gone: Vec<_> =
            self.spaces.keys().filter(|id| !checkpoint.spaces.contains_key(id)).copied().collect();
        for id in gone {
            if let Some(space) = self.spaces.remove(&id) {
                self.machine.forget_space(&space.space);
            }
        }
        for (id, (marks, contents)) in &checkpoint.spaces {
            if !self.spaces.contains_key(id) {
                let fresh = AddressSpace::new(self.machine.new_space()?);
                self.spaces.insert(*id, fresh);
            }
            let space = self.spaces.get_mut(id);
            let space = space.ok_or_else(|| Problem::malformed("no such address space"))?;
            space.space.restore(contents)?;
            space.marks = marks.clone();
        }
        self.source.seek(&checkpoint.position)?;
        self.shared = checkpoint.shared.clone();
        self.tasks = checkpoint.tasks.clone();
        self.groups = checkpoint.groups.clone();
        self.descriptors = checkpoint.descriptors.clone();
        self.former_spaces = checkpoint.former_spaces.clone();
        self.former_ticks = checkpoint.former_ticks;
        self.moment = checkpoint.moment;
        self.started = checkpoint.started;
        self.last_task = checkpoint.last_task;
        self.tick_rule = checkpoint.tick_rule;
        self.tasks_created = checkpoint.tasks_created;
        self.next_id = checkpoint.next_id;
        self.current = checkpoint.current.clone();
        self.last_event = checkpoint.last_event;
        self.ended = checkpoint.ended;
        self.warnings.clear();
        self.forget_observed()?;
        self.hooks = checkpoint.hooks.clone();
        self.set_hooks(None);
        Ok(())
    }
}
