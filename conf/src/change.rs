//! What a reload can change at once and what needs a restart.
//!
//! Sockets, worker threads and the open state directory live as long as the process. Everything else is in the routing
//! table or read from it, or carried over (history, statistics, sample), and changes with the next generation.

use crate::settings::Settings;

/// Keys that differ but need a restart to take effect, e.g. `server.listen`, as they are written in the file.
pub fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let differs = [
        ("server.listen", old.server.listeners != new.server.listeners),
        ("server.threads", old.server.threads != new.server.threads),
        ("server.state_dir", old.server.state_dir != new.server.state_dir),
        ("admin.listen", old.admin != new.admin),
        ("agent_check.listen", old.agent_check != new.agent_check),
        ("gossip", old.gossip != new.gossip),
    ];
    differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse::parse, shipped};

    #[test]
    fn only_what_lives_as_long_as_the_process_needs_a_restart() {
        let old = parse("init.toml", shipped::INIT).unwrap().0;
        let mut new = old.clone();
        new.routing.pools[0].concurrency += 1;
        new.routing.learning.step *= 2;
        new.routing.learning.key_cells *= 2;
        new.server.drain_timeout *= 2;
        assert!(needs_restart(&old, &new).is_empty());
        new.server.listeners[0].address.set_port(1);
        new.admin.address = None;
        let gossip = format!("{}\n[gossip]\nlisten = \"127.0.0.1:0\"\n", shipped::INIT);
        new.gossip = parse("init.toml", &gossip).unwrap().0.gossip;
        assert_eq!(needs_restart(&old, &new), ["server.listen", "admin.listen", "gossip"]);
    }
}
