//! `[pools.NAME.sight]`: what other proxies have in flight on a pool's instances.

use std::time::Duration;

use foretide_routing::settings::{Policy, SightSettings};

use crate::document::{Says, Section};
use crate::item::Item;
use crate::settings::LOAD_PATH;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Nobody is asked, and no answer read for it, unless the table is written.
pub(super) fn sight(section: &Section<'_>, policy: Policy) -> Option<SightSettings> {
    let duration = |key| section.item(key).and_then(|item: Item<'_>| item.duration(MS..=60 * SECOND));
    let probes_item = section.item("probes");
    let probes = probes_item.as_ref().and_then(|item| item.count(0..=3)).unwrap_or(2);
    if let (Some(item), 0) = (&probes_item, probes) {
        item.warn(
            Says::new("answers alone come late from a slow instance, just when it is worth knowing")
                .help("ask one or two instances beside each request, unless instances cannot be asked"),
        );
    }
    let path = section.item("path");
    if let Some(item) = &path
        && item.as_str().is_some_and(|path| !path.starts_with('/'))
    {
        item.error(Says::new("is not a path").help(format!("it starts with a slash, like \"{LOAD_PATH}\"")));
    }
    let settings = SightSettings {
        probes,
        path: path.and_then(|item| item.text()).unwrap_or(LOAD_PATH).to_owned(),
        // In one data centre an answer takes less than a millisecond; a hundred times that is old news.
        timeout: duration("timeout").unwrap_or(100 * MS),
        max_age: duration("max_age").unwrap_or(SECOND),
    };
    let written = section.is_written();
    if written && policy != Policy::Predictive {
        section.warn(
            Says::new("has no effect: this policy looks at its own requests only")
                .help("use `policy = \"predictive\"` or remove the table"),
        );
    }
    section.close();
    written.then_some(settings)
}
