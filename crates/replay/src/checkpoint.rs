//! All of a session at one moment, to go back to: also inside an event, and in another process.
//!
//! A checkpoint is a *state* ([`Checkpoint::encode_state`]) and the *pages* of each [`Owner`] that
//! are not as they were when mapped. [`Checkpoint::write`] puts both into a file; who stores many
//! checkpoints will rather store what changed from one to the next
//! ([`Checkpoint::changes_since`]).

mod compare;
pub(crate) mod cpu;
mod digest;
mod file;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use machine::{Page, Pages, SharedObject, Snapshot};
use model::{Address, Event, Moment, Tid};
use rr_trace::{Position, Trace};
use serde::{Deserialize, Serialize};

pub use digest::Digest;

use crate::address_space::{AddressSpace, Marks};
use crate::descriptors::Descriptors;
use crate::maps::BackingFiles;
use crate::problem::{Problem, Result};
use crate::session::Session;
use crate::shared_files::SharedFiles;
use crate::source::Current;
use crate::task::{SpaceId, Task, ThreadGroup};
use crate::{Error, Options, TickRule};

/// Made by [`Session::checkpoint`]. Pages are shared with other checkpoints as far as they are
/// the same.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    uuid: [u8; 16],
    /// Of the recording.
    directory: PathBuf,
    session: SessionState,
    /// The event in progress, with its phase.
    current: Option<Current>,
    spaces: BTreeMap<SpaceId, (Marks, Snapshot)>,
    shared: SharedFiles,
    /// The shared objects that are mapped, by number.
    objects: BTreeMap<u32, ObjectState>,
    backing: BackingFiles,
}

/// What of a session is plain data.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SessionState {
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
    last_event: Event,
    ended: bool,
    /// Behind the event in progress, as far as its data was read.
    position: Position,
}

#[derive(Clone, Debug)]
struct ObjectState {
    object: SharedObject,
    /// In bytes, then.
    length: u64,
    pages: Pages,
}

/// Whose pages: an address space's private ones, by the number of their address, or a shared
/// object's, by the number of their offset. Numbers are never used again in a recording, and are
/// the same in every replay of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Owner {
    Space(u32),
    Object(u32),
}

/// A page that is not what it was in an earlier checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageChange {
    pub owner: Owner,
    pub page: u64,
    /// `None`: what it was when mapped.
    pub before: Option<Arc<Page>>,
    /// Likewise.
    pub contents: Option<Arc<Page>>,
}

impl Checkpoint {
    pub fn moment(&self) -> Moment {
        self.session.moment
    }

    pub fn last_event(&self) -> Event {
        self.session.last_event
    }

    /// The rule under which the recording was replayed so far.
    pub fn tick_rule(&self) -> TickRule {
        self.session.tick_rule
    }

    /// Everything but the contents of memory. Equal states of one recording are equal bytes.
    pub fn encode_state(&self) -> Vec<u8> {
        state::encode(self)
    }

    /// All memory that is not as mapped, in order of owner.
    pub fn memory(&self) -> Vec<(Owner, &Pages)> {
        let spaces = self.spaces.iter().map(|(id, (_, space))| (Owner::Space(id.0), space.pages()));
        let objects = self.objects.iter();
        spaces.chain(objects.map(|(id, object)| (Owner::Object(*id), &object.pages))).collect()
    }

    /// In order, the pages that are not shared with an earlier checkpoint of the same session.
    /// Costs in proportion to them. Of owners that are not here any more nothing is said. Each is
    /// compared with what `base` says, such as the space that it is a copy of; if that was not
    /// there, it had no page.
    pub fn changes_since(
        &self,
        earlier: &Checkpoint,
        base: impl Fn(Owner) -> Owner,
    ) -> Vec<PageChange> {
        let before: BTreeMap<Owner, &Pages> = earlier.memory().into_iter().collect();
        let nothing = Pages::default();
        let mut changes = Vec::new();
        for (owner, pages) in self.memory() {
            let before = before.get(&base(owner)).copied().unwrap_or(&nothing);
            changes.extend(before.differences(pages).into_iter().map(|page| PageChange {
                owner,
                page,
                before: before.get(page).cloned(),
                contents: pages.get(page).cloned(),
            }));
        }
        changes
    }

    /// A checkpoint of this recording from [`Checkpoint::encode_state`] and the pages of each
    /// owner, also of another process. Mapped files come from the recording.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] for bytes that are no state of this recording, with the offset in
    /// them; whatever `pages` fails with.
    pub fn decode(
        state: &[u8],
        mut pages: impl FnMut(Owner) -> std::result::Result<Pages, Error>,
        trace: &Trace,
        opened: &Opened,
    ) -> std::result::Result<Checkpoint, Error> {
        decode((Path::new("state"), 0), state, &mut pages, trace, opened)
    }
}

/// What a session has opened. A checkpoint that is decoded with it shares these with the session,
/// so that restoring it there leaves mappings, and code translated for them, as they are. Decoding
/// may lengthen the session's shared objects: the next thing to do with it is to restore.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    backing: BackingFiles,
    objects: BTreeMap<u32, SharedObject>,
}

