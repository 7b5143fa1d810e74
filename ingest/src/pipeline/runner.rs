//! The thread that drives one event log: polls it, decodes, publishes, opens and hands over partitions, waits
//! while the dataset cannot take more. Failures of the world pause and are tried again; they reject nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use otus_engine::catalog::{TableDef, TableId};
use otus_engine::dataset::{Append, Dataset, Pressure};
use otus_engine::expr::ExpressionCompiler;
use otus_engine::position::TopicPartition;
use otus_engine::{Error, Result};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Tables;
use super::open::source_names;
use super::partition::{Partition, Phase};
use super::status::{Board, IngestCounters};
use crate::log::{EventLog, LogEvent, whole_name};
use crate::record::Slice;

/// Rows of a topic after which a batch becomes visible.
const PUBLISH_ROWS: usize = 8 * 1024;
/// Bytes of records after which a batch becomes visible.
const PUBLISH_BYTES: usize = 8 << 20;
/// Age after which even a single row becomes visible, microseconds.
const PUBLISH_AGE_US: i64 = 50_000;
/// Longest wait for the log.
const POLL: Duration = Duration::from_millis(100);
/// How often pressure and status are looked at, microseconds.
const LOOK_US: i64 = 100_000;
/// How often committed positions are told to the log, microseconds.
const TELL_US: i64 = 5_000_000;
/// First wait after a failure, microseconds; doubled up to [`RETRY_MAX_US`].
const RETRY_US: i64 = 200_000;
/// Longest wait after a failure, microseconds.
const RETRY_MAX_US: i64 = 10_000_000;
/// Longest wait for the dataset's store in one call; a consumer group forgets members that do not poll.
const STORE_DEADLINE: Duration = Duration::from_secs(30);

/// What an operator asks of a runner.
#[derive(Debug)]
pub(crate) enum Command {
    /// Stop or go on reading for a table.
    Pause { table: TableId, paused: bool },
    /// Set the position of a table in a partition of a topic, or in all of them.
    Reset {
        table: TableId,
        topic: String,
        partition: Option<i32>,
        to: ResetTo,
        reply: oneshot::Sender<Result<Vec<(i32, i64)>>>,
    },
    /// Publish, flush, hand over and end.
    Stop { deadline: Duration },
}

/// Where an operator sets a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetTo {
    /// At the first record that is there.
    Earliest,
    /// At the end.
    Latest,
    /// At an offset.
    Offset(i64),
}

/// A partition to open (again).
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) at_us: i64,
    pub(crate) backoff_us: i64,
    pub(crate) reason: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) log: Box<dyn EventLog>,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) compiler: Arc<dyn ExpressionCompiler>,
    pub(crate) runtime: Handle,
    pub(crate) tables: Vec<(TableId, Arc<TableDef>)>,
    pub(crate) paused_tables: BTreeSet<TableId>,
    pub(crate) partitions: BTreeMap<TopicPartition, Partition>,
    pub(crate) waiting: BTreeMap<TopicPartition, Waiting>,
    pub(crate) missing: BTreeMap<String, String>,
    /// Partitions that topics had when last asked for.
    pub(crate) listed: BTreeMap<Arc<str>, BTreeSet<i32>>,
    pub(crate) trouble: Option<String>,
    pub(crate) pressure: Option<String>,
    pub(crate) heard: bool,
    pub(crate) board: Arc<Board>,
    pub(crate) counters: Arc<IngestCounters>,
    pub(crate) rates: BTreeMap<(TableId, TopicPartition), (u64, f64)>,
    pub(crate) rated_at_us: i64,
    commands: Receiver<Command>,
    pending_since_us: Option<i64>,
    looked_at_us: i64,
    told_at_us: i64,
    pub(crate) tended_at_us: i64,
    /// The same tables, for those outside.
    pub(crate) shared_tables: Arc<RwLock<Tables>>,
}

