//! All names of a module: functions, types, global variables, enumerators. Built at the first
//! question about a name, by going through all units in parallel.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use gimli::{Abbreviation, AttributeValue, constants};
use rayon::prelude::*;
use rustc_hash::FxHasher;

use crate::debug::{Debug, UnitId, place};
use crate::die::DieId;
use crate::outline::is_scope;
use crate::parallel::apart;
use crate::units::{Entry, R, text};
use crate::walk::Visitor;

/// So many named entries are kept, some 64 bytes each.
const ENTRIES_MAX: usize = 64 << 20;

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameKind {
    Function,
    /// With its members.
    Type,
    /// Known by name only, in this unit.
    TypeDeclaration,
    /// Global, or static in a function.
    Variable,
    Enumerator,
    SourceFile,
    /// Known to the linker only.
    Symbol,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    pub name: R<'a>,
    pub id: DieId,
    /// Into [`Index::scopes`].
    scope: Option<u32>,
    /// Of the name and all names around it.
    path_hash: u64,
    pub kind: NameKind,
}

#[derive(Clone, Copy, Debug)]
struct PathPart<'a> {
    name: R<'a>,
    parent: Option<u32>,
    path_hash: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Index<'a> {
    /// By name without template arguments, then kind, path, place.
    pub named: Vec<Named<'a>>,
    /// The first of each name, kind and path.
    pub unique: Vec<u32>,
    scopes: Vec<PathPart<'a>>,
    /// Functions and their instances (inlined, or out of line), ascending.
    instances: Vec<(DieId, DieId)>,
}

impl<'a> Index<'a> {
    /// Entries whose name without template arguments is this.
    pub fn with_base(&self, base: &str) -> &[Named<'a>] {
        let base = base.as_bytes();
        let start = self.named.partition_point(|named| base_name(named.name.slice()) < base);
        let behind =
            self.named[start..].partition_point(|named| base_name(named.name.slice()) <= base);
        &self.named[start..start + behind]
    }

    /// Names around a named thing, innermost first.
    pub fn path<'i>(&'i self, named: &Named<'a>) -> impl Iterator<Item = &'a [u8]> + 'i {
        let mut next = named.scope;
        std::iter::from_fn(move || {
            let part = self.scopes[next? as usize];
            next = part.parent;
            Some(part.name.slice())
        })
    }

    /// The name with its path.
    pub fn full_name(&self, named: &Named<'a>) -> String {
        let mut parts: Vec<String> = self.path(named).map(lossy).collect();
        parts.reverse();
        parts.push(text(named.name));
        parts.join("::")
    }

    pub fn instances(&self, origin: DieId) -> impl Iterator<Item = DieId> + '_ {
        let start = self.instances.partition_point(|(from, _)| *from < origin);
        let rest = self.instances[start..].iter();
        rest.take_while(move |(from, _)| *from == origin).map(|(_, instance)| *instance)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A name without template arguments: `vector` of `vector<int>`, but `operator<` whole.
pub(crate) fn base_name(name: &[u8]) -> &[u8] {
    if name.starts_with(b"operator") || name.starts_with(b"<") {
        return name;
    }
    let end = name.iter().position(|byte| *byte == b'<').unwrap_or(name.len());
    &name[..end]
}

/// What one unit adds.
#[derive(Default)]
struct Part<'a> {
    named: Vec<Named<'a>>,
    scopes: Vec<PathPart<'a>>,
    instances: Vec<(DieId, DieId)>,
}

