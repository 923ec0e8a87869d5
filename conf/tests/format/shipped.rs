//! The shipped files are right, and the reference tells the truth.

use std::io;
use std::path::Path;

use foretide_conf::finding::render;
use foretide_conf::parse::parse;
use foretide_conf::settings::Settings;
use foretide_conf::{scenario, shipped};
use foretide_routing::settings::{Policy, ScalingMode};

fn sound(file: &str, text: &str) -> Settings {
    let (settings, warnings) = parse(file, text).unwrap_or_else(|all| panic!("{}", render(&all, text)));
    assert!(warnings.is_empty(), "{}", render(&warnings, text));
    settings
}

fn no_file(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

#[test]
fn the_first_configuration_runs_as_it_is() {
    let settings = sound("init.toml", shipped::INIT);
    let pool = &settings.routing.pools[0];
    assert_eq!(pool.scaling.mode, ScalingMode::Act);
    assert_eq!((pool.scaling.floor, pool.scaling.ceiling), (1, 3));
    assert!(pool.manager.is_some());
    assert!(shipped::INIT.lines().count() < 50, "an operator reads it in a minute");
}

#[test]
fn the_demo_is_sound_once_its_placeholders_are_filled() {
    let text = shipped::DEMO.replace("{foretide}", "/usr/bin/foretide").replace("{speed}", "1.0");
    let settings = sound("demo.toml", &text);
    assert_eq!(settings.routing.learning.horizons, [5, 15, 30]);
    assert_eq!(settings.routing.learning.seasons, [120]);
    assert_eq!(settings.routing.routes.len(), 5);
    assert_eq!(settings.routing.pools[0].policy, Policy::Predictive);
}

#[test]
fn the_reference_states_the_defaults() {
    let bare = "version = 1\n[[routes]]\npool = \"api\"\nname = \"all\"\n\
                [pools.api]\nendpoints = [\"127.0.0.1:9000\"]";
    assert_eq!(sound("", shipped::REFERENCE), sound("", bare));
}

/// With every comment that looks like a key or header taken off, the reference is still a sound file: the keys it
/// only mentions exist too.
#[test]
fn keys_that_the_reference_only_mentions_exist() {
    let mut text = String::new();
    for line in shipped::REFERENCE.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let is_key = bare
            .split_once(" = ")
            .is_some_and(|(key, _)| key.chars().all(|c| c.is_alphanumeric() || c == '_'));
        let shown = if is_key || bare.starts_with('[') { bare } else { line };
        // The only pair of keys that exclude each other.
        if !shown.starts_with("path_prefix") {
            text += shown;
        }
        text += "\n";
    }
    let findings = parse("reference.toml", &text).map_or_else(|all| all, |(_, warnings)| warnings);
    let unknown: Vec<_> = findings.iter().filter(|one| one.message.contains("not a known key")).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let errors: Vec<_> =
        findings.iter().filter(|one| one.severity == foretide_conf::finding::Severity::Error).collect();
    assert!(errors.is_empty(), "{}", render(&findings, &text));
}

#[test]
fn the_scenarios_are_sound() {
    for (name, text) in shipped::SCENARIOS {
        let (scenario, warnings) = scenario::parse(name, text, no_file)
            .unwrap_or_else(|all| panic!("{name}:\n{}", render(&all, text)));
        assert!(warnings.is_empty(), "{name}:\n{}", render(&warnings, text));
        assert_eq!(scenario.name, name);
        assert!(scenario.contenders.len() >= 2);
    }
}

#[test]
fn a_scenario_may_name_its_configuration() {
    let text = "name = \"x\"\nduration = \"1m\"\nconfig = \"foretide.toml\"\n[arrivals]\nrate_per_s = 5.0\n\
                [[mix]]\nroute = \"all\"\nmean_ms = 10.0\n[[policies]]\nname = \"predictive\"\n";
    let open = |path: &Path| {
        assert_eq!(path, Path::new("dir/foretide.toml"));
        Ok(shipped::INIT.to_owned())
    };
    let (scenario, _) =
        scenario::parse("dir/s.toml", text, open).unwrap_or_else(|all| panic!("{}", render(&all, text)));
    assert_eq!(scenario.config.routing.pools[0].name, "samples");
    let findings = scenario::parse("dir/s.toml", text, |_| Ok("version = 2".to_owned())).unwrap_err();
    assert_eq!((findings.len(), findings[0].key.as_str()), (1, "config"));
    assert!(scenario::parse("dir/s.toml", text, no_file).is_err());
}

#[test]
fn relative_paths_are_taken_from_the_directory_of_the_file() {
    let beside = sound("etc/foretide/main.toml", shipped::INIT);
    assert_eq!(beside.server.state_dir, Path::new("etc/foretide/foretide-state"));
    assert_eq!(sound("main.toml", shipped::INIT).server.state_dir, Path::new("foretide-state"));
}

#[test]
fn how_much_heavy_requests_yield_is_a_number_or_found_out() {
    let with = |value: &str| {
        shipped::REFERENCE.replace("heavy_yields = \"auto\"", &format!("heavy_yields = {value}"))
    };
    let yields = |value: &str| sound("", &with(value)).routing.pools[0].serving.heavy_yields;
    assert_eq!(["\"auto\"", "0", "2.5"].map(yields), [None, Some(0.0), Some(2.5)]);
    for (value, said) in [("\"much\"", "is a string, not \"auto\" or a number"), ("11", "heavy_yields")] {
        let text = with(value);
        let errors = parse("", &text).map(|_| ()).expect_err("nothing of that kind");
        assert!(render(&errors, &text).contains(said), "{}", render(&errors, &text));
    }
}
