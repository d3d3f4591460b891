//! `timeline`: the call tree of a task in tiles, at any scale.
//!
//! A tile is `BUCKETS` buckets of 2^level instructions. Calls that are shorter than the grain, at
//! first a bucket, are merged with those of the same depth that begin in the same stretch of that
//! length; the grain is doubled until there are few enough boxes. So what a tile says depends on
//! the recording alone.

use model::{Address, Moment};
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::ask::Asked;
use crate::call_tree::{Detail, Span, walk};
use crate::engine::Engine;
use crate::failure::{Code, Failure};
use crate::protocol::{Focus, FrameId, MomentText};

/// Buckets of a tile; of 2^level instructions each.
const BUCKETS_BITS: u32 = 10;
const LEVEL_MAX: u32 = 48;
/// Boxes of a tile.
const BOXES_MAX: usize = 4_000;
/// Boxes that are kept on the way, before they are merged further.
const KEPT_MAX: usize = 1 << 16;

#[derive(Serialize)]
struct Row {
    level: u32,
    tile: u64,
    task: u32,
    from: MomentText,
    /// Where the tile ends, or the task, or the database.
    to: MomentText,
    /// No more will be known.
    complete: bool,
    /// Calls of fewer instructions are merged.
    grain: u64,
    /// Deeper calls are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    depth_max: Option<u32>,
    /// Whether calls are left out that no border between segments has interrupted.
    coarse: bool,
    /// A box each, in order of depth, then of time; instructions since `from`.
    start: Vec<u64>,
    length: Vec<u64>,
    depth: Vec<u32>,
    /// Index into `functions`: of several calls, that of the longest.
    function: Vec<u32>,
    /// Of several calls, the first.
    frame: Vec<FrameId>,
    /// How many calls it is.
    merged: Vec<u64>,
    functions: Vec<String>,
    focus: Focus,
}

pub fn answer(engine: &mut Engine<'_>, asked: &mut Asked<'_>) -> Result<(), Failure> {
    let here = engine.here(&asked.request.focus)?;
    let level: u32 = asked.argument("level")?;
    let tile: u64 = asked.argument("tile")?;
    let task: u32 = asked.optional("task")?.unwrap_or(here.task);
    let here = engine.here(&Focus { task: Some(task), ..Focus::default() })?;
    let width = 1_u64.checked_shl(level + BUCKETS_BITS).filter(|_| level <= LEVEL_MAX);
    let from = width.and_then(|width| tile.checked_mul(width));
    let ends = width.zip(from).and_then(|(width, from)| Some((from, from.checked_add(width)?)));
    let Some((from, to)) = ends else {
        let what = format!("there is no tile {tile} of level {level}");
        return Err(Failure::new(Code::BadRequest, what)
            .hint(format!("levels are 0 to {LEVEL_MAX}, tiles end before moment 2^64")));
    };
    let db = engine.db;
    let life = &db.history.tasks[here.task as usize - 1];
    let sealed = db.reader.end();
    let built = db.reader.manifest().state == store::State::Complete;
    let end = Moment(to).min(life.end.unwrap_or(sealed)).min(sealed);
    let begin = Moment(from).max(life.begin).min(end);
    let complete = built || Moment(to) <= sealed || life.end.is_some_and(|end| end <= sealed);

    // Where a bucket is not shorter than a leaf, what lies between borders would be merged anyway.
    let first = db.reader.span(0)?;
    let coarse = db.reader.leaves() > 1 && 1_u64 << level >= first.end - first.start;
    let detail = if coarse { Detail::Borders } else { Detail::Calls };
    let mut boxes = Boxes::new(Moment(from), level);
    let range = begin..end;
    let whole = walk(engine, asked, life.tid, range, detail, &mut |span| boxes.add(&span))?;
    if !whole {
        // Half a tile would be taken for a whole one.
        return Ok(());
    }
    boxes.shrink(BOXES_MAX);
    let mut row = Row {
        level,
        tile,
        task: here.task,
        from: MomentText(Moment(from)),
        to: MomentText(end.max(Moment(from))),
        complete,
        grain: boxes.grain,
        depth_max: boxes.depth_max,
        coarse,
        start: Vec::new(),
        length: Vec::new(),
        depth: Vec::new(),
        function: Vec::new(),
        frame: Vec::new(),
        merged: Vec::new(),
        functions: Vec::new(),
        focus: Focus::at(begin, here.task),
    };
    row.fill(engine, boxes.into_list());
    let _ = asked.row(&row);
    Ok(())
}

