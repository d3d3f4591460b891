//! Removing temporary files when the program is interrupted or terminated.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, OnceLock, PoisonError};

use anyhow::Context;

/// The directory to remove.
static DIRECTORY: Mutex<Option<PathBuf>> = Mutex::new(None);
/// Exit status of a program that SIGINT ended, as shells give it.
const INTERRUPTED: i32 = 130;

/// As long as it lives, an interruption removes the directory.
#[derive(Debug)]
pub struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        *DIRECTORY.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// One directory at a time.
pub fn remove_when_interrupted(directory: &Path) -> anyhow::Result<Guard> {
    static ONCE: Once = Once::new();
    static ERROR: OnceLock<ctrlc::Error> = OnceLock::new();
    ONCE.call_once(|| {
        if let Err(error) = ctrlc::set_handler(interrupted) {
            let _ = ERROR.set(error);
        }
    });
    if let Some(error) = ERROR.get() {
        anyhow::bail!("cannot handle interruptions: {error}");
    }
    let mut known = DIRECTORY.lock().unwrap_or_else(PoisonError::into_inner);
    anyhow::ensure!(known.is_none(), "two directories of checkpoints at a time");
    *known = Some(directory.canonicalize().context("the directory of checkpoints is gone")?);
    Ok(Guard(()))
}

/// Processes of pieces end when this one does.
fn interrupted() {
    // Never released: nobody makes another directory.
    let directory = DIRECTORY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(directory) = &*directory {
        // Others may be writing into it until the directory itself is gone.
        for _ in 0..1000 {
            match std::fs::remove_dir_all(directory) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                Err(error) if error.kind() == ErrorKind::NotFound && directory.exists() => {}
                _ => break,
            }
        }
    }
    std::process::exit(INTERRUPTED);
}
