//! What the demo plays: lengths, rates, speeds, and the configuration made of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use foretide_conf::settings::Settings;
use foretide_conf::{finding, parse, shipped};
use foretide_forecast::calendar::ScheduledEvent;
use foretide_loadtest::producer::pace::Machine;
use foretide_loadtest::traffic::schedule::{Campaign, Shape, default_mix};
use foretide_predictor::time::Timestamp;

/// The campaign multiplies the usual rate by this.
const CAMPAIGN_RATIO: f64 = 2.5;
/// Swing of the day.
const AMPLITUDE: f64 = 0.5;
/// Tenants; their data differ in size, so they differ in cost.
const TENANTS: u32 = 20;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct DemoPlan {
    /// Length of the traffic.
    pub duration: Duration,
    /// Length of a day.
    pub day: Duration,
    /// Mean requests a second.
    pub rate_per_s: f64,
    /// What instances get of this machine.
    pub machine: Machine,
    /// Seed of traffic and choices.
    pub seed: u64,
    /// Where the proxy listens.
    pub listen: SocketAddr,
    /// Where the dashboard is.
    pub admin: SocketAddr,
    /// Where state is kept for the length of the run.
    pub state_dir: PathBuf,
    /// This program, which is also the sample producer.
    pub program: PathBuf,
}

impl DemoPlan {
    /// A day is a minute, or less if two days and the campaign would not fit into the run otherwise.
    pub fn day_of(duration: Duration) -> Duration {
        Duration::from_secs(60).min(duration.mul_f64(0.4))
    }

    /// The crowd that is announced. It comes at the end of a night, when the fleet is smallest, so that one sees who
    /// knew of it; late enough for two days to have been seen.
    pub fn campaign(&self) -> Campaign {
        let days = (self.duration.as_secs_f64() * 0.8 / self.day.as_secs_f64()).floor();
        Campaign { start: self.day.mul_f64(days), duration: self.duration / 6, ratio: CAMPAIGN_RATIO }
    }

    /// The traffic.
    pub fn shape(&self) -> Shape {
        Shape {
            seed: self.seed,
            duration: self.duration,
            rate_per_s: self.rate_per_s,
            day: self.day,
            amplitude: AMPLITUDE,
            campaign: Some(self.campaign()),
            tenants: TENANTS,
            mix: default_mix(),
        }
    }

    /// What operators announce, once it is known when traffic starts.
    pub fn events_from(&self, traffic_start: Timestamp) -> Vec<ScheduledEvent> {
        let campaign = self.campaign();
        let start = traffic_start.plus(campaign.start);
        let end = start.plus(campaign.duration);
        vec![ScheduledEvent { name: "campaign".into(), start, end, ratio: campaign.ratio }]
    }

    /// The shipped demo configuration with this plan's numbers in it.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        let (mut settings, _) = parse::parse("demo.toml", shipped::DEMO)
            .map_err(|findings| anyhow!("{}", finding::render(&findings, shipped::DEMO)))?;
        settings.server.state_dir.clone_from(&self.state_dir);
        settings.admin.address = Some(self.admin);
        let listener = settings.server.listeners.first_mut().context("demo.toml names no listener")?;
        listener.address = self.listen;
        settings.routing.seed = self.seed;
        let step = settings.routing.learning.step;
        settings.routing.learning.seasons = vec![(self.day.as_micros() / step.as_micros().max(1)) as usize];
        let speeds = self.machine.speeds.map(|speed| speed.to_string()).join(",");
        let program = self.program.display().to_string();
        for pool in &mut settings.routing.pools {
            for word in pool.manager.iter_mut().flat_map(|manager| &mut manager.command) {
                *word = word.replace("{foretide}", &program).replace("{speed}", &speeds);
            }
        }
        Ok(settings)
    }

    /// What `/api/v1/config` shows.
    pub fn config_text(&self) -> String {
        shipped::DEMO.to_owned()
    }

    /// Speed of the instance behind an address.
    pub fn speed_of(&self, address: &str) -> f64 {
        let port = address.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(0);
        self.machine.speed_of(port)
    }

    /// A sentence on what is to be seen.
    pub fn introduction(&self) -> String {
        let campaign = self.campaign();
        format!(
            "Instances get {:.2} to {:.2} of a core here, so that their work takes as long as on any machine.\n\
             Traffic: {:.0} s, about {:.0} requests/s, a day of {:.0} s. Announced: a campaign at {:.0} s for {:.0} s, \
             ×{}. Costs are unknown to the proxy; watch it learn them.",
            self.machine.speeds.iter().copied().fold(f64::INFINITY, f64::min),
            self.machine.speeds.iter().copied().fold(0.0, f64::max),
            self.duration.as_secs_f64(),
            self.rate_per_s,
            self.day.as_secs_f64(),
            campaign.start.as_secs_f64(),
            campaign.duration.as_secs_f64(),
            campaign.ratio
        )
    }
}
