//! What two checkpoints differ in, for people.

use std::collections::{BTreeMap, BTreeSet};

use machine::{Backing, Mapping, Page, Pages};
use model::{Address, PAGE_SIZE};
use serde::Serialize;

use super::{Checkpoint, Owner};
use crate::processor::{VectorRegisters, XsaveLayout};
use crate::registers::all_pairs;
use crate::task::Task;

/// Lines and pages that are named; of more there is only the number.
const LINES_MAX: usize = 40;
const PAGES_MAX: usize = 8;

struct Report {
    lines: Vec<String>,
    more: usize,
}

impl Report {
    fn line(&mut self, line: impl Into<String>) {
        if self.lines.len() < LINES_MAX {
            self.lines.push(line.into());
        } else {
            self.more += 1;
        }
    }

    fn compare<T: Serialize + ?Sized>(&mut self, what: &str, expected: &T, found: &T) {
        let bytes = |value: &T| postcard::to_extend(value, Vec::new()).expect("memory takes it");
        if bytes(expected) != bytes(found) {
            self.line(format!("{what} differ"));
        }
    }

    fn number(&mut self, what: &str, expected: u64, found: u64) {
        if expected != found {
            self.line(format!("{what}: expected {expected}, found {found}"));
        }
    }
}

impl Checkpoint {
    /// What is different in `found`, a line each; empty if the two are equal.
    pub fn differences(&self, found: &Checkpoint) -> Vec<String> {
        let mut report = Report { lines: Vec::new(), more: 0 };
        compare_sessions(&mut report, self, found);
        compare_tasks(&mut report, &self.session.tasks, &found.session.tasks);
        compare_spaces(&mut report, self, found);
        compare_memory(&mut report, self, found);
        if report.lines.is_empty() && self.encode_state() != found.encode_state() {
            report.line("the encoded states differ");
        }
        if report.more > 0 {
            report.lines.push(format!("and {} differences more", report.more));
        }
        report.lines
    }
}

fn compare_sessions(report: &mut Report, expected: &Checkpoint, found: &Checkpoint) {
    let (left, right) = (&expected.session, &found.session);
    report.number("moment", left.moment.0, right.moment.0);
    report.number("last event", left.last_event.0, right.last_event.0);
    report.number("ticks of ended tasks", left.former_ticks, right.former_ticks);
    report.number("tasks so far", left.tasks_created.into(), right.tasks_created.into());
    report.number("last number given", left.next_id.into(), right.next_id.into());
    report.compare("tick rules", &left.tick_rule, &right.tick_rule);
    report.compare("positions in the recording", &left.position, &right.position);
    report.compare("last tasks", &left.last_task, &right.last_task);
    report.compare("thread groups", &left.groups, &right.groups);
    report.compare("descriptors", &left.descriptors, &right.descriptors);
    report.compare("address spaces of ended tasks", &left.former_spaces, &right.former_spaces);
    report.compare("addresses with hooks", &left.hooks, &right.hooks);
    report.compare("phases", &(left.started, left.ended), &(right.started, right.ended));
    match (&expected.current, &found.current) {
        (None, None) => {}
        (Some(left), Some(right)) => {
            let phase = |current: &crate::source::Current| {
                (current.start, current.next_write, current.prepared, current.flush_record_bytes)
            };
            report.compare("phases of the event in progress", &phase(left), &phase(right));
        }
        (Some(left), None) => report.line(format!("event {} is not in progress", left.frame.event)),
        (None, Some(right)) => report.line(format!("event {} is in progress", right.frame.event)),
    }
}

fn compare_tasks(
    report: &mut Report,
    expected: &BTreeMap<model::Tid, Task>,
    found: &BTreeMap<model::Tid, Task>,
) {
    for tid in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let (left, right) = match (expected.get(tid), found.get(tid)) {
            (Some(left), Some(right)) => (left, right),
            (None, _) => {
                report.line(format!("there is a task {tid}"));
                continue;
            }
            (_, None) => {
                report.line(format!("there is no task {tid}"));
                continue;
            }
        };
        let before = report.lines.len() + report.more;
        for pair in all_pairs(&left.registers(), &right.registers()) {
            if pair.differs() {
                let crate::RegisterPair { name, expected, found } = pair;
                report
                    .line(format!("task {tid}: {name}: expected {expected:#x}, found {found:#x}"));
            }
        }
        report.number(&format!("task {tid}: ticks"), left.cpu.ticks, right.cpu.ticks);
        let (instructions, instructions_found) = (left.cpu.instructions, right.cpu.instructions);
        report.number(&format!("task {tid}: instructions"), instructions, instructions_found);
        compare_vectors(report, left, right);
        if report.lines.len() + report.more == before {
            report.compare(&format!("task {tid}: other things known"), left, right);
        }
    }
}

