//! One segment: run, observed, and encoded as a leaf.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use machine::Observers;
use model::{Address, Moment, PAGE_SIZE, Tid};
use replay::{
    Checkpoint, DescriptorEvent, DescriptorObserver, MappingChange, MappingChangeKind, MemoryId,
    Observed, Progress, Session,
};
use serde::{Deserialize, Serialize};
use store::{
    Call, CodeRun, Count, EncodedLeaf, LeafEncoder, Owner, PAGE_WORDS, PageDelta, PageId, ReadPage,
    Reader, WrittenPage,
};

use crate::Error;
use crate::stacks::{StackChange, Stacks};

/// What every segment is run with.
pub const OBSERVERS: Observers = Observers {
    written_words: true,
    read_lines: true,
    executions: true,
    calls: true,
    control_flow: false,
    stores: false,
};

/// Tags of a leaf's blobs.
pub mod blob {
    /// State at the end: `replay::Checkpoint::encode_state`.
    pub const STATE: u32 = 1;
    /// What happened to call stacks.
    pub const STACKS: u32 = 2;
    /// Changes of mappings.
    pub const MAPPINGS: u32 = 3;
}

/// Kinds of a leaf's happenings.
pub mod happening {
    /// An event of the recording.
    pub const EVENT: u16 = 1;
    /// Something about descriptors.
    pub const DESCRIPTOR: u16 = 2;
}

/// Class of counted keys: uses of a file description, by its number.
const DESCRIPTION: u32 = 1;
const PAGE: usize = PAGE_SIZE as usize;

/// The happening [`happening::EVENT`].
#[derive(Debug, Serialize, Deserialize)]
pub struct EventRecord {
    pub tid: Tid,
    /// Kind of the event, as `SYSCALL 1 entering`.
    pub kind: String,
    pub ticks: u64,
    /// Address of the next instruction behind the event.
    pub rip: Address,
    /// rax, rdi, rsi, rdx, r10, r8, r9 behind the event.
    pub call: [u64; 7],
}

/// The segment that is being run.
#[derive(Debug)]
pub struct Segment {
    start: Checkpoint,
    stacks: Stacks,
    happenings: Vec<store::Happening>,
    descriptors: Sink,
}

/// Collects what is told about descriptors.
#[derive(Clone, Debug, Default)]
struct Sink(Rc<RefCell<Vec<DescriptorEvent>>>);

impl DescriptorObserver for Sink {
    fn observe(&mut self, event: &DescriptorEvent, _: &machine::Space) {
        self.0.borrow_mut().push(event.clone());
    }
}

impl Segment {
    /// Where the leaves so far of a database end, and `session` stands: call stacks are followed
    /// from the changes that the leaves have.
    pub fn at_border(
        session: &mut Session,
        reader: &Reader,
        leaves: u64,
    ) -> Result<Segment, Error> {
        let mut stacks = Stacks::default();
        for leaf in 0..leaves {
            let open = reader.leaf(leaf)?;
            let bytes = open.blob(blob::STACKS)?.collect::<Result<Vec<_>, _>>()?.concat();
            let record: StackRecord = decode(leaf, &bytes)?;
            stacks.apply(record.changes, &record.active, &record.ended);
        }
        let start = session.checkpoint()?;
        Ok(Segment::new(session, start, stacks))
    }

    /// Without stacks: for looking at one segment alone.
    pub fn alone(session: &mut Session) -> Result<Segment, Error> {
        let start = session.checkpoint()?;
        Ok(Segment::new(session, start, Stacks::default()))
    }

    fn new(session: &mut Session, start: Checkpoint, stacks: Stacks) -> Segment {
        let descriptors = Sink::default();
        session.observe_descriptors(Some(Box::new(descriptors.clone())));
        Segment { start, stacks, happenings: Vec::new(), descriptors }
    }

    /// The next segment begins where this one has ended.
    pub fn next(&mut self, start: Checkpoint) {
        self.start = start;
    }

    /// Goes on to `end`; events there that need no instruction belong to the next segment.
    pub fn run(&mut self, session: &mut Session, end: Moment) -> Result<Progress, Error> {
        loop {
            match session.advance(Some(end))? {
                Progress::Event(report) => self.note_event(session, &report),
                Progress::Moment if session.moment() < end => {}
                stop => return Ok(stop),
            }
        }
    }

