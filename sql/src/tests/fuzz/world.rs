//! A random table with its rows at every stage of their life: in the open chunk, in sealed chunks (a flush
//! that failed leaves one), in level-0 files and in compacted ones.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use otus_engine::catalog::TableId;
use otus_engine::clock::ManualClock;
use otus_engine::dataset::{
    Append, Dataset, DatasetOptions, FlushLimits, StartPosition, rejected_schema,
};
use otus_engine::position::{LogIdentity, ReadCounts, TopicPartition};
use otus_engine::store::fault::{Fault, FaultPlan, FaultStore};
use otus_engine::store::{Access, Storage, StorageConfig};

use super::chance::Chance;
use super::data;
use super::table::Table;
use crate::{Session, SessionOptions, SqlCompiler, SqlConfig, SqlEngine};

/// What happens to the dataset, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// So many rows arrive in a partition.
    Append { partition: i32, rows: usize },
    /// Everything hot is written.
    Flush,
    /// A flush fails: the open chunk stays hot, sealed.
    Seal,
    /// Files are merged, as far as due or as far as possible.
    Maintain { force: bool },
    /// The last rollup is declared.
    Declare,
    /// It is filled with some of what it lacks.
    Backfill,
}

/// A dataset with the table `events` and a session over it.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) table: Table,
    pub(super) steps: Vec<Step>,
    pub(super) session: Session,
    /// Of a user who sees the rows of [`part`] only.
    pub(super) of_part: Session,
    builder: Builder,
    /// Steps that are taken.
    taken: usize,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({}, {:?})", self.seed, self.steps)
    }
}

/// A random life of `rows` rows.
fn life(table: &Table, seed: u64) -> Vec<Step> {
    let mut chance = Chance::new(seed, 3);
    let mut filling = Chance::new(seed, 5);
    let mut steps = Vec::new();
    let mut left = table.rows;
    let mut declare = table.late_rollup;
    while left > 0 {
        if declare && left < table.rows / 2 {
            steps.push(Step::Declare);
            steps.extend((0..filling.below(4)).map(|_| Step::Backfill));
            declare = false;
        }
        let rows = (1 + chance.below(1 + table.rows / 4)).min(left);
        left -= rows;
        steps.push(Step::Append { partition: i32::from(chance.percent(35)), rows });
        match chance.weighted(&[50, 28, 12, 10]) {
            1 if left > 0 || chance.percent(20) => {
                steps.push(Step::Flush);
                if chance.percent(40) {
                    steps.push(Step::Maintain { force: chance.percent(80) });
                }
            }
            2 if left > 0 => steps.push(Step::Seal),
            _ => {}
        }
    }
    if declare {
        steps.push(Step::Declare);
        steps.extend((0..filling.below(4)).map(|_| Step::Backfill));
    }
    steps
}

/// One for all worlds: each keeps its catalogue for ever.
static COMPILER: LazyLock<Arc<SqlCompiler>> = LazyLock::new(SqlCompiler::new);

struct Builder {
    dataset: Arc<Dataset>,
    clock: Arc<ManualClock>,
    store: FaultStore,
    epochs: BTreeMap<i32, u64>,
    ends: BTreeMap<i32, i64>,
    rows: Vec<ArrayRef>,
    taken: usize,
    /// Partitions and offsets of the rows that are appended; none = all.
    only: Option<HashSet<(i32, i64)>>,
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("events", partition)
}

impl World {
    pub(super) async fn new(seed: u64) -> Self {
        let table = Table::new(seed);
        let steps = life(&table, seed);
        let builder = Builder::new(&table, data::rows(&table, seed)).await;
        Self::build(seed, table, steps, builder).await
    }

    /// The same rows, all of them in one chunk of memory, without rollups.
    pub(super) async fn plain(seed: u64) -> Self {
        let table = Table::new(seed);
        let steps = life(&table, seed).into_iter().filter(|s| matches!(s, Step::Append { .. }));
        let mut plain = table.clone();
        plain.def.rollups.clear();
        plain.late_rollup = false;
        let builder = Builder::new(&plain, data::rows(&table, seed)).await;
        Self::build(seed, plain, steps.collect(), builder).await
    }

    /// The rows of another one that are named by partition and offset, all in memory, without rollups.
    pub(super) async fn of_rows(seed: u64, rows: HashSet<(i32, i64)>) -> Self {
        let table = Table::new(seed);
        let steps = life(&table, seed).into_iter().filter(|s| matches!(s, Step::Append { .. }));
        let mut plain = table.clone();
        plain.def.rollups.clear();
        plain.late_rollup = false;
        let mut builder = Builder::new(&plain, data::rows(&table, seed)).await;
        builder.only = Some(rows);
        Self::build(seed, plain, steps.collect(), builder).await
    }

    /// At the beginning of its life.
    pub(super) async fn newborn(seed: u64) -> Self {
        let table = Table::new(seed);
        let steps = life(&table, seed);
        let builder = Builder::new(&table, data::rows(&table, seed)).await;
        Self::begun(seed, table, steps, builder)
    }

    async fn build(seed: u64, table: Table, steps: Vec<Step>, builder: Builder) -> Self {
        let mut world = Self::begun(seed, table, steps, builder);
        while world.step().await.is_some() {}
        world
    }

