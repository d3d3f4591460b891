//! What code a question is about: lines, functions, addresses, in every address space.

use std::collections::BTreeMap;
use std::ops::Range;

use model::Address;
use store::{Key, Owner, Tree};
use symbols::{Activation, LinkRange, merged};

use crate::database::Database;
use crate::failure::{Code, Failure};
use crate::modules::{Loaded, LoadedModule};
use crate::protocol::Hex;

/// Ranges that one question may be about.
const RANGES_MAX: usize = 10_000;

/// How executions of code are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// A maximal stretch in one frame, begun anew by entry from elsewhere or by a backward jump.
    Stretch,
    /// Each execution of the first instruction of a range.
    Start,
}

/// Code, by address space.
#[derive(Clone, Debug)]
pub struct CodeSet {
    pub counting: Counting,
    /// Of each space: sorted ranges that do not overlap.
    pub spaces: BTreeMap<u32, Vec<Range<Address>>>,
}

impl CodeSet {
    /// All code of a line of a source file.
    ///
    /// # Errors
    ///
    /// [`Code::NoSuchFile`], or [`Code::NoCode`] naming the nearest line that has some.
    pub fn line(db: &Database, file: &str, line: u32) -> Result<CodeSet, Failure> {
        let mut set = CodeSet { counting: Counting::Stretch, spaces: BTreeMap::new() };
        let (mut known, mut near) = (false, None::<u32>);
        for module in db.modules.all() {
            for path in paths(module, file) {
                known = true;
                let Some(symbols) = module.symbols() else { continue };
                let rows = symbols.lines_of_file(&path);
                let own: Vec<_> = rows.iter().filter(|row| row.line == line).cloned().collect();
                for row in rows.iter().filter(|row| row.line != 0) {
                    let nearer =
                        near.is_none_or(|near| row.line.abs_diff(line) < near.abs_diff(line));
                    if nearer {
                        near = Some(row.line);
                    }
                }
                set.add(db, module, &merged(&own));
            }
        }
        if !known {
            let what = format!("no program of the recording has the source file {file}");
            return Err(
                Failure::new(Code::NoSuchFile, what).hint("`sources` lists those there are")
            );
        }
        set.finish(|| {
            let failure = Failure::new(Code::NoCode, format!("line {line} of {file} has no code"));
            match near {
                Some(near) => failure.hint(format!("the nearest line with code is {near}")),
                None => failure,
            }
        })
    }

    /// All calls of a function, inlined ones too.
    pub fn function(db: &Database, name: &str) -> Result<(CodeSet, CodeSet), Failure> {
        let mut calls = CodeSet { counting: Counting::Start, spaces: BTreeMap::new() };
        let mut inlined = CodeSet { counting: Counting::Stretch, spaces: BTreeMap::new() };
        for module in db.modules.all() {
            let Some(symbols) = module.symbols() else { continue };
            let mut starts = Vec::new();
            for code in symbols.functions_named(name) {
                for instance in &code.instances {
                    if instance.inlined {
                        inlined.add(db, module, &instance.ranges);
                    } else {
                        starts.extend(entry(instance));
                    }
                }
            }
            if starts.is_empty() {
                let symbols = symbols.symbols_named(name);
                let code = symbols.iter().filter(|symbol| symbol.kind.is_code());
                starts.extend(code.map(|symbol| {
                    symbol.range.start..symbols::LinkAddress(symbol.range.start.0 + 1)
                }));
            }
            calls.add(db, module, &starts);
        }
        if calls.spaces.is_empty() && inlined.spaces.is_empty() {
            let what = format!("no function is called `{name}`");
            return Err(Failure::new(Code::NoSuchName, what)
                .hint("`search` finds functions by parts of their name"));
        }
        calls.sort();
        inlined.sort();
        Ok((calls, inlined))
    }

    /// One instruction.
    pub fn address(db: &Database, address: Hex) -> CodeSet {
        let range = Address(address.0).range(1);
        let spaces = db.history.spaces.keys().map(|space| (*space, vec![range.clone()]));
        CodeSet { counting: Counting::Start, spaces: spaces.collect() }
    }

    fn add(&mut self, db: &Database, module: &LoadedModule, ranges: &[LinkRange]) {
        if ranges.is_empty() {
            return;
        }
        for (space, bias) in places(db, module) {
            let run = |address: symbols::LinkAddress| Address(address.0.wrapping_add(bias));
            let ranges = ranges.iter().map(|range| run(range.start)..run(range.end));
            self.spaces.entry(space).or_default().extend(ranges);
        }
    }

    fn sort(&mut self) {
        for ranges in self.spaces.values_mut() {
            ranges.sort_by_key(|range| (range.start, range.end));
            ranges.dedup();
            ranges.truncate(RANGES_MAX);
        }
    }

    fn finish(mut self, none: impl FnOnce() -> Failure) -> Result<CodeSet, Failure> {
        self.sort();
        if self.spaces.is_empty() { Err(none()) } else { Ok(self) }
    }

    pub fn contains(&self, space: u32, address: Address) -> bool {
        let Some(ranges) = self.spaces.get(&space) else { return false };
        let behind = ranges.partition_point(|range| range.start <= address);
        // Ranges of nested inlined calls may contain each other.
        ranges[..behind].iter().rev().take(8).any(|range| range.contains(&address))
    }

    fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.spaces.iter().flat_map(|(space, ranges)| {
            ranges.iter().map(|range| Key::Executed { owner: Owner(*space), code: range.clone() })
        })
    }

    /// The first leaf from `border` on in which some of it was executed.
    pub fn first_leaf(&self, tree: &Tree<'_>, border: u64) -> Result<Option<u64>, Failure> {
        let mut first = None;
        for key in self.keys() {
            let found = tree.first_from(&key, border)?;
            first = first.into_iter().chain(found).min();
            if first == Some(border) {
                break;
            }
        }
        Ok(first)
    }

    /// The last leaf before `border`.
    pub fn last_leaf(&self, tree: &Tree<'_>, border: u64) -> Result<Option<u64>, Failure> {
        let mut last = None;
        for key in self.keys() {
            last = last.max(tree.last_before(&key, border)?);
            if last.is_some_and(|last| last + 1 == border) {
                break;
            }
        }
        Ok(last)
    }
}

fn entry(instance: &Activation) -> Option<LinkRange> {
    let first = instance.ranges.first()?;
    Some(first.start..symbols::LinkAddress(first.start.0 + 1))
}

/// Where a module was mapped, in all spaces: its bias in each.
pub fn places(db: &Database, module: &LoadedModule) -> Vec<(u32, u64)> {
    let mut places = Vec::new();
    for (space, history) in &db.history.spaces {
        for mapped in history.mapped.iter().filter(|mapped| mapped.name == module.path) {
            if let Some(Loaded { bias, .. }) = db.modules.of_mapping(mapped)
                && !places.contains(&(*space, bias))
            {
                places.push((*space, bias));
            }
        }
    }
    places
}

/// Paths of a module's source files that a file's name may mean: the whole path, or its end.
pub fn paths(module: &LoadedModule, file: &str) -> Vec<String> {
    let Some(symbols) = module.symbols() else { return Vec::new() };
    let files = symbols.source_files();
    let is = |path: &str| {
        path == file || path.strip_suffix(file).is_some_and(|before| before.ends_with('/'))
    };
    files.iter().filter(|known| is(&known.path)).map(|known| known.path.clone()).collect()
}
