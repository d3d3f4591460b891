//! Everything that is known about a module, borrowed from its files.

use std::sync::{Arc, OnceLock};

use gimli::{AttributeValue, LittleEndian, Section as _, SectionId};

use crate::cache::Cache;
use crate::error::Troubles;
use crate::file::File;
use crate::image::Image;
use crate::index::Index;
use crate::language::Language;
use crate::lines::UnitLines;
use crate::outline::UnitFunctions;
use crate::owner::Owner;
use crate::ranges::RangeMap;
use crate::search::PlainSymbol;
use crate::sources::Sources;
use crate::symtab::SymbolTable;
use crate::types::TypeId;
use crate::units::{DebugFile, Dwarf, R, UnitHead, text};
use crate::unwind::UnwindIndex;
use crate::{Error, LinkAddress, Options};

/// Which file a unit is in.
pub(crate) mod place {
    pub const MAIN: u32 = 0;
    pub const ALTERNATE: u32 = 1;
    /// The `.dwo` file of unit 0 of the main file; those of the others follow.
    pub const SPLIT: u32 = 2;
}

/// A unit, by file and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnitId {
    pub file: u32,
    pub unit: u32,
}

impl UnitId {
    pub fn key(self) -> (u32, u32) {
        (self.file, self.unit)
    }
}

#[derive(Debug)]
pub(crate) struct Debug<'a> {
    pub owner: &'a Owner,
    pub image: Image,
    pub symbols: SymbolTable<'a>,
    main: DebugFile<'a>,
    alternate: Option<DebugFile<'a>>,
    split: Vec<OnceLock<Option<Box<DebugFile<'a>>>>>,
    package: OnceLock<Option<gimli::DwarfPackage<R<'a>>>>,
    /// Units of the main file by address.
    pub unit_ranges: RangeMap<u32>,
    units: Cache<gimli::Unit<R<'a>>>,
    pub lines: Cache<UnitLines>,
    pub functions: Cache<UnitFunctions<'a>>,
    pub sources: OnceLock<Sources>,
    pub index: OnceLock<Index<'a>>,
    pub plain_symbols: OnceLock<Vec<PlainSymbol>>,
    pub unwind: OnceLock<UnwindIndex>,
    /// Ascending by address.
    pub vtables: OnceLock<Vec<(LinkAddress, TypeId)>>,
}

impl<'a> Debug<'a> {
    pub fn new(owner: &'a Owner, options: &Options) -> Result<Debug<'a>, Error> {
        let troubles = &owner.troubles;
        let elf = owner.image.elf()?;
        let image = Image::new(&elf);
        let (symbols, (main, alternate)) = rayon::join(
            || SymbolTable::new(&owner.image, owner.debug.as_ref(), &image),
            || {
                let read =
                    |dwarf, label: &str| DebugFile::new(dwarf, label.to_owned(), troubles, true);
                let mut main = load(owner.main(), None);
                let alternate = owner.alternate.as_ref().map(|file| {
                    main.set_sup(load(file, None));
                    read(load(file, None), "dwz file").0
                });
                let main = read(main, if owner.debug.is_some() { "debug file" } else { "image" });
                (main, alternate)
            },
        );
        let (mut main, ranges) = main;
        let mut alternate = alternate;
        pass_languages_on(&mut main, alternate.as_mut());
        let ranges = ranges.into_iter().zip(0..).flat_map(|(ranges, unit)| {
            let code = ranges.into_iter().filter(|range| image.is_code(LinkAddress(range.start)));
            code.map(move |range| (range, unit)).collect::<Vec<_>>()
        });
        let unit_ranges = RangeMap::new(ranges.collect());
        let split = std::iter::repeat_with(OnceLock::new).take(main.units.len()).collect();
        // Abbreviations are quickly read again; lines and functions are not.
        let bytes_max = options.cache_bytes_max / 8;
        Ok(Debug {
            owner,
            image,
            symbols,
            main,
            alternate,
            split,
            package: OnceLock::new(),
            unit_ranges,
            units: Cache::new(bytes_max),
            lines: Cache::new(bytes_max * 4),
            functions: Cache::new(bytes_max * 3),
            sources: OnceLock::new(),
            index: OnceLock::new(),
            plain_symbols: OnceLock::new(),
            unwind: OnceLock::new(),
            vtables: OnceLock::new(),
        })
    }

    pub fn troubles(&self) -> &'a Troubles {
        &self.owner.troubles
    }

