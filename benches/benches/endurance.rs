//! (e) Twenty minutes at 5,000 events per second with late and malformed events, compaction, and four clients
//! that query all the time. Files, memory, lag and the p99 of queries in the last quarter stand beside those of
//! the second quarter, which are the control: nothing may grow with time. The raw queries ask for the last five
//! minutes, so that what they read is the same in each quarter; the rollup queries ask for everything.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use otus_benches::{float, machine, memory_now_mib, percentile, report, round, sized, skipped};
use otus_tests::broker::{Broker, Record};
use otus_tests::events;
use otus_tests::otus::{Otus, Setup};
use serde_json::{Value, json};

const PARTITIONS: u64 = 4;
const CLIENTS: usize = 4;
const BEGIN: &str = "2026-01-01T00:00:00Z";
/// What the clients ask; `$SINCE` is five minutes before the newest event time.
const QUERIES: [&str; 4] = [
    "select count(*), sum(amount) from events where at >= '$SINCE'",
    "select date_trunc('minute', at), kind, count(*) from events where at >= '$SINCE' group by 1, 2 order by 1 desc, 2",
    "select bucket, sum(events), sum(amounts) from by_kind_minute group by bucket order by bucket desc limit 60",
    "select country, sum(events), sum(amounts) from by_country_hour group by country order by 2 desc",
];

/// What one quarter looked like.
#[derive(Default)]
struct Quarter {
    files: Vec<f64>,
    memory: Vec<f64>,
    lag: Vec<f64>,
    latency: Vec<f64>,
}

