//! `pernosco query`: asks a question from the shell. `pernosco query-worker`: answers over lines.

mod text;

use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use query::protocol::{Answer, Ending, Focus, FrameId, MomentText, Request, Window};
use query::{Database, Engine};
use serde_json::{Map, Value};

use crate::locate::TraceArgument;
use crate::output::{json_line, with_stdout};

#[derive(clap::Args)]
pub struct QueryArguments {
    /// Directory of the recording, or its name in rr's directory of recordings
    trace: std::path::PathBuf,
    /// What to ask: overview, tasks, stack, executions, and so on; a wrong name lists those near it
    question: String,
    /// Arguments of the question: `line=51`, `file=heap_list.c`, `print=["i","text[i]"]`; values
    /// are JSON, else text
    #[arg(value_name = "NAME=VALUE")]
    arguments: Vec<String>,
    /// Where to ask: a moment, in instructions since the beginning [default: the end]
    #[arg(long, short)]
    moment: Option<u64>,
    /// The number of a task [default: the one that runs then]
    #[arg(long, short)]
    task: Option<u32>,
    /// A call, as `stack` names it [default: the innermost]
    #[arg(long, short)]
    frame: Option<String>,
    /// Rows before the moment at most
    #[arg(long)]
    before: Option<usize>,
    /// Rows behind the moment, or rows of a list, at most
    #[arg(long)]
    after: Option<usize>,
    /// Go on where an earlier answer broke off
    #[arg(long)]
    cursor: Option<String>,
    /// Milliseconds that it may take
    #[arg(long)]
    deadline: Option<u64>,
    /// Print rows as JSON, one a line
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &QueryArguments) -> anyhow::Result<()> {
    let request = request(arguments)?;
    let trace = TraceArgument::named(&arguments.trace).open()?;
    let db = Database::open(trace)?;
    let mut engine = Engine::new(&db);
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))?;
    with_stdout(|output| {
        let mut failed = Ok(());
        let mut end = None;
        let mut rows = Vec::new();
        query::ask(&mut engine, &request, &cancelled, &mut |answer: Answer| match answer {
            Answer::Rows { rows: more, .. } if arguments.json && failed.is_ok() => {
                failed = more.iter().try_for_each(|row| json_line(output, row));
            }
            Answer::Rows { rows: more, .. } => rows.extend(more),
            Answer::Progress { .. } => {}
            other => end = Some(other),
        });
        failed?;
        text::print(output, &request.question, &rows)?;
        match end.context("the question was not answered to its end")? {
            Answer::Failed { error, .. } => Err(error.into()),
            Answer::End { end: Ending::Complete, .. } => Ok(()),
            Answer::End { end: Ending::Rows, after, before, .. } => {
                let cursor = after.or(before).unwrap_or_default();
                eprintln!("there is more: go on with --cursor {cursor}");
                Ok(())
            }
            Answer::End { end: Ending::Deadline, .. } => bail!("not complete: the time was over"),
            _ => bail!("cancelled"),
        }
    })
}

fn request(arguments: &QueryArguments) -> anyhow::Result<Request> {
    let mut named = Map::new();
    for argument in &arguments.arguments {
        let (name, value) = argument
            .split_once('=')
            .with_context(|| format!("`{argument}` is no argument: NAME=VALUE is wanted"))?;
        let parsed = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        named.insert(name.to_owned(), parsed);
    }
    let frame = arguments.frame.as_ref().map(|text| {
        let parsed: Result<FrameId, _> = serde_json::from_value(Value::from(text.as_str()));
        parsed.with_context(|| format!("--frame {text}"))
    });
    Ok(Request {
        ask: 1,
        question: arguments.question.clone(),
        focus: Focus {
            moment: arguments.moment.map(|moment| MomentText(model::Moment(moment))),
            task: arguments.task,
            frame: frame.transpose()?,
            data: None,
        },
        arguments: named,
        window: Window { before: arguments.before, after: arguments.after },
        deadline: arguments.deadline,
        cursor: arguments.cursor.clone(),
    })
}

#[derive(clap::Args)]
pub struct WorkerArguments {
    #[command(flatten)]
    trace: TraceArgument,
}

/// Reads questions from standard input and answers on standard output, a line each.
pub fn worker(arguments: &WorkerArguments) -> anyhow::Result<()> {
    let db = Database::open(arguments.trace.open()?)?;
    let input = BufReader::new(std::io::stdin());
    Ok(query::worker::serve(&db, input, std::io::stdout().lock())?)
}
