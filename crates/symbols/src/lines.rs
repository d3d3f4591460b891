//! Line tables: which line an instruction was compiled from, and where the code of a line is.

use std::ops::Range;
use std::sync::Arc;

use gimli::{AttributeValue, ColumnType};

use crate::debug::{Debug, UnitId};
use crate::error::Error;
use crate::ranges::{RangeMap, normalise};
use crate::units::{R, UnitHead, text};
use crate::{LinkAddress, LinkRange};

/// A source file as the compiler knew it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceFile {
    /// Absolute if the compiler said where it ran; `.` and `..` are resolved where that cannot
    /// change the meaning.
    pub path: String,
    /// Of the file's contents.
    pub md5: Option<[u8; 16]>,
}

/// What the line table says about an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub file: Arc<SourceFile>,
    /// From 1; 0 is code that comes from no line.
    pub line: u32,
    /// From 1; 0 is not known.
    pub column: u32,
    /// Tells apart blocks of one line.
    pub discriminator: u32,
    /// A good place to stop: a statement begins here.
    pub is_stmt: bool,
    /// A good place to stop at the entry of a function: behind its prologue.
    pub prologue_end: bool,
    pub epilogue_begin: bool,
    /// From this row of the table to the next; empty if the next row has the same address.
    pub range: LinkRange,
}

/// Lines with code in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRange {
    pub line: u32,
    pub column: u32,
    pub discriminator: u32,
    pub is_stmt: bool,
    pub range: LinkRange,
}

/// Paths of one unit take so many bytes at most: a few bytes of a table can ask for long ones.
const PATH_BYTES_MAX: usize = 64 << 20;

const IS_STMT: u8 = 1;
const PROLOGUE_END: u8 = 2;
const EPILOGUE_BEGIN: u8 = 4;

/// A row of a table, 32 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub address: u64,
    pub line: u32,
    pub column: u32,
    pub discriminator: u32,
    pub file: u32,
    flags: u8,
}

impl Row {
    pub fn is_stmt(&self) -> bool {
        self.flags & IS_STMT != 0
    }

    pub fn prologue_end(&self) -> bool {
        self.flags & PROLOGUE_END != 0
    }
}

/// The line table of one unit.
#[derive(Debug, Default)]
pub(crate) struct UnitLines {
    /// By the file numbers of the unit; unused ones are empty.
    pub files: Vec<Arc<SourceFile>>,
    rows: Vec<Row>,
    /// Rows of each sequence; the last one only ends it.
    pub sequences: RangeMap<Range<u32>>,
}

impl UnitLines {
    pub fn file(&self, index: u64) -> Option<&Arc<SourceFile>> {
        let file = self.files.get(usize::try_from(index).ok()?)?;
        (!file.path.is_empty()).then_some(file)
    }

    /// The row in force at an address: of several with the same address, the last.
    pub fn at(&self, address: u64) -> Option<Line> {
        let (rows, index) = self.row_at(address)?;
        Some(self.line(rows, index))
    }

    /// The rows of the sequence that contains an address, and the one in force.
    pub fn row_at(&self, address: u64) -> Option<(&[Row], usize)> {
        let (_, rows) = self.sequences.containing(address).next()?;
        let rows = &self.rows[rows.start as usize..rows.end as usize];
        let behind = rows.partition_point(|row| row.address <= address);
        Some((rows, behind.checked_sub(1)?))
    }

    fn line(&self, rows: &[Row], index: usize) -> Line {
        let row = &rows[index];
        let end = rows.get(index + 1).map_or(row.address, |next| next.address);
        let file = self.files.get(row.file as usize).cloned();
        Line {
            file: file.unwrap_or_else(|| Arc::new(SourceFile { path: String::new(), md5: None })),
            line: row.line,
            column: row.column,
            discriminator: row.discriminator,
            is_stmt: row.is_stmt(),
            prologue_end: row.prologue_end(),
            epilogue_begin: row.flags & EPILOGUE_BEGIN != 0,
            range: LinkAddress(row.address)..LinkAddress(end),
        }
    }

