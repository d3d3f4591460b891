//! Work over all cores for what is made once and waited for.

use std::sync::OnceLock;

use rayon::ThreadPool;

/// Runs work that is waited for behind a lock in threads of its own. On the common pool a waiting
/// thread may take up another task, which may wait for the same lock: for ever.
/// The work itself must not wait for such locks.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let name = |index| format!("symbols-{index}");
        rayon::ThreadPoolBuilder::new().thread_name(name).build().ok()
    });
    let Some(pool) = pool else { return work() };
    // A thread outside of any pool waits without taking up other tasks.
    std::thread::scope(|scope| match scope.spawn(|| pool.install(work)).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
