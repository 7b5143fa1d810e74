//! A small dataset in memory with one table, `events`, and its rollup `by_kind`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;
use otus_engine::catalog::{ColumnDef, MeasureDef, RollupDef, TableDef};
use otus_engine::clock::{Clock, ManualClock};
use otus_engine::dataset::{
    Append, Dataset, DatasetOptions, FlushLimits, StartPosition, rejected_schema,
};
use otus_engine::position::{LogIdentity, ReadCounts, TopicPartition};
use otus_engine::store::{Access, Storage, StorageConfig};
use otus_engine::time::Granularity;

use crate::{Outcome, Session, SessionOptions, SqlCompiler, SqlConfig, SqlEngine, SqlError};

/// Event time of row 0: 2026-03-01T00:00:00Z.
pub(crate) const BASE_US: i64 = 1_772_323_200_000_000;
/// Time between two rows.
pub(crate) const STEP_US: i64 = 20_000_000;

pub(crate) struct World {
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) engine: Arc<SqlEngine>,
    pub(crate) session: Session,
    pub(crate) clock: Arc<ManualClock>,
    epoch: u64,
    end: std::sync::atomic::AtomicI64,
}

pub(crate) fn definition() -> TableDef {
    let column = |name: &str, t: &str| ColumnDef::new(name, t.parse().unwrap());
    let columns = vec![
        column("ts", "timestamptz"),
        column("kind", "text"),
        column("user_id", "bigint"),
        column("amount", "numeric(12,2)"),
        column("score", "double precision"),
        column("mixedCase", "text"),
        column("ok", "boolean"),
    ];
    TableDef {
        measures: vec![
            MeasureDef::new("events", "count(*)"),
            MeasureDef::new("amount", "sum(amount)"),
            MeasureDef::new("ids", "sum(user_id)"),
            MeasureDef::new("mean", "avg(user_id)"),
            MeasureDef::new("users", "approx_distinct(user_id)"),
            MeasureDef::new("p90", "approx_quantile(score, 0.9)"),
            MeasureDef::new("spread", "stddev(score)"),
            MeasureDef::new("last_user", "last(user_id)"),
            MeasureDef::new("good", "count(*) FILTER (WHERE ok)"),
            MeasureDef::new("share", "good / events"),
            MeasureDef::new("least", "min(amount)"),
        ],
        rollups: vec![RollupDef {
            name: "by_kind".into(),
            granularities: vec![Granularity::Minute, Granularity::Hour, Granularity::Day],
            dimensions: vec!["kind".into()],
            filter: None,
            measures: vec![],
        }],
        ..TableDef::events("events", "ts", columns)
    }
}

fn tp() -> TopicPartition {
    TopicPartition::new("events", 0)
}

