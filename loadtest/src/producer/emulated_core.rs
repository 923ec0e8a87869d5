//! One emulated core: jobs take turns, and the machine's own core is used only to the share asked for.
//!
//! A container with a CPU limit serves its requests side by side, each with an equal part of the quota. Here one
//! thread does the same in small: it takes the job at the head of the run queue, lets it do one *step* (about half a
//! millisecond of CPU), pays the quota by waiting `used · (1/speed − 1)`, and puts the job back at the end if there
//! is more to do. So a light request passes a heavy one after one step, and CPU use stays at or below `speed`.
//!
//! One thread and a queue rather than a lock that workers fight for: the order is exact and can be tested without a
//! clock, and data that is not `Sync` (an SQLite connection) simply lives on that thread.
//!
//! Known weakness: when the machine itself is overloaded the thread gets less than its share, as in a real cluster.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

/// Jobs that may wait for a turn. Far above what a useful instance holds; beyond it a caller is told at once.
const WAITING_JOBS: usize = 1_024;

/// A timer that fires late has paid too much; at most this is credited to the next payment. More would let a core
/// that was held up (a stopped process) run unthrottled for a while.
const LARGEST_CREDIT_US: f64 = 2_000.0;

/// Share of time that the core was busy is reckoned anew so often: a few requests of the usual size.
const MEASURED_OVER: Duration = Duration::from_millis(500);

/// Work that is done in steps on data of type `D`.
pub(super) struct Job<D> {
    step: Box<dyn FnMut(&mut D) -> Progress + Send>,
    used: Duration,
    reply: oneshot::Sender<Finished>,
}

/// What a job came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    /// Body of the answer.
    pub(super) body: Vec<u8>,
    /// CPU time it took.
    pub(super) used: Duration,
    /// Thousandths of the time lately that the core was busy.
    pub(super) busy_permille: u64,
}

/// What a step of a job came to.
#[derive(Debug)]
pub(super) enum Progress {
    /// There is more to do.
    More,
    /// Finished, with the body of the answer.
    Done(Vec<u8>),
    /// Cannot be done: the caller gets no body.
    Failed,
}

/// Jobs taking turns, oldest first: round robin.
pub(super) struct RunQueue<D> {
    jobs: VecDeque<Job<D>>,
}

impl<D> RunQueue<D> {
    fn new() -> Self {
        Self { jobs: VecDeque::new() }
    }

    fn push(&mut self, job: Job<D>) {
        self.jobs.push_back(job);
    }

    /// One step of the job whose turn it is; jobs nobody waits for any more are dropped. Its CPU time; `None`: nothing to do.
    fn turn(&mut self, data: &mut D, busy_permille: u64) -> Option<Duration> {
        while let Some(mut job) = self.jobs.pop_front() {
            if job.reply.is_closed() {
                continue;
            }
            let before = thread_cpu_time();
            let progress = (job.step)(data);
            let used = thread_cpu_time().saturating_sub(before);
            job.used += used;
            match progress {
                Progress::More => self.jobs.push_back(job),
                // The caller may have gone in this very step; then nobody misses the answer.
                Progress::Failed => {}
                Progress::Done(body) => {
                    drop(job.reply.send(Finished { body, used: job.used, busy_permille }));
                }
            }
            return Some(used);
        }
        None
    }
}

/// What the core owes for CPU time it has used.
#[derive(Debug)]
pub(super) struct Quota {
    wait_per_used: f64,
    owed_us: f64,
}

impl Quota {
    /// `speed`: share of a core, kept within 0.01 to 1.
    pub(super) fn new(speed: f64) -> Self {
        let speed = if speed.is_finite() { speed.clamp(0.01, 1.0) } else { 1.0 };
        Self { wait_per_used: 1.0 / speed - 1.0, owed_us: 0.0 }
    }

