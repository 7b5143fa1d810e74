//! Rollups beside DuckDB: every query that a rollup answers by itself has the answer that DuckDB gives over the
//! same rows, while they are hot, after the flush and after compaction.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, Setup};
use otus_tests::postgres::Psql;
use otus_tests::{leash, need, paths, python, skip, wiki};
use serde_json::{Value, json};

/// Flights that are drawn from the file.
const FLIGHTS: i64 = 200_000;

const WIKIPEDIA_QUERIES: &[&str] = &[
    "select channel, count(*), sum(added), sum(deleted) from wikipedia group by channel order by channel",
    "select extract(epoch from h), n, d from (select date_trunc('hour', time) as h, count(*) as n, \
     sum(delta) as d from wikipedia group by 1) s order by 1",
    "select namespace, is_robot, count(*), sum(added) from wikipedia where time >= '2015-09-12 03:07:11' \
     and time < '2015-09-12 19:44:59.5' group by 1, 2 order by 1, 2",
    "select count(*) filter (where is_robot), sum(added) filter (where namespace = 'Main'), \
     sum(case when is_new then added else 0 end), sum(case when is_new then 1 end) from wikipedia \
     where channel in ('#en.wikipedia', '#de.wikipedia')",
    "select channel, sum(added) as a from wikipedia where not is_robot group by channel \
     order by a desc, channel limit 10",
    "select country_name, count(*) as n from wikipedia where country_name is not null \
     group by country_name having count(*) > 20 order by n desc, country_name",
    "select floor(extract(epoch from time) / 300) * 300, count(*) from wikipedia group by 1 order by 1",
    "select channel, namespace, count(*) from wikipedia where channel like '#%n.wikipedia' \
     group by rollup (channel, namespace) order by 1 nulls last, 2 nulls last",
    "select is_robot, is_new, sum(deleted) from wikipedia where time > '2015-09-12 12:00:30' \
     group by grouping sets ((is_robot), (is_new), ()) order by 1 nulls last, 2 nulls last",
    "select count(distinct channel), count(distinct country_name), count(country_name) from wikipedia \
     where time between '2015-09-12 01:02:03' and '2015-09-12 02:03:04'",
    "select 1, count(*), sum(added) from wikipedia where time < '2015-09-12 09:30:00' union all \
     select 2, count(*), sum(added) from wikipedia where time >= '2015-09-12 09:30:00' order by 1",
    "with d as (select channel, count(*) as n from wikipedia group by channel) \
     select channel, n, n::double precision / sum(n) over () from d order by n desc, channel limit 20",
    "select extract(epoch from h), sum(n) over (order by h) from (select date_trunc('minute', time) as h, \
     count(*) as n from wikipedia where is_anonymous group by 1) s order by 1",
    "select a.channel, a.n, b.n from (select channel, count(*) as n from wikipedia \
     where time < '2015-09-12 12:00:00' group by 1) a left join (select channel, count(*) as n from wikipedia \
     where time >= '2015-09-12 12:00:00' group by 1) b on a.channel = b.channel order by 1",
    "select coalesce(country_name, '?'), count(*) from wikipedia where namespace <> 'Main' \
     and not (is_robot or is_minor) group by 1 order by 1",
    "select count(*), sum(delta) from wikipedia where channel = 'none such'",
];

const FLIGHT_QUERIES: &[&str] = &[
    "select origin, count(*), sum(delay), avg(delay), stddev(delay), max(distance) from flights \
     group by origin order by origin",
    "select origin, destination, count(*) as n, avg(delay) from flights group by 1, 2 \
     order by n desc, 1, 2 limit 100",
    "select extract(epoch from d), n, a from (select date_trunc('day', date) as d, count(*) as n, \
     avg(delay) as a from flights where origin in ('ATL', 'SFO') group by 1) s order by 1",
    "select extract(epoch from h), n from (select date_trunc('hour', date) as h, count(*) as n from flights \
     where date >= '2001-02-03 04:05:06' and date < '2001-02-20 21:22:23' group by 1) s order by 1",
    "select origin, count(*), min(distance) from flights where date >= '2001-03-01' and \
     date < '2001-04-01' group by origin order by 2 desc, 1 limit 10",
    "select extract(dow from date), extract(hour from date), count(*), sum(delay) from flights \
     group by 1, 2 order by 1, 2",
    "select count(distinct destination), count(*) from flights where origin = 'ATL'",
    "select sum(case when origin = destination then 1 else 0 end), count(delay), sum(distance) from flights",
    "select origin, destination, sum(distance) from flights where origin like 'S%' \
     group by cube (origin, destination) order by 1 nulls last, 2 nulls last",
    "select extract(month from date), sum(distance) filter (where destination = 'LAX') from flights \
     where date <= '2001-05-17 13:45:00' group by 1 order by 1",
];

const FLIGHTS_TABLE: &str = r#"
[tables.flights]
file = "FILE"
time = "date"

[tables.flights.columns]
date        = "timestamptz"
delay       = "bigint"
distance    = "bigint"
origin      = "text"
destination = "text"

[tables.flights.measures]
flights  = "count(*)"
delay    = "sum(delay)"
delays   = "count(delay)"
spread   = "stddev(delay)"
distance = "sum(distance)"
nearest  = "min(distance)"
farthest = "max(distance)"

[tables.flights.rollups.by_origin]
granularity = ["hour", "day"]
dimensions  = ["origin"]

