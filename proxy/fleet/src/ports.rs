//! Which local port a new producer gets.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

/// Ports given to producers of this process. The next search starts after the last port given, so that a port just let
/// go rests as long as possible: late checks and pooled connections of its last holder die out first.
#[derive(Debug, Default)]
pub struct Ports {
    given: BTreeSet<u16>,
    last: Option<u16>,
}

impl Ports {
    /// A port in `first..=last` that this process has not given and nobody listens on; `None` if there is none.
    /// Another process may still take it before the producer does: then that start fails and says so, or, if the
    /// other answers the readiness probe first, ends as `Exited` moments later. Give each Foretide a range of its own.
    pub fn take(&mut self, (first, last): (u16, u16)) -> Option<u16> {
        let after = self.last.filter(|port| (first..last).contains(port)).map_or(first, |port| port + 1);
        let port =
            (after..=last).chain(first..after).find(|&port| !self.given.contains(&port) && is_free(port))?;
        self.given.insert(port);
        self.last = Some(port);
        Some(port)
    }

    /// The producer is gone.
    pub fn give_back(&mut self, port: u16) {
        self.given.remove(&port);
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_or_given_is_skipped_and_one_given_back_rests() {
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = busy.local_addr().unwrap().port();
        assert_eq!(Ports::default().take((taken, taken)), None);

        // Ports of the system's ephemeral range may be in use: find three free neighbours first.
        let first = (21_000..31_000).find(|&port| (port..port + 3).all(is_free)).unwrap();
        let range = (first, first + 2);
        let mut ports = Ports::default();
        assert_eq!(ports.take(range), Some(first));
        ports.give_back(first);
        assert_eq!(ports.take(range), Some(first + 1));
        assert_eq!(ports.take(range), Some(first + 2));
        assert_eq!(ports.take(range), Some(first));
        assert_eq!(ports.take(range), None);
    }
}
