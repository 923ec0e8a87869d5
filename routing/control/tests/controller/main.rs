//! The controller through its public API, in a small fake world.
mod chaos;
mod fleet;
mod health;
mod hearsay;
mod learning;
mod refusals;
mod reload;
mod skill;
mod world;
