//! Appends over HTTP to Kafka: an answer says of each record whether it is durable, and where; a topic is never
//! made; what nobody knows is said to be unknown.

use anyhow::{Context, Result};
use otus_tests::broker::Broker;
use otus_tests::otus::{Otus, Setup, post};
use otus_tests::{events, need};
use serde_json::{Value, json};

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

/// Appends one record after another to a partition, and keeps what each was answered.
struct Appends<'a> {
    otus: &'a Otus,
    topic: &'a str,
    next: u64,
    /// Ids with the offsets told.
    durable: Vec<(i64, i64)>,
    not_written: Vec<i64>,
    unknown: Vec<i64>,
}

impl<'a> Appends<'a> {
    /// Tries until an answer that may take its time is there. A client that is thrown out of step says so of a
    /// record or two, and truly: which answer comes first depends on what it has noticed by then.
    const TRIES: usize = 20;

    fn new(otus: &'a Otus, topic: &'a str) -> Self {
        let (durable, not_written, unknown) = (Vec::new(), Vec::new(), Vec::new());
        Self { otus, topic, next: 1, durable, not_written, unknown }
    }

    /// Appends one more record and gives the status. Status and answer must say the same.
    fn one(&mut self) -> Result<u16> {
        let id = self.next;
        self.next += 1;
        let (status, answer) = append(self.otus, self.topic, &[padded(id, 10)])?;
        let id = i64::try_from(id)?;
        let (record, error) = (&answer["records"][0], &answer["error"]);
        let says = match status {
            200 => {
                let offset = record["offset"].as_i64();
                self.durable.extend(offset.map(|offset| (id, offset)));
                offset.is_some() && record["partition"] == 0
            }
            503 => {
                self.not_written.push(id);
                let message = error["message"].as_str().unwrap_or_default();
                let of_record = record["error"]["code"] == "unavailable"
                    && (&error["not_written"], &error["unknown"]) == (&json!(1), &json!(0));
                error["code"] == "unavailable"
                    && (of_record || message.starts_with("nothing was written"))
            }
            504 => {
                self.unknown.push(id);
                record["error"]["code"] == "unknown_outcome"
                    && (&error["not_written"], &error["unknown"]) == (&json!(0), &json!(1))
            }
            _ => false,
        };
        anyhow::ensure!(says, "record {id}: {status} {answer}");
        Ok(status)
    }

    /// Appends until a record gets this status.
    fn until(&mut self, wanted: u16) -> Result<()> {
        let mut statuses = Vec::new();
        while statuses.last() != Some(&wanted) {
            anyhow::ensure!(statuses.len() < Self::TRIES, "never {wanted}, but {statuses:?}");
            statuses.push(self.one()?);
        }
        Ok(())
    }

    /// Freezes the broker under one append and gives its status.
    fn frozen(&mut self, broker: &Broker) -> Result<u16> {
        broker.signal("STOP")?;
        let status = self.one();
        broker.signal("CONT")?;
        status
    }

    /// What was told is what is there: nothing durable is missing or elsewhere, nothing that was not written is
    /// there, nothing is there twice.
    fn audit(&self) -> Result<()> {
        let last = self.durable.last().context("nothing is durable")?.0;
        self.otus.wait_number(&format!("select count(*) from events where id = {last}"), 1)?;
        let found = rows(self.otus)?;
        let missing = self.durable.iter().find(|told| !found.contains(told));
        anyhow::ensure!(missing.is_none(), "{missing:?} is not among {found:?}");
        let wrong = found.iter().find(|(id, _)| self.not_written.contains(id));
        anyhow::ensure!(wrong.is_none(), "{wrong:?} was said not to be written: {found:?}");
        let mut ids: Vec<i64> = found.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        anyhow::ensure!(ids.len() == found.len(), "something was written twice: {found:?}");
        Ok(())
    }
}

#[test]
fn what_a_broker_does_not_answer_is_unknown_or_not_written() -> Result<()> {
    let mut broker = need!(Broker::own());
    let topic = broker.topic("silent", 1, &[])?;
    let otus = open(&broker, &topic, "message.timeout.ms = 3000\n")?;
    let mut appends = Appends::new(&otus, &topic);
    // Frozen: the record is on its way, and nobody knows whether it arrives. Unless the client had to ask first.
    let mut statuses = Vec::new();
    while statuses.last() != Some(&504) && statuses.len() < 3 {
        appends.until(200).context("before the broker is frozen")?;
        statuses.push(appends.frozen(&broker).context("under a frozen broker")?);
    }
    anyhow::ensure!(statuses.ends_with(&[504]), "under a frozen broker: {statuses:?}");
    appends.until(200).context("after the broker was frozen")?;
    // Stopped: nothing is sent, so nothing is written; unless the client has not noticed yet.
    broker.stop().context("stopping the broker")?;
    appends.until(503).context("without a broker")?;
    broker.launch().context("starting the broker again")?;
    appends.until(200).context("after the broker was started again")?;
    appends.audit()
}
