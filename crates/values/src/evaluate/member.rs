//! Members, elements, parts by number, registers, the text of what is like a string.

use std::sync::Arc;

use model::Address;
use symbols::{Encoding, Language, Piece, Place, TemplateValue};

use super::{Evaluator, Operand};
use crate::datum::{Context, Datum, Home, register_number};
use crate::error::Error;
use crate::number::Int;
use crate::syntax::{Node, Syntax};
use crate::types::{Kind, Ty, array_of, number_type, pointer_to, row_of};
use crate::value::{Badge, ValueKind};
use crate::view::{Body, View};

/// Pointers to pointers that are passed through to a member.
const POINTERS_MAX: u32 = 8;
/// Elements that are looked through for a key, or counted.
const ELEMENTS_MAX: u64 = 100_000;
/// Characters of a string that is compared.
const TEXT_MAX: usize = 1 << 20;

impl<'e> Evaluator<'e> {
    pub(super) fn member(&self, node: &Node, of: &Node, name: &str) -> Result<Datum, Error> {
        if let Syntax::Dollar(word) = &of.syntax
            && let Some(view) = vector_view(word, name)
        {
            return Ok(view);
        }
        let datum = self.datum(of)?;
        if let Some(found) = self.find_member(&datum, name) {
            return Ok(found);
        }
        let object = self.pointed(&datum);
        if let Home::Absent(badge) = &object.home {
            return Err(self.absent(of, badge.clone()));
        }
        let ty = &object.ty;
        if let Kind::Composite(composite) = &ty.kind {
            if composite.declaration {
                return Err(self.absent(of, Badge::Incomplete));
            }
            let names = crate::parts::member_names(&self.context, ty);
            let written = self.written(of);
            let shown = |known: &String| match self.written(node).strip_prefix(&written) {
                Some(rest) if rest.starts_with("->") => format!("{written}->{known}"),
                _ => format!("{written}.{known}"),
            };
            let candidates = names.iter().map(|known| (known.clone(), shown(known))).collect();
            let near = crate::bind::nearest(name, candidates);
            let scope = ty.name.clone();
            return Err(Error::Name { column: node.column, name: name.to_owned(), scope, near });
        }
        let what = format!("`{}` is of type {}, which has no members", self.written(of), ty.name);
        self.types(node, what)
    }

    /// What pointers and references lead to.
    fn pointed(&self, datum: &Datum) -> Datum {
        let mut datum = self.context.through_reference(datum);
        for _ in 0..POINTERS_MAX {
            if !matches!(datum.ty.kind, Kind::Pointer(_)) {
                break;
            }
            datum = self.context.through_reference(&self.context.pointee(&datum));
        }
        datum
    }

    /// A member, also of what a pointer points to, of the actual object, of what a smart pointer
    /// owns.
    fn find_member(&self, datum: &Datum, name: &str) -> Option<Datum> {
        let context = self.context.deeper();
        if context.nesting == 0 {
            return None;
        }
        let object = self.pointed(datum);
        if let Some((path, last)) = name.rsplit_once("::") {
            let base = context.base(&object, path).unwrap_or(object);
            return context.member(&base, last);
        }
        if let Some(found) = context.member(&object, name) {
            return Some(found);
        }
        if let Some(actual) = context.actual(&object)
            && let Some(found) = context.member(&actual, name)
        {
            return Some(found);
        }
        let inner = context.inside(&object)?;
        Evaluator { context, ..*self }.find_member(&inner, name)
    }

    pub(super) fn index(&self, node: &Node, of: &Node, index: &Node) -> Result<Datum, Error> {
        let datum = self.context.through_reference(&self.datum(of)?);
        let index_operand = self.evaluate(index)?;
        self.indexed(node, of, &datum, index, index_operand)
    }

