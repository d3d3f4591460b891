//! A value in one line.

mod scalar;

use symbols::{CompositeKind, Encoding, LinkAddress, Name, NamePart, demangle};

use crate::datum::{Context, Datum};
use crate::number::Int;
use crate::quote;
use crate::types::{ArrayKind, Kind, Ty};
use crate::value::{Badge, Format};
use crate::view::{Body, Part, Pointee, Shown, Step, View};

/// Levels of structures that are written out.
const LEVELS: u32 = 3;
/// Elements of a sequence that are written out.
const ELEMENTS_MAX: usize = 32;

/// A text that grows up to a number of characters.
#[derive(Debug)]
pub(crate) struct Line {
    pub text: String,
    left: usize,
    pub badges: Vec<Badge>,
    format: Format,
}

impl Line {
    pub fn new(characters_max: usize, format: Format) -> Line {
        Line { text: String::new(), left: characters_max, badges: Vec::new(), format }
    }

    pub fn push(&mut self, text: &str) {
        if self.is_full() {
            self.badge(Badge::Cut);
            return;
        }
        match text.char_indices().nth(self.left) {
            None => {
                self.left -= text.chars().count();
                self.text.push_str(text);
            }
            Some((end, _)) => {
                self.text.push_str(&text[..end]);
                self.left = 0;
                self.badge(Badge::Cut);
            }
        }
    }

    pub fn is_full(&self) -> bool {
        self.left == 0
    }

    pub fn badge(&mut self, badge: Badge) {
        if !self.badges.contains(&badge) {
            self.badges.push(badge);
        }
    }

    fn absent(&mut self, badge: Badge) {
        self.push(&badge.text());
        self.badge(badge);
    }

    /// The text, with a mark where it was cut.
    pub fn finish(mut self) -> (String, Vec<Badge>) {
        if self.badges.contains(&Badge::Cut) && !self.text.ends_with('…') {
            self.text.push('…');
        }
        (self.text, self.badges)
    }
}

