//! The server of a debugging session: one port, the page, one WebSocket for questions.
//!
//! It answers no question about the recording itself. Those go to worker processes that speak
//! `docs/protocol.md` over their standard streams ([`Options::worker`]), so a crash costs one
//! question. Its own are bookmarks, which users keep, and source files that lie in directories
//! named on the command line.
//!
//! Whoever can reach the port may ask. So by default only this machine can, and since any page in
//! the user's browser is on this machine too, names of hosts and origins are checked (`guard`).
//!
//! It refuses to print, to exit, and to know what a recording is: paths, commands and names are
//! given. Start reading at [`run`].

mod assets;
mod bookmarks;
mod error;
mod guard;
mod http;
mod message;
mod pool;
mod session;
mod sources;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

pub use error::{Error, Result};
pub use sources::Rule as SourceRule;
pub use worker::Command as WorkerCommand;

use bookmarks::Bookmarks;
use guard::Guard;
use pool::Pool;
use sources::Sources;

/// Ports that are tried, from the first on, when none is demanded.
pub const PORTS: std::ops::Range<u16> = 3000..3100;

/// What a server serves, and to whom.
#[derive(Debug)]
pub struct Options {
    /// How a process that answers questions is started.
    pub worker: WorkerCommand,
    /// How many of them.
    pub workers: usize,
    /// Name of the recorded program, for the title.
    pub program: String,
    /// What tells this recording from all others: bookmarks belong to it.
    pub identity: String,
    /// Directory in which bookmarks are kept; without one they are forgotten at the end.
    pub storage: Option<PathBuf>,
    /// Where source files may be read.
    pub sources: Vec<SourceRule>,
    /// A further address to listen on, which others can reach.
    pub tunnel: Option<SocketAddr>,
    /// Further names of this machine that browsers may ask for, which matter with a tunnel.
    pub names: Vec<String>,
}

/// Where a server can be reached.
#[derive(Clone, Copy, Debug)]
pub struct Launched {
    /// On this machine.
    pub local: SocketAddr,
    /// From elsewhere.
    pub tunnel: Option<SocketAddr>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    program: String,
    /// Another one for each start, so that a page knows whether it talks to the same server.
    token: String,
    guard: Guard,
    pool: Pool,
    sources: Sources,
    bookmarks: Arc<Bookmarks>,
    /// What has changed, for all pages.
    changes: broadcast::Sender<&'static str>,
    /// Becomes true when the server ends.
    ending: watch::Receiver<bool>,
}

/// Serves until an interruption (Ctrl-C, or SIGTERM) ends it, which is success. `launched` is
/// called once, as soon as connections are accepted.
///
/// # Errors
///
/// If nothing could be listened on, or the storage not be opened.
pub fn run(options: Options, launched: impl FnOnce(Launched)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let result = runtime.block_on(serve(options, launched));
    // Whatever still blocks (reading a file) must not keep the program.
    runtime.shutdown_background();
    result
}

async fn serve(options: Options, launched: impl FnOnce(Launched)) -> Result<()> {
    let bookmarks = Bookmarks::open(options.storage.as_deref(), &options.identity)?;
    let local = listen_nearby().await?;
    let tunnel = match options.tunnel {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.map_err(|source| Error::Listen { address, source })?)
        }
    };
    let address = |listener: &TcpListener| listener.local_addr().map_err(Error::Runtime);
    let told =
        Launched { local: address(&local)?, tunnel: tunnel.as_ref().map(address).transpose()? };
    let (end, ending) = watch::channel(false);
    let shared = Arc::new(Shared {
        program: options.program,
        token: token(),
        guard: Guard::new([Some(told.local), told.tunnel].into_iter().flatten(), options.names),
        pool: Pool::start(options.worker, options.workers),
        sources: Sources::new(options.sources),
        bookmarks: Arc::new(bookmarks),
        changes: broadcast::channel(64).0,
        ending,
    });
    let stopped = stop_signals()?;
    let mut servers = tokio::task::JoinSet::new();
    for listener in [Some(local), tunnel].into_iter().flatten() {
        servers.spawn(http::accept(listener, Arc::clone(&shared)));
    }
    launched(told);
    stopped.await;
    tracing::info!("interrupted, ending");
    _ = end.send(true);
    servers.abort_all();
    shared.pool.stop().await;
    Ok(())
}

/// The first free port of [`PORTS`] on the loopback interface, or any that is free.
async fn listen_nearby() -> Result<TcpListener> {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    for port in PORTS {
        match TcpListener::bind(at(port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(Error::Listen { address: at(port), source }),
        }
    }
    let any = TcpListener::bind(at(0)).await;
    any.map_err(|source| Error::Listen { address: at(0), source })
}

/// Listens for signals from now on; the future ends with the first.
fn stop_signals() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Differs from start to start. Nothing is protected by it.
fn token() -> String {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{:x}-{:x}", since.as_nanos(), std::process::id())
}
