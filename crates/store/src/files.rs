//! Opens the files of a database. Nothing is ever written through a link, and a pipe in the place
//! of a file is an error and nobody waits for it: databases come with recordings from anywhere.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// For all files of a database: never writable by others, whatever the umask.
const MODE: u32 = 0o664;

/// For writing; made if it is not there, otherwise as it is.
pub fn make(path: &Path) -> io::Result<File> {
    regular(to_write().create(true).truncate(false).mode(MODE).open(path)?)
}

/// For writing, empty.
pub fn make_empty(path: &Path) -> io::Result<File> {
    let file = make(path)?;
    file.set_len(0)?;
    Ok(file)
}

/// For reading and writing; it must be there.
pub fn open_to_write(path: &Path) -> io::Result<File> {
    regular(to_write().read(true).open(path)?)
}

pub fn open_to_read(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?)
}

fn to_write() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

fn regular(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn neither_links_nor_pipes() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("victim"), "precious").unwrap();
        symlink("victim", path("link")).unwrap();
        symlink("nothing", path("dangling")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        for name in ["link", "dangling", "pipe", "."] {
            for open in [make, make_empty, open_to_write] {
                open(&path(name)).unwrap_err();
            }
        }
        open_to_read(&path("pipe")).unwrap_err();
        assert_eq!(fs::read(path("victim")).unwrap(), b"precious");
        assert!(!path("nothing").exists());
        assert_eq!(make(&path("victim")).unwrap().metadata().unwrap().len(), 8);
        assert_eq!(make_empty(&path("victim")).unwrap().metadata().unwrap().len(), 0);
        make_empty(&path("new")).unwrap();
    }
}