/// What a new runner needs.
#[derive(Debug)]
pub(crate) struct RunnerParts {
    pub(crate) log: Box<dyn EventLog>,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) compiler: Arc<dyn ExpressionCompiler>,
    pub(crate) runtime: Handle,
    pub(crate) tables: Arc<RwLock<Tables>>,
    pub(crate) board: Arc<Board>,
    pub(crate) counters: Arc<IngestCounters>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) paused: BTreeSet<TableId>,
}

impl Runner {
    pub(crate) fn new(parts: RunnerParts) -> Self {
        let RunnerParts { log, dataset, compiler, runtime, tables, .. } = parts;
        let RunnerParts { board, counters, commands, paused, .. } = parts;
        let shared_tables = Arc::clone(&tables);
        let tables = tables.read().clone();
        let now = dataset.clock().now_us();
        Self {
            log,
            dataset,
            compiler,
            runtime,
            tables,
            paused_tables: paused,
            partitions: BTreeMap::new(),
            waiting: BTreeMap::new(),
            missing: BTreeMap::new(),
            listed: BTreeMap::new(),
            trouble: None,
            pressure: None,
            heard: false,
            board,
            counters,
            rates: BTreeMap::new(),
            rated_at_us: now,
            commands,
            pending_since_us: None,
            looked_at_us: i64::MIN,
            told_at_us: now,
            tended_at_us: now,
            shared_tables,
        }
    }

