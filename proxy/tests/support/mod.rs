//! A report made by hand: a shop on an ordinary day with a campaign coming, five instances in different states.

use foretide_control::plan::{Action, PlanReason, PlanReport};
use foretide_control::report::{
    FormReport, GateReport, InstanceReport, ModelReport, PastForecast, PoolReport, RoutingDecisionReport,
    ScalingDecisionReport, StatusReport,
};
use foretide_forecast::fit::{BacktestScore, Forecast, ForecastPoint};
use foretide_predictor::blend::{LoadScore, TierLoads, TierSkills, TierWeights};
use foretide_predictor::cost::model::ModelCard;
use foretide_predictor::cost::query::{CostBasis, CostClass, CostEstimate};
use foretide_predictor::estimate::Estimate;
use foretide_predictor::id::InstanceId;
use foretide_predictor::peers::Anomaly;
use foretide_predictor::time::Timestamp;
use foretide_routing::decide::{Candidate, Reason};
use foretide_routing::observe::{Outcome, Utilisation};
use foretide_routing::settings::{Policy, ScalingMode};
use foretide_routing::table::InstanceState;
use std::time::Duration;

/// Start of the run, Unix seconds.
pub(crate) const START_S: u64 = 1_790_000_000;

const WEIGHTS: TierWeights = TierWeights { baseline: 0.37, cost: 0.45, peers: 0.18 };

/// The work rate of the second `s` of the run: a day a minute, a campaign in each from its 40th second.
fn work(s: f64) -> f64 {
    let campaign = if (40.0..52.0).contains(&(s % 60.0)) { 1.8 } else { 1.0 };
    let ripple = 0.12 * ((s * 1.7).sin() + (s * 0.53).cos());
    ((1.6 - (s / 60.0 * std::f64::consts::TAU).cos()) * 0.9 * campaign + ripple).max(0.05)
}

fn at(s: u64) -> Timestamp {
    Timestamp::from_us((START_S + s) * 1_000_000)
}

/// The report of the second `s` of the run.
pub(crate) fn report(s: u64) -> StatusReport {
    StatusReport {
        at: at(s),
        generation: 40 + s,
        pools: vec![pool(s)],
        weights: WEIGHTS,
        skills: TierSkills { baseline: Some(0.62), cost: Some(0.71), peers: None },
        model: model(s),
        gates: vec![GateReport {
            route: "images".to_owned(),
            skill: Some(0.61),
            weight: 1.0,
            misfit: Some(-0.2),
            mean_us: 41_000.0,
        }],
        routing_decisions: (0..40).map(|back| routing_decision(s * 20 - back)).collect(),
        refusals: Vec::new(),
        scaling_decisions: scaling_decisions(s),
        fallbacks: vec![(Reason::NoModel, 312), (Reason::Retry, 4)],
        gossip: None,
    }
}

fn pool(s: u64) -> PoolReport {
    let past = (s.saturating_sub(90)..s).map(|t| {
        let mean = work(t as f64) * 0.97 + 0.05;
        PastForecast { at: at(t), mean, low: mean * 0.8, high: mean * 1.22 + 0.1 }
    });
    PoolReport {
        name: "shop".to_owned(),
        policy: Policy::Predictive,
        mode: ScalingMode::Act,
        instances: instances(s),
        work_rate: work(s as f64),
        request_rate: 38.0 + (s % 7) as f64,
        capacity: 4.0,
        lead_s: 4.2,
        actual: (s.saturating_sub(90)..s).map(|t| (at(t), work(t as f64 + 0.4))).collect(),
        forecast: Some(forecast(s)),
        forecast_past: past.collect(),
        horizons: vec![5, 15, 30],
        coverage: Some(0.913),
        panic: false,
        shadow: None,
        shadow_error: None,
        serves: FormReport { form: "processor-sharing", because: "found out", seen: 812, ratio: Some(3.1) },
        forecast_error: None,
        proxies: None,
    }
}