fn compare_vectors(report: &mut Report, expected: &Task, found: &Task) {
    if expected.cpu.vector == found.cpu.vector {
        return;
    }
    let layout = XsaveLayout::host();
    let listed = |task: &Task| -> BTreeMap<String, String> {
        let vector = VectorRegisters::new(&task.cpu.vector.normalised(), &layout);
        crate::listing(&task.registers(), &vector).into_iter().collect()
    };
    // The general registers have been compared.
    let general: BTreeSet<&str> = task_names(expected);
    let (left, right) = (listed(expected), listed(found));
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    for name in names.into_iter().filter(|name| !general.contains(name.as_str())) {
        let value = |side: &BTreeMap<String, String>| side.get(name).cloned();
        let (left, right) = (value(&left), value(&right));
        if left != right {
            let text = |value: Option<String>| value.unwrap_or_else(|| "0".into());
            let (left, right) = (text(left), text(right));
            report.line(format!("task {}: {name}: expected {left}, found {right}", expected.tid));
        }
    }
}

fn task_names(task: &Task) -> BTreeSet<&'static str> {
    task.registers().named().map(|(name, _)| name).collect()
}

fn compare_spaces(report: &mut Report, expected: &Checkpoint, found: &Checkpoint) {
    let ids =
        |checkpoint: &Checkpoint| -> Vec<u32> { checkpoint.spaces.keys().map(|id| id.0).collect() };
    if ids(expected) != ids(found) {
        let (left, right) = (ids(expected), ids(found));
        report.line(format!("address spaces: expected {left:?}, found {right:?}"));
    }
    for (id, (marks, contents)) in &expected.spaces {
        let Some((found_marks, found_contents)) = found.spaces.get(id) else { continue };
        let id = id.0;
        report.compare(&format!("address space {id}: marks"), marks, found_marks);
        let describe = |mappings: &[Mapping]| mappings.iter().map(describe).collect::<Vec<_>>();
        let left = describe(contents.mappings());
        let right = describe(found_contents.mappings());
        let first = left.iter().zip(&right).position(|(left, right)| left != right);
        let first = first.or((left.len() != right.len()).then_some(left.len().min(right.len())));
        if let Some(first) = first {
            let text = |side: &[String]| side.get(first).map_or("none".into(), String::clone);
            let (left, right) = (text(&left), text(&right));
            report.line(format!("address space {id}: expected mapping {left}, found {right}"));
        }
    }
    for (number, object) in &expected.objects {
        let length = found.objects.get(number).map_or(0, |object| object.length);
        report.number(&format!("shared object {number}: length"), object.length, length);
    }
}

/// A mapping without anything of this process.
fn describe(mapping: &Mapping) -> String {
    let machine::Protection { read, write, execute } = mapping.protection;
    let letter = |set: bool, letter: char| if set { letter } else { '-' };
    let protection: String =
        [letter(read, 'r'), letter(write, 'w'), letter(execute, 'x')].into_iter().collect();
    let backing = match &mapping.backing {
        Backing::Zero => "zero".into(),
        Backing::File { offset, length, .. } => format!("file {offset:#x}+{length:#x}"),
        Backing::Shared { object, offset } => format!("object {} {offset:#x}", object.number()),
    };
    format!("{}-{} {protection} {backing}", mapping.range.start, mapping.range.end)
}

fn compare_memory(report: &mut Report, expected: &Checkpoint, found: &Checkpoint) {
    let right: BTreeMap<Owner, &Pages> = found.memory().into_iter().collect();
    let mut named = 0;
    for (owner, left) in expected.memory() {
        let Some(right) = right.get(&owner) else { continue };
        for page in left.differences(right) {
            let (left, right) = (left.get(page), right.get(page));
            if left.is_some() && left == right {
                continue;
            }
            named += 1;
            if named <= PAGES_MAX {
                let (left, right) = (left.map(|page| &**page), right.map(|page| &**page));
                report.line(describe_page(owner, page, left, right));
            }
        }
    }
    if named > PAGES_MAX {
        report.line(format!("{} pages more differ", named - PAGES_MAX));
    }
}

fn describe_page(owner: Owner, page: u64, left: Option<&Page>, right: Option<&Page>) -> String {
    let owner = match owner {
        Owner::Space(number) => format!("address space {number}"),
        Owner::Object(number) => format!("shared object {number}"),
    };
    let start = page * PAGE_SIZE;
    let (Some(left), Some(right)) = (left, right) else {
        let which = if left.is_none() { "is not" } else { "is" };
        return format!("{owner}: page {} {which} as mapped", Address(start));
    };
    let differing = left.iter().zip(right).filter(|(left, right)| left != right).count();
    let first = left.iter().zip(right).position(|(left, right)| left != right).unwrap_or(0);
    let at = Address(start + first as u64);
    let (left, right) = (left[first], right[first]);
    format!(
        "{owner}: {at}: expected {left:#04x}, found {right:#04x} ({differing} bytes of the page)"
    )
}
