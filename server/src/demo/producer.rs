//! Writes the generator's records to the embedded log: history as fast as it goes, then live. Where it stands
//! is read from the log itself: the time of the last record of each topic, and how many records bear it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use otus_engine::Result;
use otus_engine::clock::Clock;
use otus_engine::position::TopicPartition;
use otus_ingest::log::local::LocalLog;
use otus_ingest::log::store::RecordStore;
use otus_ingest::record::Slice;
use otus_ingest::{AppendFault, AppendRecord};

use super::generator::{Block, Generator, Made, NATURAL_RATE, Topic};
use super::tables::{EVENTS_TOPIC, PLAYERS_TOPIC};

/// Records of one write while history is laid down.
const BLOCK_RECORDS: usize = 20_000;
/// Between two writes when live.
const TICK: Duration = Duration::from_millis(100);
/// A gap longer than this is filled at the natural rate, whatever the live rate is, milliseconds.
const GAP_MS: i64 = 10 * 60_000;
/// Records at the end of a topic among which those of its last millisecond are.
const TAIL_RECORDS: i64 = 50_000;
/// Wait before a write is tried again that the log refused.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the producer has done; read by the status line.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Records written by this process.
    pub(super) records: AtomicU64,
    /// Time of the last record written, milliseconds.
    pub(super) at_ms: AtomicI64,
    /// Whether history is laid down.
    pub(super) is_live: AtomicBool,
    /// Why writing waits.
    pub(super) trouble: parking_lot::Mutex<Option<String>>,
}

/// The end of one topic: nothing before it may be written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    /// Time of the last record, milliseconds.
    at_ms: i64,
    /// Records that bear this time.
    same: u64,
}

/// Drives a generator and writes what it makes.
pub(super) struct Producer {
    log: Arc<LocalLog>,
    clock: Arc<dyn Clock>,
    progress: Arc<Progress>,
    seed: u64,
    factor: f64,
    /// Ends that the log had when this process began, where records are still to be passed over.
    ends: [Option<End>; 2],
    from_ms: i64,
}

impl Producer {
    /// A producer that goes on where the log ends, or begins `history_ms` before now. `rate` is that of
    /// live events per second.
    pub(super) fn new(
        log: Arc<LocalLog>,
        clock: Arc<dyn Clock>,
        seed: u64,
        rate: f64,
        history_ms: i64,
    ) -> Result<Self> {
        let ends = [end(&log, EVENTS_TOPIC)?, end(&log, PLAYERS_TOPIC)?];
        let now_ms = clock.now_us() / 1_000;
        // Events come often, so their end is where the generator stood; players may lag behind it.
        let known = ends.iter().flatten().map(|e| e.at_ms).min();
        let from_ms = match (ends[0], known) {
            (Some(_), Some(earliest)) => earliest,
            _ => (now_ms - history_ms).div_euclid(60_000) * 60_000,
        };
        let progress = Arc::new(Progress::default());
        progress.at_ms.store(from_ms, Ordering::Relaxed);
        let factor = rate / NATURAL_RATE;
        Ok(Self { log, clock, progress, seed, factor, ends, from_ms })
    }

    /// Where it begins, milliseconds.
    pub(super) fn begins_at_ms(&self) -> i64 {
        self.from_ms
    }

