//! Files that a module needs besides itself, and where they are by convention.

use std::fmt::Write as _;

use crate::Bytes;

/// A further file that holds debug information of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Debug information that was split off when the program was stripped (`.debug_info` and the
    /// full symbol table), known by the build id of the program.
    DebugByBuildId(&'a [u8]),
    /// The same, known by the name in `.gnu_debuglink` and the checksum of its contents.
    DebugByLink { name: &'a str, crc: u32 },
    /// What dwz moved out of several programs: `.gnu_debugaltlink`.
    Alternate { path: &'a str, build_id: &'a [u8] },
    /// All `.dwo` files of a program in one. A module that knows that it wants some asks for this
    /// first.
    Package,
    /// Debug information that never was in the program: split DWARF.
    Split { name: &'a str, directory: Option<&'a str>, id: u64 },
}

impl Wanted<'_> {
    /// Where the file is by convention, most likely first. Relative paths are relative to the
    /// directory of the program; `debug_directories` are those like `/usr/lib/debug`. `program`
    /// is the path of the program.
    pub fn paths(&self, program: &str, debug_directories: &[&str]) -> Vec<String> {
        let (parent, _) = program.rsplit_once('/').unwrap_or((".", program));
        match self {
            Wanted::DebugByBuildId(id) => by_build_id(id, debug_directories),
            Wanted::DebugByLink { name, .. } => {
                let mut paths = vec![format!("{parent}/{name}"), format!("{parent}/.debug/{name}")];
                paths.extend(debug_directories.iter().map(|d| format!("{d}{parent}/{name}")));
                paths
            }
            Wanted::Alternate { path, build_id } => {
                let mut paths = by_build_id(build_id, debug_directories);
                paths.push(join(Some(parent), path));
                // Relative to the file with the link, which may be in a debug directory.
                if !path.starts_with('/') {
                    let in_debug = debug_directories.iter().map(|d| format!("{d}{parent}/{path}"));
                    paths.extend(in_debug);
                }
                let name = path.rsplit('/').next().unwrap_or(path);
                paths.extend(debug_directories.iter().map(|d| format!("{d}/.dwz/{name}")));
                paths
            }
            Wanted::Package => {
                let mut paths = vec![format!("{program}.dwp")];
                paths.extend(debug_directories.iter().map(|d| format!("{d}{program}.dwp")));
                paths
            }
            Wanted::Split { name, directory, .. } => {
                let base = name.rsplit('/').next().unwrap_or(name);
                vec![join(*directory, name), format!("{parent}/{base}")]
            }
        }
    }
}

fn join(directory: Option<&str>, path: &str) -> String {
    match directory {
        Some(directory) if !path.starts_with('/') => format!("{directory}/{path}"),
        _ => path.to_owned(),
    }
}

fn by_build_id(id: &[u8], debug_directories: &[&str]) -> Vec<String> {
    let [first, rest @ ..] = id else { return Vec::new() };
    let mut name = String::new();
    for byte in rest {
        let _ = write!(name, "{byte:02x}");
    }
    debug_directories.iter().map(|d| format!("{d}/.build-id/{first:02x}/{name}.debug")).collect()
}

/// Finds further files. What it gives is checked: a file with another identity is not used.
pub trait Locator: Send + Sync {
    fn locate(&self, wanted: &Wanted<'_>) -> Option<Bytes>;
}

/// Knows no files.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Locator for NoFiles {
    fn locate(&self, _: &Wanted<'_>) -> Option<Bytes> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conventional_places() {
        let directories = ["/usr/lib/debug"];
        let paths = |wanted: Wanted<'_>| wanted.paths("/usr/bin/x", &directories);
        assert_eq!(
            paths(Wanted::DebugByBuildId(&[0xab, 1, 0xc])),
            ["/usr/lib/debug/.build-id/ab/010c.debug"]
        );
        assert_eq!(paths(Wanted::DebugByBuildId(&[])), [""; 0]);
        assert_eq!(
            paths(Wanted::DebugByLink { name: "x.debug", crc: 0 }),
            ["/usr/bin/x.debug", "/usr/bin/.debug/x.debug", "/usr/lib/debug/usr/bin/x.debug"]
        );
        assert_eq!(
            paths(Wanted::Split { name: "a/b.dwo", directory: Some("/src"), id: 1 }),
            ["/src/a/b.dwo", "/usr/bin/b.dwo"]
        );
        assert_eq!(paths(Wanted::Package), ["/usr/bin/x.dwp", "/usr/lib/debug/usr/bin/x.dwp"]);
    }
}
