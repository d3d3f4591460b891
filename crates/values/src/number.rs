//! Numbers: how they are read from bits, and written.

use symbols::{Encoding, Language};

use crate::datum::{mask, sign_extended};
use crate::types::{Kind, Ty};
use crate::value::Format;

/// An integer of some width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Int {
    /// The lowest bits; none above the width.
    pub bits: u128,
    /// In bits, at most 128.
    pub width: u64,
    pub signed: bool,
}

impl Int {
    pub fn new(bits: u128, width: u64, signed: bool) -> Int {
        let width = width.clamp(1, 128);
        Int { bits: bits & mask(width), width, signed }
    }

    /// The value, of which unsigned ones of 128 bits may become negative.
    pub fn value(self) -> i128 {
        if self.signed { sign_extended(self.bits, self.width) } else { self.bits.cast_signed() }
    }

    pub fn is_negative(self) -> bool {
        self.signed && self.value() < 0
    }

    /// With another width and sign, as a conversion does.
    pub fn converted(self, width: u64, signed: bool) -> Int {
        Int::new(self.value().cast_unsigned(), width, signed)
    }

    pub fn to_float(self) -> f64 {
        if self.signed { self.value() as f64 } else { self.bits as f64 }
    }

    pub fn text(self, format: Format) -> String {
        let digits = (self.width as usize).div_ceil(4);
        match format {
            Format::Hex => format!("0x{:0digits$x}", self.bits),
            Format::Octal => format!("0{:o}", self.bits),
            Format::Binary => format!("0b{:0width$b}", self.bits, width = self.width as usize),
            Format::Natural | Format::Decimal | Format::Text if self.signed => {
                self.value().to_string()
            }
            Format::Natural | Format::Decimal | Format::Text => self.bits.to_string(),
        }
    }
}

/// How the numbers of a type are stored: width in bits, sign. None if it has no integers.
pub(crate) fn integer_type(ty: &Ty) -> Option<(u64, bool)> {
    let bits = ty.size?.min(16) * 8;
    match &ty.kind {
        Kind::Base(encoding) => match encoding {
            Encoding::Signed | Encoding::SignedCharacter => Some((bits, true)),
            Encoding::Unsigned
            | Encoding::UnsignedCharacter
            | Encoding::Unicode
            | Encoding::Boolean
            | Encoding::Address => Some((bits, false)),
            Encoding::Float | Encoding::ComplexFloat | Encoding::Other(_) => None,
        },
        Kind::Enumeration(enumeration) => {
            // Without negative values compilers take an unsigned number.
            let negative = enumeration.enumerators.iter().any(|(_, value)| *value < 0);
            Some((bits, negative))
        }
        Kind::Pointer(_) | Kind::Reference(_) => Some((bits, false)),
        Kind::MemberPointer { .. } => Some((bits, true)),
        _ => None,
    }
}

/// A floating-point number from its bits. Wider ones lose digits.
pub(crate) fn float(bits: u128, size: u64, name: &str) -> f64 {
    match size {
        2 => half(bits as u16, name.contains("bf")),
        4 => f64::from(f32::from_bits(bits as u32)),
        8 => f64::from_bits(bits as u64),
        _ if name.contains("128") => wide(bits >> 112, (bits << 16) >> 64, 15, 16383),
        // x87: 64 bits of mantissa with its leading one, then sign and exponent.
        _ => {
            let (mantissa, top) = (bits as u64, (bits >> 64) as u16);
            let exponent = i32::from(top & 0x7fff);
            let magnitude = match (exponent, mantissa << 1) {
                (0x7fff, 0) => f64::INFINITY,
                (0x7fff, _) => f64::NAN,
                _ => scaled(mantissa, exponent.max(1) - 16383 - 63),
            };
            if top & 0x8000 != 0 { -magnitude } else { magnitude }
        }
    }
}

/// `mantissa * 2^exponent`, in steps that do not overflow on their way.
fn scaled(mantissa: u64, exponent: i32) -> f64 {
    let mut value = mantissa as f64;
    let mut left = exponent.clamp(-20_000, 20_000);
    while left != 0 {
        let step = left.clamp(-1000, 1000);
        value *= 2f64.powi(step);
        left -= step;
    }
    value
}

fn wide(top: u128, mantissa: u128, exponent_bits: u32, bias: i32) -> f64 {
    let exponent = (top as i32) & ((1 << exponent_bits) - 1);
    let negative = top >> exponent_bits & 1 == 1;
    let magnitude = match (exponent, mantissa) {
        (0x7fff, 0) => f64::INFINITY,
        (0x7fff, _) => f64::NAN,
        (0, _) => scaled(mantissa as u64, 1 - bias - 64),
        // The leading one is not stored.
        _ => scaled((mantissa as u64 >> 1) | 1 << 63, exponent - bias - 63),
    };
    if negative { -magnitude } else { magnitude }
}

fn half(bits: u16, brain: bool) -> f64 {
    if brain {
        return f64::from(f32::from_bits(u32::from(bits) << 16));
    }
    let exponent = i32::from(bits >> 10 & 0x1f);
    let mantissa = u64::from(bits & 0x3ff);
    let magnitude = match (exponent, mantissa) {
        (0x1f, 0) => f64::INFINITY,
        (0x1f, _) => f64::NAN,
        (0, _) => scaled(mantissa, -24),
        _ => scaled(mantissa | 0x400, exponent - 25),
    };
    if bits & 0x8000 != 0 { -magnitude } else { magnitude }
}

