//! What a question about data is about: memory or a register, by expression, address or name.

use std::sync::Arc;

use model::{Address, Moment};
use values::{Lives, Options, Value, ValueKind};

use crate::ask::Asked;
use crate::engine::{Engine, Here};
use crate::eval::FrameView;
use crate::failure::{Code, Failure};
use crate::memory_identity::Bytes;
use crate::protocol::Hex;

/// Bytes that one question may be about.
pub const LENGTH_MAX: u64 = 65_536;

/// Something with a content at a moment.
#[derive(Clone, Debug)]
pub struct Subject {
    pub here: Here,
    pub space: u32,
    /// As asked for.
    pub name: String,
    pub shape: Shape,
    pub parts: Vec<Part>,
}

/// How its bytes are to be read.
#[derive(Clone, Debug)]
pub struct Shape {
    pub kind: ValueKind,
    pub type_name: Arc<str>,
}

/// Where a part of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Memory {
        address: Address,
        length: u64,
    },
    /// By the psABI's number; so many bytes from one on.
    Register {
        number: u16,
        first: u64,
        length: u64,
    },
    Nowhere {
        length: u64,
    },
}

impl Part {
    pub fn length(&self) -> u64 {
        match self {
            Part::Memory { length, .. }
            | Part::Register { length, .. }
            | Part::Nowhere { length } => *length,
        }
    }
}

impl Subject {
    /// From the arguments `expression`, `address` and `length`, or `register`.
    ///
    /// # Errors
    ///
    /// [`Code::BadRequest`] if none of them is there; what evaluating the expression says.
    pub fn read(engine: &mut Engine<'_>, asked: &Asked<'_>) -> Result<Subject, Failure> {
        let focus = &asked.request.focus;
        let here = engine.here(focus)?;
        let mut expression: Option<String> = asked.optional("expression")?;
        let mut address: Option<String> = asked.optional("address")?;
        let mut length: Option<u64> = asked.optional("length")?;
        let mut register: Option<String> = asked.optional("register")?;
        if expression.as_deref().is_some_and(is_register) {
            register = expression.take();
        }
        if let Some((at, size)) = expression.as_deref().and_then(raw) {
            (expression, address, length) = (None, Some(at), Some(size));
        }
        let session = engine.at(here.moment)?;
        let space = session.space_id(here.tid).map(|space| space.0).ok_or_else(|| {
            let what = format!("task {} is not alive at moment {}", here.task, here.moment);
            Failure::new(Code::NoSuchTask, what)
        })?;
        let bytes = Shape { kind: ValueKind::Number, type_name: "".into() };
        if let Some(text) = address {
            let address = Hex::parse(&text)
                .ok_or_else(|| Failure::new(Code::BadRequest, format!("`{text}` is no address")))?;
            let length = length.unwrap_or(1);
            check(length)?;
            let address = Address(address.0);
            let name = format!("{length} bytes at {address}");
            let parts = vec![Part::Memory { address, length }];
            return Ok(Subject { here, space, name, shape: bytes, parts });
        }
        if let Some(name) = register {
            let plain = name.trim_start_matches('$');
            let number = REGISTERS.iter().position(|known| *known == plain).ok_or_else(|| {
                let failure = Failure::new(Code::NoSuchName, format!("no register is `{plain}`"));
                failure.hint("rax to r15, xmm0 to xmm15")
            })?;
            let length = if number > 16 { 16 } else { 8 };
            let parts = vec![Part::Register { number: number as u16, first: 0, length }];
            return Ok(Subject { here, space, name, shape: bytes, parts });
        }
        let Some(text) = expression else {
            let what = "one of expression, address and length, or register is wanted";
            return Err(Failure::new(Code::BadRequest, what));
        };
        let view = FrameView::of_focus(engine, focus)?;
        let value = view.show(engine, &text, &[], &Options::default())?;
        let subject = Subject {
            here,
            space,
            shape: Shape { kind: value.kind, type_name: value.type_name.as_str().into() },
            parts: parts(&value),
            name: text,
        };
        check(subject.parts.iter().map(Part::length).sum())?;
        Ok(subject)
    }

    /// Its memory, if it is in memory.
    ///
    /// # Errors
    ///
    /// [`Code::NotAvailable`] otherwise.
    pub fn memory(&self, engine: &Engine<'_>) -> Result<Bytes, Failure> {
        let Some((address, length)) = self.span() else {
            let what = format!("{} is not in memory at moment {}", self.name, self.here.moment);
            return Err(
                Failure::new(Code::NotAvailable, what).hint("`origin` follows values in registers")
            );
        };
        Ok(Bytes::at(engine.db, self.space, address, length, self.here.moment))
    }

