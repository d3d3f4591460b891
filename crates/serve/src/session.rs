//! One page's WebSocket: questions in, answers out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::sync::{broadcast, mpsc};

use crate::Shared;
use crate::bookmarks;
use crate::message::{self, Failure, Incoming, Members};
use crate::worker::{Cancel, Job, Piece};

/// Questions of one page that are not answered yet.
const OPEN_MAX: usize = 128;
/// Messages that wait for the page to take them. Then workers wait, and in the end are ended.
const ANSWERS_WAITING: usize = 64;

/// Until the page goes or the server ends.
pub async fn run(socket: WebSocket, shared: Arc<Shared>) {
    let (sink, mut stream) = socket.split();
    let (answers, waiting) = mpsc::channel(ANSWERS_WAITING);
    let hello = json!({"hello": {
        "version": 1, "program": shared.program, "token": shared.token,
    }});
    let writer = tokio::spawn(write(sink, hello.to_string(), waiting, shared.changes.subscribe()));
    let mut session = Session { shared: Arc::clone(&shared), answers, open: Open::default() };
    let mut ending = shared.ending.clone();
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            _ = ending.changed() => break,
        };
        match message {
            Some(Ok(Message::Text(text))) => session.take(text.as_str()).await,
            Some(Ok(Message::Binary(_))) => {
                session.refuse(None, "Messages are text".into()).await;
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => break,
            Some(Err(error)) => {
                tracing::warn!(%error, "a page's connection is closed");
                break;
            }
        }
    }
    session.open.cancel_all();
    drop(session);
    writer.abort();
}

/// Sends what is answered, and tells what others have changed.
async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    hello: String,
    mut waiting: mpsc::Receiver<String>,
    mut changes: broadcast::Receiver<&'static str>,
) {
    let mut next = Some(hello);
    loop {
        if let Some(text) = next.take()
            && sink.send(Message::text(text)).await.is_err()
        {
            return;
        }
        tokio::select! {
            text = waiting.recv() => match text {
                Some(text) => next = Some(text),
                None => return,
            },
            change = changes.recv() => match change {
                Ok(what) => next = Some(json!({"changed": what}).to_string()),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

struct Session {
    shared: Arc<Shared>,
    answers: mpsc::Sender<String>,
    open: Open,
}

/// Questions that are not answered yet, by their numbers.
#[derive(Clone, Debug, Default)]
struct Open(Arc<Mutex<HashMap<u64, Arc<Cancel>>>>);

impl Open {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<u64, Arc<Cancel>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// # Errors
    ///
    /// Why there cannot be a question of this number now.
    fn begin(&self, number: u64) -> Result<Arc<Cancel>, String> {
        self.with(|open| {
            if open.contains_key(&number) {
                return Err(format!("{number} is a question in progress"));
            }
            if open.len() >= OPEN_MAX {
                return Err(format!("{OPEN_MAX} questions are open already"));
            }
            let cancel = Arc::new(Cancel::default());
            open.insert(number, Arc::clone(&cancel));
            Ok(cancel)
        })
    }

    fn end(&self, number: u64) {
        self.with(|open| open.remove(&number));
    }

    fn cancel(&self, number: u64) {
        if let Some(cancel) = self.with(|open| open.get(&number).cloned()) {
            cancel.cancel();
        }
    }

    fn cancel_all(&self) {
        let all: Vec<_> = self.with(|open| open.drain().map(|(_, cancel)| cancel).collect());
        all.iter().for_each(|cancel| cancel.cancel());
    }
}

impl Session {
    async fn take(&mut self, text: &str) {
        match message::parse(text) {
            Err((number, what)) => self.refuse(number, what).await,
            Ok(Incoming::Cancel(number)) => {
                self.open.cancel(number);
            }
            Ok(Incoming::Ask { number, question, members }) => {
                self.ask(number, &question, &members).await;
            }
        }
    }

    async fn ask(&mut self, number: u64, question: &str, members: &Members<'_>) {
        let started = Instant::now();
        if let Some(request) = bookmarks::request(question, members) {
            let changes = question != "bookmarks";
            let done = match request {
                Ok(request) => Arc::clone(&self.shared.bookmarks).answer(request).await,
                Err(failure) => Err(failure),
            };
            return match done {
                Ok(rows) => {
                    let total = started.elapsed().as_secs_f64() * 1e3;
                    for text in message::answer(number, &rows, total) {
                        _ = self.answers.send(text).await;
                    }
                    if changes {
                        _ = self.shared.changes.send("bookmarks");
                    }
                }
                Err(failure) => _ = self.answers.send(failure.message(Some(number))).await,
            };
        }
        let cancel = match self.open.begin(number) {
            Ok(cancel) => cancel,
            Err(what) => return self.refuse(Some(number), what).await,
        };
        let (answers, ended) = mpsc::channel(ANSWERS_WAITING);
        let job = Job {
            number,
            text: message::with_number(members, number),
            deadline: Duration::from_millis(message::deadline_ms(members)),
            cancel,
            answers,
            asked: started,
        };
        tokio::spawn(forward(number, ended, self.answers.clone(), self.open.clone()));
        if question == "source"
            && let Some(rows) = self.shared.sources.answer(members, &self.shared.pool).await
        {
            let total = started.elapsed().as_secs_f64() * 1e3;
            let [rows, end] = message::answer(number, &[rows], total);
            for piece in [Piece { text: rows, last: false }, Piece::last(end)] {
                _ = job.answers.send(piece).await;
            }
            return;
        }
        self.shared.pool.ask(job).await;
    }

    async fn refuse(&self, number: Option<u64>, what: String) {
        tracing::warn!(what, "refused a message");
        _ = self.answers.send(Failure::new("bad-request", what).message(number)).await;
    }
}

/// Passes on what is answered to one question. Once a page has seen the end, it may use the number
/// again.
async fn forward(
    number: u64,
    mut from: mpsc::Receiver<Piece>,
    to: mpsc::Sender<String>,
    open: Open,
) {
    while let Some(piece) = from.recv().await {
        if piece.last {
            open.end(number);
        }
        if to.send(piece.text).await.is_err() || piece.last {
            return;
        }
    }
}
