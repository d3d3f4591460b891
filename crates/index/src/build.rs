//! One pass over a recording: replayed, observed, and written as it goes.

use std::collections::BTreeMap;
use std::path::Path;

use model::Moment;
use replay::{Progress, Session, TickRule};
use rr_trace::Trace;
use store::{Reader, State, Writer};

use crate::Error;
use crate::restore::restore;
use crate::segment::{OBSERVERS, Segment};

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
}

/// Builds the database of a recording in a directory, or goes on with a build that was stopped:
/// then nothing that was sealed is made again. `progress` is told the moment reached.
///
/// # Errors
///
/// A recording that diverges leaves what precedes the divergence, sealed, with the reason.
pub fn build(
    trace: &Trace,
    directory: &Path,
    options: &Options,
    mut progress: impl FnMut(Moment),
) -> Result<Summary, Error> {
    if let Some(summary) = finished(trace, directory, options)? {
        return Ok(summary);
    }
    // A recording does not say how its ticks were counted: at most one other rule is to be tried.
    let mut rule = TickRule::default();
    loop {
        match build_under(trace, directory, options, rule, &mut progress)? {
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

fn build_under(
    trace: &Trace,
    directory: &Path,
    options: &Options,
    assumed: TickRule,
    progress: &mut impl FnMut(Moment),
) -> Result<Outcome, Error> {
    let mut writer = open(trace, directory, options)?;
    let resumed = writer.leaves();
    let mut session = match resumed {
        0 => {
            // Whether the assumed rule is the right one is to be found out.
            let tick_rule = (assumed != TickRule::default()).then_some(assumed);
            Session::open(trace, replay::Options { tick_rule, ..Default::default() })?
        }
        _ => restore(writer.reader(), trace, resumed)?,
    };
    session.observe(OBSERVERS)?;
    let mut segment = Segment::at_border(&mut session, writer.reader(), resumed)?;
    loop {
        let end = next_border(session.moment(), options.segment_instructions);
        match segment.run(&mut session, end) {
            Ok(Progress::Restarted) => return Ok(Outcome::OtherRule(session.tick_rule())),
            Ok(progress_made) => {
                let over = progress_made == Progress::End;
                let (leaf, checkpoint) = segment.encode(&mut session, options.level)?;
                let reached = session.moment();
                writer.append_leaf(reached, &leaf)?;
                progress(reached);
                if over {
                    let leaves = writer.leaves();
                    writer.finish()?;
                    let instructions = reached.0;
                    return Ok(Outcome::Built(Summary { leaves, resumed, instructions }));
                }
                segment.next(checkpoint);
            }
            Err(error) => {
                writer.diverge(&error.to_string())?;
                return Err(error);
            }
        }
    }
}

/// The first border behind a moment.
fn next_border(moment: Moment, instructions: u64) -> Moment {
    Moment((moment.0 / instructions + 1) * instructions)
}

/// What an earlier build has made, if it is complete and would be made again.
fn finished(trace: &Trace, directory: &Path, options: &Options) -> Result<Option<Summary>, Error> {
    if !directory.join("manifest").exists() {
        return Ok(None);
    }
    let reader = Reader::open(directory, 0)?;
    let manifest = reader.manifest();
    let same = manifest.identity == trace.header().uuid && manifest.options == choices(options);
    if manifest.state != State::Complete || !same {
        return Ok(None);
    }
    let leaves = reader.leaves();
    Ok(Some(Summary { leaves, resumed: leaves, instructions: reader.end().0 }))
}

/// The options as the database keeps them.
fn choices(options: &Options) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("segment_instructions".into(), options.segment_instructions.to_string()),
        ("level".into(), options.level.to_string()),
    ])
}

fn open(trace: &Trace, directory: &Path, options: &Options) -> Result<Writer, Error> {
    let identity = trace.header().uuid;
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
