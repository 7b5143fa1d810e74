//! (a) Ingestion: events per second and processor seconds per million events from a preloaded Kafka topic into
//! raw rows and two granularities, durable. Control 1, in the same run: a consumer of the same topic that only
//! decodes with arrow-json. Control 2: the same events from a file beside DuckDB (and chDB where it is
//! installed), raw and two rollups each.
//!
//! Events are the wikiticker day, repeated with shifted times and varied pages, so that repeats flatter nobody.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use otus_benches::{cpu_seconds, float, machine, memory_peak_mib, report, round, sized, skipped};
use otus_tests::broker::{Broker, Record};
use otus_tests::otus::Setup;
use otus_tests::{leash, python, wiki};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::{Value, json};

const PARTITIONS: i32 = 4;

/// The events: the day again and again, each time a day later and with other pages.
fn events(repeats: usize) -> Result<Vec<String>, String> {
    let lines = wiki::lines()?;
    let mut all = Vec::with_capacity(lines.len() * repeats);
    for repeat in 0..repeats {
        let (month, day) = (9 + repeat / 28, 1 + repeat % 28);
        let date = format!("2015-{month:02}-{day:02}T");
        for line in &lines {
            let line = line.replacen("2015-09-12T", &date, 1);
            all.push(line.replacen("\"page\":\"", &format!("\"page\":\"{repeat}:"), 1));
        }
    }
    Ok(all)
}

fn table(source: &str) -> String {
    // Two granularities: the day of the tests' table is left out.
    wiki::table_section(source).replace("[\"minute\", \"hour\", \"day\"]", "[\"minute\", \"hour\"]")
}

/// Otus over the topic, from the start of the process until every row is visible and durable.
fn otus(setup: Setup, rows: u64) -> Result<Value> {
    let mut otus = setup.prepare()?;
    let started = Instant::now();
    otus.launch()?;
    let pid = otus.id().context("not started")?;
    let wanted = i64::try_from(rows)?;
    let client = otus.connect()?;
    while client.numbers("select count(*) from wikipedia")? != [wanted] {
        std::thread::park_timeout(Duration::from_millis(20));
        anyhow::ensure!(started.elapsed() < Duration::from_secs(900), "not done");
    }
    let visible = started.elapsed().as_secs_f64();
    otus.flush()?;
    let durable = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds(pid)?;
    let memory = memory_peak_mib(pid)?;
    otus.stop()?;
    Ok(json!({
        "rows": rows,
        "seconds_visible": round(visible),
        "seconds_durable": round(durable),
        "events_per_second": round(float(rows) / durable),
        "cpu_seconds_per_million": round(cpu / (float(rows) / 1e6)),
        "rows_per_cpu_second": round(float(rows) / cpu),
        "memory_peak_mib": round(memory),
    }))
}

fn decoder() -> Result<arrow::json::reader::Decoder> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let flag = |name: &str| Field::new(name, DataType::Boolean, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = vec![Field::new("time", time, false)];
    let texts = ["channel", "cityName", "comment", "countryIsoCode", "countryName", "namespace"];
    fields.extend(texts.map(text));
    fields.extend(["page", "regionIsoCode", "regionName", "user"].map(text));
    fields.extend(["isAnonymous", "isMinor", "isNew", "isRobot", "isUnpatrolled"].map(flag));
    fields.extend(["metroCode", "delta", "added", "deleted"].map(number));
    let schema = Arc::new(Schema::new(fields));
    Ok(arrow::json::ReaderBuilder::new(schema).with_batch_size(8192).build_decoder()?)
}