fn rows(schema: &SchemaRef, from: i64, to: i64) -> RecordBatch {
    let o: Vec<i64> = (from..to).collect();
    let time = o.iter().map(|i| BASE_US + i * STEP_US);
    let columns: Vec<ArrayRef> = vec![
        arrow::compute::cast(
            &TimestampMicrosecondArray::from_iter_values(time.clone()).with_timezone("UTC"),
            schema.field(0).data_type(),
        )
        .unwrap(),
        Arc::new(
            o.iter()
                .map(|i| (i % 11 != 0).then(|| format!("kind number {}", i % 5)))
                .collect::<StringViewArray>(),
        ),
        Arc::new(Int64Array::from_iter_values(o.iter().map(|i| i % 97))),
        Arc::new(
            o.iter()
                .map(|i| (i % 7 != 0).then_some(i128::from(i * 7 % 1000)))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(12, 2)
                .unwrap(),
        ),
        Arc::new(Float64Array::from_iter_values(o.iter().map(|i| *i as f64 / 4.0))),
        Arc::new(StringViewArray::from_iter_values(o.iter().map(|i| format!("M{}", i % 3)))),
        Arc::new(o.iter().map(|i| Some(i % 4 == 0)).collect::<BooleanArray>()),
        Arc::new(Int32Array::from(vec![0; o.len()])),
        Arc::new(Int64Array::from(o.clone())),
        Arc::new(TimestampMicrosecondArray::from_iter_values(time).with_timezone("UTC")),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(SqlConfig { threads: 2, ..SqlConfig::default() }).await
    }

    pub(crate) async fn with(config: SqlConfig) -> Self {
        Self::made(config, definition()).await
    }

    /// With a table that is declared otherwise.
    pub(crate) async fn declared(change: impl FnOnce(&mut TableDef)) -> Self {
        let mut def = definition();
        change(&mut def);
        Self::made(SqlConfig { threads: 2, ..SqlConfig::default() }, def).await
    }

    async fn made(config: SqlConfig, def: TableDef) -> Self {
        let memory = StorageConfig { url: "memory:".into(), options: Default::default() };
        let storage = Storage::open(&memory, Access::ReadWrite, "test").await.unwrap();
        let clock = Arc::new(ManualClock::new(BASE_US + 30 * 86_400_000_000));
        let options = DatasetOptions {
            member: "one".into(),
            clock: Arc::<ManualClock>::clone(&clock),
            compiler: SqlCompiler::new(),
            flush: FlushLimits { backfill_rows: 1_000, ..FlushLimits::default() },
        };
        let dataset = Dataset::open(storage, options).await.unwrap();
        dataset.apply_tables(&[def], false).await.unwrap();
        let epoch = dataset.claim(&[tp()]).await.unwrap()[0].epoch;
        let table = dataset.snapshot().table("public", "events").unwrap().id;
        let identity = LogIdentity::default();
        let start = StartPosition { table, tp: tp(), epoch, offset: 0, identity };
        dataset.start_positions(vec![start]).await.unwrap();
        let engine = SqlEngine::new(Arc::clone(&dataset), config).unwrap();
        let session = engine.session(SessionOptions { user: "ann".into(), ..Default::default() });
        Self { dataset, engine, session, clock, epoch, end: 0.into() }
    }

    /// With 3,000 rows in two files, 1,500 of them at level 0 and 200 hot ones on top.
    pub(crate) async fn filled() -> Self {
        Self::new().await.fill().await
    }

    pub(crate) async fn fill(self) -> Self {
        let world = self;
        world.append(1_500);
        world.dataset.flush().await.unwrap();
        world.append(1_500);
        world.dataset.flush().await.unwrap();
        world.append(200);
        world
    }

    pub(crate) fn append(&self, n: i64) {
        self.append_rows(n, |rows| rows);
    }

    /// One row of another time.
    pub(crate) fn append_at(&self, time_us: i64) {
        self.append_rows(1, |rows| {
            let times = TimestampMicrosecondArray::from(vec![time_us]).with_timezone("UTC");
            let mut columns = rows.columns().to_vec();
            columns[0] = arrow::compute::cast(&times, columns[0].data_type()).unwrap();
            RecordBatch::try_new(rows.schema(), columns).unwrap()
        });
    }

    fn append_rows(&self, n: i64, change: impl FnOnce(RecordBatch) -> RecordBatch) {
        let from = self.end.fetch_add(n, std::sync::atomic::Ordering::SeqCst);
        let snapshot = self.dataset.snapshot();
        let table = snapshot.table("public", "events").unwrap();
        let append = Append {
            table: table.id,
            tp: tp(),
            epoch: self.epoch,
            from,
            to: from + n,
            batch: change(rows(&table.schema, from, from + n)),
            counts: ReadCounts { kept: n as u64, ..ReadCounts::default() },
            rejected: RecordBatch::new_empty(rejected_schema()),
            fields: vec![],
            identity: LogIdentity::default(),
        };
        self.dataset.append(vec![append]).unwrap();
        self.clock.now_us();
    }

    /// Declares the table otherwise.
    pub(crate) async fn declare(&self, change: impl FnOnce(&mut TableDef)) {
        let mut def = definition();
        change(&mut def);
        self.dataset.apply_tables(&[def], true).await.unwrap();
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        rows_of(&self.session, sql).await.unwrap_or_else(|e| panic!("{sql}\n{e:?}"))
    }

    pub(crate) async fn value(&self, sql: &str) -> String {
        let rows = self.rows(sql).await;
        assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}: {rows:?}");
        rows[0][0].clone()
    }

    pub(crate) async fn error(&self, sql: &str) -> SqlError {
        match rows_of(&self.session, sql).await {
            Err(e) => e,
            Ok(rows) => panic!("{sql} answered {rows:?}"),
        }
    }

    /// The text of the physical plan.
    pub(crate) async fn explain(&self, sql: &str) -> String {
        let rows = self.rows(&format!("EXPLAIN {sql}")).await;
        rows.into_iter().map(|r| r[0].clone()).collect::<Vec<_>>().join("\n")
    }
}

/// Runs the statements of a text; the rows of the last.
pub(crate) async fn rows_of(session: &Session, sql: &str) -> Result<Vec<Vec<String>>, SqlError> {
    let mut rows = Vec::new();
    for statement in session.parse(sql)? {
        rows.clear();
        match session.execute(&statement, vec![]).await? {
            Outcome::Rows { mut stream, .. } | Outcome::CopyOut { mut stream, .. } => {
                while let Some(batch) = stream.next().await {
                    rows.extend(text(&batch.inspect_err(|_| session.fail())?));
                }
            }
            Outcome::Command { tag } => rows.push(vec![tag]),
            Outcome::CopyIn(_) | Outcome::Empty => {}
        }
    }
    Ok(rows)
}

pub(crate) fn text(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap())
        .collect();
    (0..batch.num_rows())
        .map(|i| columns.iter().map(|c| c.value(i).to_string()).collect())
        .collect()
}
