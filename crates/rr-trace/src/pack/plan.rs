//! Which mapped files a recording does not have itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::error::MappedFileProblem;
use crate::{Error, MMap, MapSource, StreamName, Trace};

/// In front of the names of hard links that rr makes: the file can change with its original.
const HARD_LINK: &[u8] = b"mmap_hardlink_";
/// The names of all mapped files together.
const NAMES_BYTES_MAX: u64 = 16 << 20;
/// What a name costs besides its bytes.
const NAME_BYTES_MIN: u64 = 64;
/// So many problems are reported.
const PROBLEMS_MAX: usize = 20;

#[derive(Debug, Default)]
pub struct Plan {
    /// To be copied, in order of the mappings.
    pub outside: Vec<Mapped>,
    /// The lengths of files that are copies already, by name.
    pub inside: BTreeMap<Vec<u8>, u64>,
}

/// A file that a mapping shows and that the recording depends on.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// As the recording names it.
    pub backing_name: Vec<u8>,
    /// What has to be copied.
    pub path: PathBuf,
    pub version: Version,
}

impl Mapped {
    /// It is a link in the recording's directory.
    pub fn is_in_recording(&self) -> bool {
        !self.backing_name.starts_with(b"/")
    }
}

/// What tells whether a file is the same as before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub device: u64,
    pub inode: u64,
    pub bytes: u64,
    pub mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    pub fn of(file: &Metadata) -> Version {
        Version {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.size(),
            mode: file.mode(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// Where the contents of a mapping lie.
pub struct Place {
    pub path: PathBuf,
    pub file: Metadata,
    /// A copy that only the recording has.
    pub inside: bool,
}

/// Finds the file of a mapping; `None` if its contents are no file.
///
/// # Errors
///
/// The inner one says why there is no such file; the outer one that the recording is damaged.
pub fn examine(
    trace: &Trace,
    map: &MMap,
) -> Result<Option<Result<Place, MappedFileProblem>>, Error> {
    let MapSource::File { backing_name } = &map.source else { return Ok(None) };
    let Some(path) = trace.backing_path(map)? else { return Ok(None) };
    let place = if backing_name.starts_with(b"/") {
        fs::metadata(&path).map(|file| Place { path: path.clone(), file, inside: false })
    } else {
        fs::symlink_metadata(&path).and_then(|link| {
            if link.is_symlink() {
                let path = path.canonicalize()?;
                let file = fs::metadata(&path)?;
                return Ok(Place { path, file, inside: false });
            }
            let inside = !backing_name.starts_with(HARD_LINK);
            Ok(Place { path: path.clone(), file: link, inside })
        })
    };
    let place = place.and_then(|place| match place.file.is_file() {
        true => Ok(place),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    });
    Ok(Some(place.map_err(|error| MappedFileProblem { file: path, what: error.to_string() })))
}

impl Plan {
    pub fn make(trace: &Trace) -> Result<Plan, Error> {
        let mut plan = Plan::default();
        let (mut seen, mut names_bytes) = (BTreeMap::new(), 0);
        let mut problems = Problems::default();
        for map in trace.mmaps()? {
            let map = map?;
            let MapSource::File { backing_name } = &map.source else { continue };
            if !seen.contains_key(backing_name) {
                names_bytes += NAME_BYTES_MIN + backing_name.len() as u64;
                if names_bytes > NAMES_BYTES_MAX {
                    return Err(too_many(trace, names_bytes));
                }
                let Some(place) = examine(trace, &map)? else { continue };
                let place = place.map_err(|problem| problems.add(problem)).ok();
                if let Some(place) = &place {
                    plan.add(backing_name, place);
                }
                seen.insert(backing_name.clone(), place);
            }
            if let Some(Some(place)) = seen.get(backing_name) {
                check(&map, place, &mut problems);
            }
        }
        problems.finish(trace)?;
        Ok(plan)
    }

    fn add(&mut self, backing_name: &[u8], place: &Place) {
        if place.inside {
            self.inside.insert(backing_name.to_vec(), place.file.size());
        } else {
            self.outside.push(Mapped {
                backing_name: backing_name.to_vec(),
                path: place.path.clone(),
                version: Version::of(&place.file),
            });
        }
    }
}

fn too_many(trace: &Trace, size: u64) -> Error {
    let file = trace.directory().join(StreamName::MMaps.file_name());
    let (what, limit) = ("list of mapped files", NAMES_BYTES_MAX);
    Error::TooLarge { file, offset: 0, what, size, limit }
}

/// Compares a file with what a mapping's record says about it.
fn check(map: &MMap, place: &Place, problems: &mut Problems) {
    let MapSource::File { backing_name } = &map.source else { return };
    let mut problem =
        |what: String| problems.add(MappedFileProblem { file: place.path.clone(), what });
    let own = !backing_name.starts_with(b"/");
    if place.inside {
        return;
    }
    if !map.stat.is_known() {
        // rr leaves it out only where the recording was packed, if with links.
        if !own {
            return problem("the recording does not say what it was like".into());
        }
        if u64::try_from(map.stat.size) != Ok(place.file.size()) {
            problem(format!("{} bytes, recorded with {}", place.file.size(), map.stat.size));
        }
        return;
    }
    let changes = map.changes_since_recording(&place.file);
    // A recording that was copied has files of its own where it had hard links.
    let copied = own && place.file.nlink() == 1;
    let (serious, other): (Vec<_>, Vec<_>) = changes
        .into_iter()
        .partition(|what| *what == "size" || (*what == "modification time" && !copied));
    if !serious.is_empty() {
        return problem(format!(
            "has changed since it was recorded: another {}",
            serious.join(" and ")
        ));
    }
    let name = OsStr::from_bytes(backing_name);
    if !other.is_empty() && !copied && problems.warned.insert(backing_name.clone()) {
        let what = other.join(", ");
        tracing::warn!(file = %name.display(), "another {what} than when it was recorded");
    }
}

/// What is wrong with files, each once.
#[derive(Default)]
struct Problems {
    problems: Vec<MappedFileProblem>,
    files: BTreeSet<PathBuf>,
    /// Of what was a warning said.
    warned: BTreeSet<Vec<u8>>,
}

impl Problems {
    fn add(&mut self, problem: MappedFileProblem) {
        if self.files.insert(problem.file.clone()) && self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    fn finish(self, trace: &Trace) -> Result<(), Error> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let more = (self.files.len() - self.problems.len()) as u64;
        let directory = trace.directory().into();
        Err(Error::MappedFiles { directory, problems: self.problems, more })
    }
}
