//! `foretide demo`: the whole of it on one machine.
//!
//! Sample producers of unequal speed with cold starts, open-loop traffic with a daily shape and an announced
//! campaign, the real proxy in front. Nothing tells the proxy what a request costs. Afterwards the run's own arrivals
//! and measured costs are replayed in the simulator under two policies, so that the comparison is about the same
//! requests on the same machines. `live` against `predictive` tells how true the replay is.

pub mod plan;
pub mod record;
pub mod replay;
pub mod report;
pub mod watcher;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use foretide_conf::settings::Settings;
use foretide_control::report::StatusReport;
use foretide_loadtest::sim::outcome::Figures;
use foretide_loadtest::traffic::schedule;
use foretide_loadtest::traffic::send::{self, SendSettings};
use foretide_loadtest::traffic::tally::{TrafficProgress, TrafficSummary};
use foretide_routing::table::InstanceState;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::app::reload::ConfigFile;
use crate::app::{App, StartOptions};
use crate::demo::plan::DemoPlan;
use crate::demo::record::Recording;
use crate::demo::watcher::{Timeline, Watcher};

/// The first instance needs its cold start and a little more on a busy machine.
const FIRST_INSTANCE_WITHIN: Duration = Duration::from_secs(60);

/// What the demo came to.
pub struct DemoOutcome {
    /// What was asked for.
    pub plan: DemoPlan,
    /// What clients saw.
    pub live: Figures,
    /// The replay as it ran.
    pub predictive: Figures,
    /// The replay with least-request and a request-rate autoscaler.
    pub reactive: Figures,
    /// Target of the reactive autoscaler, requests a second per instance.
    pub reactive_target_rate_per_s: f64,
    /// What was to be seen on the way.
    pub timeline: Timeline,
}

/// Runs it; `say` gets a line at a time.
///
/// # Errors
/// A port is taken, no instance starts, or nothing was recorded.
pub fn run(
    plan: DemoPlan,
    metrics: PrometheusHandle,
    say: &mut dyn FnMut(&str),
) -> anyhow::Result<DemoOutcome> {
    let settings = plan.settings()?;
    let recording = Arc::new(Mutex::new(Recording::default()));
    let tapped = Arc::clone(&recording);
    let tap = move |observation: &_| tapped.lock().unwrap_or_else(PoisonError::into_inner).add(observation);
    let config = ConfigFile::Embedded(plan.config_text());
    let options = StartOptions { config, metrics, tap: Some(Box::new(tap)) };
    let app = App::start(settings.clone(), options)?;
    let result = drive(&plan, &settings, &app, say);
    app.stop();
    let (summary, timeline) = result?;
    let recording = std::mem::take(&mut *recording.lock().unwrap_or_else(PoisonError::into_inner));
    say("Replaying this run's own arrivals and measured costs in the simulator, twice …");
    let replayed = replay::both(&plan, &settings, &recording, &timeline)?;
    Ok(DemoOutcome {
        live: live_figures(&summary, &timeline),
        predictive: replayed.predictive,
        reactive: replayed.reactive,
        reactive_target_rate_per_s: replayed.reactive_target_rate_per_s,
        timeline,
        plan,
    })
}

fn drive(
    plan: &DemoPlan,
    settings: &Settings,
    app: &App,
    say: &mut dyn FnMut(&str),
) -> anyhow::Result<(TrafficSummary, Timeline)> {
    let proxy = app.addresses.first().copied().context("the proxy has no address")?;
    if let Some(admin) = app.admin {
        say(&format!("Proxy on http://{proxy}, dashboard on http://{admin}/  (seed {})", plan.seed));
    }
    say("Starting the first instance; it needs its cold start of two seconds …");
    let shape = plan.shape();
    let objective = settings.routing.pools.first().map_or(Duration::from_millis(250), |pool| pool.objective);
    let target = SendSettings { target: proxy, host: None, objective };
    app.block_on(async {
        let mut watcher = Watcher::new(app.report.clone(), plan);
        wait_for_instance(&mut watcher, app.report.clone()).await?;
        let now = app.report.borrow().at;
        app.announce(plan.events_from(now))?;
        watcher.traffic_started(now);
        say(&plan.introduction());
        let (progress, seen) = watch::channel(TrafficProgress::default());
        let traffic = tokio::spawn(send::send(schedule::arrivals(shape), target, progress));
        let summary = follow(&mut watcher, traffic, seen, say).await?;
        Ok((summary, watcher.finish()))
    })
}

async fn wait_for_instance(
    watcher: &mut Watcher,
    mut report: watch::Receiver<Arc<StatusReport>>,
) -> anyhow::Result<()> {
    let warm = |report: &Arc<StatusReport>| {
        report.pools.iter().flat_map(|pool| &pool.instances).any(|i| i.state == InstanceState::Warm)
    };
    let deadline = tokio::time::sleep(FIRST_INSTANCE_WITHIN);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            changed = report.changed() => changed.context("the control loop ended")?,
            () = &mut deadline => bail!("no instance got ready within a minute; see the log above"),
        }
        let latest = Arc::clone(&report.borrow_and_update());
        watcher.look(&latest);
        if warm(&latest) {
            return Ok(());
        }
    }
}

async fn follow(
    watcher: &mut Watcher,
    mut traffic: tokio::task::JoinHandle<TrafficSummary>,
    progress: watch::Receiver<TrafficProgress>,
    say: &mut dyn FnMut(&str),
) -> anyhow::Result<TrafficSummary> {
    let mut look = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            summary = &mut traffic => return Ok(summary?),
            _ = look.tick() => {
                let sent = *progress.borrow();
                for line in watcher.watch(&sent) {
                    say(&line);
                }
            }
        }
    }
}

fn live_figures(summary: &TrafficSummary, timeline: &Timeline) -> Figures {
    Figures {
        requests: summary.sent,
        errors: summary.errors + summary.status_classes[4],
        p50_ms: summary.p50_ms,
        p99_ms: summary.p99_ms,
        p999_ms: summary.p999_ms,
        over_objective_ratio: summary.over_objective_ratio,
        instance_seconds: timeline.instance_seconds(),
    }
}
