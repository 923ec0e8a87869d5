//! New configuration without a restart: read, check, swap; the last good one stays whenever anything is wrong.
//!
//! Three ways in: SIGHUP, `POST /api/v1/reload`, and a change in the file's *directory*. The directory is watched,
//! never the file: Kubernetes swaps a symlink beside it, and a watch on the file sees only the first swap.

use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use foretide_conf::finding::{self, Finding, Severity};
use foretide_conf::settings::Settings;
use foretide_conf::{change, parse};
use foretide_control::io::Input;
use notify::RecursiveMode;
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};

use crate::engine;
use crate::reconcile::Command;

/// Editors and ConfigMap swaps touch several files within milliseconds.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Where a configuration came from.
#[derive(Clone, Debug)]
pub enum ConfigFile {
    /// A file, as the user named it.
    Path(PathBuf),
    /// Text that is part of the program (the demo's).
    Embedded(String),
}

/// A configuration that was read and found good, with its text.
pub struct Loaded {
    /// Checked settings.
    pub settings: Settings,
    /// What they were read from.
    pub text: String,
    /// Warnings.
    pub warnings: Vec<Finding>,
}

impl ConfigFile {
    /// Its text as it is now.
    pub fn read(&self) -> anyhow::Result<String> {
        match self {
            Self::Embedded(text) => Ok(text.clone()),
            Self::Path(path) => std::fs::read_to_string(path).with_context(|| {
                format!(
                    "cannot read {}; `foretide init` writes a configuration to start from",
                    path.display()
                )
            }),
        }
    }

    /// The name that findings carry.
    pub fn name(&self) -> String {
        match self {
            Self::Embedded(_) => "embedded".to_owned(),
            Self::Path(path) => path.display().to_string(),
        }
    }

    /// Reads and checks. The error holds every finding, rendered.
    pub fn load(&self) -> anyhow::Result<Loaded> {
        let (name, text) = (self.name(), self.read()?);
        match parse::parse(&name, &text) {
            Ok((settings, warnings)) => Ok(Loaded { settings, text, warnings }),
            Err(findings) => Err(anyhow::anyhow!("{}", finding::render(&findings, &text))),
        }
    }

    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Embedded(_) => None,
            Self::Path(path) => path
                .parent()
                .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent }),
        }
    }
}

/// Applies new configuration to a running Foretide.
pub struct Reloader {
    file: ConfigFile,
    settings: Arc<ArcSwap<Settings>>,
    text: Arc<ArcSwap<String>>,
    control: SyncSender<Command>,
    /// Text of the last attempt, good or bad: what has failed once is not tried again until it changes.
    attempted: Mutex<String>,
}

impl Reloader {
    /// For settings that were just started with.
    pub fn new(file: ConfigFile, settings: Arc<ArcSwap<Settings>>, control: SyncSender<Command>) -> Self {
        let text = file.load().map(|loaded| loaded.text).unwrap_or_default();
        foretide_admin::metrics::config_reloaded(true);
        Self {
            file,
            settings,
            text: Arc::new(ArcSwap::from_pointee(text.clone())),
            control,
            attempted: Mutex::new(text),
        }
    }

    /// Settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Text of the configuration in force.
    pub fn text(&self) -> Arc<ArcSwap<String>> {
        Arc::clone(&self.text)
    }

    /// Reads, checks and swaps. Answers with what needs a restart; the error is ready to be shown.
    pub fn reload(&self) -> Result<Vec<String>, String> {
        let mut attempted = self.attempted.lock().unwrap_or_else(PoisonError::into_inner);
        *attempted = self.file.read().unwrap_or_default();
        let outcome = self.file.load().map_err(|error| format!("{error:#}")).and_then(|new| self.apply(new));
        foretide_admin::metrics::config_reloaded(outcome.is_ok());
        match &outcome {
            Ok(later) if later.is_empty() => tracing::info!("configuration reloaded"),
            Ok(later) => {
                tracing::warn!(keys = later.join(", "), "reloaded, but these keys wait for a restart")
            }
            Err(error) => tracing::error!("configuration not reloaded, the last good one stays:\n{error}"),
        }
        outcome
    }

    fn apply(&self, new: Loaded) -> Result<Vec<String>, String> {
        log_warnings(&new);
        engine::check(&new.settings).map_err(|error| error.to_string())?;
        let old = self.settings.load();
        let later = change::needs_restart(&old, &new.settings);
        let routing = Box::new(new.settings.routing.clone());
        self.control
            .send(Command::Input(Input::Settings(routing)))
            .map_err(|_| "the control loop has ended; this process is shutting down".to_owned())?;
        self.settings.store(Arc::new(new.settings));
        self.text.store(Arc::new(new.text));
        Ok(later.into_iter().map(str::to_owned).collect())
    }

    /// Reloads whenever the file's content changes, until the returned watcher is dropped.
    pub fn watch(self: &Arc<Self>) -> anyhow::Result<Option<Watcher>> {
        let Some(directory) = self.file.directory() else { return Ok(None) };
        let reloader = Arc::clone(self);
        let mut debouncer = new_debouncer(DEBOUNCE, None, move |result: DebounceEventResult| match result {
            Ok(_) => reloader.reload_if_changed(),
            Err(errors) => tracing::warn!(?errors, "watching the configuration's directory failed"),
        })?;
        debouncer
            .watch(directory, RecursiveMode::NonRecursive)
            .with_context(|| format!("cannot watch {}", directory.display()))?;
        Ok(Some(Watcher { _debouncer: debouncer }))
    }

    fn reload_if_changed(&self) {
        let ConfigFile::Path(path) = &self.file else { return };
        let attempted = self.attempted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match std::fs::read_to_string(path) {
            Ok(text) if text == attempted => {}
            // Unreadable for a moment while it is being swapped: the next event brings the new one.
            Err(error) => tracing::debug!(%error, "configuration not readable just now"),
            Ok(_) => drop(self.reload()),
        }
    }
}

/// Watches while it lives.
pub struct Watcher {
    _debouncer: Debouncer<notify::RecommendedWatcher, RecommendedCache>,
}

/// Says what runs but is probably not meant.
pub fn log_warnings(loaded: &Loaded) {
    for warning in loaded.warnings.iter().filter(|finding| finding.severity == Severity::Warning) {
        tracing::warn!("{}:{}:{}: {}", warning.file, warning.line, warning.column, warning.message);
    }
}
