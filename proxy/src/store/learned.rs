//! The learned state of Tier 2 on disk: one file, replaced as a whole.
//!
//! A new file is written beside the old one, forced to disk and renamed over it, and the directory is forced too:
//! whatever moment the machine stops at, the next start finds either the old state or the new one, never half of one.

use std::fs;
use std::io;
use std::path::Path;

use foretide_predictor::cost::codec::{self, LearnedCosts};
use foretide_workbench::versions;

use super::Notice;
use super::aside::set_aside;

/// Name of the file in the state directory.
pub const LEARNED_FILE: &str = versions::LEARNED_FILE;

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
    versions::write_whole(directory, LEARNED_FILE, &codec::encode(learned))
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > versions::MAX_BYTES {
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
