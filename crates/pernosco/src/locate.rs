//! Finds the recording that a command is about, as rr does.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rr_trace::Trace;

/// Names a recording on the command line.
#[derive(clap::Args)]
pub struct TraceArgument {
    /// Directory of the recording, or its name in rr's directory of recordings [default: rr's
    /// latest]
    trace: Option<PathBuf>,
}

impl TraceArgument {
    pub fn named(trace: &Path) -> TraceArgument {
        TraceArgument { trace: Some(trace.into()) }
    }

    pub fn open(&self) -> anyhow::Result<Trace> {
        let directory = find(self.trace.as_deref(), &Environment::read())?;
        Ok(Trace::open(&directory)?)
    }
}

/// The variables that decide where rr keeps recordings.
#[derive(Default)]
struct Environment {
    rr_trace_dir: Option<PathBuf>,
    xdg_data_home: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Environment {
    fn read() -> Environment {
        let read = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(Into::into);
        Environment {
            rr_trace_dir: read("_RR_TRACE_DIR"),
            xdg_data_home: read("XDG_DATA_HOME"),
            home: read("HOME"),
        }
    }

    /// rr's directory of recordings. `~/.rr`, of old versions, only if there is no newer one.
    fn recordings(&self) -> Option<PathBuf> {
        if let Some(directory) = &self.rr_trace_dir {
            return Some(directory.clone());
        }
        let data = self.xdg_data_home.clone();
        let data = data.or_else(|| self.home.as_ref().map(|home| home.join(".local/share")));
        let current = data.map(|data| data.join("rr"));
        let legacy = self.home.as_ref().map(|home| home.join(".rr"));
        let exists = |directory: &Option<PathBuf>| directory.as_ref().is_some_and(|d| d.is_dir());
        if !exists(&current) && exists(&legacy) { legacy } else { current }
    }
}

fn find(argument: Option<&Path>, environment: &Environment) -> anyhow::Result<PathBuf> {
    let recordings = environment.recordings();
    let Some(argument) = argument else {
        let recordings = recordings.context(
            "no recording named, and none of _RR_TRACE_DIR, XDG_DATA_HOME and HOME is set to find \
             rr's latest: name the recording's directory",
        )?;
        let latest = recordings.join("latest-trace");
        if !latest.exists() {
            bail!(
                "no recording named, and rr has left none at {}: record one with `rr record \
                 PROGRAM`, or name a recording's directory",
                latest.display()
            );
        }
        // The link's target is the name that people know.
        return Ok(latest.canonicalize().unwrap_or(latest));
    };
    if argument.exists() {
        return Ok(argument.into());
    }
    let in_recordings = recordings.map(|recordings| recordings.join(argument));
    match in_recordings {
        Some(directory) if is_name(argument) && directory.exists() => Ok(directory),
        Some(directory) if is_name(argument) => bail!(
            "no recording {}: neither here nor {} exists",
            argument.display(),
            directory.display()
        ),
        _ => bail!("no recording {}: there is no such directory", argument.display()),
    }
}

/// Not a path.
fn is_name(argument: &Path) -> bool {
    argument.file_name().map(OsStr::len) == Some(argument.as_os_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rr_looks_in_these_places() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let environment = |rr: Option<&str>, xdg: Option<&str>| Environment {
            rr_trace_dir: rr.map(|name| root.join(name)),
            xdg_data_home: xdg.map(|name| root.join(name)),
            home: Some(root.join("home")),
        };
        let place = |rr, xdg| environment(rr, xdg).recordings().unwrap();
        assert_eq!(place(None, None), root.join("home/.local/share/rr"));
        assert_eq!(place(None, Some("xdg")), root.join("xdg/rr"));
        assert_eq!(place(Some("rr"), Some("xdg")), root.join("rr"));
        std::fs::create_dir_all(root.join("home/.rr")).unwrap();
        assert_eq!(place(None, Some("xdg")), root.join("home/.rr"));
        std::fs::create_dir_all(root.join("xdg/rr/hello-0")).unwrap();
        assert_eq!(place(None, Some("xdg")), root.join("xdg/rr"));
        assert!(Environment::default().recordings().is_none());

        let environment = environment(None, Some("xdg"));
        let message = |argument| find(argument, &environment).unwrap_err().to_string();
        assert!(message(None).contains("rr has left none at"));
        std::os::unix::fs::symlink("hello-0", root.join("xdg/rr/latest-trace")).unwrap();
        let hello = root.join("xdg/rr/hello-0").canonicalize().unwrap();
        assert_eq!(find(None, &environment).unwrap(), hello);
        let named = find(Some(Path::new("hello-0")), &environment).unwrap();
        assert_eq!(named.canonicalize().unwrap(), hello);
        assert_eq!(find(Some(root), &environment).unwrap(), root);
        assert!(message(Some(Path::new("nothing-7"))).contains("neither here nor"));
        assert!(message(Some(Path::new("./hello-0"))).contains("no such directory"));
    }
}