/// The control: consume the topic and decode it with arrow-json, nothing else.
fn control(broker: &Broker, topic: &str, rows: u64) -> Result<Value> {
    let before = cpu_seconds(std::process::id())?;
    let started = Instant::now();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("group.id", "control")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        // As Otus itself asks, so that the control never waits where Otus would not.
        .set("fetch.queue.backoff.ms", "10")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "65536")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut decoder = decoder()?;
    let (mut seen, mut decoded) = (0_u64, 0_u64);
    while seen < rows {
        let message = consumer.poll(Duration::from_secs(30)).context("the topic ended early")??;
        let mut rest = message.payload().context("no payload")?;
        seen += 1;
        while !rest.is_empty() {
            let read = decoder.decode(rest)?;
            rest = rest.get(read..).unwrap_or_default();
            if !rest.is_empty() || read == 0 {
                decoded += flush(&mut decoder)?;
            }
        }
        if seen % 8192 == 0 {
            decoded += flush(&mut decoder)?;
        }
    }
    decoded += flush(&mut decoder)?;
    anyhow::ensure!(decoded == rows, "decoded {decoded} of {rows}");
    let seconds = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds(std::process::id())? - before;
    Ok(json!({
        "rows": rows,
        "seconds": round(seconds),
        "events_per_second": round(float(rows) / seconds),
        "cpu_seconds_per_million": round(cpu / (float(rows) / 1e6)),
    }))
}

fn flush(decoder: &mut arrow::json::reader::Decoder) -> Result<u64> {
    Ok(decoder.flush()?.map_or(0, |batch| batch.num_rows()).try_into()?)
}

fn preload(broker: &Broker, lines: &[String]) -> Result<String> {
    let topic = broker.topic("preloaded", PARTITIONS, &[])?;
    let records = broker.producer(&[("compression.type", "lz4"), ("linger.ms", "50")])?;
    for (number, line) in (0_i32..).zip(lines) {
        let (partition, value) = (Some(number % PARTITIONS), Some(line.as_bytes()));
        records.send(&topic, &Record { partition, value, ..Record::default() })?;
    }
    records.flush()?;
    Ok(topic)
}

fn from_kafka(lines: &[String], rows: u64) -> Result<Value> {
    let broker = match Broker::shared() {
        Ok(broker) => broker,
        Err(reason) => return Ok(json!({"skipped": reason})),
    };
    let topic = preload(broker, lines)?;
    let mut runs = Vec::new();
    for _ in 0..sized(3, 1) {
        let control = control(broker, &topic, rows)?;
        let tables = table(&format!("topic = \"{topic}\""));
        let otus = otus(Setup::tables(tables).kafka(broker), rows)?;
        let speed = |v: &Value| v["events_per_second"].as_f64().unwrap_or(f64::NAN);
        let ratio = round(speed(&otus) / speed(&control));
        runs.push(json!({"otus": otus, "control_arrow_json": control, "ratio": ratio}));
    }
    Ok(Value::from(runs))
}

fn from_file(lines: &[String], rows: u64) -> Result<Value> {
    let folder = leash::fresh_folder("bench")?;
    let path = folder.join("events.ndjson");
    let mut file = BufWriter::new(File::create(&path)?);
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.into_inner()?.sync_all()?;
    let mut runs = Vec::new();
    for _ in 0..sized(3, 1) {
        let tables = table(&format!("file = \"{}\"", path.display()));
        let otus = otus(Setup::tables(tables), rows)?;
        runs.push(json!({"otus": otus, "peers": peers(&path)?}));
    }
    Ok(Value::from(runs))
}

/// DuckDB and chDB at the same work, by their Python packages; each says if it is not installed.
fn peers(path: &Path) -> Result<Value> {
    match python::interpreter() {
        Ok(interpreter) => {
            let script = "../../benches/peers.py";
            python::run(&interpreter, script, &[&path.display().to_string()])
        }
        Err(reason) => Ok(json!({"skipped": reason})),
    }
}

fn main() -> Result<()> {
    let machine = machine();
    let lines = match events(sized(26, 1)) {
        Ok(lines) => lines,
        Err(reason) => {
            skipped("ingest", &reason);
            return Ok(());
        }
    };
    let rows = u64::try_from(lines.len())?;
    let results = json!({
        "from_kafka": from_kafka(&lines, rows)?,
        "from_file": from_file(&lines, rows)?,
    });
    report(
        "ingest",
        &machine,
        "from Kafka at least 0.6 of a consumer that only decodes with arrow-json, memory under 1 GiB; \
         from a file chDB's rows per CPU-second",
        &results,
    )
}
