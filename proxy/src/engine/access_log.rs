//! The access log: written by a thread of its own from a bounded queue, so that a slow disk costs lines, not requests.
//!
//! The writer looks at the queue every [`LOOK_EVERY`] and is woken early only when the queue is half full: waking it
//! for every line would be a system call a request. It follows the settings: another path or format takes effect at
//! the next look, and a file that was moved away is opened anew.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use foretide_conf::settings::{AccessLogSettings, Settings};

use crate::engine::EngineError;
use crate::engine::access_line::Line;
use crate::engine::stats::EngineStats;

/// Lines waiting at most: some 100 ms at 40,000 requests a second, 2 MiB.
const QUEUE: usize = 4096;
/// How long a line may wait.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often the writer looks whether its file was moved away.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// The hot path's end.
pub(super) struct LogQueue {
    lines: ArrayQueue<Line>,
    enabled: AtomicBool,
    stopped: AtomicBool,
    writer: OnceLock<Thread>,
    stats: Arc<EngineStats>,
}

impl LogQueue {
    /// Whether anyone wants lines.
    pub(super) fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Leaves a line; `false`: dropped and counted.
    pub(super) fn push(&self, line: Line) -> bool {
        let fits = self.lines.push(line).is_ok();
        if !fits {
            self.stats.line_dropped();
        }
        if self.lines.len() == QUEUE / 2
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
        fits
    }
}

/// The writer's thread.
pub(super) struct LogWriter {
    queue: Arc<LogQueue>,
    thread: JoinHandle<()>,
}

impl LogWriter {
    /// Opens the log of the current settings, if any, and starts writing.
    pub(super) fn start(
        settings: Arc<ArcSwap<Settings>>,
        stats: Arc<EngineStats>,
    ) -> Result<LogWriter, EngineError> {
        let sink = match settings.load().access_log.clone() {
            Some(wanted) => Some(Sink::open(wanted.clone()).map_err(|source| EngineError::AccessLog {
                path: wanted.path.unwrap_or_else(|| "standard output".into()),
                source,
            })?),
            None => None,
        };
        let queue = Arc::new(LogQueue {
            lines: ArrayQueue::new(QUEUE),
            enabled: AtomicBool::new(sink.is_some()),
            stopped: AtomicBool::new(false),
            writer: OnceLock::new(),
            stats,
        });
        let writing = queue.clone();
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(&writing, &settings, sink))
            .map_err(EngineError::Threads)?;
        let _ = queue.writer.set(thread.thread().clone());
        Ok(LogWriter { queue, thread })
    }

    pub(super) fn queue(&self) -> Arc<LogQueue> {
        self.queue.clone()
    }

    /// Writes what is left and ends the thread.
    pub(super) fn finish(self) {
        self.queue.stopped.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // Its panic, if any, has been printed; there is nothing left to save.
        let _ = self.thread.join();
    }
}

fn write_lines(queue: &LogQueue, settings: &ArcSwap<Settings>, mut sink: Option<Sink>) {
    let mut looked = Instant::now();
    loop {
        let last = queue.stopped.load(Ordering::Acquire);
        follow(&settings.load().access_log, &mut sink);
        if looked.elapsed() >= REOPEN_EVERY {
            looked = Instant::now();
            if let Some(sink) = &mut sink {
                sink.reopen_if_moved();
            }
        }
        queue.enabled.store(sink.is_some(), Ordering::Relaxed);
        write_waiting(queue, sink.as_mut());
        if last {
            return;
        }
        thread::park_timeout(LOOK_EVERY);
    }
}

/// Opens another log when the settings name one; the old one stays when that fails.
fn follow(wanted: &Option<AccessLogSettings>, sink: &mut Option<Sink>) {
    match wanted {
        None => *sink = None,
        Some(wanted) if sink.as_ref().is_some_and(|sink| sink.asked == *wanted) => {}
        Some(wanted) => match Sink::open(wanted.clone()) {
            Ok(opened) => *sink = Some(opened),
            Err(error) => {
                tracing::error!(path = ?wanted.path, %error, "cannot open the access log, keeping the old one");
                if let Some(sink) = sink {
                    sink.asked = wanted.clone();
                }
            }
        },
    }
}

fn write_waiting(queue: &LogQueue, sink: Option<&mut Sink>) {
    let Some(sink) = sink else {
        while queue.lines.pop().is_some() {}
        return;
    };
    while let Some(line) = queue.lines.pop() {
        line.write(sink.format, &mut sink.buffer);
        if sink.buffer.len() > 64 * 1024 {
            sink.flush();
        }
    }
    sink.flush();
}

/// An open log.
struct Sink {
    /// The settings it was opened for; after a failure those that failed, so that each is tried once.
    asked: AccessLogSettings,
    format: foretide_conf::settings::AccessLogFormat,
    file: Option<File>,
    buffer: Vec<u8>,
    failing: bool,
}

impl Sink {
    fn open(asked: AccessLogSettings) -> io::Result<Sink> {
        let file = asked.path.as_deref().map(append_to).transpose()?;
        Ok(Sink { format: asked.format, asked, file, buffer: Vec::with_capacity(80 * 1024), failing: false })
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let written = match &mut self.file {
            Some(file) => file.write_all(&self.buffer),
            None => io::stdout().lock().write_all(&self.buffer),
        };
        self.buffer.clear();
        if let Err(error) = &written
            && !self.failing
        {
            tracing::error!(path = ?self.asked.path, %error, "cannot write the access log");
        }
        self.failing = written.is_err();
    }

    /// After a rotation by renaming the path names another file, or none.
    fn reopen_if_moved(&mut self) {
        let (Some(path), Some(file)) = (&self.asked.path, &self.file) else { return };
        let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let ours = file.metadata().map(identity).ok();
        if std::fs::metadata(path).map(identity).ok() != ours
            && let Ok(opened) = append_to(path)
        {
            self.file = Some(opened);
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
