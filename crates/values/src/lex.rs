//! Splits an expression into words, numbers, strings and signs, of C, C++ and Rust alike.

use crate::error::Error;

/// Longer expressions are refused.
pub(crate) const LENGTH_MAX: usize = 16 << 10;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub kind: TokenKind,
    /// Where it begins, in characters from 1.
    pub column: usize,
    /// Bytes of the text.
    pub range: (usize, usize),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    Word(String),
    /// `$rax`, without its sign.
    Dollar(String),
    Integer {
        value: u128,
        suffix: String,
        decimal: bool,
    },
    Float {
        value: f64,
        suffix: String,
    },
    Character {
        value: u32,
        byte: bool,
    },
    Text(Vec<u8>),
    Sign(&'static str),
    End,
}

/// The longest first.
const SIGNS: [&str; 50] = [
    "<<=", ">>=", "..=", "->*", "<=>", "...", "::", "->", "++", "--", "<<", ">>", "<=", ">=", "==",
    "!=", "&&", "||", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "..", "+", "-", "*", "/",
    "%", "&", "|", "^", "~", "!", "<", ">", "=", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":",
];
const MORE_SIGNS: [&str; 3] = ["@", "#", ";"];

pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    if text.len() > LENGTH_MAX {
        let limit = LENGTH_MAX as u64;
        return Err(Error::Limit { column: 1, what: "the length of the expression", limit });
    }
    let mut lexer = Lexer { text, at: 0, column: 1, tokens: Vec::new() };
    while lexer.next()? {}
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    column: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn wrong<T>(&self, what: impl Into<String>) -> Result<T, Error> {
        Err(Error::Syntax { column: self.column, what: what.into() })
    }

    fn push(&mut self, kind: TokenKind, length: usize) {
        let text = &self.text[self.at..self.at + length];
        let columns = text.chars().count();
        let range = (self.at, self.at + length);
        self.tokens.push(Token { kind, column: self.column, range });
        self.at += length;
        self.column += columns;
    }

    /// Adds a token; false behind the last one.
    fn next(&mut self) -> Result<bool, Error> {
        while let Some(c) = self.rest().chars().next().filter(|c| c.is_whitespace()) {
            self.at += c.len_utf8();
            self.column += 1;
        }
        let rest = self.rest();
        let Some(c) = rest.chars().next() else {
            self.push(TokenKind::End, 0);
            return Ok(false);
        };
        if c.is_ascii_digit() {
            self.number()?;
            return Ok(true);
        }
        let prefix = ["u8\"", "b\"", "L\"", "u\"", "U\"", "c\""];
        if let Some(prefix) = prefix.iter().find(|prefix| rest.starts_with(**prefix)) {
            let skip = prefix.len() - 1;
            self.quoted_text(skip)?;
            return Ok(true);
        }
        if rest.starts_with("b'") || rest.starts_with("L'") || rest.starts_with("u'") {
            self.quoted_character(1, rest.starts_with('b'))?;
            return Ok(true);
        }
        match c {
            '"' => self.quoted_text(0)?,
            '\'' => self.quoted_character(0, false)?,
            '$' => {
                let length = word_length(&rest[1..]);
                let word = rest[1..=length].to_owned();
                self.push(TokenKind::Dollar(word), length + 1);
            }
            c if c.is_alphabetic() || c == '_' => {
                let length = word_length(rest);
                let word = rest[..length].to_owned();
                self.push(TokenKind::Word(word), length);
            }
            c => {
                let mut signs = SIGNS.iter().chain(&MORE_SIGNS);
                let Some(sign) = signs.find(|sign| rest.starts_with(**sign)) else {
                    return self.wrong(format!("`{c}` has no meaning here"));
                };
                self.push(TokenKind::Sign(sign), sign.len());
            }
        }
        Ok(true)
    }

    fn number(&mut self) -> Result<(), Error> {
        // Behind a dot or `#` come numbers of fields, which `0.1` is two of.
        let previous = self.tokens.last().map(|token| &token.kind);
        let is_field = matches!(previous, Some(TokenKind::Sign("." | "#")));
        let rest = self.rest();
        let radix = match rest.get(..2) {
            _ if is_field => 10,
            Some("0x" | "0X") => 16,
            Some("0b" | "0B") => 2,
            Some("0o") => 8,
            _ => 10,
        };
        let skip = if radix == 10 { 0 } else { 2 };
        let digits: usize = rest[skip..]
            .find(|c: char| !(c.is_digit(radix) || c == '_' || c == '\''))
            .unwrap_or(rest.len() - skip);
        if radix == 10 && !is_field && self.float(digits)? {
            return Ok(());
        }
        let written: String =
            rest[skip..skip + digits].chars().filter(|c| c.is_digit(radix)).collect();
        // C's octal numbers.
        let octal = radix == 10 && written.len() > 1 && written.starts_with('0') && !is_field;
        let radix = if octal { 8 } else { radix };
        let Ok(value) = u128::from_str_radix(&written, radix) else {
            return self.wrong("a number with wrong digits, or of more than 128 bits");
        };
        let end = skip + digits;
        let suffix = if is_field { 0 } else { word_length(&rest[end..]) };
        let suffix = rest[end..end + suffix].to_owned();
        let length = end + suffix.len();
        self.push(TokenKind::Integer { value, suffix, decimal: radix == 10 }, length);
        Ok(())
    }

    /// Reads a floating-point number whose first digits are known, if it is one.
    fn float(&mut self, digits: usize) -> Result<bool, Error> {
        let rest = self.rest();
        let mut end = digits;
        let bytes = rest.as_bytes();
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let mut is_float = false;
        // `1..3` is a range, `1.x` a member.
        if bytes.get(end) == Some(&b'.') && bytes.get(end + 1) != Some(&b'.') {
            let next = rest[end + 1..].chars().next();
            if !next.is_some_and(|c| c.is_alphabetic() && !"eEfFlL".contains(c) || c == '_') {
                is_float = true;
                end += 1;
                while digit(end) || bytes.get(end) == Some(&b'_') {
                    end += 1;
                }
            }
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            if digit(end + 1 + sign) {
                is_float = true;
                end += 1 + sign;
                while digit(end) {
                    end += 1;
                }
            }
        }
        let suffix = rest[end..end + word_length(&rest[end..])].to_owned();
        is_float |= ["f", "F", "f32", "f64", "_f32", "_f64"].contains(&suffix.as_str());
        if !is_float {
            return Ok(false);
        }
        let written: String = rest[..end].chars().filter(|c| *c != '_' && *c != '\'').collect();
        let Ok(value) = written.parse::<f64>() else {
            return self.wrong("a number that cannot be read");
        };
        let length = end + suffix.len();
        self.push(TokenKind::Float { value, suffix }, length);
        Ok(true)
    }

    fn quoted_text(&mut self, skip: usize) -> Result<(), Error> {
        let body = &self.rest()[skip + 1..];
        let mut bytes = Vec::new();
        let mut chars = body.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.push(TokenKind::Text(bytes), skip + at + 2);
                    return Ok(());
                }
                '\\' => match escape(&mut chars) {
                    Some(Escaped::Byte(byte)) => bytes.push(byte),
                    Some(Escaped::Character(c)) => {
                        bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    None => return self.wrong("an unknown escape sequence"),
                },
                c => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.wrong("a string without its closing quote")
    }

    fn quoted_character(&mut self, skip: usize, byte: bool) -> Result<(), Error> {
        let body = &self.rest()[skip + 1..];
        let mut chars = body.char_indices();
        let value = match chars.next() {
            Some((_, '\\')) => match escape(&mut chars) {
                Some(Escaped::Byte(value)) => u32::from(value),
                Some(Escaped::Character(c)) => u32::from(c),
                None => return self.wrong("an unknown escape sequence"),
            },
            Some((_, c)) if c != '\'' => u32::from(c),
            _ => return self.wrong("a character is missing between the quotes"),
        };
        match chars.next() {
            Some((at, '\'')) => {
                self.push(TokenKind::Character { value, byte }, skip + at + 2);
                Ok(())
            }
            _ => self.wrong("a character without its closing quote"),
        }
    }
}