    pub fn trouble(&self, unit: UnitId, what: impl std::fmt::Display) {
        self.troubles().add(self.place(unit, 0), what);
    }

    /// How a place in a unit is called in messages.
    pub fn place(&self, id: UnitId, offset: usize) -> String {
        let Some(file) = self.file(id.file) else { return format!("file {}", id.file) };
        let Some(unit) = file.units.get(id.unit as usize) else { return file.label.clone() };
        let name = unit.name.map(text).unwrap_or_default();
        format!("{} entry {:#x} of {name}", file.label, unit.section_offset() + offset)
    }

    pub fn file(&self, file: u32) -> Option<&DebugFile<'a>> {
        match file {
            place::MAIN => Some(&self.main),
            place::ALTERNATE => self.alternate.as_ref(),
            _ => self.split_file(file - place::SPLIT),
        }
    }

    pub fn main_file(&self) -> &DebugFile<'a> {
        &self.main
    }

    /// Files that hold units in their own right, by number; split DWARF is loaded for it.
    pub fn all_files(&self) -> Vec<u32> {
        use rayon::prelude::*;
        let split: Vec<u32> = self
            .main
            .units
            .par_iter()
            .zip(0u32..self.main.units.len() as u32)
            .filter(|(unit, index)| unit.split_name.is_some() && self.split_file(*index).is_some())
            .map(|(_, index)| place::SPLIT + index)
            .collect();
        let alternate = self.alternate.as_ref().map(|_| place::ALTERNATE);
        [place::MAIN].into_iter().chain(alternate).chain(split).collect()
    }

    pub fn head(&self, id: UnitId) -> Result<&UnitHead<'a>, Error> {
        let file = self.file(id.file).ok_or_else(|| absent_unit(id))?;
        file.units.get(id.unit as usize).ok_or_else(|| absent_unit(id))
    }

    pub fn dwarf(&self, id: UnitId) -> Result<&Dwarf<'a>, Error> {
        Ok(&self.file(id.file).ok_or_else(|| absent_unit(id))?.dwarf)
    }

    pub fn unit(&self, id: UnitId) -> Result<Arc<gimli::Unit<R<'a>>>, Error> {
        let (head, dwarf) = (self.head(id)?, self.dwarf(id)?);
        self.units.get(id.key(), || {
            let unit = head.unit(dwarf).map_err(|error| self.broken(id, 0, error))?;
            // A guess: an abbreviation takes two to five bytes an attribute, and 16 here.
            let bytes = 2000 + abbreviation_bytes(dwarf, head) * 8;
            Ok((unit, bytes))
        })
    }

    pub fn broken(&self, id: UnitId, offset: usize, error: impl std::fmt::Display) -> Error {
        Error::Broken { place: self.place(id, offset), what: error.to_string() }
    }

    /// The unit with the contents of a unit: itself, or that in its `.dwo` file.
    pub fn full_unit(&self, unit: u32) -> UnitId {
        let skeleton = UnitId { file: place::MAIN, unit };
        let split = self.main.units.get(unit as usize).is_some_and(|u| u.split_name.is_some());
        if !split {
            return skeleton;
        }
        let full = self.split_file(unit).and_then(|file| {
            let wanted = self.main.units[unit as usize].split_id;
            let found = file.units.iter().position(|head| {
                head.type_signature.is_none() && (head.split_id == wanted || wanted.is_none())
            });
            Some(UnitId { file: place::SPLIT + unit, unit: found? as u32 })
        });
        full.unwrap_or(skeleton)
    }

    /// The unit whose line table says what file numbers of this unit mean.
    pub fn line_unit(&self, id: UnitId) -> UnitId {
        let own = self.head(id).is_ok_and(|head| head.lines.is_some());
        if id.file >= place::SPLIT && !own {
            return UnitId { file: place::MAIN, unit: id.file - place::SPLIT };
        }
        id
    }

    fn split_file(&self, unit: u32) -> Option<&DebugFile<'a>> {
        let file = self.split.get(unit as usize)?;
        file.get_or_init(|| self.load_split(unit).map(Box::new)).as_ref().map(|file| &**file)
    }

    fn load_split(&self, unit: u32) -> Option<DebugFile<'a>> {
        let skeleton = self.main.units.get(unit as usize)?;
        let name = text(skeleton.split_name?);
        let id = skeleton.split_id;
        let dwarf = match self.packaged(id) {
            Some(dwarf) => dwarf,
            None => {
                let directory = skeleton.directory.map(text);
                let id = id.map_or(0, |id| id.0);
                let file = self.owner.split(unit, &name, directory.as_deref(), id)?;
                load(file, Some(&self.main.dwarf))
            }
        };
        let (mut file, _) = DebugFile::new(dwarf, name, self.troubles(), false);
        for head in &mut file.units {
            head.take_from_skeleton(skeleton);
        }
        let is_it = |head: &UnitHead<'_>| head.type_signature.is_none() && head.split_id == id;
        if id.is_some() && !file.units.iter().any(is_it) {
            let what = "does not belong to this build of the program and is not used";
            self.troubles().add(&file.label, what);
            return None;
        }
        Some(file)
    }

    fn packaged(&self, id: Option<gimli::DwoId>) -> Option<Dwarf<'a>> {
        let package = self.package.get_or_init(|| {
            let file: &'a File = self.owner.package()?;
            let section = |id: SectionId| {
                let name = id.dwo_name().unwrap_or("");
                Ok::<_, gimli::Error>(R::new(file.section(name), LittleEndian))
            };
            gimli::DwarfPackage::load(section, R::new(&[], LittleEndian))
                .inspect_err(|error| self.troubles().add("package", error))
                .ok()
        });
        package.as_ref()?.find_cu(id?, &self.main.dwarf).ok().flatten()
    }

    /// The type unit of a signature, first in the file that refers to it.
    pub fn type_unit(&self, from: u32, signature: u64) -> Option<(UnitId, usize)> {
        let files = [from, place::MAIN];
        files.into_iter().find_map(|file| {
            let unit = *self.file(file)?.signatures.get(&signature)?;
            let (_, offset) = self.file(file)?.units[unit as usize].type_signature?;
            Some((UnitId { file, unit }, offset))
        })
    }

    /// Bytes in use for details of units.
    pub fn cached_bytes(&self) -> usize {
        self.units.bytes() + self.lines.bytes() + self.functions.bytes()
    }
}

