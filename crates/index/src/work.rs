//! Work for another process: segments to be executed from a checkpoint.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use model::Moment;
use replay::{Checkpoint, Progress, Session, TickRule};
use rr_trace::Trace;
use serde::{Deserialize, Serialize};
use store::EncodedLeaf;

use crate::build::{Options, next_border};
use crate::segment::Recorder;
use crate::{Error, leaf};

/// Segments to execute. It may be done any number of times, anywhere where the recording and the
/// checkpoint are: the output is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Where the first segment begins: a file, or the beginning of the recording.
    pub checkpoint: Option<PathBuf>,
    pub tick_rule: TickRule,
    /// Number of the first segment.
    pub first: u64,
    /// How many there are; without it, all to the end of the recording.
    pub segments: Option<u64>,
    pub segment_instructions: u64,
    pub level: i32,
    /// The file to write.
    pub output: PathBuf,
}

/// Does work, one after the other. What has been translated for one is there for the next.
#[derive(Debug)]
pub struct Executor<'a> {
    trace: &'a Trace,
    session: Option<Session>,
}

/// Whoever has work done elsewhere, such as by a process.
pub trait Worker: Send {
    /// # Errors
    ///
    /// Why the work could not be done. The worker can be used again.
    fn execute(&mut self, work: &Work) -> Result<(), String>;
}

impl<'a> Executor<'a> {
    pub fn new(trace: &'a Trace) -> Executor<'a> {
        Executor { trace, session: None }
    }

    /// The output appears under its name when it is complete.
    pub fn execute(&mut self, work: &Work) -> Result<(), Error> {
        let mut session = self.session_at(work)?;
        let failed = |source| store::Error::Io { file: work.output.clone(), source };
        let temporary = work.output.with_extension("part");
        let mut output = BufWriter::new(File::create(&temporary).map_err(failed)?);
        let options =
            Options { segment_instructions: work.segment_instructions, level: work.level };
        let mut recorder = Recorder::new(&mut session)?;
        let mut spare = Vec::new();
        for number in (work.first..).take(work.segments.map_or(usize::MAX, |n| n as usize)) {
            let end = next_border(session.moment(), options.segment_instructions);
            let progress = recorder.run(&mut session, end)?;
            let material = recorder.take(&mut session, std::mem::take(&mut spare))?;
            let leaf = leaf::encode(&material, number, options.level)?.0.finish()?;
            write_leaf(&mut output, session.moment(), &leaf).map_err(failed)?;
            spare = material.observed.calls;
            match (progress, work.segments) {
                (Progress::Moment, _) => {}
                (Progress::End, None) => break,
                _ => {
                    let (leaf, found) = (number, session.moment());
                    return Err(Error::OtherEnd { leaf, expected: end, found });
                }
            }
        }
        output.flush().map_err(failed)?;
        std::fs::rename(&temporary, &work.output).map_err(failed)?;
        self.session = Some(session);
        Ok(())
    }

    fn session_at(&mut self, work: &Work) -> Result<Session, Error> {
        let tick_rule = Some(work.tick_rule);
        let options = replay::Options { tick_rule, ..replay::Options::default() };
        let Some(path) = &work.checkpoint else {
            self.session = None;
            return Ok(Session::open(self.trace, options)?);
        };
        let before = self.session.take();
        let opened = before.as_ref().map(Session::opened).unwrap_or_default();
        let checkpoint = Checkpoint::read(path, self.trace, &opened)?;
        match before {
            Some(mut session) => {
                session.restore(&checkpoint)?;
                Ok(session)
            }
            None => Ok(Session::resume(self.trace, options, &checkpoint)?),
        }
    }
}

fn write_leaf(output: &mut impl Write, end: Moment, leaf: &EncodedLeaf) -> std::io::Result<()> {
    output.write_all(&end.0.to_le_bytes())?;
    output.write_all(&(leaf.as_bytes().len() as u64).to_le_bytes())?;
    output.write_all(leaf.as_bytes())
}

/// The leaves of an output, one after the other.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
}

impl Output {
    pub fn open(path: &Path) -> Result<Output, Error> {
        let failed = |source| store::Error::Io { file: path.into(), source };
        let file = File::open(path).map_err(failed)?;
        let left = file.metadata().map_err(failed)?.len();
        Ok(Output { path: path.into(), file: BufReader::new(file), left })
    }

    /// The next leaf and where it ends; call stacks are missing in it.
    pub fn next(&mut self) -> Result<Option<(Moment, EncodedLeaf)>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let (end, length) = (self.number()?, self.number()?);
        let bytes = self.bytes(length)?;
        Ok(Some((Moment(end), EncodedLeaf::from_bytes(bytes)?)))
    }

    fn number(&mut self) -> Result<u64, Error> {
        let bytes = self.bytes(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }

    fn bytes(&mut self, length: u64) -> Result<Vec<u8>, Error> {
        let failed = |source| store::Error::Io { file: self.path.clone(), source };
        // Not more than there is: it is allocated.
        self.left = self
            .left
            .checked_sub(length)
            .ok_or_else(|| failed(std::io::ErrorKind::UnexpectedEof.into()))?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}
