//! The learned state of Tier 2 on disk: one file, replaced as a whole.
//!
//! A new file is written beside the old one, forced to disk and renamed over it, and the directory is forced too:
//! whatever moment the machine stops at, the next start finds either the old state or the new one, never half of one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use foretide_predictor::cost::codec::{self, LearnedCosts};

use super::Notice;
use super::aside::set_aside;

/// Name of the file in the state directory.
pub const LEARNED_FILE: &str = "learned.bin";

/// A larger file is not ours: a full reservoir and key table are tens of megabytes.
const MAX_BYTES: u64 = 1 << 30;

/// What was learned before; `None` on the first start, or when the file could not be used. A damaged file is set aside
/// and its new name is in the notice; the start is never held up.
pub fn load(directory: &Path) -> (Option<LearnedCosts>, Vec<Notice>) {
    let path = directory.join(LEARNED_FILE);
    let bytes = match read_bounded(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, Vec::new()),
        Err(error) => {
            let text =
                format!("learned costs in {} cannot be read ({error}); starting clean", path.display());
            return (None, vec![Notice(text)]);
        }
    };
    match codec::decode(&bytes) {
        Ok(learned) => (Some(learned), Vec::new()),
        Err(error) => (None, vec![aside_notice(&path, &error)]),
    }
}

/// Replaces the file. Blocks until it is on disk: call it off the tick. On an error the old file is still whole.
pub fn save(directory: &Path, learned: &LearnedCosts) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    write_whole(directory, LEARNED_FILE, &codec::encode(learned))
}

/// Writes `bytes` as `directory/name` so that a reader, also one after a crash, sees all of it or none of it.
fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = directory.join(format!("{name}.new"));
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&beside, directory.join(name))) {
        // A half-written file (the disk is full, say) only takes up the space that is missing.
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{length} bytes")));
    }
    fs::read(path)
}

fn aside_notice(path: &Path, error: &codec::CodecError) -> Notice {
    Notice(match set_aside(path) {
        Ok(name) => {
            format!("learned costs cannot be used ({error}): set aside as {}; starting clean", name.display())
        }
        Err(failed) => format!(
            "learned costs in {} cannot be used ({error}) nor be set aside ({failed}); starting clean",
            path.display()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_old_file_whole_and_no_rubbish() {
        let directory = tempfile::tempdir().unwrap();
        write_whole(directory.path(), "state", b"old").unwrap();
        // A directory in the way of the temporary file makes the write fail, also for root.
        fs::create_dir(directory.path().join("state.new")).unwrap();
        write_whole(directory.path(), "state", b"new").unwrap_err();
        assert_eq!(fs::read(directory.path().join("state")).unwrap(), b"old");
        fs::remove_dir(directory.path().join("state.new")).unwrap();
        write_whole(directory.path(), "state", b"new").unwrap();
        assert_eq!(fs::read(directory.path().join("state")).unwrap(), b"new");
        assert!(!directory.path().join("state.new").exists());
    }
}
