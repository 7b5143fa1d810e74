//! (g) Small queries beside a large one: eight clients ask dashboard queries, each a tenth of a second after its
//! last answer, while one client scans and groups all raw rows again and again. Control: the same clients alone, before
//! and after, and the scan alone, in the same run on the same data. No answer is given twice from a cache.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use otus_benches::{float, machine, median, percentile, report, round, sized};
use otus_tests::otus::{Otus, Setup};
use serde_json::{Value, json};

/// 2026-03-01T00:00:00Z, microseconds.
const BEGIN_US: u64 = 1_772_323_200_000_000;
const DAYS: u64 = 30;
const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(100);

const TABLE: &str = r#"
[tables.events]
file = "FILE"
time = "at"

[tables.events.columns]
id      = "bigint"
at      = { type = "timestamptz", unit = "us" }
kind    = "text"
country = "text"
amount  = "bigint"

[tables.events.measures]
events  = "count(*)"
amounts = "sum(amount)"

[tables.events.rollups.by_kind]
granularity = ["hour", "day"]
dimensions  = ["kind", "country"]
"#;

const DASHBOARD: [&str; 4] = [
    "select count(*), sum(amount) from events where at >= '2026-03-10' and at < '2026-03-17'",
    "select date_trunc('day', at), count(*), sum(amount) from events group by 1 order by 1",
    "select kind, count(*) n from events group by kind order by n desc, kind limit 10",
    "select country, sum(amount) a from events where kind = 'k1' group by country order by a desc, country limit 10",
];

const LARGE: &str = "select kind, count(distinct id % 100000), sum(amount * amount), avg(length(country)) \
                     from events where amount >= 0 group by kind order by kind";

fn write_lines(to: &Path, rows: u64) -> Result<()> {
    let mut out = BufWriter::new(File::create(to)?);
    for id in 0..rows {
        let at = BEGIN_US + id * (DAYS * 86_400_000_000) / rows;
        let (kind, country) = (id.wrapping_mul(7) % 11, id.wrapping_mul(31) % 97);
        let amount = id.wrapping_mul(2_654_435_761) % 1_000;
        writeln!(
            out,
            r#"{{"id":{id},"at":{at},"kind":"k{kind}","country":"c{country}","amount":{amount}}}"#
        )?;
    }
    Ok(out.flush()?)
}

/// Milliseconds of each answer of all dashboards within the time.
fn dashboards(otus: &Otus, time: Duration) -> Result<Vec<f64>> {
    let ask = |client: usize| -> Result<Vec<f64>> {
        let connection = otus.connect()?;
        let (begun, mut taken) = (Instant::now(), Vec::new());
        let mut queries = DASHBOARD.iter().cycle().skip(client);
        while begun.elapsed() < time {
            let query = queries.next().context("no query")?;
            let asked = Instant::now();
            connection.rows(query)?;
            taken.push(asked.elapsed().as_secs_f64() * 1e3);
            std::thread::park_timeout(PAUSE);
        }
        Ok(taken)
    };
    let clients = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || ask(client))).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.map_err(|_| anyhow::anyhow!("a client panicked"))??);
    }
    Ok(all)
}

/// Milliseconds of each run of the large query until it is told to end, the one that is under way then included.
fn scans(otus: &Otus, over: &AtomicBool, least: usize) -> Result<Vec<f64>> {
    let connection = otus.connect()?;
    connection.rows("set otus.rollups = off")?;
    let mut taken = Vec::new();
    while taken.len() < least || !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        connection.rows(LARGE)?;
        taken.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    Ok(taken)
}

fn summary(values: &mut [f64]) -> Value {
    json!({
        "answers": values.len(),
        "p50_ms": round(percentile(values, 0.5)),
        "p95_ms": round(percentile(values, 0.95)),
        "max_ms": round(percentile(values, 1.0)),
    })
}

fn main() -> Result<()> {
    let (rows, time) = (sized(10_000_000, 200_000), Duration::from_secs(sized(30, 2)));
    let machine = machine();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("events.ndjson");
    write_lines(&file, rows)?;
    let otus = Setup::tables(TABLE.replace("FILE", &file.display().to_string())).start()?;
    otus.wait_number("select count(*) from events", i64::try_from(rows)?)?;
    otus.flush()?;
    dashboards(&otus, Duration::from_secs(1))?;

    let mut scan_alone = scans(&otus, &AtomicBool::new(true), sized(5, 1))?;
    let mut before = dashboards(&otus, time)?;
    let over = AtomicBool::new(false);
    let (beside, scanned) = std::thread::scope(|scope| {
        let scan = scope.spawn(|| scans(&otus, &over, 1));
        let beside = dashboards(&otus, time);
        over.store(true, Ordering::Relaxed);
        (beside, scan.join())
    });
    let mut beside = beside?;
    let mut scanned = scanned.map_err(|_| anyhow::anyhow!("the scan panicked"))??;
    // The last run ended without the dashboards.
    if scanned.len() > 1 {
        scanned.pop();
    }
    let mut after = dashboards(&otus, time)?;
    let mut alone = [before.as_slice(), after.as_slice()].concat();
    let kept = otus.number("select count(*) from otus.queries where cached")?;
    anyhow::ensure!(kept == 0, "{kept} answers were kept ones");
    let ratio = percentile(&mut beside, 0.95) / percentile(&mut alone, 0.95);
    let lanes = otus.rows("select lane, count(*) from otus.queries group by lane order by lane")?;
    let results = json!({
        "rows": rows,
        "clients": CLIENTS,
        "dashboards_alone": summary(&mut alone),
        "dashboards_alone_before": summary(&mut before),
        "dashboards_alone_after": summary(&mut after),
        "dashboards_beside_the_scan": summary(&mut beside),
        "p95_ratio": round(ratio),
        "scan_alone_ms": round(median(&mut scan_alone)),
        "scan_beside_ms": round(median(&mut scanned)),
        "answers_per_second": round(float(beside.len().try_into()?) / time.as_secs_f64()),
        "latest_queries_by_lane": lanes,
    });
    report(
        "lanes",
        &machine,
        "p95 of the dashboards beside the scan within 3x of theirs alone",
        &results,
    )
}
