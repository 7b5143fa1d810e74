//! (d) Start-up of `otus serve` over a dataset of 10,000 segments: from the start of the process until `/healthz`
//! answers and the first `count(*)` has its number. Control: the same binary over an empty dataset.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use otus_benches::{machine, median, report, round, sized};
use otus_engine::catalog::TableId;
use otus_engine::clock::{Clock, SystemClock};
use otus_engine::log::CommitLog;
use otus_engine::log::op::{ColumnStats, FileEntry, Op, StatValue, Target};
use otus_engine::store::{Access, Storage, StorageConfig};
use otus_tests::events;
use otus_tests::otus::{Otus, Setup};
use serde_json::{Value, json};

/// Rows that each made-up segment claims to hold; `count(*)` is answered from the log.
const ROWS: u64 = 50_000;
const PER_COMMIT: u64 = 20;

fn entry(number: u64, now_ms: u64) -> FileEntry {
    let moment = uuid::Timestamp::from_unix(uuid::NoContext, now_ms / 1000, 0);
    let path = uuid::Uuid::new_v7(moment);
    let from = events::BEGIN_US + i64::try_from(number).unwrap_or(0) * 60_000_000;
    let column = |name: &str, min: StatValue, max: StatValue| ColumnStats {
        name: name.into(),
        min: Some(min),
        max: Some(max),
        exact: true,
        nulls: 0,
    };
    FileEntry {
        path: format!("t1/raw/{path}.parquet"),
        target: Target::Raw(TableId(1)),
        // Large, so that maintenance leaves it alone.
        bytes: 256 << 20,
        footer_bytes: 8_000,
        rows: ROWS,
        schema_id: 1,
        level: 1,
        sorted_by: vec!["at".into()],
        time: Some((from, from + 59_999_999)),
        ranges: Vec::new(),
        columns: vec![
            column("id", StatValue::Int(0), StatValue::Int(1_000_000)),
            column("at", StatValue::Int(from), StatValue::Int(from + 59_999_999)),
            column("kind", StatValue::Text("buy".into()), StatValue::Text("start".into())),
            column("country", StatValue::Text("br".into()), StatValue::Text("sg".into())),
            column("amount", StatValue::Int(0), StatValue::Int(999)),
        ],
        created_at_us: from,
        commit: None,
    }
}

/// Lets the server declare its table in a fresh dataset, then adds the segments to the log.
fn prepare(segments: u64) -> Result<Otus> {
    let mut otus = Setup::tables(events::table_section("events")).start()?;
    otus.stop()?;
    if segments == 0 {
        return Ok(otus);
    }
    let url = format!("file:{}", otus.folder().join("data").display());
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let config = StorageConfig { url, ..StorageConfig::default() };
        let storage = Storage::open(&config, Access::ReadWrite, "bench").await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let now_ms = u64::try_from(clock.now_us() / 1000)?;
        let (mut log, _) = CommitLog::open(storage, "bench".into(), clock).await?;
        for first in (0..segments).step_by(usize::try_from(PER_COMMIT)?) {
            let ops = (first..(first + PER_COMMIT).min(segments))
                .map(|number| Op::AddFile { file: entry(number, now_ms) })
                .collect();
            log.commit(ops).await?;
        }
        anyhow::Ok(())
    })?;
    Ok(otus)
}

/// Milliseconds until the endpoint answers, and until the first count does.
fn start(otus: &mut Otus, rows: u64) -> Result<(f64, f64)> {
    let started = Instant::now();
    otus.spawn(&[])?;
    let url = otus.url("/healthz");
    while !otus_tests::otus::get(&url).is_ok_and(|(status, _)| status == 200) {
        anyhow::ensure!(started.elapsed() < Duration::from_secs(120), "no answer");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    let alive = started.elapsed().as_secs_f64() * 1e3;
    let counted = otus.number("select count(*) from events")?;
    let answered = started.elapsed().as_secs_f64() * 1e3;
    anyhow::ensure!(counted == i64::try_from(rows)?, "{counted} rows");
    otus.kill()?;
    Ok((alive, answered))
}

fn measure(segments: u64) -> Result<Value> {
    let mut otus = prepare(segments)?;
    let (mut alive, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..sized(7, 2) {
        let (a, b) = start(&mut otus, segments * ROWS)?;
        alive.push(a);
        answered.push(b);
    }
    let log = std::fs::read_dir(otus.folder().join("data/_log"))
        .context("no log")?
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|data| data.len())
        .sum::<u64>();
    Ok(json!({
        "segments": segments,
        "log_bytes": log,
        "ms_until_healthz": round(median(&mut alive)),
        "ms_until_first_count": round(median(&mut answered)),
    }))
}

fn main() -> Result<()> {
    let machine = machine();
    let results = json!({
        "otus": measure(sized(10_000, 400))?,
        "control_empty": measure(0)?,
    });
    report("startup", &machine, "under 1 s with 10,000 segments", &results)
}
