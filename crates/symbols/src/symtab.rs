//! Symbols of the linker: what there is without debug information.

use std::ops::Range;

use object::elf::{STB_GLOBAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, STT_OBJECT, STT_TLS};
use object::read::elf::Sym as _;
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, ObjectSymbolTable};
use rustc_hash::FxHashMap;

use crate::file::File;
use crate::image::Image;
use crate::ranges::{RangeMap, link_range};
use crate::{LinkAddress, LinkRange};

/// What a symbol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SymbolKind {
    Function,
    /// The function that chooses an implementation when the program is loaded.
    IndirectFunction,
    /// A stub of the procedure linkage table, which jumps to a function of another module.
    Plt,
    Data,
    /// Its address is an offset into the module's thread-local block.
    ThreadLocal,
    /// In code, but the assembler did not say what.
    Label,
}

impl SymbolKind {
    pub fn is_code(self) -> bool {
        !matches!(self, SymbolKind::Data | SymbolKind::ThreadLocal)
    }
}

/// A symbol of the linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// As the linker knows it; stubs end in `@plt`.
    pub name: String,
    pub kind: SymbolKind,
    /// Up to the next symbol or the end of the section where no size is stated.
    pub range: LinkRange,
    /// Whether the symbol states its size.
    pub sized: bool,
    pub global: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    name: &'a [u8],
    kind: SymbolKind,
    range: (u64, u64),
    sized: bool,
    /// Global, weak, local.
    binding: u8,
}

impl Entry<'_> {
    fn symbol(&self) -> Symbol {
        let suffix = if self.kind == SymbolKind::Plt { "@plt" } else { "" };
        Symbol {
            name: format!("{}{suffix}", String::from_utf8_lossy(self.name)),
            kind: self.kind,
            range: link_range(&(self.range.0..self.range.1)),
            sized: self.sized,
            global: self.binding < 2,
        }
    }

    /// Less is better: a name for an address is stated with its size, global, of a function.
    fn rank(&self) -> impl Ord {
        (!self.sized, self.binding, self.kind, self.name.len(), self.name)
    }
}

#[derive(Debug, Default)]
pub(crate) struct SymbolTable<'a> {
    /// Ascending by address, equal ones by rank.
    entries: Vec<Entry<'a>>,
    code: RangeMap<u32>,
    data: RangeMap<u32>,
    by_name: FxHashMap<&'a [u8], Vec<u32>>,
}

impl<'a> SymbolTable<'a> {
    /// Symbols of the image, and of its separate debug file, which has more of them.
    pub fn new(image_file: &'a File, debug_file: Option<&'a File>, image: &Image) -> Self {
        let mut entries = Vec::new();
        let files = debug_file.into_iter().chain([image_file]);
        for file in files {
            let Ok(elf) = file.elf() else { continue };
            for table in [elf.symbol_table(), elf.dynamic_symbol_table()].into_iter().flatten() {
                entries.extend(table.symbols().filter_map(|symbol| {
                    let name = symbol.name_bytes().ok()?;
                    entry(name, symbol.elf_symbol(), image)
                }));
            }
        }
        entries.extend(plt(image_file).into_iter().map(|(range, name)| Entry {
            name,
            kind: SymbolKind::Plt,
            range: (range.start, range.end),
            sized: true,
            binding: 2,
        }));
        entries.sort_by(|a, b| (a.range.0, a.rank()).cmp(&(b.range.0, b.rank())));
        entries.dedup_by(|a, b| a.range == b.range && a.name == b.name && a.kind == b.kind);
        give_sizes(&mut entries, image);
        let ranges = |code: bool| {
            let wanted = entries.iter().zip(0..);
            let wanted = wanted.filter(|(e, _)| e.kind.is_code() == code);
            let wanted = wanted.filter(|(e, _)| e.kind != SymbolKind::ThreadLocal);
            RangeMap::new(wanted.map(|(e, index)| (e.range.0..e.range.1, index)).collect())
        };
        let (code, data) = (ranges(true), ranges(false));
        let mut by_name: FxHashMap<&[u8], Vec<u32>> = FxHashMap::default();
        for (entry, index) in entries.iter().zip(0..) {
            by_name.entry(entry.name).or_default().push(index);
        }
        SymbolTable { entries, code, data, by_name }
    }

    /// The best name for an address of code.
    pub fn code_at(&self, address: u64) -> Option<Symbol> {
        self.best(&self.code, address)
    }

    pub fn data_at(&self, address: u64) -> Option<Symbol> {
        self.best(&self.data, address)
    }

    fn best(&self, map: &RangeMap<u32>, address: u64) -> Option<Symbol> {
        let containing = map.containing(address).map(|(_, index)| &self.entries[*index as usize]);
        // The one that begins last says most, and a stated size more than a guessed one.
        let start = |entry: &Entry<'_>| (entry.sized, entry.range.0);
        let best = containing.reduce(|best, entry| {
            let by_start = start(entry).cmp(&start(best));
            if by_start.then_with(|| best.rank().cmp(&entry.rank())).is_gt() { entry } else { best }
        });
        best.map(Entry::symbol)
    }