    fn indexed(
        &self,
        node: &Node,
        of: &Node,
        datum: &Datum,
        index_node: &Node,
        index: Operand,
    ) -> Result<Datum, Error> {
        if let View::Printed(printed) = self.context.shown(datum).view {
            match printed.body {
                Body::Elements(elements) => {
                    let by_key = printed.kind == ValueKind::Map;
                    if by_key {
                        let key = self.key_text(&index);
                        return self.by_key(node, datum, &*elements, &key);
                    }
                    let number = self.index_number(index_node, index)?;
                    let wanted = u64::try_from(number).unwrap_or(u64::MAX);
                    let (parts, trouble) = elements.range(&self.context, wanted, 1);
                    return match (parts.into_iter().next(), trouble) {
                        (Some(part), _) => Ok(part.datum),
                        (None, Some(badge)) => Err(self.absent(node, badge)),
                        (None, None) => {
                            let count = elements.count().map_or(String::new(), |count| {
                                format!(": it has {count} elements")
                            });
                            self.types(index_node, format!("no element {number}{count}"))
                        }
                    };
                }
                Body::Instead(inner) => {
                    let inner = self.context.through_reference(&inner);
                    let ask = |deeper: &Evaluator<'e>| {
                        deeper.indexed(node, of, &inner, index_node, index)
                    };
                    return self.deeper(ask, node);
                }
                Body::Text { address, size, .. } => {
                    let number = self.index_number(index_node, index)?;
                    let encoding =
                        if size == 1 { Encoding::SignedCharacter } else { Encoding::Unicode };
                    let ty = number_type(encoding, size, Language::Cpp);
                    return Ok(Datum::at(ty, moved(address, number, size)));
                }
                Body::Nothing => {}
            }
        }
        let number = self.index_number(index_node, index.clone())?;
        if let Kind::Array(array) = &datum.ty.kind {
            return Ok(self.context.element(datum, array, number));
        }
        if let Kind::Pointer(link) = &datum.ty.kind {
            let target = self.context.types.follow(&datum.ty, link);
            if self.is_rust() && !matches!(target.kind, Kind::Base(_) | Kind::Pointer(_)) {
                let pointee = self.context.pointee(datum);
                return self
                    .deeper(|deeper| deeper.indexed(node, of, &pointee, index_node, index), node);
            }
            let address = self.context.bits(datum).map_err(|badge| self.absent(of, badge))?;
            let size = match target.kind {
                Kind::Void | Kind::Function => {
                    let what = format!("`{}` points to nothing of a size", self.written(of));
                    return self.types(node, what);
                }
                _ => self.context.size(&target).map_err(|badge| self.absent(node, badge))?,
            };
            return Ok(Datum::at(target, moved(Address(address as u64), number, size)));
        }
        let what =
            format!("`{}` is of type {}, which has no elements", self.written(of), datum.ty.name);
        self.types(node, what)
    }

    fn index_number(&self, node: &Node, index: Operand) -> Result<i64, Error> {
        match self.to_scalar(node, index)? {
            super::Scalar::Int { int, .. } => Ok(int.value() as i64),
            _ => self.types(node, "an index has to be an integer"),
        }
    }

    /// A key as names of parts have it.
    fn key_text(&self, key: &Operand) -> String {
        let mut line = crate::text::Line::new(1000, crate::value::Format::Natural);
        match key {
            Operand::Text(bytes) => return crate::quote::string(bytes),
            Operand::Datum(datum) => {
                self.context.write_shown(&mut line, &self.context.shown(datum));
            }
            Operand::Int { int, .. } => return int.text(crate::value::Format::Natural),
            other => {
                let datum = self.to_datum(other.clone());
                self.context.write_shown(&mut line, &self.context.shown(&datum));
            }
        }
        line.finish().0
    }

    fn by_key(
        &self,
        node: &Node,
        of: &Datum,
        elements: &dyn crate::view::Elements,
        key: &str,
    ) -> Result<Datum, Error> {
        let wanted = format!("[{key}]");
        let mut from = 0;
        while from < ELEMENTS_MAX {
            let (parts, trouble) = elements.range(&self.context, from, 1000);
            let count = parts.len() as u64;
            if let Some(part) = parts.into_iter().find(|part| part.name == wanted) {
                return Ok(part.datum);
            }
            if let Some(badge) = trouble {
                return Err(self.absent(node, badge));
            }
            if count < 1000 {
                return self.types(node, format!("{} has no key {key}", of.ty.name));
            }
            from += count;
        }
        Err(self.absent(node, Badge::TooMuch))
    }

    pub(super) fn slice(
        &self,
        node: &Node,
        of: &Node,
        from: Option<&Node>,
        to: Option<&Node>,
    ) -> Result<Datum, Error> {
        let datum = self.context.through_reference(&self.datum(of)?);
        let from = from.map_or(Ok(0), |from| self.count(from))?;
        let to = match to {
            Some(to) => self.count(to)?,
            None => match self.elements_of(&datum) {
                Some(count) => count,
                None => return self.types(node, "the end of the range is missing"),
            },
        };
        let Some(count) = to.checked_sub(from) else {
            return self.types(node, "the range ends before it begins");
        };
        let first = Operand::Int { int: Int::new(u128::from(from), 64, false), literal: false };
        if count == 0 {
            let ty = Arc::clone(&datum.ty);
            return Ok(Datum::at(array_of(&ty, 0), datum.address().unwrap_or_default()));
        }
        let first = self.indexed(node, of, &datum, node, first)?;
        match first.address() {
            Some(address) => Ok(Datum::at(array_of(&first.ty, count), address)),
            None => self.types(node, format!("`{}` is not in memory", self.written(of))),
        }
    }

    pub(super) fn part(&self, node: &Node, of: &Node, numbers: &[u64]) -> Result<Datum, Error> {
        let mut datum = self.datum(of)?;
        for number in numbers {
            let shown = self.context.shown(&datum);
            let found = self.context.parts(&shown, *number, 1);
            datum = match (found.parts.into_iter().next(), found.trouble) {
                (Some(part), _) => part.datum,
                (None, Some(badge)) => return Err(self.absent(node, badge)),
                (None, None) => return self.types(node, format!("there is no part {number}")),
            };
        }
        Ok(datum)
    }

    pub(super) fn length(&self, of: &Node) -> Result<Operand, Error> {
        let datum = self.context.through_reference(&self.datum(of)?);
        let datum = match datum.ty.kind {
            Kind::Pointer(_) => self.context.pointee(&datum),
            _ => datum,
        };
        match self.elements_of(&datum) {
            Some(count) => {
                let int = Int::new(u128::from(count), 64, false);
                Ok(Operand::Int { int, literal: false })
            }
            None => {
                let what = format!("the length of `{}` is not known", self.written(of));
                self.types(of, what)
            }
        }
    }

    /// How many elements a container or array has, how many bytes a string.
    fn elements_of(&self, datum: &Datum) -> Option<u64> {
        let datum = self.context.through_reference(datum);
        if let Kind::Array(array) = &datum.ty.kind {
            return self.context.length(&datum.ty, array).ok()?;
        }
        let View::Printed(printed) = self.context.shown(&datum).view else { return None };
        match printed.body {
            Body::Text { length, .. } => length,
            Body::Instead(inner) => {
                let context = self.context.deeper();
                let deeper = Evaluator { context, ..*self };
                if context.nesting == 0 { None } else { deeper.elements_of(&inner) }
            }
            Body::Elements(elements) => elements.count().or_else(|| {
                let (parts, trouble) = elements.range(&self.context, 0, ELEMENTS_MAX as usize);
                let all = trouble.is_none() && (parts.len() as u64) < ELEMENTS_MAX;
                all.then_some(parts.len() as u64)
            }),
            Body::Nothing => None,
        }
    }
}