[tables.flights.rollups.by_route]
granularity = ["hour", "day", "month"]
dimensions  = ["origin", "destination"]
"#;

/// The same text, or the same number within 1e-9.
fn same(ours: &str, theirs: Option<&str>) -> bool {
    let Some(theirs) = theirs else { return ours.is_empty() };
    if ours == theirs {
        return true;
    }
    match (ours.parse::<f64>(), theirs.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
        _ => false,
    }
}

/// Our rows, answered by a rollup, against those of DuckDB.
fn check(psql: &Psql, sql: &str, theirs: &Value) -> Result<()> {
    let found = psql.query_under("force", sql)?;
    let ours: Vec<Vec<&str>> = found.lines().map(|line| line.split('|').collect()).collect();
    let theirs = theirs.as_array().context("no rows")?;
    anyhow::ensure!(
        ours.len() == theirs.len(),
        "{sql}: {} rows, {} wanted",
        ours.len(),
        theirs.len()
    );
    for (a, b) in ours.iter().zip(theirs) {
        let b: Vec<Option<&str>> =
            b.as_array().context("no row")?.iter().map(Value::as_str).collect();
        let alike = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same(a, *b));
        anyhow::ensure!(alike, "{sql}\n  gave      {a:?}\n  DuckDB has {b:?}");
    }
    Ok(())
}

fn check_stages(otus: &Otus, queries: &[&str], theirs: &Value) -> Result<()> {
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    let all = |stage: &str| {
        let theirs = theirs.as_array().context("no answers")?;
        anyhow::ensure!(theirs.len() == queries.len(), "{} answers", theirs.len());
        for (sql, theirs) in queries.iter().zip(theirs) {
            check(&psql, sql, theirs).context(stage.to_owned())?;
        }
        Ok(())
    };
    all("from hot rows")?;
    otus.flush()?;
    all("after the flush")?;
    otus.maintain()?;
    otus.wait_number("select count(*) from otus.segments where level = 0", 0)?;
    all("after compaction")
}

fn duckdb(
    python: &Path,
    path: &Path,
    columns: &Value,
    table: &str,
    queries: &[&str],
) -> Result<Value> {
    let path = path.display().to_string();
    let (columns, queries) = (columns.to_string(), json!(queries).to_string());
    python::run(python, "peer.py", &["answer", &path, &columns, table, &queries])
}

#[test]
fn wikiticker_by_rollups_is_as_in_duckdb() -> Result<()> {
    let python = need!(python::interpreter());
    need!(Psql::new(0));
    let path = paths::data().join("wikiticker-2015-09-12-sampled.json.gz");
    if !path.is_file() {
        skip::unavailable(&format!("there is no {}", path.display()));
        return Ok(());
    }
    let columns = json!({
        "time": ["time", "TIMESTAMP"],
        "channel": ["channel", "VARCHAR"],
        "namespace": ["namespace", "VARCHAR"],
        "country_name": ["countryName", "VARCHAR"],
        "is_robot": ["isRobot", "BOOLEAN"],
        "is_anonymous": ["isAnonymous", "BOOLEAN"],
        "is_new": ["isNew", "BOOLEAN"],
        "is_minor": ["isMinor", "BOOLEAN"],
        "delta": ["delta", "BIGINT"],
        "added": ["added", "BIGINT"],
        "deleted": ["deleted", "BIGINT"],
    });
    let theirs = duckdb(&python, &path, &columns, "wikipedia", WIKIPEDIA_QUERIES)?;
    let tables = wiki::table_section(&format!("file = \"{}\"", path.display()));
    let otus = Setup::tables(tables).start()?;
    otus.wait_number("select count(*) from wikipedia", 39_244)?;
    check_stages(&otus, WIKIPEDIA_QUERIES, &theirs)
}

fn flights_file() -> Option<PathBuf> {
    let named = std::env::var_os("OTUS_BENCH_FLIGHTS").map(PathBuf::from);
    let cached = paths::cache().join("vega-datasets/package/data/flights-3m.parquet");
    named.into_iter().chain([cached]).find(|path| path.is_file())
}

#[test]
fn flights_by_rollups_are_as_in_duckdb() -> Result<()> {
    let python = need!(python::interpreter());
    need!(Psql::new(0));
    let Some(source) = flights_file() else {
        skip::unavailable("flights-3m.parquet is not there (set OTUS_BENCH_FLIGHTS)");
        return Ok(());
    };
    let lines = leash::fresh_folder("flights-peer")?.join("flights.ndjson");
    let (from, to) = (source.display().to_string(), lines.display().to_string());
    let rows = python::run(&python, "peer.py", &["flights", &from, &FLIGHTS.to_string(), &to])?;
    let rows = rows.as_i64().context("a number of flights")?;
    let columns = json!({
        "date": ["date", "TIMESTAMP"],
        "delay": ["delay", "BIGINT"],
        "distance": ["distance", "BIGINT"],
        "origin": ["origin", "VARCHAR"],
        "destination": ["destination", "VARCHAR"],
    });
    let theirs = duckdb(&python, &lines, &columns, "flights", FLIGHT_QUERIES)?;
    let otus = Setup::tables(FLIGHTS_TABLE.replace("FILE", &to)).start()?;
    otus.wait_number("select count(*) from flights", rows)?;
    check_stages(&otus, FLIGHT_QUERIES, &theirs)
}
