//! Values of variables and expressions, as trees that unfold.
//!
//! Knows no recordings: what values are read from, one task's frame at one moment, is a
//! [`Target`], which the caller implements. Everything that is read may be damaged: text, depth,
//! counts and work are bounded, and what is not there is said instead of shown.
//!
//! Nothing is ever changed in the target, and none of its functions are called.
//!
//! Reading a local number costs about as much as finding out where it is; what names mean and how
//! types look is found once and kept, in [`Values`] and in each [`Expression`].
//!
//! ```
//! # use values::{Error, Expression, Options, Target, Values};
//! # fn example(target: &dyn Target) -> Result<(), Error> {
//! let values = Values::default();
//! // All variables, one level deep.
//! let options = Options { depth: 1, ..Options::default() };
//! for local in values.variables(target, &options).unwrap_or_default() {
//!     println!("{} = {}", local.value.name, local.value.text);
//! }
//! // Elements 100 to 199 of a vector: any node's `expression` unfolds it later.
//! let vector = Expression::parse("shapes->all")?;
//! let options = Options { first_child: 100, ..options };
//! let value = values.show(&vector, target, &[], &options)?;
//! // A condition that is evaluated often.
//! let condition = Expression::parse("i >= 16 && name == \"x\"")?;
//! let holds = values.test(&condition, target, &[])?;
//! # Ok(())
//! # }
//! ```
//!
//! Start reading at [`Values`]; `view.rs` says what a value unfolds into, `text.rs` how it is
//! written, `evaluate.rs` what expressions mean.

mod bind;
mod datum;
mod error;
mod evaluate;
mod expression;
mod known;
mod lex;
mod number;
mod parse;
mod parts;
mod path;
mod printers;
mod quote;
mod show;
mod syntax;
mod target;
mod text;
mod types;
mod value;
mod view;

pub use error::Error;
pub use evaluate::{Content, Given};
pub use expression::Expression;
pub use printers::{PrinterError, Printers};
pub use show::{Local, Values};
pub use target::{Loaded, Standing, Target};
pub use value::{Badge, Children, Format, Lives, Options, Value, ValueKind};
