//! The configuration file, table by table.

use foretide_routing::settings::RoutingSettings;

use crate::check;
use crate::document::{Says, Section};
use crate::settings::Settings;

mod choice;
mod endpoint;
mod gossip;
mod hedge;
mod learning;
pub(crate) mod pool;
mod route;
pub(crate) mod scenario;
mod server;
mod sight;
mod source;
mod upstream;

/// Seed unless one is written: any fixed number does, so that two runs of one file choose alike.
const SEED: u64 = 1;

/// The whole configuration; what is missing or wrong has its default.
pub(crate) fn settings(root: &Section<'_>) -> Settings {
    // Inside a scenario the scenario's own file says what it is.
    let version = if root.path().is_empty() { root.required("version", "1") } else { root.item("version") };
    if let Some(version) = version
        && version.whole(0..=u64::MAX).is_some_and(|number| number != 1)
    {
        version.error(
            Says::new("is a version of the format that this release does not know")
                .help("write `version = 1`"),
        );
    }
    let server = server::server(&root.section("server"));
    let admin = server::admin(&root.section("admin"), &server.listeners);
    let agent_check = server::agent_check(&root.section("agent_check"));
    let gossip = gossip::gossip(&root.section("gossip"));
    let access_log = server::access_log(&root.section("access_log"));
    let learning = learning::learning(&root.section("learning"));
    let events = root.sections("events").iter().map(learning::event).collect();
    let seed = root.item("seed").and_then(|item| item.whole(0..=u64::MAX)).unwrap_or(SEED);

    let pools_table = root.section("pools");
    let pools = pool::pools(&pools_table);
    let route_tables = root.sections("routes");
    let routes = route_tables.iter().map(|table| route::route(table, &pools)).collect();

    let settings = Settings {
        server,
        admin,
        agent_check,
        gossip,
        access_log,
        routing: RoutingSettings { routes, pools, events, learning, seed },
    };
    check::whole(&settings, root, &pools_table, &route_tables);
    root.close();
    settings
}
