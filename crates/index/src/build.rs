//! From a recording to its database: here, in one pass in which one thread replays and observes
//! and another encodes and writes; or by several processes (`shards.rs`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use model::{Call, Moment, Ticks};
use replay::{Progress, Session, TickRule};
use rr_trace::Trace;
use store::{Manifest, Reader, State, Writer};

use crate::restore::restore;
use crate::segment::{Material, Recorder};
use crate::shards::{self, MakeWorker};
use crate::stitch::Stitcher;
use crate::{Error, leaf};

/// How to build. All of it decides about the bytes, and has to be the same to go on with a build
/// that was interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Instructions in a segment.
    pub segment_instructions: u64,
    /// zstd's level, 1 to 22.
    pub level: i32,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_instructions: 4 << 20, level: 3 }
    }
}

/// What was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub leaves: u64,
    /// Leaves that an earlier build had made.
    pub resumed: u64,
    pub instructions: u64,
    /// Else the build was stopped, and can be gone on with.
    pub complete: bool,
}

/// How a build is looked at and stopped.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Told the moment up to which the database is sealed.
    pub sealed: &'a (dyn Fn(Moment) + Sync),
    /// Told how many ticks of all tasks have been replayed: the recording says how many there
    /// are, but not how many instructions.
    pub replayed: &'a (dyn Fn(Ticks) + Sync),
    /// Set to stop at the next border.
    pub stop: &'a AtomicBool,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("stop", self.stop).finish_non_exhaustive()
    }
}

/// Segments between those who make them: one waits, one is being encoded.
const QUEUE: usize = 1;

/// Who builds.
#[derive(Clone, Copy)]
pub enum Shards<'a> {
    /// One pass over the recording, in this process.
    None,
    /// So many workers. This process leads them.
    Workers(usize, &'a MakeWorker<'a>),
}

impl std::fmt::Debug for Shards<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shards::None => f.write_str("None"),
            Shards::Workers(number, _) => write!(f, "Workers({number})"),
        }
    }
}

/// Builds the database of a recording in a directory, or goes on with a build that was stopped:
/// then nothing that was sealed is made again. The bytes do not depend on who builds.
///
/// # Errors
///
/// A recording that diverges leaves what precedes the divergence, sealed, with the reason.
pub fn build(
    trace: &Trace,
    directory: &Path,
    options: &Options,
    shards: Shards<'_>,
    watch: &Watch<'_>,
) -> Result<Summary, Error> {
    if let Some(summary) = finished(trace, directory, options)? {
        return Ok(summary);
    }
    // A recording does not say how its ticks were counted: at most one other rule is to be tried.
    let mut rule = TickRule::default();
    loop {
        match build_under((trace, directory), options, rule, shards, watch)? {
            Outcome::Built(summary) => return Ok(summary),
            Outcome::OtherRule(other) => {
                discard(directory)?;
                rule = other;
            }
        }
    }
}

enum Outcome {
    Built(Summary),
    /// The ticks were counted by another rule, and what was built is void.
    OtherRule(TickRule),
}

/// Why no more segments come.
#[derive(Debug)]
pub enum Stop {
    End,
    Asked,
    OtherRule(TickRule),
    /// Nobody takes them.
    Closed,
}

/// A segment on its way.
struct Piece {
    material: Material,
    end: Moment,
}

fn build_under(
    (trace, directory): (&Trace, &Path),
    options: &Options,
    assumed: TickRule,
    shards: Shards<'_>,
    watch: &Watch<'_>,
) -> Result<Outcome, Error> {
    let writer = open(trace, directory, options)?;
    shards::remove_left(directory)?;
    let resumed = writer.leaves();
    let mut session = match resumed {
        0 => {
            // Whether the assumed rule is the right one is to be found out.
            let tick_rule = (assumed != TickRule::default()).then_some(assumed);
            Session::open(trace, replay::Options { tick_rule, ..Default::default() })?
        }
        _ => restore(writer.reader(), trace, resumed)?,
    };
    if session.is_over() {
        // Only the end of the database was missing.
        let instructions = writer.end().0;
        writer.finish()?;
        let (leaves, complete) = (resumed, true);
        return Ok(Outcome::Built(Summary { leaves, resumed, instructions, complete }));
    }
    let stitcher = Stitcher::at_border(writer.reader(), resumed)?;
    let (ran, writer) = match shards {
        Shards::None => one_pass(&mut session, writer, stitcher, options, watch),
        Shards::Workers(number, make) => {
            let workers = (number, make);
            shards::run(&mut session, writer, stitcher, options, workers, directory, watch)
        }
    };
    let writer = writer?;
    let (leaves, instructions) = (writer.leaves(), writer.end().0);
    let complete = match ran {
        Ok(Stop::End) => writer.finish().map(|()| true)?,
        Ok(Stop::Asked | Stop::Closed) => writer.interrupt().map(|()| false)?,
        Ok(Stop::OtherRule(rule)) => return Ok(Outcome::OtherRule(rule)),
        Err(error) if error.is_of_recording() => {
            writer.diverge(&error.to_string())?;
            return Err(error);
        }
        Err(error) => {
            // The manifest says what is true in any case: that there is more to be built.
            let _ = writer.interrupt();
            return Err(error);
        }
    };
    Ok(Outcome::Built(Summary { leaves, resumed, instructions, complete }))
}