/// `file` is what errors name, and `base` what they count from.
fn decode(
    (file, base): (&Path, u64),
    state: &[u8],
    pages: &mut dyn FnMut(Owner) -> std::result::Result<Pages, Error>,
    trace: &Trace,
    opened: &Opened,
) -> std::result::Result<Checkpoint, Error> {
    let unusable = |offset: u64, reason: String| Error::Checkpoint {
        file: file.into(),
        offset: base + offset,
        reason,
    };
    state::decode(state, trace, pages, opened).map_err(|failure| match failure {
        state::Failure::Flaw { offset, reason } => unusable(offset, reason),
        state::Failure::Pages(error) => error,
        state::Failure::Problem(problem) => match problem {
            Problem::Trace(error) => Error::Trace(error),
            Problem::MappedFile { path, source } => {
                Error::CheckpointFile { file: path.into(), source }
            }
            Problem::Machine(error) => unusable(0, error.to_string()),
            Problem::Unsupported(reason) | Problem::Malformed(reason) => unusable(0, reason),
            Problem::Diverged { reason, .. } => unusable(0, reason),
        },
    })
}

impl Session {
    pub fn checkpoint(&mut self) -> std::result::Result<Checkpoint, Error> {
        self.make_checkpoint().map_err(|problem| self.error_here(problem))
    }

    /// Goes to where the checkpoint was made. It must be of a session of the same recording.
    /// After an error the session is in between, but can be restored again.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> std::result::Result<(), Error> {
        self.go_to(checkpoint).map_err(|problem| self.error_here(problem))
    }

    pub fn opened(&self) -> Opened {
        Opened { backing: self.backing.clone(), objects: self.mapped_objects() }
    }

    /// A session that stands where the checkpoint was made, and keeps to its tick rule.
    pub fn resume(
        trace: &Trace,
        options: Options,
        checkpoint: &Checkpoint,
    ) -> std::result::Result<Session, Error> {
        let tick_rule = Some(checkpoint.session.tick_rule);
        let mut session = Session::open(trace, Options { tick_rule, ..options })?;
        session.restore(checkpoint)?;
        tracing::debug!(moment = %session.moment, event = %session.last_event, "restored");
        Ok(session)
    }

    pub(crate) fn make_checkpoint(&mut self) -> Result<Checkpoint> {
        let mut spaces = BTreeMap::new();
        for (id, space) in &mut self.spaces {
            spaces.insert(*id, (space.marks.clone(), space.space.snapshot()?));
        }
        self.forget_unmapped_files();
        let mut objects = BTreeMap::new();
        for (number, object) in self.mapped_objects() {
            let (length, pages) = (object.length(), object.snapshot()?);
            objects.insert(number, ObjectState { object, length, pages });
        }
        Ok(Checkpoint {
            uuid: self.source.trace.header().uuid,
            directory: self.source.trace.directory().into(),
            session: SessionState {
                tasks: self.tasks.clone(),
                groups: self.groups.clone(),
                descriptors: self.descriptors.clone(),
                former_spaces: self.former_spaces.clone(),
                former_ticks: self.former_ticks,
                moment: self.moment,
                started: self.started,
                last_task: self.last_task,
                tick_rule: self.ticks.rule,
                hooks: self.hooks.clone(),
                tasks_created: self.tasks_created,
                next_id: self.next_id,
                last_event: self.last_event,
                ended: self.ended,
                position: self.source.position(),
            },
            current: self.current.clone(),
            spaces,
            shared: self.shared.clone(),
            objects,
            backing: self.backing.clone(),
        })
    }

    fn go_to(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        if checkpoint.uuid != self.source.trace.header().uuid {
            return Err(Problem::malformed("the checkpoint is of another recording"));
        }
        if !self.accept_ticks(checkpoint.session.tick_rule) {
            let rules = (checkpoint.session.tick_rule, self.ticks.rule);
            return Err(Problem::unsupported(format!(
                "a checkpoint made under the tick rule {} in a replay under {}",
                rules.0, rules.1
            )));
        }
        self.return_to(checkpoint)
    }

    /// As `go_to`, whatever the tick rule.
    pub(crate) fn return_to(&mut self, checkpoint: &Checkpoint) -> Result<()> {
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
                self.insert_space(*id, fresh);
            }
            let space = self.spaces.get_mut(id);
            let space = space.ok_or_else(|| Problem::malformed("no such address space"))?;
            space.space.restore(contents)?;
            space.marks = marks.clone();
        }
        for ObjectState { object, length, pages } in checkpoint.objects.values() {
            object.restore(*length, pages)?;
        }
        let state = checkpoint.session.clone();
        self.source.seek(&state.position)?;
        self.backing.adopt(&checkpoint.backing);
        self.shared = checkpoint.shared.clone();
        self.current = checkpoint.current.clone();
        self.tasks = state.tasks;
        self.groups = state.groups;
        self.descriptors = state.descriptors;
        self.former_spaces = state.former_spaces;
        self.former_ticks = state.former_ticks;
        self.moment = state.moment;
        self.started = state.started;
        self.last_task = state.last_task;
        self.tasks_created = state.tasks_created;
        self.next_id = state.next_id;
        self.last_event = state.last_event;
        self.ended = state.ended;
        self.warnings.clear();
        self.forget_observed()?;
        self.forget_effects();
        self.hooks = state.hooks;
        self.set_hooks(None);
        Ok(())
    }
}
