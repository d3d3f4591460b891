//! Integers with their suffixes.

use symbols::Language;

use crate::number::{Int, integer_type};
use crate::types::base_named;

/// What an integer is, and whether it takes the type of what it meets. None if there is no such
/// suffix.
pub(super) fn integer(value: u128, suffix: &str, decimal: bool) -> Option<(Int, bool)> {
    let suffix = suffix.trim_start_matches('_').to_lowercase();
    if let Some(ty) = base_named(&suffix, Language::Rust)
        && let Some((width, signed)) = integer_type(&ty)
    {
        return Some((Int::new(value, width, signed), false));
    }
    let fits = |width: u64, signed: bool| {
        value <= crate::datum::mask(if signed { width - 1 } else { width })
    };
    let (unsigned, long) = match suffix.as_str() {
        "" => (false, false),
        "u" => (true, false),
        "l" | "ll" | "z" => (false, true),
        "ul" | "ull" | "lu" | "llu" | "uz" | "zu" => (true, true),
        _ => return None,
    };
    // C17, 6.4.4.1: the first type of the list that it fits.
    let widths: &[u64] = if long { &[64, 128] } else { &[32, 64, 128] };
    let mut choices = widths.iter().flat_map(|width| [(*width, true), (*width, false)]);
    let chosen = choices.find(|(width, signed)| {
        let allowed = if *signed { !unsigned } else { unsigned || !decimal || *width == 128 };
        allowed && fits(*width, *signed)
    });
    let (width, signed) = chosen.unwrap_or((128, false));
    Some((Int::new(value, width, signed), suffix.is_empty()))
}
