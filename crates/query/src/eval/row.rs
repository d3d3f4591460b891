//! A value as rows have it.

use serde::{Serialize, Serializer};
use values::{Badge, Children, Lives, Value};

use crate::protocol::Hex;

/// See `docs/protocol.md`, nouns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValueRow {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    /// What the object is, where it is known to be another type than declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    pub text: String,
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Hex>,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The number of the register that it is in, in the psABI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<u16>,
    #[serde(skip_serializing_if = "Parts::is_none")]
    pub children: Parts,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub badges: Vec<String>,
}

/// How many children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    None,
    Count(u64),
    Unknown,
}

impl Parts {
    fn is_none(&self) -> bool {
        *self == Parts::None
    }
}

impl Serialize for Parts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Parts::Count(count) => serializer.serialize_u64(*count),
            Parts::None | Parts::Unknown => serializer.serialize_none(),
        }
    }
}

impl ValueRow {
    pub fn new(value: &Value) -> ValueRow {
        let (mut address, mut size, mut register) = (None, None, None);
        match &value.lives[..] {
            [Lives::Memory { address: at, size: bytes }] => {
                (address, size) = (Some((*at).into()), Some(*bytes));
            }
            [Lives::Register { number, .. }] => register = Some(*number),
            _ => {}
        }
        ValueRow {
            name: value.name.clone(),
            type_name: value.type_name.clone(),
            actual: value.actual_type.clone(),
            text: value.text.clone(),
            path: value.expression.clone(),
            address,
            size,
            register,
            children: match value.children {
                Children::None => Parts::None,
                Children::Count(count) => Parts::Count(count),
                Children::Unknown => Parts::Unknown,
            },
            badges: value.badges.iter().map(badge).collect(),
        }
    }

    /// As in a list of arguments: `serial=10`.
    pub fn in_list(&self) -> String {
        match self.badges.is_empty() {
            true => format!("{}={}", self.name, self.text),
            false => format!("{}=?", self.name),
        }
    }
}

fn badge(badge: &Badge) -> String {
    match badge {
        Badge::OptimisedOut => "optimised-out",
        Badge::Unreadable(_) => "not-readable",
        Badge::NotKnown(_) => "not-known",
        Badge::Incomplete => "incomplete",
        Badge::Cut => "cut",
        Badge::Implausible(_) => "not-plausible",
        Badge::Broken(_) => "broken",
        Badge::TooMuch => "too-much",
    }
    .to_owned()
}
