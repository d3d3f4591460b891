//! One ELF file: its sections, unpacked where they are compressed.

use std::collections::BTreeMap;
use std::ops::Range;

use object::read::elf::{ElfFile64, ElfSection64};
use object::{LittleEndian, Object, ObjectSection, SectionFlags};

use crate::{Bytes, Error};

/// Sections of one file unpack to so many bytes together at most.
pub(crate) const UNPACKED_BYTES_MAX: u64 = 16 << 30;
/// zlib cannot compress better than this (RFC 1951: 258 bytes cost two bits at least).
const ZLIB_RATIO_MAX: u64 = 1032;

pub(crate) type Elf<'a> = ElfFile64<'a, LittleEndian>;

/// A file and where its sections are.
#[derive(Debug)]
pub(crate) struct File {
    bytes: Bytes,
    sections: BTreeMap<String, Contents>,
    /// Sections that could not be read.
    pub broken: Vec<(String, String)>,
}

#[derive(Debug)]
enum Contents {
    InFile(Range<usize>),
    Unpacked(Vec<u8>),
}

impl File {
    pub fn new(bytes: Bytes) -> Result<File, Error> {
        let not_elf = |error: object::Error| Error::NotElf(error.to_string());
        let elf = Elf::parse(&*bytes).map_err(not_elf)?;
        let machine = elf.elf_header().e_machine.get(LittleEndian);
        if machine != object::elf::EM_X86_64 {
            return Err(Error::NotElf(format!("it is for machine {}", machine.0)));
        }
        let mut sections = BTreeMap::new();
        let mut broken = Vec::new();
        let mut packed = Vec::new();
        let mut unpacked_bytes = 0;
        for section in elf.sections() {
            let Ok(name) = section.name() else { continue };
            match place(&section) {
                Ok(Place::InFile(range)) => {
                    sections.entry(name.to_owned()).or_insert(Contents::InFile(range));
                }
                Ok(Place::Packed(size)) => {
                    unpacked_bytes += size;
                    if unpacked_bytes > UNPACKED_BYTES_MAX {
                        broken.push((name.to_owned(), "too large when unpacked".to_owned()));
                    } else {
                        packed.push((name.to_owned(), section));
                    }
                }
                Err(what) => broken.push((name.to_owned(), what)),
            }
        }
        // Not in parallel: files of split DWARF are read in parallel tasks already, which hold locks.
        let unpacked: Vec<_> = packed
            .into_iter()
            .map(|(name, section)| {
                let data = section.uncompressed_data().map(|data| data.into_owned());
                (name, data)
            })
            .collect();
        for (name, data) in unpacked {
            match data {
                Ok(data) => {
                    // The old form of compression is told by the name alone.
                    let name = name.replacen(".zdebug", ".debug", 1);
                    sections.insert(name, Contents::Unpacked(data));
                }
                Err(error) => broken.push((name, error.to_string())),
            }
        }
        Ok(File { bytes, sections, broken })
    }

    /// The contents of a section; empty if there is none or it has none.
    pub fn section(&self, name: &str) -> &[u8] {
        match self.sections.get(name) {
            Some(Contents::InFile(range)) => self.bytes.get(range.clone()).unwrap_or_default(),
            Some(Contents::Unpacked(bytes)) => bytes,
            None => &[],
        }
    }

    pub fn elf(&self) -> Result<Elf<'_>, Error> {
        Elf::parse(&*self.bytes).map_err(|error| Error::NotElf(error.to_string()))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that were allocated for unpacked sections.
    pub fn unpacked_bytes(&self) -> u64 {
        let sizes = self.sections.values().map(|contents| match contents {
            Contents::InFile(_) => 0,
            Contents::Unpacked(bytes) => bytes.len() as u64,
        });
        sizes.sum()
    }
}

enum Place {
    InFile(Range<usize>),
    Packed(u64),
}

/// Where a section's contents are, without reading them.
fn place(section: &ElfSection64<'_, '_, LittleEndian>) -> Result<Place, String> {
    let compressed = section.compressed_file_range().map_err(|error| error.to_string())?;
    let loaded = match section.flags() {
        SectionFlags::Elf { sh_flags, .. } => sh_flags.0 & object::elf::SHF_ALLOC.0 != 0,
        _ => false,
    };
    if compressed.format == object::CompressionFormat::None || loaded {
        let Some((offset, size)) = section.file_range() else { return Ok(Place::InFile(0..0)) };
        let end = offset.checked_add(size).ok_or("beyond the end of the file")?;
        return Ok(Place::InFile(offset as usize..end as usize));
    }
    let size = compressed.uncompressed_size;
    let zlib = compressed.format == object::CompressionFormat::Zlib;
    if zlib && size / ZLIB_RATIO_MAX > compressed.compressed_size {
        return Err(format!("claims to unpack to {size} bytes, more than zlib can"));
    }
    Ok(Place::Packed(size))
}
