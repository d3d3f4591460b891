//! Messages of the protocol, as far as the server has to understand them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

/// How long a question may take if it does not say.
pub const DEADLINE_MS: u64 = 30_000;
/// The longest that anybody may have a worker work on one question.
pub const DEADLINE_MS_MAX: u64 = 3_600_000;

/// An object whose members are passed on as they are.
pub type Members<'a> = BTreeMap<String, &'a RawValue>;

/// What a page sends.
#[derive(Debug)]
pub enum Incoming<'a> {
    Ask { number: u64, question: String, members: Members<'a> },
    Cancel(u64),
}

/// # Errors
///
/// What is wrong, with the number of the question where that could be read.
pub fn parse(text: &str) -> Result<Incoming<'_>, (Option<u64>, String)> {
    let members: Members = serde_json::from_str(text)
        .map_err(|error| (None, format!("The message is no JSON object: {error}")))?;
    if let Some(number) = members.get("cancel") {
        let number = serde_json::from_str(number.get());
        return number.map(Incoming::Cancel).map_err(|_| (None, "`cancel` is no number".into()));
    }
    let Some(number) = members.get("ask") else {
        return Err((None, "The message has neither `ask` nor `cancel`".into()));
    };
    let number = serde_json::from_str(number.get()).map_err(|_| (None, "`ask` is no number"));
    let number: u64 = number.map_err(|(number, what)| (number, what.to_owned()))?;
    let question = members.get("question").map(|question| serde_json::from_str(question.get()));
    match question {
        Some(Ok(question)) => Ok(Incoming::Ask { number, question, members }),
        _ => Err((Some(number), "`question` is not named".into())),
    }
}

/// Milliseconds that a question may take.
pub fn deadline_ms(members: &Members) -> u64 {
    let given = members.get("deadline").and_then(|value| serde_json::from_str(value.get()).ok());
    given.unwrap_or(DEADLINE_MS).min(DEADLINE_MS_MAX)
}

/// An object as one line, with `ask` set to this number.
pub fn with_number(members: &Members, number: u64) -> String {
    let text = to_raw_value(&number).expect("a number is JSON");
    let mut members = members.clone();
    members.insert("ask".into(), &text);
    let mut line = serde_json::to_string(&members).expect("strings and raw JSON are JSON");
    // A message may have line breaks between its parts, a line may not. In strings they are
    // escaped.
    line.retain(|c| c != '\n' && c != '\r');
    line
}

/// The end of a question that failed.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Failure {
    pub code: String,
    pub what: String,
    #[serde(rename = "try", skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Failure {
    pub fn new(code: &str, what: impl Into<String>) -> Failure {
        Failure { code: code.into(), what: what.into(), advice: None }
    }

    #[must_use]
    pub fn advise(self, advice: impl Into<String>) -> Failure {
        Failure { advice: Some(advice.into()), ..self }
    }

    /// The message that tells it.
    pub fn message(&self, number: Option<u64>) -> String {
        json!({"ask": number, "end": "error", "error": self}).to_string()
    }
}

/// Rows and the end of a question that the server answers itself.
pub fn answer(number: u64, rows: &[Value], total_ms: f64) -> [String; 2] {
    let end = json!({
        "ask": number, "end": "complete", "matched": rows.len().to_string(), "exact": true,
        "before": null, "after": null, "times": {"total": total_ms},
    });
    [json!({"ask": number, "rows": rows}).to_string(), end.to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_passed_on_with_another_number() {
        let text = "{\"ask\": 7,\n \"question\": \"stack\", \"focus\": {\"moment\": \"1\\n\"}}";
        let Ok(Incoming::Ask { number: 7, question, members }) = parse(text) else { panic!() };
        assert_eq!(question, "stack");
        let line = with_number(&members, 99);
        let expected = json!({"ask": 99, "question": "stack", "focus": {"moment": "1\n"}});
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
        assert!(!line.contains('\n'));
        assert_eq!(deadline_ms(&members), DEADLINE_MS);
    }

    #[test]
    fn what_is_no_message_is_told() {
        for text in ["", "[]", "7", "{\"ask\": \"7\"}", "{}", "{\"cancel\": -1}", "{\"ask\": 1e9}"]
        {
            let Err((None, _)) = parse(text) else { panic!("{text}") };
        }
        assert_eq!(parse("{\"ask\": 3}").unwrap_err().0, Some(3));
        assert_eq!(parse("{\"ask\": 3, \"question\": 1}").unwrap_err().0, Some(3));
        assert!(matches!(parse("{\"cancel\": 3}"), Ok(Incoming::Cancel(3))));
        let deep = format!("{{\"ask\": 1, \"x\": {}", "[".repeat(100_000));
        assert!(parse(&deep).is_err());
    }
}
