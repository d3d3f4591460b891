//! `search`: what fits the letters typed so far: functions, files, lines, types, globals, moments.

use std::collections::BTreeSet;

use model::Event;
use serde::Serialize;
use store::{Counted, Owner, Tree};
use symbols::NameKind;

use crate::ask::{Asked, Flow};
use crate::code::{CodeSet, paths};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::protocol::{Focus, MomentText, Place};

/// Names of one module that are ranked among all.
const EACH_MAX: usize = 60;
/// What is the user's own is wanted before anything else that fits as well.
const OWN_BONUS: u32 = 1000;
/// Longer texts fit nothing.
const TYPED_MAX: usize = 1000;

#[derive(Serialize)]
struct Row {
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    /// Executions in the run, of what is code.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<String>,
    score: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    focus: Option<Focus>,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let typed: String = asked.argument("text")?;
    let typed = typed.trim();
    if typed.is_empty() || typed.len() > TYPED_MAX {
        return Ok(());
    }
    let mut rows: Vec<Row> = moment(engine, typed).into_iter().collect();
    rows.extend(line(engine, typed));
    rows.extend(names(engine, typed));
    for mut row in rows.into_iter().skip(asked.offset()?) {
        if row.kind == "function" {
            row.count = count(engine, &row.name)?;
        }
        if asked.is_interrupted() || asked.row(&row) == Flow::Full {
            break;
        }
    }
    Ok(())
}

/// `146021`, or `e121` for an event of the recording.
fn moment(engine: &Engine<'_>, typed: &str) -> Option<Row> {
    let (moment, detail) = match typed.strip_prefix('e') {
        Some(event) => {
            let event = Event(event.parse().ok()?);
            (engine.db.history.moment_of(event)?, format!("behind event {}", event.0))
        }
        None => (model::Moment(typed.replace(',', "").parse().ok()?), "moment".into()),
    };
    let end = engine.db.reader.end();
    let task = engine.running(moment).map_or(1, |task| task.number.0);
    (moment <= end).then(|| Row {
        kind: "moment",
        name: MomentText(moment).0.to_string(),
        detail: Some(detail),
        place: None,
        count: None,
        score: u32::MAX,
        focus: Some(Focus::at(moment, task)),
    })
}

/// `file.c:51`
fn line(engine: &Engine<'_>, typed: &str) -> Vec<Row> {
    let Some((file, line)) = typed.rsplit_once(':') else { return Vec::new() };
    let Ok(line) = line.parse::<u32>() else { return Vec::new() };
    let mut files = BTreeSet::new();
    for module in engine.db.modules.all() {
        files.extend(paths(module, file).into_iter().map(|path| (!module.is_own(), path)));
    }
    let row = |(foreign, path): (bool, String)| Row {
        kind: "line",
        name: format!("{}:{line}", path.rsplit('/').next().unwrap_or(&path)),
        detail: Some(path.clone()),
        place: Some(Place { file: Some(path), line: Some(line), ..Place::default() }),
        count: None,
        score: if foreign { 0 } else { OWN_BONUS },
        focus: None,
    };
    files.into_iter().map(row).collect()
}

/// The best of all modules.
fn names(engine: &Engine<'_>, typed: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut seen = BTreeSet::new();
    for module in engine.db.modules.all() {
        let Some(symbols) = module.symbols() else { continue };
        for found in symbols.search(typed, EACH_MAX) {
            let kind = match found.kind {
                NameKind::Function => "function",
                NameKind::Symbol => {
                    let symbols = symbols.symbols_named(&found.name);
                    let code = symbols.iter().any(|symbol| symbol.kind.is_code());
                    if code { "function" } else { "global" }
                }
                NameKind::Type | NameKind::TypeDeclaration => "type",
                NameKind::Variable => "global",
                NameKind::Enumerator => "enumerator",
                NameKind::SourceFile => "file",
            };
            if !seen.insert((kind, found.name.clone())) {
                continue;
            }
            let file = (kind == "file").then(|| found.name.clone());
            let name = match &file {
                Some(path) => path.rsplit('/').next().unwrap_or(path).to_owned(),
                None => found.name,
            };
            rows.push(Row {
                kind,
                detail: Some(file.clone().unwrap_or_else(|| module.name().to_owned())),
                place: file.map(|file| Place { file: Some(file), ..Place::default() }),
                name,
                count: None,
                score: found.score + if module.is_own() { OWN_BONUS } else { 0 },
                focus: None,
            });
        }
    }
    rows.sort_by(|a, b| (b.score, &a.name, a.kind).cmp(&(a.score, &b.name, b.kind)));
    rows
}

/// How often a function was called, as far as it has code of its own.
fn count(engine: &Engine<'_>, name: &str) -> Result<Option<String>, Failure> {
    let Ok((calls, _)) = CodeSet::function(engine.db, name) else { return Ok(None) };
    let tree = Tree::new(&engine.db.reader);
    let mut count = 0;
    for (space, ranges) in &calls.spaces {
        for range in ranges {
            let counted = Counted::Executed { owner: Owner(*space), address: range.start };
            count += tree.count(counted, 0..engine.db.reader.leaves())?;
        }
    }
    Ok(Some(count.to_string()))
}
