//! Functions: names, declarations, code, and which calls were inlined at an address.

use std::sync::Arc;

use gimli::constants;

use crate::debug::{Debug, UnitId, place};
use crate::die::{Die, DieId, first};
use crate::language::Language;
use crate::lines::SourceFile;
use crate::names::{Name, demangle};
use crate::outline::{InlinedEntry, UnitFunctions};
use crate::ranges::link_range;
use crate::units::text;
use crate::{Error, LinkRange};

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePlace {
    pub file: Arc<SourceFile>,
    /// From 1; 0 is not known.
    pub line: u32,
    /// From 1; 0 is not known.
    pub column: u32,
}

/// What is known about a function, of which there may be several instances: out of line, inlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Of the entry that says most; the same for all instances within a unit.
    pub id: DieId,
    /// As written in its declaration, with template arguments: `push_back`, `max<int>`.
    pub name: Option<String>,
    /// As the linker knows it.
    pub linkage_name: Option<String>,
    /// With its path, and parameters if the linkage name has them: for people.
    pub full_name: String,
    pub declared: Option<SourcePlace>,
    pub language: Language,
    /// Seen by other units.
    pub external: bool,
    /// Made by the compiler.
    pub artificial: bool,
    /// Does not return.
    pub noreturn: bool,
}

impl Function {
    /// The full name with its brackets told apart, to be shown short.
    pub fn tree(&self) -> Name {
        Name::parse(&self.full_name)
    }
}

/// A function that is being executed at an address: the one that contains it, or one that was
/// inlined there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    pub function: Arc<Function>,
    /// The entry of this instance, which has its variables.
    pub instance: DieId,
    /// All code of this instance, in the order of the debug information.
    pub ranges: Vec<LinkRange>,
    /// Where it was called from, if it is inlined: a place in the next activation.
    pub called_at: Option<SourcePlace>,
    pub inlined: bool,
}

impl<'a> Debug<'a> {
    /// The functions at an address, the innermost inlined one first, the one that contains it
    /// last. Empty without debug information.
    pub fn activations(&self, address: u64) -> Vec<Activation> {
        let Some((unit, functions)) = self.functions_at(address) else { return Vec::new() };
        let Some((outer, inlined)) = functions.at(address) else { return Vec::new() };
        let inlined = inlined.into_iter().rev();
        let mut activations: Vec<Activation> =
            inlined.map(|call| self.inlined_activation(unit, &functions, call)).collect();
        activations.push(Activation {
            function: self.function(DieId::new(unit, outer.offset)),
            instance: DieId::new(unit, outer.offset),
            ranges: functions.ranges(&outer.ranges).iter().map(link_range).collect(),
            called_at: None,
            inlined: false,
        });
        activations
    }

    pub fn inlined_activation(
        &self,
        unit: UnitId,
        functions: &UnitFunctions<'a>,
        call: &InlinedEntry,
    ) -> Activation {
        let instance = DieId::new(unit, call.offset);
        let file = call.call_file.and_then(|file| self.file_of_unit(unit, u64::from(file)));
        Activation {
            function: self.function(instance),
            instance,
            ranges: functions.ranges(&call.ranges).iter().map(link_range).collect(),
            called_at: file.map(|file| SourcePlace {
                file,
                line: call.call_line,
                column: call.call_column,
            }),
            inlined: true,
        }
    }

    /// The outline of the unit with a function at an address.
    pub fn functions_at(&self, address: u64) -> Option<(UnitId, Arc<UnitFunctions<'a>>)> {
        let units = self.unit_ranges.containing(address).map(|(_, unit)| self.full_unit(*unit));
        for id in units {
            match self.unit_functions(id) {
                Ok(functions) if functions.by_address.containing(address).next().is_some() => {
                    return Some((id, functions));
                }
                Ok(_) => {}
                Err(error) => self.trouble(id, error),
            }
        }
        None
    }

    pub fn file_of_unit(&self, unit: UnitId, index: u64) -> Option<Arc<SourceFile>> {
        self.lines_or_trouble(self.line_unit(unit))?.file(index).cloned()
    }

    /// What is known about the function of an entry: a definition, an instance, a declaration.
    pub fn function(&self, id: DieId) -> Arc<Function> {
        let function = match self.die(id) {
            Ok(die) => self.read_function(id, &self.origins(die)),
            Err(error) => {
                self.trouble(id.unit, error);
                self.read_function(id, &[])
            }
        };
        Arc::new(function)
    }

