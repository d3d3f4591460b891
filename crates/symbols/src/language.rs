//! The language of a unit, which decides how its names and types are written.

use gimli::{DwLang, constants};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    C,
    Cpp,
    Rust,
    Assembler,
    /// Another one, by its number in the standard.
    Other(u16),
    Unknown,
}

impl Language {
    pub(crate) fn new(language: DwLang) -> Language {
        // Numbers of DWARF 6 are in use already.
        const C17: u16 = 0x2c;
        const CPP17: u16 = 0x2a;
        const CPP20: u16 = 0x2b;
        const CPP23: u16 = 0x3a;
        const C23: u16 = 0x3e;
        match language {
            constants::DW_LANG_C89
            | constants::DW_LANG_C
            | constants::DW_LANG_C99
            | constants::DW_LANG_C11 => Language::C,
            constants::DW_LANG_C_plus_plus
            | constants::DW_LANG_C_plus_plus_03
            | constants::DW_LANG_C_plus_plus_11
            | constants::DW_LANG_C_plus_plus_14 => Language::Cpp,
            constants::DW_LANG_Rust => Language::Rust,
            constants::DW_LANG_Mips_Assembler => Language::Assembler,
            DwLang(C17 | C23) => Language::C,
            DwLang(CPP17 | CPP20 | CPP23) => Language::Cpp,
            DwLang(other) => Language::Other(other),
        }
    }

    /// What is between the components of a path.
    pub(crate) fn separator(self) -> &'static str {
        match self {
            Language::C | Language::Cpp | Language::Rust => "::",
            _ => ".",
        }
    }
}
