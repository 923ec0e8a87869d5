//! What a reload can change at once and what needs a restart (contract; body to come).
use crate::settings::Settings;

/// Keys that differ but need a restart to take effect, e.g. `server.listeners`.
pub fn needs_restart(_old: &Settings, _new: &Settings) -> Vec<&'static str> {
    todo!()
}
