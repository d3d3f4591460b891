//! `descriptors`: the life of every descriptor, from being opened to being closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use index::records::{decode, happening};
use model::{Moment, Tid};
use replay::{
    Description, DescriptionId, DescriptorEvent, Direction, FilesId, Happening, Kind, Transfer,
};
use serde::Serialize;

use crate::ask::{Asked, Flow};
use crate::call_names;
use crate::database::Database;
use crate::engine::Engine;
use crate::failure::{Code, Failure};
use crate::protocol::{Focus, MomentText};
use crate::system_calls::flags;

/// Lives of one recording, at most.
const LIVES_MAX: usize = 1 << 18;
/// Bits of open(2)'s flags that say what a descriptor is for.
const ACCESS: i32 = 3;

/// All lives of a recording.
#[derive(Debug, Default)]
pub struct Lives {
    /// In the order in which they began.
    lives: Vec<Life>,
    /// As they are known at the end.
    descriptions: BTreeMap<DescriptionId, Description>,
}

/// A descriptor in one table while it refers to one description.
#[derive(Clone, Debug)]
struct Life {
    descriptor: i32,
    description: DescriptionId,
    /// Whose call it was.
    tid: Tid,
    opened: Moment,
    how: How,
    closed: Option<Moment>,
    read: u64,
    written: u64,
}

/// How a descriptor came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// By a system call, if it is known by which.
    Call(Option<i32>),
    /// With a copy of another process's table.
    Copied,
    /// It is older than the recording, and was met then.
    Inherited,
}

#[derive(Serialize)]
struct Row {
    descriptor: i32,
    task: u32,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// `read`, `write`, `read and write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    /// None of those that are older than the recording.
    opened: Option<MomentText>,
    /// The system call that it came from, or `fork`, or `inherited`.
    by: String,
    closed: Option<MomentText>,
    read: String,
    written: String,
    /// Descriptors with the same number here share position and status.
    description: u32,
    focus: Focus,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let Some(all) = lives(engine, asked)? else { return Ok(()) };
    for life in all.lives.iter().skip(asked.offset()?) {
        if asked.is_interrupted() || asked.row(&row(engine, &all, life)) == Flow::Full {
            break;
        }
    }
    (asked.matched, asked.exact) = (all.lives.len() as u64, true);
    Ok(())
}

fn row(engine: &Engine<'_>, all: &Lives, life: &Life) -> Row {
    let task = engine.db.history.task(life.tid, life.opened).map_or(1, |task| task.number.0);
    let known = all.descriptions.get(&life.description);
    let path = known.and_then(|known| known.path.as_ref().or(known.address.as_ref()));
    Row {
        descriptor: life.descriptor,
        task,
        kind: known.map_or_else(|| "unknown".into(), |known| kind(&known.kind)),
        path: path.map(|path| String::from_utf8_lossy(path).into_owned()),
        mode: known.and_then(mode),
        opened: (life.how != How::Inherited).then_some(MomentText(life.opened)),
        by: match life.how {
            How::Call(Some(number)) => call_names::name(number),
            How::Call(None) => "unknown".into(),
            How::Copied => "fork".into(),
            How::Inherited => "inherited".into(),
        },
        closed: life.closed.map(MomentText),
        read: life.read.to_string(),
        written: life.written.to_string(),
        description: life.description.0,
        focus: Focus::at(life.opened, task),
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Unknown => "unknown".into(),
        Kind::File => "file".into(),
        Kind::Directory => "directory".into(),
        Kind::Terminal => "terminal".into(),
        Kind::Device => "device".into(),
        Kind::Pipe => "pipe".into(),
        Kind::Socket { domain, kind, .. } => {
            let [family, kind] = [(&flags::FAMILIES, *domain), (&flags::SOCKETS, *kind)]
                .map(|(table, value)| flags::choice(table, u64::from(value as u32)));
            format!("socket ({family}, {kind})")
        }
        Kind::Memory => "memory".into(),
        Kind::ProcessMemory => "process memory".into(),
        Kind::PidFd { pid } => format!("process {pid}"),
        Kind::Special(name) => name.clone(),
    }
}

