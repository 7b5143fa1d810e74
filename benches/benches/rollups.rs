//! (f) Twenty dashboard queries over raw rows that rollups answer, at several sizes of the same thirty days of
//! events, beside plain DataFusion of the same version, DuckDB and chDB on the same raw Parquet files. With
//! rollups the time should stay flat while that of the files grows. Also what the choice itself costs.
//!
//! `OTUS_BENCH_EVENTS` lists the sizes in millions (`3,30,100`); the data are made up, one seed, in one folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::TryStreamExt;
use otus_benches::{is_smoke, machine, median, percentile, report, round, sized};
use otus_engine::catalog::{
    Accept, ColumnDef, ColumnSource, MeasureDef, Origin, Presentation, Retention, RollupDef,
    Source, Start, TableDef, TableKind,
};
use otus_engine::clock::SystemClock;
use otus_engine::compiled::CompiledTable;
use otus_engine::dataset::{
    Append, Dataset, DatasetOptions, FlushLimits, StartPosition, rejected_schema,
};
use otus_engine::position::{LogIdentity, ReadCounts, TopicPartition};
use otus_engine::store::{Access, Storage, StorageConfig};
use otus_engine::time::Granularity;
use otus_sql::{Outcome, Session, SessionOptions, SqlCompiler, SqlConfig, SqlEngine};
use otus_tests::{leash, python};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// 2026-03-01T00:00:00Z, microseconds.
const BEGIN_US: i64 = 1_772_323_200_000_000;
const DAYS: i64 = 30;
const BATCH_ROWS: i64 = 32 * 1024;
const FLUSH_ROWS: i64 = 1_000_000;

/// Name and query; `{t}` is `date_trunc`'s column, the same text goes to both engines.
const QUERIES: [(&str, &str); 20] = [
    ("total", "select count(*), sum(amount) from events where ts >= '2026-03-01T00:00:00Z'"),
    (
        "total, a week",
        "select count(*), sum(amount), avg(amount) from events \
         where ts >= '2026-03-10T00:00:00Z' and ts < '2026-03-17T00:00:00Z'",
    ),
    (
        "total, odd ends",
        "select count(*), sum(amount) from events where ts >= '2026-03-03T10:17:23Z' and ts < '2026-03-28T17:41:05Z'",
    ),
    (
        "total, one country",
        "select count(*), sum(amount), max(amount) from events where country = 'c3'",
    ),
    (
        "series by day",
        "select date_trunc('day', ts), count(*), sum(amount) from events group by 1 order by 1",
    ),
    (
        "series by hour",
        "select date_trunc('hour', ts), count(*), sum(amount) from events \
         where ts >= '2026-03-20T00:00:00Z' group by 1 order by 1",
    ),
    (
        "series by minute, a day",
        "select date_trunc('minute', ts), count(*) from events \
         where ts >= '2026-03-20T00:00:00Z' and ts < '2026-03-21T00:00:00Z' group by 1 order by 1",
    ),
    (
        "series of a country",
        "select date_trunc('hour', ts), sum(amount) from events where country = 'c7' group by 1 order by 1",
    ),
    (
        "series, two measures",
        "select date_trunc('day', ts), avg(amount), min(amount) from events where kind <> 'k0' group by 1 order by 1",
    ),
    (
        "top kinds",
        "select kind, count(*) n, sum(amount) from events group by kind order by n desc, kind limit 10",
    ),
    (
        "top countries, a week",
        "select country, count(*) n from events where ts >= '2026-03-10T00:00:00Z' and ts < \
         '2026-03-17T00:00:00Z' group by country order by n desc, country limit 10",
    ),
    (
        "top by amount",
        "select country, sum(amount) a from events where kind = 'k1' group by country order by a desc, \
         country limit 10",
    ),
    (
        "two splits",
        "select kind, country, count(*) n from events group by kind, country order by n desc, kind, country limit 50",
    ),
    (
        "two splits over days",
        "select date_trunc('day', ts), kind, count(*), sum(amount) from events group by 1, 2 order by 1, 2",
    ),
    (
        "two splits, filtered",
        "select kind, country, sum(amount) a from events where country in ('c1', 'c2', 'c3') and ts >= \
         '2026-03-05T00:00:00Z' group by kind, country order by kind, country",
    ),
    (
        "compare weeks",
        "select sum(amount) filter (where ts < '2026-03-15T00:00:00Z'), sum(amount) filter (where ts >= \
         '2026-03-15T00:00:00Z') from events where ts >= '2026-03-08T00:00:00Z' and ts < '2026-03-22T00:00:00Z'",
    ),
    (
        "compare by kind",
        "select kind, count(*) filter (where ts < '2026-03-15T00:00:00Z'), count(*) filter (where ts >= \
         '2026-03-15T00:00:00Z') from events where ts >= '2026-03-08T00:00:00Z' and ts < '2026-03-22T00:00:00Z' \
         group by kind order by kind",
    ),
    (
        "shares",
        "select country, sum(case when kind = 'k1' then 1 else 0 end), count(*) from events group by country \
         order by country",
    ),
    (
        "distinct dimensions",
        "select count(distinct country), count(distinct kind) from events where ts >= '2026-03-10T00:00:00Z'",
    ),
    (
        "hours of the day",
        "select extract(hour from ts) h, count(*), avg(amount) from events group by 1 order by 1",
    ),
];

