//! Why a server does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot listen on {address}: {source}; is another server running there?")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot serve: {0}")]
    Runtime(io::Error),
    #[error("{path}: cannot keep bookmarks there: {source}")]
    StorageDirectory { path: PathBuf, source: io::Error },
    #[error("{path}: cannot keep bookmarks there: {source}; is it a database of another program?")]
    Storage { path: PathBuf, source: rusqlite::Error },
    #[error("--sources {given}: {what}")]
    SourceRule { given: String, what: &'static str },
    #[error("--sources {given}: {source}")]
    SourceDirectory { given: String, source: io::Error },
}
