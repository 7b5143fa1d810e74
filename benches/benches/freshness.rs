//! (b) Produce-to-visible: an open-loop producer at 5,000 and 20,000 events per second, whose acknowledgement is
//! not waited for, and a client that asks again and again for the greatest offset it can see in each partition:
//! an event counts as visible when its own partition shows it. Control: the same
//! producer and a consumer that only receives, which is the delay that Kafka and the machine have by themselves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use otus_benches::{float, machine, percentile, report, round, sized, skipped};
use otus_tests::broker::{Broker, Record};
use otus_tests::otus::Setup;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::{Value, json};

const PARTITIONS: u64 = 4;

const TABLE: &str = r#"
[tables.ticks]
topic  = "TOPIC"
format = "json"
time   = "at"

[tables.ticks.columns]
id      = "bigint"
at      = { type = "timestamptz", unit = "us" }
kind    = "text"
country = "text"
amount  = "bigint"

[tables.ticks.measures]
ticks  = "count(*)"
amount = "sum(amount)"

[tables.ticks.rollups.by_kind]
granularity = ["minute", "hour"]
dimensions  = ["kind", "country"]
"#;

/// Produces at the rate until the time is over; ids are dense, and the id tells when it was due.
fn produce(broker: &Broker, topic: &str, rate: u64, seconds: u64, started: Instant) -> Result<u64> {
    let records = broker.producer(&[("linger.ms", "2")])?;
    let total = rate * seconds;
    let mut id = 0;
    while id < total {
        let due = u64::try_from(started.elapsed().as_micros())? * rate / 1_000_000;
        while id < due.min(total) {
            let value = otus_tests::events::payload(id * 100);
            let text =
                String::from_utf8(value)?.replacen(&(id * 100).to_string(), &id.to_string(), 1);
            let partition = Some(i32::try_from(id % PARTITIONS)?);
            let record = Record { partition, value: Some(text.as_bytes()), ..Record::default() };
            records.send(topic, &record)?;
            id += 1;
        }
        records.poll();
        std::thread::park_timeout(Duration::from_millis(1));
    }
    records.flush()?;
    Ok(total)
}

/// Milliseconds from when each event was due until now, for events newly seen: ids go round the partitions, so
/// the id of an event is its offset times the partitions, and its partition.
fn note(
    delays: &mut Vec<f64>,
    partition: u64,
    offsets: std::ops::Range<u64>,
    rate: u64,
    started: Instant,
) {
    let now = started.elapsed().as_secs_f64() * 1e3;
    let id = |offset| float(offset * PARTITIONS + partition);
    delays.extend(offsets.map(|offset| now - id(offset) * 1e3 / float(rate)));
}

fn summary(mut delays: Vec<f64>, warm: usize) -> Value {
    delays.drain(..warm.min(delays.len()));
    json!({
        "events": delays.len(),
        "p50_ms": round(percentile(&mut delays, 0.5)),
        "p99_ms": round(percentile(&mut delays, 0.99)),
        "max_ms": round(percentile(&mut delays, 1.0)),
    })
}

fn otus(broker: &Broker, rate: u64, seconds: u64) -> Result<Value> {
    let topic = broker.topic("fresh", i32::try_from(PARTITIONS)?, &[])?;
    let otus = Setup::tables(TABLE.replace("TOPIC", &topic)).kafka(broker).start()?;
    otus.wait_ready()?;
    let client = otus.connect()?;
    client.rows("select count(*) from ticks")?;
    let started = Instant::now();
    let mut delays = Vec::new();
    let total = std::thread::scope(|scope| -> Result<u64> {
        let producer = scope.spawn(|| produce(broker, &topic, rate, seconds, started));
        let mut seen = vec![0_u64; usize::try_from(PARTITIONS)?];
        while seen.iter().sum::<u64>() < rate * seconds {
            let least = seen.iter().min().copied().unwrap_or(0);
            let newest = format!(
                "select _partition, max(_offset) + 1 from ticks where _offset >= {least} group by 1"
            );
            for row in client.rows(&newest)? {
                let [Some(partition), Some(next)] = row.as_slice() else {
                    anyhow::bail!("{row:?}")
                };
                let (partition, next): (usize, u64) = (partition.parse()?, next.parse()?);
                note(&mut delays, partition.try_into()?, seen[partition]..next, rate, started);
                seen[partition] = next;
            }
            std::thread::park_timeout(Duration::from_millis(2));
            anyhow::ensure!(started.elapsed() < Duration::from_secs(seconds + 120), "stuck");
        }
        producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?
    })?;
    anyhow::ensure!(total == rate * seconds, "produced {total}");
    Ok(summary(delays, usize::try_from(rate)?))
}

fn control(broker: &Broker, rate: u64, seconds: u64) -> Result<Value> {
    let topic = broker.topic("control", i32::try_from(PARTITIONS)?, &[])?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("group.id", "freshness-control")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "10")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(PARTITIONS)? {
        list.add_partition_offset(&topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let stopped = AtomicBool::new(false);
    let received = AtomicU64::new(0);
    let started = Instant::now();
    let mut delays = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let producer = scope.spawn(|| produce(broker, &topic, rate, seconds, started));
        for seen in 0..rate * seconds {
            let message = consumer.poll(Duration::from_secs(30)).context("nothing came")??;
            anyhow::ensure!(message.payload().is_some(), "an empty record");
            let (partition, offset) =
                (message.partition().try_into()?, message.offset().try_into()?);
            note(&mut delays, partition, offset..offset + 1, rate, started);
            received.store(seen + 1, Ordering::Relaxed);
        }
        stopped.store(true, Ordering::Relaxed);
        producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))??;
        Ok(())
    })?;
    Ok(summary(delays, usize::try_from(rate)?))
}

fn main() -> Result<()> {
    let machine = machine();
    let broker = match Broker::shared() {
        Ok(broker) => broker,
        Err(reason) => {
            skipped("freshness", &reason);
            return Ok(());
        }
    };
    let seconds = sized(30, 2);
    let mut results = Vec::new();
    for rate in sized(vec![5_000, 20_000], vec![1_000]) {
        results.push(json!({
            "events_per_second": rate,
            "seconds": seconds,
            "otus": otus(broker, rate, seconds)?,
            "control_consumer": control(broker, rate, seconds)?,
        }));
    }
    report("freshness", &machine, "p99 under 250 ms at both rates", &Value::from(results))
}
