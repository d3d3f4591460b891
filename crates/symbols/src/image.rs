//! What the linker says about a file: identity, sections, segments.

use object::elf::{ET_DYN, PF_X, PT_LOAD, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS, SHF_WRITE};
use object::read::elf::ProgramHeader as _;
use object::{LittleEndian, Object, ObjectSection, SectionFlags};

use crate::file::Elf;
use crate::{LinkAddress, LinkRange};

/// A section that is in memory when the program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub range: LinkRange,
    pub executable: bool,
    pub writable: bool,
    /// Initial contents of thread-local variables: its range overlaps others.
    pub thread_local: bool,
}

/// A part of the file that is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub range: LinkRange,
    /// Where it begins in the file, in bytes.
    pub file_offset: u64,
    /// How much of it the file holds, in bytes; zeros follow.
    pub file_size: u64,
    pub executable: bool,
}

/// What the linker says about a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub build_id: Option<Vec<u8>>,
    /// Ascending by address.
    pub sections: Vec<Section>,
    /// `PT_LOAD` in the order of the file.
    pub segments: Vec<Segment>,
    /// Where execution begins, of a program.
    pub entry: LinkAddress,
    /// Whether it may be loaded anywhere.
    pub relocatable: bool,
}

impl Image {
    pub(crate) fn new(elf: &Elf<'_>) -> Image {
        let endian = LittleEndian;
        let header = elf.elf_header();
        let mut sections: Vec<Section> = elf
            .sections()
            .filter_map(|section| {
                let SectionFlags::Elf { sh_flags, .. } = section.flags() else { return None };
                let has = |flag: object::elf::SectionFlags| sh_flags.0 & flag.0 != 0;
                let start = section.address();
                let end = start.checked_add(section.size())?;
                has(SHF_ALLOC).then(|| Section {
                    name: String::from_utf8_lossy(section.name_bytes().unwrap_or_default()).into(),
                    range: LinkAddress(start)..LinkAddress(end),
                    executable: has(SHF_EXECINSTR),
                    writable: has(SHF_WRITE),
                    thread_local: has(SHF_TLS),
                })
            })
            .collect();
        sections.sort_by_key(|section| (section.range.start, section.range.end));
        let segments = elf.elf_program_headers().iter().filter_map(|segment| {
            let start = segment.p_vaddr(endian);
            let end = start.checked_add(segment.p_memsz(endian))?;
            (segment.p_type(endian) == PT_LOAD).then(|| Segment {
                range: LinkAddress(start)..LinkAddress(end),
                file_offset: segment.p_offset(endian),
                file_size: segment.p_filesz(endian),
                executable: segment.p_flags(endian).0 & PF_X.0 != 0,
            })
        });
        Image {
            build_id: elf.build_id().ok().flatten().map(<[u8]>::to_vec),
            sections,
            segments: segments.collect(),
            entry: LinkAddress(elf.entry()),
            relocatable: header.e_type.get(endian) == ET_DYN,
        }
    }

    /// The section that holds an address in memory.
    pub fn section_at(&self, address: LinkAddress) -> Option<&Section> {
        let mut sections = self.sections.iter();
        sections.find(|section| !section.thread_local && section.range.contains(&address))
    }

    /// Whether instructions can be there. Functions that the linker dropped keep debug
    /// information for addresses where nothing is, and are told by this.
    pub fn is_code(&self, address: LinkAddress) -> bool {
        let in_sections = self.sections.iter().any(|s| s.executable && s.range.contains(&address));
        let no_sections = self.sections.is_empty();
        let in_segments =
            || self.segments.iter().any(|s| s.executable && s.range.contains(&address));
        in_sections || (no_sections && in_segments())
    }

    /// Whether anything of the program is there.
    pub(crate) fn is_loaded(&self, address: LinkAddress) -> bool {
        self.segments.iter().any(|segment| segment.range.contains(&address))
    }
}
