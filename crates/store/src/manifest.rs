//! The manifest: what a database was built from, how, and how far. A text file, replaced as one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use crate::bytes::checksum;
use crate::error::Error;
use crate::files;
use crate::record::FORMAT_VERSION;

pub const NAME: &str = "manifest";
pub const TEMPORARY: &str = "manifest.new";
/// Bytes; a bound for hostile files.
const BYTES_MAX: u64 = 16 << 20;

/// What a database was built from, and how far that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Identifies the recording; meaningless here.
    pub identity: Vec<u8>,
    /// What decides about the bytes of the database; meaningless here.
    pub options: BTreeMap<String, String>,
    pub state: State,
}

/// How far a build came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is going on, or was killed.
    Building,
    Complete,
    /// The replay differs from the recording from the end of the last leaf on.
    Diverged(String),
    /// It was told to stop.
    Interrupted,
}

impl Manifest {
    /// Written whole or not at all.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        let (path, temporary) = (directory.join(NAME), directory.join(TEMPORARY));
        let write = || -> io::Result<()> {
            let mut file = files::make_empty(&temporary)?;
            file.write_all(self.print().as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(|source| {
            // Best effort: the error that matters is the first.
            _ = fs::remove_file(&temporary);
            Error::io(&path, source)
        })
    }

    pub fn read(directory: &Path) -> Result<Manifest, Error> {
        let path = directory.join(NAME);
        let bytes = match fs::metadata(&path) {
            Ok(data) if data.len() > BYTES_MAX => {
                return Err(Error::corrupt(&path, BYTES_MAX, "a manifest of more than 16 MiB"));
            }
            Ok(_) => read(&path).map_err(|source| Error::io(&path, source))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotADatabase { directory: directory.to_owned() });
            }
            Err(source) => return Err(Error::io(&path, source)),
        };
        Manifest::parse(&path, &bytes)
    }

    /// A line for each thing, a word and its value, and a checksum of all before in the last.
    fn print(&self) -> String {
        let mut text = format!("pernosco-database {FORMAT_VERSION}\n");
        let mut line = |word: &str, value: &str| {
            // Writing to a string does not fail.
            _ = writeln!(text, "{word} {}", escape(value));
        };
        line("identity", &hex(&self.identity));
        for (key, value) in &self.options {
            line("option", key);
            line("value", value);
        }
        match &self.state {
            State::Building => line("state", "building"),
            State::Complete => line("state", "complete"),
            State::Interrupted => line("state", "interrupted"),
            State::Diverged(reason) => {
                line("state", "diverged");
                line("reason", reason);
            }
        }
        let sum = checksum(text.as_bytes());
        _ = writeln!(text, "checksum {sum:016x}");
        text
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, Error> {
        let corrupt = |reason| Error::corrupt(path, 0, reason);
        let text = std::str::from_utf8(bytes).map_err(|_| corrupt("it is not text"))?;
        let version = text.lines().next().and_then(|line| line.strip_prefix("pernosco-database "));
        let version: u64 =
            version.and_then(|v| v.parse().ok()).ok_or_else(|| corrupt("it is no manifest"))?;
        if version != u64::from(FORMAT_VERSION) {
            let supported = u64::from(FORMAT_VERSION);
            return Err(Error::WrongVersion { file: path.to_owned(), found: version, supported });
        }
        let body = text.rfind("checksum ").map_or("", |at| &text[..at]);
        if text[body.len()..] != format!("checksum {:016x}\n", checksum(body.as_bytes())) {
            return Err(corrupt("its checksum is wrong"));
        }
        let mut lines = body.lines().skip(1);
        let manifest = parse_lines(&mut lines).filter(|_| lines.next().is_none());
        manifest.ok_or_else(|| corrupt("its lines are not as they should be"))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    files::open_to_read(path)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse_lines<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<Manifest> {
    let mut next = || {
        let (word, value) = lines.next()?.split_once(' ')?;
        Some((word, unescape(value)?))
    };
    let (word, identity) = next()?;
    let identity = unhex(&identity).filter(|_| word == "identity")?;
    let mut options = BTreeMap::new();
    loop {
        let (word, value) = next()?;
        match (word, value.as_str()) {
            ("option", key) => {
                let (word, value) = next()?;
                if word != "value" || options.insert(key.to_owned(), value).is_some() {
                    return None;
                }
            }
            ("state", state) => {
                let state = match state {
                    "building" => State::Building,
                    "complete" => State::Complete,
                    "interrupted" => State::Interrupted,
                    "diverged" => State::Diverged(next().filter(|(word, _)| *word == "reason")?.1),
                    _ => return None,
                };
                return Some(Manifest { identity, options, state });
            }
            _ => return None,
        }
    }
}

/// Keeps a value on its line.
fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('\n', r"\n").replace('\r', r"\r")
}

fn unescape(value: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(state: State) -> Manifest {
        let options = [("level", "3"), ("odd\nkey", "a\\n\r\n"), ("empty", "")];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Manifest { identity: vec![0, 1, 0xfe, 0xff], options, state }
    }

    #[test]
    fn comes_back_in_every_state() {
        let directory = tempfile::tempdir().unwrap();
        let states = [
            State::Building,
            State::Complete,
            State::Interrupted,
            State::Diverged("rax is 1\nnot 2; checksum of it".to_owned()),
        ];
        for state in states {
            let manifest = manifest(state);
            manifest.write(directory.path()).unwrap();
            assert_eq!(Manifest::read(directory.path()).unwrap(), manifest);
        }
    }

    #[test]
    fn every_damage_is_noticed() {
        let good = manifest(State::Diverged("x".to_owned())).print().into_bytes();
        let parse = |bytes: &[u8]| Manifest::parse("m".as_ref(), bytes);
        parse(&good).unwrap();
        for length in 0..good.len() {
            parse(&good[..length]).unwrap_err();
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            parse(&bad).unwrap_err();
        }
    }

    #[test]
    fn other_versions_are_refused_by_name() {
        let error = Manifest::parse("m".as_ref(), b"pernosco-database 999\nwhatever").unwrap_err();
        assert!(matches!(error, Error::WrongVersion { found: 999, .. }), "{error}");
    }
}