/// The text of what is like a string: up to a zero, or as long as it says. None if it is no
/// string.
pub(crate) fn content(context: &Context<'_>, datum: &Datum) -> Result<Option<Vec<u8>>, Badge> {
    let datum = context.through_reference(datum);
    let up_to_zero = |mut bytes: Vec<u8>| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        bytes
    };
    match &datum.ty.kind {
        Kind::Array(array) => {
            let element = row_of(context.types, &datum.ty, array);
            if !element.is_character() || element.size != Some(1) {
                return Ok(None);
            }
            let count = context.length(&datum.ty, array)?.unwrap_or(0);
            let length = usize::try_from(count).unwrap_or(TEXT_MAX).min(TEXT_MAX);
            return Ok(Some(up_to_zero(context.bytes(&datum, length)?)));
        }
        Kind::Pointer(link) => {
            let target = context.types.follow(&datum.ty, link);
            if !target.is_character() || target.size != Some(1) {
                // Rust's `&String`.
                let pointee = context.pointee(&datum);
                let context = context.deeper();
                let is_string = context.nesting > 0
                    && matches!(pointee.ty.kind, Kind::Composite(_) | Kind::Pointer(_));
                return if is_string { content(&context, &pointee) } else { Ok(None) };
            }
            let mut at = Address(context.bits(&datum)? as u64);
            let mut text = Vec::new();
            while text.len() < TEXT_MAX {
                let more = context.read_some(at, 256)?;
                let length = more.len() as u64;
                let end = more.contains(&0);
                text.extend(up_to_zero(more));
                if end || length < 256 {
                    break;
                }
                at = at + length;
            }
            return Ok(Some(text));
        }
        _ => {}
    }
    let Some(printed) = context.printed(&datum)? else { return Ok(None) };
    match printed.body {
        Body::Text { address, size: 1, length } => {
            let length = length.and_then(|length| usize::try_from(length).ok());
            let length = length.unwrap_or(TEXT_MAX).min(TEXT_MAX);
            let mut bytes = vec![0; length];
            context.read(address, &mut bytes)?;
            Ok(Some(bytes))
        }
        Body::Instead(inner) => {
            let context = context.deeper();
            if context.nesting == 0 { Ok(None) } else { content(&context, &inner) }
        }
        _ => Ok(None),
    }
}