    fn note_event(&mut self, session: &Session, report: &replay::EventReport) {
        let registers = session.registers(report.tid).unwrap_or_default();
        let general = |index: usize| registers.general[index];
        use model::gpr::{R8, R9, R10, RAX, RDI, RDX, RSI};
        let record = EventRecord {
            tid: report.tid,
            kind: report.kind.clone(),
            ticks: report.ticks.0,
            rip: registers.rip,
            call: [RAX, RDI, RSI, RDX, R10, R8, R9].map(general),
        };
        self.happenings.push(store::Happening {
            moment: report.moment,
            event: report.event,
            kind: happening::EVENT,
            payload: encode(&record),
        });
    }

    /// The leaf of what has been run, and the state where the next one begins.
    pub fn encode(
        &mut self,
        session: &mut Session,
        level: i32,
    ) -> Result<(EncodedLeaf, Checkpoint), Error> {
        let observed = session.take_observed()?;
        let end = session.checkpoint()?;
        let mut leaf = LeafEncoder::new(level)?;
        leaf.blob(blob::STATE, &end.encode_state())?;
        leaf.memory(changed_pages(&self.start, &end, &observed.mappings))?;
        leaf.written(observed.written.iter().map(|(page, words)| WrittenPage {
            page: PageId { owner: owner(page.memory), page: page.page },
            words: *words,
        }))?;
        leaf.read(observed.read.iter().map(|(page, lines)| ReadPage {
            page: PageId { owner: owner(page.memory), page: page.page },
            lines: *lines,
        }))?;
        leaf.code(observed.executions.iter().map(|run| CodeRun {
            owner: owner(run.space),
            start: run.range.start,
            end: run.range.end,
            count: run.count,
            children: 1,
        }))?;
        self.encode_calls(&mut leaf, &observed)?;
        self.encode_happenings(&mut leaf)?;
        leaf.blob(blob::MAPPINGS, &encode(&mapping_records(&observed.mappings)))?;
        Ok((leaf.finish()?, end))
    }

    fn encode_calls(&mut self, leaf: &mut LeafEncoder, observed: &Observed) -> Result<(), Error> {
        let mut by_task: BTreeMap<u32, Vec<Call>> = BTreeMap::new();
        let mut called: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        let mut forks = observed.forks.iter().peekable();
        for call in &observed.calls {
            while let Some(fork) = forks.next_if(|fork| fork.moment < call.moment) {
                self.stacks.fork(fork.parent, fork.child, fork.space.0);
            }
            let transfer = Call {
                moment: call.moment,
                is_call: call.call,
                target: call.target,
                stack: call.stack,
            };
            self.stacks.transfer(call.tid, call.space.0, &transfer);
            by_task.entry(call.tid.0 as u32).or_default().push(transfer);
            if call.call {
                *called.entry((call.space.0, call.target.0)).or_default() += 1;
            }
        }
        forks.for_each(|fork| self.stacks.fork(fork.parent, fork.child, fork.space.0));
        observed.ended.iter().for_each(|space| self.stacks.forget_space(space.0));
        for (task, calls) in by_task {
            leaf.calls(Tid(task as i32), calls)?;
        }
        leaf.called(called.into_iter().map(|((class, key), count)| Count {
            class,
            key,
            count,
            children: 1,
        }))?;
        let record = StackRecord {
            changes: self.stacks.take_changes(),
            active: self.stacks.active().collect(),
            ended: observed.ended.iter().map(|space| space.0).collect(),
        };
        let depths = record.changes.iter();
        leaf.depths(depths.map(|change| (Tid(change.stack.0 as i32), change.kept as i64)))?;
        leaf.blob(blob::STACKS, &encode(&record))?;
        Ok(())
    }

    fn encode_happenings(&mut self, leaf: &mut LeafEncoder) -> Result<(), Error> {
        let mut happenings = std::mem::take(&mut self.happenings);
        let mut uses: BTreeMap<u64, u64> = BTreeMap::new();
        for event in self.descriptors.0.borrow_mut().drain(..) {
            if let replay::Happening::Transferred(transfer) = &event.what {
                *uses.entry(transfer.description.0.into()).or_default() += 1;
            }
            happenings.push(store::Happening {
                moment: event.moment,
                event: event.event,
                kind: happening::DESCRIPTOR,
                payload: encode(&event),
            });
        }
        happenings.sort_by_key(|happening| (happening.moment, happening.event));
        leaf.happenings(happenings)?;
        leaf.keys(uses.into_iter().map(|(key, count)| Count {
            class: DESCRIPTION,
            key,
            count,
            children: 1,
        }))?;
        Ok(())
    }
}

