//! `pernosco trace tasks`.

use std::io::Write;

use rr_trace::{TaskEvent, TaskEventKind, Trace};
use serde_json::{Value, json};

use crate::names;
use crate::output::{Output, hex, json_line};

/// Of clone(2): a thread of the same process, not a new one.
const CLONE_THREAD: i32 = 0x10000;
const CORE_DUMPED: i32 = 0x80;

pub fn run(trace: &Trace, json: bool, output: &mut Output) -> anyhow::Result<()> {
    if !json {
        writeln!(output, "{:>10} {:>8}  what", "event", "tid")?;
    }
    for task in trace.tasks()? {
        let task = task?;
        if json {
            json_line(output, &as_json(&task))?;
        } else {
            writeln!(output, "{:>10} {:>8}  {}", task.event, task.tid, describe(&task.kind))?;
        }
    }
    Ok(())
}

fn describe(kind: &TaskEventKind) -> String {
    match kind {
        TaskEventKind::Clone { parent, flags, .. } if flags & CLONE_THREAD != 0 => {
            format!("thread, made by {parent}")
        }
        TaskEventKind::Clone { parent, .. } => format!("process, made by {parent}"),
        TaskEventKind::Exec { file_name, command_line, .. } => {
            let arguments: Vec<_> = command_line.iter().map(|word| names::text(word)).collect();
            format!("exec {}: {}", names::text(file_name), arguments.join(" "))
        }
        TaskEventKind::Exit { status } => describe_exit(*status),
        TaskEventKind::Detach => "detached: no longer recorded".to_owned(),
    }
}

/// A status of wait(2).
pub fn describe_exit(status: i32) -> String {
    let signal = status & 0x7f;
    if signal == 0 {
        return format!("exit {}", status >> 8 & 0xff);
    }
    let core = if status & CORE_DUMPED != 0 { ", core dumped" } else { "" };
    format!("killed by {}{core}", names::signal(signal))
}

fn as_json(task: &TaskEvent) -> Value {
    let (event, tid) = (task.event.0, task.tid.0);
    match &task.kind {
        TaskEventKind::Clone { parent, flags, own_namespace_tid } => json!({
            "event": event,
            "tid": tid,
            "kind": "clone",
            "parent": parent.0,
            "flags": hex(*flags as u32 as u64),
            "thread": flags & CLONE_THREAD != 0,
            "own_namespace_tid": own_namespace_tid.0,
        }),
        TaskEventKind::Exec {
            file_name,
            command_line,
            exe_base,
            interpreter_base,
            interpreter_name,
            ..
        } => json!({
            "event": event,
            "tid": tid,
            "kind": "exec",
            "file": String::from_utf8_lossy(file_name),
            "command_line":
                command_line.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>(),
            "exe_base": hex(exe_base.0),
            "interpreter_base": hex(interpreter_base.0),
            "interpreter": String::from_utf8_lossy(interpreter_name),
        }),
        TaskEventKind::Exit { status } => json!({
            "event": event,
            "tid": tid,
            "kind": "exit",
            "status": status,
            "description": describe_exit(*status),
        }),
        TaskEventKind::Detach => json!({ "event": event, "tid": tid, "kind": "detach" }),
    }
}
