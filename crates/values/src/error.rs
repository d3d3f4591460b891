//! Why an expression has no value.

use crate::value::Badge;

/// Why an expression has no value. Columns are counted in characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not an expression.
    #[error("column {column}: {what}")]
    Syntax { column: usize, what: String },
    /// It would change the program or run a part of it.
    #[error("column {column}: {what} is not possible: the recorded program cannot be changed")]
    Effect { column: usize, what: String },
    /// Nothing of that name is known where it stands.
    #[error("column {column}: no `{name}` in {scope}{}", near_list(.near))]
    Name { column: usize, name: String, scope: String, near: Vec<String> },
    /// An operation that the types do not have.
    #[error("column {column}: {what}")]
    Types { column: usize, what: String },
    /// The value is not there.
    #[error("column {column}: `{what}` {}", .badge.sentence())]
    Absent { column: usize, what: String, badge: Badge },
    /// A limit on work was reached.
    #[error("column {column}: {what} exceeds the limit of {limit}")]
    Limit { column: usize, what: &'static str, limit: u64 },
}

impl Error {
    /// Where in the expression it is, in characters from 1.
    pub fn column(&self) -> usize {
        match self {
            Error::Syntax { column, .. }
            | Error::Effect { column, .. }
            | Error::Name { column, .. }
            | Error::Types { column, .. }
            | Error::Absent { column, .. }
            | Error::Limit { column, .. } => *column,
        }
    }
}

fn near_list(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!(". Near: {}", near.join(", ")) }
}