    /// How long to wait now for CPU time used; zero while a credit lasts.
    fn charge(&mut self, used: Duration) -> Duration {
        self.owed_us += used.as_secs_f64() * 1e6 * self.wait_per_used;
        Duration::from_secs_f64(self.owed_us.max(0.0) / 1e6)
    }

    /// So long the core has really waited.
    fn waited(&mut self, waited: Duration) {
        self.owed_us = (self.owed_us - waited.as_secs_f64() * 1e6).max(-LARGEST_CREDIT_US);
    }
}

/// How busy the core is: time spent working or paying, over time.
#[derive(Debug)]
struct Meter {
    since: Instant,
    idle: Duration,
    busy_permille: u64,
}

impl Meter {
    fn new(now: Instant) -> Self {
        Self { since: now, idle: Duration::ZERO, busy_permille: 0 }
    }

    /// The core has been idle from then until now.
    fn idled(&mut self, from: Instant, now: Instant) {
        self.idle += now.saturating_duration_since(from);
        self.look(now);
    }

    fn look(&mut self, now: Instant) {
        let span = now.saturating_duration_since(self.since);
        if span >= MEASURED_OVER {
            let busy = span.saturating_sub(self.idle).as_secs_f64() / span.as_secs_f64();
            *self = Self { since: now, idle: Duration::ZERO, busy_permille: (busy * 1e3) as u64 };
        }
    }
}

/// Hands jobs to the core; when the last handle goes, the core's thread finishes what it holds and ends.
pub(super) struct CoreHandle<D> {
    jobs: SyncSender<Job<D>>,
}

impl<D> Clone for CoreHandle<D> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone() }
    }
}

impl<D: 'static> CoreHandle<D> {
    /// Starts the core's thread. `prepare` makes the data there, in the time of the core, before the first job.
    pub(super) fn start(
        quota: Quota,
        prepare: impl FnOnce(&mut Throttle<'_, D>) -> D + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, arrivals) = sync_channel(WAITING_JOBS);
        let run = move || {
            let mut quota = quota;
            let mut queue = RunQueue::new();
            let mut throttle = Throttle { quota: &mut quota, queue: &mut queue, arrivals: &arrivals };
            let mut data = prepare(&mut throttle);
            throttle.run(&mut data);
        };
        thread::Builder::new().name("emulated-core".into()).spawn(run)?;
        Ok(Self { jobs })
    }

    /// What the job ends with; `None`: it failed, too many are waiting, or the core has ended.
    pub(super) async fn run(
        &self,
        step: impl FnMut(&mut D) -> Progress + Send + 'static,
    ) -> Option<Finished> {
        let (reply, answer) = oneshot::channel();
        match self.jobs.try_send(Job { step: Box::new(step), used: Duration::ZERO, reply }) {
            Ok(()) => answer.await.ok(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }
}

/// The core's thread from inside: takes turns and pays.
pub(super) struct Throttle<'a, D> {
    quota: &'a mut Quota,
    queue: &'a mut RunQueue<D>,
    arrivals: &'a Receiver<Job<D>>,
}

impl<D> Throttle<'_, D> {
    /// Does a piece of work outside any job and pays for it.
    pub(super) fn work<T>(&mut self, piece: impl FnOnce() -> T) -> T {
        let before = thread_cpu_time();
        let result = piece();
        self.pay(thread_cpu_time().saturating_sub(before));
        result
    }

    /// Waits, taking in the jobs that arrive.
    pub(super) fn wait(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            match self.arrivals.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(job) => self.queue.push(job),
                Err(RecvTimeoutError::Timeout) => return,
                // Nobody can send any more: what is left is finished at the core's pace, without the wait.
                Err(RecvTimeoutError::Disconnected) => {
                    return thread::park_timeout(until - Instant::now().min(until));
                }
            }
        }
    }

    fn run(&mut self, data: &mut D) {
        let mut meter = Meter::new(Instant::now());
        loop {
            self.queue.jobs.extend(self.arrivals.try_iter());
            if let Some(used) = self.queue.turn(data, meter.busy_permille) {
                self.pay(used);
                meter.look(Instant::now());
                continue;
            }
            let idle_since = Instant::now();
            match self.arrivals.recv() {
                Ok(job) => self.queue.push(job),
                Err(_) => return,
            }
            meter.idled(idle_since, Instant::now());
        }
    }

    fn pay(&mut self, used: Duration) {
        let wait = self.quota.charge(used);
        if wait.is_zero() {
            return;
        }
        let started = Instant::now();
        self.wait(wait);
        self.quota.waited(started.elapsed());
    }
}

