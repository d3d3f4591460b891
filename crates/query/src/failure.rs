//! Why a question has no answer: what, where, and what to try.

use serde::Serialize;

/// What kind of failure; stays the same over versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    BadRequest,
    NoSuchQuestion,
    NoSuchArgument,
    NoSuchName,
    NoSuchFile,
    NoCode,
    NoSuchTask,
    NoSuchFrame,
    BadExpression,
    /// Not known at this moment: no debug information, not mapped, not recorded.
    NotAvailable,
    /// This version cannot answer it, or the database does not reach that far.
    NotYet,
    Database,
    Worker,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{what}{}{}", part(" (", .location, ")"), part(". ", .attempt, ""))]
pub struct Failure {
    pub code: Code,
    pub what: String,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    #[serde(rename = "try", skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
}

fn part(before: &str, text: &Option<String>, behind: &str) -> String {
    text.as_ref().map(|text| format!("{before}{text}{behind}")).unwrap_or_default()
}

impl Failure {
    pub fn new(code: Code, what: impl Into<String>) -> Failure {
        Failure { code, what: what.into(), location: None, attempt: None }
    }

    pub fn at(mut self, location: impl Into<String>) -> Failure {
        self.location = Some(location.into());
        self
    }

    /// What to try.
    pub fn hint(mut self, attempt: impl Into<String>) -> Failure {
        self.attempt = Some(attempt.into());
        self
    }
}

impl From<index::Error> for Failure {
    fn from(error: index::Error) -> Failure {
        let code = match error {
            index::Error::BehindEnd { .. } => Code::NotYet,
            _ => Code::Database,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Failure {
        Failure::new(Code::Database, error.to_string()).hint(
            "`pernosco db verify` tells what is damaged; remove the database and build it again",
        )
    }
}

impl From<replay::Error> for Failure {
    fn from(error: replay::Error) -> Failure {
        Failure::new(Code::Database, error.to_string())
    }
}

impl From<rr_trace::Error> for Failure {
    fn from(error: rr_trace::Error) -> Failure {
        Failure::new(Code::Database, error.to_string())
    }
}

impl From<symbols::Error> for Failure {
    fn from(error: symbols::Error) -> Failure {
        Failure::new(Code::NotAvailable, error.to_string())
    }
}