/// Of what is known how it was opened.
fn mode(description: &Description) -> Option<&'static str> {
    if description.kind == Kind::Unknown || description.inherited.is_some() {
        return None;
    }
    match description.flags & ACCESS {
        0 => Some("read"),
        1 => Some("write"),
        2 => Some("read and write"),
        _ => None,
    }
}

/// All lives; `None` if there is no time to find them.
fn lives(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<Option<Arc<Lives>>, Failure> {
    if let Some(known) = &engine.lives {
        return Ok(Some(Arc::clone(known)));
    }
    let db = engine.db;
    let mut follower = Follower::default();
    for leaf in 0..db.reader.leaves() {
        follower.leaf(db, leaf)?;
        if asked.is_interrupted() {
            return Ok(None);
        }
    }
    let found = Arc::new(follower.found);
    engine.lives = Some(Arc::clone(&found));
    Ok(Some(found))
}

#[derive(Debug, Default)]
struct Follower {
    found: Lives,
    /// The life of each descriptor in each table: the present one, else the last.
    last: BTreeMap<(FilesId, i32), usize>,
}

impl Follower {
    fn leaf(&mut self, db: &Database, leaf: u64) -> Result<(), Failure> {
        for happening in db.reader.leaf(leaf)?.happenings(Moment(0))? {
            let happening = happening?;
            if happening.kind == happening::DESCRIPTOR {
                self.follow(decode(leaf, &happening.payload)?);
                if self.found.lives.len() > LIVES_MAX {
                    let what = format!("there are more than {LIVES_MAX} descriptors");
                    return Err(Failure::new(Code::NotAvailable, what));
                }
            }
        }
        Ok(())
    }

    fn follow(&mut self, event: DescriptorEvent) {
        let how = How::Call(event.call);
        match &event.what {
            Happening::Opened { descriptor, description, .. } => {
                let how = if description.inherited.is_some() { How::Inherited } else { how };
                self.begin(&event, *descriptor, description.id, how);
                self.found.descriptions.insert(description.id, description.clone());
            }
            Happening::Described { description } => {
                self.found.descriptions.insert(description.id, description.clone());
            }
            Happening::Duplicated { descriptor, description, .. }
            | Happening::Received { descriptor, description, .. } => {
                self.begin(&event, *descriptor, *description, how);
            }
            Happening::Closed { descriptor, .. } => {
                if let Some(&index) = self.last.get(&(event.table, *descriptor)) {
                    self.found.lives[index].closed.get_or_insert(event.moment);
                }
            }
            Happening::Copied { from } => self.copy(&event, *from),
            Happening::Transferred(transfer) => self.transferred(event.table, transfer),
            Happening::Shared
            | Happening::Sent { .. }
            | Happening::Positioned { .. }
            | Happening::Resized { .. } => {}
        }
    }

    fn begin(
        &mut self,
        event: &DescriptorEvent,
        descriptor: i32,
        description: DescriptionId,
        how: How,
    ) {
        let index = self.found.lives.len();
        // What it was before ended without a word.
        if let Some(before) = self.last.insert((event.table, descriptor), index) {
            self.found.lives[before].closed.get_or_insert(event.moment);
        }
        self.found.lives.push(Life {
            descriptor,
            description,
            tid: event.tid,
            opened: event.moment,
            how,
            closed: None,
            read: 0,
            written: 0,
        });
    }

    fn copy(&mut self, event: &DescriptorEvent, from: FilesId) {
        let of_parent = self.last.range((from, i32::MIN)..=(from, i32::MAX));
        let open: Vec<(i32, DescriptionId)> = of_parent
            .map(|((_, descriptor), index)| (*descriptor, &self.found.lives[*index]))
            .filter(|(_, life)| life.closed.is_none())
            .map(|(descriptor, life)| (descriptor, life.description))
            .collect();
        for (descriptor, description) in open {
            self.begin(event, descriptor, description, How::Copied);
        }
    }

    fn transferred(&mut self, table: FilesId, transfer: &Transfer) {
        let Some(&index) = self.last.get(&(table, transfer.descriptor)) else { return };
        let life = &mut self.found.lives[index];
        if transfer.peeked || life.description != transfer.description {
            return;
        }
        let sum = match transfer.direction {
            Direction::Read => &mut life.read,
            Direction::Write => &mut life.written,
        };
        *sum = sum.saturating_add(transfer.length);
    }
}
