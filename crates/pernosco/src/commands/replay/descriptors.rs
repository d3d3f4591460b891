//! `pernosco replay --descriptors`: what became of every descriptor, and where all bytes went.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;
use model::{Address, Tid};
use replay::{
    Counterpart, Description, DescriptionId, DescriptorEvent, DescriptorObserver, Direction,
    FilesId, Happening, Kind, Offset, Transfer,
};
use rr_trace::{Arch, Syscall, SyscallExtra, SyscallState};
use serde_json::{Value, json};

use crate::names;
use crate::output::{Output, bytes, json_line, with_stdout};

/// Events of one replay step, taken over before anything is printed.
#[derive(Debug, Default)]
struct Collected(Rc<RefCell<Vec<DescriptorEvent>>>);

impl DescriptorObserver for Collected {
    fn observe(&mut self, event: &DescriptorEvent, _memory: &machine::Space) {
        self.0.borrow_mut().push(event.clone());
    }
}

/// Replays a recording; prints each happening as JSON, or at the end each description.
pub fn show(directory: &Path, json: bool) -> anyhow::Result<()> {
    let mut session = super::open(directory)?;
    let events = Rc::new(RefCell::new(Vec::new()));
    session.observe_descriptors(Some(Box::new(Collected(Rc::clone(&events)))));
    with_stdout(|output| {
        let mut lives = Lives::default();
        loop {
            let report = session.step_event();
            for event in events.take() {
                if json {
                    json_line(output, &as_json(&event))?;
                } else {
                    lives.add(&event);
                }
            }
            let more = report.with_context(|| directory.display().to_string())?;
            if more.is_none() {
                break;
            }
        }
        if json { Ok(()) } else { lives.print(output) }
    })
}

/// Bytes that one task moved through a description.
#[derive(Debug, Default)]
struct Sums {
    calls: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Life {
    description: Description,
    lines: Vec<String>,
    moved: BTreeMap<(Tid, bool), Sums>,
}

#[derive(Debug, Default)]
struct Lives {
    lives: BTreeMap<DescriptionId, Life>,
    /// What the numbers stand for, to tell what a copied table holds.
    tables: BTreeMap<FilesId, BTreeMap<i32, DescriptionId>>,
}

impl Lives {
    fn add(&mut self, event: &DescriptorEvent) {
        let table = event.table;
        match &event.what {
            Happening::Opened { descriptor, description, .. } => {
                let fresh = Life {
                    description: description.clone(),
                    lines: vec![],
                    moved: BTreeMap::new(),
                };
                self.lives.entry(description.id).or_insert(fresh);
                self.gets(event, *descriptor, description.id, "is");
            }
            Happening::Described { description } => {
                if let Some(life) = self.lives.get_mut(&description.id) {
                    life.description = description.clone();
                }
            }
            Happening::Duplicated { from, descriptor, description, .. } => {
                self.gets(event, *descriptor, *description, &format!("duplicates {from} as"));
            }
            Happening::Received { descriptor, description, .. } => {
                self.gets(event, *descriptor, *description, "receives it as");
            }
            Happening::Copied { from } => {
                let copy = self.tables.get(from).cloned().unwrap_or_default();
                for (descriptor, description) in &copy {
                    let text = format!("has {descriptor} in its copy of the table");
                    self.line(event, *description, &text);
                }
                self.tables.insert(table, copy);
            }
            Happening::Closed { descriptor, description, last } => {
                self.tables.entry(table).or_default().remove(descriptor);
                let last = if *last { ", the last" } else { "" };
                self.line(event, *description, &format!("closes {descriptor}{last}"));
            }
            Happening::Sent { descriptor, description, stream, position } => {
                let text =
                    format!("sends {descriptor} with byte {position} of stream {}", stream.0);
                self.line(event, *description, &text);
            }
            Happening::Positioned { .. } | Happening::Shared => {}
            Happening::Resized { description, length } => {
                self.line(event, *description, &format!("makes it {length} bytes long"));
            }
            Happening::Transferred(transfer) if !transfer.peeked => {
                if let Some(life) = self.lives.get_mut(&transfer.description) {
                    let key = (event.tid, transfer.direction == Direction::Write);
                    let sums = life.moved.entry(key).or_default();
                    sums.calls += 1;
                    sums.bytes = sums.bytes.saturating_add(transfer.length);
                }
            }
            Happening::Transferred(_) => {}
        }
    }

    fn gets(&mut self, event: &DescriptorEvent, number: i32, id: DescriptionId, how: &str) {
        self.tables.entry(event.table).or_default().insert(number, id);
        let text = if how == "is" { format!("opens {number}") } else { format!("{how} {number}") };
        self.line(event, id, &text);
    }

    fn line(&mut self, event: &DescriptorEvent, id: DescriptionId, text: &str) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        let call = event.call.map(|call| format!(" ({})", call_name(call))).unwrap_or_default();
        let (number, tid, moment) = (event.event, event.tid, event.moment);
        life.lines.push(format!("event {number}, moment {moment}: task {tid} {text}{call}"));
    }

