//! The load history: what forecasts learn seasons from after a restart.
//!
//! Callers hand rows to a thread of its own through a bounded queue and never wait. The thread is in one of two states:
//!
//! * **writing**: every batch goes to the file in one transaction;
//! * **degraded**: the file cannot be written (disk full, read-only, gone). Rows wait in a bounded ring, the oldest fall
//!   out and are counted, and every few seconds the file is opened anew; when that works the ring is written first.
//!
//! A file that turns out to be damaged is set aside and a clean one started. Rows older than `keep` before the newest
//! row are forgotten: the data's own clock, so that a replay of old traffic is not deleted as it arrives.
//!
//! Known weakness: one row far in the future prunes everything before it; rows come from the proxy's own clock.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use foretide_control::io::LoadSample;
use foretide_predictor::time::Timestamp;

use super::sqlite::{HistoryFile, MAX_BATCH, is_damage};
use super::{Notice, StoreError};

/// Bounds of a history. The defaults suit a proxy with hundreds of instances at a step of a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Batches waiting for the writer. A batch comes once a step, so this is minutes of a hanging disk.
    pub queue_batches: usize,
    /// Rows kept in memory while the file cannot be written.
    pub ring_rows: usize,
    /// How often a degraded history tries the file again.
    pub retry_every: Duration,
    /// The file never grows beyond this.
    pub file_bytes: u64,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            queue_batches: 64,
            // 20 instances for two days at a step of a minute; about 8 MB.
            ring_rows: 65_536,
            retry_every: Duration::from_secs(5),
            // 100 instances by the minute for three months.
            file_bytes: 1 << 30,
        }
    }
}

/// How the history fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryStats {
    /// Rows written to the file.
    pub written: u64,
    /// Rows lost: the queue or the ring was full, or a number in them was not finite.
    pub dropped: u64,
    /// Whether rows wait in memory because the file cannot be written.
    pub degraded: bool,
}

/// Handle on the history; dropping it writes what is queued and ends the thread.
#[derive(Debug)]
pub struct History {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    dropped: AtomicU64,
    degraded: AtomicBool,
    notices: Mutex<Vec<Notice>>,
}

#[derive(Debug)]
enum Job {
    Append(Vec<LoadSample>),
    Read(Timestamp, SyncSender<Vec<LoadSample>>),
}

/// More unread notices than this say nothing new.
const MAX_NOTICES: usize = 32;

/// Pruning costs a scan of the index's start; once every so many batches is often enough.
const BATCHES_BETWEEN_PRUNES: u32 = 64;

impl History {
    /// Opens the history in `directory` (made if missing) with the default limits. What was found damaged, or that it
    /// starts degraded, is in the notices. Errors only when the system gives no thread.
    pub fn open(directory: &Path, keep: Duration) -> Result<(Self, Vec<Notice>), StoreError> {
        Self::open_with(directory, keep, HistoryLimits::default())
    }

    /// The same with limits of one's own.
    pub fn open_with(
        directory: &Path,
        keep: Duration,
        limits: HistoryLimits,
    ) -> Result<(Self, Vec<Notice>), StoreError> {
        let shared = Arc::new(Shared::default());
        let mut writer = Writer {
            directory: directory.to_owned(),
            keep,
            limits,
            file: None,
            ring: VecDeque::new(),
            newest: Timestamp::ZERO,
            batches_since_prune: BATCHES_BETWEEN_PRUNES,
            retry_at: Instant::now(),
            shared: Arc::clone(&shared),
        };
        writer.try_open(true);
        let (queue, jobs) = sync_channel(limits.queue_batches.max(1));
        let thread = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || writer.run(&jobs))
            .map_err(StoreError::Thread)?;
        let history = Self { queue: Some(queue), thread: Some(thread), shared };
        let notices = history.take_notices();
        Ok((history, notices))
    }

    /// Hands rows over; never waits. With a full queue they are dropped and counted.
    pub fn append(&self, rows: Vec<LoadSample>) {
        let count = rows.len() as u64;
        let Some(queue) = &self.queue else { return };
        match queue.try_send(Job::Append(rows)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.dropped.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// Rows from `since` on, oldest first, with those that were appended before this call. Waits for the disk: for the
    /// start and for tools, never on a tick. Unreadable rows are left out.
    pub fn read_since(&self, since: Timestamp) -> Vec<LoadSample> {
        let (reply, answer) = sync_channel(1);
        let Some(queue) = &self.queue else { return Vec::new() };
        if queue.send(Job::Read(since, reply)).is_err() {
            return Vec::new();
        }
        answer.recv().unwrap_or_default()
    }

    /// How it fares.
    pub fn stats(&self) -> HistoryStats {
        HistoryStats {
            written: self.shared.written.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            degraded: self.shared.degraded.load(Ordering::Relaxed),
        }
    }

    /// What happened since the last call, oldest first; at most 32 are kept.
    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.shared.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for History {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // It panicked: there is nothing left to save.
            let _ = thread.join();
        }
    }
}

