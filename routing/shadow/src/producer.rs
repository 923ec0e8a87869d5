//! One instance: processor sharing or FIFO workers, in virtual time.
//!
//! All requests in service progress at the same rate, so one clock of attained work serves them all: a request that
//! begins at reading `v` with work `s` ends at reading `v + s`, whatever the rate does in between. The next end is the
//! top of a heap, and every event costs O(log n).
//!
//! Processor sharing: everybody is in service, at the rate `speed · min(1, slots / n)`. Workers: as many as there are slots
//! are, at the rate `speed`; the others wait in order of arrival.

use crate::agenda::Agenda;
use foretide_steering::score::Form;
use std::collections::VecDeque;

/// Readings closer than this are the same, microseconds: far below anything measured, far above rounding.
const SAME_US: f64 = 1e-6;

/// One instance; times in microseconds.
#[derive(Clone, Debug)]
pub struct Producer {
    form: Form,
    slots: usize,
    speed: f64,
    /// Attained work of whoever is in service all the time.
    attained_us: f64,
    /// The same at speed 1: service time as a proxy beside it measures it.
    served_us: f64,
    at_us: f64,
    /// By the reading at which each ends.
    running: Agenda<Served>,
    waiting: VecDeque<(usize, f64)>,
}

/// A request in service.
#[derive(Clone, Copy, Debug)]
struct Served {
    job: usize,
    served_at_start: f64,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// Its number.
    pub job: usize,
    /// Service it got, waiting taken off, microseconds.
    pub service_us: f64,
}

impl Producer {
    /// Idle.
    pub fn new(form: Form, slots: usize, speed: f64, now_us: f64) -> Self {
        Self {
            form,
            slots: slots.max(1),
            speed,
            attained_us: 0.0,
            served_us: 0.0,
            at_us: now_us,
            running: Agenda::default(),
            waiting: VecDeque::new(),
        }
    }

    /// Requests in service and waiting.
    pub fn requests(&self) -> usize {
        self.running.len() + self.waiting.len()
    }

    /// Changes its speed from now on.
    pub fn set_speed(&mut self, speed: f64, now_us: f64) {
        self.advance(now_us);
        self.speed = speed;
    }

    /// A request of so much work comes in.
    pub fn add(&mut self, job: usize, work_us: f64, now_us: f64) {
        self.advance(now_us);
        if self.form == Form::WorkerPool && self.running.len() >= self.slots {
            self.waiting.push_back((job, work_us));
        } else {
            self.begin(job, work_us);
        }
    }

    /// When the next request ends, if nothing changes; infinite when idle.
    pub fn due_us(&self) -> f64 {
        self.at_us + ((self.running.next_at() - self.attained_us) / (self.speed * self.share())).max(0.0)
    }

    /// The next request that has ended by now.
    pub fn end(&mut self, now_us: f64) -> Option<Ended> {
        self.advance(now_us);
        if self.running.next_at() > self.attained_us + SAME_US {
            return None;
        }
        let next = self.running.pop()?;
        if let Some((job, work_us)) = self.waiting.pop_front() {
            self.begin(job, work_us);
        }
        Some(Ended { job: next.job, service_us: self.served_us - next.served_at_start })
    }

    fn begin(&mut self, job: usize, work_us: f64) {
        let served = Served { job, served_at_start: self.served_us };
        self.running.push(self.attained_us + work_us, served);
    }

    /// Part of a slot that each request in service has.
    fn share(&self) -> f64 {
        match self.form {
            Form::ProcessorSharing => (self.slots as f64 / self.running.len().max(1) as f64).min(1.0),
            Form::WorkerPool => 1.0,
        }
    }

    fn advance(&mut self, now_us: f64) {
        let served = (now_us - self.at_us) * self.share();
        self.served_us += served;
        self.attained_us += served * self.speed;
        self.at_us = now_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(job: usize, service_us: f64) -> Option<Ended> {
        Some(Ended { job, service_us })
    }

    #[test]
    fn sharing_slows_both_and_the_clock_knows() {
        let mut producer = Producer::new(Form::ProcessorSharing, 1, 2.0, 0.0);
        producer.add(1, 20.0, 0.0);
        producer.add(2, 40.0, 0.0);
        assert_eq!(producer.due_us(), 20.0);
        assert_eq!(producer.end(19.0), None);
        assert_eq!(producer.end(20.0), ended(1, 10.0));
        producer.set_speed(1.0, 25.0);
        // 10 left after 20, 5 at speed 2 took all of it but 10.
        assert_eq!(producer.due_us(), 35.0);
        assert_eq!(producer.end(35.0), ended(2, 25.0));
        assert_eq!(producer.due_us(), f64::INFINITY);
    }

    #[test]
    fn workers_take_the_next_in_line() {
        let mut producer = Producer::new(Form::WorkerPool, 2, 1.0, 0.0);
        (0..4).for_each(|job| producer.add(job, 10.0 * (job + 1) as f64, 0.0));
        assert_eq!((producer.requests(), producer.due_us()), (4, 10.0));
        assert_eq!(producer.end(10.0), ended(0, 10.0));
        assert_eq!(producer.end(20.0), ended(1, 20.0));
        assert_eq!(producer.end(39.0), None);
        assert_eq!(producer.end(40.0), ended(2, 30.0));
        assert_eq!(producer.end(60.0), ended(3, 40.0));
    }
}
