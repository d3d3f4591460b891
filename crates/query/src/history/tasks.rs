//! Tasks of the run: birth, programs, death.

use std::collections::BTreeMap;

use model::{Moment, Tid};
use rr_trace::{TaskEventKind, Trace};
use serde::Serialize;

use super::History;
use crate::failure::Failure;

/// A task in order of birth, from 1: tids recur, these do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TaskNumber(pub u32);

/// A task and its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskLife {
    pub number: TaskNumber,
    pub tid: Tid,
    /// The first task of its process.
    pub process: TaskNumber,
    pub parent: Option<TaskNumber>,
    /// Programs that it executed, with their arguments, in order of time. A task that has executed
    /// none has its parent's.
    pub programs: Vec<Program>,
    pub begin: Moment,
    pub end: Option<Moment>,
    /// As wait(2) gives it.
    pub status: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub moment: Moment,
    pub file: String,
    pub arguments: Vec<String>,
}

impl TaskLife {
    /// The last part of the path of the program that it ran.
    pub fn name(&self) -> &str {
        let file = self.programs.last().map_or("", |program| &program.file);
        file.rsplit('/').next().unwrap_or(file)
    }
}

const CLONE_THREAD: i32 = 0x1_0000;

/// Reads the tasks of a recording, as far as the history reaches.
pub fn load(trace: &Trace, history: &History, end: Moment) -> Result<Vec<TaskLife>, Failure> {
    let mut tasks: Vec<TaskLife> = Vec::new();
    let mut live: BTreeMap<Tid, usize> = BTreeMap::new();
    let mut stream = trace.tasks()?;
    while let Some(event) = stream.next().transpose()? {
        let Some(moment) = history.moment_of(event.event).filter(|moment| *moment <= end) else {
            break;
        };
        let known = live.get(&event.tid).copied();
        match event.kind {
            TaskEventKind::Clone { parent, flags, .. } => {
                let parent = live.get(&parent).copied();
                let number = number(&tasks);
                let thread = flags & CLONE_THREAD != 0;
                let process = parent.filter(|_| thread).map_or(number, |at| tasks[at].process);
                let programs = parent.map(|at| tasks[at].programs.clone()).unwrap_or_default();
                live.insert(event.tid, tasks.len());
                tasks.push(TaskLife {
                    number,
                    tid: event.tid,
                    process,
                    parent: parent.map(|at| tasks[at].number),
                    programs,
                    begin: moment,
                    end: None,
                    status: None,
                });
            }
            TaskEventKind::Exec { file_name, command_line, .. } => {
                let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
                let program = Program {
                    moment,
                    file: text(&file_name),
                    arguments: command_line.iter().map(text).collect(),
                };
                let at = known.unwrap_or_else(|| {
                    live.insert(event.tid, tasks.len());
                    tasks.push(first(number(&tasks), event.tid, moment));
                    tasks.len() - 1
                });
                tasks[at].programs.push(program);
            }
            TaskEventKind::Exit { status } => {
                if let Some(at) = known {
                    (tasks[at].end, tasks[at].status) = (Some(moment), Some(status));
                    live.remove(&event.tid);
                }
            }
            TaskEventKind::Detach => {
                if let Some(at) = known {
                    tasks[at].end = Some(moment);
                    live.remove(&event.tid);
                }
            }
        }
    }
    Ok(tasks)
}

fn number(tasks: &[TaskLife]) -> TaskNumber {
    TaskNumber(tasks.len() as u32 + 1)
}

/// The task that the recording begins with.
fn first(number: TaskNumber, tid: Tid, begin: Moment) -> TaskLife {
    TaskLife {
        number,
        tid,
        process: number,
        parent: None,
        programs: Vec::new(),
        begin,
        end: None,
        status: None,
    }
}
