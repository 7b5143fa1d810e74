//! (c) Six queries on three million flights beside plain DataFusion, of the same version and in the same process,
//! on the same Parquet files. The ratio is what Otus adds: its provider, its aggregates, its plans.
//!
//! `OTUS_BENCH_FLIGHTS` names `flights-3m.parquet` (npm `vega-datasets`); without it, made-up flights of the same
//! shape are used, and the results say so.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::TryStreamExt;
use otus_benches::{machine, median, report, round, sized};
use otus_engine::clock::SystemClock;
use otus_engine::dataset::{Dataset, DatasetOptions, FlushLimits};
use otus_engine::store::{Access, Storage, StorageConfig};
use otus_sql::{Outcome, Session, SessionOptions, SqlCompiler, SqlConfig, SqlEngine};
use otus_tests::otus::Setup;
use otus_tests::{leash, paths};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

const TABLE: &str = r#"
[tables.flights]
file = "FILE"
time = "date"

[tables.flights.columns]
date        = "timestamptz"
delay       = "bigint"
distance    = "bigint"
origin      = "text"
destination = "text"
"#;

/// Name, and the query; both engines get the same text.
const QUERIES: [(&str, &str); 6] = [
    (
        "hour series",
        "select date_trunc('hour', date) h, count(*), sum(delay) from flights group by 1 order by 1",
    ),
    (
        "top origins of a month",
        "select origin, count(*) n, sum(distance) from flights where date >= '2001-03-01T00:00:00Z' \
         and date < '2001-04-01T00:00:00Z' group by origin order by n desc, origin limit 10",
    ),
    (
        "two splits",
        "select origin, destination, count(*) n, avg(delay) from flights group by origin, destination \
         order by n desc, origin, destination limit 100",
    ),
    (
        "day x origin",
        "select date_trunc('day', date) d, origin, count(*), max(delay) from flights group by 1, 2 order by 1, 2",
    ),
    (
        "distinct with filter",
        "select count(distinct destination) from flights where origin = 'ATL' and delay > 30",
    ),
    (
        "rows of one route",
        "select date, delay from flights where origin = 'SFO' and destination = 'JFK' order by date, delay limit 1000",
    ),
];

fn source() -> Option<PathBuf> {
    let named = std::env::var_os("OTUS_BENCH_FLIGHTS").map(PathBuf::from);
    let cached = paths::cache().join("vega-datasets/package/data/flights-3m.parquet");
    named.into_iter().chain([cached]).find(|path| path.is_file())
}

/// The flights as JSON lines; gives their number and where they are from.
fn write_lines(to: &Path) -> Result<(u64, &'static str)> {
    let mut out = BufWriter::new(File::create(to)?);
    let limit = sized(usize::MAX, 20_000);
    let mut rows = 0;
    match source() {
        Some(path) => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()?;
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
            for batch in reader {
                let batch: RecordBatch = batch?;
                let batch = batch.slice(0, batch.num_rows().min(limit - rows));
                rows += batch.num_rows();
                writer.write(&batch)?;
                if rows >= limit {
                    break;
                }
            }
            writer.finish()?;
        }
        None => {
            rows = sized(3_000_000, 20_000);
            made_up(&mut out, rows)?;
        }
    }
    out.flush()?;
    Ok((u64::try_from(rows)?, source().map_or("made up", |_| "vega-datasets flights-3m")))
}

fn made_up(out: &mut impl Write, rows: usize) -> Result<()> {
    const PLACES: [&str; 8] = ["ATL", "SFO", "JFK", "ORD", "LAX", "DFW", "PHL", "LAS"];
    let mut state = 42_u64;
    for row in 0..rows {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = |shift: u32| {
            PLACES.get(usize::try_from(state >> shift & 7).unwrap_or(0)).unwrap_or(&"")
        };
        let second = 15_638_400 * row / rows;
        let date = 978_307_200 + i64::try_from(second)?;
        let date = chrono::DateTime::from_timestamp(date, 0)
            .context("a date")?
            .format("%Y-%m-%dT%H:%M:%S");
        let (delay, distance) = (state >> 20 & 127, state >> 30 & 2047);
        let (origin, destination) = (place(40), place(50));
        writeln!(
            out,
            "{{\"date\":\"{date}\",\"delay\":{delay},\"distance\":{distance},\"origin\":\"{origin}\",\"destination\":\"{destination}\"}}"
        )?;
    }
    Ok(())
}

/// Lets a server read, flush and compact the file, and stops it; gives the folder of the dataset.
fn load(rows: u64, lines: &Path) -> Result<PathBuf> {
    let mut otus = Setup::tables(TABLE.replace("FILE", &lines.display().to_string())).start()?;
    otus.wait_number("select count(*) from flights", i64::try_from(rows)?)?;
    otus.flush()?;
    otus.maintain()?;
    otus.stop()?;
    Ok(otus.folder().join("data"))
}