enum Escaped {
    Byte(u8),
    Character(char),
}

fn escape(chars: &mut std::str::CharIndices<'_>) -> Option<Escaped> {
    let (_, c) = chars.next()?;
    let byte = match c {
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'v' => 11,
        'e' => 27,
        '\\' | '\'' | '"' | '?' => c as u8,
        '0'..='7' => u8::try_from(digits(chars, 3, 8, Some(c))?).ok()?,
        'x' => u8::try_from(digits(chars, 2, 16, None)?).ok()?,
        'u' if chars.as_str().starts_with('{') => {
            chars.next();
            let end = chars.as_str().find('}')?;
            let value = u32::from_str_radix(chars.as_str().get(..end)?, 16).ok()?;
            (0..=end).for_each(|_| {
                chars.next();
            });
            return char::from_u32(value).map(Escaped::Character);
        }
        'u' => return char::from_u32(digits(chars, 4, 16, None)?).map(Escaped::Character),
        'U' => return char::from_u32(digits(chars, 8, 16, None)?).map(Escaped::Character),
        _ => return None,
    };
    Some(Escaped::Byte(byte))
}

/// The number of at most so many digits that comes next.
fn digits(
    chars: &mut std::str::CharIndices<'_>,
    count: usize,
    radix: u32,
    first: Option<char>,
) -> Option<u32> {
    let mut text: String = first.into_iter().collect();
    let mut ahead = chars.clone();
    while text.len() < count
        && let Some((_, c)) = ahead.next().filter(|(_, c)| c.is_digit(radix))
    {
        text.push(c);
        *chars = ahead.clone();
    }
    u32::from_str_radix(&text, radix).ok()
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        match tokens(text) {
            Ok(tokens) => {
                let shown = tokens.iter().map(|token| match &token.kind {
                    TokenKind::Word(word) => word.clone(),
                    TokenKind::Dollar(word) => format!("${word}"),
                    TokenKind::Integer { value, suffix, .. } => format!("{value}:{suffix}"),
                    TokenKind::Float { value, suffix } => format!("{value:?}:{suffix}"),
                    TokenKind::Character { value, .. } => format!("'{value}"),
                    TokenKind::Text(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
                    TokenKind::Sign(sign) => (*sign).to_owned(),
                    TokenKind::End => format!("@{}", token.column),
                });
                shown.collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn splits() {
        assert_eq!(check("a->b[0x1F]"), "a -> b [ 31: ] @11");
        assert_eq!(check("t.0.1 e#0.2.5"), "t . 0: . 1: e # 0: . 2: . 5: @14");
        assert_eq!(check("1.5e3f 010 0b101u8 1'000ul 7_u64"), "1500.0:f 8: 5:u8 1000:ul 7:u64 @33");
        assert_eq!(check("v[1..3] 2.f 1f32"), "v [ 1: .. 3: ] 2.0:f 1.0:f32 @17");
        assert_eq!(
            check(r#"'\n' b'x' "a\x41\u{e9}\"" '\'"#),
            "column 27: a character without its closing quote"
        );
        assert_eq!(check(r#""\101é""#), "\"Aé\" @8");
        assert_eq!(check("$rax + ns::x"), "$rax + ns :: x @13");
        assert_eq!(check("a ` b"), "column 3: `\u{60}` has no meaning here");
    }
}
