//! The build by several processes: a leader, shards, a stitcher.
//!
//! The leader replays the recording once and leaves checkpoints. From each of them a shard, in a
//! process of its own, executes a stretch of segments and encodes what it observes. The stitcher
//! takes the stretches in their order, adds what depends on the past, and seals them. A full
//! queue stops the leader.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use machine::Observers;
use model::Moment;
use replay::{Checkpoint, Progress, Session};
use store::Writer;

use crate::Error;
use crate::build::{Options, Stop, Watch, next_border};
use crate::stitch::Stitcher;
use crate::work::{Output, Work, Worker};

/// Makes a worker.
pub type MakeWorker<'a> = dyn Fn() -> Box<dyn Worker> + Sync + 'a;

/// Segments in a stretch, at least.
const STRETCH: u64 = 8;
/// Memory that a checkpoint may hold for each segment of the stretch behind it: the larger it is,
/// the longer the stretch.
const BYTES_PER_SEGMENT: u64 = 8 << 20;
/// Memory of checkpoints that wait, at most, if there is more than one of them.
pub const WAITING_BYTES_MAX: u64 = 1 << 30;
/// Stretches for each shard that are not yet sealed.
const WAITING: usize = 3;
/// Times that a stretch is given to a worker.
const ATTEMPTS: u32 = 2;
/// All that the leader observes: so that checkpoints cost what was written.
const LEADER: Observers = Observers {
    written_words: true,
    read_lines: false,
    executions: false,
    calls: false,
    control_flow: false,
    stores: false,
};

/// Files for work are in this directory of the database.
const WORK: &str = "work";
/// For nobody else.
const WORK_MODE: u32 = 0o700;

/// Removes what shards of a killed build have left. Whoever calls holds the lock of the database.
pub fn remove_left(directory: &Path) -> Result<(), Error> {
    let work = directory.join(WORK);
    match std::fs::remove_dir_all(&work) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(store::Error::Io { file: work, source }.into())
        }
        _ => Ok(()),
    }
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// For shards, by number of the stretch.
    waiting: VecDeque<(u64, Stretch)>,
    executed: BTreeMap<u64, Stretch>,
    /// Not yet sealed, and the memory of their checkpoints.
    open: usize,
    open_bytes: u64,
    /// The leader has given out so many, and will not give out more.
    all: Option<u64>,
    /// Somebody has failed: nothing more is to be done.
    failed: bool,
}

struct Stretch {
    work: Work,
    /// Of the checkpoint, in memory.
    bytes: u64,
}

/// A directory of files for work, which is removed at the end.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // What stays is removed by the next build.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Replays from where the session is to the end, with so many shards. What the replay came to,
/// and the writer.
pub fn run(
    session: &mut Session,
    writer: Writer,
    stitcher: Stitcher,
    options: &Options,
    (shards, make): (usize, &MakeWorker<'_>),
    directory: &Path,
    watch: &Watch<'_>,
) -> (Result<Stop, Error>, Result<Writer, Error>) {
    let directory = Directory(directory.join(WORK));
    let created = std::fs::DirBuilder::new().mode(WORK_MODE).create(&directory.0);
    if let Err(source) = created {
        let error = store::Error::Io { file: directory.0.clone(), source };
        return (Ok(Stop::Closed), Err(error.into()));
    }
    let first = writer.leaves();
    let shared = &Shared::default();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..shards {
            threads.push(scope.spawn(|| shared.guard(|| work(shared, make()))));
        }
        let sealing =
            scope.spawn(|| shared.guard(|| seal(shared, writer, stitcher, options, watch)));
        let mut leader =
            Leader { session, options, shards, shared, directory: &directory.0, first, given: 0 };
        let led = leader.run(watch);
        let given = leader.given;
        shared.change(|state| match &led {
            // Where it was counted by another rule, all that was built is void.
            Ok(Stop::OtherRule(_)) => state.failed = true,
            _ => state.all = Some(given),
        });
        let worked: Vec<Result<(), Error>> = threads.into_iter().map(joined).collect();
        let sealed = joined(sealing);
        let other_rule = matches!(led, Ok(Stop::OtherRule(_)));
        let failure = worked.into_iter().find_map(Result::err).filter(|_| !other_rule);
        match failure {
            Some(error) => (led, Err(error)),
            None => (led, sealed),
        }
    })
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `take` gives something.
    fn wait<T>(&self, mut take: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut state = self.lock();
        loop {
            if let Some(result) = take(&mut state) {
                drop(state);
                self.changed.notify_all();
                return result;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells the others if the work of this thread fails.
    fn guard<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        struct Tell<'a>(&'a Shared, bool);
        impl Drop for Tell<'_> {
            fn drop(&mut self) {
                if self.1 {
                    self.0.change(|state| state.failed = true);
                }
            }
        }
        let mut tell = Tell(self, true);
        let result = work();
        tell.1 = result.is_err();
        result
    }
}

struct Leader<'a> {
    session: &'a mut Session,
    options: &'a Options,
    shards: usize,
    shared: &'a Shared,
    directory: &'a Path,
    /// Of the next stretch.
    first: u64,
    /// Stretches.
    given: u64,
}

