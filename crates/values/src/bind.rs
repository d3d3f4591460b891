//! What the names of an expression mean in a function. Found once for each place in the program
//! where the expression is evaluated.

use std::sync::{Arc, OnceLock};

use symbols::{Activation, Language, LinkAddress, Module, Name, NameKind, NamedThing, Variable};

use crate::datum::Context;
use crate::error::Error;
use crate::known::Known;
use crate::parse::{Dialect, Parsed, parse};
use crate::parts::member_names;
use crate::types::{base_named, normal};

/// Names that are proposed instead of one that is not known.
const NEAR_MAX: usize = 3;

/// An expression in a place of the program.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Of the frame. It is kept, so that no other one has its address.
    pub module: Option<Arc<Module>>,
    pub parsed: Parsed,
    pub language: Language,
    /// Where the frame is, for messages.
    pub scope: String,
    /// By the slots of names. Those that are not known are looked for again each time.
    names: Vec<OnceLock<Resolved>>,
    /// What can be seen in the frame.
    variables: Vec<Variable>,
    function: Option<Activation>,
}

#[derive(Debug)]
pub(crate) enum Resolved {
    Variable(Known),
    /// A member of what a variable (`this`) points to.
    Inherent {
        of: Known,
        member: String,
    },
    Function {
        module: Arc<Module>,
        address: LinkAddress,
        name: String,
    },
    Enumerator {
        value: i128,
    },
    /// Known to the linker only.
    Symbol {
        module: Arc<Module>,
        address: LinkAddress,
        name: String,
    },
}

impl Bound {
    pub fn new(text: &str, context: &Context<'_>) -> Result<Bound, Error> {
        let mut language = Language::Unknown;
        let mut scope = "the program".to_owned();
        let mut variables = Vec::new();
        let mut function = None;
        if let (Some(module), Some(standing)) = (context.own_module(), context.standing) {
            let mut activations = module.activations(standing.address).into_iter();
            function = match standing.instance {
                Some(instance) => activations.find(|a| a.instance == instance),
                None => activations.next(),
            };
            if let Some(function) = &function {
                language = function.function.language;
                let name = function.function.tree().base();
                scope = name.strip_suffix(" const").unwrap_or(&name).to_owned();
                variables =
                    module.variables(function.instance, standing.address).unwrap_or_default();
            }
        }
        let names = Lookup { context, variables: &variables, function: function.as_ref() };
        let is_type = |name: &str| Some(names.is_type(name, language));
        let parsed = parse(text, &Dialect { language, is_type: &is_type })?;
        let slots = (0..parsed.slots).map(|_| OnceLock::new()).collect();
        let module = context.own_module().cloned();
        Ok(Bound { module, parsed, language, scope, names: slots, variables, function })
    }

    /// An expression over the members of a value, wherever it is.
    pub fn for_printer(text: &str, language: Language) -> Result<Bound, Error> {
        let parsed = parse(text, &Dialect { language, is_type: &|_| None })?;
        Ok(Bound {
            module: None,
            parsed,
            language,
            scope: String::new(),
            names: Vec::new(),
            variables: Vec::new(),
            function: None,
        })
    }

    /// What a name means.
    pub fn resolve(
        &self,
        context: &Context<'_>,
        slot: usize,
        path: &str,
        outward: u32,
    ) -> Option<&Resolved> {
        let known = self.names.get(slot)?;
        if let Some(resolved) = known.get() {
            return Some(resolved);
        }
        let resolved = self.lookup(context).resolve(path, outward)?;
        Some(known.get_or_init(|| resolved))
    }

    fn lookup<'l>(&'l self, context: &'l Context<'l>) -> Lookup<'l> {
        Lookup { context, variables: &self.variables, function: self.function.as_ref() }
    }

    /// Names like one that is not known.
    pub fn near(&self, context: &Context<'_>, wanted: &str, given: &[&str]) -> Vec<String> {
        let mut candidates: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, shown: String| candidates.push((name.to_owned(), shown));
        for name in given {
            add(name, (*name).to_owned());
        }
        for variable in &self.variables {
            add(&variable.name, variable.name.clone());
            let Some(module) = context.own_module() else { continue };
            let ty = context.types.get(module, variable.type_);
            let (inner, arrow) = match ty.target() {
                Some(link) => (context.types.follow(&ty, link), true),
                None => (ty, false),
            };
            let rust = self.language == Language::Rust;
            let sign = if arrow && !rust { "->" } else { "." };
            for member in member_names(context, &inner) {
                let shown = if variable.name == "this" {
                    member.clone()
                } else {
                    format!("{}{sign}{member}", variable.name)
                };
                add(&member, shown);
            }
        }
        if let Some(module) = context.own_module() {
            let found = module.search(wanted, 20);
            let kinds = [NameKind::Variable, NameKind::Enumerator];
            for found in found.into_iter().filter(|found| kinds.contains(&found.kind)) {
                add(&Name::parse(&found.name).base(), found.name);
            }
        }
        nearest(wanted, candidates)
    }
}

