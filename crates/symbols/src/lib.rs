//! Symbols and debug information of program files: ELF, DWARF 4 and 5, for C, C++ and Rust.
//!
//! Knows nothing of recordings, processes or files: input are bytes, and a [`Locator`] that finds
//! further files; output are plain types.
//!
//! Start reading at [`Module`].

mod bytes;
mod cache;
mod debug;
mod die;
mod error;
mod evaluate;
mod file;
mod frame;
mod functions;
mod image;
mod index;
mod language;
mod lines;
mod locator;
mod lookup;
mod module;
mod names;
mod outline;
mod owner;
mod parallel;
mod prologue;
mod ranges;
mod rules;
mod search;
mod sources;
mod symtab;
mod types;
mod units;
mod unwind;
mod variables;
mod vtables;
mod walk;

pub use bytes::Bytes;
pub use die::DieId;
pub use error::{Error, Trouble};
pub use frame::{Frame, Location, Piece, Place};
pub use functions::{Activation, Function, SourcePlace};
pub use image::{Image, Section, Segment};
pub use index::NameKind;
pub use language::Language;
pub use lines::{Line, LineRange, SourceFile, merged};
pub use locator::{Locator, NoFiles, Wanted};
pub use lookup::{FunctionCode, NamedThing};
pub use module::{Memory, Module, Options};
pub use names::{GroupKind, Name, NamePart, demangle};
pub use ranges::{LinkAddress, LinkRange};
pub use rules::PlaceRule;
pub use search::Found;
pub use symtab::{Symbol, SymbolKind};
pub use types::{
    Access, Array, Base, Composite, CompositeKind, Computation, Count, Dimension, Encoding,
    Enumeration, Member, MemberPlace, Qualifier, Signature, StaticMember, TemplateArgument,
    TemplateValue, Type, TypeId, TypeKind, Variant, Variants,
};
pub use unwind::{Caller, CfaRule, RegisterRule, Saved, UnwindRow};
pub use variables::{Variable, VariableKind};