impl Leader<'_> {
    fn run(&mut self, watch: &Watch<'_>) -> Result<Stop, Error> {
        self.session.observe(LEADER)?;
        loop {
            let (checkpoint, bytes) = self.checkpoint()?;
            let wanted = STRETCH.max(bytes / BYTES_PER_SEGMENT);
            let (done, stop) = self.segments(wanted, watch);
            let segments = match stop {
                Ok(Some(Stop::End)) => None,
                Ok(Some(Stop::OtherRule(rule))) => return Ok(Stop::OtherRule(rule)),
                _ => Some(done),
            };
            if segments != Some(0) && !self.give(checkpoint, bytes, segments) {
                return Ok(Stop::Closed);
            }
            self.first += done;
            if let Some(stop) = stop? {
                return Ok(stop);
            }
        }
    }

    /// Goes on over so many segments; how many were completed, and why no more if so.
    fn segments(&mut self, wanted: u64, watch: &Watch<'_>) -> (u64, Result<Option<Stop>, Error>) {
        for done in 0..wanted {
            if watch.stop.load(Ordering::Relaxed) {
                return (done, Ok(Some(Stop::Asked)));
            }
            let end = next_border(self.session.moment(), self.options.segment_instructions);
            match self.segment(end) {
                Ok(Progress::Moment) => (watch.replayed)(self.session.total_ticks()),
                Ok(Progress::Restarted) => {
                    return (done, Ok(Some(Stop::OtherRule(self.session.tick_rule()))));
                }
                Ok(_) => return (done, Ok(Some(Stop::End))),
                Err(error) => return (done, Err(error)),
            }
        }
        (wanted, Ok(None))
    }

    fn segment(&mut self, end: Moment) -> Result<Progress, Error> {
        loop {
            match self.session.advance(Some(end))? {
                Progress::Event(_) => {}
                Progress::Moment if self.session.moment() < end => {}
                stop => {
                    // It is the shard that needs it.
                    self.session.take_observed(Vec::new())?;
                    return Ok(stop);
                }
            }
        }
    }

    /// Writes where the session is; the memory that this holds, in bytes.
    fn checkpoint(&mut self) -> Result<(Option<PathBuf>, u64), Error> {
        if self.first == 0 {
            return Ok((None, 0));
        }
        let checkpoint: Checkpoint = self.session.checkpoint()?;
        let pages: usize = checkpoint.memory().iter().map(|(_, pages)| pages.all().len()).sum();
        let path = self.directory.join(format!("{}.checkpoint", self.first));
        checkpoint.write(&path)?;
        Ok((Some(path), pages as u64 * model::PAGE_SIZE))
    }

    /// False if nobody takes it.
    fn give(&mut self, checkpoint: Option<PathBuf>, bytes: u64, segments: Option<u64>) -> bool {
        let work = Work {
            checkpoint,
            tick_rule: self.session.tick_rule(),
            first: self.first,
            segments,
            segment_instructions: self.options.segment_instructions,
            level: self.options.level,
            output: self.directory.join(format!("{}.leaves", self.first)),
        };
        let number = self.given;
        self.given += 1;
        let mut stretch = Some(Stretch { work, bytes });
        // Checkpoints whose stretch is sealed are not counted.
        let room = self.shards * WAITING;
        self.shared.wait(|state| {
            let full = state.open >= room || state.open_bytes + bytes > WAITING_BYTES_MAX;
            if state.failed {
                return Some(false);
            }
            if full && state.open > 0 {
                return None;
            }
            state.open += 1;
            state.open_bytes += bytes;
            state.waiting.extend(stretch.take().map(|stretch| (number, stretch)));
            Some(true)
        })
    }
}

/// One shard.
fn work(shared: &Shared, mut worker: Box<dyn Worker>) -> Result<(), Error> {
    loop {
        let next = shared.wait(|state| match state.waiting.pop_front() {
            _ if state.failed => Some(None),
            None if state.all.is_some() => Some(None),
            next => next.map(Some),
        });
        let Some((number, stretch)) = next else { return Ok(()) };
        let mut attempt = 1;
        while let Err(reason) = worker.execute(&stretch.work) {
            if attempt == ATTEMPTS {
                return Err(Error::Shard { first: stretch.work.first, attempt, reason });
            }
            attempt += 1;
        }
        shared.change(|state| state.executed.insert(number, stretch));
    }
}

/// Completes leaves in their order.
fn seal(
    shared: &Shared,
    mut writer: Writer,
    mut stitcher: Stitcher,
    options: &Options,
    watch: &Watch<'_>,
) -> Result<Writer, Error> {
    for number in 0.. {
        let next = shared.wait(|state| match state.executed.remove(&number) {
            Some(stretch) => Some(Some(stretch)),
            None if state.failed || state.all == Some(number) => Some(None),
            None => None,
        });
        let Some(Stretch { work, bytes }) = next else { break };
        let mut output = Output::open(&work.output)?;
        while let Some((end, leaf)) = output.next()? {
            let leaf = stitcher.stitch_encoded(leaf, options.level)?;
            writer.append_leaf(end, &leaf)?;
            (watch.sealed)(end);
        }
        for path in work.checkpoint.iter().chain([&work.output]) {
            std::fs::remove_file(path)
                .map_err(|source| store::Error::Io { file: path.clone(), source })?;
        }
        shared.change(|state| {
            state.open -= 1;
            state.open_bytes -= bytes;
        });
    }
    Ok(writer)
}
