//! The source files of a module, and the code of their lines.

use std::sync::Arc;

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::debug::{Debug, UnitId};
use crate::error::Error;
use crate::lines::{Line, LineRange, SourceFile, ranges_of_file};
use crate::parallel::apart;

/// All source files, ascending by path, with the units that mention them.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub files: Vec<Arc<SourceFile>>,
    units: Vec<Vec<UnitId>>,
}

impl Sources {
    fn units_of(&self, path: &str) -> &[UnitId] {
        match self.files.binary_search_by(|file| file.path.as_str().cmp(path)) {
            Ok(index) => &self.units[index],
            Err(_) => &[],
        }
    }
}

impl<'a> Debug<'a> {
    pub fn sources(&self) -> &Sources {
        self.sources.get_or_init(|| apart(|| self.read_sources()))
    }

    /// Units with line tables, one for each table.
    fn tables(&self) -> Vec<UnitId> {
        let mut seen = FxHashSet::default();
        let mut units: Vec<UnitId> = Vec::new();
        // Only the program itself has lines with addresses. Units may share a table.
        for (head, unit) in self.main_file().units.iter().zip(0..) {
            if let Some(offset) = head.lines
                && seen.insert(offset.0)
            {
                units.push(UnitId { file: crate::debug::place::MAIN, unit });
            }
        }
        units
    }

    fn read_sources(&self) -> Sources {
        let units = self.tables();
        let files: Vec<_> = units
            .par_iter()
            .map(|id| {
                let files = self.unit_files(*id);
                files.unwrap_or_else(|error| {
                    self.trouble(*id, error);
                    Vec::new()
                })
            })
            .collect();
        let mut by_path: FxHashMap<String, (Option<[u8; 16]>, Vec<UnitId>)> = FxHashMap::default();
        for (files, unit) in files.into_iter().zip(&units) {
            for file in files {
                if file.path.is_empty() {
                    continue;
                }
                let known = by_path.entry(file.path.clone()).or_default();
                known.0 = known.0.or(file.md5);
                if known.1.last() != Some(unit) {
                    known.1.push(*unit);
                }
            }
        }
        #[allow(clippy::iter_over_hash_type, reason = "sorted by path, which is unique")]
        let mut all: Vec<_> = by_path.into_iter().collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let all =
            all.into_iter().map(|(path, (md5, units))| (Arc::new(SourceFile { path, md5 }), units));
        let (files, units) = all.unzip();
        Sources { files, units }
    }

    fn unit_files(&self, id: UnitId) -> Result<Vec<Arc<SourceFile>>, Error> {
        let Some(program) = self.line_program(id)? else { return Ok(Vec::new()) };
        let unit = self.unit(id)?;
        Ok(self.read_files(id, &unit, self.head(id)?, program.header()))
    }

    /// All code of a file's lines, ascending by line, then address.
    pub fn lines_of_file(&self, path: &str) -> Vec<LineRange> {
        let units = self.sources().units_of(path);
        let mut ranges: Vec<LineRange> = units
            .par_iter()
            .flat_map_iter(|id| {
                let lines = self.lines_or_trouble(*id);
                lines.map(|lines| ranges_of_file(&lines, |f| f.path == path)).unwrap_or_default()
            })
            .collect();
        let key = |r: &LineRange| (r.line, r.range.start, r.range.end, r.column, r.discriminator);
        ranges.sort_by_key(key);
        ranges.dedup();
        ranges
    }

    /// All rows of all tables, each table once.
    pub fn all_lines(&self) -> Vec<Line> {
        let tables = self.tables();
        let tables = tables.par_iter().filter_map(|id| self.lines_or_trouble(*id));
        tables.flat_map_iter(|lines| lines.all().collect::<Vec<_>>()).collect()
    }
}