    /// Runs until stopped.
    pub(crate) fn run(mut self) {
        let mut events = Vec::new();
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop { deadline }) => return self.end(deadline),
                Ok(command) => self.obey(command),
                Err(TryRecvError::Disconnected) => return self.end(Duration::ZERO),
                Err(TryRecvError::Empty) => {}
            }
            self.open_due();
            let wait = if self.pending_since_us.is_some() { POLL / 4 } else { POLL };
            self.log.poll(wait, &mut events);
            let idle = events.is_empty();
            for event in events.drain(..) {
                self.handle(event);
            }
            self.publish_if_due(idle);
            self.look();
        }
    }

    /// Runs a step of the dataset on the runtime, for a bounded time.
    pub(crate) fn ask<T>(&self, step: impl Future<Output = Result<T>>) -> Result<T> {
        self.ask_within(STORE_DEADLINE, step)
    }

    fn ask_within<T>(&self, limit: Duration, step: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::time::timeout(limit, Box::pin(step)).await.unwrap_or_else(|_| {
                Err(Error::unavailable(format!(
                    "the store did not answer in {} s",
                    limit.as_secs()
                )))
            })
        })
    }

    pub(crate) fn now_us(&self) -> i64 {
        self.dataset.clock().now_us()
    }

    fn handle(&mut self, event: LogEvent) {
        let now = self.now_us();
        if !matches!(event, LogEvent::Trouble(_) | LogEvent::Missing { .. }) {
            self.trouble = None;
        }
        match event {
            LogEvent::Records(slice) => self.records(&slice),
            LogEvent::End { tp, offset } => {
                if let Some(partition) = self.partitions.get_mut(&tp).filter(|p| p.is_running()) {
                    partition.end_at(offset, now);
                    self.note_pending();
                }
            }
            LogEvent::Finished(tp) => {
                self.publish();
                if let Some(partition) = self.partitions.get_mut(&tp) {
                    partition.phase = Phase::Finished;
                }
                tracing::info!(topic = %tp.topic, "read to its end");
            }
            LogEvent::Assigned(tps) => {
                self.heard = true;
                for tp in tps {
                    let there = |wanted: &str| {
                        *wanted == *tp.topic
                            || whole_name(wanted).is_ok_and(|pattern| pattern.is_match(&tp.topic))
                    };
                    self.missing.retain(|wanted, _| !there(wanted));
                    self.wait_for(tp, 0, "opening".into());
                }
            }
            LogEvent::Revoked(tps) => self.hand_over(&tps),
            LogEvent::Lost(tps) => {
                tracing::warn!(partitions = tps.len(), "partitions were lost to another process");
                self.forget(&tps);
            }
            LogEvent::Missing { topic, reason } => {
                tracing::warn!(topic, reason, "waiting for a topic");
                self.missing.insert(topic, reason);
            }
            LogEvent::Healthy => {}
            LogEvent::Broken { tp, error } => self.stop_partition(&tp, &error),
            LogEvent::Trouble(error) => {
                if self.trouble.is_none() {
                    tracing::warn!(log = self.log.kind(), %error, "the event log does not answer");
                }
                self.trouble = Some(told(&error));
            }
        }
    }

    fn records(&mut self, slice: &Slice) {
        let now = self.now_us();
        let Some(partition) = self.partitions.get_mut(&slice.tp).filter(|p| p.is_running()) else {
            return;
        };
        let began = Instant::now();
        if let Err(error) = partition.take(slice, now) {
            return self.reopen(slice.tp.clone(), &error);
        }
        let spent = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        IngestCounters::add(&self.counters.decode_ns, spent);
        IngestCounters::add(&self.counters.records_read, slice.len() as u64);
        IngestCounters::add(&self.counters.bytes_read, slice.bytes_len() as u64);
        self.note_pending();
        let (rows, bytes) = self
            .partitions
            .values()
            .map(Partition::pending)
            .fold((0, 0), |(rows, bytes), (r, b)| (rows + r, bytes + b));
        if rows >= PUBLISH_ROWS || bytes >= PUBLISH_BYTES {
            self.publish();
        }
    }

    fn note_pending(&mut self) {
        if self.pending_since_us.is_none() {
            self.pending_since_us = Some(self.now_us());
        }
    }

    fn publish_if_due(&mut self, idle: bool) {
        let Some(since) = self.pending_since_us else { return };
        if idle || self.now_us().saturating_sub(since) >= PUBLISH_AGE_US {
            self.publish();
        }
    }

    /// Makes visible what was decoded, per topic in one step over all its tables and partitions.
    pub(crate) fn publish(&mut self) {
        self.pending_since_us = None;
        let mut by_topic: BTreeMap<Arc<str>, Vec<Append>> = BTreeMap::new();
        let mut failed: Vec<(TopicPartition, Error)> = Vec::new();
        for partition in self.partitions.values_mut().filter(|p| p.is_due()) {
            match partition.appends() {
                Ok(appends) => {
                    by_topic.entry(Arc::clone(&partition.tp.topic)).or_default().extend(appends);
                }
                Err(error) => failed.push((partition.tp.clone(), error)),
            }
        }
        for appends in by_topic.into_values() {
            let tps: BTreeSet<TopicPartition> = appends.iter().map(|a| a.tp.clone()).collect();
            for append in &appends {
                let counts = &append.counts;
                IngestCounters::add(&self.counters.rows_kept, counts.kept);
                IngestCounters::add(&self.counters.records_filtered, counts.filtered);
                IngestCounters::add(&self.counters.records_rejected, counts.rejected);
            }
            match self.dataset.append(appends) {
                Ok(()) => IngestCounters::add(&self.counters.batches_published, 1),
                Err(error) => {
                    let message = error.to_string();
                    failed.extend(tps.into_iter().map(|tp| {
                        (tp, Error::new(error.kind(), format!("rows were refused: {message}")))
                    }));
                }
            }
        }
        for (tp, error) in failed {
            self.reopen(tp, &error);
        }
    }

    /// Forgets what was read of a partition and reads it again from the committed position.
    fn reopen(&mut self, tp: TopicPartition, error: &Error) {
        tracing::warn!(partition = %tp, %error, "partition is opened again");
        IngestCounters::add(&self.counters.partitions_reopened, 1);
        self.partitions.remove(&tp);
        if let Err(error) = self.log.pause(std::slice::from_ref(&tp)) {
            tracing::debug!(partition = %tp, %error, "cannot pause");
        }
        self.wait_for(tp, RETRY_US, error.to_string());
    }

    /// Queues a partition for opening.
    pub(crate) fn wait_for(&mut self, tp: TopicPartition, wait_us: i64, reason: String) {
        let at_us = self.now_us().saturating_add(wait_us);
        let backoff_us = wait_us.max(RETRY_US);
        self.waiting.insert(tp, Waiting { at_us, backoff_us, reason });
    }

    fn open_due(&mut self) {
        let now = self.now_us();
        let due: Vec<(TopicPartition, i64)> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.at_us <= now)
            .map(|(tp, waiting)| (tp.clone(), waiting.backoff_us))
            .collect();
        if due.is_empty() {
            return;
        }
        let (held, gone): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(tp, _)| self.log.holds(tp));
        for (tp, _) in gone {
            self.waiting.remove(&tp);
        }
        let mut by_topic: BTreeMap<Arc<str>, Vec<(TopicPartition, i64)>> = BTreeMap::new();
        for (tp, backoff_us) in held {
            by_topic.entry(Arc::clone(&tp.topic)).or_default().push((tp, backoff_us));
        }
        // Topic by topic: one that cannot be opened must not keep the others.
        for (topic, due) in by_topic {
            let tps: Vec<TopicPartition> = due.iter().map(|(tp, _)| tp.clone()).collect();
            let Err(error) = self.open(&tps) else { continue };
            tracing::warn!(%topic, partitions = tps.len(), %error, "a topic cannot be opened yet");
            for (tp, backoff_us) in due {
                let wait_us = (backoff_us * 2).min(RETRY_MAX_US);
                let at_us = self.now_us().saturating_add(wait_us);
                let reason = error.to_string();
                self.waiting.insert(tp, Waiting { at_us, backoff_us: wait_us, reason });
            }
        }
    }

    fn stop_partition(&mut self, tp: &TopicPartition, error: &Error) {
        // The first reason is the one that explains.
        if !self.partitions.get(tp).is_some_and(Partition::is_running) {
            return;
        }
        self.publish();
        tracing::error!(partition = %tp, %error, "partition is stopped");
        let text = told(error);
        if let Some(partition) = self.partitions.get_mut(tp) {
            partition.phase = Phase::Stopped(text);
        }
        if let Err(error) = self.log.pause(std::slice::from_ref(tp)) {
            tracing::debug!(partition = %tp, %error, "cannot pause");
        }
    }

    /// Gives partitions to another process: everything read is made durable first.
    fn hand_over(&mut self, tps: &[TopicPartition]) {
        self.publish();
        if let Err(error) = self.ask(async { self.dataset.flush().await }) {
            tracing::warn!(%error, "flush before handing over failed; the next reader reads again");
        }
        self.forget(tps);
    }

    /// Drops partitions with what is hot of them.
    pub(crate) fn forget(&mut self, tps: &[TopicPartition]) {
        for tp in tps {
            self.partitions.remove(tp);
            self.waiting.remove(tp);
        }
        if let Err(error) = self.ask(async { self.dataset.drop_hot(tps).await }) {
            tracing::warn!(%error, "hot rows of lost partitions stay until the next flush");
        }
        if let Err(error) = self.log.stop(tps) {
            tracing::warn!(%error, "partitions cannot be unassigned");
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Stop { .. } => {}
            Command::Pause { table, paused } => {
                self.publish();
                if paused {
                    self.paused_tables.insert(table);
                } else {
                    self.paused_tables.remove(&table);
                }
                self.set_table_paused(table, paused);
            }
            Command::Reset { table, topic, partition, to, reply } => {
                let result = self.reset(table, &topic, partition, to);
                drop(reply.send(result));
            }
        }
    }

    fn set_table_paused(&mut self, table: TableId, paused: bool) {
        let mut again = Vec::new();
        for partition in self.partitions.values_mut() {
            let Some(reader) = partition.tables.iter_mut().find(|t| t.id == table) else {
                continue;
            };
            let paused = paused || reader.refused.is_some();
            if std::mem::replace(&mut reader.paused, paused) != paused {
                again.push(partition.tp.clone());
            }
        }
        for tp in again {
            let Some(partition) = self.partitions.get(&tp).filter(|p| p.is_running()) else {
                continue;
            };
            let result = match partition.reader_position() {
                // The others have gone on: read again from where this one stands; they skip what they know.
                Some(offset) => self.restart(&tp, offset),
                None => self.log.pause(std::slice::from_ref(&tp)),
            };
            if let Err(error) = result {
                self.reopen(tp, &error);
            }
        }
    }

    fn look(&mut self) {
        let now = self.now_us();
        if now.saturating_sub(self.looked_at_us) < LOOK_US {
            return;
        }
        self.looked_at_us = now;
        let pressure = match self.dataset.pressure() {
            Pressure::Run => None,
            Pressure::Pause { reason } => Some(reason),
        };
        if pressure.is_some() != self.pressure.is_some() {
            self.apply_pressure(pressure.as_deref());
        }
        self.pressure = pressure;
        self.tend_rebuilds(now);
        self.report(now);
        if now.saturating_sub(self.told_at_us) >= TELL_US {
            self.told_at_us = now;
            self.tell_committed();
        }
    }

    fn apply_pressure(&mut self, pressure: Option<&str>) {
        let running = self.partitions.values().filter(|p| p.is_running());
        let tps: Vec<TopicPartition> = match pressure {
            Some(_) => running.map(|p| p.tp.clone()).collect(),
            None => {
                running.filter(|p| p.reader_position().is_some()).map(|p| p.tp.clone()).collect()
            }
        };
        let result = match pressure {
            Some(reason) => {
                tracing::warn!(reason, "reading is paused");
                self.log.pause(&tps)
            }
            None => {
                tracing::info!("reading goes on");
                self.log.resume(&tps)
            }
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the log cannot pause or resume");
        }
    }

    fn tell_committed(&mut self) {
        let snapshot = self.dataset.snapshot();
        let mut positions = Vec::new();
        for partition in self.partitions.values() {
            let committed = partition.tables.iter().filter_map(|table| {
                let state = snapshot.manifest().tables.get(&table.id)?;
                Some(state.positions.get(&partition.tp)?.offset)
            });
            positions.extend(committed.min().map(|offset| (partition.tp.clone(), offset)));
        }
        self.log.committed(&positions);
    }

    fn end(mut self, deadline: Duration) {
        self.publish();
        if !deadline.is_zero()
            && let Err(error) = self.ask_within(deadline, async { self.dataset.flush().await })
        {
            tracing::warn!(%error, "the last flush failed; its rows will be read again");
        }
        self.tell_committed();
        let tps: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        if let Err(error) = self.log.stop(&tps) {
            tracing::debug!(%error, "partitions cannot be unassigned");
        }
        self.log.close();
        self.board.set(Vec::new());
    }

    /// Refreshes what the world sees; latches readiness.
    fn report(&mut self, now: i64) {
        let statuses = self.statuses(now);
        self.board.set(statuses);
        let reached = |p: &Partition| p.reached || !p.is_running();
        let waiting = self.waiting.is_empty() && self.trouble.is_none();
        if (self.heard || self.all_missing()) && waiting && self.partitions.values().all(reached) {
            self.board.set_caught_up();
        }
    }

    /// Whether no topic that is wanted exists.
    fn all_missing(&self) -> bool {
        let mut wanted = self.tables.iter().flat_map(|(_, def)| source_names(def));
        wanted.all(|topic| self.missing.contains_key(&topic))
    }
}

/// An error with what to do about it, in one line.
fn told(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}