impl<'a> Debug<'a> {
    pub fn index(&self) -> &Index<'a> {
        self.index.get_or_init(|| apart(|| self.build_index()))
    }

    fn build_index(&self) -> Index<'a> {
        let files = self.all_files();
        let units: Vec<UnitId> = files
            .into_iter()
            .flat_map(|file| {
                let units = self.file(file).map_or(0, |file| file.units.len());
                (0..units as u32).map(move |unit| UnitId { file, unit })
            })
            .collect();
        let parts: Vec<Part<'a>> = units.par_iter().map(|id| self.index_unit(*id)).collect();
        let mut index = Index::default();
        for part in parts {
            if index.named.len() + part.named.len() > ENTRIES_MAX {
                self.troubles().add("index", "too many names, the rest is left out");
                break;
            }
            let base = index.scopes.len() as u32;
            let moved = |scope: Option<u32>| scope.map(|scope| scope + base);
            index
                .scopes
                .extend(part.scopes.into_iter().map(|s| PathPart { parent: moved(s.parent), ..s }));
            index
                .named
                .extend(part.named.into_iter().map(|n| Named { scope: moved(n.scope), ..n }));
            index.instances.extend(part.instances);
        }
        let key = |named: &Named<'a>| {
            let name = named.name.slice();
            (base_name(name), name, named.kind, named.path_hash, named.id)
        };
        index.named.par_sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        index.instances.par_sort_unstable();
        let same = |a: &Named<'a>, b: &Named<'a>| {
            (a.path_hash, a.kind, a.name.slice()) == (b.path_hash, b.kind, b.name.slice())
        };
        let first = |at: usize| at == 0 || !same(&index.named[at - 1], &index.named[at]);
        index.unique = (0..index.named.len()).filter(|at| first(*at)).map(|at| at as u32).collect();
        index
    }

    fn index_unit(&self, id: UnitId) -> Part<'a> {
        let mut part = Part::default();
        let Ok(head) = self.head(id) else { return part };
        // The rest of a unit is in its `.dwo` file. (LLVM names that file there as well.)
        let skeleton = id.file == place::MAIN && head.split_name.is_some();
        if skeleton && self.full_unit(id.unit) != id {
            return part;
        }
        let unit = match self.unit(id) {
            Ok(unit) => unit,
            Err(error) => {
                self.trouble(id, error);
                return part;
            }
        };
        let mut reader = Reader {
            debug: self,
            id,
            unit: Arc::clone(&unit),
            part: &mut part,
            open: Vec::new(),
            scopes: Vec::new(),
        };
        if let Err(error) = self.walk(id, &unit, None, &mut reader) {
            self.trouble(id, error);
        }
        part
    }
}

struct Reader<'d, 'p, 'a> {
    debug: &'d Debug<'a>,
    id: UnitId,
    unit: Arc<gimli::Unit<R<'a>>>,
    part: &'p mut Part<'a>,
    /// Depths and numbers of the scopes around.
    open: Vec<(isize, u32)>,
    /// Where the scopes of the part are.
    scopes: Vec<Range<usize>>,
}

impl<'a> Visitor<'a> for Reader<'_, '_, 'a> {
    fn see(&mut self, abbreviation: &Abbreviation, offset: usize, depth: isize) -> bool {
        while let Some((open, scope)) = self.open.last()
            && *open >= depth
        {
            self.scopes[*scope as usize].end = offset;
            self.open.pop();
        }
        let tag = abbreviation.tag();
        is_scope(tag)
            || matches!(
                tag,
                constants::DW_TAG_base_type
                    | constants::DW_TAG_typedef
                    | constants::DW_TAG_variable
                    | constants::DW_TAG_enumerator
            )
    }

    fn take(&mut self, entry: &Entry<'a>, depth: isize) {
        let id = DieId::new(self.id, entry.offset().0);
        let declaration = entry.has_attr(constants::DW_AT_declaration);
        match entry.tag() {
            constants::DW_TAG_inlined_subroutine => self.instance(entry, id),
            constants::DW_TAG_subprogram => {
                if entry.has_attr(constants::DW_AT_abstract_origin) {
                    self.instance(entry, id);
                } else if !declaration {
                    self.add(entry, id, NameKind::Function);
                }
                self.open(entry, depth);
            }
            constants::DW_TAG_variable => {
                let placed = entry.has_attr(constants::DW_AT_const_value)
                    || matches!(
                        entry.attr_value(constants::DW_AT_location),
                        Some(AttributeValue::Exprloc(e)) if is_static(e.0.slice())
                    );
                if placed && !declaration {
                    self.add(entry, id, NameKind::Variable);
                }
            }
            constants::DW_TAG_enumerator => self.add(entry, id, NameKind::Enumerator),
            constants::DW_TAG_base_type | constants::DW_TAG_typedef => {
                self.add(entry, id, NameKind::Type);
            }
            constants::DW_TAG_namespace | constants::DW_TAG_module => self.open(entry, depth),
            _ => {
                let kind = if declaration { NameKind::TypeDeclaration } else { NameKind::Type };
                self.add(entry, id, kind);
                // The names of an enumeration's values are those of the scope around it in C.
                self.open(entry, depth);
            }
        }
    }
}