    /// All rows as lines, sequence by sequence, ascending by address.
    pub fn all(&self) -> impl Iterator<Item = Line> + '_ {
        self.sequences.entries().iter().flat_map(|(_, rows)| {
            let rows = &self.rows[rows.start as usize..rows.end as usize];
            (0..rows.len() - 1).map(|index| self.line(rows, index))
        })
    }

    fn bytes(&self) -> usize {
        let files: usize = self.files.iter().map(|file| file.path.len() + 80).sum();
        files + self.rows.len() * size_of::<Row>() + self.sequences.entries().len() * 48
    }
}

type Program<'a> = gimli::IncompleteLineProgram<R<'a>>;

impl<'a> Debug<'a> {
    /// The line table of a unit; empty if it has none.
    pub fn unit_lines(&self, id: UnitId) -> Result<Arc<UnitLines>, Error> {
        self.lines.get(id.key(), || {
            let lines = self.read_lines(id)?;
            let bytes = lines.bytes();
            Ok((lines, bytes))
        })
    }

    /// The line program of a unit, if it has one.
    pub fn line_program(&self, id: UnitId) -> Result<Option<Program<'a>>, Error> {
        let (head, dwarf) = (self.head(id)?, self.dwarf(id)?);
        let Some(offset) = head.lines else { return Ok(None) };
        let size = head.header.address_size();
        let program = dwarf.debug_line.program(offset, size, head.directory, head.name);
        program.map(Some).map_err(|error| Error::Broken {
            place: format!("line table of {}", self.place(id, 0)),
            what: error.to_string(),
        })
    }

    fn read_lines(&self, id: UnitId) -> Result<UnitLines, Error> {
        let Some(program) = self.line_program(id)? else { return Ok(UnitLines::default()) };
        let head = self.head(id)?;
        let unit = self.unit(id)?;
        let mut lines = UnitLines {
            files: self.read_files(id, &unit, head, program.header()),
            ..UnitLines::default()
        };
        let mut sequences = Vec::new();
        let mut first = 0;
        let mut rows = program.rows();
        loop {
            let row = match rows.next_row() {
                Ok(Some((_, row))) => row,
                Ok(None) => break,
                // Sequences that are complete stand.
                Err(error) => {
                    self.troubles().add(self.place(id, 0), format_args!("line table: {error}"));
                    break;
                }
            };
            lines.rows.push(compact(row));
            if row.end_sequence() {
                let end = lines.rows.len();
                self.end_sequence(&mut lines, &mut sequences, first..end);
                first = lines.rows.len();
            }
        }
        lines.rows.truncate(first);
        lines.rows.shrink_to_fit();
        lines.sequences = RangeMap::new(sequences);
        Ok(lines)
    }

    /// Takes a sequence, or drops it if nothing is where it claims to be: the linker dropped it.
    fn end_sequence(
        &self,
        lines: &mut UnitLines,
        sequences: &mut Vec<(Range<u64>, Range<u32>)>,
        rows: Range<usize>,
    ) {
        let sequence = &mut lines.rows[rows.clone()];
        // Stable: of rows with one address the last is in force. Only broken tables need it.
        if !sequence.is_sorted_by_key(|row| row.address) {
            sequence.sort_by_key(|row| row.address);
        }
        let (start, end) = (sequence[0].address, sequence[sequence.len() - 1].address);
        if start < end && self.image.is_code(LinkAddress(start)) {
            sequences.push((start..end, rows.start as u32..rows.end as u32));
        } else {
            lines.rows.truncate(rows.start);
        }
    }

    /// File names with their directories: DWARF 5, 6.2.4. Numbers begin at 1 before version 5.
    pub fn read_files(
        &self,
        id: UnitId,
        unit: &gimli::Unit<R<'a>>,
        head: &UnitHead<'a>,
        header: &gimli::LineProgramHeader<R<'a>>,
    ) -> Vec<Arc<SourceFile>> {
        let string = |value: AttributeValue<R<'a>>| self.bytes(id, unit, value).map(text);
        let mut base = head.directory.map(text).unwrap_or_default();
        if header.version() >= 5
            && let Some(first) = header.directory(0).and_then(string)
        {
            base = join_path(&base, &first);
        }
        let directories_max = PATH_BYTES_MAX / (base.len() + 1);
        let directories: Vec<String> = (0..=header.include_directories().len() as u64)
            .take(directories_max)
            .map(|index| {
                let directory = header.directory(index).and_then(string);
                join_path(&base, &directory.unwrap_or_default())
            })
            .collect();
        let mut files = Vec::with_capacity(header.file_names().len() + 1);
        let mut path_bytes: usize = directories.iter().map(String::len).sum();
        if header.version() < 5 {
            let name = head.name.map(text).unwrap_or_default();
            let path = if name.is_empty() { name } else { join_path(&base, &name) };
            files.push(Arc::new(SourceFile { path, md5: None }));
        }
        for entry in header.file_names() {
            let name = string(entry.path_name()).unwrap_or_default();
            let directory = usize::try_from(entry.directory_index());
            let directory = directory.ok().and_then(|index| directories.get(index));
            let path = join_path(directory.unwrap_or(&base), &name);
            let md5 = header.file_has_md5().then(|| *entry.md5());
            path_bytes += path.len();
            if path_bytes > PATH_BYTES_MAX {
                self.trouble(id, "paths of files are too long together, the rest is left out");
                break;
            }
            files.push(Arc::new(SourceFile { path, md5 }));
        }
        files
    }

    /// The line of an address.
    pub fn line_at(&self, address: u64) -> Option<Line> {
        self.unit_ranges.containing(address).find_map(|(_, unit)| {
            let id = UnitId { file: crate::debug::place::MAIN, unit: *unit };
            self.lines_or_trouble(id)?.at(address)
        })
    }

    pub fn lines_or_trouble(&self, id: UnitId) -> Option<Arc<UnitLines>> {
        match self.unit_lines(id) {
            Ok(lines) => Some(lines),
            Err(error) => {
                self.trouble(id, error);
                None
            }
        }
    }
}

