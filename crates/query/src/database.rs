//! An opened database with what is known of the whole run.

use rr_trace::Trace;
use store::Reader;

use crate::failure::{Code, Failure};
use crate::history::History;
use crate::modules::Modules;

/// Name of the database in the directory of its recording.
pub const DATABASE: &str = "pernosco.db";
/// Decoded chunks that are kept.
const CACHE_BYTES: usize = 256 << 20;

/// All that is known without executing anything. Threads may share it.
#[derive(Debug)]
pub struct Database {
    pub trace: Trace,
    pub reader: Reader,
    pub history: History,
    pub modules: Modules,
}

impl Database {
    /// Opens the database of a recording.
    ///
    /// # Errors
    ///
    /// [`Code::Database`] if there is none, it is of another recording or damaged.
    pub fn open(trace: Trace) -> Result<Database, Failure> {
        let directory = trace.directory().join(DATABASE);
        let recording = trace.directory().display();
        if !directory.join("manifest").exists() {
            let what = format!("the recording {recording} has no database");
            return Err(Failure::new(Code::Database, what)
                .hint(format!("make one with `pernosco build {recording}`")));
        }
        let reader = Reader::open(&directory, CACHE_BYTES)?;
        if reader.manifest().identity != trace.identity()? {
            let what = format!("{} belongs to another recording", directory.display());
            return Err(Failure::new(Code::Database, what)
                .hint(format!("remove it and run `pernosco build {recording}`")));
        }
        if reader.leaves() == 0 {
            let what = format!("the database {} is still empty", directory.display());
            return Err(Failure::new(Code::NotYet, what)
                .hint(format!("`pernosco build {recording}` makes it or goes on with it")));
        }
        let history = History::load(&trace, &reader)?;
        let modules = Modules::new(&trace, &history)?;
        Ok(Database { trace, reader, history, modules })
    }
}
