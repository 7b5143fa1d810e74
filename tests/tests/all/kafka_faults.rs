//! What brokers, groups and topics do to a reader: stops, rebalances, zombies, aborted transactions, holes, new
//! partitions, re-created topics and truncated logs. Each ends with every event counted once, or with a clear
//! stop that an operator resolves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::broker::{Broker, Record, Records};
use otus_tests::objects::Objects;
use otus_tests::otus::{Otus, PATIENCE, Setup, get, post, wait_between};
use otus_tests::process::until;
use otus_tests::{events, need};

use crate::exactly_once::{audit, hurried, produce_until, send};

const PARTITIONS: i32 = 4;

/// Produces the ids `[from, to)`, each to the partition that is its own.
pub(crate) fn produce(broker: &Broker, topic: &str, from: u64, to: u64) -> Result<()> {
    let records = broker.producer(&[])?;
    (from..to).try_for_each(|id| send(&records, topic, id))?;
    records.flush()
}

/// Produces the ids `[from, to)` in turn to the first `partitions` of the topic.
fn spread(broker: &Broker, topic: &str, partitions: u64, from: u64, to: u64) -> Result<()> {
    let records = broker.producer(&[])?;
    for id in from..to {
        let partition = i32::try_from(id % partitions)?;
        records.value(topic, partition, &events::payload(id))?;
    }
    records.flush()
}

/// Queues a keyed event in partition 0.
fn keyed(records: &Records, topic: &str, key: &str, id: u64) -> Result<()> {
    let (key, value) = (Some(key.as_bytes()), events::payload(id));
    let record = Record { partition: Some(0), key, value: Some(&value), ..Record::default() };
    records.send(topic, &record)
}

#[test]
fn a_stopped_broker_is_waited_for() -> Result<()> {
    let mut broker = need!(Broker::own());
    let topic = broker.topic("stopped", PARTITIONS, &[])?;
    produce(&broker, &topic, 0, 2_000)?;
    let mut otus = hurried(&topic, &broker).start()?;
    audit(&otus, 2_000)?;
    broker.stop()?;
    let (count, _, _) = events::sums(2_000);
    otus.wait_number("select count(*) from events", count)?;
    otus.kill()?;
    // With the broker down it starts, serves what it has, and is not ready.
    otus.launch()?;
    otus.wait_number("select count(*) from events", count)?;
    let (status, _) = get(&otus.url("/readyz"))?;
    anyhow::ensure!(status == 503, "ready without a broker: {status}");
    broker.launch()?;
    produce(&broker, &topic, 2_000, 4_000)?;
    audit(&otus, 4_000)?;
    otus.wait_ready()?;
    broker.kill()?;
    broker.launch()?;
    produce(&broker, &topic, 4_000, 5_000)?;
    audit(&otus, 5_000)
}

#[test]
fn a_missing_topic_is_waited_for_and_never_created() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic_name("late");
    let otus = hurried(&topic, broker).start()?;
    wait_between(Duration::from_secs(3));
    anyhow::ensure!(broker.watermarks(&topic, 0).is_err(), "the topic was created");
    otus.wait_number("select count(*) from events", 0)?;
    broker.create_topic(&topic, PARTITIONS, &[])?;
    produce(broker, &topic, 0, 500)?;
    audit(&otus, 500)
}

/// How many processes read now.
const READERS: &str = "select count(distinct member) from otus.partitions where member is not null";

/// Tells a story of two processes over one store (the second not yet started) while events flow in. In the end
/// the second must see every event committed once.
fn while_flowing(
    stem: &str,
    broker: &Broker,
    objects: &Objects,
    story: impl FnOnce(&mut Otus, &mut Otus) -> Result<()>,
) -> Result<()> {
    let topic = broker.topic(stem, PARTITIONS, &[])?;
    let setup = || hurried(&topic, broker).storage(objects.storage_section(stem));
    let (mut first, mut second) = (setup().start()?, setup().prepare()?);
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let end = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce_until(broker, &topic, 500, &stop, &made));
        let told = story(&mut first, &mut second);
        stop.store(true, Ordering::SeqCst);
        let end = producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?;
        told.and(end)
    })?;
    drop(first);
    until("every process's rows are committed", PATIENCE, || audit(&second, end))
}

#[test]
fn a_second_process_joins_and_leaves() -> Result<()> {
    let broker = need!(Broker::shared());
    let objects = need!(Objects::shared());
    while_flowing("joined", broker, objects, |first, second| {
        second.launch()?;
        first.wait_number(READERS, 2)?;
        wait_between(Duration::from_secs(3));
        second.stop()?;
        first.wait_number(READERS, 1)?;
        second.launch()?;
        first.wait_number(READERS, 2)?;
        first.kill()?;
        second.wait_number(READERS, 1)?;
        wait_between(Duration::from_secs(2));
        first.launch()?;
        first.wait_number(READERS, 2)?;
        first.stop()
    })
}