/// The shortest text that gives the same number again.
pub(crate) fn float_text(bits: u128, size: u64, name: &str) -> String {
    if size == 4 {
        return format!("{:?}", f32::from_bits(bits as u32));
    }
    let value = float(bits, size, name);
    let (mantissa, top) = (bits as u64, (bits >> 64) as u16);
    if size == 16 && !name.contains("128") && top & 0x7fff != 0x7fff {
        let fits = value.is_normal() || mantissa == 0;
        if mantissa.trailing_zeros() < 11 || !fits {
            return extended_text(mantissa, top);
        }
    }
    format!("{value:?}")
}

/// Significant digits that tell all numbers of x87 apart.
const EXTENDED_DIGITS: usize = 21;

/// A number of x87 in 21 digits, exactly rounded (half up).
fn extended_text(mantissa: u64, top: u16) -> String {
    let exponent = i32::from(top & 0x7fff).max(1) - 16383 - 63;
    // Written as digits times a power of ten: 2^-n is 5^n / 10^n.
    let mut digits = Decimal::from(mantissa);
    let mut ten = 0i32;
    if exponent >= 0 {
        (0..exponent).for_each(|_| digits.multiply(2));
    } else {
        (0..-exponent).for_each(|_| digits.multiply(5));
        ten = exponent;
    }
    let mut text = digits.text();
    if text.len() > EXTENDED_DIGITS {
        let dropped = text.len() - EXTENDED_DIGITS;
        let up = text.as_bytes()[EXTENDED_DIGITS] >= b'5';
        text.truncate(EXTENDED_DIGITS);
        ten += dropped as i32;
        if up {
            let next: u128 = text.parse::<u128>().unwrap_or(0) + 1;
            text = next.to_string();
        }
    }
    let point = text.len() as i32 + ten;
    let digits = text.trim_end_matches('0');
    let sign = if top & 0x8000 != 0 { "-" } else { "" };
    let body = match point {
        -4..=0 => format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
        1..=17 => {
            let point = point as usize;
            let whole: String = digits.chars().chain(std::iter::repeat('0')).take(point).collect();
            let rest = digits.get(point..).filter(|rest| !rest.is_empty()).unwrap_or("0");
            format!("{whole}.{rest}")
        }
        _ => {
            let (first, rest) = digits.split_at(digits.len().min(1));
            let dot = if rest.is_empty() { "" } else { "." };
            format!("{first}{dot}{rest}e{}", point - 1)
        }
    };
    format!("{sign}{body}")
}

/// A natural number, in groups of nine digits, the lowest first.
struct Decimal(Vec<u32>);

impl Decimal {
    const GROUP: u64 = 1_000_000_000;

    fn from(mut number: u64) -> Decimal {
        let mut groups = Vec::new();
        while number > 0 {
            groups.push((number % Self::GROUP) as u32);
            number /= Self::GROUP;
        }
        Decimal(groups)
    }

    fn multiply(&mut self, factor: u32) {
        let mut carry = 0;
        for group in &mut self.0 {
            let product = u64::from(*group) * u64::from(factor) + carry;
            *group = (product % Self::GROUP) as u32;
            carry = product / Self::GROUP;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn text(&self) -> String {
        let mut groups = self.0.iter().rev();
        let mut text = groups.next().map_or("0".to_owned(), u32::to_string);
        for group in groups {
            text.push_str(&format!("{group:09}"));
        }
        text
    }
}

/// The types of results: `int` and `double`, or `i32` and `f64`.
pub(crate) fn type_of_int(int: Int, language: Language) -> std::sync::Arc<Ty> {
    let size = (int.width / 8).max(1).next_power_of_two();
    let encoding = match (int.signed, size, language) {
        (true, 1, language) if language != Language::Rust => Encoding::SignedCharacter,
        (false, 1, language) if language != Language::Rust => Encoding::UnsignedCharacter,
        (true, ..) => Encoding::Signed,
        (false, ..) => Encoding::Unsigned,
    };
    crate::types::number_type(encoding, size, language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        let int = Int::new(0xffff_fffe, 32, true);
        assert_eq!(int.value(), -2);
        assert_eq!(int.text(Format::Hex), "0xfffffffe");
        assert_eq!(int.text(Format::Natural), "-2");
        assert_eq!(Int::new(u128::MAX, 128, false).text(Format::Decimal), u128::MAX.to_string());
        assert_eq!(Int::new(5, 4, false).text(Format::Binary), "0b0101");
        assert_eq!(int.converted(64, false).bits, 0xffff_ffff_ffff_fffe);
    }

    #[test]
    fn floats() {
        assert_eq!(float_text(u128::from(0.1f32.to_bits()), 4, "float"), "0.1");
        assert_eq!(float_text(u128::from(0.1f64.to_bits()), 8, "double"), "0.1");
        assert_eq!(float_text(u128::from(1e300f64.to_bits()), 8, "double"), "1e300");
        assert_eq!(float(0x3c00, 2, "_Float16"), 1.0);
        assert_eq!(float(0x0001, 2, "_Float16"), 2f64.powi(-24));
        assert_eq!(float(0x3f80, 2, "__bf16"), 1.0);
        // 1.5, 1.1 and the smallest and largest numbers of x87.
        let x87 = |mantissa: u64, top: u16| {
            float_text(u128::from(mantissa) | u128::from(top) << 64, 16, "long double")
        };
        assert_eq!(x87(0xc000_0000_0000_0000, 0x3fff), "1.5");
        assert_eq!(x87(0x8ccc_cccc_cccc_cccd, 0xbfff), "-1.10000000000000000002");
        assert_eq!(x87(1, 0), "3.64519953188247460253e-4951");
        assert_eq!(x87(u64::MAX, 0x7ffe), "1.18973149535723176502e4932");
        assert_eq!(x87(0x8000_0000_0000_0000, 0x7fff), "inf");
        assert_eq!(float(0x3fff_8000 << 96, 16, "_Float128"), 1.5);
    }
}
