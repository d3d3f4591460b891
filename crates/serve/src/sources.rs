//! Source files of the recorded program that lie on this machine.
//!
//! A file is given out only if the recording names it, a rule of the command line leads to it, and
//! what was opened really lies below the rule's directory, whatever links there are on the way.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{OnceCell, mpsc};

use crate::error::{Error, Result};
use crate::message::Members;
use crate::pool::Pool;
use crate::worker::{Cancel, Job};

const FILE_BYTES_MAX: u64 = 32 << 20;
/// File names of a recording: large programs have a hundred thousand.
const NAMES_MAX: usize = 1 << 20;

/// A directory in which source files may be read.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Recorded paths below this one are meant; without it, those below the directory itself, and
    /// any other by the longest end of its path that exists in the directory.
    from: Option<PathBuf>,
    /// Without links.
    directory: PathBuf,
}

impl Rule {
    /// `DIR` or `FROM=TO`, both absolute.
    ///
    /// # Errors
    ///
    /// If a path is relative, or the directory cannot be read.
    pub fn parse(given: &str) -> Result<Rule> {
        let (from, directory) = match given.split_once('=') {
            Some((from, to)) => (Some(PathBuf::from(from)), Path::new(to)),
            None => (None, Path::new(given)),
        };
        let relative = from.as_ref().is_some_and(|from| !from.is_absolute());
        if relative || !directory.is_absolute() {
            let what = "give absolute paths, DIR or FROM=TO";
            return Err(Error::SourceRule { given: given.into(), what });
        }
        let directory = directory.canonicalize().and_then(|directory| {
            std::fs::read_dir(&directory)?;
            Ok(directory)
        });
        match directory {
            Ok(directory) => Ok(Rule { from, directory }),
            Err(source) => Err(Error::SourceDirectory { given: given.into(), source }),
        }
    }

    /// Where the file may lie, the likeliest first.
    fn candidates(&self, recorded: &Path) -> Vec<PathBuf> {
        if let Some(from) = &self.from {
            let rest = recorded.strip_prefix(from).ok();
            return rest.map(|rest| self.directory.join(rest)).into_iter().collect();
        }
        if recorded.starts_with(&self.directory) {
            return vec![recorded.to_owned()];
        }
        // A compiler may have been told to leave directories out: `src/a.c`.
        let root = usize::from(recorded.is_absolute());
        let parts: Vec<Component> = recorded.components().skip(root).collect();
        let ends = (0..parts.len()).map(|first| parts[first..].iter().collect::<PathBuf>());
        ends.map(|end| self.directory.join(end)).collect()
    }
}

#[derive(Debug)]
pub struct Sources {
    rules: Vec<Rule>,
    /// The recording's files, asked for once.
    names: OnceCell<BTreeSet<String>>,
}

impl Sources {
    pub fn new(rules: Vec<Rule>) -> Sources {
        Sources { rules, names: OnceCell::new() }
    }

    /// The text of a file, by its recorded path.
    ///
    /// # Errors
    ///
    /// Why not, for the log.
    pub async fn read(
        &self,
        recorded: &str,
        pool: &Pool,
    ) -> std::result::Result<String, &'static str> {
        if self.rules.is_empty() {
            return Err("no directory of sources is named");
        }
        if !is_plain(Path::new(recorded)) || recorded.contains('\0') {
            return Err("no plain path");
        }
        let names = self.names.get_or_try_init(|| names(pool)).await?;
        if !names.contains(recorded) {
            return Err("the recording has no such source file");
        }
        let (rules, recorded) = (self.rules.clone(), PathBuf::from(recorded));
        let read = tokio::task::spawn_blocking(move || read_by(&rules, &recorded)).await;
        read.map_err(|_| "reading failed")?
    }

    /// The row that answers `source`, if the file lies in a directory that was named.
    pub async fn answer(&self, members: &Members<'_>, pool: &Pool) -> Option<Value> {
        let arguments: Value = serde_json::from_str(members.get("arguments")?.get()).ok()?;
        let file = arguments.get("file")?.as_str()?;
        let text = self.read(file, pool).await.ok()?;
        Some(json!({"file": file, "text": text, "from": "directory"}))
    }
}

/// Without `..`, `.` and empty parts.
fn is_plain(path: &Path) -> bool {
    let plain: PathBuf = path.components().collect();
    plain.as_os_str() == path.as_os_str()
        && !plain.as_os_str().is_empty()
        && path
            .components()
            .skip(usize::from(path.is_absolute()))
            .all(|part| matches!(part, Component::Normal(_)))
}

