//! The questions, each a module.

mod accesses;
mod alerts;
mod block;
mod callees;
mod callers;
mod calls;
pub mod descriptors;
mod disassembly;
mod executions;
mod lines;
mod origin;
mod output;
mod overview;
mod search;
mod sides;
mod signals;
mod sources;
mod state;
mod step;
mod tasks;
mod timeline;
mod values;

pub use state::text as disassembled;

use crate::ask::Asked;
use crate::engine::Engine;
use crate::failure::{Code, Failure};

type Answerer = fn(&mut Engine<'_>, &mut Asked<'_>) -> Result<(), Failure>;

/// A question with the arguments that it knows.
struct Question {
    name: &'static str,
    arguments: &'static [&'static str],
    answer: Answerer,
}

/// Arguments of all questions about executions.
const EXECUTIONS: &[&str] =
    &["file", "line", "function", "address", "scope", "condition", "print", "group", "buckets"];

/// Arguments of `origin`.
const ORIGIN: &[&str] = &["expression", "address", "length", "register", "limit"];

/// Arguments of questions about accesses.
const ACCESSES: &[&str] = &["expression", "address", "length", "condition", "scope"];

const QUESTIONS: &[Question] = &[
    Question { name: "overview", arguments: &[], answer: overview::answer },
    Question { name: "tasks", arguments: &[], answer: tasks::answer },
    Question { name: "modules", arguments: &[], answer: tasks::modules },
    Question { name: "state", arguments: &[], answer: state::answer },
    Question { name: "stack", arguments: &["arguments"], answer: state::stack },
    Question { name: "registers", arguments: &["vector"], answer: state::registers },
    Question { name: "memory", arguments: &["address", "length"], answer: state::memory },
    Question { name: "variables", arguments: &["all"], answer: values::variables },
    Question { name: "evaluate", arguments: &["expression", "format"], answer: values::evaluate },
    Question { name: "unfold", arguments: &["path", "from", "count"], answer: values::unfold },
    Question { name: "executions", arguments: EXECUTIONS, answer: executions::answer },
    Question { name: "groups", arguments: EXECUTIONS, answer: executions::groups },
    Question { name: "histogram", arguments: EXECUTIONS, answer: executions::histogram },
    Question { name: "callees", arguments: &["frame"], answer: callees::answer },
    Question { name: "callers", arguments: &["function"], answer: callers::answer },
    Question { name: "timeline", arguments: &["level", "tile", "task"], answer: timeline::answer },
    Question { name: "instructions", arguments: &["count"], answer: callees::instructions },
    Question { name: "lines", arguments: &["file", "from", "to"], answer: lines::answer },
    Question { name: "sources", arguments: &["text"], answer: sources::list },
    Question { name: "source", arguments: &["file"], answer: sources::text },
    Question { name: "output", arguments: &["descriptor"], answer: output::answer },
    Question { name: "printed", arguments: &["descriptor", "offset"], answer: output::printed },
    Question { name: "calls", arguments: &["descriptor", "name", "task"], answer: calls::answer },
    Question { name: "descriptors", arguments: &[], answer: descriptors::answer },
    Question { name: "signals", arguments: &[], answer: signals::answer },
    Question { name: "alerts", arguments: &[], answer: alerts::answer },
    Question { name: "search", arguments: &["text"], answer: search::answer },
    Question { name: "step", arguments: &["kind"], answer: step::answer },
    Question { name: "block", arguments: &["expression", "address"], answer: block::answer },
    Question { name: "origin", arguments: ORIGIN, answer: origin::answer },
    Question { name: "writes", arguments: ACCESSES, answer: accesses::writes },
    Question { name: "reads", arguments: ACCESSES, answer: accesses::reads },
    Question { name: "disassembly", arguments: &["address"], answer: disassembly::answer },
];

/// Answers a request, whatever it asks.
pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let name = &asked.request.question;
    let names = || QUESTIONS.iter().map(|question| question.name);
    let question = QUESTIONS.iter().find(|question| question.name == *name).ok_or_else(|| {
        let failure = Failure::new(Code::NoSuchQuestion, format!("no question is called `{name}`"));
        failure.hint(near(name, names()))
    })?;
    let known = |argument: &&String| !question.arguments.contains(&argument.as_str());
    if let Some(unknown) = asked.request.arguments.keys().find(known) {
        let what = format!("the question {name} has no argument `{unknown}`");
        let failure = Failure::new(Code::NoSuchArgument, what);
        return Err(failure.hint(match question.arguments {
            [] => "it has none".to_owned(),
            arguments => near(unknown, arguments.iter().copied()),
        }));
    }
    (question.answer)(engine, asked)
}

/// Names that are like one that is not there.
pub fn near<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<(usize, &str)> = names.map(|name| (distance(wanted, name), name)).collect();
    names.sort();
    let names: Vec<&str> = names.into_iter().map(|(_, name)| name).take(5).collect();
    format!("near: {}", names.join(", "))
}

/// Letters to change, add or leave out (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().take(64).enumerate() {
        let mut corner = row[0];
        row[0] = index + 1;
        for (column, theirs) in other.iter().enumerate() {
            let change = corner + usize::from(letter != *theirs);
            corner = row[column + 1];
            row[column + 1] = change.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
