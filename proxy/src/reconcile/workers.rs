//! Threads for what takes long: fitting forecasts, training models, saving learned state.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use foretide_predictor::cost::codec::LearnedCosts;
use foretide_routing::control::io::{FitJob, TrainJob};

use crate::reconcile::Command;
use crate::store::learned;

/// Forecasts waiting: one per series and refit; more means the forecaster cannot keep up.
const FIT_QUEUE: usize = 256;

/// Starts the forecaster. It ends when its sender is dropped.
pub fn forecaster(answers: SyncSender<Command>) -> std::io::Result<SyncSender<Box<FitJob>>> {
    let (sender, jobs) = sync_channel::<Box<FitJob>>(FIT_QUEUE);
    thread::Builder::new().name("forecaster".into()).spawn(move || {
        for job in jobs {
            if answers.send(Command::Input(job.run())).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}

/// Starts the trainer. It ends when its sender is dropped.
pub fn trainer(answers: SyncSender<Command>) -> std::io::Result<SyncSender<Box<TrainJob>>> {
    let (sender, jobs) = sync_channel::<Box<TrainJob>>(1);
    thread::Builder::new().name("trainer".into()).spawn(move || {
        // Linux counts niceness per thread: requests come before training wherever cores are short.
        if let Err(error) = rustix::process::nice(10) {
            tracing::debug!(%error, "trainer runs at normal priority");
        }
        for job in jobs {
            if answers.send(Command::Input(job.run())).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}

/// Starts the thread that saves learned state to `dir`.
pub fn saver(dir: PathBuf) -> std::io::Result<(SyncSender<LearnedCosts>, thread::JoinHandle<()>)> {
    let (sender, jobs) = sync_channel::<LearnedCosts>(1);
    let handle = thread::Builder::new().name("saver".into()).spawn(move || {
        for state in jobs {
            if let Err(error) = learned::save(&dir, &state) {
                metrics::counter!("foretide_state_save_failures_total").increment(1);
                tracing::error!(%error, dir = %dir.display(), "learned state not saved; it stays in memory");
            }
        }
    })?;
    Ok((sender, handle))
}
