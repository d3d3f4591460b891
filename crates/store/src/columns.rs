//! How the items of each kind of section become bytes, before compression.
//!
//! Every field is a column of its own, coded against what precedes it in the same chunk.

pub mod calls;
pub mod counts;
pub mod depths;
pub mod happenings;
pub mod keys;
pub mod lineages;
pub mod lines;
pub mod pages;
pub mod pieces;
pub mod runs;
pub mod values;

/// Numbers of the kinds of sections in files; see `docs/store-format.md`.
pub mod kind {
    pub const WRITTEN: u16 = 1;
    pub const READ: u16 = 2;
    pub const CODE: u16 = 3;
    pub const CALLED: u16 = 4;
    pub const KEYS: u16 = 5;
    pub const DEPTHS: u16 = 6;
    pub const MEMORY: u16 = 7;
    pub const LINEAGES: u16 = 8;
    pub const CALLS: u16 = 9;
    pub const HAPPENINGS: u16 = 10;
    pub const BLOB: u16 = 11;

    /// For messages.
    pub fn name(kind: u16) -> &'static str {
        match kind {
            WRITTEN => "written words",
            READ => "read lines",
            CODE => "code runs",
            CALLED => "called functions",
            KEYS => "counted keys",
            DEPTHS => "call depths",
            MEMORY => "memory",
            LINEAGES => "lineages",
            CALLS => "calls",
            HAPPENINGS => "events",
            BLOB => "blob",
            _ => "an unknown section",
        }
    }
}