fn read_by(rules: &[Rule], recorded: &Path) -> std::result::Result<String, &'static str> {
    let mut why = "no such file in the directories of sources";
    for rule in rules {
        for candidate in rule.candidates(recorded) {
            match read_below(&rule.directory, &candidate) {
                Ok(text) => return Ok(text),
                Err(None) => {}
                Err(Some(reason)) => why = reason,
            }
        }
    }
    Err(why)
}

/// `None` if there is no such file.
fn read_below(
    directory: &Path,
    candidate: &Path,
) -> std::result::Result<String, Option<&'static str>> {
    // A pipe must not keep us waiting for its other end.
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    let opened = File::options().read(true).custom_flags(flags).open(candidate);
    let file = opened.map_err(|_| None)?;
    // Asked of what is open: names may have changed their meaning since.
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if !real.map_err(|_| None)?.starts_with(directory) {
        return Err(Some("a link leads out of the directory"));
    }
    let metadata = file.metadata().map_err(|_| None)?;
    if !metadata.is_file() {
        return Err(None);
    }
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|_| Some("reading failed"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Some("the file is too large"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names of all source files, from a worker.
async fn names(pool: &Pool) -> std::result::Result<BTreeSet<String>, &'static str> {
    let deadline = Duration::from_secs(30);
    let (answers, mut answered) = mpsc::channel(64);
    let question = json!({
        "ask": 0, "question": "sources", "window": {"before": 0, "after": 10_000},
        "deadline": deadline.as_millis() as u64,
    });
    let mut names = BTreeSet::new();
    let mut cursor = Value::Null;
    loop {
        let mut question = question.clone();
        if !cursor.is_null() {
            question["cursor"] = cursor.take();
        }
        let job = Job {
            number: 0,
            text: question.to_string(),
            deadline,
            cancel: Arc::new(Cancel::default()),
            answers: answers.clone(),
            asked: Instant::now(),
        };
        pool.ask(job).await;
        let end = loop {
            let piece = answered.recv().await.ok_or("no answer")?;
            let message: Value = serde_json::from_str(&piece.text).map_err(|_| "no answer")?;
            for row in message["rows"].as_array().into_iter().flatten() {
                names.extend(row["file"].as_str().map(str::to_owned));
            }
            if piece.last {
                break message;
            }
        };
        match end["end"].as_str() {
            Some("complete") => return Ok(names),
            Some("rows") if !end["after"].is_null() && names.len() < NAMES_MAX => {
                cursor = end["after"].clone();
            }
            _ => return Err("the recording's source files are not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn rules_lead_to_files() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("in/src")).unwrap();
        std::fs::write(root.join("in/src/a.c"), "a\n").unwrap();
        std::fs::write(root.join("in/b.c"), "b\n").unwrap();
        std::fs::write(root.join("secret.c"), "secret\n").unwrap();
        symlink(root.join("secret.c"), root.join("in/src/link.c")).unwrap();
        symlink("a.c", root.join("in/src/fine.c")).unwrap();
        symlink(&root, root.join("in/up")).unwrap();
        let inside = root.join("in");
        let read = |rule: &str, path: &str| read_by(&[Rule::parse(rule).unwrap()], Path::new(path));
        let (inside, text) = (inside.to_str().unwrap(), |it: &str| Ok(it.to_owned()));
        assert_eq!(read(inside, &format!("{inside}/src/a.c")), text("a\n"));
        assert_eq!(read(inside, "/build/x/src/a.c"), text("a\n"));
        assert_eq!(read(inside, "/build/x/b.c"), text("b\n"));
        assert_eq!(read(inside, "src/a.c"), text("a\n"));
        assert_eq!(read(&format!("/build={inside}/src"), "/build/fine.c"), text("a\n"));
        assert_eq!(read(&format!("/build={inside}/src"), "/builds/a.c").ok(), None);
        let out = Err("a link leads out of the directory");
        assert_eq!(read(inside, "/src/link.c"), out);
        assert_eq!(read(inside, "/up/secret.c"), out);
        assert_eq!(read(&format!("/x={inside}"), "/x/up/in/b.c"), text("b\n"));
        assert!(read(inside, "/secret.c").is_err() && read(inside, "/src").is_err());
    }

    #[test]
    fn rules_are_absolute_and_exist() {
        for given in ["src", "/a=b", "a=/tmp", "", "=", "/no/such/directory"] {
            assert!(Rule::parse(given).is_err(), "{given}");
        }
    }

    #[test]
    fn paths_are_plain() {
        assert!(is_plain(Path::new("/a/b.c")) && is_plain(Path::new("a/b.c")));
        for path in ["../a", "a/../b", "./a", "/a/../b", "/a/./b", "//a", "/a//b", "/a/", "/..", ""]
        {
            assert!(!is_plain(Path::new(path)), "{path}");
        }
    }
}
