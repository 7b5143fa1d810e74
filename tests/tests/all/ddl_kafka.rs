//! Statements over a topic of Kafka: each stops reading for a moment, and no record is lost or read twice by it,
//! while a producer goes on writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::broker::Broker;
use otus_tests::need;
use otus_tests::otus::{Otus, PATIENCE, Setup, wait_between};
use otus_tests::postgres::Psql;
use otus_tests::process::until;

const FILE: &str = "\n[ddl]\ntopics = [\"orders-*\"]\n";
const PARTITIONS: i32 = 3;
/// 2026-01-01T00:00:00Z, microseconds.
const BASE_US: u64 = 1_767_225_600_000_000;
/// Records that are there before the table is.
const BEFORE: u64 = 3_000;

/// Writes orders, one after the other, until it is told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

fn order(id: u64) -> Vec<u8> {
    let (at, country) = (BASE_US + id * 1_000_000, ["de", "fr", "it"][(id % 3) as usize]);
    let url = format!("https://h{}.example/{id}", id % 5);
    format!(
        "{{\"at\":{at},\"id\":{id},\"country\":\"{country}\",\"url\":\"{url}\",\"n\":{}}}",
        id % 7
    )
    .into_bytes()
}

impl Writer {
    fn start(broker: &'static Broker, topic: &str) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (topic, stopped, count) = (topic.to_string(), Arc::clone(&stop), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            let producer = broker.producer(&[])?;
            let mut id = 0;
            while id < BEFORE || !stopped.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    let partition = i32::try_from(id % u64::try_from(PARTITIONS)?)?;
                    producer.value(&topic, partition, &order(id))?;
                    id += 1;
                }
                if id >= BEFORE {
                    producer.flush()?;
                    count.store(id, Ordering::Relaxed);
                    wait_between(Duration::from_millis(20));
                }
            }
            producer.flush()
        });
        Self { stop, written, thread }
    }

    fn count(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer has died"))??;
        Ok(self.written.load(Ordering::Relaxed))
    }
}

const QUERIES: [&str; 3] = [
    "select country, count(*), sum(n) from orders where n > 2 group by 1 order by 1",
    "select date_trunc('hour', at), split_part(url, '/', 3), sum(n) from orders where n > 2 group by 1, 2 order by 1, 2",
    "select count(*), sum(id) from orders",
];

/// Whatever has been read was read once, and rollups answer as raw rows do: all of it on one snapshot.
fn exact(otus: &Otus) -> Result<()> {
    let client = otus.connect()?;
    client.rows("begin isolation level repeatable read")?;
    let places = client.rows(
        "select _partition, count(*), count(distinct _offset), max(_offset) + 1 from orders group by 1",
    )?;
    for place in &places {
        anyhow::ensure!(place[1] == place[2] && place[2] == place[3], "{places:?}");
    }
    for sql in QUERIES {
        client.rows("set otus.rollups = auto")?;
        let auto = client.rows(sql)?;
        client.rows("set otus.rollups = off")?;
        let raw = client.rows(sql)?;
        anyhow::ensure!(auto == raw && !raw.is_empty(), "{sql}: {auto:?} instead of {raw:?}");
    }
    client.rows("commit")?;
    Ok(())
}

/// Carries a statement out; reading goes on behind it, with what is written from now on.
fn step(otus: &Otus, psql: &Psql, writer: &Writer, sql: &str) -> Result<()> {
    psql.query(sql).with_context(|| sql.to_string())?;
    let target = writer.count();
    until(&format!("reading goes on after {sql}"), PATIENCE, || {
        let rows = otus.number("select count(*) from orders")?;
        anyhow::ensure!(rows >= i64::try_from(target)?, "{rows} of {target} rows");
        Ok(())
    })?;
    exact(otus).with_context(|| format!("after {sql}"))
}

