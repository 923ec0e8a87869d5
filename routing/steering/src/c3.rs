//! C3's replica ranking (Suresh, Canini, Schmid, Feldmann: "C3: Cutting tail latency in cloud data stores via adaptive
//! replica selection", NSDI 2015), without its rate control, to compare with.
//!
//! ```text
//! Ψ = R − 1/μ + q³ / μ,      q = 1 + outstanding · clients + queue
//! ```
//!
//! `R` is the client's average of response times, `1/μ` and `queue` its averages of the service time and the queue length
//! that answers bring along. The smallest `Ψ` wins.

/// Weight of the newest value in C3's averages, as published.
const NEWEST: f64 = 0.9;

/// What a client knows of one instance.
#[derive(Clone, Copy, Debug)]
pub struct Replica {
    response_us: f64,
    service_us: f64,
    queue: f64,
    heard: bool,
}

/// Service time of an instance that has not answered yet, microseconds. With none, all clients would send everything to
/// whoever is slowest to answer for the first time.
const UNKNOWN_US: f64 = 1_000.0;

impl Default for Replica {
    fn default() -> Self {
        Self { response_us: UNKNOWN_US, service_us: UNKNOWN_US, queue: 0.0, heard: false }
    }
}

impl Replica {
    /// An answer: its latency at the client, its service time and the queue it left behind, as the instance says.
    pub fn observe(&mut self, response_us: f64, service_us: f64, queue: f64) {
        let weight = if self.heard { NEWEST } else { 1.0 };
        for (average, value) in [
            (&mut self.response_us, response_us),
            (&mut self.service_us, service_us),
            (&mut self.queue, queue),
        ] {
            *average += weight * (value - *average);
        }
        self.heard = true;
    }

    /// `Ψ` with so many of one's own requests outstanding there, and so many clients like oneself.
    pub fn rank(&self, outstanding: f64, clients: f64) -> f64 {
        let queue = 1.0 + outstanding * clients + self.queue;
        self.response_us - self.service_us + queue.powi(3) * self.service_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_queues_weigh_by_their_cube() {
        let mut replica = Replica::default();
        assert_eq!(replica.rank(2.0, 1.0), 27.0 * UNKNOWN_US, "never heard of: like a quick one");
        replica.observe(10.0, 4.0, 1.0);
        assert_eq!(replica.rank(1.0, 1.0), 10.0 - 4.0 + 27.0 * 4.0);
        replica.observe(20.0, 4.0, 1.0);
        assert!((replica.rank(0.0, 1.0) - (19.0 - 4.0 + 8.0 * 4.0)).abs() < 1e-9);
    }
}
