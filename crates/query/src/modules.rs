//! Programs and libraries of the recording, with their symbols.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use model::{Address, Moment};
use rr_trace::{MapSource, Trace};
use symbols::{Bytes, LinkAddress, Locator, Module, Wanted};

use crate::failure::Failure;
use crate::history::{History, Mapped};

/// Files are not read beyond this.
const FILE_BYTES_MAX: u64 = 8 << 30;
/// Where distributions keep debug information.
const DEBUG_DIRECTORIES: [&str; 1] = ["/usr/lib/debug"];

/// All programs and libraries that the recording maps.
#[derive(Debug)]
pub struct Modules {
    by_name: BTreeMap<Arc<str>, Arc<LoadedModule>>,
}

/// A file that is mapped as code; its symbols are read when they are first asked for.
pub struct LoadedModule {
    /// As the program named it.
    pub path: Arc<str>,
    /// Where its contents are.
    file: PathBuf,
    recording: PathBuf,
    symbols: OnceLock<Result<Arc<Module>, String>>,
}

impl std::fmt::Debug for LoadedModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedModule").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A module where it is in an address space.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub module: Arc<LoadedModule>,
    /// What addresses have more at run time than in the file.
    pub bias: u64,
}

impl Loaded {
    pub fn link(&self, address: Address) -> LinkAddress {
        LinkAddress(address.0.wrapping_sub(self.bias))
    }

    pub fn run(&self, address: LinkAddress) -> Address {
        Address(address.0.wrapping_add(self.bias))
    }
}

impl Modules {
    pub fn new(trace: &Trace, history: &History) -> Result<Modules, Failure> {
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut maps = trace.mmaps()?;
        while let Some(map) = maps.next().transpose()? {
            let name = String::from_utf8_lossy(&map.name).into_owned();
            if let MapSource::File { .. } = map.source
                && let Ok(Some(path)) = trace.backing_path(&map)
            {
                files.insert(name, path);
            }
        }
        let mut by_name = BTreeMap::new();
        for mapped in history.spaces.values().flat_map(|space| &space.mapped) {
            let Some(file) = files.get(&*mapped.name) else { continue };
            by_name.entry(Arc::clone(&mapped.name)).or_insert_with(|| {
                Arc::new(LoadedModule {
                    path: Arc::clone(&mapped.name),
                    file: file.clone(),
                    recording: trace.directory().to_owned(),
                    symbols: OnceLock::new(),
                })
            });
        }
        Ok(Modules { by_name })
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<LoadedModule>> {
        self.by_name.values()
    }

    pub fn named(&self, name: &str) -> Option<&Arc<LoadedModule>> {
        self.by_name.get(name)
    }

    /// The module that is at an address.
    pub fn at(
        &self,
        history: &History,
        space: u32,
        address: Address,
        moment: Moment,
    ) -> Option<Loaded> {
        self.of_mapping(history.mapped(space, address, moment)?)
    }

    /// The module that is mapped there.
    pub fn of_mapping(&self, mapped: &Mapped) -> Option<Loaded> {
        let module = self.by_name.get(&mapped.name)?;
        let symbols = module.symbols()?;
        // Of the segment that the beginning of the mapping is of.
        let page = model::PAGE_SIZE;
        let segments = &symbols.image().segments;
        let start = |segment: &symbols::Segment| segment.file_offset / page * page;
        // Two segments may share a page of the file: a mapping begins with its own.
        let begins = segments.iter().find(|segment| start(segment) == mapped.offset);
        let segment = begins.or_else(|| {
            segments.iter().find(|segment| {
                let end = segment.file_offset.saturating_add(segment.file_size.max(1));
                (start(segment)..end).contains(&mapped.offset)
            })
        })?;
        let link = segment.range.start.0.wrapping_sub(segment.file_offset);
        let bias = mapped.range.start.0.wrapping_sub(mapped.offset).wrapping_sub(link);
        Some(Loaded { module: Arc::clone(module), bias })
    }
}

impl LoadedModule {
    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// `None` if the file is no program or cannot be read: [`LoadedModule::trouble`] says why.
    pub fn symbols(&self) -> Option<&Arc<Module>> {
        self.load().as_ref().ok()
    }

    pub fn trouble(&self) -> Option<&str> {
        self.load().as_ref().err().map(String::as_str)
    }

    fn load(&self) -> &Result<Arc<Module>, String> {
        self.symbols.get_or_init(|| {
            let bytes = read(&self.file).map_err(|error| format!("{}: {error}", self.path))?;
            let locator =
                Files { program: self.path.to_string(), recording: self.recording.clone() };
            Module::load(bytes, Arc::new(locator), &symbols::Options::default())
                .map(Arc::new)
                .map_err(|error| format!("{}: {error}", self.path))
        })
    }

    /// Whether it is the user's and not the system's.
    pub fn is_own(&self) -> bool {
        let system = ["/usr/lib", "/lib", "/usr/bin", "/bin", "/usr/sbin", "/sbin", "["];
        !system.iter().any(|directory| self.path.starts_with(directory))
    }
}

fn read(path: &Path) -> std::io::Result<Bytes> {
    let length = std::fs::metadata(path)?.len();
    if length > FILE_BYTES_MAX {
        let what = format!("{length} bytes are more than can be read");
        return Err(std::io::Error::other(what));
    }
    Ok(Bytes::from(std::fs::read(path)?))
}

/// Finds debug information: in the recording, then where the host has it.
#[derive(Debug)]
struct Files {
    program: String,
    recording: PathBuf,
}

impl Locator for Files {
    fn locate(&self, wanted: &Wanted<'_>) -> Option<Bytes> {
        let debug = self.recording.join("debug");
        let packed = match wanted {
            Wanted::DebugByBuildId(id) | Wanted::Alternate { build_id: id, .. } => {
                let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
                let extension =
                    if matches!(wanted, Wanted::Alternate { .. }) { "sup" } else { "debug" };
                hex.get(2..)
                    .map(|rest| debug.join(format!(".build-id/{}/{rest}.{extension}", &hex[..2])))
            }
            Wanted::Split { id, .. } => Some(debug.join(format!(".dwo/{id:016x}.dwo"))),
            Wanted::Package | Wanted::DebugByLink { .. } => None,
        };
        let elsewhere = wanted.paths(&self.program, &DEBUG_DIRECTORIES);
        let mut paths = packed.into_iter().chain(elsewhere.into_iter().map(PathBuf::from));
        paths.find_map(|path| path.is_file().then(|| read(&path).ok()).flatten())
    }
}
