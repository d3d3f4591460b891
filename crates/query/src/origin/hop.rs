//! A hop of the story as a row.

use iced_x86::Register;
use model::{Address, Moment, Tid};
use serde::Serialize;

use super::semantics::{State, cell};
use super::story::cell_bytes;
use crate::engine::Engine;
use crate::protocol::{Focus, FrameId, Hex, MomentText, Place};

/// See `docs/protocol.md`, `origin`.
#[derive(Clone, Debug, Serialize)]
pub struct Hop {
    pub depth: u32,
    pub kind: HopKind,
    pub bytes: (u64, u64),
    pub moment: MomentText,
    pub task: u32,
    pub place: Place,
    /// The innermost place in the user's own code, where `place` is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<Place>,
    /// The function of the system's that was called there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<FrameId>,
    pub text: String,
    pub value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operands: Vec<Operand>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    pub focus: Focus,
}

/// What happened to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HopKind {
    /// An instruction wrote them that did not have them from memory.
    Stored,
    /// They were taken from other memory.
    Copied,
    /// As an argument of a call, or its result.
    Passed,
    /// A system call.
    Kernel,
    /// Another task of the same process had them.
    Thread,
    /// Another process had them.
    Process,
    /// An instruction made them from its operands.
    Computed,
    /// They begin there.
    Source,
}

/// What an instruction worked with; it has an origin of its own.
#[derive(Clone, Debug, Serialize)]
pub struct Operand {
    pub name: String,
    pub value: String,
    /// Where it had that value.
    pub focus: Focus,
    /// What to ask the origin of there.
    pub data: String,
}

impl Operand {
    /// A register, in front of the instruction.
    pub fn register(
        register: Register,
        state: &State,
        role: &str,
        moment: Moment,
        task: u32,
    ) -> Operand {
        let size = register.size();
        let lowest = |register: Register| format!("{register:?}").to_lowercase();
        let bytes = cell(register).and_then(|cell| cell_bytes(state, cell)).unwrap_or_default();
        let first = usize::from(crate::effective::is_high(register));
        let bytes = bytes.get(first..first + size).unwrap_or_default();
        let full = register.full_register();
        let name = match (register.is_gpr(), crate::target::vector_number(register)) {
            (false, Some(number)) => format!("xmm{number}"),
            _ => lowest(full),
        };
        let data = format!("${name}");
        let name = lowest(register);
        Operand::new(name, role, number_of(bytes), data, moment, task)
    }

    /// Memory, in front of the instruction.
    pub fn memory(
        address: Address,
        length: u64,
        value: String,
        moment: Moment,
        task: u32,
    ) -> Operand {
        let name = format!("memory at {address}");
        Operand::new(name, "", value, raw(address, length), moment, task)
    }

    fn new(
        name: String,
        role: &str,
        value: String,
        data: String,
        moment: Moment,
        task: u32,
    ) -> Operand {
        let name = if role.is_empty() { name } else { format!("{name} ({role})") };
        let focus = Focus { data: Some(data.clone()), ..Focus::at(moment, task) };
        Operand { name, value, focus, data }
    }

    /// Under the name alone.
    pub fn without_role(mut self) -> Operand {
        if let Some(end) = self.name.find(" (") {
            self.name.truncate(end);
        }
        self
    }
}

/// Memory as the protocol names it: `@0x7ffe1000:16`.
pub fn raw(address: Address, length: u64) -> String {
    format!("@{:#x}:{length}", address.0)
}

/// Up to eight bytes as a number in hexadecimal, more as bytes.
pub fn number_of(bytes: &[u8]) -> String {
    if bytes.len() > 8 {
        return crate::target::hex(bytes);
    }
    let number = bytes.iter().rev().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let Hex(number) = Hex(number);
    format!("{number:#x}")
}

/// A task's number.
pub fn number(engine: &Engine<'_>, tid: Tid, moment: Moment) -> u32 {
    crate::target::task_at(engine, tid, moment)
}