fn definition() -> Result<TableDef> {
    let column = |name: &str, column_type: &str| -> Result<ColumnDef> {
        Ok(ColumnDef {
            name: name.into(),
            column_type: column_type.parse()?,
            source: ColumnSource::Path(vec![name.into()]),
            epoch: None,
            default: None,
            presentation: Presentation::default(),
        })
    };
    let measure = |name: &str, sql: &str| MeasureDef {
        name: name.into(),
        sql: sql.into(),
        presentation: Presentation::default(),
    };
    Ok(TableDef {
        schema: "public".into(),
        name: "events".into(),
        kind: TableKind::Events,
        description: None,
        source: Source::Topics(vec!["events".into()]),
        start: Start::Earliest,
        format: "json".into(),
        time: "ts".into(),
        columns: vec![
            column("ts", "timestamptz")?,
            column("kind", "text")?,
            column("country", "text")?,
            column("user_id", "bigint")?,
            column("amount", "bigint")?,
        ],
        filter: None,
        measures: vec![
            measure("events", "count(*)"),
            measure("total", "sum(amount)"),
            measure("mean", "avg(amount)"),
            measure("least", "min(amount)"),
            measure("most", "max(amount)"),
        ],
        rollups: vec![RollupDef {
            name: "by_kind".into(),
            granularities: vec![Granularity::Minute, Granularity::Hour, Granularity::Day],
            dimensions: vec!["kind".into(), "country".into()],
            filter: None,
            measures: vec![],
        }],
        accept: Accept::default(),
        retention: Retention::default(),
        append: false,
        record_bytes_max: 1 << 20,
        origin: Origin::File,
    })
}

fn batch(
    schema: &SchemaRef,
    random: &mut SmallRng,
    from: i64,
    to: i64,
    all: i64,
) -> Result<RecordBatch> {
    let span = DAYS * 86_400_000_000;
    let at = |i: i64| -> Result<i64> {
        Ok(BEGIN_US + i64::try_from(i128::from(i) * i128::from(span) / i128::from(all))?)
    };
    let times = (from..to).map(at).collect::<Result<Vec<_>>>()?;
    rows_at(schema, random, times, from)
}

