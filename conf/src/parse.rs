//! From text to settings (contract; body to come).
use crate::finding::Finding;
use crate::settings::Settings;

/// Settings with warnings, or every error (and warning) at once, in order of place.
pub fn parse(_file: &str, _text: &str) -> Result<(Settings, Vec<Finding>), Vec<Finding>> {
    todo!()
}