/// The candidates that are most like a name.
pub(crate) fn nearest(wanted: &str, candidates: Vec<(String, String)>) -> Vec<String> {
    let wanted = wanted.rsplit("::").next().unwrap_or(wanted).to_lowercase();
    let limit = (wanted.chars().count() / 3).clamp(1, 4);
    let mut ranked: Vec<(usize, String)> = candidates
        .into_iter()
        .filter_map(|(name, shown)| {
            let distance = distance(&wanted, &name.to_lowercase(), limit)?;
            Some((distance, shown))
        })
        .collect();
    ranked.sort_by(|a, b| (a.0, a.1.len(), &a.1).cmp(&(b.0, b.1.len(), &b.1)));
    ranked.dedup_by(|a, b| a.1 == b.1);
    ranked.into_iter().take(NEAR_MAX).map(|(_, shown)| shown).collect()
}

/// How many letters have to be changed, left out, put in or swapped; none if more than a limit.
fn distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit || a.len() > 200 {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|distance| *distance <= limit)
}

struct Lookup<'l> {
    context: &'l Context<'l>,
    variables: &'l [Variable],
    function: Option<&'l Activation>,
}

impl Lookup<'_> {
    fn is_type(&self, name: &str, language: Language) -> bool {
        if base_named(name, language).is_some() {
            return true;
        }
        if !name.contains("::") && self.local(name, 0).is_some() {
            return false;
        }
        type_named(self.context, name).is_some()
    }

    fn local(&self, name: &str, outward: u32) -> Option<&Variable> {
        self.variables.iter().filter(|v| v.name == name).nth(outward as usize)
    }

    fn resolve(&self, path: &str, outward: u32) -> Option<Resolved> {
        let own = self.context.own_module();
        if let (Some(module), Some(variable)) = (own, self.local(path, outward)) {
            let (id, type_) = (variable.id, variable.type_);
            return Some(Resolved::Variable(Known::new(self.context, module, id, type_)));
        }
        if outward > 0 {
            return None;
        }
        self.inherent(path).or_else(|| self.global(path)).or_else(|| self.symbol(path))
    }

    /// Members of `this`, and what a lambda captured.
    fn inherent(&self, path: &str) -> Option<Resolved> {
        let module = self.context.own_module()?;
        let of = |name: &str, member: &str| {
            let variable = self.local(name, 0)?;
            let ty = self.context.types.get(module, variable.type_);
            let inner = self.context.types.follow(&ty, ty.target()?);
            let names = member_names(self.context, &inner);
            names.iter().any(|known| known == member).then(|| Resolved::Inherent {
                of: Known::new(self.context, module, variable.id, variable.type_),
                member: member.to_owned(),
            })
        };
        of("this", path)
            .or_else(|| of("__closure", path))
            .or_else(|| of("__closure", &format!("__{path}")))
    }

    /// Modules with the frame's own first, and whether it is it.
    fn modules(&self) -> impl Iterator<Item = (&Arc<Module>, bool)> {
        let own = self.context.own_module();
        let others = self.context.target.modules().iter().map(|loaded| &loaded.module);
        let others = others.filter(move |m| !own.is_some_and(|own| Arc::ptr_eq(own, m)));
        own.into_iter().map(|m| (m, true)).chain(others.map(|m| (m, false)))
    }

    fn global(&self, path: &str) -> Option<Resolved> {
        const KINDS: [NameKind; 3] = [NameKind::Variable, NameKind::Enumerator, NameKind::Function];
        for (module, own) in self.modules() {
            let things = match self.function.filter(|_| own) {
                Some(function) => module.things_named_from(path, &KINDS, function.instance),
                None => module.things_named(path, &KINDS),
            };
            let around = self.function.map(|f| f.function.tree().components()).unwrap_or_default();
            let best = best(things, path, &around, own);
            let Some(id) = best.as_ref().and_then(|thing| thing.id) else { continue };
            let module = Arc::clone(module);
            match best.map(|thing| (thing.kind, thing.full_name)) {
                Some((NameKind::Variable, _)) => {
                    let type_ = module.type_of(id);
                    let known = Known::new(self.context, &module, id, type_);
                    return Some(Resolved::Variable(known));
                }
                Some((NameKind::Enumerator, _)) => {
                    let Some(value) = module.constant(id) else { continue };
                    return Some(Resolved::Enumerator { value });
                }
                Some((NameKind::Function, name)) => {
                    let codes = module.functions_named(path);
                    let instances = codes.iter().flat_map(|code| &code.instances);
                    let mut starts = instances.filter(|i| !i.inlined);
                    let start = starts.find_map(|i| i.ranges.first()).map(|range| range.start);
                    let Some(address) = start else { continue };
                    return Some(Resolved::Function { module, address, name });
                }
                _ => {}
            }
        }
        None
    }

    fn symbol(&self, path: &str) -> Option<Resolved> {
        self.modules().find_map(|(module, _)| {
            let symbol = module.symbols_named(path).into_iter().next()?;
            (symbol.kind != symbols::SymbolKind::ThreadLocal).then(|| Resolved::Symbol {
                module: Arc::clone(module),
                address: symbol.range.start,
                name: symbol.name,
            })
        })
    }
}

