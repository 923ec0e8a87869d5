//! What operators are told about their mistakes.

use foretide_conf::finding::{Finding, Severity, render};
use foretide_conf::parse::parse;
use foretide_conf::scenario;
use foretide_predictor::cost::query::NUMBERS;

const BARE: &str = "version = 1\n[[routes]]\npool = \"a\"\n[pools.a]\nendpoints = [\"10.0.0.1:80\"]\n";

fn findings(text: &str) -> Vec<Finding> {
    parse("foretide.toml", text).map_or_else(|all| all, |(_, warnings)| warnings)
}

#[test]
fn all_mistakes_of_a_file_come_at_once() {
    let text = include_str!("faulty.toml");
    let rendered = render(&findings(text), text);
    assert!(!rendered.contains("hunter2"), "secrets are not repeated");
    insta::assert_snapshot!(rendered);
}

#[test]
fn all_mistakes_of_a_scenario_come_at_once() {
    let text = "name = \"x\"\nduration = \"1m\"\n[world]\nspeeds = [1, 0]\ncold_strt = \"1s\"\n[arrivals]\n\
                kind = \"dayly\"\n[[mix]]\nroute = \"serch\"\nparameter = { name = \"n\" }\n[[mix]]\n\
                route = \"search\"\nmean_ms = 1\nparameter = { name = \"n\", low = 5, high = 2 }\n\
                [[config.routes]]\nname = \"search\"\npool = \"b\"\n[config.pools.a]\nendpoints = [\"h:1\"]\n";
    let all = scenario::parse("s.toml", text, |_| unreachable!("the configuration is embedded")).unwrap_err();
    insta::assert_snapshot!(render(&all, text));
}

#[test]
fn syntax_errors_have_a_place_and_advice() {
    let text = "version = 1\n[server\nlisten = [\"127.0.0.1:8080\"]\n[admin]\nlisten = 127.0.0.1:9900\n";
    insta::assert_snapshot!(render(&findings(text), text));
}

#[test]
fn hedging_says_what_it_does_not_go_with() {
    let said = |more: &str| {
        let all = findings(&format!("{BARE}{more}"));
        all.iter().map(|one| (one.severity, one.key.clone())).collect::<Vec<_>>()
    };
    let hedge = "[pools.a.hedge]\n";
    assert_eq!(said(hedge), []);
    assert_eq!(said(&format!("{hedge}after = \"p99.9\"\nbudget = 0.1\n")), []);
    assert_eq!(said(&format!("{hedge}after = \"20ms\"\n")), []);
    let after = |text: &str| said(&format!("{hedge}after = {text}\n"));
    for wrong in ["\"p100\"", "\"p20\"", "\"pNaN\"", "\"soon\"", "95", "\"2h\""] {
        assert_eq!(after(wrong), [(Severity::Error, "pools.a.hedge.after".to_owned())], "{wrong}");
    }
    for pointless in [
        "[pools.a.queue]",
        "[pools.a.affinity]\ncookie = \"at\"",
        "[pools.a.upstream]\nhttp2 = true",
        "[pools.a.retry]\nattempts = 1",
    ] {
        let said = said(&format!("{hedge}{pointless}\n"));
        assert_eq!(said, [(Severity::Warning, "pools.a.hedge".to_owned())], "{pointless}");
    }
    assert_eq!(
        said(&format!("{hedge}budget = 0.6\n")),
        [(Severity::Error, "pools.a.hedge.budget".to_owned())]
    );
}

#[test]
fn a_duplicate_key_does_not_hide_other_findings() {
    let all = findings(&format!("{BARE}endpoints = [\"10.0.0.2:80\"]\nconcurency = 2\n"));
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(
        all[0].message.contains("duplicate key") && all[1].message.contains("not a known key"),
        "{all:?}"
    );
}

#[test]
fn warnings_do_not_keep_a_file_from_running() {
    let text = format!("{BARE}[[routes]]\nname = \"never\"\npath_prefix = \"/x\"\npool = \"a\"\n");
    let (_, warnings) = parse("foretide.toml", &text).unwrap();
    assert_eq!(warnings.len(), 1);
    assert_eq!((warnings[0].severity, warnings[0].line), (Severity::Warning, 6));
    assert!(warnings[0].message.contains("never gets a request"), "{}", warnings[0]);
}

#[test]
fn more_parameters_than_the_model_takes_are_refused() {
    let list: Vec<String> = (0..=NUMBERS).map(|n| format!("\"query:p{n}:number\"")).collect();
    let text = BARE.replace("pool = \"a\"", &format!("pool = \"a\"\nparameters = [{}]", list.join(", ")));
    let all = findings(&text);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].key, format!("routes[0].parameters[{NUMBERS}]"));
}