#[test]
fn a_zombie_is_refused() -> Result<()> {
    let broker = need!(Broker::shared());
    let objects = need!(Objects::shared());
    while_flowing("zombie", broker, objects, |first, second| {
        let mut freeze = || -> Result<()> {
            first.wait_ready()?;
            wait_between(Duration::from_secs(1));
            let zombie = first.value("select max(member) from otus.partitions")?;
            // Frozen with rows in hand, beyond the group's patience: the other takes all its partitions.
            first.signal("STOP")?;
            second.launch()?;
            let taken = format!(
                "select count(*) from otus.partitions where member <> '{zombie}' and epoch > 1"
            );
            second.wait_number(&taken, i64::from(PARTITIONS))?;
            first.signal("CONT")?;
            // It writes what it still holds, if it does not hear of its loss first; either way it must learn of it.
            post(&first.url("/api/ingest/flush"), "application/json", "{}").ok();
            until("the zombie is told", PATIENCE, || {
                let output = first.output();
                let told = ["a flush lost a partition", "lost to another process"];
                anyhow::ensure!(told.iter().any(|words| output.contains(words)), "not yet");
                Ok(())
            })
        };
        let told = freeze();
        first.signal("CONT").ok();
        told
    })
}

#[test]
fn aborted_transactions_leave_nothing() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("transactions", PARTITIONS, &[])?;
    let records = broker.producer(&[("transactional.id", topic.as_str())])?;
    records.init_transactions()?;
    let otus = hurried(&topic, broker).start()?;
    let mut next = 0;
    for round in 0..6 {
        records.begin()?;
        if round % 2 == 0 {
            (next..next + 300).try_for_each(|id| send(&records, &topic, id))?;
            next += 300;
            records.commit()?;
        } else {
            // Ids of far away: one of them among the rows would show in every sum.
            (1_000_000..1_000_200).try_for_each(|id| send(&records, &topic, id))?;
            records.abort()?;
        }
    }
    audit(&otus, next)?;
    until("caught up past the last marker", PATIENCE, || {
        let partitions = otus.partitions()?;
        let caught_up = partitions.iter().all(|p| p["lag"] == 0);
        anyhow::ensure!(partitions.len() == 4 && caught_up, "{partitions:?}");
        Ok(())
    })?;
    otus.wait_ready()
}

#[test]
fn holes_of_a_compacted_topic_are_passed() -> Result<()> {
    let broker = need!(Broker::shared());
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "500"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "1000"),
    ];
    let topic = broker.topic("holes", 1, &settings)?;
    let records = broker.producer(&[])?;
    // Twenty keys, each written many times: most offsets become holes.
    for id in 0..2_000_u64 {
        keyed(&records, &topic, &format!("key-{}", id % 20), id * 100)?;
    }
    records.flush()?;
    let left = until("the cleaner", PATIENCE, || {
        wait_between(Duration::from_millis(700));
        keyed(&records, &topic, "roll", 0)?;
        records.flush()?;
        let left = broker.offsets(&topic, 0)?;
        anyhow::ensure!(left.len() < 500, "{} records left", left.len());
        Ok(left)
    })?;
    let otus = hurried(&topic, broker).start()?;
    otus.wait_ready()?;
    let found = otus.rows("select _offset from events order by _offset")?;
    let found: Vec<i64> = found
        .into_iter()
        .map(|row| row.into_iter().next().flatten().context("null")?.parse().context("offset"))
        .collect::<Result<_>>()?;
    let now = broker.offsets(&topic, 0)?;
    // The cleaner may go on meanwhile: what was read is what was there at some moment between.
    anyhow::ensure!(
        now.iter().all(|offset| found.contains(offset)),
        "{found:?} lacks one of {now:?}"
    );
    anyhow::ensure!(found.iter().all(|offset| left.contains(offset)), "{found:?} not in {left:?}");
    let (_, high) = broker.watermarks(&topic, 0)?;
    otus.wait_number("select visible_offset from otus.partitions", high)
}

#[test]
fn added_partitions_are_read_from_their_beginning() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("grown", 2, &[])?;
    spread(broker, &topic, 2, 0, 1_000)?;
    let otus = hurried(&topic, broker).start()?;
    audit(&otus, 1_000)?;
    broker.add_partitions(&topic, 4)?;
    spread(broker, &topic, 4, 1_000, 3_000)?;
    audit(&otus, 3_000)?;
    otus.wait_number("select count(*) from otus.partitions", 4)
}