impl Quarter {
    fn summary(&mut self) -> [(&'static str, f64); 4] {
        [
            ("files_max", percentile(&mut self.files, 1.0)),
            ("memory_mib_max", percentile(&mut self.memory, 1.0)),
            ("lag_events_p99", percentile(&mut self.lag, 0.99)),
            ("query_ms_p99", percentile(&mut self.latency, 0.99)),
        ]
    }
}

/// An event of now, sometimes late by up to a day, one in a hundred malformed.
fn payload(id: u64, now_us: i64) -> Vec<u8> {
    if events::is_bad(id) {
        return events::payload(id);
    }
    let late_us =
        if id % 20 == 3 { i64::try_from(id % 86_400).unwrap_or(0) * 1_000_000 } else { 0 };
    let kind = ["start", "move", "buy", "end"].get(usize::try_from(id % 4).unwrap_or(0));
    let country = ["sg", "de", "br", "jp"].get(usize::try_from(id / 7 % 4).unwrap_or(0));
    let at = now_us - late_us;
    json!({"id": id, "at": at, "kind": kind, "country": country, "amount": events::amount(id)})
        .to_string()
        .into_bytes()
}

fn produce(
    broker: &Broker,
    topic: &str,
    rate: u64,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Result<u64> {
    let records = broker.producer(&[])?;
    let started = Instant::now();
    let begin_us = chrono::DateTime::parse_from_rfc3339(BEGIN)?.timestamp_micros();
    let mut id = 0;
    while !stop.load(Ordering::Relaxed) {
        let elapsed_us = u64::try_from(started.elapsed().as_micros())?;
        while id < elapsed_us * rate / 1_000_000 {
            let value = payload(id, begin_us + i64::try_from(elapsed_us)?);
            let partition = Some(i32::try_from(id % PARTITIONS)?);
            records.send(topic, &Record { partition, value: Some(&value), ..Record::default() })?;
            id += 1;
        }
        sent.store(id, Ordering::Relaxed);
        records.poll();
        std::thread::park_timeout(Duration::from_millis(2));
    }
    records.flush()?;
    Ok(id)
}

/// Runs queries until told to stop; gives when each ended and how long it took.
fn client(
    otus: &Otus,
    first: usize,
    started: Instant,
    stop: &AtomicBool,
) -> Result<Vec<(f64, f64)>> {
    let client = otus.connect()?;
    let mut seen = Vec::new();
    for sql in QUERIES.iter().cycle().skip(first) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let newest = chrono::DateTime::parse_from_rfc3339(BEGIN)? + started.elapsed();
        let sql = sql.replace("$SINCE", &(newest - Duration::from_secs(300)).to_rfc3339());
        let asked = Instant::now();
        client.rows(&sql)?;
        seen.push((started.elapsed().as_secs_f64(), asked.elapsed().as_secs_f64() * 1e3));
        std::thread::park_timeout(Duration::from_millis(100));
    }
    Ok(seen)
}

fn watch(
    otus: &Otus,
    seconds: f64,
    started: Instant,
    sent: &AtomicU64,
    quarters: &mut [Quarter; 4],
) -> Result<()> {
    let pid = otus.id().context("not started")?;
    let client = otus.connect()?;
    while started.elapsed().as_secs_f64() < seconds {
        let sent = sent.load(Ordering::Relaxed);
        let seen = client.numbers(
            "select coalesce(sum(visible_offset), 0)::bigint, \
             (select count(*) from otus.segments) from otus.partitions",
        )?;
        let quarter = quarter(quarters, started.elapsed().as_secs_f64(), seconds);
        quarter.lag.push((float(sent) - float(u64::try_from(seen[0])?)).max(0.0));
        quarter.files.push(float(u64::try_from(seen[1])?));
        quarter.memory.push(memory_now_mib(pid)?);
        std::thread::park_timeout(Duration::from_millis(500));
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index from 0 to 3")]
fn quarter(quarters: &mut [Quarter; 4], at: f64, seconds: f64) -> &mut Quarter {
    &mut quarters[((at / seconds * 4.0) as usize).min(3)]
}

fn run(broker: &Broker, rate: u64, seconds: f64) -> Result<Value> {
    let topic = broker.topic("endurance", i32::try_from(PARTITIONS)?, &[])?;
    let otus = Setup::tables(events::table_section(&topic)).kafka(broker).start()?;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut quarters: [Quarter; 4] = Default::default();
    let started = Instant::now();
    let total = std::thread::scope(|scope| -> Result<u64> {
        let producer = scope.spawn(|| produce(broker, &topic, rate, &stop, &sent));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                scope.spawn({
                    let (otus, stop) = (&otus, &stop);
                    move || client(otus, n, started, stop)
                })
            })
            .collect();
        let watched = watch(&otus, seconds, started, &sent, &mut quarters);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let seen = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            for (at, ms) in seen {
                quarter(&mut quarters, at, seconds).latency.push(ms);
            }
        }
        watched?;
        producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?
    })?;
    let good = (0..total).filter(|id| !events::is_bad(*id)).count();
    otus.wait_number("select count(*) from events", i64::try_from(good)?)?;
    otus.wait_number("select sum(events) from by_kind_minute", i64::try_from(good)?)?;
    let [_, second, _, last] = &mut quarters;
    let rows: Vec<Value> = second
        .summary()
        .into_iter()
        .zip(last.summary())
        .map(|((name, second), (_, last))| {
            let ratio = round(last / second.max(1.0));
            json!({"what": name, "second_quarter": round(second), "last_quarter": round(last), "ratio": ratio})
        })
        .collect();
    Ok(json!({"events": total, "seconds": seconds, "events_per_second": rate, "quarters": rows}))
}

fn main() -> Result<()> {
    let machine = machine();
    let broker = match Broker::shared() {
        Ok(broker) => broker,
        Err(reason) => {
            skipped("endurance", &reason);
            return Ok(());
        }
    };
    let minutes: f64 = std::env::var("OTUS_BENCH_MINUTES").ok().map_or(Ok(20.0), |m| m.parse())?;
    let results = run(broker, sized(5_000, 500), sized(minutes * 60.0, 8.0))?;
    report("endurance", &machine, "last quarter at most 1.5 times the second", &results)
}
