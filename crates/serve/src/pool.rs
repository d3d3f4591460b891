//! The workers, and the questions that wait for one.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::message::Failure;
use crate::worker::{Command, Job, Piece, Worker};

/// Questions of all pages that may wait.
const WAITING_MAX: usize = 1024;

#[derive(Debug)]
pub struct Pool {
    jobs: mpsc::Sender<Job>,
    workers: Mutex<JoinSet<()>>,
}

impl Pool {
    /// Starts so many workers, at once: the first question should not wait for that.
    pub fn start(command: Command, workers: usize) -> Pool {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut set = JoinSet::new();
        for _ in 0..workers.max(1) {
            set.spawn(work(command.clone(), Arc::clone(&waiting)));
        }
        Pool { jobs, workers: Mutex::new(set) }
    }

    /// Has a question answered, in its turn.
    pub async fn ask(&self, job: Job) {
        if let Err(refused) = self.jobs.try_send(job) {
            let job = refused.into_inner();
            let failure = Failure::new("worker", "Too many questions wait for an answer");
            let message = failure.advise("Ask again in a moment").message(Some(job.number));
            _ = job.answers.send(Piece::last(message)).await;
        }
    }

    /// Ends all processes.
    pub async fn stop(&self) {
        self.workers.lock().await.shutdown().await;
    }
}

/// Takes one question after the other, with a process that is replaced when it is lost.
async fn work(command: Command, waiting: Arc<Mutex<mpsc::Receiver<Job>>>) {
    let mut worker = Worker::start(&command).ok();
    loop {
        let Some(job) = waiting.lock().await.recv().await else { return };
        if job.cancel.is_cancelled() {
            _ = job.answers.send(Piece::last(cancelled(&job))).await;
            continue;
        }
        let ready = match worker.take() {
            Some(worker) => worker,
            None => match Worker::start(&command) {
                Ok(worker) => worker,
                Err(error) => {
                    let what = format!("{} cannot be started: {error}", command.program.display());
                    tracing::error!("{what}");
                    let message = Failure::new("worker", what).message(Some(job.number));
                    _ = job.answers.send(Piece::last(message)).await;
                    continue;
                }
            },
        };
        worker = ready.answer(&job).await;
    }
}

fn cancelled(job: &Job) -> String {
    let queue = (Instant::now() - job.asked).as_secs_f64() * 1e3;
    serde_json::json!({
        "ask": job.number, "end": "cancelled", "matched": "0", "exact": false,
        "before": null, "after": null, "times": {"queue": queue, "total": queue},
    })
    .to_string()
}