#[test]
fn ports_are_not_used_for_two_purposes() {
    let manager = "[pools.a.manager]\ncommand = [\"p\", \"{port}\"]\n[pools.b.manager]\nports = \"9150-9160\"\n\
                   command = [\"p\", \"{port}\"]\n[server]\nlisten = [\"127.0.0.1:9155\"]\n[admin]\nlisten = \"127.0.0.1:9155\"\n";
    let messages: Vec<String> =
        findings(&format!("{BARE}{manager}")).into_iter().map(|one| one.message).collect();
    let about = |words: &str| messages.iter().any(|message| message.contains(words));
    assert!(about("include that of `server.listen`"), "{messages:?}");
    assert!(about("overlap those of pool \"a\""), "{messages:?}");
    assert!(about("the admin listener has the address"), "{messages:?}");
}

#[test]
fn spans_of_learning_are_multiples_of_its_step() {
    let all = findings(&format!(
        "{BARE}[learning]\nseasons = [\"90s\", \"1d\"]\nhorizons = [\"90s\"]\nhistory = \"1d\"\n"
    ));
    let shown: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(all.len(), 3, "{shown:?}");
    assert!(shown[0].contains("from 2m to 400d") && shown[1].contains("steps of 1m"), "{shown:?}");
    assert!(shown[2].contains("write at least \"2d\""), "{shown:?}");
}

#[test]
fn a_faulty_route_does_not_seem_to_take_everything() {
    let text = BARE.replace("pool = \"a\"", "pool = \"a\"\nmethods = [\"G T\"]\npath = \"x\"");
    let all = findings(&format!("{text}[[routes]]\nname = \"rest\"\npool = \"a\"\n"));
    assert_eq!(all.len(), 2, "{all:?}");
}

#[test]
fn findings_are_data_too() {
    let json = serde_json::to_value(&findings("version = 2\n")[0]).unwrap();
    assert_eq!((json["severity"].as_str(), json["line"].as_u64()), (Some("error"), Some(1)));
}

#[test]
fn gossip_is_off_unless_written_and_says_where_it_can_be_reached() {
    let with = |lines: &str| parse("f.toml", &format!("{BARE}[gossip]\n{lines}\n"));
    assert_eq!(parse("f.toml", BARE).unwrap().0.gossip, None);
    let gossip = with("listen = \"127.0.0.1:0\"").unwrap().0.gossip.unwrap();
    assert!(gossip.seeds.is_empty() && gossip.advertise.is_none() && gossip.node.is_none(), "{gossip:?}");
    let everywhere = "listen = \"0.0.0.0:7946\"\nadvertise = \"10.0.0.5:7946\"\n\
                      seeds = [\"10.0.0.6:7946\", \"[fd00::6]:7946\", \"proxies.internal:7946\"]";
    assert_eq!(with(everywhere).unwrap().0.gossip.unwrap().seeds.len(), 3);
    for (lines, key, words) in [
        ("seeds = []", "gossip.listen", "missing"),
        ("listen = \"here\"", "gossip.listen", "not an IP address"),
        ("listen = \"0.0.0.0:7946\"", "gossip.listen", "listens on all addresses"),
        ("listen = \"10.0.0.5:1\"\nadvertise = \"0.0.0.0:1\"", "gossip.advertise", "nobody can send to"),
        ("listen = \"10.0.0.5:1\"\nadvertise = \"10.0.0.5:0\"", "gossip.advertise", "nobody can send to"),
        (
            "listen = \"10.0.0.5:1\"\nseeds = [\"proxies.internal\"]",
            "gossip.seeds[0]",
            "not a host with a port",
        ),
        ("listen = \"10.0.0.5:1\"\nseeds = [\"10.0.0.6:0\"]", "gossip.seeds[0]", "not a host with a port"),
        ("listen = \"10.0.0.5:1\"\nnode = \"edge 1\"", "gossip.node", "is not a name"),
        ("listen = \"10.0.0.5:1\"\ninterval = \"1h\"", "gossip.interval", "from 100ms to 2s"),
    ] {
        let all = with(lines).unwrap_err();
        assert_eq!(all.len(), 1, "{lines}: {all:?}");
        assert!(all[0].key == key && all[0].message.contains(words), "{lines}: {all:?}");
    }
}

#[test]
fn a_source_of_costs_is_measured_or_named_as_a_report_names_it() {
    let with = |lines: &str| findings(&format!("{BARE}[pools.a.upstream]\n{lines}\n"));
    assert!(with("cost_from = \"request_cost.cpu_seconds\"\ncost_unit = \"1ms\"").is_empty());
    assert!(with("cost_from = \"measured\"").is_empty());
    for (text, help) in [
        ("request_cots.cpu", "did you mean \"request_cost.cpu\"?"),
        ("request_cost", "did you mean \"request_cost.NAME\"?"),
        ("mesured", "did you mean \"measured\"?"),
        ("orca", "write \"measured\""),
    ] {
        let all = with(&format!("cost_from = \"{text}\""));
        assert_eq!(all.len(), 1, "{all:?}");
        let suggestion = all[0].suggestion.as_deref().unwrap_or_default();
        assert!(all[0].key == "pools.a.upstream.cost_from" && suggestion.contains(help), "{all:?}");
    }
    let all = with("cost_unit = \"1ms\"");
    assert_eq!((all.len(), all[0].severity), (1, Severity::Warning), "{all:?}");
}