    fn print(&self, output: &mut Output) -> anyhow::Result<()> {
        for (id, life) in &self.lives {
            let Description { reads, writes, .. } = life.description;
            let what = describe(&life.description);
            writeln!(output, "{}: {what}; reads stream {}, writes {}", id.0, reads.0, writes.0)?;
            for line in &life.lines {
                writeln!(output, "  {line}")?;
            }
            for ((tid, writes), sums) in &life.moved {
                let verb = if *writes { "wrote" } else { "read" };
                let (amount, calls) = (bytes(sums.bytes), sums.calls);
                writeln!(output, "  task {tid} {verb} {amount} in {calls} transfers")?;
            }
        }
        Ok(())
    }
}

fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Unknown => "unknown".to_string(),
        Kind::File => "file".into(),
        Kind::Directory => "directory".into(),
        Kind::Terminal => "terminal".into(),
        Kind::Device => "device".into(),
        Kind::Pipe => "pipe".into(),
        Kind::Socket { domain, kind, .. } => format!("socket (domain {domain}, type {kind})"),
        Kind::Memory => "memory".into(),
        Kind::ProcessMemory => "memory of a process".into(),
        Kind::PidFd { pid } => format!("process {pid}"),
        Kind::Special(name) => name.clone(),
    }
}

fn describe(description: &Description) -> String {
    let mut text = kind_name(&description.kind);
    if let Some(path) = &description.path {
        text = format!("{text} {}", names::text(path));
    }
    if let Some(number) = description.inherited {
        text = format!("{text}, inherited as {number}");
    }
    text
}

fn call_name(number: i32) -> std::borrow::Cow<'static, str> {
    let call = Syscall {
        arch: Arch::X8664,
        number,
        state: SyscallState::Exiting,
        failed_during_preparation: false,
        extra: SyscallExtra::None,
    };
    // No call of rr's own has to do with descriptors.
    names::syscall(&call, i32::MAX)
}

fn as_json(event: &DescriptorEvent) -> Value {
    let mut object = json!({
        "event": event.event.0,
        "moment": event.moment.0,
        "tid": event.tid.0,
        "table": event.table.0,
        "call": event.call.map(call_name),
    });
    let what = happening(&event.what);
    if let (Some(object), Value::Object(what)) = (object.as_object_mut(), what) {
        object.extend(what);
    }
    object
}

fn happening(what: &Happening) -> Value {
    match what {
        Happening::Opened { descriptor, description, close_on_exec } => json!({
            "what": "opened", "descriptor": descriptor, "close_on_exec": close_on_exec,
            "description": description_json(description),
        }),
        Happening::Duplicated { from, descriptor, description, close_on_exec } => json!({
            "what": "duplicated", "from": from, "descriptor": descriptor,
            "description": description.0, "close_on_exec": close_on_exec,
        }),
        Happening::Described { description } => {
            json!({ "what": "described", "description": description_json(description) })
        }
        Happening::Closed { descriptor, description, last } => json!({
            "what": "closed", "descriptor": descriptor, "description": description.0,
            "last": last,
        }),
        Happening::Copied { from } => json!({ "what": "copied", "from_table": from.0 }),
        Happening::Shared => json!({ "what": "shared" }),
        Happening::Sent { descriptor, description, stream, position } => json!({
            "what": "sent", "descriptor": descriptor, "description": description.0,
            "stream": stream.0, "position": position,
        }),
        Happening::Received { descriptor, description, close_on_exec } => json!({
            "what": "received", "descriptor": descriptor, "description": description.0,
            "close_on_exec": close_on_exec,
        }),
        Happening::Positioned { description, offset } => json!({
            "what": "positioned", "description": description.0, "offset": offset.value,
        }),
        Happening::Resized { description, length } => {
            json!({ "what": "resized", "description": description.0, "length": length })
        }
        Happening::Transferred(transfer) => transfer_json(transfer),
    }
}

fn transfer_json(transfer: &Transfer) -> Value {
    let direction = match transfer.direction {
        Direction::Read => "read",
        Direction::Write => "write",
    };
    let memory = transfer.memory.iter().map(range_json);
    json!({
        "what": direction,
        "descriptor": transfer.descriptor,
        "description": transfer.description.0,
        "stream": transfer.stream.0,
        "start": transfer.start,
        "length": transfer.length,
        "offset": offset_json(transfer.offset),
        "offset_assumed": transfer.offset.is_some_and(|offset| offset.assumed),
        "memory": memory.collect::<Vec<_>>(),
        "peeked": transfer.peeked,
        "order_uncertain": transfer.order_uncertain,
        "begun": transfer.begun.0,
        "counterpart": transfer.counterpart.as_ref().map(counterpart_json),
    })
}

fn range_json(range: &Range<Address>) -> Value {
    json!([crate::output::hex(range.start.0), range.end - range.start])
}

fn counterpart_json(counterpart: &Counterpart) -> Value {
    json!({
        "description": counterpart.description.0,
        "stream": counterpart.stream.0,
        "start": counterpart.start,
        "offset": offset_json(counterpart.offset),
    })
}

fn offset_json(offset: Option<Offset>) -> Value {
    offset.map(|offset| offset.value).into()
}

fn description_json(description: &Description) -> Value {
    let path = description.path.as_deref().map(names::text);
    json!({
        "id": description.id.0,
        "kind": kind_name(&description.kind),
        "path": path,
        "flags": description.flags,
        "offset": offset_json(description.offset),
        "reads": description.reads.0,
        "writes": description.writes.0,
        "inherited": description.inherited,
    })
}
