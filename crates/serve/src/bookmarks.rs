//! Bookmarks: moments that users keep, with a text.
//!
//! They belong to a recording, whichever directory it lies in, and are kept in one SQLite file of
//! the storage directory, or in memory.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::message::{Failure, Members};

/// Name of the file in the storage directory.
const FILE: &str = "pernosco.sqlite";
/// Of one recording.
const BOOKMARKS_MAX: i64 = 10_000;
const TEXT_BYTES_MAX: usize = 16 << 10;
const COLOURS: [&str; 6] = ["blue", "yellow", "pink", "green", "violet", "cyan"];
/// What the page can count with exactly.
const MOMENT_MAX: u64 = 1 << 53;

#[derive(Debug)]
pub struct Bookmarks {
    connection: Mutex<Connection>,
    identity: String,
}

/// A question about bookmarks.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    List,
    Add(Bookmark),
    Remove { bookmark: i64 },
}

/// What is kept; `bookmark` names one that exists already and is changed.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Bookmark {
    bookmark: Option<i64>,
    moment: String,
    task: u32,
    frame: Option<String>,
    text: String,
    colour: Option<String>,
    place: Option<String>,
}

/// The request, if the question is one of ours.
pub fn request(
    question: &str,
    members: &Members<'_>,
) -> Option<std::result::Result<Request, Failure>> {
    #[derive(Deserialize)]
    struct Which {
        bookmark: i64,
    }
    let arguments = members.get("arguments").map_or("{}", |arguments| arguments.get());
    let wrong = |error: serde_json::Error| Failure::new("bad-request", format!("{error}"));
    match question {
        "bookmarks" => Some(Ok(Request::List)),
        "bookmark-add" => Some(serde_json::from_str(arguments).map_err(wrong).and_then(checked)),
        "bookmark-remove" => {
            let which = serde_json::from_str(arguments).map_err(wrong);
            Some(which.map(|Which { bookmark }| Request::Remove { bookmark }))
        }
        _ => None,
    }
}

fn checked(bookmark: Bookmark) -> std::result::Result<Request, Failure> {
    let moment = bookmark.moment.parse::<u64>().is_ok_and(|moment| moment < MOMENT_MAX);
    let frame = bookmark.frame.as_ref().is_none_or(|frame| {
        frame.len() < 64 && frame.chars().all(|c| c.is_ascii_digit() || c == '.')
    });
    let colour = bookmark.colour.as_ref().is_none_or(|colour| COLOURS.contains(&colour.as_str()));
    let short = |text: &String| text.len() <= TEXT_BYTES_MAX;
    let what = match (moment, frame, colour) {
        (false, _, _) => "`moment` is no moment".into(),
        (_, false, _) => "`frame` is no frame".into(),
        (_, _, false) => format!("`colour` is none of {}", COLOURS.join(", ")),
        _ if !short(&bookmark.text) || !bookmark.place.as_ref().is_none_or(short) => {
            format!("The text has more than {TEXT_BYTES_MAX} bytes")
        }
        _ => return Ok(Request::Add(bookmark)),
    };
    Err(Failure::new("bad-request", what))
}

impl Bookmarks {
    /// Opens the storage, or begins it.
    pub fn open(storage: Option<&Path>, identity: &str) -> Result<Bookmarks> {
        let connection = match storage {
            None => Connection::open_in_memory()
                .and_then(|it| prepare(it, false))
                .map_err(|source| Error::Storage { path: "memory".into(), source })?,
            Some(directory) => {
                std::fs::create_dir_all(directory)
                    .map_err(|source| Error::StorageDirectory { path: directory.into(), source })?;
                let path = directory.join(FILE);
                let opened = Connection::open(&path).and_then(|it| prepare(it, true));
                opened.map_err(|source| Error::Storage { path, source })?
            }
        };
        Ok(Bookmarks { connection: Mutex::new(connection), identity: identity.into() })
    }

    /// The rows that answer a request.
    pub async fn answer(
        self: Arc<Self>,
        request: Request,
    ) -> std::result::Result<Vec<Value>, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "bookmarks");
            Failure::new("storage", format!("Bookmarks cannot be kept: {error}"))
        };
        let done = tokio::task::spawn_blocking(move || self.now(request)).await;
        match done {
            Ok(Ok(Some(rows))) => Ok(rows),
            Ok(Ok(None)) => Err(Failure::new(
                "no-such-bookmark",
                "There is no such bookmark, or \
                there are too many",
            )),
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }

    fn now(&self, request: Request) -> rusqlite::Result<Option<Vec<Value>>> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            Request::List => list(&connection, &self.identity).map(Some),
            Request::Add(bookmark) => {
                let number = put(&connection, &self.identity, &bookmark)?;
                Ok(number.map(|number| vec![json!({"bookmark": number})]))
            }
            Request::Remove { bookmark } => {
                let sql = "DELETE FROM bookmarks WHERE bookmark = ?1 AND recording = ?2";
                let removed = connection.execute(sql, params![bookmark, self.identity])?;
                Ok((removed > 0).then(Vec::new))
            }
        }
    }
}

