//! One process per state directory: two would overwrite each other's learned state without noticing.
//!
//! An advisory lock on an open file, not the file's existence: the system lets go of it when the process ends, however
//! it ends, so a crash never leaves a stale lock behind.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::StoreError;

/// Name of the lock file in the state directory.
pub const LOCK_FILE: &str = "foretide.lock";

/// Holds the state directory until dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes the directory if it is missing and takes it. Fails at once if another process has it; its process id is
    /// in the error.
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        let failed = |error| StoreError::Directory { directory: directory.to_owned(), error };
        fs::create_dir_all(directory).map_err(failed)?;
        let path = directory.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { directory: directory.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        write_holder(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    // Only for the error's words: an unreadable file names nobody.
    let _ = file.take(32).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".to_owned(),
    }
}