/// Rows at these times, from an offset on.
fn rows_at(
    schema: &SchemaRef,
    random: &mut SmallRng,
    times: Vec<i64>,
    from: i64,
) -> Result<RecordBatch> {
    let rows = times.len();
    let to = from + i64::try_from(rows)?;
    let kinds: StringViewArray =
        (0..rows).map(|_| Some(format!("k{}", random.random_range(0_u32..6)))).collect();
    let countries: StringViewArray =
        (0..rows).map(|_| Some(format!("c{}", random.random_range(0_u32..20)))).collect();
    let users: Int64Array = (0..rows).map(|_| random.random_range(0_i64..1_000_000)).collect();
    let amounts: Int64Array = (0..rows)
        .map(|_| (!random.random_bool(0.02)).then(|| random.random_range(0_i64..10_000)))
        .collect();
    let time: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"));
    let columns: Vec<ArrayRef> = vec![
        Arc::clone(&time),
        Arc::new(kinds),
        Arc::new(countries),
        Arc::new(users),
        Arc::new(amounts),
        Arc::new(Int32Array::from(vec![0; rows])),
        Arc::new((from..to).collect::<Int64Array>()),
        time,
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Appends a batch of these offsets.
fn append(
    dataset: &Dataset,
    table: &CompiledTable,
    tp: &TopicPartition,
    epoch: u64,
    (from, to): (i64, i64),
    batch: RecordBatch,
) -> Result<()> {
    dataset.append(vec![Append {
        table: table.id,
        tp: tp.clone(),
        epoch,
        from,
        to,
        counts: ReadCounts { kept: u64::try_from(to - from)?, ..ReadCounts::default() },
        batch,
        rejected: RecordBatch::new_empty(rejected_schema()),
        fields: Vec::new(),
        identity: LogIdentity::default(),
    }])?;
    Ok(())
}

async fn open(folder: &Path, access: Access) -> Result<Arc<Dataset>> {
    let url = format!("file:{}", folder.display());
    let config = StorageConfig { url, ..StorageConfig::default() };
    let storage = Storage::open(&config, access, "bench").await?;
    let options = DatasetOptions {
        member: "bench".into(),
        clock: Arc::new(SystemClock),
        compiler: SqlCompiler::new(),
        flush: FlushLimits::default(),
    };
    Ok(Dataset::open(storage, options).await?)
}

/// Events of one flush of a table that takes 5,000 a second: what a minute brings.
const MINUTE_ROWS: i64 = 300_000;

/// Appends events as they would come: flushed each minute, maintained after it as the server does, the last half
/// minute still in memory.
async fn live(dataset: &Dataset, from: i64, to: i64) -> Result<()> {
    let tp = TopicPartition::new("events", 0);
    let epoch = dataset.claim(std::slice::from_ref(&tp)).await?.first().context("a claim")?.epoch;
    let snapshot = dataset.snapshot();
    let table = Arc::clone(snapshot.table("public", "events").context("no table")?);
    let mut random = SmallRng::seed_from_u64(8);
    let last_flush = to - MINUTE_ROWS / 2;
    let mut at = from;
    while at < to {
        let next = (at + BATCH_ROWS).min(to);
        // The hour before the end of the thirty days.
        let batch = batch_of_hour(&table.schema, &mut random, (at, next), (from, to))?;
        append(dataset, &table, &tp, epoch, (at, next), batch)?;
        if at / MINUTE_ROWS != next / MINUTE_ROWS && next < last_flush {
            dataset.flush().await?;
            dataset.maintain(false).await?;
        }
        at = next;
    }
    Ok(())
}

fn batch_of_hour(
    schema: &SchemaRef,
    random: &mut SmallRng,
    (at, next): (i64, i64),
    (from, to): (i64, i64),
) -> Result<RecordBatch> {
    let hour_us = 3_600_000_000;
    let begin = BEGIN_US + DAYS * 86_400_000_000 - hour_us;
    let time = |i: i64| -> Result<i64> {
        let past = i128::from(i - from) * i128::from(hour_us) / i128::from(to - from);
        Ok(begin + i64::try_from(past)?)
    };
    let times = (at..next).map(time).collect::<Result<Vec<_>>>()?;
    rows_at(schema, random, times, at)
}

/// Makes a dataset of `rows` events, all compacted.
async fn fill(folder: &Path, rows: i64) -> Result<()> {
    let dataset = open(folder, Access::ReadWrite).await?;
    dataset.apply_tables(&[definition()?], true).await?;
    let tp = TopicPartition::new("events", 0);
    let epoch = dataset.claim(std::slice::from_ref(&tp)).await?.first().context("a claim")?.epoch;
    let snapshot = dataset.snapshot();
    let table = Arc::clone(snapshot.table("public", "events").context("no table")?);
    let identity = LogIdentity::default();
    let start = StartPosition { table: table.id, tp: tp.clone(), epoch, offset: 0, identity };
    dataset.start_positions(vec![start]).await?;
    let mut random = SmallRng::seed_from_u64(7);
    let mut from = 0;
    while from < rows {
        let to = (from + BATCH_ROWS).min(rows);
        let batch = batch(&table.schema, &mut random, from, to, rows)?;
        append(&dataset, &table, &tp, epoch, (from, to), batch)?;
        if from / FLUSH_ROWS != to / FLUSH_ROWS || to == rows {
            dataset.flush().await?;
            dataset.maintain(false).await?;
        }
        from = to;
    }
    dataset.maintain(true).await?;
    Ok(())
}

async fn otus_rows(session: &Session, sql: &str) -> Result<Vec<RecordBatch>> {
    let statements = session.parse(sql).map_err(|e| anyhow::anyhow!("{}", e.message))?;
    let mut rows = Vec::new();
    for statement in &statements {
        let outcome = session.execute(statement, Vec::new()).await;
        match outcome.map_err(|e| anyhow::anyhow!("{sql}: {}", e.message))? {
            Outcome::Rows { stream, .. } => rows = stream.try_collect().await?,
            _ => rows.clear(),
        }
    }
    Ok(rows)
}

async fn plain_rows(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    Ok(context.sql(sql).await?.collect().await?)
}

/// Paths of the live raw files.
fn raw_files(dataset: &Dataset, folder: &Path) -> Result<Vec<String>> {
    let snapshot = dataset.snapshot();
    let table = snapshot.table("public", "events").context("no table")?;
    let files = snapshot.raw_files(table.id).iter();
    let files: Vec<_> = files.map(|file| folder.join(&file.path).display().to_string()).collect();
    anyhow::ensure!(!files.is_empty(), "no raw files");
    Ok(files)
}

/// DuckDB and chDB at the same queries, by their Python packages; each says if it is not installed.
fn peers(dataset: &Dataset, folder: &Path) -> Result<Value> {
    let interpreter = match python::interpreter() {
        Ok(interpreter) => interpreter,
        Err(reason) => return Ok(json!({"skipped": reason})),
    };
    let work = folder.join("peers.json");
    let files = raw_files(dataset, folder)?;
    let asked = json!({"files": files, "queries": QUERIES, "runs": sized(3, 1)});
    std::fs::write(&work, asked.to_string())?;
    python::run(&interpreter, "../../benches/dashboards.py", &[&work.display().to_string()])
}

/// The same queries while the last of an hour of 5,000 events a second is in memory.
async fn after_an_hour(folder: &Path, history: i64) -> Result<Value> {
    fill(folder, history).await?;
    let dataset = open(folder, Access::ReadWrite).await?;
    let rows = sized(3_600 * 5_000, 200_000);
    live(&dataset, history, history + rows).await?;
    let engine = SqlEngine::new(Arc::clone(&dataset), SqlConfig::default())
        .map_err(|e| anyhow::anyhow!("{}", e.message))?;
    let session = engine.session(SessionOptions::default());
    let off = engine.session(SessionOptions::default());
    otus_rows(&off, "set otus.rollups = off").await?;
    let (mut all, mut queries) = (Vec::new(), Vec::new());
    for (name, sql) in QUERIES {
        let ours = otus_rows(&session, sql).await?;
        let equal = values(&ours)? == values(&otus_rows(&off, sql).await?)?;
        let mut found = timed(sized(15, 2), || otus_rows(&session, sql)).await?;
        all.extend(found.iter().copied());
        let ms = round(median(&mut found));
        queries.push(json!({"query": name, "same_answer": equal, "rollup_ms": ms}));
    }
    Ok(json!({
        "events_before": history,
        "events_of_the_hour": rows,
        "p50_ms": round(percentile(&mut all, 0.5)),
        "p95_ms": round(percentile(&mut all, 0.95)),
        "queries": queries,
    }))
}

/// The live raw files, as plain DataFusion reads them.
async fn plain(dataset: &Dataset, folder: &Path) -> Result<SessionContext> {
    let config =
        SessionConfig::new().set_bool("datafusion.execution.parquet.schema_force_view_types", true);
    let context = SessionContext::new_with_config(config);
    let files = raw_files(dataset, folder)?;
    let frame = context.read_parquet(files, ParquetReadOptions::default()).await?;
    context.register_table("events", frame.into_view())?;
    Ok(context)
}

fn values(rows: &[RecordBatch]) -> Result<String> {
    let table = arrow::util::pretty::pretty_format_batches(rows)?.to_string();
    let lines = table.lines().skip(3).filter(|l| !l.starts_with('+'));
    Ok(lines.map(|l| l.split_whitespace().collect::<String>() + "\n").collect())
}

/// Milliseconds of repeated runs.
async fn timed<F: Future<Output = Result<Vec<RecordBatch>>>>(
    times: usize,
    run: impl Fn() -> F,
) -> Result<Vec<f64>> {
    let mut found = Vec::with_capacity(times);
    for _ in 0..times {
        let started = Instant::now();
        run().await?;
        found.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(found)
}

/// How often raw rows and plain DataFusion take turns.
fn pairs(rows: i64) -> usize {
    sized(if rows > 50_000_000 { 3 } else { 9 }, 1)
}

async fn measure(folder: PathBuf, rows: i64) -> Result<Value> {
    let started = Instant::now();
    fill(&folder, rows).await?;
    let filled = started.elapsed().as_secs_f64();
    let dataset = open(&folder, Access::ReadOnly).await?;
    let engine = SqlEngine::new(Arc::clone(&dataset), SqlConfig::default())
        .map_err(|e| anyhow::anyhow!("{}", e.message))?;
    let session = engine.session(SessionOptions::default());
    let off = engine.session(SessionOptions::default());
    otus_rows(&session, "set otus.rollups = force").await?;
    otus_rows(&off, "set otus.rollups = off").await?;
    let context = plain(&dataset, &folder).await?;
    let (mut queries, mut all) = (Vec::new(), Vec::new());
    let (mut choice, mut all_ratios) = (Vec::new(), Vec::new());
    for (name, sql) in QUERIES {
        let ours = otus_rows(&session, sql).await?;
        let equal = values(&ours)? == values(&otus_rows(&off, sql).await?)?;
        plain_rows(&context, sql).await?;
        let mut otus = timed(sized(15, 2), || otus_rows(&session, sql)).await?;
        // In turn, so that what else the machine does falls on both.
        let (mut raw, mut files) = (Vec::new(), Vec::new());
        for _ in 0..pairs(rows) {
            raw.extend(timed(1, || otus_rows(&off, sql)).await?);
            files.extend(timed(1, || plain_rows(&context, sql)).await?);
        }
        let mut ratios: Vec<f64> = raw.iter().zip(&files).map(|(raw, files)| raw / files).collect();
        all_ratios.push(median(&mut ratios));
        // Planning alone, with the choice and without.
        let explain = format!("explain {sql}");
        let mut with = timed(sized(15, 2), || otus_rows(&session, &explain)).await?;
        let mut without = timed(sized(15, 2), || otus_rows(&off, &explain)).await?;
        choice.push(median(&mut with) - median(&mut without));
        all.extend(otus.iter().copied());
        queries.push(json!({
            "query": name,
            "same_answer": equal,
            "rollup_ms": round(median(&mut otus)),
            "raw_ms": round(median(&mut raw)),
            "datafusion_ms": round(median(&mut files)),
            "raw_per_datafusion": round(median(&mut ratios)),
        }));
    }
    Ok(json!({
        "events": rows,
        "fill_s": round(filled),
        "p50_ms": round(percentile(&mut all, 0.5)),
        "p95_ms": round(percentile(&mut all, 0.95)),
        "planning_ms_more_than_off": round(median(&mut choice)),
        "raw_per_datafusion": round(median(&mut all_ratios)),
        "queries": queries,
        "peers": peers(&dataset, &folder)?,
    }))
}

fn sizes() -> Vec<i64> {
    let named = std::env::var("OTUS_BENCH_EVENTS").unwrap_or_else(|_| "3,30,100".into());
    let all: Vec<i64> = named.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    if is_smoke() { vec![50_000] } else { all.into_iter().map(|n| n * 1_000_000).collect() }
}

fn main() -> Result<()> {
    let machine = machine();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(16 << 20)
        .build()?;
    let mut results = Vec::new();
    for rows in sizes() {
        let folder = leash::fresh_folder("rollups")?;
        let result = runtime.block_on(async {
            let folder = folder.clone();
            tokio::spawn(async move { Box::pin(measure(folder, rows)).await }).await?
        })?;
        if is_smoke() {
            let list = result["queries"].as_array().context("queries")?;
            anyhow::ensure!(
                list.iter().all(|q| q["same_answer"] == true),
                "answers differ: {result}"
            );
        }
        results.push(result);
        std::fs::remove_dir_all(&folder)?;
    }
    let folder = leash::fresh_folder("rollups")?;
    let hour = runtime.block_on(async {
        let folder = folder.clone();
        let history = sized(3_000_000, 50_000);
        tokio::spawn(async move { Box::pin(after_an_hour(&folder, history)).await }).await?
    })?;
    std::fs::remove_dir_all(&folder)?;
    report(
        "rollups",
        &machine,
        "p50 under 10 ms, also after an hour of ingest, and flat within 2x from 3 to 100 million events",
        &json!({"sizes": results, "after_an_hour_at_5000_a_second": hour}),
    )
}