impl Context<'_> {
    /// Writes a value, seen as it is shown.
    pub fn write_shown(&self, line: &mut Line, shown: &Shown) {
        self.write_at(line, shown, LEVELS);
    }

    fn write(&self, line: &mut Line, datum: &Datum, levels: u32) {
        if line.is_full() {
            return line.badge(Badge::Cut);
        }
        // Without looking behind pointers where that is not to be shown.
        self.write_at(line, &self.deeper().shown(datum), levels);
    }

    fn write_at(&self, line: &mut Line, shown: &Shown, levels: u32) {
        let datum = &shown.datum;
        if let crate::datum::Home::Absent(badge) = &datum.home {
            return line.absent(badge.clone());
        }
        match &shown.view {
            View::Printed(printed) => self.write_printed(line, shown, printed, levels),
            View::Parts(parts) => self.write_parts(line, datum, parts, levels),
            View::Pointer(pointee) => {
                if crate::parts::is_trait_object(&datum.ty) {
                    let pointer = self.member(datum, "pointer").map(|p| self.bits(&p));
                    line.push(&format!("{:#x}", pointer.and_then(Result::ok).unwrap_or(0)));
                } else {
                    self.write_pointer(line, datum);
                }
                // Rust's references are looked through everywhere.
                let reference = datum.ty.is_rust() && datum.ty.name.starts_with('&');
                if levels < LEVELS && !(reference && levels > 0) {
                    return;
                }
                match pointee {
                    Pointee::Open(inner) => {
                        line.push(" → ");
                        self.write_at(line, inner, levels - 1);
                    }
                    Pointee::Whole(inner) if !inner.ty.is_character() => {
                        line.push(" → ");
                        self.write(line, inner, levels - 1);
                    }
                    Pointee::Whole(_) => {}
                }
            }
            View::Array { .. } | View::Leaf => self.write_leaf(line, datum, levels),
        }
    }

    fn write_leaf(&self, line: &mut Line, datum: &Datum, levels: u32) {
        match &datum.ty.kind {
            Kind::Array(array) => self.write_array(line, datum, array, levels),
            Kind::Composite(composite) if composite.declaration => line.absent(Badge::Incomplete),
            Kind::Pointer(_) | Kind::Reference(_) => self.write_pointer(line, datum),
            Kind::Function => match datum.address() {
                Some(address) => line.push(&self.function_text(address.0)),
                None => line.push("{…}"),
            },
            Kind::Void => line.push(if datum.ty.is_rust() { "()" } else { "void" }),
            Kind::Unspecified => line.push(&datum.ty.name),
            Kind::Other(what) => line.absent(Badge::Broken(what.clone())),
            _ => match self.scalar(datum, line.format) {
                Ok(text) => line.push(&text),
                Err(badge) => line.absent(badge),
            },
        }
    }

    fn write_pointer(&self, line: &mut Line, pointer: &Datum) {
        if self.implicit_target(pointer).is_some() {
            return line.push("<dropped by the compiler>");
        }
        let address = match self.bits(pointer) {
            Ok(address) => address as u64,
            Err(badge) => return line.absent(badge),
        };
        if !matches!(line.format, Format::Natural | Format::Hex | Format::Text) {
            return line.push(&Int::new(u128::from(address), 64, false).text(line.format));
        }
        let Some(link) = pointer.ty.target() else { return };
        let target = self.types.follow(&pointer.ty, link);
        if let Kind::Function = target.kind {
            let text = if address == 0 { "0x0".to_owned() } else { self.function_text(address) };
            return line.push(&text);
        }
        line.push(&format!("{address:#x}"));
        if address == 0 {
            return;
        }
        if target.is_character() {
            let size = target.size.unwrap_or(1);
            match self.text_at(model::Address(address), size, None, line.left) {
                Ok((text, cut)) => {
                    line.push(" ");
                    line.push(&text);
                    if cut {
                        line.badge(Badge::Cut);
                    }
                }
                Err(badge) => line.badge(badge),
            }
        } else if let Some(symbol) = self.symbol_text(address) {
            line.push(&format!(" <{symbol}>"));
        }
    }

    /// The text at an address, in quotes, up to a zero or a length in characters; and whether it
    /// goes on.
    pub fn text_at(
        &self,
        address: model::Address,
        size: u64,
        length: Option<u64>,
        characters_max: usize,
    ) -> Result<(String, bool), Badge> {
        let size = size.clamp(1, 4) as usize;
        let wanted = length.unwrap_or(u64::MAX).min(characters_max.max(1) as u64 + 1) as usize;
        let mut bytes = self.read_some(address, wanted * size)?;
        let cut_by_memory = bytes.len() < wanted * size;
        if length.is_none() {
            let end = bytes.chunks(size).position(|c| c.iter().all(|b| *b == 0));
            if let Some(end) = end {
                bytes.truncate(end * size);
                return Ok((quoted(&bytes, size, characters_max), end > characters_max));
            }
        }
        let there = (bytes.len() / size) as u64;
        let cut = match length {
            Some(length) => length > there || there > characters_max as u64,
            None => true,
        };
        Ok((quoted(&bytes, size, characters_max), cut || cut_by_memory))
    }

    /// `name+4` for an address in a module.
    pub fn symbol_text(&self, address: u64) -> Option<String> {
        let address = model::Address(address);
        let loaded = &self.target.modules()[self.module_at(address)?];
        let link = LinkAddress::from_loaded(address, loaded.bias);
        let in_code = loaded.module.image().is_code(link);
        let module = &loaded.module;
        let symbol = if in_code { module.symbol_at(link) } else { module.data_symbol_at(link) }?;
        let name = demangle(&symbol.name).unwrap_or(symbol.name);
        let offset = link.0.wrapping_sub(symbol.range.start.0);
        Some(if offset == 0 { name } else { format!("{name}+{offset}") })
    }

    fn function_text(&self, address: u64) -> String {
        match self.symbol_text(address) {
            Some(name) => format!("{address:#x} <{name}>"),
            None => format!("{address:#x}"),
        }
    }

    fn write_array(&self, line: &mut Line, datum: &Datum, array: &ArrayKind, levels: u32) {
        let count = match self.length(&datum.ty, array) {
            Ok(Some(count)) => count,
            Ok(None) => return line.push("{…}"),
            Err(badge) => return line.absent(badge),
        };
        let element = self.types.follow(&datum.ty, &array.element);
        if array.dimensions.len() == 1
            && element.is_character()
            && (line.format == Format::Natural || line.format == Format::Text)
            && self.write_characters(line, datum, &element, count)
        {
            return;
        }
        if levels == 0 && count > 0 {
            return line.push("{…}");
        }
        let (open, close) = if datum.ty.is_rust() { ("[", "]") } else { ("{", "}") };
        line.push(open);
        for index in 0..count {
            if index > 0 {
                line.push(", ");
            }
            if line.is_full() || index as usize >= ELEMENTS_MAX {
                line.push("…");
                line.badge(Badge::Cut);
                break;
            }
            let element = self.element(datum, array, index as i64);
            self.write(line, &element, levels.saturating_sub(1));
        }
        line.push(close);
    }

    /// Writes an array as text, up to a zero, if it is one.
    fn write_characters(&self, line: &mut Line, datum: &Datum, of: &Ty, count: u64) -> bool {
        let size = of.size.unwrap_or(1).clamp(1, 4) as usize;
        let wanted = count.min(line.left as u64 + 1) as usize;
        let Ok(mut bytes) = self.bytes(datum, wanted * size) else { return false };
        let end = bytes.chunks(size).position(|c| c.iter().all(|b| *b == 0));
        let cut = end.is_none() && (wanted as u64) < count;
        bytes.truncate(end.map_or(bytes.len(), |end| end * size));
        // Bytes are mostly data.
        let readable = |b: &u8| b.is_ascii_graphic() || b" \n\r\t".contains(b);
        if matches!(of.kind, Kind::Base(Encoding::UnsignedCharacter))
            && line.format == Format::Natural
            && (end.is_none() || bytes.is_empty() || !bytes.iter().all(readable))
        {
            return false;
        }
        line.push(&quoted(&bytes, size, usize::MAX));
        if cut {
            line.badge(Badge::Cut);
        }
        true
    }

    fn write_parts(&self, line: &mut Line, datum: &Datum, parts: &[Part], levels: u32) {
        let Kind::Composite(composite) = &datum.ty.kind else { return };
        let rust = datum.ty.is_rust();
        if rust {
            match self.variant(datum, composite) {
                Ok(Some(variant)) => {
                    let name = variant.members.first().and_then(|member| member.name.clone());
                    line.push(&name.unwrap_or_default());
                }
                Ok(None) if datum.ty.true_name.starts_with('(') => {}
                Ok(None) => line.push(&base_name(&datum.ty.true_name)),
                Err(badge) => return line.absent(badge),
            }
        }
        if parts.is_empty() {
            return if rust {
                line.push(if datum.ty.true_name == "()" { "()" } else { "" });
            } else {
                line.push("{}");
            };
        }
        let tuple = rust && parts[0].name == "0";
        let union = composite.kind == CompositeKind::Union;
        let (open, close) = if tuple { ("(", ")") } else { ("{", "}") };
        if rust && !tuple && !line.text.ends_with(' ') && !line.text.is_empty() {
            line.push(" ");
        }
        line.push(open);
        if levels == 0 {
            line.push("…");
            return line.push(close);
        }
        let shown = parts.iter().filter(|part| !part.name.starts_with("static "));
        for (index, part) in shown.enumerate() {
            if index > 0 {
                line.push(if union { " | " } else { ", " });
            }
            if line.is_full() {
                line.badge(Badge::Cut);
                break;
            }
            if !tuple {
                // A base without its path.
                match part.step {
                    Step::Number(_) => line.push(&base_name(&part.name)),
                    _ => line.push(&part.name),
                }
                line.push(if rust { ": " } else { " = " });
            }
            self.write(line, &part.datum, levels - 1);
        }
        line.push(close);
    }

    fn write_printed(
        &self,
        line: &mut Line,
        shown: &Shown,
        printed: &crate::view::Printed,
        levels: u32,
    ) {
        for badge in &printed.badges {
            line.badge(badge.clone());
        }
        line.push(&printed.summary);
        let space = |line: &mut Line| {
            if !printed.summary.is_empty() {
                line.push(" ");
            }
        };
        match &printed.body {
            Body::Nothing => {}
            Body::Text { address, size, length } => {
                space(line);
                match self.text_at(*address, *size, *length, line.left) {
                    Ok((text, cut)) => {
                        line.push(&text);
                        if cut {
                            line.badge(Badge::Cut);
                        }
                    }
                    Err(badge) => line.absent(badge),
                }
            }
            Body::Instead(datum) => {
                space(line);
                self.write(line, datum, levels);
            }
            Body::Elements(elements) => {
                let count = elements.count();
                let fixed = printed.kind == crate::value::ValueKind::Structure;
                if let Some(count) = count.filter(|_| !fixed) {
                    space(line);
                    line.push(&format!("({count})"));
                }
                if count != Some(0) && levels > 0 {
                    if count.is_some() && !fixed || !printed.summary.is_empty() {
                        line.push(" ");
                    }
                    self.write_elements(line, shown, printed, levels);
                }
            }
        }
    }

    fn write_elements(
        &self,
        line: &mut Line,
        shown: &Shown,
        printed: &crate::view::Printed,
        levels: u32,
    ) {
        let Body::Elements(elements) = &printed.body else { return };
        let is_map = printed.kind == crate::value::ValueKind::Map;
        let square = shown.datum.ty.is_rust() && printed.kind == crate::value::ValueKind::Sequence;
        let wanted = ELEMENTS_MAX.min(line.left / 3 + 1);
        let (parts, trouble) = elements.range(self, 0, wanted + 1);
        let more = parts.len() > wanted;
        line.push(if square { "[" } else { "{" });
        for (index, part) in parts.iter().take(wanted).enumerate() {
            if index > 0 {
                line.push(", ");
            }
            if line.is_full() {
                break;
            }
            if is_map {
                let key = part.name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
                line.push(key.unwrap_or(&part.name));
                line.push(": ");
            } else if printed.kind == crate::value::ValueKind::Structure
                && !part.name.starts_with('[')
            {
                line.push(&part.name);
                line.push(if shown.datum.ty.is_rust() { ": " } else { " = " });
            }
            self.write(line, &part.datum, levels - 1);
        }
        if let Some(badge) = trouble {
            line.push(" ");
            line.absent(badge);
        } else if more {
            line.push(", …");
            line.badge(Badge::Cut);
        }
        line.push(if square { "]" } else { "}" });
    }
}