    /// Takes the next step of its life.
    pub(super) async fn step(&mut self) -> Option<Step> {
        let step = *self.steps.get(self.taken)?;
        self.taken += 1;
        self.builder.step(&self.table, step).await;
        Some(step)
    }

    /// Lets time pass.
    pub(super) fn wait(&self, us: i64) {
        self.builder.clock.advance(us);
    }

    fn begun(seed: u64, table: Table, steps: Vec<Step>, builder: Builder) -> Self {
        // Files are small here: half of the worlds read them as if they were not.
        let states_cache_bytes = if seed.is_multiple_of(2) { 0 } else { 64 << 20 };
        let roles = vec![super::part::role(&table, seed)];
        let config = SqlConfig { threads: 1, states_cache_bytes, roles, ..SqlConfig::default() };
        let engine = SqlEngine::new(Arc::clone(&builder.dataset), config).unwrap();
        let session = engine.session(SessionOptions { user: "ann".into(), ..Default::default() });
        let identity = engine.roles().identity("eve", &["part".into()], &BTreeMap::new()).unwrap();
        let of_part = SessionOptions { identity: Some(identity), ..Default::default() };
        let of_part = engine.session(of_part);
        Self { seed, table, steps, session, of_part, builder, taken: 0 }
    }
}

impl Builder {
    async fn new(table: &Table, rows: Vec<ArrayRef>) -> Self {
        let config = StorageConfig { url: "memory:".into(), options: BTreeMap::default() };
        let memory = Storage::open(&config, Access::ReadWrite, "test").await.unwrap();
        let faults = FaultPlan { faults: vec![Fault::Refuse], ..FaultPlan::none() };
        let store = FaultStore::new(Arc::clone(memory.store()), faults);
        let clock = Arc::new(ManualClock::new(1_800_000_000_000_000));
        let options = DatasetOptions {
            member: "one".into(),
            clock: Arc::<ManualClock>::clone(&clock),
            compiler: Arc::<SqlCompiler>::clone(&COMPILER),
            flush: FlushLimits { compact_files: 3, backfill_rows: 50, ..FlushLimits::default() },
        };
        let storage = Storage::from_store(Arc::new(store.clone()));
        let dataset = Dataset::open(storage, options).await.unwrap();
        dataset.apply_tables(&[table.early()], false).await.unwrap();
        let claims = dataset.claim(&[tp(0), tp(1)]).await.unwrap();
        let id = id(&dataset);
        let starts = claims.iter().map(|claim| StartPosition {
            table: id,
            tp: claim.tp.clone(),
            epoch: claim.epoch,
            offset: 0,
            identity: LogIdentity::default(),
        });
        dataset.start_positions(starts.collect()).await.unwrap();
        Self {
            dataset,
            clock,
            store,
            epochs: claims.iter().map(|c| (c.tp.partition, c.epoch)).collect(),
            ends: BTreeMap::new(),
            rows,
            taken: 0,
            only: None,
        }
    }

    async fn step(&mut self, table: &Table, step: Step) {
        match step {
            Step::Append { partition, rows } => self.append(partition, rows),
            Step::Flush => {
                self.dataset.flush().await.unwrap();
            }
            Step::Seal => {
                self.store.ail(100);
                self.dataset.flush().await.expect_err("the store refuses");
                self.store.heal();
            }
            Step::Maintain { force } => {
                self.dataset.maintain(force).await.unwrap();
            }
            Step::Declare => {
                self.dataset.apply_tables(std::slice::from_ref(&table.def), true).await.unwrap();
            }
            Step::Backfill => {
                self.dataset.backfill_step().await.unwrap();
            }
        }
    }

    fn append(&mut self, partition: i32, rows: usize) {
        let snapshot = self.dataset.snapshot();
        let table = snapshot.table("public", "events").unwrap();
        let n = i64::try_from(rows).unwrap();
        let end = self.ends.entry(partition).or_default();
        let (from, to) = (*end, *end + n);
        *end = to;
        let mut columns: Vec<ArrayRef> =
            self.rows.iter().map(|c| c.slice(self.taken, rows)).collect();
        self.taken += rows;
        columns.push(Arc::new(Int32Array::from(vec![partition; rows])));
        columns.push(Arc::new(Int64Array::from_iter_values(from..to)));
        let now = TimestampMicrosecondArray::from(vec![1_800_000_000_000_000; rows]);
        columns.push(Arc::new(now.with_timezone("UTC")));
        let mut batch = RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap();
        if let Some(only) = &self.only {
            let kept = (from..to).map(|offset| Some(only.contains(&(partition, offset))));
            batch = filter_record_batch(&batch, &kept.collect()).unwrap();
        }
        let rows = batch.num_rows();
        let append = Append {
            table: table.id,
            tp: tp(partition),
            epoch: self.epochs[&partition],
            from,
            to,
            batch,
            counts: ReadCounts { kept: rows as u64, ..ReadCounts::default() },
            rejected: RecordBatch::new_empty(rejected_schema()),
            fields: vec![],
            identity: LogIdentity::default(),
        };
        self.dataset.append(vec![append]).unwrap();
    }
}

fn id(dataset: &Dataset) -> TableId {
    dataset.snapshot().table("public", "events").unwrap().id
}
