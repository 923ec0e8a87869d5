//! Programs that are no part of this workspace: CI puts them there, elsewhere they may be missing.

use std::path::PathBuf;

/// The program named by an environment variable; `None` (said) when it is missing, which CI must not let happen.
pub(crate) fn find(variable: &str, what: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if let Some(path) = &path {
        assert!(path.exists(), "{variable}={} does not exist", path.display());
        return Some(path.clone());
    }
    assert!(std::env::var_os("CI").is_none(), "{variable} is not set; in CI it must name {what}");
    eprintln!("SKIPPED: {variable} is not set; let it name {what} to run this test");
    None
}
