//! All policies of one pool, side by side.
//!
//! Each has a [`crate::fleet`] of its own: the instances, measured speeds, slots and form of the real pool. All get the same
//! requests with the work that was measured, in the order in which they came (`intake`). The predictive policy is
//! one of them, so that like is compared with like: a shadow against a shadow. Next to them stands what was really
//! measured on the same requests; how far the shadow of the policy in service lies from that is the error of all this.
//!
//! Known weaknesses: measured speed is taken for the truth, so that no policy is surprised by an instance that has just
//! become slow; requests that failed are left out, as their work is not known; clients that would have asked less where
//! answers take longer still ask; other proxies' requests are not seen.

use crate::chooser::Policy;
use crate::fleet::{Fleet, Request, Setup};
use crate::intake::{Intake, Step};
use crate::tally::{Figures, Tally};
use serde::Serialize;

/// Instances beyond which it costs too much.
const MOST_INSTANCES: usize = 256;
/// What a second may cost: requests times instances, each with these on top. With six instances a request takes 12,200
/// instructions (callgrind, all five policies together), a tenth of what forwarding it takes; so that this stays near a
/// hundredth under load, 600 requests a second are looked at, some 7 million instructions.
const BUDGET_PER_S: f64 = 15_000.0;
const FIXED_INSTANCES: f64 = 20.0;
/// Nothing takes longer, or more work, than an hour: one absurd label must not own the means.
const LONGEST_US: f64 = 3.6e9;
/// Requests handed on in one call, so that no tick takes long.
const MOST_AT_ONCE: usize = 1_000;
/// The fleets' clock begins anew after so long: as a floating-point number it must tell nanoseconds apart.
const CLOCK_US: f64 = 1e11;
/// It begins so long ago: whoever is held may have come that early.
const BEFORE_US: u64 = 120_000_000;

/// A finished request; times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Finished {
    /// When it came.
    pub at_us: u64,
    /// How long it took.
    pub latency_us: f64,
    /// Measured work at speed 1.
    pub work_us: f64,
    /// What steered it.
    pub steered_us: f64,
}

/// Prediction against the best other policy; below 1 prediction is better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Worth {
    /// By mean latency.
    pub mean: f64,
    /// By its 0.99 quantile.
    pub p99: f64,
    /// By mean of latency over work.
    pub mean_slowdown: f64,
}

/// One policy's shadow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PolicyReport {
    /// Which.
    pub policy: Policy,
    /// What its fleet came to.
    pub figures: Figures,
}

/// What all came to, lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShadowReport {
    /// By policy; empty: too few requests yet.
    pub policies: Vec<PolicyReport>,
    /// What was really measured on the same requests.
    pub measured: Option<Figures>,
    /// What prediction is worth now.
    pub worth: Option<Worth>,
    /// Requests this rests on, older ones counting less.
    pub requests: f64,
    /// One slice of time in so many is looked at.
    pub stride: u32,
    /// Requests that finished too late to be put in order, since the start.
    pub late: u64,
    /// Times a policy fell behind too far and began anew, since the start.
    pub emptied: u64,
}

/// Shadows of one pool.
#[derive(Debug)]
pub struct Shadow {
    setup: Setup,
    fleets: Vec<Fleet>,
    intake: Intake,
    measured: Tally,
    /// Where the fleets' clock begins.
    epoch_us: u64,
}

impl Default for Shadow {
    fn default() -> Self {
        Self::new()
    }
}

impl Shadow {
    /// Without instances yet.
    pub fn new() -> Self {
        Self {
            setup: Setup::default(),
            fleets: Vec::new(),
            intake: Intake::default(),
            measured: Tally::default(),
            epoch_us: 0,
        }
    }

    /// The pool as it is now. Other instances, another form or other slots: all fleets begin anew.
    pub fn set(&mut self, setup: Setup) {
        let ids = |setup: &Setup| setup.members.iter().map(|member| member.id).collect::<Vec<_>>();
        let same = setup.form == self.setup.form
            && setup.slots == self.setup.slots
            && setup.late_binding == self.setup.late_binding
            && ids(&setup) == ids(&self.setup);
        self.setup = setup;
        if same {
            self.fleets.iter_mut().for_each(|fleet| fleet.set_speeds(&self.setup));
        } else {
            self.intake.restart();
        }
    }

