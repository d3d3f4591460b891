//! The files that make up a module: itself, separate debug files, split DWARF.

use std::sync::{Arc, OnceLock};

use object::Object;

use crate::error::Troubles;
use crate::file::File;
use crate::locator::{Locator, Wanted};
use crate::units::R;
use crate::{Bytes, Error};

/// All files of a module. Only grows, so that what is read from it may keep borrowing.
pub(crate) struct Owner {
    pub image: File,
    /// Debug information that was split off by stripping.
    pub debug: Option<File>,
    /// What dwz shares between files.
    pub alternate: Option<File>,
    /// All `.dwo` files in one.
    pub package: OnceLock<Option<Box<File>>>,
    /// A `.dwo` file a unit of `.debug_info`, for those that have one.
    pub split: Vec<OnceLock<Option<Box<File>>>>,
    pub locator: Arc<dyn Locator>,
    pub troubles: Troubles,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner").field("image", &self.image).finish_non_exhaustive()
    }
}

impl Owner {
    pub fn new(image: Bytes, locator: Arc<dyn Locator>) -> Result<Owner, Error> {
        let troubles = Troubles::default();
        let image = File::new(image)?;
        let has_debug = !image.section(".debug_info").is_empty();
        let debug = if has_debug { None } else { find_debug(&image, &*locator, &troubles) };
        let main = debug.as_ref().unwrap_or(&image);
        let alternate = find_alternate(main, &*locator, &troubles);
        let files = [("image", Some(&image)), ("debug file", debug.as_ref())];
        for (label, file) in files.into_iter().chain([("dwz file", alternate.as_ref())]) {
            for (name, what) in file.iter().flat_map(|file| &file.broken) {
                troubles.add(format_args!("{label} section {name}"), what);
            }
        }
        let split = count_units(main);
        let split = std::iter::repeat_with(OnceLock::new).take(split).collect();
        let package = OnceLock::new();
        Ok(Owner { image, debug, alternate, package, split, locator, troubles })
    }

    /// The file with `.debug_info`.
    pub fn main(&self) -> &File {
        self.debug.as_ref().unwrap_or(&self.image)
    }

    /// The `.dwp` file of the program. It is known by its name alone, but units in it have ids.
    pub fn package(&self) -> Option<&File> {
        let package = self.package.get_or_init(|| {
            let bytes = self.locator.locate(&Wanted::Package)?;
            self.opened("package", bytes)
        });
        package.as_deref()
    }

    fn opened(&self, label: &str, bytes: Bytes) -> Option<Box<File>> {
        match File::new(bytes) {
            Ok(file) => {
                for (name, what) in &file.broken {
                    self.troubles.add(format_args!("{label} section {name}"), what);
                }
                Some(Box::new(file))
            }
            Err(error) => {
                self.troubles.add(label, error);
                None
            }
        }
    }

    /// The `.dwo` file of a unit.
    pub fn split(&self, unit: u32, name: &str, directory: Option<&str>, id: u64) -> Option<&File> {
        let slot = self.split.get(unit as usize)?;
        let file = slot.get_or_init(|| {
            let wanted = Wanted::Split { name, directory, id };
            let Some(bytes) = self.locator.locate(&wanted) else {
                self.troubles.add(name, "the file with split debug information is not there");
                return None;
            };
            self.opened(name, bytes)
        });
        file.as_deref()
    }

    /// Bytes allocated for unpacked sections.
    pub fn unpacked_bytes(&self) -> u64 {
        let split = self.split.iter().filter_map(|file| file.get()?.as_deref());
        let package = self.package.get().and_then(|file| file.as_deref());
        let files = [Some(&self.image), self.debug.as_ref(), self.alternate.as_ref(), package];
        files.into_iter().flatten().chain(split).map(File::unpacked_bytes).sum()
    }
}

fn find_debug(image: &File, locator: &dyn Locator, troubles: &Troubles) -> Option<File> {
    let elf = image.elf().ok()?;
    let id = elf.build_id().ok().flatten();
    let opened = |label: &str, bytes: Bytes| {
        File::new(bytes).inspect_err(|error| troubles.add(label, error)).ok()
    };
    if let Some(id) = id
        && let Some(bytes) = locator.locate(&Wanted::DebugByBuildId(id))
        && let Some(file) = opened("debug file", bytes)
    {
        if file.elf().is_ok_and(|elf| elf.build_id().ok().flatten() == Some(id)) {
            return Some(file);
        }
        troubles.add("debug file", "has another build id than the program and is not used");
    }
    let (name, crc) = elf.gnu_debuglink().ok().flatten()?;
    let name = std::str::from_utf8(name).ok()?;
    let bytes = locator.locate(&Wanted::DebugByLink { name, crc })?;
    if crc32fast::hash(&bytes) != crc {
        troubles.add(name, "has another checksum than `.gnu_debuglink` says and is not used");
        return None;
    }
    opened(name, bytes)
}

fn find_alternate(main: &File, locator: &dyn Locator, troubles: &Troubles) -> Option<File> {
    let elf = main.elf().ok()?;
    let (path, id) = elf.gnu_debugaltlink().ok().flatten()?;
    let path = std::str::from_utf8(path).ok()?;
    let Some(bytes) = locator.locate(&Wanted::Alternate { path, build_id: id }) else {
        troubles.add(path, "the file with debug information shared by dwz is not there");
        return None;
    };
    let file = File::new(bytes).inspect_err(|error| troubles.add(path, error)).ok()?;
    let same = file.elf().is_ok_and(|elf| elf.build_id().ok().flatten() == Some(id));
    if !same {
        troubles.add(path, "has another build id than `.gnu_debugaltlink` says and is not used");
    }
    same.then_some(file)
}

/// How many units `.debug_info` has, by their headers.
fn count_units(file: &File) -> usize {
    let info = R::new(file.section(".debug_info"), gimli::LittleEndian);
    let mut units = gimli::DebugInfo::from(info).units();
    let mut count = 0;
    while let Ok(Some(_)) = units.next() {
        count += 1;
    }
    count
}
