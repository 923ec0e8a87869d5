//! The engine, driven through real sockets on loopback.

mod admission;
mod client;
mod drain;
mod failures;
mod forwarding;
mod hedge;
mod instance;
mod limits;
mod load_reports;
mod log;
mod metrics;
mod queue;
mod sight;
mod tls;
mod tls_upstream;
mod websocket;
mod wishes;
mod world;