    /// What it has done so far.
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Produces until the sender of `stop` is gone.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        let mut at_ms = self.from_ms;
        loop {
            at_ms = match self.lay_down(at_ms, stop) {
                Some(at_ms) => at_ms,
                None => return,
            };
            self.progress.is_live.store(true, Ordering::Relaxed);
            at_ms = match self.live(at_ms, stop) {
                Some(at_ms) => at_ms,
                None => return,
            };
        }
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_us() / 1_000
    }

    /// Fills the time up to now at the natural rate. Gives the time it came to, or none to stop.
    fn lay_down(&mut self, from_ms: i64, stop: &Receiver<()>) -> Option<i64> {
        let mut generator = Generator::new(self.seed, 1.0, from_ms);
        loop {
            let now_ms = self.now_ms();
            let mut block = Block::default();
            let has_more = generator.fill(now_ms, BLOCK_RECORDS, &mut block);
            self.write(block, stop)?;
            if !has_more {
                return Some(now_ms);
            }
        }
    }

    /// Goes on at the live rate until it has fallen far behind the clock (a machine that slept).
    fn live(&mut self, from_ms: i64, stop: &Receiver<()>) -> Option<i64> {
        let mut generator = Generator::new(self.seed, self.factor, from_ms);
        let mut at_ms = from_ms;
        loop {
            match stop.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
            }
            let now_ms = self.now_ms();
            if now_ms - at_ms > GAP_MS {
                return Some(at_ms);
            }
            let mut block = Block::default();
            while generator.fill(now_ms, BLOCK_RECORDS, &mut block) {
                self.write(std::mem::take(&mut block), stop)?;
            }
            self.write(block, stop)?;
            at_ms = now_ms;
        }
    }

    /// Writes a block, again and again while the log refuses. None to stop.
    fn write(&mut self, block: Block, stop: &Receiver<()>) -> Option<()> {
        let Block { bytes, records } = block;
        let last_ms = records.last().map(|r| r.at_ms);
        let bytes = Bytes::from(bytes);
        let (mut events, mut players) = (Vec::new(), Vec::new());
        for made in &records {
            if self.is_written(made) {
                continue;
            }
            let record = AppendRecord {
                key: Some(bytes.slice(made.key.clone())),
                value: Some(bytes.slice(made.value.clone())),
                timestamp_us: Some(made.at_ms * 1_000),
                partition: Some(0),
                ..AppendRecord::default()
            };
            match made.topic {
                Topic::Events => events.push(record),
                Topic::Players => players.push(record),
            }
        }
        // Players first: a crash in between leaves their end ahead, and events are what is counted.
        for (topic, records) in [(PLAYERS_TOPIC, players), (EVENTS_TOPIC, events)] {
            if !records.is_empty() {
                let count = records.len() as u64;
                self.append(topic, records, stop)?;
                self.progress.records.fetch_add(count, Ordering::Relaxed);
            }
        }
        if let Some(last_ms) = last_ms {
            self.progress.at_ms.store(last_ms, Ordering::Relaxed);
        }
        match stop.try_recv() {
            Err(std::sync::mpsc::TryRecvError::Empty) => Some(()),
            _ => None,
        }
    }

    /// Whether the log had this record when the process began.
    fn is_written(&mut self, made: &Made) -> bool {
        let place = usize::from(made.topic == Topic::Players);
        let Some(end) = &mut self.ends[place] else { return false };
        if made.at_ms == end.at_ms && end.same > 0 {
            end.same -= 1;
            return true;
        }
        if made.at_ms > end.at_ms {
            self.ends[place] = None;
            return false;
        }
        made.at_ms < end.at_ms
    }

    fn append(&self, topic: &str, records: Vec<AppendRecord>, stop: &Receiver<()>) -> Option<()> {
        loop {
            match self.log.append_blocking(topic, records.clone()) {
                Ok(_) => {
                    *self.progress.trouble.lock() = None;
                    return Some(());
                }
                // Surely not written, so it can be tried again.
                Err(error) if error.fault != AppendFault::Unknown => {
                    *self.progress.trouble.lock() = Some(error.to_string());
                }
                Err(error) => {
                    tracing::error!(%error, topic, "the demo's generator ends");
                    *self.progress.trouble.lock() = Some(error.to_string());
                    return None;
                }
            }
            match stop.recv_timeout(PATIENCE) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

/// The end of a topic's only partition.
fn end(log: &LocalLog, topic: &str) -> Result<Option<End>> {
    let tp = TopicPartition::new(topic, 0);
    let bounds = log.bounds(&tp)?;
    let high = bounds.high.unwrap_or(bounds.low);
    let mut slice = Slice::new(tp, bounds.low.max(high - TAIL_RECORDS));
    let mut end: Option<End> = None;
    while slice.next < high {
        let next = slice.next;
        log.read(&mut slice, BLOCK_RECORDS, usize::MAX)?;
        for at_ms in slice.iter().filter_map(|r| r.timestamp_us).map(|us| us / 1_000) {
            end = Some(match end {
                Some(End { at_ms: last, same }) if last == at_ms => End { at_ms, same: same + 1 },
                Some(end) if end.at_ms > at_ms => end,
                _ => End { at_ms, same: 1 },
            });
        }
        slice = Slice::new(slice.tp.clone(), slice.next.max(next + 1));
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use otus_engine::clock::ManualClock;
    use otus_ingest::log::local::{LocalOptions, TopicOptions};

    use super::*;

    /// Some noon, microseconds.
    const NOW_US: i64 = 1_784_548_800_000_000;
    const HISTORY_MS: i64 = 6 * 3_600_000;

    fn open(folder: &std::path::Path, clock: &Arc<ManualClock>) -> Arc<LocalLog> {
        let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
        let log = LocalLog::open(folder, LocalOptions::default(), clock).unwrap();
        for (topic, keyed) in [(EVENTS_TOPIC, false), (PLAYERS_TOPIC, true)] {
            log.create(topic, &TopicOptions { partitions: Some(1), keyed }).unwrap();
        }
        log
    }

    /// Runs a producer until it has written `records`, or has caught up.
    fn produce(log: &Arc<LocalLog>, clock: &Arc<ManualClock>, rate: f64, records: u64) {
        let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
        let producer = Producer::new(Arc::clone(log), clock, 7, rate, HISTORY_MS).unwrap();
        let progress = producer.progress();
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::spawn(move || producer.run(&stopped));
        while progress.records.load(Ordering::Relaxed) < records
            && !progress.is_live.load(Ordering::Relaxed)
        {
            std::thread::yield_now();
        }
        drop(stop);
        thread.join().unwrap();
    }

    fn values(log: &LocalLog, topic: &str) -> Vec<(i64, String)> {
        let tp = TopicPartition::new(topic, 0);
        let high = log.bounds(&tp).unwrap().high.unwrap();
        let mut slice = Slice::new(tp, 0);
        while slice.next < high {
            log.read(&mut slice, usize::MAX, usize::MAX).unwrap();
        }
        let value = |r: otus_ingest::record::Record<'_>| {
            let text = String::from_utf8(r.value.unwrap().to_vec()).unwrap();
            (r.timestamp_us.unwrap(), text)
        };
        slice.iter().map(value).collect()
    }

    #[test]
    fn a_stopped_producer_goes_on_where_the_log_ends() {
        let folder = std::env::temp_dir().join(format!("otus-test-demo-{}", std::process::id()));
        std::fs::remove_dir_all(&folder).ok();
        let clock = Arc::new(ManualClock::new(NOW_US));
        let log = open(&folder.join("whole"), &clock);
        produce(&log, &clock, NATURAL_RATE, u64::MAX);
        let whole = [EVENTS_TOPIC, PLAYERS_TOPIC].map(|topic| values(&log, topic));
        assert!(whole[0].len() > 20_000 && whole[1].len() > 300, "{}", whole[0].len());

        // The first process stops an hour before, the second in the middle of what was left.
        let clock = Arc::new(ManualClock::new(NOW_US - 3_600_000_000));
        let broken = folder.join("broken");
        let first = open(&broken, &clock);
        let begin = Producer::new(
            Arc::clone(&first),
            Arc::new(ManualClock::new(NOW_US)),
            7,
            NATURAL_RATE,
            HISTORY_MS,
        );
        let begin_ms = begin.unwrap().begins_at_ms();
        let mut generator = Generator::new(7, 1.0, begin_ms);
        let mut block = Block::default();
        generator.fill(begin_ms + 1_800_000, usize::MAX, &mut block);
        let writer = Producer::new(first, Arc::clone(&clock) as _, 7, NATURAL_RATE, HISTORY_MS);
        let (_stop, stopped) = sync_channel(0);
        writer.unwrap().write(block, &stopped).unwrap();
        for records in [1, 1, u64::MAX] {
            clock.advance(600_000_000);
            let log = open(&broken, &clock);
            produce(&log, &clock, NATURAL_RATE, records);
        }
        clock.advance(1_800_000_000);
        let log = open(&broken, &clock);
        produce(&log, &clock, NATURAL_RATE, u64::MAX);
        let pieces = [EVENTS_TOPIC, PLAYERS_TOPIC].map(|topic| values(&log, topic));
        assert_eq!(pieces[0].len(), whole[0].len());
        assert!(pieces == whole, "the same records in the same order");
        drop(log);
        std::fs::remove_dir_all(&folder).ok();
    }
}