#[test]
fn a_table_that_begins_at_the_end_reads_added_partitions_whole() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("latest", 2, &[])?;
    spread(broker, &topic, 2, 0, 1_000)?;
    let latest = "[tables.events]\nstart = \"latest\"";
    let section = events::table_section(&topic).replace("[tables.events]", latest);
    let otus = Setup::tables(section).kafka(broker).start()?;
    otus.wait_ready()?;
    let after = |end: u64| events::sums(end).0 - events::sums(1_000).0;
    spread(broker, &topic, 2, 1_000, 2_000)?;
    otus.wait_number("select count(*) from events", after(2_000))?;
    // Records are there before Otus has heard of the partitions that hold them.
    broker.add_partitions(&topic, 4)?;
    spread(broker, &topic, 4, 2_000, 3_000)?;
    otus.wait_number("select count(*) from events", after(3_000))?;
    otus.wait_number("select count(*) from otus.partitions", 4)
}

/// A reader that has read the ids `[0, 500)` of a topic with one partition, and is down.
fn read_and_stopped(broker: &Broker, stem: &str) -> Result<(String, Otus)> {
    let topic = broker.topic(stem, 1, &[])?;
    spread(broker, &topic, 1, 0, 500)?;
    let mut otus = hurried(&topic, broker).start()?;
    audit(&otus, 500)?;
    otus.stop()?;
    Ok((topic, otus))
}

/// Started again it stops the partition, for a reason that holds `part`, and what it had stays. Then the operator
/// says to read what is there now, the ids `[from, to)`.
fn reset_after_a_stop(
    otus: &mut Otus,
    topic: &str,
    part: &str,
    (from, to): (u64, u64),
) -> Result<()> {
    otus.launch()?;
    let error = otus.wait_state("stopped")?;
    anyhow::ensure!(error.contains(part), "the error does not name {part}: {error}");
    audit(otus, 500).context("what had been read")?;
    let (status, body) = get(&otus.url("/readyz"))?;
    anyhow::ensure!(status == 503 && body.contains(topic), "{status} {body}");
    otus.run(&["reset", "events", "--topic", topic, "--to", "earliest"])?;
    let rows = |end| events::sums(end).0;
    otus.wait_number("select count(*) from events", rows(500) + rows(to) - rows(from))?;
    otus.flush()?;
    otus.run(&["inspect", "--verify"])?;
    Ok(())
}

#[test]
fn a_created_again_topic_stops_the_partition() -> Result<()> {
    let broker = need!(Broker::shared());
    let (topic, mut otus) = read_and_stopped(broker, "again")?;
    let again = || -> Result<()> {
        broker.delete_topic(&topic)?;
        broker.create_topic(&topic, 1, &[])
    };
    again()?;
    // Longer than before: by offsets alone nothing would look wrong.
    spread(broker, &topic, 1, 10_000, 12_000)?;
    reset_after_a_stop(&mut otus, &topic, &topic, (10_000, 12_000))?;
    // The same offsets are those of other records, and no audit takes one for the other: neither now nor when
    // the files of both are one.
    otus.maintain()?;
    otus.run(&["inspect", "--verify"])?;
    otus.stop()?;
    // And shorter.
    again()?;
    spread(broker, &topic, 1, 20_000, 20_100)?;
    otus.launch()?;
    otus.wait_state("stopped")?;
    otus.run(&["reset", "events", "--topic", &topic, "--to", "earliest"])?;
    let rows = |end| events::sums(end).0;
    let all = rows(500) + rows(12_000) - rows(10_000) + rows(20_100) - rows(20_000);
    otus.wait_number("select count(*) from events", all)?;
    otus.flush()?;
    otus.run(&["inspect", "--verify"])?;
    Ok(())
}

#[test]
fn a_truncated_log_stops_the_partition() -> Result<()> {
    let broker = need!(Broker::shared());
    let (topic, mut otus) = read_and_stopped(broker, "cut")?;
    spread(broker, &topic, 1, 500, 1_500)?;
    broker.truncate(&topic, 0, 1_000)?;
    reset_after_a_stop(&mut otus, &topic, "500", (1_000, 1_500))
}

#[test]
fn every_compression_is_read() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("packed", 1, &[])?;
    let mut next = 0;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let records = broker.producer(&[("compression.type", codec)])?;
        (next..next + 200).try_for_each(|id| records.value(&topic, 0, &events::payload(id)))?;
        records.flush()?;
        next += 200;
    }
    let otus = Setup::tables(events::table_section(&topic)).kafka(broker).start()?;
    audit(&otus, next)
}
