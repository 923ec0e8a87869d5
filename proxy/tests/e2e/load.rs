//! Open-loop load in the background.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foretide_loadtest::traffic::schedule::PlannedRequest;
use foretide_loadtest::traffic::send::{SendSettings, send};
use foretide_loadtest::traffic::tally::{TrafficProgress, TrafficSummary};
use http::Method;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{runtime, within};

/// However a test goes wrong, its load ends.
const LONGEST: Duration = Duration::from_secs(90);

/// Load under way.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    progress: watch::Receiver<TrafficProgress>,
    task: Option<JoinHandle<TrafficSummary>>,
    pub(crate) began: Instant,
}

/// Costs that differ within one path: where a running mean is as good, no model goes to service. Small enough that two
/// slow producers keep up with fifty a second on a machine that other tests keep busy: heavy ones would starve.
pub(crate) fn paths_worth_a_model() -> Vec<String> {
    (0..40).map(|step| format!("/hash?n={}", 100 + 250 * step)).collect()
}

impl Load {
    /// Sends these paths in turn, so many a second, as tenants `t0` to `t6`, until stopped.
    pub(crate) fn start(target: SocketAddr, rate_per_s: f64, paths: &[impl AsRef<str>]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let paths: Vec<String> = paths.iter().map(|path| path.as_ref().to_owned()).collect();
        let plan = (0_usize..)
            .map(move |number| PlannedRequest {
                at: Duration::from_secs_f64(number as f64 / rate_per_s),
                method: Method::GET,
                path_and_query: paths[number % paths.len()].clone(),
                tenant: format!("t{}", number % 7),
            })
            .take_while(move |request| request.at < LONGEST && !stopped.load(Ordering::Relaxed));
        let settings = SendSettings { target, host: None, objective: Duration::from_secs(1) };
        let (tell, progress) = watch::channel(TrafficProgress::default());
        let began = Instant::now();
        let task = Some(runtime().spawn(send(plan, settings, tell)));
        Self { stop, progress, task, began }
    }

    /// Waits until so many were answered or failed.
    pub(crate) fn until_finished(&self, count: u64) {
        within(LONGEST, &format!("{count} requests finished"), || {
            (self.progress.borrow().finished >= count).then_some(())
        });
    }

    /// Requests answered or failed so far.
    pub(crate) fn finished(&self) -> u64 {
        self.progress.borrow().finished
    }

    /// Sends no more and waits for the last answer.
    pub(crate) fn stop(mut self) -> TrafficSummary {
        self.stop.store(true, Ordering::Relaxed);
        let task = self.task.take().expect("stopped once");
        runtime().block_on(task).expect("the load did not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Every request got a 200; says which did not.
pub(crate) fn assert_all_served(summary: &TrafficSummary) {
    let failed: Vec<_> = summary.requests.iter().filter(|request| request.status != 200).take(5).collect();
    assert!(summary.sent > 0, "nothing was sent");
    assert_eq!(summary.status_classes, [0, summary.sent, 0, 0, 0], "{} errors; {failed:?}", summary.errors);
    assert!(failed.is_empty(), "{failed:?}");
}
