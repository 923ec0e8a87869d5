//! The one system clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use foretide_predictor::time::Timestamp;

/// Unix time that never goes back: read once at the start, then carried on by the monotonic clock. Reading it goes
/// through the vDSO and is no system call.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    unix_us_at_start: u64,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), unix_us_at_start: unix.as_micros() as u64 }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.read().stamp
    }

    /// Now, in both forms.
    pub fn read(&self) -> Moment {
        let instant = Instant::now();
        let since_start = instant.duration_since(self.started).as_micros() as u64;
        Moment { instant, stamp: Timestamp::from_us(self.unix_us_at_start + since_start) }
    }
}

/// One reading of the clock, for timers and for the record. A reading costs tens of nanoseconds, so that code in a hurry
/// takes one and hands it on.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For timers.
    pub instant: Instant,
    /// For the record.
    pub stamp: Timestamp,
}