fn moved(address: Address, index: i64, size: u64) -> Address {
    address + index.cast_unsigned().wrapping_mul(size)
}

/// A type that a template has as argument.
pub(crate) fn template_argument(context: &Context<'_>, ty: &Ty, number: usize) -> Option<Arc<Ty>> {
    match ty.composite()?.template_arguments.get(number)?.value {
        TemplateValue::Type(id) => Some(context.types.of(ty, id)),
        _ => None,
    }
}

/// A register by its name, whole or in part.
pub(super) fn register(context: &Context<'_>, name: &str) -> Option<Datum> {
    if let Some((number, width, first)) = narrow_register(name) {
        let ty = number_type(Encoding::Unsigned, width / 8, Language::C);
        return Some(Datum {
            ty,
            home: in_register(number, first, width),
            bits: None,
            pointed: false,
        });
    }
    if let Some(number) = register_number(name) {
        let void = || pointer_to(&crate::types::void());
        let ty = match number {
            6 | 7 | 16 => void(),
            17..33 => number_type(Encoding::Unsigned, 16, Language::C),
            33..41 => number_type(Encoding::Float, 16, Language::C),
            _ => number_type(Encoding::Signed, 8, Language::C),
        };
        let bits = ty.size.unwrap_or(8) * 8;
        return Some(Datum { ty, home: in_register(number, 0, bits), bits: None, pointed: false });
    }
    let value = context.target.named_register(name)?;
    Some(Datum::number(number_type(Encoding::Unsigned, 8, Language::C), u128::from(value)))
}

fn in_register(number: u16, first_bit: u64, bits: u64) -> Home {
    let piece = Piece { bits: Some(bits), first_bit, place: Place::Register(number) };
    Home::Pieces([piece].into(), 0)
}

/// `eax`, `ax`, `al`, `ah`, `r8d`, `r8w`, `r8b`: the whole register, width and first bit.
fn narrow_register(name: &str) -> Option<(u16, u64, u64)> {
    if let Some(rest) = name.strip_prefix('r')
        && rest.starts_with(|c: char| c.is_ascii_digit())
    {
        let width = match rest.chars().next_back()? {
            'd' => 32,
            'w' => 16,
            'b' => 8,
            _ => return None,
        };
        return Some((register_number(&name[..name.len() - 1])?, width, 0));
    }
    if let Some(rest) = name.strip_prefix('e') {
        return Some((register_number(&format!("r{rest}")).filter(|n| *n < 8)?, 32, 0));
    }
    let whole = register_number(&format!("r{name}")).filter(|number| *number < 8);
    if let (Some(number), 2) = (whole, name.len()) {
        return Some((number, 16, 0));
    }
    if name == "sp" {
        return None;
    }
    let (first, last) = (name.chars().next()?, name.chars().nth(1)?);
    let legacy = ["a", "b", "c", "d"].contains(&first.to_string().as_str()) && name.len() == 2;
    match last {
        'l' if legacy => Some((register_number(&format!("r{first}x"))?, 8, 0)),
        'h' if legacy => Some((register_number(&format!("r{first}x"))?, 8, 8)),
        'l' => Some((register_number(&format!("r{}", name.strip_suffix('l')?))?, 8, 0)),
        _ => None,
    }
}

/// `$xmm0.v4_float` and the like.
fn vector_view(register: &str, view: &str) -> Option<Datum> {
    let number = register_number(register).filter(|number| (17..33).contains(number))?;
    let (encoding, size) = match view {
        "v4_float" => (Encoding::Float, 4),
        "v2_double" => (Encoding::Float, 8),
        "v16_int8" => (Encoding::Signed, 1),
        "v8_int16" => (Encoding::Signed, 2),
        "v4_int32" => (Encoding::Signed, 4),
        "v2_int64" => (Encoding::Signed, 8),
        "uint128" => (Encoding::Unsigned, 16),
        _ => return None,
    };
    let language = if size == 1 { Language::Rust } else { Language::C };
    let element = number_type(encoding, size, language);
    let ty = if size == 16 { element } else { array_of(&element, 16 / size) };
    Some(Datum { ty, home: in_register(number, 0, 128), bits: None, pointed: false })
}