impl<'a> Reader<'_, '_, 'a> {
    fn name(&self, entry: &Entry<'a>) -> Option<R<'a>> {
        let value = entry.attr_value(constants::DW_AT_name)?;
        self.debug.bytes(self.id, &self.unit, value)
    }

    fn instance(&mut self, entry: &Entry<'a>, id: DieId) {
        let origin = entry.attr_value(constants::DW_AT_abstract_origin);
        if let Some(origin) = origin.and_then(|origin| self.debug.target(self.id, origin)) {
            self.part.instances.push((origin, id));
        }
    }

    fn add(&mut self, entry: &Entry<'a>, id: DieId, kind: NameKind) {
        let scope = self.scope_around(entry);
        let name = self.name(entry).or_else(|| {
            let declared = entry.attr_value(constants::DW_AT_specification)?;
            let declared = self.debug.target(self.id, declared)?;
            let die = self.debug.die(declared).ok()?;
            let value = die.entry.attr_value(constants::DW_AT_name)?;
            self.debug.bytes(declared.unit, &die.unit, value)
        });
        let Some(name) = name.filter(|name| !name.is_empty()) else { return };
        let around = scope.map_or(0, |scope| self.part.scopes[scope as usize].path_hash);
        let path_hash = hash(around, name);
        self.part.named.push(Named { name, id, scope, path_hash, kind });
    }

    fn open(&mut self, entry: &Entry<'a>, depth: isize) {
        let parent = self.scope_around(entry);
        let around = parent.map_or(0, |scope| self.part.scopes[scope as usize].path_hash);
        let anonymous: &[u8] = match entry.tag() {
            constants::DW_TAG_namespace => b"(anonymous namespace)",
            _ => b"(anonymous)",
        };
        let name = self.name(entry).unwrap_or(R::new(anonymous, gimli::LittleEndian));
        let index = self.part.scopes.len() as u32;
        self.part.scopes.push(PathPart { name, parent, path_hash: hash(around, name) });
        let start = entry.offset().0;
        self.scopes.push(start..usize::MAX);
        self.open.push((depth, index));
    }

    /// The scope of an entry, which is that of its declaration for what is defined outside of its
    /// class or namespace.
    fn scope_around(&self, entry: &Entry<'a>) -> Option<u32> {
        match entry.attr_value(constants::DW_AT_specification) {
            Some(AttributeValue::UnitRef(offset)) => self.scope_of(offset.0),
            _ => self.open.last().map(|(_, scope)| *scope),
        }
    }

    /// The scope that an earlier entry is in.
    fn scope_of(&self, offset: usize) -> Option<u32> {
        let behind = self.scopes.partition_point(|range| range.start < offset);
        let mut next = behind.checked_sub(1).map(|index| index as u32);
        while let Some(index) = next {
            if self.scopes[index as usize].contains(&offset) {
                return Some(index);
            }
            next = self.part.scopes[index as usize].parent;
        }
        None
    }
}

fn hash(around: u64, name: R<'_>) -> u64 {
    let mut hasher = FxHasher::default();
    (around, name.slice()).hash(&mut hasher);
    hasher.finish()
}

/// Whether an expression gives a place that does not depend on a frame: DWARF 5, 2.5.1.
pub(crate) fn is_static(expression: &[u8]) -> bool {
    // Thread-local ones begin with an operand of 4 or 8 bytes or an index.
    let first = expression.first().copied().map(gimli::DwOp);
    matches!(
        first,
        Some(
            constants::DW_OP_addr
                | constants::DW_OP_addrx
                | constants::DW_OP_GNU_addr_index
                | constants::DW_OP_const4u
                | constants::DW_OP_const8u
                | constants::DW_OP_constx
                | constants::DW_OP_GNU_const_index
        )
    )
}
