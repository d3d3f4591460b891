//! Messages, and the nouns in them: see `docs/protocol.md`.

use std::fmt;

use model::{Address, Moment};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use crate::failure::Failure;

pub const VERSION: u32 = 1;
/// Rows on each side that are sent unless the asker says otherwise, and at most.
pub const WINDOW: usize = 100;
pub const WINDOW_MAX: usize = 10_000;
/// Milliseconds that a question may take unless the asker says otherwise.
pub const DEADLINE: u64 = 30_000;

/// What an asker says.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Message {
    Cancel { cancel: u64 },
    Ask(Box<Request>),
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Request {
    /// The asker's number for it.
    pub ask: u64,
    pub question: String,
    #[serde(default)]
    pub focus: Focus,
    #[serde(default)]
    pub arguments: Map<String, Value>,
    #[serde(default)]
    pub window: Window,
    /// In milliseconds.
    #[serde(default)]
    pub deadline: Option<u64>,
    /// Where an earlier answer broke off.
    #[serde(default)]
    pub cursor: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Window {
    pub before: Option<usize>,
    pub after: Option<usize>,
}

/// Where a question is asked, and where a row leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Focus {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub moment: Option<MomentText>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub frame: Option<FrameId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<String>,
}

impl Focus {
    pub fn at(moment: Moment, task: u32) -> Focus {
        Focus { moment: Some(MomentText(moment)), task: Some(task), ..Focus::default() }
    }
}

/// A moment as a decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MomentText(pub Moment);

impl Serialize for MomentText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MomentText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.parse();
        number.map(|number| MomentText(Moment(number))).map_err(|_| {
            de::Error::custom(format!("`{text}` is no moment: decimal digits are wanted"))
        })
    }
}

/// An address or a register's value as a hexadecimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex(pub u64);

impl Hex {
    /// Accepts `0x` and hexadecimal digits.
    pub fn parse(text: &str) -> Option<Hex> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
        u64::from_str_radix(digits, 16).ok().map(Hex)
    }
}

impl From<Address> for Hex {
    fn from(address: Address) -> Hex {
        Hex(address.0)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// A call, and how deep in what was inlined there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameId {
    /// Behind the call instruction; 0 for what no call made.
    pub entry: Moment,
    /// 0 is the function itself, 1 what is inlined into it, and so on.
    pub inlined: u32,
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.entry, self.inlined)
    }
}

impl Serialize for FrameId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FrameId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parse = || {
            let (entry, inlined) = text.split_once('.').unwrap_or((&text, "0"));
            Some(FrameId { entry: Moment(entry.parse().ok()?), inlined: inlined.parse().ok()? })
        };
        parse().ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no frame: `MOMENT.DEPTH` is wanted"))
        })
    }
}

/// Where in the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The short name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The user's own code, not the system's.
    pub own: bool,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    Complete,
    /// The window is full; there is more.
    Rows,
    Deadline,
    Cancelled,
}

/// What an answerer says, a message each.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Rows {
        ask: u64,
        rows: Vec<Value>,
    },
    Progress {
        ask: u64,
        progress: Progress,
    },
    End {
        ask: u64,
        end: Ending,
        matched: String,
        exact: bool,
        before: Option<String>,
        after: Option<String>,
        times: Times,
    },
    Failed {
        ask: u64,
        /// `error`.
        end: &'static str,
        error: Failure,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub checked: u64,
    pub total: u64,
    pub matched: u64,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// Executing instructions, restoring included.
    pub execute: f64,
    pub total: f64,
}
