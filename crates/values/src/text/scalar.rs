//! Numbers, characters, enumerators, pointers to members.

use symbols::{Encoding, Enumeration};

use super::base_name;
use crate::datum::{Context, Datum, mask};
use crate::number::{Int, float_text, integer_type};
use crate::quote;
use crate::types::{Kind, Ty};
use crate::value::{Badge, Format};

impl Context<'_> {
    /// Numbers, characters, enumerators.
    pub(super) fn scalar(&self, datum: &Datum, format: Format) -> Result<String, Badge> {
        let ty = &datum.ty;
        if ty.size == Some(0) {
            return Ok(ty.name.clone());
        }
        if let Kind::Base(Encoding::ComplexFloat) = ty.kind {
            return self.complex(datum);
        }
        if ty.size.is_none_or(|size| size > 16) {
            return Err(Badge::Broken(format!("{} has a strange size", ty.name)));
        }
        let bits = self.bits(datum)?;
        let width = datum.bits.map_or(ty.size.unwrap_or(0) * 8, |(_, bits)| bits);
        if let Kind::MemberPointer { to, .. } = &ty.kind {
            let target = self.types.follow(ty, to);
            return Ok(self.member_pointer(datum, &target, bits));
        }
        let Some((_, signed)) = integer_type(ty) else {
            let size = ty.size.unwrap_or(0);
            return Ok(match (&ty.kind, format) {
                (Kind::Base(Encoding::Float), Format::Natural | Format::Decimal | Format::Text) => {
                    float_text(bits, size, &ty.name)
                }
                _ => Int::new(bits, width, false).text(Format::Hex),
            });
        };
        let int = Int::new(bits, width, signed);
        if format == Format::Text && int.bits < 0x11_0000 {
            return Ok(quote::character(int.bits as u32));
        }
        if format != Format::Natural {
            return Ok(int.text(format));
        }
        Ok(match &ty.kind {
            Kind::Base(Encoding::Boolean) => match bits {
                0 => "false".to_owned(),
                1 => "true".to_owned(),
                other => format!("true ({other})"),
            },
            Kind::Base(Encoding::SignedCharacter | Encoding::UnsignedCharacter) => {
                format!("{} {}", int.value(), quote::byte(bits as u8))
            }
            Kind::Base(Encoding::Unicode) if ty.is_rust() => quote::character(bits as u32),
            Kind::Base(_) if ty.is_character() => {
                format!("{} {}", int.value(), quote::character(bits as u32))
            }
            Kind::Enumeration(enumeration) => enumerator_text(ty, enumeration, int),
            _ if ty.name == "byte" && ty.module.is_none() => int.text(Format::Hex),
            _ => int.text(Format::Natural),
        })
    }

    fn complex(&self, datum: &Datum) -> Result<String, Badge> {
        let size = datum.ty.size.unwrap_or(0) / 2;
        if !(2..=16).contains(&size) {
            return Err(Badge::Broken("a complex number of a strange size".to_owned()));
        }
        let bytes = self.bytes(datum, 2 * size as usize)?;
        let part = |from: usize| {
            let mut bits = [0; 16];
            bits[..size as usize].copy_from_slice(&bytes[from..from + size as usize]);
            float_text(u128::from_le_bytes(bits), size, "")
        };
        Ok(format!("{} + {}i", part(0), part(size as usize)))
    }

    /// Itanium C++ ABI, 2.3: of data an offset, -1 is null; of functions an address or an offset
    /// into the virtual table plus 1, and an adjustment.
    fn member_pointer(&self, datum: &Datum, target: &Ty, bits: u128) -> String {
        let Kind::MemberPointer { class, .. } = &datum.ty.kind else { return String::new() };
        if let Kind::Function = target.kind {
            let (function, adjustment) = (bits as u64, (bits >> 64) as u64);
            let text = match function {
                0 => "nullptr".to_owned(),
                offset if offset & 1 == 1 => format!("virtual function {}", (offset - 1) / 8),
                address => self.function_text(address),
            };
            let adjusted = if adjustment == 0 {
                String::new()
            } else {
                format!(", this adjustment {}", adjustment.cast_signed())
            };
            return format!("{text}{adjusted}");
        }
        let offset = bits & mask(64);
        if offset == mask(64) {
            return "nullptr".to_owned();
        }
        let class = self.types.follow(&datum.ty, class);
        let member = class.composite().and_then(|composite| {
            let mut members = composite.members.iter();
            let at = symbols::MemberPlace::Bytes(offset as u64);
            members.find(|member| member.place == at)?.name.clone()
        });
        match member {
            Some(name) => format!("&{}::{name}", class.name),
            None => format!("offset {offset}"),
        }
    }
}

fn enumerator_text(ty: &Ty, enumeration: &Enumeration, int: Int) -> String {
    let scope =
        if enumeration.scoped { format!("{}::", base_name(&ty.true_name)) } else { String::new() };
    let width_mask = mask(int.width);
    let bits_of = |value: i128| value.cast_unsigned() & width_mask;
    let enumerators = &enumeration.enumerators;
    let exact = enumerators.iter().find(|(_, value)| bits_of(*value) == int.bits);
    if let Some((name, _)) = exact {
        return format!("{scope}{name}");
    }
    let mut rest = int.bits;
    let mut names = Vec::new();
    if is_flags(enumeration, width_mask) {
        for (name, value) in enumerators {
            let value = bits_of(*value);
            if value != 0 && rest & value == value {
                names.push(format!("{scope}{name}"));
                rest &= !value;
            }
        }
    }
    if names.is_empty() {
        return int.text(Format::Natural);
    }
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names.join(" | ")
}

/// Whether no two enumerators share a bit.
fn is_flags(enumeration: &Enumeration, width_mask: u128) -> bool {
    let mut seen = 0u128;
    enumeration.enumerators.iter().all(|(_, value)| {
        let value = value.cast_unsigned() & width_mask;
        let fresh = seen & value == 0;
        seen |= value;
        // Several bits of one flag are beside each other.
        let bits = value >> value.trailing_zeros().min(127);
        fresh && bits & bits.wrapping_add(1) == 0
    })
}
