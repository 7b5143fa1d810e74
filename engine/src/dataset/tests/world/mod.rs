//! The dataset itself on a store that fails in every way and on a disk that loses its power: appends with
//! rejected records, flush, compaction, retention, collection, claims and reopening at random, and an auditor
//! who counts every offset from what is on the store alone. `OTUS_SEED` replays one seed.

mod auditor;
mod backfill;
mod runs;

use std::time::Duration;

use super::*;
use crate::log::LogSettings;
use crate::store::fault::Dice;

const PARTITIONS: i32 = 2;
/// Where the clock begins: 2026-01-01T00:00:00Z, microseconds.
const NOW_US: i64 = 1_767_225_600_000_000;
/// Tries of one step on a store that fails now and then.
const TRIES: usize = 100;
/// A step that takes longer is given up: the store does not answer.
const PATIENCE: Duration = Duration::from_millis(150);

/// The process has died; its memory is gone.
#[derive(Debug)]
struct Died;

/// What has been done, so that a test knows that it tested something.
#[derive(Debug, Default, Clone, Copy)]
struct Done {
    flushes: u64,
    compactions: u64,
    expired: u64,
    deleted: u64,
    backfills: u64,
}

struct World {
    storage: Storage,
    /// The same store without failures, for looking.
    clean: Storage,
    dead: Box<dyn Fn() -> bool + Send + Sync>,
    dice: Dice,
    clock: Arc<ManualClock>,
    member: u32,
    dataset: Option<Arc<Dataset>>,
    /// A process that was replaced and does not know it yet.
    zombie: Option<Arc<Dataset>>,
    epochs: BTreeMap<i32, u64>,
    /// One past the last offset appended, by partition.
    ends: BTreeMap<i32, i64>,
    /// What a flush has told to be durable.
    durable: BTreeMap<i32, i64>,
    /// Whether the rollup `late` is declared now; none in worlds without it.
    late: Option<bool>,
    done: Done,
}

/// Bad records have offsets like this.
fn is_bad(offset: i64) -> bool {
    offset % 10 == 7
}

/// Event time: from three days before the clock on, half an hour each.
fn time_us(offset: i64) -> i64 {
    NOW_US - 3 * DAY_US + offset * 1_800_000_000
}

fn part(partition: i32) -> TopicPartition {
    TopicPartition::new("events", partition)
}

fn definition(late: Option<bool>) -> TableDef {
    let mut def = table_def();
    if late == Some(true) {
        let late = RollupDef { name: "late".into(), ..def.rollups[0].clone() };
        def.rollups.push(late);
    }
    def.retention.raw_us = Some(DAY_US);
    def.retention.rollup_us = [(Granularity::Minute, 2 * DAY_US)].into_iter().collect();
    def
}

/// Impatient, with many checkpoints.
fn quick() -> LogSettings {
    LogSettings {
        checkpoint_every: 5,
        put_timeout: Duration::from_millis(20),
        attempts: 3,
        backoff: Duration::ZERO,
        ..LogSettings::default()
    }
}

/// Good rows of these offsets.
fn good_rows(schema: &SchemaRef, partition: i32, offsets: &[i64]) -> RecordBatch {
    let times = |values: Vec<i64>| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
    };
    let column = |field: &Arc<arrow::datatypes::Field>| -> ArrayRef {
        match field.name().as_str() {
            "ts" => times(offsets.iter().map(|o| time_us(*o)).collect()),
            "_ingested_at" => times(vec![1; offsets.len()]),
            "_partition" => Arc::new(Int32Array::from(vec![partition; offsets.len()])),
            "kind" => Arc::new(StringViewArray::from_iter_values(
                offsets.iter().map(|o| format!("kind {}", o % 3)),
            )),
            _ => Arc::new(Int64Array::from(offsets.to_vec())),
        }
    };
    RecordBatch::try_new(Arc::clone(schema), schema.fields().iter().map(column).collect()).unwrap()
}

