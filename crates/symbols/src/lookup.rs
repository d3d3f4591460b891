//! What has a name: functions with all their instances, and other things.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::debug::Debug;
use crate::die::DieId;
use crate::functions::{Activation, Function};
use crate::index::{NameKind, Named, base_name};
use crate::names::Name;
use crate::ranges::link_range;
use crate::types::TypeId;

/// A function and all code that was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionCode {
    pub function: Arc<Function>,
    /// Out of line first, then inlined ones, each ascending by address.
    pub instances: Vec<Activation>,
}

/// Something with a name, found by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedThing {
    pub kind: NameKind,
    /// With its path.
    pub full_name: String,
    /// For a symbol or source file there is none.
    pub id: Option<DieId>,
}

impl NamedThing {
    /// Of a type.
    pub fn type_id(&self) -> Option<TypeId> {
        let is_type = matches!(self.kind, NameKind::Type | NameKind::TypeDeclaration);
        self.id.filter(|_| is_type).map(TypeId)
    }
}

impl<'a> Debug<'a> {
    /// Functions by name: `f`, `ns::f`, `vector<int>::push_back`, `_ZN2ns1fEv`.
    pub fn functions_named(&self, name: &str) -> Vec<FunctionCode> {
        let mut found: BTreeMap<_, FunctionCode> = BTreeMap::new();
        let mut add = |function: Arc<Function>, instances: Vec<Activation>| {
            // Copies of one inline function, from many units, are one function.
            let declared = function.declared.clone();
            let key = (function.full_name.clone(), function.linkage_name.clone(), declared);
            let known = found
                .entry(key)
                .or_insert_with(|| FunctionCode { function, instances: Vec::new() });
            known.instances.extend(instances);
        };
        for named in self.matching(name).filter(|named| named.kind == NameKind::Function) {
            let instances = self.instances(named.id);
            if !instances.is_empty() {
                add(self.function(named.id), instances);
            }
        }
        for symbol in self.symbols.named(name).into_iter().filter(|s| s.kind.is_code()) {
            // Also by another name than its own: `malloc` is `__libc_malloc`.
            let start = symbol.range.start;
            if let Some(outer) = self.activations(start.0).pop()
                && outer.ranges.iter().any(|range| range.start == start)
            {
                let function = Arc::clone(&outer.function);
                let instances = self.instances(function.id);
                add(function, if instances.is_empty() { vec![outer] } else { instances });
            }
        }
        let mut found: Vec<FunctionCode> = found.into_values().collect();
        for code in &mut found {
            code.instances
                .sort_by_key(|i| (i.inlined, i.ranges.first().map(|r| r.start), i.instance));
            code.instances.dedup();
        }
        found
    }

    /// All things of a name, each path once.
    pub fn things_named(&self, name: &str, kinds: &[NameKind]) -> Vec<NamedThing> {
        self.things_named_from(name, kinds, None)
    }

    /// All things of a name, each path once: in the unit of an entry, if it is there.
    pub fn things_named_from(
        &self,
        name: &str,
        kinds: &[NameKind],
        from: Option<DieId>,
    ) -> Vec<NamedThing> {
        let index = self.index();
        let matching = self.matching(name).filter(|named| kinds.contains(&named.kind));
        let mut things: Vec<NamedThing> = matching
            .map(|named| NamedThing {
                kind: named.kind,
                full_name: index.full_name(named),
                id: Some(named.id),
            })
            .collect();
        let elsewhere = |thing: &NamedThing| {
            from.is_some_and(|from| thing.id.is_none_or(|id| id.unit != from.unit))
        };
        things.sort_by(|a, b| {
            let by_name = (a.kind, &a.full_name).cmp(&(b.kind, &b.full_name));
            by_name.then_with(|| (elsewhere(a), a.id).cmp(&(elsewhere(b), b.id)))
        });
        things.dedup_by(|b, a| (a.kind, &a.full_name) == (b.kind, &b.full_name));
        things
    }

    /// Entries whose path ends in these components.
    pub fn matching<'i>(&'i self, name: &str) -> impl Iterator<Item = &'i Named<'a>> {
        let index = self.index();
        let parsed = Name::parse(name);
        let mut components = parsed.components();
        let base = components.pop().unwrap_or_default();
        let has_arguments = parsed.short().contains("<…>");
        let wanted = squeezed(name);
        index.with_base(&base).iter().filter(move |named| {
            let mut path = index.path(named).map(base_name);
            let path_fits = components.iter().rev().all(|c| path.next() == Some(c.as_bytes()));
            path_fits && (!has_arguments || ends_in(&squeezed(&index.full_name(named)), &wanted))
        })
    }

    /// All code of a function's entry: itself, and its instances.
    fn instances(&self, id: DieId) -> Vec<Activation> {
        let instances = self.index().instances(id);
        [id].into_iter().chain(instances).filter_map(|id| self.activation(id)).collect()
    }

    /// The activation that an entry with code describes.
    fn activation(&self, id: DieId) -> Option<Activation> {
        let functions = self.unit_functions(id.unit).ok()?;
        let offset = id.offset as usize;
        if let Ok(index) = functions.functions.binary_search_by_key(&offset, |f| f.offset) {
            let ranges = functions.ranges(&functions.functions[index].ranges);
            return Some(Activation {
                function: self.function(id),
                instance: id,
                ranges: ranges.iter().map(link_range).collect(),
                called_at: None,
                inlined: false,
            });
        }
        let index = functions.inlined.binary_search_by_key(&offset, |call| call.offset).ok()?;
        let call = &functions.inlined[index];
        let has_code = !call.ranges.is_empty();
        has_code.then(|| self.inlined_activation(id.unit, &functions, call))
    }
}

/// Without spaces: producers differ in where they put them.
fn squeezed(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Whether a path ends in another, at a border of components.
fn ends_in(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
}