/// CPU time of this thread: what a container's quota counts. A machine without that clock reports 0: no throttling.
/// CPU time of the calling thread so far.
pub(super) fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: char, steps: usize) -> (Job<Vec<char>>, oneshot::Receiver<Finished>) {
        let (reply, answer) = oneshot::channel();
        let mut left = steps;
        let step = move |log: &mut Vec<char>| {
            log.push(name);
            left -= 1;
            if left == 0 { Progress::Done(vec![name as u8]) } else { Progress::More }
        };
        (Job { step: Box::new(step), used: Duration::ZERO, reply }, answer)
    }

    #[test]
    fn a_light_job_passes_a_heavy_one_after_one_step() {
        let (mut queue, mut log) = (RunQueue::new(), Vec::new());
        let (heavy, _heavy_answer) = job('H', 6);
        queue.push(heavy);
        assert!(queue.turn(&mut log, 0).is_some());
        let (light, mut light_answer) = job('l', 1);
        let (middle, _middle_answer) = job('m', 3);
        queue.push(light);
        queue.push(middle);
        while queue.turn(&mut log, 0).is_some() {}
        assert_eq!(log.iter().collect::<String>(), "HHlmHmHmHH");
        assert_eq!(light_answer.try_recv().unwrap().body, [b'l']);
    }

    #[test]
    fn a_job_nobody_waits_for_takes_no_turn() {
        let (mut queue, mut log) = (RunQueue::new(), Vec::new());
        let (gone, answer) = job('g', 5);
        let (kept, _answer) = job('k', 1);
        drop(answer);
        queue.push(gone);
        queue.push(kept);
        while queue.turn(&mut log, 0).is_some() {}
        assert_eq!(log, ['k']);
    }

    #[test]
    fn quota_is_paid_in_full_and_late_timers_are_credited() {
        let mut quota = Quota::new(0.25);
        let chunk = Duration::from_micros(1_000);
        assert_eq!(quota.charge(chunk), Duration::from_micros(3_000));
        quota.waited(Duration::from_micros(3_500));
        assert_eq!(quota.charge(chunk), Duration::from_micros(2_500));
        quota.waited(Duration::from_secs(60));
        assert_eq!(quota.charge(chunk), Duration::from_micros(1_000), "the credit has a bound");
        assert_eq!(Quota::new(1.0).charge(chunk), Duration::ZERO);
        assert_eq!(Quota::new(f64::NAN).charge(chunk), Duration::ZERO);
    }

    #[test]
    fn a_core_is_as_busy_as_it_was_not_idle() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = Meter::new(start);
        meter.idled(at(100), at(400));
        assert_eq!(meter.busy_permille, 0, "too early to say");
        meter.look(at(600));
        assert_eq!(meter.busy_permille, 500);
        meter.idled(at(600), at(1_600));
        assert_eq!(meter.busy_permille, 0);
    }

    #[tokio::test]
    async fn a_core_answers_and_ends_with_its_last_handle() {
        let core = CoreHandle::start(Quota::new(1.0), |_| 20_u8).unwrap();
        let finished = core.run(|data| Progress::Done(vec![*data + 1])).await;
        assert_eq!(finished.unwrap().body, [21]);
    }
}
