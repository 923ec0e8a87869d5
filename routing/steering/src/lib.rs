//! Steering in closed form: what a balancer must know and work out to place one request, without tables, threads or
//! sockets. Production's selector and the laboratory call the same functions.
//!
//! | module | decides |
//! |---|---|
//! | [`buckets`] | how work in flight is kept, and what it means to a newcomer |
//! | [`score`] | what a request costs on an instance, under processor sharing and in a worker pool |
//! | [`four`] | the same for four instances at once |
//! | [`serving`] | which of the two fits a pool |
//! | [`speed`] | how fast an instance is, and how far that is believed |
//! | [`sight`] | what *others* have in flight there, and how that ages |
//! | [`wire`] | how an instance says so in a response header |
//! | [`gate`], [`calibration`] | how much a prediction counts, and what the hot path reads of that |
//! | [`queue`] | who waits in the proxy, and who goes next |
//! | [`admission`] | who is refused when there is too much |
//! | [`prequal`], [`c3`] | published policies to compare with |
//!
//! Time and chance come in as parameters; nothing here allocates after it was made.

pub mod admission;
pub mod buckets;
pub mod c3;
pub mod calibration;
pub mod four;
pub mod gate;
pub mod prequal;
pub mod queue;
pub mod score;
pub mod serving;
pub mod sight;
pub mod speed;
pub mod wire;