impl Row {
    fn fill(&mut self, engine: &mut Engine<'_>, boxes: Vec<(u32, Piece)>) {
        let mut names: FxHashMap<String, u32> = FxHashMap::default();
        let from = self.from.0;
        for (depth, piece) in boxes {
            let name = name(engine, &piece);
            let fresh = names.len() as u32;
            let index = *names.entry(name).or_insert_with_key(|name| {
                self.functions.push(name.clone());
                fresh
            });
            self.start.push(piece.start - from);
            self.length.push(piece.end - piece.start);
            self.depth.push(depth);
            self.function.push(index);
            self.frame.push(FrameId { entry: piece.entry, inlined: 0 });
            self.merged.push(piece.merged);
        }
    }
}

/// The name of the longest call's function.
fn name(engine: &mut Engine<'_>, piece: &Piece) -> String {
    let spot = engine.places.look(engine.db, piece.space, piece.function, piece.entry);
    match spot.place(0).function {
        // The stub of the linker, on the way to the function.
        Some(name) => name.strip_suffix("@plt").map_or(name.clone(), str::to_owned),
        None => piece.function.to_string(),
    }
}

/// One call, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    start: Moment,
    end: Moment,
    /// Of the first.
    entry: Moment,
    /// Of the longest.
    longest: u64,
    space: u32,
    function: Address,
    merged: u64,
}

impl Piece {
    /// In whatever order calls are added, the same comes out.
    fn merge(&mut self, other: &Piece) {
        let better = |piece: &Piece| (piece.longest, std::cmp::Reverse(piece.start));
        if better(other) > better(self) {
            (self.longest, self.space, self.function) =
                (other.longest, other.space, other.function);
        }
        if other.start < self.start {
            (self.start, self.entry) = (other.start, other.entry);
        }
        self.end = self.end.max(other.end);
        self.merged += other.merged;
    }
}

/// The boxes of a tile, as many as are kept.
#[derive(Debug)]
struct Boxes {
    from: Moment,
    width: u64,
    grain: u64,
    depth_max: Option<u32>,
    long: Vec<(u32, Piece)>,
    /// By depth, and number of the stretch of a grain's length in which they begin.
    short: FxHashMap<(u32, u64), Piece>,
}

impl Boxes {
    fn new(from: Moment, level: u32) -> Boxes {
        Boxes {
            from,
            width: 1 << (level + BUCKETS_BITS),
            grain: 1 << level,
            depth_max: None,
            long: Vec::new(),
            short: FxHashMap::default(),
        }
    }

    fn add(&mut self, span: &Span) {
        let Span { entry, end, depth, space, function } = *span;
        if self.depth_max.is_some_and(|deepest| depth > deepest) {
            return;
        }
        let start = entry.max(self.from);
        let longest = end - entry;
        let piece = Piece { start, end, entry, longest, space, function, merged: 1 };
        self.put(depth, piece);
        if self.count() > KEPT_MAX {
            self.shrink(KEPT_MAX / 2);
        }
    }

    fn count(&self) -> usize {
        self.long.len() + self.short.len()
    }

    fn put(&mut self, depth: u32, piece: Piece) {
        if piece.merged == 1 && piece.longest >= self.grain {
            self.long.push((depth, piece));
            return;
        }
        let stretch = (piece.start - self.from) / self.grain;
        let known = self.short.entry((depth, stretch));
        known.and_modify(|known| known.merge(&piece)).or_insert(piece);
    }

    /// Merges more until there are few enough; where that does not help, leaves out the deepest.
    fn shrink(&mut self, most: usize) {
        while self.count() > most {
            let long = std::mem::take(&mut self.long);
            let short = std::mem::take(&mut self.short);
            let short = short.into_iter().map(|((depth, _), piece)| (depth, piece));
            let mut all: Vec<(u32, Piece)> = long.into_iter().chain(short).collect();
            if self.grain < self.width {
                self.grain *= 2;
            } else {
                let deepest = all.iter().map(|(depth, _)| *depth).max().unwrap_or(0);
                self.depth_max = Some(deepest / 2);
                all.retain(|(depth, _)| *depth <= deepest / 2);
            }
            for (depth, piece) in all {
                self.put(depth, piece);
            }
        }
    }

    fn into_list(self) -> Vec<(u32, Piece)> {
        let short = self.short.into_iter().map(|((depth, _), piece)| (depth, piece));
        let mut list: Vec<(u32, Piece)> = self.long.into_iter().chain(short).collect();
        list.sort_by_key(|(depth, piece)| (*depth, piece.start));
        list
    }
}
