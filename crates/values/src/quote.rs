//! Characters and strings as they are written in source code.

/// A string in quotes: UTF-8 as it is, anything else escaped.
pub(crate) fn string(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut text, c, '"');
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text.push('"');
    text
}

/// A string of wide characters in quotes.
pub(crate) fn wide_string(characters: impl Iterator<Item = u32>) -> String {
    let mut text = String::from("\"");
    for value in characters {
        match char::from_u32(value) {
            Some(c) => push_escaped(&mut text, c, '"'),
            None => text.push_str(&format!("\\x{{{value:x}}}")),
        }
    }
    text.push('"');
    text
}

/// A character in quotes.
pub(crate) fn character(value: u32) -> String {
    let mut text = String::from("'");
    match char::from_u32(value) {
        Some(c) => push_escaped(&mut text, c, '\''),
        None => text.push_str(&format!("\\x{{{value:x}}}")),
    }
    text.push('\'');
    text
}

/// A byte as a character in quotes; only ASCII is one.
pub(crate) fn byte(value: u8) -> String {
    if value.is_ascii() { character(u32::from(value)) } else { format!("'\\x{value:02x}'") }
}

fn push_escaped(text: &mut String, c: char, delimiter: char) {
    match c {
        '\n' => text.push_str("\\n"),
        '\r' => text.push_str("\\r"),
        '\t' => text.push_str("\\t"),
        '\0' => text.push_str("\\0"),
        '\\' => text.push_str("\\\\"),
        '\x1b' => text.push_str("\\e"),
        c if c == delimiter => {
            text.push('\\');
            text.push(c);
        }
        c if c.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(c))),
        // Marks that would change the order of what is around them on the screen.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            text.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
        }
        c => text.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        assert_eq!(string(b"a\"b\n\x01\xffz\xc3\xa9'"), "\"a\\\"b\\n\\x01\\xffz\u{e9}'\"");
        assert_eq!(character(0x27), "'\\''");
        assert_eq!(character(0xd800), "'\\x{d800}'");
        assert_eq!(byte(0xe9), "'\\xe9'");
        assert_eq!(wide_string([0x48, 0x1f600].into_iter()), "\"H\u{1f600}\"");
    }
}
