//! What can be wrong with a recording.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a recording cannot be read. Offsets of streams count decompressed bytes unless said
/// otherwise in the reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", file.display())]
    Io { file: PathBuf, source: io::Error },
    /// A file of the recording cannot be written.
    #[error("{}{}", file.display(), advice(source))]
    Write { file: PathBuf, source: io::Error },
    #[error(
        "{} is not a recording: it has no file `version` (give the directory that rr wrote)",
        directory.display()
    )]
    NotATrace { directory: PathBuf },
    #[error(
        "{} is incomplete: rr is still recording into it, or was killed before it could finish; \
         let the recording end, or record again",
        directory.display()
    )]
    Incomplete { directory: PathBuf },
    #[error(
        "{}: trace version {found}; only version {} (rr 5.4 and later) can be read: record again \
         with a current rr",
        file.display(),
        crate::TRACE_VERSION
    )]
    WrongVersion { file: PathBuf, found: u64 },
    /// The recording says itself that this reader is too old, or is of another processor.
    #[error("{}: {field} is {found}; supported: {supported}", file.display())]
    Unsupported { file: PathBuf, field: &'static str, found: i64, supported: &'static str },
    #[error("{}: corrupt at offset {offset}: {reason}", file.display())]
    Corrupt { file: PathBuf, offset: u64, reason: String },
    #[error("{}: truncated at offset {offset}: {reason}", file.display())]
    Truncated { file: PathBuf, offset: u64, reason: String },
    /// A legitimate recording would hardly need as much; a hostile one might.
    #[error("{}: at offset {offset}: {what} of {size} exceeds the limit {limit}", file.display())]
    TooLarge { file: PathBuf, offset: u64, what: &'static str, size: u64, limit: u64 },
    #[error(
        "the backing file name {name:?} of the mapping at {start} is not a plain file name; \
         the recording is damaged or hostile"
    )]
    BackingName { name: String, start: model::Address },
    /// What mappings show is not there, or not what it was. Not all may be listed.
    #[error("{}: {}", directory.display(), MappedFilesText { problems, more: *more })]
    MappedFiles { directory: PathBuf, problems: Vec<MappedFileProblem>, more: u64 },
    #[error("{}: another process is packing this recording; wait for it", directory.display())]
    Packing { directory: PathBuf },
}

/// Why a mapped file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFileProblem {
    pub file: PathBuf,
    pub what: String,
}

impl fmt::Display for MappedFileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

struct MappedFilesText<'a> {
    problems: &'a [MappedFileProblem],
    more: u64,
}

impl fmt::Display for MappedFilesText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MappedFilesText { problems, more } = self;
        match problems {
            [problem] if *more == 0 => return write!(f, "mapped file {problem}"),
            _ => write!(f, "{} mapped files are not as recorded", problems.len() as u64 + more)?,
        }
        for problem in *problems {
            write!(f, "\n  {problem}")?;
        }
        match more {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// What to do about failures of the system that are common.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            " (make room and try again: the recording is as it was)"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            " (copy the recording to where it can be written to)"
        }
        _ => "",
    }
}
