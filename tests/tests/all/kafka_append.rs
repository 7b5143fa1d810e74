//! Appends over HTTP to Kafka: an answer says of each record whether it is durable, and where; a topic is never
//! made; what nobody knows is said to be unknown.

use anyhow::{Context, Result};
use otus_tests::broker::Broker;
use otus_tests::otus::{Otus, Setup, post};
use otus_tests::{events, need};
use serde_json::Value;

/// A reader of the topic that takes appends.
fn open(broker: &Broker, topic: &str, lines: &str) -> Result<Otus> {
    let table = events::table_section(topic).replace("time   =", "append = true\ntime   =");
    Setup::tables(table).kafka_with(&broker.address(), lines).start()
}

/// An event whose kind is padded to about this size.
fn padded(id: u64, bytes: usize) -> Vec<u8> {
    let kind = "x".repeat(bytes);
    let at = events::BEGIN_US;
    format!("{{\"id\":{id},\"at\":{at},\"kind\":\"{kind}\",\"amount\":1}}").into_bytes()
}

fn append(otus: &Otus, topic: &str, records: &[Vec<u8>]) -> Result<(u16, Value)> {
    let body = String::from_utf8(records.join(&b'\n'))?;
    let url = otus.url(&format!("/api/append/{topic}?partition=0"));
    let (status, answer) = post(&url, "application/x-ndjson", &body)?;
    Ok((status, serde_json::from_str(&answer).with_context(|| answer)?))
}

/// The rows there are, as id and offset.
fn rows(otus: &Otus) -> Result<Vec<(i64, i64)>> {
    let rows = otus.rows("select id, _offset from events order by _offset")?;
    let number = |cell: &Option<String>| -> Result<i64> {
        cell.as_deref().context("null")?.parse().context("not a number")
    };
    rows.iter().map(|row| Ok((number(&row[0])?, number(&row[1])?))).collect()
}

#[test]
fn a_missing_topic_is_not_found_and_not_made() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic_name("unmade");
    let otus = open(broker, &topic, "compression.type = \"zstd\"\n")?;
    let (status, answer) = append(&otus, &topic, &[events::payload(1)])?;
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    let hint = answer["error"]["hint"].as_str().unwrap_or_default();
    anyhow::ensure!(status == 404 && message.contains(&topic), "{status} {answer}");
    anyhow::ensure!(hint.contains("never creates topics"), "{answer}");
    anyhow::ensure!(!broker.has_topic(&topic)?, "the topic was created");
    broker.create_topic(&topic, 2, &[])?;
    let (status, answer) = append(&otus, &topic, &[events::payload(1), events::payload(2)])?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    let offsets = [&answer["records"][0]["offset"], &answer["records"][1]["offset"]];
    anyhow::ensure!(offsets == [0, 1], "{answer}");
    otus.wait_number("select count(*) from events", 2)?;
    let url = otus.url(&format!("/api/append/{topic}?partition=7"));
    let (status, answer) = post(&url, "application/json", "[{}]")?;
    anyhow::ensure!(status == 400 && answer.contains("no partition 7"), "{status} {answer}");
    // Properties of the reader and of appends each went to their own client.
    let output = otus.output();
    anyhow::ensure!(!output.contains("will be ignored"), "{output}");
    Ok(())
}

#[test]
fn each_record_of_an_append_is_answered() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("picky", 1, &[("max.message.bytes", "20000")])?;
    let otus = open(broker, &topic, "")?;
    // Together they are a batch that the topic does not take; alone each is small enough.
    let many: Vec<_> = (0..100).map(|id| padded(id, 1_000)).collect();
    let (status, answer) = append(&otus, &topic, &many)?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    otus.wait_number("select count(distinct id) from events", 100)?;
    // One is too large: the others are durable, and it is told which.
    let mixed = [padded(100, 10), padded(101, 40_000), padded(102, 10), padded(103, 2_000_000)];
    let (status, answer) = append(&otus, &topic, &mixed)?;
    anyhow::ensure!(status == 413, "{status} {answer}");
    let error = &answer["error"];
    anyhow::ensure!(error["code"] == "too_large" && error["durable"] == 2, "{answer}");
    anyhow::ensure!(error["not_written"] == 2 && error["unknown"] == 0, "{answer}");
    let message = error["message"].as_str().unwrap_or_default();
    anyhow::ensure!(message.starts_with("record 1: ") && message.contains(&topic), "{message}");
    let records = answer["records"].as_array().context("no records")?;
    for (at, record) in records.iter().enumerate() {
        let is_durable = record["offset"].is_i64() && record["partition"] == 0;
        let is_refused = record["error"]["code"] == "too_large" && record["offset"].is_null();
        anyhow::ensure!(if at % 2 == 0 { is_durable } else { is_refused }, "{at}: {record}");
    }
    otus.wait_number("select count(distinct id) from events", 102)?;
    let found = rows(&otus)?;
    for (id, record) in [(100, &records[0]), (102, &records[2])] {
        let told = record["offset"].as_i64().context("offset")?;
        anyhow::ensure!(found.contains(&(id, told)), "{id} is not at {told}: {found:?}");
    }
    anyhow::ensure!(found.len() == 102, "something was written twice: {found:?}");
    // The command line says so too.
    let file = otus.folder().join("more.ndjson");
    std::fs::write(&file, [padded(200, 10), padded(201, 40_000)].join(&b'\n'))?;
    let output = otus.command(&["append", &topic, "more.ndjson"])?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(!output.status.success(), "{words}");
    anyhow::ensure!(words.contains("1 records are durable"), "{words}");
    anyhow::ensure!(words.contains("record 2 is not durable"), "{words}");
    Ok(())
}

#[test]
fn what_a_broker_does_not_answer_is_unknown_or_not_written() -> Result<()> {
    let mut broker = need!(Broker::own());
    let topic = broker.topic("silent", 1, &[])?;
    let otus = open(&broker, &topic, "message.timeout.ms = 3000\n")?;
    let one = |id: u64| [padded(id, 10)];
    let (status, answer) = append(&otus, &topic, &one(1))?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    // Frozen: the record is on its way, and nobody knows whether it arrives.
    broker.signal("STOP")?;
    let frozen = append(&otus, &topic, &one(2));
    broker.signal("CONT")?;
    let (status, answer) = frozen?;
    anyhow::ensure!(status == 504, "{status} {answer}");
    let record = &answer["records"][0]["error"];
    anyhow::ensure!(record["code"] == "unknown_outcome", "{answer}");
    anyhow::ensure!(answer["error"]["unknown"] == 1, "{answer}");
    let (status, answer) = append(&otus, &topic, &one(3))?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    // Stopped: nothing is sent, so nothing is written.
    broker.stop()?;
    let (status, answer) = append(&otus, &topic, &one(4))?;
    anyhow::ensure!(status == 503, "{status} {answer}");
    broker.launch()?;
    let (status, answer) = append(&otus, &topic, &one(5))?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    let known = "select count(*) from events where id in (1, 3, 5)";
    otus.wait_number(known, 3)?;
    let mut ids: Vec<i64> = rows(&otus)?.into_iter().map(|(id, _)| id).collect();
    ids.retain(|id| *id != 2);
    anyhow::ensure!(ids == [1, 3, 5], "{ids:?}");
    Ok(())
}
