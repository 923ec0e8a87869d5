//! What Pingora does not watch over by itself: how long a connection may last, and that tunnels hold.

pub mod upgrade;
pub mod watch;
