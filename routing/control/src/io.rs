//! What goes into the controller and what comes out: the whole border between decisions and the world.
use crate::hearsay::Heard;
use crate::report::StatusReport;
use foretide_forecast::calendar::ScheduledEvent;
use foretide_forecast::fit::{Forecast, ForecastSettings};
use foretide_forecast::series::Series;
use foretide_predictor::cost::codec::LearnedCosts;
use foretide_predictor::cost::model::CostModel;
use foretide_predictor::cost::reservoir::Sample;
use foretide_predictor::cost::trainer::TrainSettings;
use foretide_predictor::id::{InstanceId, PoolId};
use foretide_predictor::time::Timestamp;
use foretide_routing::observe::{Observation, Refusal, Utilisation};
use foretide_routing::settings::{ProcessManager, RoutingSettings};
use foretide_routing::table::RoutingTable;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A try finished. (Many of these: at most what the ring holds per tick.)
    Observed(Box<Observation>),
    /// A request was not let in. (As many.)
    Refused(Box<Refusal>),
    /// An active health check came back.
    Probed {
        /// Of whom.
        instance: InstanceId,
        /// Whether it passed.
        healthy: bool,
    },
    /// An instance said how much of itself is in use, beside any answer.
    Said {
        /// Who.
        instance: InstanceId,
        /// What it said.
        utilisation: Utilisation,
    },
    /// News from an instance manager.
    Fleet(FleetEvent),
    /// What the other proxies of the cluster say, all of them at once; whoever is not in it is gone.
    Heard(Box<Heard>),
    /// A forecast was fitted (or could not be).
    Forecast {
        /// For which series.
        of: SeriesKey,
        /// The result; the error is for people.
        result: Result<Forecast, String>,
    },
    /// A training run ended.
    Trained {
        /// The result; the error is for people.
        result: Result<Box<CostModel>, String>,
    },
    /// History read back at the start.
    History(Vec<LoadSample>),
    /// Learned costs read back at the start.
    Learned(Box<LearnedCosts>),
    /// New settings, already checked. Instances of pools and endpoints that stay keep their state.
    Settings(Box<RoutingSettings>),
    /// Puts this model to service at once or takes the serving one out: for operators and drills.
    SetModel(Option<Box<CostModel>>),
    /// Stop asking for instances; drain nothing. At shutdown.
    Freeze,
}

/// Whose load a series is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Pool.
    pub pool: PoolId,
    /// One instance, or `None` for the whole pool.
    pub instance: Option<InstanceId>,
}

/// Load of one closed step, as kept in the history store.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSample {
    /// Start of the step.
    pub at: Timestamp,
    /// Pool by name: ids do not outlive a configuration.
    pub pool: String,
    /// Instance address, or `None` for the whole pool.
    pub instance: Option<String>,
    /// Predicted work arriving, seconds of service per second.
    pub work_rate: f64,
    /// Requests a second.
    pub request_rate: f64,
    /// Mean number of requests in flight.
    pub in_flight: f64,
}

/// What an instance manager reports. It makes no choices.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetEvent {
    /// Runs, not ready yet.
    Started {
        /// Who.
        instance: InstanceId,
        /// `host:port`.
        address: String,
    },
    /// Ready and warmed.
    Ready {
        /// Who.
        instance: InstanceId,
        /// From the wish to readiness.
        took: Duration,
    },
    /// Could not be started.
    Failed {
        /// Who.
        instance: InstanceId,
        /// Why, for people.
        why: String,
    },
    /// Ended: as asked, or by itself.
    Exited {
        /// Who.
        instance: InstanceId,
        /// Whether we asked for it.
        asked: bool,
    },
}

/// Something to do. Whoever does it makes no choices and does not retry: the next tick sees reality.
#[derive(Debug)]
pub enum Effect {
    /// Put this table to service.
    Publish(Arc<RoutingTable>),
    /// Start an instance; answer with [`FleetEvent`]s. Idempotent by `instance`.
    Start {
        /// Who it will be.
        instance: InstanceId,
        /// In which pool.
        pool: PoolId,
        /// How.
        manager: Arc<ProcessManager>,
    },
    /// Stop an instance that has drained. Idempotent.
    Stop {
        /// Who.
        instance: InstanceId,
    },
    /// Fit a forecast off the tick; answer with [`Input::Forecast`].
    Fit(Box<FitJob>),
    /// Train a model off the tick; answer with [`Input::Trained`].
    Train(Box<TrainJob>),
    /// Append to the history.
    Record(Vec<LoadSample>),
    /// Show this to operators.
    Report(Arc<StatusReport>),
}

/// A forecast to fit.
#[derive(Clone, Debug)]
pub struct FitJob {
    /// For which series.
    pub of: SeriesKey,
    /// Its history.
    pub series: Series,
    /// Announced events.
    pub events: Vec<ScheduledEvent>,
    /// How.
    pub settings: ForecastSettings,
}

/// A model to train.
#[derive(Clone, Debug)]
pub struct TrainJob {
    /// Rows in order of arrival.
    pub rows: Vec<Sample>,
    /// How.
    pub settings: TrainSettings,
    /// Upper ends of light, medium and heavy, microseconds.
    pub class_borders_us: [f64; 3],
    /// The serving model.
    pub champion: Option<Arc<CostModel>>,
    /// Number of the new one.
    pub version: u64,
    /// For its card.
    pub now: Timestamp,
}

impl FitJob {
    /// Does the work, wherever the caller likes.
    pub fn run(self) -> Input {
        let result = foretide_forecast::fit::fit(&self.series, &self.events, &self.settings);
        Input::Forecast { of: self.of, result: result.map_err(|error| error.to_string()) }
    }
}

impl TrainJob {
    /// Does the work, wherever the caller likes.
    pub fn run(self) -> Input {
        let champion = self.champion.as_deref();
        let result = foretide_predictor::cost::trainer::train_for_classes(
            &self.rows,
            &self.settings,
            self.class_borders_us,
            champion,
            (self.version, self.now),
        );
        Input::Trained { result: result.map(Box::new).map_err(|error| error.to_string()) }
    }
}