    /// All symbols of a name (without `@plt` for stubs), ascending by address.
    pub fn named(&self, name: &str) -> Vec<Symbol> {
        let (bare, stub) = match name.strip_suffix("@plt") {
            Some(bare) => (bare, true),
            None => (name, false),
        };
        let found = self.by_name.get(bare.as_bytes()).into_iter().flatten();
        let entries = found.map(|index| &self.entries[*index as usize]);
        entries.filter(|e| (e.kind == SymbolKind::Plt) == stub).map(Entry::symbol).collect()
    }

    /// All symbols, ascending by address.
    pub fn all(&self) -> impl ExactSizeIterator<Item = Symbol> + '_ {
        self.entries.iter().map(Entry::symbol)
    }

    /// Names and what they name, without copying them; ascending by address.
    pub fn names(&self) -> impl Iterator<Item = (&'a [u8], SymbolKind, u64)> + '_ {
        self.entries.iter().map(|entry| (entry.name, entry.kind, entry.range.0))
    }
}

fn entry<'a>(
    name: &'a [u8],
    symbol: &object::elf::Sym64<LittleEndian>,
    image: &Image,
) -> Option<Entry<'a>> {
    let endian = LittleEndian;
    let address = symbol.st_value(endian);
    let kind = match symbol.st_type() {
        STT_FUNC => SymbolKind::Function,
        STT_GNU_IFUNC => SymbolKind::IndirectFunction,
        STT_OBJECT => SymbolKind::Data,
        STT_TLS => SymbolKind::ThreadLocal,
        STT_NOTYPE if image.is_code(LinkAddress(address)) => SymbolKind::Label,
        STT_NOTYPE if image.is_loaded(LinkAddress(address)) => SymbolKind::Data,
        _ => return None,
    };
    if symbol.is_undefined(endian) || name.is_empty() {
        return None;
    }
    let size = symbol.st_size(endian);
    let binding = match symbol.st_bind() {
        STB_GLOBAL => 0,
        STB_WEAK => 1,
        _ => 2,
    };
    let end = address.checked_add(size)?;
    Some(Entry { name, kind, range: (address, end), sized: size > 0, binding })
}

/// Symbols without a size reach to the next one of another address, or to the end of the section.
fn give_sizes(entries: &mut [Entry<'_>], image: &Image) {
    let mut next_start = u64::MAX;
    let mut start = u64::MAX;
    for entry in entries.iter_mut().rev() {
        if entry.kind == SymbolKind::ThreadLocal {
            continue;
        }
        if entry.range.0 < start {
            (next_start, start) = (start, entry.range.0);
        }
        if !entry.sized {
            let section = image.section_at(LinkAddress(start));
            let end = section.map_or(start + u64::from(start < u64::MAX), |s| s.range.end.0);
            entry.range.1 = next_start.min(end);
        }
    }
}

/// Stubs of the procedure linkage table with the names of the functions that they jump to:
/// whatever in a `.plt` section jumps through a slot that a relocation fills with a symbol.
fn plt(file: &File) -> Vec<(Range<u64>, &[u8])> {
    let Ok(elf) = file.elf() else { return Vec::new() };
    let Some(symbols) = elf.dynamic_symbol_table() else { return Vec::new() };
    let mut slots: FxHashMap<u64, &[u8]> = FxHashMap::default();
    for (slot, relocation) in elf.dynamic_relocations().into_iter().flatten() {
        let object::RelocationTarget::Symbol(index) = relocation.target() else { continue };
        let name = symbols.symbol_by_index(index).and_then(|symbol| symbol.name_bytes());
        if let Ok(name) = name
            && !name.is_empty()
        {
            slots.insert(slot, name);
        }
    }
    let mut stubs = Vec::new();
    for section in elf.sections() {
        let name = section.name().unwrap_or_default();
        if name != ".plt" && !name.starts_with(".plt.") {
            continue;
        }
        let (address, code) = (section.address(), section.data().unwrap_or_default());
        let stated = section.elf_section_header().sh_entsize.get(LittleEndian);
        let size = if stated == 8 { 8 } else { 16 };
        for (index, stub) in code.chunks_exact(size).enumerate() {
            let start = address.wrapping_add((index * size) as u64);
            let slot = jump_slot(stub, start);
            if let Some(name) = slot.and_then(|slot| slots.get(&slot)) {
                stubs.push((start..start.saturating_add(size as u64), *name));
            }
        }
    }
    stubs
}

/// The slot that a stub jumps through: `[endbr64] [bnd] jmp *displacement(%rip)`.
fn jump_slot(stub: &[u8], start: u64) -> Option<u64> {
    let mut at = 0;
    if stub.starts_with(&[0xf3, 0x0f, 0x1e, 0xfa]) {
        at += 4;
    }
    if stub.get(at) == Some(&0xf2) {
        at += 1;
    }
    let displacement = stub.get(at..)?.strip_prefix(&[0xff, 0x25])?.first_chunk::<4>()?;
    let next = start.wrapping_add(at as u64 + 6);
    Some(next.wrapping_add_signed(i64::from(i32::from_le_bytes(*displacement))))
}