/// Of things whose paths end in a name, the one that is meant: in the scopes around, or with
/// exactly that path. Others are meant if there is only one of them, and it is not far away: what
/// a `using` makes visible is not known.
fn best(
    things: Vec<NamedThing>,
    path: &str,
    around: &[String],
    own_module: bool,
) -> Option<NamedThing> {
    let far = |thing: &NamedThing| distance_of_scopes(&thing.full_name, path, around).0;
    let (distant, near): (Vec<NamedThing>, Vec<NamedThing>) = things.into_iter().partition(far);
    let nearest = near.into_iter().min_by_key(|thing| {
        (distance_of_scopes(&thing.full_name, path, around), thing.kind != NameKind::Variable)
    });
    if nearest.is_some() {
        return nearest;
    }
    let qualified = path.contains("::");
    let mut distant = distant
        .into_iter()
        .filter(|thing| qualified || own_module && thing.kind != NameKind::Function);
    let only = distant.next()?;
    distant.next().is_none().then_some(only)
}

/// How far a name is from where it is used: of several, the one in the nearest scope is meant.
fn distance_of_scopes(full_name: &str, path: &str, around: &[String]) -> (bool, usize) {
    let own = Name::parse(full_name).components();
    let exact = normal(full_name) == normal(path.trim_start_matches("::"));
    let common = own.iter().zip(around).take_while(|(a, b)| a == b).count();
    // In the same scopes first, then the global one of exactly that name.
    let inside = common + Name::parse(path).components().len() == own.len();
    (!(inside || exact), usize::MAX - common)
}

/// A type by its name, in the frame's own module first.
pub(crate) fn type_named(context: &Context<'_>, name: &str) -> Option<Arc<crate::types::Ty>> {
    let modules = context.target.modules().iter().map(|loaded| &loaded.module);
    let mut all = context.own_module().into_iter().chain(modules);
    all.find_map(|module| context.types.named(module, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_alike() {
        let names = ["balance", "e->balance", "valence", "x", "ball"];
        let candidates = |names: &[&str]| {
            let base = |name: &str| name.rsplit("->").next().unwrap_or(name).to_owned();
            names.iter().map(|name| (base(name), (*name).to_owned())).collect()
        };
        assert_eq!(nearest("ballance", candidates(&names)).join(" "), "balance e->balance");
        assert_eq!(nearest("ns::Balance", candidates(&["balance"])).join(" "), "balance");
        assert!(nearest("zzz", candidates(&names)).is_empty());
        assert_eq!(distance("abcd", "abdc", 2), Some(1));
        assert_eq!(distance("abcd", "wxyz", 3), None);
    }

    #[test]
    fn nearer_scopes_win() {
        let around = ["a".to_owned(), "b".to_owned(), "f".to_owned()];
        let mut names = ["x", "c::x", "a::x", "a::b::x"];
        names.sort_by_key(|name| distance_of_scopes(name, "x", &around));
        assert_eq!(names, ["a::b::x", "a::x", "x", "c::x"]);
    }
}
