//! Asks instances what is in flight there, for pools that share their sight: small questions on connections that stay open.
//!
//! Nobody waits for an answer. What cannot be asked in time is dropped and counted: the next request asks again. There is a
//! bound on questions under way, on their time (the pool's `sight.timeout`), on what is read of an answer, and on
//! connections kept. An answer is two numbers in a header and is judged by [`foretide_steering::wire`]; one without them, with
//! another status than 2xx, or none at all is a failure, and changes nothing that is known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use foretide_predictor::time::Timestamp;
use foretide_routing::live::question::Question;
use foretide_steering::sight::Report;
use foretide_steering::wire;
use http::Response;
use hyper::body::Incoming;
use metrics::{Counter, Unit, counter, describe_counter, describe_histogram, histogram};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::ask::{Asker, Line, Speech};

/// Questions under way at once. Each instance has at most one, so these are as many silent instances as do no harm.
const QUESTIONS_AT_ONCE: usize = 512;
/// Idle connections kept, all instances together.
const LINES: usize = 2_048;

const PROBES: &str = "foretide_sight_probes_total";
const DURATION: &str = "foretide_sight_probe_duration_seconds";

/// Asks until nobody can send questions any more. `now`: the process's clock.
pub async fn run(
    mut questions: mpsc::Receiver<Question>,
    now: impl Fn() -> Timestamp + Clone + Send + 'static,
) {
    describe_counter!(
        PROBES,
        "Questions to instances about their load, by pool and result: answered, failed, dropped"
    );
    describe_histogram!(DURATION, Unit::Seconds, "Time of an answered question about load");
    let mut counters = BTreeMap::new();
    let lines = Lines::default();
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            question = questions.recv() => {
                let Some(question) = question else { return };
                let count = counts(&mut counters, &question);
                if asking.len() < QUESTIONS_AT_ONCE {
                    asking.spawn(ask(lines.clone(), question, now.clone(), count));
                } else {
                    count.dropped.increment(1);
                }
            }
            Some(_ended) = asking.join_next() => {}
        }
    }
}

/// Metrics of one pool.
#[derive(Clone)]
struct Counts {
    answered: Counter,
    failed: Counter,
    dropped: Counter,
}

/// As many sets as there are pools; those of removed pools are few.
fn counts(known: &mut BTreeMap<String, Counts>, question: &Question) -> Counts {
    let pool = &question.settings.name;
    if let Some(counts) = known.get(pool) {
        return counts.clone();
    }
    let result = |result: &'static str| counter!(PROBES, "pool" => pool.clone(), "result" => result);
    let counts =
        Counts { answered: result("answered"), failed: result("failed"), dropped: result("dropped") };
    known.insert(pool.clone(), counts.clone());
    counts
}

async fn ask(lines: Lines, question: Question, now: impl Fn() -> Timestamp, counts: Counts) {
    let Some(how) = question.how() else { return };
    let limit = how.timeout;
    let began = Instant::now();
    let (address, speech) = (Arc::clone(&question.address), Speech::of(&question.settings.upstream));
    let answer = timeout(limit, lines.exchange(&address, &speech, &how.path)).await.ok().flatten();
    let Some((mut line, head)) = answer else { return counts.failed.increment(1) };
    match said(&head) {
        Some(report) => {
            histogram!(DURATION).record(began.elapsed().as_secs_f64());
            counts.answered.increment(1);
            question.answered(&report, now());
        }
        None => counts.failed.increment(1),
    }
    if timeout(limit, line.drain(head)).await == Ok(true) {
        lines.keep(address, speech, line);
    }
}

fn said<B>(answer: &Response<B>) -> Option<Report> {
    let values = answer.headers().get_all(wire::HEADER).iter();
    let mut reports = values.filter_map(|value| wire::read(value.to_str().ok()?));
    reports.next_back().filter(|_| answer.status().is_success())
}

/// Connections that stay open between questions.
#[derive(Clone, Default)]
struct Lines {
    asker: Asker,
    idle: Arc<Mutex<Idle>>,
}

/// One an instance.
type Idle = BTreeMap<Arc<str>, (Speech, Line)>;

impl Lines {
    async fn exchange(
        &self,
        address: &Arc<str>,
        speech: &Speech,
        path: &str,
    ) -> Option<(Line, Response<Incoming>)> {
        let known = self.idle.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
        if let Some((_, mut line)) = known.filter(|(spoken, line)| spoken == speech && line.is_open())
            && let Some(head) = line.ask(path).await
        {
            return Some((line, head));
        }
        // None was open, or it has just been closed.
        let mut line = self.asker.open(address, speech).await?;
        let head = line.ask(path).await?;
        Some((line, head))
    }

    fn keep(&self, address: Arc<str>, speech: Speech, line: Line) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= LINES {
            // Instances that have gone leave closed ones behind.
            idle.retain(|_, (_, line)| line.is_open());
        }
        if idle.len() < LINES {
            idle.insert(address, (speech, line));
        }
    }
}