    fn read_function(&self, id: DieId, dies: &[Die<'a>]) -> Function {
        let string = |name| first(dies, name).and_then(|(die, _)| self.string(die, name));
        let linkage_name = string(constants::DW_AT_linkage_name)
            .or_else(|| string(constants::DW_AT_MIPS_linkage_name));
        let name = string(constants::DW_AT_name);
        let demangled = linkage_name.as_deref().and_then(demangle);
        let full_name = demangled.unwrap_or_else(|| {
            let path = first(dies, constants::DW_AT_name).map(|(die, _)| self.path(die));
            path.or_else(|| linkage_name.clone()).unwrap_or_else(|| "(no name)".to_owned())
        });
        let flag = |name| dies.iter().any(|die| die.flag(name));
        let most = dies.iter().rev().find(|die| die.has(constants::DW_AT_name)).or(dies.last());
        let language = dies.first().and_then(|die| Some(self.head(die.id.unit).ok()?.language));
        Function {
            id: most.map_or(id, |die| die.id),
            name,
            linkage_name,
            full_name,
            declared: self.declared(dies),
            language: language.unwrap_or(Language::Unknown),
            external: flag(constants::DW_AT_external),
            artificial: flag(constants::DW_AT_artificial),
            noreturn: flag(constants::DW_AT_noreturn),
        }
    }

    /// Where something is declared: of several entries, the definition's line wins.
    pub fn declared(&self, dies: &[Die<'a>]) -> Option<SourcePlace> {
        let (die, _) = first(dies, constants::DW_AT_decl_line)?;
        // A definition repeats only what differs from its declaration.
        let (file_die, _) = first(dies, constants::DW_AT_decl_file)?;
        let file = file_die.number(constants::DW_AT_decl_file)?;
        let narrow = |name| die.number(name).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        Some(SourcePlace {
            file: self.file_of_unit(file_die.id.unit, file)?,
            line: narrow(constants::DW_AT_decl_line),
            column: narrow(constants::DW_AT_decl_column),
        })
    }

    /// The name of an entry with those of the namespaces and types that it is in.
    pub fn path(&self, die: &Die<'a>) -> String {
        let name = self.string(die, constants::DW_AT_name).unwrap_or_default();
        let language = self.head(die.id.unit).map_or(Language::Unknown, |head| head.language);
        let mut components = self.scope_path(die.id, language);
        components.push(name);
        components.join(language.separator())
    }

    /// Names of the scopes around an entry, outermost first. C has none.
    pub fn scope_path(&self, id: DieId, language: Language) -> Vec<String> {
        if matches!(language, Language::C | Language::Assembler) {
            return Vec::new();
        }
        let Ok(functions) = self.unit_functions(id.unit) else { return Vec::new() };
        let mut components = Vec::new();
        let mut next = functions.scope_of(id.offset as usize);
        while let Some(index) = next {
            let scope = &functions.scopes[index as usize];
            // A scope without a name is anonymous, or is an instance of one that has it.
            match scope.name.map(text) {
                Some(name) => components.push(name),
                None if scope.tag == constants::DW_TAG_namespace => {
                    components.push("(anonymous namespace)".to_owned());
                }
                None => match self.instance_name(id.unit, scope.offsets.start) {
                    Some(name) => components.push(name),
                    None => components.push("(anonymous)".to_owned()),
                },
            }
            next = scope.parent;
        }
        components.reverse();
        components
    }

    fn instance_name(&self, unit: UnitId, offset: usize) -> Option<String> {
        let origins = self.origins(self.die(DieId::new(unit, offset)).ok()?);
        let (die, _) = first(&origins, constants::DW_AT_name)?;
        self.string(die, constants::DW_AT_name)
    }

    /// Ranges of all instances of a function entry with code; the entry address first.
    pub fn function_entry(&self, address: u64) -> Option<(UnitId, u64, u64)> {
        let (unit, functions) = self.functions_at(address)?;
        let (function, _) = functions.at(address)?;
        let first = functions.ranges(&function.ranges).first()?;
        Some((unit, first.start, first.end))
    }

    /// Whether places of variables depend on the address throughout a unit of gcc: it made them
    /// right from the first instruction of a function on.
    pub fn places_hold_at_entry(&self, unit: UnitId) -> Result<bool, Error> {
        let producer = self.head(unit)?.producer.map(text).unwrap_or_default();
        Ok(producer.starts_with("GNU ") && self.unit_functions(unit)?.has_location_lists)
    }

    /// The unit of the program (not of a `.dwo` file) that an address belongs to.
    pub fn program_unit(&self, unit: UnitId) -> UnitId {
        match unit.file.checked_sub(place::SPLIT) {
            Some(skeleton) => UnitId { file: place::MAIN, unit: skeleton },
            None => unit,
        }
    }

    /// The bytes of the program at an address, as far as the file has them.
    pub fn code(&self, address: u64, length: usize) -> &'a [u8] {
        let segments = self.image.segments.iter();
        let found = segments.filter_map(|segment| {
            let inside = address.checked_sub(segment.range.start.0)?;
            let left = segment.file_size.checked_sub(inside)?;
            let start = usize::try_from(segment.file_offset.checked_add(inside)?).ok()?;
            let length = length.min(usize::try_from(left).ok()?);
            self.owner.image.bytes().get(start..start.checked_add(length)?)
        });
        found.max_by_key(|bytes| bytes.len()).unwrap_or_default()
    }
}