struct Writer {
    directory: PathBuf,
    keep: Duration,
    limits: HistoryLimits,
    /// `None`: degraded.
    file: Option<HistoryFile>,
    /// Rows not in the file yet; between two batches only while degraded.
    ring: VecDeque<LoadSample>,
    newest: Timestamp,
    batches_since_prune: u32,
    /// While degraded: when to try the file again.
    retry_at: Instant,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let job = if self.file.is_some() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(self.retry_at.saturating_duration_since(Instant::now()))
            };
            match job {
                Ok(Job::Append(rows)) => self.append(rows),
                Ok(Job::Read(since, reply)) => {
                    // Whoever asked may be gone.
                    let _ = reply.try_send(self.read(since));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Not only on a timeout: rows may come more often than retries.
            if self.file.is_none() && Instant::now() >= self.retry_at {
                self.recover();
            }
        }
        if self.file.is_none() {
            self.recover();
        }
    }

    fn append(&mut self, mut rows: Vec<LoadSample>) {
        let offered = rows.len();
        rows.retain(|row| [row.work_rate, row.request_rate, row.in_flight].iter().all(|x| x.is_finite()));
        self.count_dropped(offered - rows.len());
        self.newest = rows.iter().map(|row| row.at).fold(self.newest, Timestamp::max);
        self.hold(rows);
        match self.write_waiting() {
            Ok(()) => self.prune_sometimes(),
            Err(error) => self.degrade(&error),
        }
    }

    /// Writes what waits in memory, batch by batch; what is written is gone from memory. Without a file nothing happens.
    fn write_waiting(&mut self) -> Result<(), rusqlite::Error> {
        let Some(file) = &mut self.file else { return Ok(()) };
        while !self.ring.is_empty() {
            let rows = self.ring.make_contiguous();
            let batch = rows.len().min(MAX_BATCH);
            file.insert(&rows[..batch])?;
            self.ring.drain(..batch);
            self.shared.written.fetch_add(batch as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The disk's rows and the waiting ones. The ring is newer than the file, so order holds but for late rows.
    fn read(&mut self, since: Timestamp) -> Vec<LoadSample> {
        let mut rows = match self.file.as_ref().map(|file| file.read(since)) {
            Some(Ok(rows)) => rows,
            Some(Err(error)) => {
                self.degrade(&error);
                Vec::new()
            }
            None => Vec::new(),
        };
        rows.extend(self.ring.iter().filter(|row| row.at >= since).cloned());
        rows.sort_by_key(|row| row.at);
        rows
    }

    fn hold(&mut self, rows: Vec<LoadSample>) {
        self.ring.extend(rows);
        let excess = self.ring.len().saturating_sub(self.limits.ring_rows);
        self.ring.drain(..excess);
        self.count_dropped(excess);
    }

    /// Lets go of the file. A damaged one is set aside on the next opening, which is tried at once.
    fn degrade(&mut self, error: &rusqlite::Error) {
        self.file = None;
        self.retry_at = Instant::now() + self.limits.retry_every;
        self.shared.degraded.store(true, Ordering::Relaxed);
        self.say(format!("history cannot be written ({error}); keeping rows in memory and trying again"));
        if is_damage(error) {
            self.try_open(true);
            self.flush();
        }
    }

    fn recover(&mut self) {
        self.try_open(false);
        self.flush();
    }

    fn flush(&mut self) {
        if self.file.is_none() {
            return;
        }
        let waiting = self.ring.len();
        match self.write_waiting() {
            Ok(()) => {
                self.shared.degraded.store(false, Ordering::Relaxed);
                self.say(format!("history is written again; {waiting} rows from memory saved"));
            }
            // Said when it began.
            Err(_) => self.file = None,
        }
    }

    fn try_open(&mut self, check: bool) {
        self.retry_at = Instant::now() + self.limits.retry_every;
        let mut notices = Vec::new();
        // A missing directory also makes the opening fail, with better words.
        let _ = std::fs::create_dir_all(&self.directory);
        match HistoryFile::open(&self.directory, self.limits.file_bytes, check, &mut notices) {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                let first = !self.shared.degraded.swap(true, Ordering::Relaxed);
                if first {
                    let directory = self.directory.display();
                    self.say(format!(
                        "history in {directory} cannot be opened ({error}); keeping rows in memory"
                    ));
                }
            }
        }
        for notice in notices {
            self.say(notice.0);
        }
    }

    fn prune_sometimes(&mut self) {
        self.batches_since_prune += 1;
        if self.batches_since_prune < BATCHES_BETWEEN_PRUNES {
            return;
        }
        self.batches_since_prune = 0;
        let before = self.newest.minus(self.keep);
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.prune(before)) {
            self.degrade(&error);
        }
    }

    fn say(&self, text: String) {
        let mut notices = self.shared.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() < MAX_NOTICES {
            notices.push(Notice(text));
        }
    }

    fn count_dropped(&self, rows: usize) {
        self.shared.dropped.fetch_add(rows as u64, Ordering::Relaxed);
    }
}