#[test]
fn endpoints_may_say_more_than_an_address() {
    let with = |policy: &str, endpoints: &str| {
        let text = BARE.replace("[\"10.0.0.1:80\"]", &format!("[{endpoints}]"));
        parse("f.toml", &format!("{text}policy = \"{policy}\"\n"))
    };
    let (settings, warnings) = with(
        "weighted",
        "\"10.0.0.1:80\", { address = \"10.0.0.2:80\", weight = 3, zone = \"b\", labels = { version = \"2\" } }",
    )
    .expect("sound");
    let endpoints = &settings.routing.pools[0].endpoints;
    assert_eq!((warnings.len(), endpoints[0].weight, endpoints[1].weight), (0, 1, 3));
    assert_eq!(endpoints[1].traits.zone.as_deref(), Some("b"));
    assert_eq!(endpoints[1].traits.labels["version"], "2");
    let wrong = |policy, endpoints| match with(policy, endpoints) {
        Ok((_, found)) | Err(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>(),
    };
    for (policy, endpoints, says) in [
        ("weighted", "{ weight = 2 }", "pools.a.endpoints[0].address"),
        ("weighted", "{ address = \"10.0.0.2:80\", wieght = 2 }", "did you mean `weight`?"),
        ("weighted", "{ address = \"10.0.0.2:80\", weight = 0 }", "from 1 to 1000"),
        ("weighted", "\"10.0.0.2:80\", { address = \"10.0.0.2:80\" }", "there twice"),
        ("predictive", "{ address = \"10.0.0.2:80\", weight = 2 }", "no effect with this policy"),
    ] {
        let found = wrong(policy, endpoints);
        assert!(found.len() == 1 && found[0].contains(says), "{endpoints}: {found:?}");
    }
}

#[test]
fn a_bound_on_load_belongs_to_a_policy_that_hashes() {
    let with = |lines: &str| findings(&format!("{BARE}{lines}\n"));
    assert!(with("policy = \"maglev\"\nhash_balance_factor = 1.25").is_empty());
    assert!(with("policy = \"ketama\"\nhash_balance_factor = 0.9")[0].message.contains("from 1 to 100"));
    assert!(with("hash_balance_factor = 1.25")[0].message.contains("no effect with this policy"));
}

#[test]
fn what_narrows_a_choice_is_checked() {
    let text = BARE.replace(
        "[\"10.0.0.1:80\"]",
        "[{ address = \"10.0.0.1:80\", zone = \"a\", labels = { version = \"2\" } }]",
    );
    let with = |lines: &str| {
        let found = findings(&format!("{text}{lines}\n"));
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for sound in [
        "[pools.a.limits]\nmax_requests = 3",
        "[pools.a.affinity]\ncookie = \"at\"\nttl = \"1h\"\nsame_site = \"none\"",
        "[pools.a.subset]\nheader = \"X-Version\"\nlabel = \"version\"\nfallback = \"none\"",
        "[pools.a.locality]\nzone = \"a\"\noverprovision_factor = 2",
    ] {
        assert_eq!(with(sound), [""; 0]);
    }
    for (lines, says) in [
        ("[pools.a.limits]\nmax_requests = 0", "from 1 to 1000000"),
        ("[pools.a.limits]\nmax_requests = 3\n[pools.a.queue]\nlimit = 9", "below the 4 slots"),
        ("[pools.a.affinity]\nttl = \"1h\"", "pools.a.affinity.cookie"),
        ("[pools.a.affinity]\ncookie = \"a b\"", "no name for a cookie"),
        ("[pools.a.affinity]\ncookie = \"at\"\npath = \"/;x\"", "is not a path"),
        ("[pools.a.affinity]\ncookie = \"at\"\nsame_site = \"none\"\nsecure = false", "browsers refuse"),
        ("[pools.a.subset]\nheader = \"x:\"\nlabel = \"version\"", "no name for a header"),
        ("[pools.a.subset]\nheader = \"x\"\nlabel = \"colour\"", "no endpoint carries"),
        ("[pools.a.subset]\nlabel = \"version\"", "pools.a.subset.header"),
        ("[pools.a.locality]\nzone = \"b\"", "no endpoint is in this zone"),
        ("[pools.a.locality]\nzone = \"a\"\noverprovision_factor = 0.5", "from 1 to 100"),
    ] {
        let found = with(lines);
        assert!(found.len() == 1 && found[0].contains(says), "{lines}: {found:?}");
    }
}