fn forecast(s: u64) -> Forecast {
    let point = |ahead: u64| {
        let mean = work((s + ahead) as f64) * 0.98;
        let half = 0.2 + 0.02 * ahead as f64;
        ForecastPoint {
            at: at(s + ahead),
            load: Estimate::new(mean, (mean - half).max(0.0), mean + half * 1.3).unwrap(),
        }
    };
    Forecast {
        made_at: at(s),
        step: Duration::from_secs(1),
        points: (0..40).map(point).collect(),
        score: Some(BacktestScore { mase: 0.64, coverage: 0.91, origins: 48 }),
        method: "seasonal-ridge".to_owned(),
    }
}

fn instances(s: u64) -> Vec<InstanceReport> {
    let states = [
        InstanceState::Warm,
        InstanceState::Warm,
        InstanceState::Warm,
        InstanceState::Warm,
        InstanceState::Warming,
    ];
    let make = |(index, &state): (usize, &InstanceState)| {
        let index = index as u32;
        let serving = state == InstanceState::Warm;
        let load = |scale: f64| serving.then(|| scale * (0.3 + work((s + u64::from(index)) as f64) / 5.0));
        let loads = TierLoads {
            baseline: load(0.9),
            cost: load(1.3),
            peers: load(if index == 2 { 1.2 } else { 0.05 }),
        };
        let total = serving.then(|| {
            loads.baseline.unwrap() * 0.37 + loads.cost.unwrap() * 0.45 + loads.peers.unwrap() * 0.18
        });
        InstanceReport {
            id: InstanceId(index),
            address: Some(format!("127.0.0.1:{}", 9001 + index)),
            state,
            warm: match index {
                3 => 0.55,
                4 => 0.0,
                _ => 1.0,
            },
            in_flight: if serving { 3 + index } else { 0 },
            work_in_flight_us: if serving { 41_000 * u64::from(index + 1) } else { 0 },
            speed: [1.21, 1.04, 0.58, 0.98, 1.0][index as usize],
            speed_samples: 50,
            load: LoadScore { total, weights: WEIGHTS, loads },
            anomaly: (index == 2).then_some(Anomaly {
                instance: InstanceId(2),
                score: 4.4,
                excess: 0.3,
                error_ratio: 0.01,
                consumers: 12,
            }),
            requests: if serving { 20_000 - 4_100 * u64::from(index) + s * 9 } else { 0 },
            failures: u64::from(index == 2) * 7,
            error_ratio: 0.0,
            heard: None,
            others_in_flight: (index == 1).then_some(2.5),
            sight_age_s: (index == 1).then_some(0.004),
            utilisation: (index == 1).then_some(Utilisation { cpu: Some(0.5), ..Utilisation::default() }),
        }
    };
    states.iter().enumerate().map(make).collect()
}

fn model(s: u64) -> ModelReport {
    ModelReport {
        card: Some(ModelCard {
            version: 7,
            trained_at_us: at(s.saturating_sub(11)).as_us(),
            rows: 8_000,
            trees: 60,
            depth: 6,
            trees_hold: 0.94,
            log_rmse: 0.213,
            key_mean_log_rmse: 0.346,
            route_mean_log_rmse: 0.912,
            coverage: 0.90,
            class_accuracy: 0.81,
            key_class_accuracy: 0.77,
            sum_ratio: 1.01,
            class_borders_us: [8_400.0, 31_000.0, 160_000.0],
            rows_from_us: at(s.saturating_sub(600)).as_us(),
            rows_to_us: at(s.saturating_sub(12)).as_us(),
        }),
        rows: 8_000,
        learned: 61_204 + s * 40,
        cells: 214,
        last_error: Some("not better than champion: log-RMSE 0.215 against 0.213".to_owned()),
        class_borders_us: [8_400.0, 31_000.0, 160_000.0],
        classes: [5_030, 2_980, 1_490, 500],
        coverage: Some(0.894),
        skill: Some(0.71),
    }
}

