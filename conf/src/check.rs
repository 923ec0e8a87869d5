//! What only shows when the whole file is known: names that collide, ports that do, routes that take nothing.

use std::collections::BTreeMap;

use foretide_routing::settings::{ConsumerSource, RouteMatch};

use crate::document::{Says, Section};
use crate::settings::Settings;
use crate::template::PathShape;

/// Ids of routes are 16 bits wide.
const MOST_ROUTES: usize = 65_535;

/// Checks across tables. `routes` are the tables that `settings.routing.routes` were read from, in the same order.
pub(crate) fn whole(settings: &Settings, root: &Section<'_>, pools: &Section<'_>, routes: &[Section<'_>]) {
    if !pools.is_written() {
        root.error(
            Says::new("there is no pool").help("add a [pools.NAME] table with `endpoints` or a `manager`"),
        );
    }
    if routes.is_empty() {
        root.error(Says::new("there is no route").help("add a [[routes]] table with `pool = \"NAME\"`"));
    } else if routes.len() > MOST_ROUTES {
        root.error(Says::new(format!("more than {MOST_ROUTES} routes")).help("merge some by `path_prefix`"));
    }
    names(settings, routes);
    shadows(settings, routes);
    client_certificates(settings, routes);
    used_pools(settings, pools);
    ports(settings, pools);
}

fn names(settings: &Settings, routes: &[Section<'_>]) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, route) in settings.routing.routes.iter().enumerate() {
        if let Some(first) = seen.insert(&route.name, at) {
            let says =
                Says::new(format!("a second route named \"{}\" (the first is routes[{first}])", route.name));
            routes[at].error(says.help("give each route a `name` of its own"));
        }
    }
}

/// An earlier route that takes everything a later one could take. Compared with the nearest 1,000 only, so that a
/// file of many thousand routes is still read at once.
fn shadows(settings: &Settings, routes: &[Section<'_>]) {
    let all: Vec<(&RouteMatch, PathShape)> =
        settings.routing.routes.iter().map(|route| (&route.matches, shape(&route.matches))).collect();
    for (at, (later, later_shape)) in all.iter().enumerate() {
        let near = at.saturating_sub(1000);
        let covering = all[near..at].iter().position(|(earlier, earlier_shape)| {
            host_covers(earlier.host.as_deref(), later.host.as_deref())
                && methods_cover(&earlier.methods, &later.methods)
                && earlier_shape.covers(later_shape)
        });
        if let Some(offset) = covering {
            let name = &settings.routing.routes[near + offset].name;
            routes[at].warn(
                Says::new(format!("never gets a request: route \"{name}\" before it takes all of them"))
                    .help("put the narrower route first"),
            );
        }
    }
}

fn shape(matches: &RouteMatch) -> PathShape {
    match &matches.path_template {
        Some(template) => PathShape::template(template),
        None => PathShape::prefix(matches.path_prefix.as_deref()),
    }
}

fn host_covers(earlier: Option<&str>, later: Option<&str>) -> bool {
    match (earlier, later) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earlier), Some(later)) => {
            let below = earlier.strip_prefix('*').is_some_and(|suffix| later.ends_with(suffix));
            earlier == later || below
        }
    }
}

fn methods_cover(earlier: &[String], later: &[String]) -> bool {
    earlier.is_empty() || (!later.is_empty() && later.iter().all(|method| earlier.contains(method)))
}

fn client_certificates(settings: &Settings, routes: &[Section<'_>]) {
    let asked = settings
        .server
        .listeners
        .iter()
        .any(|one| one.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()));
    for (route, table) in settings.routing.routes.iter().zip(routes) {
        if !asked && route.consumer.contains(&ConsumerSource::MtlsSubject) {
            table.warn(
                Says::new("consumer \"mtls\" is never known: no listener asks clients for a certificate")
                    .help("add `client_ca` to a [[server.tls]] table"),
            );
        }
    }
}

fn used_pools(settings: &Settings, pools: &Section<'_>) {
    for (name, item) in pools.named() {
        if !settings.routing.routes.is_empty()
            && !settings.routing.routes.iter().any(|route| route.pool == name)
        {
            item.warn(Says::new("no route names this pool").help("remove it or add a route to it"));
        }
    }
}

/// A port for two purposes. Managed instances and this process share the machine.
fn ports(settings: &Settings, pools: &Section<'_>) {
    let own: Vec<(u16, String)> = settings
        .server
        .listeners
        .iter()
        .map(|listener| (listener.address, "server.listen"))
        .chain(settings.admin.address.map(|address| (address, "admin.listen")))
        .chain(settings.agent_check.map(|address| (address, "agent_check.listen")))
        .filter(|(address, _)| address.port() != 0)
        .map(|(address, key)| (address.port(), format!("`{key}` ({address})")))
        .collect();
    let named = pools.named();
    let managed = settings.routing.pools.iter().filter_map(|pool| Some((pool, pool.manager.as_ref()?.ports)));
    let mut taken: Vec<(&str, (u16, u16))> = Vec::new();
    for (pool, (first, last)) in managed {
        let Some((_, item)) = named.iter().find(|(name, _)| *name == pool.name) else { continue };
        let clash = own.iter().find(|(port, _)| (first..=last).contains(port));
        let other = taken.iter().find(|(_, (from, to))| first <= *to && *from <= last);
        let help = "choose a range that nothing else uses: `manager.ports = \"9200-9299\"`";
        if let Some((_, whose)) = clash {
            item.error(
                Says::new(format!("ports {first}-{last} of its manager include that of {whose}")).help(help),
            );
        }
        if let Some((name, _)) = other {
            item.error(
                Says::new(format!("ports {first}-{last} of its manager overlap those of pool \"{name}\""))
                    .help(help),
            );
        }
        taken.push((&pool.name, (first, last)));
    }
    for pool in &settings.routing.pools {
        let Some((_, item)) = named.iter().find(|(name, _)| *name == pool.name) else { continue };
        for listener in &settings.server.listeners {
            let address = listener.address.to_string();
            if pool.endpoints.iter().any(|endpoint| endpoint.address == address) {
                item.error(
                    Says::new(format!("the endpoint {address} is this proxy itself")).help("remove it"),
                );
            }
        }
    }
}
