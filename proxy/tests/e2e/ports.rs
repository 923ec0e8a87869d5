//! Ports for what cannot take port 0: below the system's ephemeral range, so that no outgoing connection is in the way.

use std::net::TcpListener;
use std::sync::Mutex;

const FIRST: u16 = 11_000;
const LAST: u16 = 20_000;

/// So many neighbouring free ports, given to nobody else in this process; answers with the first.
pub(crate) fn neighbours(count: u16) -> u16 {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().expect("finding ports does not panic");
    // Two runs at once on one machine begin at different places.
    let mut first = next.unwrap_or(FIRST + (std::process::id() % 400) as u16 * 20);
    for _ in 0..2 * (LAST - FIRST) {
        if first + count > LAST {
            first = FIRST;
        }
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            *next = Some(first + count);
            return first;
        }
        first += 1;
    }
    panic!("no {count} free ports in {FIRST}-{LAST}");
}
