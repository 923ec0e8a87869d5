//! What outlives a restart: the load history and what was learned about costs, in one state directory.
//!
//! Nothing here is on a request's path. A disk that fails costs history, never a request: callers hand over and go on,
//! and damaged files are set aside under a name that is told, never deleted and never a reason not to start.

pub mod aside;
pub mod history;
pub mod learned;
pub mod lock;
mod sqlite;

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Something operators should know about the state directory, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice(pub String);

impl fmt::Display for Notice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Why the state directory cannot be used at all. (A file in it that cannot be used is a [`Notice`].)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process works in it.
    #[error("state directory {} is in use by {holder}; give each process its own state_dir", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Who holds it, e.g. "process 4711".
        holder: String,
    },
    /// It cannot be made or written.
    #[error("state directory {}: {error}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The system gave no thread.
    #[error("no thread for the history: {0}")]
    Thread(io::Error),
}
