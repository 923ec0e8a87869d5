//! Requests to switch protocols (WebSocket), until Pingora passes on all of them.
//!
//! Pingora 0.9 queues the end of such a request's empty body behind its head. If the instance's `101` is read before that
//! end is, it takes it for the end of the tunnel and closes both sides (cloudflare/pingora#946). That happens where the
//! instance is near and the processor busy: 15 of 3,000 tunnels on loopback with all cores taken.
//!
//! So the head stays in its socket until the end has been read; an instance cannot answer what it has not got. The task
//! that reads the end is the one that wrote the head, hence [`watch::hold_back`]. It needs the socket, which Pingora shows
//! only while it connects. So these requests do not share kept connections, which a tunnel would use up anyway.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{ErrorType, OrErr};
use pingora_proxy::Session;

use crate::watch;

/// Kept connections of other requests are in group 0.
const GROUP: u64 = 1;

/// The socket that leads to the instance, once there is one.
#[derive(Debug, Default)]
pub struct Upgrade {
    socket: Arc<Mutex<Option<OwnedFd>>>,
}

impl Upgrade {
    /// For a request to switch protocols, and none other.
    pub fn asked(session: &mut Session, peer: &mut HttpPeer) -> Option<Upgrade> {
        if !session.is_upgrade_req() || !session.as_mut().is_body_empty() {
            return None;
        }
        let upgrade = Upgrade::default();
        let kept = upgrade.socket.clone();
        peer.group_key = GROUP;
        // An instance that refuses to switch leaves a connection that nobody here would take.
        peer.options.idle_timeout = Some(Duration::ZERO);
        peer.options.upstream_tcp_sock_tweak_hook = Some(Arc::new(move |socket| {
            let socket = socket.as_fd().try_clone_to_owned();
            *kept.lock() = Some(socket.or_err(ErrorType::SocketError, "a second handle of a socket")?);
            Ok(())
        }));
        Some(upgrade)
    }

    /// From here on, what is written stays here until the end of the body was read.
    pub fn connected(&self) {
        if let Some(socket) = self.socket.lock().take() {
            watch::hold_back(socket);
        }
    }
}