/// Characters of a size in quotes, so many of them.
fn quoted(bytes: &[u8], size: usize, characters_max: usize) -> String {
    if size == 1 {
        let mut end = bytes.len().min(characters_max);
        // Not in the middle of a character.
        while end < bytes.len() && end > 0 && bytes[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        return quote::string(&bytes[..end]);
    }
    let wide = bytes.chunks_exact(size).take(characters_max).map(|chunk| {
        let mut value = [0; 4];
        value[..chunk.len().min(4)].copy_from_slice(&chunk[..chunk.len().min(4)]);
        u32::from_le_bytes(value)
    });
    if size == 2 {
        let units: Vec<u16> = wide.map(|unit| unit as u16).collect();
        let decoded = char::decode_utf16(units);
        return quote::wide_string(decoded.map(|c| match c {
            Ok(c) => u32::from(c),
            Err(error) => u32::from(error.unpaired_surrogate()),
        }));
    }
    quote::wide_string(wide)
}

/// The last component of a type's name, with short arguments.
fn base_name(name: &str) -> String {
    if name.starts_with('&') || name.starts_with('[') || name.starts_with('*') {
        return name.to_owned();
    }
    let parsed = Name::parse(name);
    match parsed.parts.first() {
        Some(NamePart::Text(_)) => parsed.base(),
        _ => name.to_owned(),
    }
}