fn one_pass(
    session: &mut Session,
    writer: Writer,
    stitcher: Stitcher,
    options: &Options,
    watch: &Watch<'_>,
) -> (Result<Stop, Error>, Result<Writer, Error>) {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(QUEUE);
        let (used, spare) = sync_channel(QUEUE + 2);
        let sealing = scope.spawn(move || seal(writer, stitcher, options, &receive, &used, watch));
        let ran = execute(session, options, &send, &spare, watch);
        drop(send);
        (ran, sealing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Runs segments to the end.
fn execute(
    session: &mut Session,
    options: &Options,
    pieces: &SyncSender<Piece>,
    spare: &Receiver<Vec<Call>>,
    watch: &Watch<'_>,
) -> Result<Stop, Error> {
    let mut recorder = Recorder::new(session)?;
    loop {
        if watch.stop.load(Ordering::Relaxed) {
            return Ok(Stop::Asked);
        }
        let end = next_border(session.moment(), options.segment_instructions);
        let progress = recorder.run(session, end)?;
        if progress == Progress::Restarted {
            return Ok(Stop::OtherRule(session.tick_rule()));
        }
        (watch.replayed)(session.total_ticks());
        let material = recorder.take(session, spare.try_recv().unwrap_or_default())?;
        if pieces.send(Piece { material, end: session.moment() }).is_err() {
            return Ok(Stop::Closed);
        }
        if progress == Progress::End {
            return Ok(Stop::End);
        }
    }
}

/// Encodes and appends what comes.
fn seal(
    mut writer: Writer,
    mut stitcher: Stitcher,
    options: &Options,
    pieces: &Receiver<Piece>,
    used: &SyncSender<Vec<Call>>,
    watch: &Watch<'_>,
) -> Result<Writer, Error> {
    for Piece { material, end } in pieces {
        let (leaf, callers) = leaf::encode(&material, writer.leaves(), options.level)?;
        let leaf = stitcher.stitch(leaf, &material.observed.calls, &callers)?;
        writer.append_leaf(end, &leaf)?;
        (watch.sealed)(end);
        // If nobody waits for it, it is not needed.
        let _ = used.try_send(material.observed.calls);
    }
    Ok(writer)
}

/// The first border behind a moment.
pub fn next_border(moment: Moment, instructions: u64) -> Moment {
    Moment((moment.0 / instructions + 1) * instructions)
}

/// What an earlier build has made, if it is complete and would be made again.
fn finished(trace: &Trace, directory: &Path, options: &Options) -> Result<Option<Summary>, Error> {
    if !directory.join("manifest").exists() {
        return Ok(None);
    }
    let reader = Reader::open(directory, 0)?;
    let manifest = reader.manifest();
    let same = manifest.identity == trace.identity()? && manifest.options == choices(options);
    if manifest.state != State::Complete || !same {
        return Ok(None);
    }
    let leaves = reader.leaves();
    let instructions = reader.end().0;
    Ok(Some(Summary { leaves, resumed: leaves, instructions, complete: true }))
}

/// What databases have that have buffered calls ([`crate::records::BufferedCallRecord`]); older
/// ones have not.
const BUFFERED_CALLS: (&str, &str) = ("buffered_calls", "kept");

/// Whether a database tells of system calls without events of their own.
pub fn has_buffered_calls(manifest: &Manifest) -> bool {
    let (key, value) = BUFFERED_CALLS;
    manifest.options.get(key).is_some_and(|found| found == value)
}

/// The options as the database keeps them.
fn choices(options: &Options) -> BTreeMap<String, String> {
    let (key, value) = BUFFERED_CALLS;
    BTreeMap::from([
        (key.into(), value.into()),
        ("segment_instructions".into(), options.segment_instructions.to_string()),
        ("level".into(), options.level.to_string()),
    ])
}

fn open(trace: &Trace, directory: &Path, options: &Options) -> Result<Writer, Error> {
    let identity = trace.identity()?;
    let build = choices(options);
    let writing = store::Options { level: options.level, ..Default::default() };
    let manifest = directory.join("manifest");
    Ok(match manifest.exists() {
        true => Writer::resume(directory, &identity, &build, writing)?,
        false => Writer::create(directory, &identity, build, writing)?,
    })
}

/// Removes a database of which nothing can be used.
fn discard(directory: &Path) -> Result<(), Error> {
    let failed = |source| store::Error::Io { file: directory.into(), source };
    std::fs::remove_dir_all(directory).map_err(failed)?;
    Ok(())
}
