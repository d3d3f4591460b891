//! A process that answers questions over lines: one JSON object a line, each way.

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use crate::ask::ask;
use crate::database::Database;
use crate::engine::Engine;
use crate::failure::{Code, Failure};
use crate::protocol::{Answer, Message, Request};

/// A line is not longer.
const LINE_MAX: usize = 1 << 20;

/// What the process is doing: so that it can be told to stop.
#[derive(Debug, Default)]
struct Doing {
    /// Number of the question, and 1 if there is one.
    ask: AtomicU64,
    busy: AtomicBool,
    cancelled: AtomicBool,
}

/// Answers until there are no more lines. Questions are answered in their order; one that is
/// cancelled before its turn is answered so.
///
/// # Errors
///
/// What writing fails with; whatever is wrong with a question is its answer.
pub fn serve(
    db: &Database,
    input: impl BufRead + Send + 'static,
    mut output: impl Write,
) -> std::io::Result<()> {
    let doing = std::sync::Arc::new(Doing::default());
    let (sender, receiver) = mpsc::channel();
    let told = std::sync::Arc::clone(&doing);
    // It ends with its input; nobody waits for it.
    std::thread::spawn(move || read(input, &told, &sender));
    let mut engine = Engine::new(db);
    let mut cancelled: Vec<u64> = Vec::new();
    while let Ok(first) = receiver.recv() {
        let mut line = Some(first);
        while let Some(Line { message, .. }) = line.take() {
            let mut failed = Ok(());
            let mut send = |answer: Answer| {
                let written = serde_json::to_writer(&mut output, &answer);
                let written = written.map_err(std::io::Error::from);
                let written = written.and_then(|()| output.write_all(b"\n"));
                failed = std::mem::replace(&mut failed, Ok(())).and(written).and(output.flush());
            };
            match message {
                Ok(Message::Cancel { cancel }) => {
                    cancelled.push(cancel);
                    cancelled.truncate(1024);
                }
                Ok(Message::Ask(request)) => {
                    // What came behind may cancel it.
                    let early = cancelled.contains(&request.ask);
                    cancelled.retain(|ask| *ask != request.ask);
                    doing.ask.store(request.ask, Ordering::SeqCst);
                    doing.cancelled.store(early, Ordering::SeqCst);
                    doing.busy.store(true, Ordering::SeqCst);
                    ask(&mut engine, &request, &doing.cancelled, &mut send);
                    doing.busy.store(false, Ordering::SeqCst);
                }
                Err(Unreadable { ask, error }) => {
                    send(Answer::Failed { ask, end: "error", error });
                }
            }
            failed?;
            line = receiver.try_recv().ok();
        }
    }
    Ok(())
}

struct Line {
    message: Result<Message, Unreadable>,
}

struct Unreadable {
    ask: u64,
    error: Failure,
}

fn read(mut input: impl BufRead, doing: &Doing, sender: &mpsc::Sender<Line>) {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let limited = std::io::Read::take(&mut input, LINE_MAX as u64);
        match { limited }.read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let message = parse(&bytes);
        if let Ok(Message::Cancel { cancel }) = &message
            && doing.busy.load(Ordering::SeqCst)
            && doing.ask.load(Ordering::SeqCst) == *cancel
        {
            doing.cancelled.store(true, Ordering::SeqCst);
            continue;
        }
        if sender.send(Line { message }).is_err() {
            return;
        }
    }
}

/// Understands a line.
fn parse(bytes: &[u8]) -> Result<Message, Unreadable> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| Unreadable {
        ask: 0,
        error: Failure::new(Code::BadRequest, format!("the message is no JSON: {error}")),
    })?;
    let ask = value.get("ask").and_then(serde_json::Value::as_u64).unwrap_or(0);
    let unreadable = |error: serde_json::Error| Unreadable {
        ask,
        error: Failure::new(Code::BadRequest, format!("the message is not understood: {error}")),
    };
    if value.get("cancel").is_some() {
        return serde_json::from_value(value).map_err(unreadable);
    }
    let request: Request = serde_json::from_value(value).map_err(unreadable)?;
    Ok(Message::Ask(Box::new(request)))
}
