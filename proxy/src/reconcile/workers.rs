//! Threads for what takes long: fitting forecasts, training models, saving learned state.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use foretide_control::io::{FitJob, Input, TrainJob};
use foretide_predictor::cost::codec::LearnedCosts;
use foretide_workbench::versions::{self, Decision};

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

/// Starts the trainer, which notes in `dir` what became of each model. It ends when its sender is dropped.
pub fn trainer(answers: SyncSender<Command>, dir: PathBuf) -> std::io::Result<SyncSender<Box<TrainJob>>> {
    let (sender, jobs) = sync_channel::<Box<TrainJob>>(1);
    thread::Builder::new().name("trainer".into()).spawn(move || {
        // Linux counts niceness per thread: requests come before training wherever cores are short.
        if let Err(error) = rustix::process::nice(10) {
            tracing::debug!(%error, "trainer runs at normal priority");
        }
        for job in jobs {
            let (at_us, version) = (job.now.as_us(), job.version);
            let trained = job.run();
            note(&dir, at_us, version, &trained);
            if answers.send(Command::Input(trained)).is_err() {
                return;
            }
        }
    })?;
    Ok(sender)
}

/// Notes whether the challenger took over; a note that cannot be written is only missing.
fn note(dir: &Path, at_us: u64, version: u64, trained: &Input) {
    let Input::Trained { result } = trained else { return };
    let what = match result {
        Ok(model) => format!(
            "the challenger took over: log-RMSE {:.3}, key mean {:.3}",
            model.card().log_rmse,
            model.card().key_mean_log_rmse
        ),
        Err(why) => format!("the challenger was refused: {why}"),
    };
    if let Err(error) = versions::decided(dir, &Decision { at_us, version: Some(version), what }) {
        tracing::debug!(%error, "decision about a model not noted");
    }
}

/// Starts the thread that saves learned state to `dir`, and each model that served beside it.
pub fn saver(dir: PathBuf) -> std::io::Result<(SyncSender<LearnedCosts>, thread::JoinHandle<()>)> {
    let (sender, jobs) = sync_channel::<LearnedCosts>(1);
    let handle = thread::Builder::new().name("saver".into()).spawn(move || {
        let mut kept = None;
        for state in jobs {
            let newest = state.model.as_ref().map(|model| (model.card().version, model.card().trained_at_us));
            if let Some(model) = state.model.as_ref().filter(|_| newest != kept) {
                match versions::keep(&dir, model) {
                    Ok(()) => kept = newest,
                    Err(error) => {
                        tracing::warn!(%error, dir = %dir.display(), "model not kept for a rollback")
                    }
                }
            }
            if let Err(error) = learned::save(&dir, &state) {
                metrics::counter!("foretide_state_save_failures_total").increment(1);
                tracing::error!(%error, dir = %dir.display(), "learned state not saved; it stays in memory");
            }
        }
    })?;
    Ok((sender, handle))
}