/// The blob [`blob::STACKS`].
#[derive(Debug, Serialize, Deserialize)]
struct StackRecord {
    changes: Vec<StackChange>,
    /// Which stack each task is on at the end.
    active: Vec<(Tid, crate::stacks::StackId)>,
    /// Address spaces that ended, and their stacks with them.
    ended: Vec<u32>,
}

/// An item of the blob [`blob::MAPPINGS`].
#[derive(Debug, Serialize, Deserialize)]
pub struct MappingRecord {
    pub moment: Moment,
    pub space: u32,
    pub tid: Option<Tid>,
    pub start: Address,
    pub end: Address,
    pub change: MappingKind,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum MappingKind {
    /// `protection` as of mmap(2); `shared` is owner and page of the range's beginning.
    Mapped {
        protection: u8,
        shared: Option<(u32, u64)>,
        name: Vec<u8>,
        offset: u64,
    },
    Unmapped,
    Protected {
        protection: u8,
    },
    MovedHere {
        from: Address,
    },
    Discarded,
}

fn mapping_records(changes: &[MappingChange]) -> Vec<MappingRecord> {
    let bits = |protection: &machine::Protection| {
        u8::from(protection.read)
            | u8::from(protection.write) << 1
            | u8::from(protection.execute) << 2
    };
    let record = |change: &MappingChange| MappingRecord {
        moment: change.moment,
        space: change.space.0,
        tid: change.tid,
        start: change.range.start,
        end: change.range.end,
        change: match &change.kind {
            MappingChangeKind::Mapped { protection, shared, name, offset } => MappingKind::Mapped {
                protection: bits(protection),
                shared: shared.map(|page| (page.memory.0, page.page)),
                name: name.clone(),
                offset: *offset,
            },
            MappingChangeKind::Unmapped => MappingKind::Unmapped,
            MappingChangeKind::Protected { protection } => {
                MappingKind::Protected { protection: bits(protection) }
            }
            MappingChangeKind::MovedHere { from } => MappingKind::MovedHere { from: *from },
            MappingChangeKind::Discarded => MappingKind::Discarded,
        },
    };
    changes.iter().map(record).collect()
}

fn owner(memory: MemoryId) -> Owner {
    Owner(memory.0)
}

/// New values of changed words, in order of page. A page that is given whole, with the words that
/// are zero left out, is marked as dropped: so whatever is not known of a page is zero.
fn changed_pages(
    start: &Checkpoint,
    end: &Checkpoint,
    mappings: &[MappingChange],
) -> Vec<PageDelta> {
    let before: BTreeMap<replay::Owner, &machine::Pages> = start.memory().into_iter().collect();
    let remapped = |owner: Owner, page: u64| {
        let address = Address(page * PAGE_SIZE);
        mappings.iter().any(|change| change.space.0 == owner.0 && change.range.contains(&address))
    };
    let mut deltas: Vec<PageDelta> = end
        .changes_since(start)
        .into_iter()
        .map(|change| {
            let number = match change.owner {
                replay::Owner::Space(number) | replay::Owner::Object(number) => number,
            };
            let page = PageId { owner: Owner(number), page: change.page };
            let old = before.get(&change.owner).and_then(|pages| pages.get(change.page));
            let old = old.filter(|_| !remapped(page.owner, page.page));
            delta(page, old.map(|old| &**old), change.contents.as_deref())
        })
        .filter(|delta| delta.dropped || !delta.values.is_empty())
        .collect();
    deltas.sort_by_key(|delta| delta.page);
    deltas
}

fn delta(page: PageId, old: Option<&[u8; PAGE]>, new: Option<&[u8; PAGE]>) -> PageDelta {
    let mut delta = PageDelta {
        page,
        dropped: old.is_none() || new.is_none(),
        words: [0; 8],
        values: Vec::new(),
        children: 1,
    };
    let Some(new) = new else { return delta };
    let word = |bytes: &[u8; PAGE], index: usize| {
        let bytes = bytes[index * 8..][..8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    };
    for index in 0..PAGE_WORDS {
        let value = word(new, index);
        if value != old.map_or(0, |old| word(old, index)) {
            delta.words[index / 64] |= 1 << (index % 64);
            delta.values.push(value);
        }
    }
    if delta.dropped && delta.values.is_empty() {
        // A page of zeroes, which may not be as mapped.
        delta.words[0] = 1;
        delta.values.push(0);
    }
    delta
}

pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).expect("memory takes everything")
}

pub fn decode<'a, T: Deserialize<'a>>(leaf: u64, bytes: &'a [u8]) -> Result<T, Error> {
    postcard::from_bytes(bytes).map_err(|error| Error::Leaf { leaf, reason: error.to_string() })
}
