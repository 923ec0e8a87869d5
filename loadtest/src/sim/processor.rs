//! A producer instance as a processor-sharing server.
//!
//! `n` requests in service share `k` cores of speed `s`: each progresses at `s · min(1, k/n)`. That is how a process
//! under a CPU quota behaves, and what the sample producer really does. Mean response time depends on the mean of the
//! work only, not on its distribution (insensitivity; Kleinrock, *Queueing Systems* II, 1976), which the tests use.

use foretide_predictor::time::Timestamp;

/// Work left below this is done: 1 ns, far below the resolution of time.
const DONE_US: f64 = 1e-3;

/// One instance.
#[derive(Clone, Debug)]
pub struct Processor {
    speed: f64,
    cores: f64,
    jobs: Vec<Job>,
    advanced_to: Timestamp,
    /// Counts changes, so that a completion planned before a change is recognised as outdated.
    pub version: u64,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    id: usize,
    left_us: f64,
}

impl Processor {
    /// Idle, with `cores` of `speed` (1: work takes its nominal time).
    pub fn new(speed: f64, cores: u32, now: Timestamp) -> Self {
        Self { speed, cores: f64::from(cores), jobs: Vec::new(), advanced_to: now, version: 0 }
    }

    /// Changes speed from now on.
    pub fn set_speed(&mut self, speed: f64, now: Timestamp) {
        self.advance(now);
        self.speed = speed;
        self.version += 1;
    }

    /// Takes a job of `work_us` at speed 1.
    pub fn add(&mut self, id: usize, work_us: f64, now: Timestamp) {
        self.advance(now);
        self.jobs.push(Job { id, left_us: work_us.max(DONE_US) });
        self.version += 1;
    }

    /// Jobs that are done by `now`, in the order they came.
    pub fn finished(&mut self, now: Timestamp) -> Vec<usize> {
        self.advance(now);
        let done = self.jobs.iter().filter(|job| job.left_us <= DONE_US).map(|job| job.id).collect();
        self.jobs.retain(|job| job.left_us > DONE_US);
        self.version += 1;
        done
    }

    /// When the next job will be done if nothing changes; rounded up to the microsecond.
    pub fn next_completion(&self) -> Option<Timestamp> {
        let least = self.jobs.iter().map(|job| job.left_us).min_by(f64::total_cmp)?;
        let span_us = (least / self.rate()).ceil().max(1.0);
        Some(Timestamp::from_us(self.advanced_to.as_us().saturating_add(span_us as u64)))
    }

    /// Gives up all jobs: the instance crashed.
    pub fn drop_all(&mut self) -> Vec<usize> {
        self.version += 1;
        self.jobs.drain(..).map(|job| job.id).collect()
    }

    /// Requests in service.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether it has nothing to do.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    fn rate(&self) -> f64 {
        self.speed * (self.cores / self.jobs.len().max(1) as f64).min(1.0)
    }

    fn advance(&mut self, now: Timestamp) {
        let progress = now.since(self.advanced_to).as_micros() as f64 * self.rate();
        for job in &mut self.jobs {
            job.left_us -= progress;
        }
        self.advanced_to = self.advanced_to.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Timestamp {
        Timestamp::from_us(us)
    }

    #[test]
    fn two_jobs_share_one_core() {
        let mut processor = Processor::new(1.0, 1, at(0));
        processor.add(1, 100.0, at(0));
        processor.add(2, 300.0, at(0));
        assert_eq!(processor.next_completion(), Some(at(200)));
        assert_eq!(processor.finished(at(200)), vec![1]);
        assert_eq!(processor.next_completion(), Some(at(400)));
    }

    #[test]
    fn a_slow_core_takes_longer_and_two_cores_do_not_share() {
        let mut slow = Processor::new(0.5, 1, at(0));
        slow.add(1, 100.0, at(0));
        assert_eq!(slow.next_completion(), Some(at(200)));
        let mut two = Processor::new(1.0, 2, at(0));
        two.add(1, 100.0, at(0));
        two.add(2, 100.0, at(0));
        assert_eq!(two.next_completion(), Some(at(100)));
    }
}
