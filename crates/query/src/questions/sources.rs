//! `sources`: the source files that the recording's programs are made of. `source`: the text of
//! one.
//!
//! Line tables name files as they were called where the program was built. Their texts are not in
//! a recording unless somebody put them there, under `sources/` and the same path; whoever serves
//! a session may know other directories.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::ask::{Asked, Flow};
use crate::database::Database;
use crate::engine::Engine;
use crate::failure::{Code, Failure};
use crate::modules::LoadedModule;

/// Directory of texts in that of a recording.
const SOURCES: &str = "sources";
/// Longer texts are not shown.
const TEXT_BYTES_MAX: u64 = 32 << 20;

#[derive(Serialize)]
struct ListRow<'a> {
    file: &'a str,
    module: &'a str,
    /// Whether the recording has its text.
    available: bool,
    own: bool,
}

/// All files, the user's own first.
pub fn list(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let text: Option<String> = asked.optional("text")?;
    let files = files(engine.db);
    let wanted = files
        .iter()
        .filter(|(_, file, _)| text.as_ref().is_none_or(|text| file.contains(text.as_str())));
    for (foreign, file, module) in wanted.skip(asked.offset()?) {
        let path = recorded(engine.db, file);
        let row = ListRow {
            file,
            module: module.name(),
            available: path.is_some_and(|path| path.is_file()),
            own: !foreign,
        };
        if asked.is_interrupted() || asked.row(&row) == Flow::Full {
            break;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct TextRow<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'static str>,
    /// Where the text is not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tried: Vec<String>,
}

pub fn text(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let file: String = asked.argument("file")?;
    if !files(engine.db).iter().any(|(_, known, _)| *known == file) {
        let what = format!("no program of the recording has the source file {file}");
        return Err(Failure::new(Code::NoSuchFile, what));
    }
    let path = recorded(engine.db, &file);
    let text = path.as_ref().and_then(|path| read(engine.db.trace.directory(), path));
    let row = TextRow {
        file: &file,
        from: text.is_some().then_some("recording"),
        tried: match (&text, path) {
            (None, Some(path)) => vec![path.display().to_string()],
            _ => vec![],
        },
        text,
    };
    let _ = asked.row(&row);
    Ok(())
}

/// Whether it is the system's, the path, and a module with code of it; in this order.
fn files(db: &Database) -> Vec<(bool, String, Arc<LoadedModule>)> {
    let mut files: BTreeMap<String, Arc<LoadedModule>> = BTreeMap::new();
    for module in db.modules.all() {
        for file in module.symbols().into_iter().flat_map(|symbols| symbols.source_files()) {
            let other = files.entry(file.path.clone()).or_insert_with(|| Arc::clone(module));
            if module.is_own() && !other.is_own() {
                *other = Arc::clone(module);
            }
        }
    }
    let mut files: Vec<_> = files
        .into_iter()
        .map(|(file, module)| (!module.is_own() || file.starts_with("/usr/"), file, module))
        .collect();
    files.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    files
}

/// Where the recording would have the text: no path leads out of it.
fn recorded(db: &Database, file: &str) -> Option<PathBuf> {
    let mut path = db.trace.directory().join(SOURCES);
    for part in Path::new(file).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// The text, unless links lead out of the recording.
fn read(recording: &Path, path: &Path) -> Option<String> {
    let (recording, path) = (recording.canonicalize().ok()?, path.canonicalize().ok()?);
    if !path.starts_with(recording) || !path.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    let fits = bytes.len() as u64 <= TEXT_BYTES_MAX;
    fits.then(|| String::from_utf8_lossy(&bytes).into_owned())
}