    /// A request finished at `now_us`. What is no measurement is ignored.
    pub fn observe(&mut self, request: Finished, now_us: u64) {
        let usable = |value: f64| value.is_finite() && value > 0.0;
        let Finished { latency_us, work_us, steered_us, .. } = request;
        if self.is_possible() && usable(latency_us) && usable(work_us) && usable(steered_us) {
            let [latency_us, work_us, steered_us] =
                [latency_us, work_us, steered_us].map(|value| value.min(LONGEST_US));
            let request = Finished { latency_us, work_us, steered_us, ..request };
            let per_request = FIXED_INSTANCES + self.setup.members.len() as f64;
            self.intake.take(request, now_us, BUDGET_PER_S / per_request);
        }
    }

    /// Lets the fleets serve what is known by now; true: there is more to do.
    pub fn advance(&mut self, now_us: u64) -> bool {
        if !self.is_possible() {
            return false;
        }
        for _ in 0..MOST_AT_ONCE {
            match self.intake.next(now_us) {
                None => {
                    let known_us = self.since_epoch(self.intake.known_us(now_us));
                    self.fleets.iter_mut().for_each(|fleet| fleet.advance(known_us));
                    return false;
                }
                Some(Step::Begin) => self.begin(now_us),
                Some(Step::Arrive { request, counted }) => self.arrive(request, counted),
            }
        }
        true
    }

    /// What it came to.
    pub fn report(&self) -> ShadowReport {
        let policies: Option<Vec<PolicyReport>> = (Policy::ALL.into_iter().zip(&self.fleets))
            .map(|(policy, fleet)| Some(PolicyReport { policy, figures: fleet.tally.figures()? }))
            .collect();
        let policies = policies.unwrap_or_default();
        ShadowReport {
            worth: worth(&policies),
            policies,
            measured: self.measured.figures(),
            requests: self.measured.requests(),
            stride: self.intake.stride(),
            late: self.intake.late,
            emptied: self.fleets.iter().map(|fleet| fleet.emptied).sum(),
        }
    }

    /// Requests in flight in the fleets.
    pub fn in_flight(&self) -> usize {
        self.fleets.iter().map(Fleet::in_flight).sum()
    }

    fn is_possible(&self) -> bool {
        (2..=MOST_INSTANCES).contains(&self.setup.members.len())
    }

    /// Empty fleets; what was counted stays.
    fn begin(&mut self, now_us: u64) {
        self.epoch_us = now_us.saturating_sub(BEFORE_US);
        let mut before = std::mem::take(&mut self.fleets).into_iter();
        for policy in Policy::ALL {
            let (tally, emptied) =
                before.next().map_or_else(Default::default, |old| (old.tally, old.emptied));
            let mut fleet = Fleet::new(policy, &self.setup, 0.0, tally);
            fleet.emptied = emptied;
            self.fleets.push(fleet);
        }
    }

    fn arrive(&mut self, request: Finished, counted: bool) {
        let Finished { at_us, latency_us, work_us, steered_us } = request;
        let since_us = self.since_epoch(at_us);
        if since_us > CLOCK_US {
            self.intake.restart();
        }
        if counted {
            self.measured.observe(latency_us, work_us);
        }
        for fleet in &mut self.fleets {
            fleet.arrive(Request { at_us: since_us, work_us, steered_us, counted }, &self.setup);
        }
    }

    fn since_epoch(&self, at_us: u64) -> f64 {
        at_us.saturating_sub(self.epoch_us) as f64
    }
}

/// The predictive policy against the best of the others, metric by metric.
fn worth(policies: &[PolicyReport]) -> Option<Worth> {
    let (predictive, others) = policies.split_first()?;
    let ratio = |metric: fn(&Figures) -> f64| {
        let best = others.iter().map(|other| metric(&other.figures)).fold(f64::INFINITY, f64::min);
        metric(&predictive.figures) / best
    };
    Some(Worth {
        mean: ratio(|figures| figures.mean_s),
        p99: ratio(|figures| figures.p99_s),
        mean_slowdown: ratio(|figures| figures.mean_slowdown),
    })
}
