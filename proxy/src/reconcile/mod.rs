//! Drives the controller in real time: feeds it what happened, gives it ticks, has its effects carried out.
//!
//! One thread. It never waits for a disk, a model or a process: whatever may take long is handed to a worker or an
//! adapter through a bounded channel, and the answer comes back as a [`Command`]. A tick that outlives its budget is
//! abandoned between two stages, counted and said; the next one starts from what is true then.

pub mod hands;
pub mod workers;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use foretide_control::controller::Controller;
use foretide_control::io::Input;
use foretide_control::report::{RoutingDecisionReport, ScalingDecisionReport};
use foretide_predictor::cost::codec::LearnedCosts;
use foretide_routing::observe::Observation;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::reconcile::hands::Hands;
use crate::ring::{ObservationRing, RefusalRing};

/// A tick that takes longer is abandoned: a tenth of the time between two ticks is 10 ms, and five of those late in a
/// row would be half a second of blindness.
const TICK_BUDGET: Duration = Duration::from_millis(50);
/// Learned state is saved this often; a crash loses at most so much learning.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// Observations taken between two looks at the other inputs, so that a flood of one cannot starve the other.
const OBSERVATIONS_AT_ONCE: usize = 8_192;
/// The same of requests that were not let in.
const REFUSALS_AT_ONCE: usize = 2_048;
/// Commands waiting for the loop; senders that find it full drop and count (adapters) or wait (operators).
pub const COMMAND_QUEUE: usize = 4_096;

/// What the loop is told from outside.
#[derive(Debug)]
pub enum Command {
    /// Something for the controller.
    Input(Input),
    /// A routing decision by id.
    RoutingDecision(u64, oneshot::Sender<Option<RoutingDecisionReport>>),
    /// A scaling decision by id.
    ScalingDecision(u64, oneshot::Sender<Option<ScalingDecisionReport>>),
    /// Save what was learned and end.
    Stop,
}

/// Where a copy of every observation goes (the demo records its own run).
pub type Tap = Box<dyn FnMut(&Observation) + Send>;

/// The loop with all it holds.
pub struct Reconciler {
    /// Decides.
    pub controller: Controller,
    /// Tells the time.
    pub clock: Clock,
    /// Brings finished requests.
    pub ring: Arc<ObservationRing>,
    /// Brings those that were not let in.
    pub refusals: Arc<RefusalRing>,
    /// Brings everything else.
    pub commands: Receiver<Command>,
    /// Carries out effects.
    pub hands: Hands,
    /// Learned state goes there to be saved.
    pub saver: SyncSender<LearnedCosts>,
    /// Sees every observation.
    pub tap: Option<Tap>,
}

impl Reconciler {
    /// Runs until [`Command::Stop`], or until nobody can send commands any more.
    pub fn run(mut self) {
        let mut saved_at = Instant::now();
        let mut running = true;
        while running {
            self.perform_effects();
            running = self.take_commands();
            self.take_observations();
            if self.clock.now() >= self.controller.due() {
                self.tick();
            }
            if saved_at.elapsed() >= SAVE_EVERY {
                saved_at = Instant::now();
                self.save();
            }
        }
        self.take_observations();
        // The last save may wait: nothing else is left to do.
        drop(self.saver.send(self.controller.learned()));
    }

    /// Waits for commands until the next tick is due; false: it is time to end.
    fn take_commands(&mut self) -> bool {
        let wait = self.controller.due().since(self.clock.now());
        let mut next = match self.commands.recv_timeout(wait) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        let mut left = COMMAND_QUEUE;
        while let Some(command) = next {
            if !self.take(command) {
                return false;
            }
            left -= 1;
            next = if left > 0 { self.commands.try_recv().ok() } else { None };
        }
        true
    }

    fn take(&mut self, command: Command) -> bool {
        match command {
            Command::Input(input) => self.controller.handle(self.clock.now(), input),
            // A caller that no longer waits for its answer is no error.
            Command::RoutingDecision(id, reply) => drop(reply.send(self.controller.routing_decision(id))),
            Command::ScalingDecision(id, reply) => drop(reply.send(self.controller.scaling_decision(id))),
            Command::Stop => return false,
        }
        true
    }

    fn take_observations(&mut self) {
        for _ in 0..REFUSALS_AT_ONCE {
            let Some(refusal) = self.refusals.pop() else { break };
            self.controller.handle(self.clock.now(), Input::Refused(Box::new(refusal)));
        }
        for _ in 0..OBSERVATIONS_AT_ONCE {
            let Some(observation) = self.ring.pop() else { return };
            if let Some(tap) = &mut self.tap {
                tap(&observation);
            }
            self.controller.handle(self.clock.now(), Input::Observed(Box::new(observation)));
        }
    }

    fn tick(&mut self) {
        let began = Instant::now();
        self.controller.begin_tick(self.clock.now());
        while self.controller.step() {
            if began.elapsed() > TICK_BUDGET {
                metrics::counter!("foretide_ticks_abandoned_total").increment(1);
                tracing::warn!(
                    took_ms = began.elapsed().as_millis() as u64,
                    "tick abandoned: it outlived its budget"
                );
                break;
            }
        }
        metrics::histogram!("foretide_tick_duration_seconds").record(began.elapsed().as_secs_f64());
    }

    fn perform_effects(&mut self) {
        while let Some(effect) = self.controller.next_effect() {
            self.hands.perform(effect);
        }
    }

    fn save(&mut self) {
        // A saver still busy with the last copy skips this one; the next is never far.
        if self.saver.try_send(self.controller.learned()).is_err() {
            tracing::debug!("saving learned state skipped: the last save is still under way");
        }
    }
}