    /// Address and length of what is in memory.
    pub fn span(&self) -> Option<(Address, u64)> {
        let memory = |part: &Part| match part {
            Part::Memory { address, length } => Some((*address, *length)),
            _ => None,
        };
        self.parts.iter().find_map(memory).filter(|(_, length)| *length > 0)
    }
}

/// `@0x7ffe1000:16`.
fn raw(text: &str) -> Option<(String, u64)> {
    let (address, length) = text.trim().strip_prefix('@')?.split_once(':')?;
    Some((address.to_owned(), length.parse().ok()?))
}

/// `$rax`.
fn is_register(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(|name| REGISTERS.contains(&name))
}

fn check(length: u64) -> Result<(), Failure> {
    if length <= LENGTH_MAX {
        return Ok(());
    }
    let what = format!("{length} bytes are more than {LENGTH_MAX}");
    Err(Failure::new(Code::BadRequest, what).hint("ask about a part"))
}

/// Where a value is, by bytes.
fn parts(value: &Value) -> Vec<Part> {
    let part = |lives: &Lives| match *lives {
        Lives::Memory { address, size } => Part::Memory { address, length: size },
        Lives::MemoryBits { address, first_bit, bits } => Part::Memory {
            address: address + first_bit / 8,
            length: (first_bit % 8 + bits).div_ceil(8),
        },
        Lives::Register { number, first_bit, bits } => {
            Part::Register { number, first: first_bit / 8, length: bits.div_ceil(8) }
        }
        Lives::Nowhere { bits } => Part::Nowhere { length: bits.div_ceil(8) },
    };
    value.lives.iter().map(part).collect()
}

impl Shape {
    /// What bytes mean, in a line.
    pub fn text(&self, content: &[Option<u8>]) -> String {
        let Some(bytes) = content.iter().copied().collect::<Option<Vec<u8>>>() else {
            return "not mapped".into();
        };
        let name = &*self.type_name;
        match (self.kind, bytes.len()) {
            (ValueKind::Number, 4) if name.contains("float") || name == "f32" => {
                f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).to_string()
            }
            (ValueKind::Number, 8) if name.contains("double") || name == "f64" => {
                f64::from_bits(little(&bytes) as u64).to_string()
            }
            (ValueKind::Pointer | ValueKind::Function, 1..=8) => format!("{:#x}", little(&bytes)),
            (ValueKind::Boolean, 1) if bytes[0] < 2 => (bytes[0] == 1).to_string(),
            (ValueKind::Character, 1) => character(bytes[0]),
            (ValueKind::Number | ValueKind::Enumeration, 1..=16) => {
                let bits = little(&bytes);
                let unused = 128 - 8 * bytes.len() as u32;
                let unsigned =
                    name.is_empty() || name.contains("unsigned") || name.starts_with('u');
                match unsigned || name == "size_t" {
                    true => bits.to_string(),
                    false => (((bits << unused) as i128) >> unused).to_string(),
                }
            }
            _ => hex(&bytes),
        }
    }
}

fn little(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

fn character(byte: u8) -> String {
    match byte {
        0x20..=0x7e => format!("{} '{}'", byte as i8, char::from(byte)),
        _ => format!("{} '\\{byte:o}'", byte as i8),
    }
}

/// Two digits a byte, 32 bytes at most.
pub fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 32;
    let mut text = String::new();
    for (index, byte) in bytes.iter().take(SHOWN).enumerate() {
        if index > 0 {
            text.push(' ');
        }
        text += &format!("{byte:02x}");
    }
    if bytes.len() > SHOWN {
        text += " …";
    }
    text
}

/// The moment at which there is nothing more to say about a task.
pub fn task_at(engine: &Engine<'_>, tid: model::Tid, moment: Moment) -> u32 {
    engine.db.history.task(tid, moment).map_or(0, |task| task.number.0)
}

/// Number of an xmm, ymm or zmm register.
pub fn vector_number(register: iced_x86::Register) -> Option<u8> {
    use iced_x86::Register as R;
    let kinds = [(R::XMM0, R::XMM31), (R::YMM0, R::YMM31), (R::ZMM0, R::ZMM31)];
    let number = register as u32;
    let (first, _) =
        kinds.into_iter().find(|(first, last)| (*first as u32..=*last as u32).contains(&number))?;
    Some((number - first as u32) as u8)
}

/// Names by the psABI's numbers.
pub const REGISTERS: [&str; 33] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
    "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
];