fn compact(row: &gimli::LineRow) -> Row {
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    Row {
        address: row.address(),
        line: narrow(row.line().map_or(0, std::num::NonZero::get)),
        column: match row.column() {
            ColumnType::LeftEdge => 0,
            ColumnType::Column(column) => narrow(column.get()),
        },
        discriminator: narrow(row.discriminator()),
        file: narrow(row.file_index()),
        flags: flag(row.is_stmt(), IS_STMT)
            | flag(row.prologue_end(), PROLOGUE_END)
            | flag(row.epilogue_begin(), EPILOGUE_BEGIN),
    }
}

/// The second path, relative to the first unless absolute, with `.` and `..` resolved.
pub(crate) fn join_path(directory: &str, path: &str) -> String {
    let joined = match (directory, path) {
        (_, path) if path.starts_with('/') => path.to_owned(),
        ("", path) => path.to_owned(),
        (directory, "") => directory.to_owned(),
        (directory, path) => format!("{directory}/{path}"),
    };
    clean_path(&joined)
}

/// Without `.`, doubled slashes, and `x/..`. (A symbolic link `x` would make a difference that
/// cannot be seen from here; compilers write `..` behind real directories.)
fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                None if path.starts_with('/') => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

/// All code of the lines of one file, by line and address.
pub(crate) fn ranges_of_file(
    lines: &UnitLines,
    is_file: impl Fn(&SourceFile) -> bool,
) -> Vec<LineRange> {
    let wanted: Vec<bool> = lines.files.iter().map(|file| is_file(file)).collect();
    let mut ranges = Vec::new();
    for (_, rows) in lines.sequences.entries() {
        let rows = &lines.rows[rows.start as usize..rows.end as usize];
        for pair in rows.windows(2) {
            let row = pair[0];
            if row.line > 0 && wanted.get(row.file as usize) == Some(&true) {
                ranges.push(LineRange {
                    line: row.line,
                    column: row.column,
                    discriminator: row.discriminator,
                    is_stmt: row.is_stmt(),
                    range: LinkAddress(row.address)..LinkAddress(pair[1].address),
                });
            }
        }
    }
    ranges
}

/// The addresses of rows, joined where they touch.
pub fn merged(ranges: &[LineRange]) -> Vec<LinkRange> {
    let plain = ranges.iter().map(|range| range.range.start.0..range.range.end.0).collect();
    normalise(plain).iter().map(crate::ranges::link_range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(join_path("/a/b", "../c/./d.c"), "/a/c/d.c");
        assert_eq!(join_path("", "x.c"), "x.c");
        assert_eq!(join_path("/a", "/b//c.c"), "/b/c.c");
        assert_eq!(join_path("../x", "../../y"), "../../y");
        assert_eq!(join_path("/", "../y"), "/y");
    }
}