fn routing_decision(id: u64) -> RoutingDecisionReport {
    let route = ["search", "thumbnail", "report", "checkout"][(id % 4) as usize];
    let mean = [6_200.0, 42_000.0, 310_000.0, 11_000.0][(id % 4) as usize] * (1.0 + (id % 13) as f64 / 40.0);
    let class = [CostClass::Light, CostClass::Heavy, CostClass::Huge, CostClass::Medium][(id % 4) as usize];
    let candidate = |rank: u32| Candidate {
        instance: InstanceId((id as u32 + rank) % 4),
        score_us: mean as f32 * (1.3 + 0.35 * rank as f32),
        in_flight: 2 + rank,
    };
    RoutingDecisionReport {
        id,
        at: at(id / 20),
        route: route.to_owned(),
        pool: "shop".to_owned(),
        consumer: format!("{:016x}", (id % 9 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        instance: InstanceId(id as u32 % 4),
        reason: if id.is_multiple_of(17) { Reason::NoModel } else { Reason::Predicted },
        serves: "processor-sharing",
        predicted: CostEstimate {
            work_us: Estimate::new(mean, mean * 0.7, mean * 1.5).unwrap(),
            class,
            basis: CostBasis::Model,
        },
        steered_us: mean as f32,
        weight: 1.0,
        actual_class: Some(class),
        actual_work_us: Some(mean * if id.is_multiple_of(11) { 1.8 } else { 0.93 }),
        upstream_us: (mean * 1.4) as u64,
        candidates: (0..4).map(candidate).collect(),
        others_in_flight: None,
        numbers: vec![640.0, 480.0],
        outcome: if id.is_multiple_of(29) { Outcome::ProducerError } else { Outcome::Ok },
        generation: 40,
        response_bytes: Some(512),
        expected_bytes: None,
        explanation: None,
    }
}

fn scaling_decisions(s: u64) -> Vec<ScalingDecisionReport> {
    let rows = [
        (
            2,
            Action::ScaleUp,
            PlanReason::Event,
            3,
            5,
            "3 → 5: campaign 'sale' in 4.0 s brings 3.1 s/s (now 1.7); starts take 4.2 s",
        ),
        (
            9,
            Action::Hold,
            PlanReason::Cooldown,
            3,
            3,
            "3 stay: 2 would do, but the last change was 6 s ago (cooldown 10 s)",
        ),
        (
            15,
            Action::ScaleDown,
            PlanReason::Surplus,
            4,
            3,
            "4 → 3: even the upper bound, 1.9 s/s, fits into 3 at 80 %",
        ),
        (
            38,
            Action::ScaleUp,
            PlanReason::Surge,
            2,
            4,
            "2 → 4: work rises by 0.4 s/s each second and nobody foresaw it",
        ),
        (
            52,
            Action::ScaleUp,
            PlanReason::Forecast,
            1,
            2,
            "1 → 2: 1.2 s/s expected in 4.2 s (now 0.8), 1.0 each at 80 %",
        ),
    ];
    let make =
        |(index, &(back, action, reason, current, target, words)): (usize, &(u64, _, _, u32, u32, &str))| {
            ScalingDecisionReport {
                id: 100 - index as u64,
                at: at(s.saturating_sub(back)),
                pool: "shop".to_owned(),
                mode: ScalingMode::Act,
                plan: PlanReport {
                    action,
                    reason,
                    limited_by: (index == 0).then_some(PlanReason::Ceiling),
                    current,
                    wish: target + u32::from(index == 0),
                    target,
                    work_rate: 1.7,
                    request_rate: 41.0,
                    demand: 3.1,
                    forecast: Estimate::new(2.8, 2.2, 3.1),
                    lead_s: 4.2,
                    capacity_per_instance: 1.0,
                    words: words.to_owned(),
                },
                instances: vec![InstanceId(3), InstanceId(4)],
            }
        };
    rows.iter().enumerate().map(make).collect()
}
