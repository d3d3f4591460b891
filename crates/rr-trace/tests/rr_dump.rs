//! Memory writes, mappings and task events, compared with `rr dump` where rr is installed.

mod support;

use std::path::Path;
use std::process::Command;

use model::PAGE_SIZE;
use rr_trace::{Frame, MMap, MapSource, MemWrite, TaskEvent, TaskEventKind, Trace};

/// A number as rr's `%p` writes it.
fn pointer(number: u64) -> String {
    if number == 0 { "(nil)".to_owned() } else { format!("{number:#x}") }
}

fn write_line(write: &MemWrite) -> String {
    let (tid, address, length) = (write.tid, pointer(write.address.0), pointer(write.length));
    format!("{{ tid:{tid}, addr:{address}, length:{length} }}")
}

fn mapping_line(trace: &Trace, mapping: &MMap) -> String {
    let name = match mapping.source {
        // rr dump does not say more about these.
        MapSource::Zero => "<ZERO>".to_owned(),
        _ => String::from_utf8(mapping.name.clone()).unwrap(),
    };
    let bit = |bit, letter| if mapping.prot & bit != 0 { letter } else { '-' };
    let sharing = if mapping.flags & 1 != 0 { 's' } else { 'p' };
    let (start, end) = (mapping.range.start.0, mapping.range.end.0);
    let file = trace.backing_path(mapping).unwrap();
    let file_offset = if file.is_some() { mapping.file_offset } else { 0 };
    format!(
        "{{ map_file:\"{name}\", addr:{}, length:{}, prot_flags:\"{}{}{}{sharing}\", \
         file_offset:{:#x}, device:{}, inode:{}, data_file:\"{}\", data_offset:{:#x}, \
         file_size:{:#x} }}",
        pointer(start),
        pointer(end - start),
        bit(1, 'r'),
        bit(2, 'w'),
        bit(4, 'x'),
        mapping.file_offset,
        mapping.device,
        mapping.inode,
        file.as_deref().unwrap_or(Path::new("")).display(),
        file_offset,
        mapping.stat.size,
    )
}

fn task_line(task: &TaskEvent) -> String {
    let tid = task.tid;
    match &task.kind {
        TaskEventKind::Clone { parent, flags, .. } => {
            format!("TraceTaskEvent::CLONE tid={tid} parent={parent} clone_flags={flags:#x}")
        }
        TaskEventKind::Exec { file_name, .. } => {
            let file = String::from_utf8_lossy(file_name);
            format!("TraceTaskEvent::EXEC tid={tid} file={file}")
        }
        TaskEventKind::Exit { status } => format!("TraceTaskEvent::EXIT tid={tid} status={status}"),
        TaskEventKind::Detach => format!("TraceTaskEvent::DETACH tid={tid}"),
    }
}

fn frame_line(frame: &Frame) -> String {
    format!("real_time:{:.6} global_time:{}", frame.monotonic_seconds, frame.event)
}

/// What we say, in rr's words and order.
fn ours(trace: &Trace) -> Vec<String> {
    let (mut mmaps, mut tasks) = (trace.mmaps().unwrap(), trace.tasks().unwrap());
    let mut lines = Vec::new();
    for frame in trace.frames().unwrap() {
        let frame = frame.unwrap();
        lines.push(frame_line(&frame));
        while let Some(task) = tasks.next_until(frame.event).unwrap() {
            lines.push(task_line(&task));
        }
        while let Some(mapping) = mmaps.next_until(frame.event).unwrap() {
            assert_eq!(mapping.range.start.0 % PAGE_SIZE, 0);
            lines.push(mapping_line(trace, &mapping));
        }
        lines.extend(frame.writes.iter().map(write_line));
    }
    lines
}

#[test]
fn writes_mappings_and_tasks_are_as_rr_dumps_them() {
    if Command::new("rr").arg("--version").output().is_err() {
        eprintln!("NOT CHECKED: no `rr` on PATH");
        return;
    }
    for (name, directory) in support::recordings() {
        let directory = directory.join("trace").canonicalize().unwrap();
        let trace = Trace::open(&directory).unwrap();
        let output = Command::new("rr").args(["dump", "-m", "-p", "-e"]).arg(&directory).output();
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        let theirs: Vec<&str> = output
            .lines()
            .map(|line| line.split(", event:").next().unwrap_or(line).trim())
            .filter(|line| {
                ["{ ", "real_time:", "TraceTaskEvent:"].iter().any(|start| line.starts_with(start))
            })
            .collect();
        let ours = ours(&trace);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(ours.len(), theirs.len(), "{name}");
    }
}