fn prepare(connection: Connection, file: bool) -> rusqlite::Result<Connection> {
    connection.busy_timeout(Duration::from_secs(5))?;
    if file {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
    }
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS bookmarks (
            bookmark INTEGER PRIMARY KEY AUTOINCREMENT,
            recording TEXT NOT NULL,
            moment INTEGER NOT NULL,
            task INTEGER NOT NULL,
            frame TEXT,
            text TEXT NOT NULL,
            colour TEXT,
            place TEXT
        ) STRICT;
        CREATE INDEX IF NOT EXISTS bookmarks_of ON bookmarks (recording, moment);",
    )?;
    Ok(connection)
}

fn list(connection: &Connection, identity: &str) -> rusqlite::Result<Vec<Value>> {
    let mut statement = connection.prepare(
        "SELECT bookmark, moment, task, frame, text, colour, place FROM bookmarks
         WHERE recording = ?1 ORDER BY moment, bookmark",
    )?;
    let rows = statement.query_map([identity], |row| {
        let moment = row.get::<_, i64>("moment")?.to_string();
        let task: u32 = row.get("task")?;
        let frame: Option<String> = row.get("frame")?;
        Ok(json!({
            "bookmark": row.get::<_, i64>("bookmark")?,
            "moment": moment,
            "task": task,
            "text": row.get::<_, String>("text")?,
            "colour": row.get::<_, Option<String>>("colour")?,
            "place": row.get::<_, Option<String>>("place")?,
            "focus": {"moment": moment, "task": task, "frame": frame},
        }))
    })?;
    rows.collect()
}

/// The number of what was kept, unless there are too many or the one to be changed is gone.
fn put(
    connection: &Connection,
    identity: &str,
    bookmark: &Bookmark,
) -> rusqlite::Result<Option<i64>> {
    let Bookmark { bookmark: number, moment, task, frame, text, colour, place } = bookmark;
    let moment: i64 = moment.parse().unwrap_or_default();
    if let Some(number) = number {
        let sql = "UPDATE bookmarks SET text = ?3, colour = ?4
                   WHERE bookmark = ?1 AND recording = ?2";
        let changed = connection.execute(sql, params![number, identity, text, colour])?;
        return Ok((changed > 0).then_some(*number));
    }
    let sql = "SELECT count(*) FROM bookmarks WHERE recording = ?1";
    let count: i64 = connection.query_row(sql, [identity], |row| row.get(0))?;
    if count >= BOOKMARKS_MAX {
        return Ok(None);
    }
    let sql = "INSERT INTO bookmarks (recording, moment, task, frame, text, colour, place)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    connection.execute(sql, params![identity, moment, task, frame, text, colour, place])?;
    Ok(Some(connection.last_insert_rowid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(bookmarks: &Bookmarks, question: &str, arguments: Value) -> Option<Vec<Value>> {
        let text = json!({"arguments": arguments}).to_string();
        let request = request(question, &serde_json::from_str(&text).unwrap()).unwrap();
        bookmarks.now(request.unwrap()).unwrap()
    }

    fn refused(question: &str, arguments: Value) -> String {
        let text = json!({"arguments": arguments}).to_string();
        request(question, &serde_json::from_str(&text).unwrap()).unwrap().unwrap_err().what
    }

    #[test]
    fn kept_over_restarts_and_apart_by_recording() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Some(directory.path());
        let first = Bookmarks::open(storage, "one").unwrap();
        let text = "<script>alert(1)</script>";
        let keep = json!({"moment": "12", "task": 1, "frame": "3.0", "text": text});
        let kept = ask(&first, "bookmark-add", keep).unwrap();
        let number = kept[0]["bookmark"].clone();
        drop(first);
        let again = Bookmarks::open(storage, "one").unwrap();
        let rows = ask(&again, "bookmarks", json!({})).unwrap();
        assert_eq!(rows[0]["text"], text);
        assert_eq!(rows[0]["focus"], json!({"moment": "12", "task": 1, "frame": "3.0"}));
        let other = Bookmarks::open(storage, "two").unwrap();
        assert!(ask(&other, "bookmarks", json!({})).unwrap().is_empty());
        assert!(ask(&other, "bookmark-remove", json!({"bookmark": number})).is_none());
        let change = json!({"bookmark": number, "moment": "0", "task": 1, "text": "b",
                            "colour": "pink"});
        ask(&again, "bookmark-add", change).unwrap();
        let rows = ask(&again, "bookmarks", json!({})).unwrap();
        assert_eq!((&rows[0]["text"], &rows[0]["moment"]), (&json!("b"), &json!("12")));
        ask(&again, "bookmark-remove", json!({"bookmark": number})).unwrap();
        assert!(ask(&again, "bookmarks", json!({})).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_bookmark() {
        let add = |key: &str, value: Value| {
            let mut bookmark = json!({"moment": "1", "task": 1, "text": ""});
            bookmark[key] = value;
            refused("bookmark-add", bookmark)
        };
        assert!(add("moment", json!("-1")).contains("moment"));
        assert!(add("moment", json!("9007199254740992")).contains("moment"));
        assert!(add("frame", json!("1.0'")).contains("frame"));
        assert!(add("colour", json!("url(x)")).contains("colour"));
        assert!(add("text", json!("x".repeat(20_000))).contains("bytes"));
        assert!(add("other", json!(1)).contains("other"));
        assert!(refused("bookmark-remove", json!({})).contains("bookmark"));
    }

    #[test]
    fn a_file_that_is_no_database_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        std::fs::write(&path, "letters, many of them, and no database at all").unwrap();
        let error = Bookmarks::open(Some(directory.path()), "x").unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("letters"));
    }
}
