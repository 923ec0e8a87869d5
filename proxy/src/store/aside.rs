//! Setting a damaged file aside: renamed, so that it can be looked at, and out of the way of a clean one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Renames `path` to `<path>.broken-<unix seconds>` (with `-2`, `-3`, … if that is taken) and says its new name.
///
/// The wall clock is read here because the name is for people looking at a directory, not for any decision.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let base = with_suffix(path, &format!(".broken-{seconds}"));
    let mut target = base.clone();
    let mut copy = 2;
    while target.symlink_metadata().is_ok() {
        target = with_suffix(&base, &format!("-{copy}"));
        copy += 1;
    }
    fs::rename(path, &target)?;
    Ok(target)
}

/// `path` with `suffix` after its whole name (unlike `with_extension`, which replaces).
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_broken_files_in_one_second_both_survive() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::write(&path, "first").unwrap();
        let first = set_aside(&path).unwrap();
        fs::write(&path, "second").unwrap();
        let second = set_aside(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(first).unwrap(), "first");
        assert_eq!(fs::read_to_string(second).unwrap(), "second");
    }
}