/// All that was written is there once, in the table and in the rollup with a filter.
fn whole(otus: &Otus, written: i64) -> Result<()> {
    otus.wait_number("select count(*) from orders", written)?;
    anyhow::ensure!(otus.number("select count(distinct id) from orders")? == written);
    anyhow::ensure!(
        otus.number("select sum(id)::bigint from orders")? == written * (written - 1) / 2
    );
    exact(otus)?;
    otus.maintain()?;
    otus.wait_number("select count(*) from otus.rollups where complete", 2)?;
    let (view, raw) = ("select sum(orders)::bigint from kept_day", "where n > 2 and lang = 'en'");
    let (view, raw) =
        (otus.number(view)?, otus.number(&format!("select count(*) from orders {raw}"))?);
    anyhow::ensure!(view == raw && raw > 0, "{view} instead of {raw}");
    Ok(())
}

#[test]
fn statements_over_kafka_lose_and_double_nothing() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("orders", PARTITIONS, &[])?;
    let mut otus = Setup::tables(FILE).kafka(broker).limit("backfill_rows", "1000").start()?;
    let psql = need!(otus.psql());
    let writer = Writer::start(broker, &topic);
    until("the first records are written", PATIENCE, || {
        anyhow::ensure!(writer.count() >= BEFORE, "{}", writer.count());
        Ok(())
    })?;
    let error =
        psql.error("CREATE TABLE x (at timestamptz) WITH (topic = 'secret', time = 'at')")?;
    anyhow::ensure!(error.contains("[ddl] topics"), "{error}");
    let table = format!(
        "CREATE TABLE orders (at timestamptz WITH (unit = 'us'), id bigint, country text, url text, \
         n smallint, MEASURE orders AS (count(*)), MEASURE total AS (sum(n))) \
         WITH (topic = '{topic}', time = 'at')"
    );
    step(&otus, &psql, &writer, &table)?;
    step(
        &otus,
        &psql,
        &writer,
        "CREATE ROLLUP large ON orders (country, split_part(url, '/', 3) AS host) WHERE n > 2 \
         WITH (granularity = ('minute', 'hour'))",
    )?;
    otus.flush()?;
    otus.wait_number("select count(*) from otus.rollups where complete", 2)?;
    exact(&otus).context("the rollup is filled")?;
    let plan = psql.query(&format!("EXPLAIN {}", QUERIES[1]))?;
    anyhow::ensure!(plan.contains("rollup large"), "{plan}");
    for sql in [
        "ALTER TABLE orders ADD COLUMN lang text DEFAULT 'en'",
        "ALTER TABLE orders ALTER COLUMN n TYPE bigint APPLY",
        "ALTER TABLE orders ADD MEASURE dearest AS (max(n)) APPLY",
        "ALTER ROLLUP large ADD DIMENSION lang APPLY",
        "ALTER ROLLUP large DROP DIMENSION country APPLY",
    ] {
        step(&otus, &psql, &writer, sql)?;
    }
    // Killed in the middle of its work, it goes on where it was.
    otus.kill()?;
    otus.launch()?;
    otus.wait_ready()?;
    step(&otus, &psql, &writer, "ALTER ROLLUP large RESET (filter) APPLY")?;
    // A second table over the same topic comes and goes beside it.
    step(&otus, &psql, &writer, &table.replace("TABLE orders", "TABLE again"))?;
    until("the second table reads the topic from its head", PATIENCE, || {
        let rows = otus.number("select min(_offset) from again")?;
        anyhow::ensure!(rows == 0, "it begins at {rows}");
        Ok(())
    })?;
    step(&otus, &psql, &writer, "DROP TABLE again")?;
    step(&otus, &psql, &writer, "DROP ROLLUP large")?;
    let kept = "CREATE ROLLUP kept ON orders (left(country, 1) AS c) WHERE n > 2 AND lang = 'en' WITH \
                (granularity = ('minute', 'day'))";
    step(&otus, &psql, &writer, kept)?;

    let written = i64::try_from(writer.stop()?)?;
    whole(&otus, written)?;
    otus.stop()?;
    otus.run(&["inspect", "--verify", "-c", "otus.toml"])?;
    otus.launch()?;
    otus.wait_number("select count(*) from orders", written)?;
    psql.query("DROP TABLE orders")?;
    let error = psql.error("select * from orders")?;
    anyhow::ensure!(error.contains("42P01"), "{error}");
    otus.stop()
}