impl World {
    fn new(
        storage: Storage,
        clean: Storage,
        seed: u64,
        dead: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            storage,
            clean,
            dead: Box::new(dead),
            dice: Dice::new(seed),
            clock: Arc::new(ManualClock::new(NOW_US)),
            member: 0,
            dataset: None,
            zombie: None,
            epochs: BTreeMap::new(),
            ends: BTreeMap::new(),
            durable: BTreeMap::new(),
            late: None,
            done: Done::default(),
        }
    }

    /// Failures of the world are borne, damage is not.
    fn bear(&self, e: &Error) -> Result<(), Died> {
        if (self.dead)() {
            return Err(Died);
        }
        let borne = matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Busy);
        assert!(borne, "{e:?}");
        Ok(())
    }

    /// One call: its answer, or nothing if the world failed.
    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<Option<T>, Died> {
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(e)) => self.bear(&e).map(|()| None),
            Err(_) if (self.dead)() => Err(Died),
            Err(_) => Ok(None),
        }
    }

    /// Starts the process: opens, declares, claims and goes on from what is committed.
    async fn start(&mut self) -> Result<(), Died> {
        self.dataset = None;
        let options = DatasetOptions {
            flush: FlushLimits {
                collect_grace_us: 50_000,
                compact_files: 4,
                backfill_rows: 40,
                ..FlushLimits::default()
            },
            ..options(&self.clock, &format!("member {}", self.member))
        };
        for _ in 0..TRIES {
            let open = Dataset::open_with(self.storage.clone(), options.clone(), quick());
            let Some(dataset) = self.call(open).await? else { continue };
            for _ in 0..TRIES {
                if self.begin(&dataset).await?.is_some() {
                    self.dataset = Some(dataset);
                    return Ok(());
                }
            }
        }
        panic!("not open after {TRIES} tries");
    }

    async fn begin(&mut self, dataset: &Dataset) -> Result<Option<()>, Died> {
        if self.call(dataset.refresh()).await?.is_none()
            || self.call(dataset.apply_tables(&[definition(self.late)], true)).await?.is_none()
        {
            return Ok(None);
        }
        let all: Vec<_> = (0..PARTITIONS).map(part).collect();
        let Some(claims) = self.call(dataset.claim(&all)).await? else { return Ok(None) };
        let table = dataset.snapshot().table("public", "events").unwrap().id;
        let known = dataset.snapshot().positions(table);
        let starts = claims.iter().filter(|c| !known.contains_key(&c.tp)).map(|c| StartPosition {
            table,
            tp: c.tp.clone(),
            epoch: c.epoch,
            offset: 0,
            identity: LogIdentity::default(),
        });
        if self.call(dataset.start_positions(starts.collect())).await?.is_none() {
            return Ok(None);
        }
        self.epochs = claims.into_iter().map(|c| (c.tp.partition, c.epoch)).collect();
        for (tp, (committed, end)) in dataset.snapshot().positions(table) {
            assert_eq!(committed, end, "nothing is hot after a start");
            let told = self.durable.get(&tp.partition).copied().unwrap_or(0);
            assert!(committed >= told, "{tp} stands at {committed}, {told} was durable");
            self.ends.insert(tp.partition, end);
        }
        Ok(Some(()))
    }

    fn dataset(&self) -> Arc<Dataset> {
        Arc::clone(self.dataset.as_ref().expect("started"))
    }

    /// Some steps at random.
    async fn run(&mut self, steps: usize) -> Result<(), Died> {
        for _ in 0..steps {
            let ms = i64::try_from(self.dice.below(50)).unwrap();
            self.clock.advance(1_000 + ms * 1_000);
            if self.late.is_some() {
                self.fill_or_declare().await?;
            }
            match self.dice.below(24) {
                0..9 => self.append(),
                9..14 => self.flush().await?,
                14..18 => self.maintain().await?,
                18 => self.look().await,
                19 => self.start().await?,
                20 => self.replace().await?,
                21 => self.wake_zombie().await?,
                22 => self.clock.advance(61_000_000),
                _ => self.clock.advance(DAY_US / 8),
            }
        }
        Ok(())
    }

    fn append(&mut self) {
        let dataset = self.dataset();
        let partition = i32::try_from(self.dice.below(PARTITIONS as u64)).unwrap();
        let from = self.ends[&partition];
        let to = from + i64::try_from(self.dice.below(30)).unwrap();
        dataset
            .append(vec![append_of(&dataset, partition, self.epochs[&partition], from, to)])
            .unwrap();
        self.ends.insert(partition, to);
        let table = dataset.snapshot().table("public", "events").unwrap().id;
        let end = dataset.snapshot().positions(table)[&part(partition)].1;
        assert_eq!(end, to, "what was appended is visible");
    }

    async fn flush(&mut self) -> Result<(), Died> {
        let ends = self.ends.clone();
        if let Some(wrote) = self.call(self.dataset().flush()).await? {
            self.done.flushes += u64::from(wrote.is_some());
            self.durable = ends;
        }
        Ok(())
    }

    async fn maintain(&mut self) -> Result<(), Died> {
        let force = self.dice.percent(50);
        if let Some(report) = self.call(self.dataset().maintain(force)).await? {
            self.done.compactions += report.compactions;
            self.done.expired += report.expired;
            self.done.deleted += report.deleted;
            self.done.backfills += report.backfills;
        }
        Ok(())
    }

    /// Another process takes everything; this one lives on without knowing.
    async fn replace(&mut self) -> Result<(), Died> {
        if self.storage.local_dir().is_some() {
            return self.start().await;
        }
        self.zombie = self.dataset.take();
        self.member += 1;
        self.start().await
    }

    async fn wake_zombie(&mut self) -> Result<(), Died> {
        let Some(zombie) = self.zombie.take() else { return Ok(()) };
        let table = zombie.snapshot().table("public", "events").unwrap().id;
        if let Some((tp, (_, end))) = zombie.snapshot().positions(table).into_iter().next()
            && let Some(claim) = zombie.snapshot().manifest().claims.get(&tp)
        {
            zombie
                .append(vec![append_of(&zombie, tp.partition, claim.epoch, end, end + 5)])
                .unwrap();
        }
        self.call(zombie.flush()).await?;
        Ok(())
    }
}

fn append_of(dataset: &Dataset, partition: i32, epoch: u64, from: i64, to: i64) -> Append {
    let snapshot = dataset.snapshot();
    let table = snapshot.table("public", "events").unwrap();
    let (bad, good): (Vec<i64>, Vec<i64>) = (from..to).partition(|o| is_bad(*o));
    let counts =
        ReadCounts { kept: good.len() as u64, rejected: bad.len() as u64, ..ReadCounts::default() };
    Append {
        table: table.id,
        tp: part(partition),
        epoch,
        from,
        to,
        batch: good_rows(&table.schema, partition, &good),
        counts,
        rejected: verify::rejected(partition, &bad, dataset.clock().now_us()),
        fields: vec![],
        identity: LogIdentity::default(),
    }
}