/// Units made by dwz have no language but that of the units that import them.
fn pass_languages_on<'a>(main: &mut DebugFile<'a>, mut alternate: Option<&mut DebugFile<'a>>) {
    let mut work = Vec::new();
    let of = |file: u32, head: &UnitHead<'_>| -> Vec<(u32, usize, Language)> {
        let targets = head.imports.iter().filter_map(|import| match import {
            AttributeValue::DebugInfoRef(offset) => Some((file, offset.0, head.language)),
            AttributeValue::DebugInfoRefSup(offset) => {
                Some((place::ALTERNATE, offset.0, head.language))
            }
            _ => None,
        });
        targets.collect()
    };
    for head in &main.units {
        if head.language != Language::Unknown {
            work.extend(of(place::MAIN, head));
        }
    }
    // Each unit gets a language once, so this ends.
    work.reverse();
    while let Some((file, offset, language)) = work.pop() {
        let file_units = match (file, alternate.as_deref_mut()) {
            (place::MAIN, _) => &mut *main,
            (_, Some(alternate)) => alternate,
            (_, None) => continue,
        };
        let Some((unit, _)) = file_units.unit_at(offset) else { continue };
        let head = &mut file_units.units[unit as usize];
        if head.language == Language::Unknown {
            head.language = language;
            work.extend(of(file, head));
        }
    }
}

fn absent_unit(id: UnitId) -> Error {
    Error::Absent(format!("unit {} in file {}", id.unit, id.file))
}

fn abbreviation_bytes(dwarf: &Dwarf<'_>, head: &UnitHead<'_>) -> usize {
    // Abbreviations say nothing about their length; entries of a unit use about so many.
    let length = head.header.length_including_self();
    let all = dwarf.debug_abbrev.reader().len();
    (length / 16).min(all).min(8 << 10)
}

/// The sections of a file; those of a `.dwo` file with what they take from the program.
fn load<'a>(file: &'a File, program: Option<&Dwarf<'a>>) -> Dwarf<'a> {
    let split = program.is_some();
    let section = |id: SectionId| {
        let name = if split { id.dwo_name() } else { Some(id.name()) };
        let bytes = name.map(|name| file.section(name)).unwrap_or_default();
        Ok::<_, std::convert::Infallible>(R::new(bytes, LittleEndian))
    };
    let Ok(mut dwarf) = Dwarf::load(section);
    if let Some(program) = program {
        dwarf.make_dwo(program);
    }
    dwarf
}