async fn otus_rows(session: &Session, sql: &str) -> Result<Vec<RecordBatch>> {
    let statements = session.parse(sql).map_err(|e| anyhow::anyhow!("{}", e.message))?;
    let statement = statements.first().context("no statement")?;
    let outcome = session.execute(statement, Vec::new()).await;
    match outcome.map_err(|e| anyhow::anyhow!("{}", e.message))? {
        Outcome::Rows { stream, .. } => Ok(stream.try_collect().await?),
        other => anyhow::bail!("{other:?}"),
    }
}

async fn plain_rows(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    Ok(context.sql(sql).await?.collect().await?)
}

/// The live files of the dataset, as plain DataFusion reads them.
async fn plain(dataset: &Dataset, folder: &Path) -> Result<SessionContext> {
    let config =
        SessionConfig::new().set_bool("datafusion.execution.parquet.schema_force_view_types", true);
    let context = SessionContext::new_with_config(config);
    let snapshot = dataset.snapshot();
    let table = snapshot.table("public", "flights").context("no table")?;
    let files: Vec<String> = snapshot
        .raw_files(table.id)
        .iter()
        .map(|file| folder.join(&file.path).display().to_string())
        .collect();
    anyhow::ensure!(
        !files.is_empty() && snapshot.hot(table.id).is_empty(),
        "rows are not all in files"
    );
    let frame = context.read_parquet(files, ParquetReadOptions::default()).await?;
    context.register_table("flights", frame.into_view())?;
    Ok(context)
}

/// Whether both gave the same values in the same order. Column names differ by design, and with them the widths; so
/// do the types of sums and averages (exact in Otus, doubles in DataFusion): numbers are compared as numbers.
fn same(a: &[RecordBatch], b: &[RecordBatch]) -> Result<bool> {
    let cells = |rows: &[RecordBatch]| -> Result<Vec<Vec<String>>> {
        let table = arrow::util::pretty::pretty_format_batches(rows)?.to_string();
        let lines = table.lines().skip(3).filter(|l| !l.starts_with('+'));
        Ok(lines.map(|l| l.split('|').map(|cell| cell.trim().to_owned()).collect()).collect())
    };
    let equal = |a: &String, b: &String| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => (x - y).abs() <= 1e-9 * x.abs().max(y.abs()),
        _ => a == b,
    };
    let (a, b) = (cells(a)?, cells(b)?);
    let row = |(a, b): (&Vec<String>, &Vec<String>)| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
    };
    Ok(a.len() == b.len() && a.iter().zip(&b).all(row))
}

async fn measure(folder: &Path) -> Result<Value> {
    let url = format!("file:{}", folder.display());
    let storage = Storage::open(
        &StorageConfig { url, ..StorageConfig::default() },
        Access::ReadOnly,
        "bench",
    )
    .await?;
    let options = DatasetOptions {
        member: "bench".into(),
        clock: Arc::new(SystemClock),
        compiler: SqlCompiler::new(),
        flush: FlushLimits::default(),
    };
    let dataset = Dataset::open(storage, options).await?;
    let engine = SqlEngine::new(Arc::clone(&dataset), SqlConfig::default())
        .map_err(|e| anyhow::anyhow!("{}", e.message))?;
    let session = engine.session(SessionOptions::default());
    let context = plain(&dataset, folder).await?;
    let mut queries = Vec::new();
    for (name, sql) in QUERIES {
        let (ours, theirs) = (otus_rows(&session, sql).await?, plain_rows(&context, sql).await?);
        let equal = same(&ours, &theirs)?;
        let (mut otus, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..sized(15, 2) {
            let started = Instant::now();
            otus_rows(&session, sql).await?;
            otus.push(started.elapsed().as_secs_f64() * 1e3);
            let started = Instant::now();
            plain_rows(&context, sql).await?;
            plain.push(started.elapsed().as_secs_f64() * 1e3);
        }
        let (otus, plain) = (median(&mut otus), median(&mut plain));
        queries.push(json!({
            "query": name,
            "same_answer": equal,
            "otus_ms": round(otus),
            "datafusion_ms": round(plain),
            "ratio": round(otus / plain),
        }));
    }
    Ok(Value::from(queries))
}

fn main() -> Result<()> {
    let machine = machine();
    let folder = leash::fresh_folder("flights")?;
    let lines = folder.join("flights.ndjson");
    let (rows, from) = write_lines(&lines)?;
    let data = load(rows, &lines)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(16 << 20)
        .build()?;
    let queries =
        runtime.block_on(async { tokio::spawn(async move { measure(&data).await }).await? })?;
    let list = queries.as_array().context("queries")?;
    anyhow::ensure!(list.iter().all(|q| q["same_answer"] == true), "answers differ: {queries}");
    let results = json!({"rows": rows, "data": from, "queries": queries});
    report("queries", &machine, "within 10% of plain DataFusion on the same files", &results)
}
