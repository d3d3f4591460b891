//! What can be wrong with a database or with what is to be put into it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a database cannot be written or read. Offsets count bytes from the beginning of the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}{}", file.display(), advice(source))]
    Io { file: PathBuf, source: io::Error },
    #[error(
        "{} is not a database: it has no file `manifest`; build one first",
        directory.display()
    )]
    NotADatabase { directory: PathBuf },
    #[error("{} exists already; resume it, or remove the directory", directory.display())]
    Exists { directory: PathBuf },
    #[error(
        "{}: format version {found}; this program reads version {supported}: build the database \
         again",
        file.display()
    )]
    WrongVersion { file: PathBuf, found: u64, supported: u64 },
    #[error("{}: another process is building this database; wait for it", directory.display())]
    Locked { directory: PathBuf },
    /// The database was begun from something else.
    #[error(
        "{} was begun with another {what}; remove the directory to build anew",
        directory.display()
    )]
    OtherBuild { directory: PathBuf, what: String },
    #[error("{}: the build is complete already", directory.display())]
    Complete { directory: PathBuf },
    #[error("{}: corrupt at offset {offset}: {reason}", file.display())]
    Corrupt { file: PathBuf, offset: u64, reason: String },
    /// What was given to be stored breaks the rules of its section.
    #[error("cannot store item {item} of {section}: {reason}")]
    Refused { section: String, item: u64, reason: &'static str },
    /// A write failed earlier: what was sealed before is good, nothing more is accepted.
    #[error("{}: an earlier write failed; resume the build", directory.display())]
    Poisoned { directory: PathBuf },
    /// Something was asked about a leaf that does not exist (yet).
    #[error("leaf {leaf} is not in the database, which has {leaves}")]
    NoSuchLeaf { leaf: u64, leaves: u64 },
    /// Lineages must be cut by whole copies: see [`crate::LINEAGE_MAX`].
    #[error("owner {owner} descends from more than {limit} others")]
    LineageTooDeep { owner: u32, limit: usize },
}

impl Error {
    pub(crate) fn io(file: &Path, source: io::Error) -> Error {
        Error::Io { file: file.to_owned(), source }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, reason: impl Into<String>) -> Error {
        Error::Corrupt { file: file.to_owned(), offset, reason: reason.into() }
    }
}

/// What to do about failures of the system that are common.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            " (make room and build again: what was sealed is kept)"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            " (copy the recording to where it can be written to)"
        }
        _ => "",
    }
}

/// Bytes that do not mean anything; where they lie is added by whoever read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub &'static str);
