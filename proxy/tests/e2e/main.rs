//! The real binary, end to end on loopback: what users, operators and their tools meet. One test binary, so that it is
//! linked once.
//!
//! Every test starts what it needs on ports of its own and takes it down again, also when it fails. Nothing here judges
//! speed; waiting is bounded and generous, so that a busy machine is slow and not red. Tests under load take turns.

mod backtest;
mod browser;
mod cli;
mod client;
mod demo;
mod drain;
mod drills;
mod foretide;
mod gossip;
mod haproxy;
mod init;
mod k6;
mod load;
mod load_reports;
mod models;
mod orphans;
mod outside_tool;
mod ports;
mod producer;
mod producer_death;
mod reload;
mod replay;
mod restart;
mod simulate;
mod surfaces;
mod turn;
