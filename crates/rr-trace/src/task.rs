//! Task events: how tasks begin, turn into other programs, and end.

use model::{Address, Event, Tid};

/// Recorded while the frame `event` was processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEvent {
    pub event: Event,
    pub tid: Tid,
    pub kind: TaskEventKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEventKind {
    Clone {
        parent: Tid,
        /// Of clone(2).
        flags: i32,
        /// In the task's own pid namespace.
        own_namespace_tid: Tid,
    },
    Exec {
        file_name: Vec<u8>,
        command_line: Vec<Vec<u8>>,
        /// 0 where the recorder did not know.
        exe_base: Address,
        interpreter_base: Address,
        interpreter_name: Vec<u8>,
        pointer_authentication: Vec<u8>,
    },
    /// As wait(2) gives it.
    Exit {
        status: i32,
    },
    Detach,
}
