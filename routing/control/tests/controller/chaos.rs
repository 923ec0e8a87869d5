//! Whatever comes in, in whatever order: nothing panics, limits hold, the table names only instances that may serve.
use crate::world::{at, event, pool, settings};
use foretide_control::controller::Controller;
use foretide_control::io::{Effect, FleetEvent, Input, LoadSample, SeriesKey};
use foretide_forecast::fit::{Forecast, ForecastPoint};
use foretide_predictor::cost::model::CostModel;
use foretide_predictor::estimate::Estimate;
use foretide_predictor::id::{InstanceId, PoolId};
use foretide_predictor::time::Timestamp;
use foretide_routing::settings::RoutingSettings;
use foretide_routing::table::InstanceState;
use proptest::prelude::*;
use std::time::Duration;

/// Something that happens, with small numbers so that they often hit something that exists.
#[derive(Clone, Debug)]
enum Happening {
    Wait(u64),
    Probe(u32, bool),
    Started(u32),
    Ready(u32),
    Failed(u32),
    Exited(u32, bool),
    Forecast(u16, Option<u32>, f64),
    NoForecast(u16),
    Reload(u8),
    Model(bool),
    History(f64),
    HalfTick,
    Freeze,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let id = 0..12u32;
    prop_oneof![
        12 => (1..3_000u64).prop_map(Wait),
        4 => (id.clone(), prop::bool::ANY).prop_map(|(id, healthy)| Probe(id, healthy)),
        6 => id.clone().prop_map(Started),
        8 => id.clone().prop_map(Ready),
        2 => id.clone().prop_map(Failed),
        3 => (id.clone(), prop::bool::ANY).prop_map(|(id, asked)| Exited(id, asked)),
        4 => (0..3u16, prop::option::of(id), prop_oneof![0.0..30.0f64, Just(1e300), Just(-5.0)])
            .prop_map(|(pool, instance, load)| Forecast(pool, instance, load)),
        1 => (0..3u16).prop_map(NoForecast),
        1 => (0..4u8).prop_map(Reload),
        1 => prop::bool::ANY.prop_map(Model),
        1 => prop_oneof![0.0..9.0f64, Just(f64::NAN)].prop_map(History),
        2 => Just(HalfTick),
        1 => Just(Freeze),
    ]
}

fn settings_number(number: u8) -> RoutingSettings {
    let mut settings = settings();
    settings.pools.push(pool("second"));
    match number {
        1 => settings.pools.swap(0, 1),
        2 => settings.pools.truncate(1),
        3 => {
            settings.pools[0].manager = None;
            settings.pools[0].endpoints = vec!["10.0.0.1:80".into()];
            settings.events = vec![event("sale", 5_000, 9_000, 3.0)];
            settings.learning.step = Duration::from_millis(300);
        }
        _ => {}
    }
    settings
}

fn forecast(now: Timestamp, load: f64) -> Forecast {
    let step = Duration::from_millis(500);
    let points =
        (0..20).map(|index| ForecastPoint { at: now.plus(step * index), load: Estimate::exact(load) });
    Forecast { made_at: now, step, points: points.collect(), score: None, method: "test".to_owned() }
}

fn input(happening: Happening, now: Timestamp) -> Option<Input> {
    let fleet = |event| Some(Input::Fleet(event));
    let address = |id: u32| format!("127.0.0.1:{id}");
    match happening {
        Happening::Wait(_) | Happening::HalfTick => None,
        Happening::Probe(id, healthy) => Some(Input::Probed { instance: InstanceId(id), healthy }),
        Happening::Started(id) => {
            fleet(FleetEvent::Started { instance: InstanceId(id), address: address(id) })
        }
        Happening::Ready(id) => {
            fleet(FleetEvent::Ready { instance: InstanceId(id), took: Duration::from_millis(900) })
        }
        Happening::Failed(id) => fleet(FleetEvent::Failed { instance: InstanceId(id), why: "no".to_owned() }),
        Happening::Exited(id, asked) => fleet(FleetEvent::Exited { instance: InstanceId(id), asked }),
        Happening::Forecast(pool, instance, load) => {
            let of = SeriesKey { pool: PoolId(pool), instance: instance.map(InstanceId) };
            Some(Input::Forecast { of, result: Ok(forecast(now, load)) })
        }
        Happening::NoForecast(pool) => {
            let of = SeriesKey { pool: PoolId(pool), instance: None };
            Some(Input::Forecast { of, result: Err("too short".to_owned()) })
        }
        Happening::Reload(number) => Some(Input::Settings(Box::new(settings_number(number)))),
        Happening::Model(broken) => {
            Some(Input::SetModel(broken.then(|| Box::new(CostModel::broken_for_drills()))))
        }
        Happening::History(work_rate) => {
            let sample = |at| LoadSample {
                at,
                pool: "web".to_owned(),
                instance: None,
                work_rate,
                request_rate: 1.0,
                in_flight: 1.0,
            };
            Some(Input::History(vec![sample(now), sample(Timestamp::ZERO), sample(at(u64::MAX / 2_000))]))
        }
        Happening::Freeze => Some(Input::Freeze),
    }
}

/// Takes all effects and checks what the table and the report say.
fn check(controller: &mut Controller, now: Timestamp, generation: &mut u64) -> Result<(), TestCaseError> {
    while let Some(effect) = controller.next_effect() {
        if let Effect::Publish(table) = effect {
            prop_assert!(table.generation > *generation);
            *generation = table.generation;
        }
    }
    let report = controller.report(now);
    for pool in &controller.table().pools {
        let managed = pool.instances.iter().filter(|one| one.address.starts_with("127.")).count();
        prop_assert!(managed <= pool.settings.scaling.ceiling as usize);
        prop_assert!(
            pool.instances.iter().all(|one| one.penalty_us.is_finite() && one.background.is_finite())
        );
        let ids: Vec<_> = pool.instances.iter().map(|one| one.id).collect();
        prop_assert!(ids.is_sorted());
    }
    for pool in &report.pools {
        let alive = |state| !matches!(state, InstanceState::Draining | InstanceState::Gone);
        let count = pool.instances.iter().filter(|one| alive(one.state)).count();
        prop_assert!(count <= 5, "{count} in {}", pool.name);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_happens_breaks_a_limit(happenings in prop::collection::vec(happening(), 1..150)) {
        let mut now = at(1_000);
        let mut controller = Controller::new(settings_number(0), now);
        let mut generation = 0;
        for happening in happenings {
            if let Happening::Wait(ms) = happening {
                let until = now.plus(Duration::from_millis(ms));
                while now < until {
                    now = now.plus(Duration::from_millis(100));
                    controller.begin_tick(now);
                    while controller.step() {}
                }
            } else if let Happening::HalfTick = happening {
                controller.begin_tick(now);
                controller.step();
            } else if let Some(input) = input(happening, now) {
                controller.handle(now, input);
            }
            check(&mut controller, now, &mut generation)?;
        }
    }
}
