//! What brokers, groups and topics do to a reader: stops, rebalances, zombies, aborted transactions, holes, new
//! partitions, re-created topics and truncated logs. Each ends with every event counted once, or with a clear
//! stop that an operator resolves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::broker::{Broker, Record};
use otus_tests::objects::Objects;
use otus_tests::otus::{Otus, PATIENCE, Setup, get, wait_between};
use otus_tests::process::until;
use otus_tests::{events, need};

use crate::exactly_once::{audit, hurried, produce_until, send};

const PARTITIONS: i32 = 4;

/// Produces the ids `[from, to)`.
fn produce(broker: &Broker, topic: &str, from: u64, to: u64) -> Result<()> {
    let records = broker.producer(&[])?;
    (from..to).try_for_each(|id| send(&records, topic, id))?;
    records.flush()
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

/// Two processes of one dataset need a shared store.
fn pair(broker: &Broker, objects: &Objects, topic: &str, prefix: &str) -> Result<(Otus, Otus)> {
    let setup = || hurried(topic, broker).storage(objects.storage_section(prefix));
    Ok((setup().start()?, setup().prepare()?))
}

/// Rows committed by anyone, as this process sees them after all flushed.
fn committed(otus: &Otus, end: u64) -> Result<()> {
    until("every process's rows are committed", PATIENCE, || audit(otus, end))
}

#[test]
fn a_second_process_joins_and_leaves() -> Result<()> {
    let broker = need!(Broker::shared());
    let objects = need!(Objects::shared());
    let topic = broker.topic("joined", PARTITIONS, &[])?;
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut first, mut second) = pair(broker, objects, &topic, "joined")?;
    let end = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce_until(broker, &topic, 500, &stop, &made));
        let mut story = || -> Result<()> {
            let both =
                "select count(distinct member) from otus.partitions where member is not null";
            second.launch()?;
            first.wait_number(both, 2)?;
            wait_between(Duration::from_secs(3));
            second.stop()?;
            first.wait_number(both, 1)?;
            second.launch()?;
            first.wait_number(both, 2)?;
            first.kill()?;
            second.wait_number(both, 1)?;
            wait_between(Duration::from_secs(2));
            first.launch()?;
            first.wait_number(both, 2)?;
            first.stop()
        };
        let story = story();
        stop.store(true, Ordering::SeqCst);
        let end = producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?;
        story.map(|()| end)?
    })?;
    committed(&second, end)
}

#[test]
fn a_zombie_is_refused() -> Result<()> {
    let broker = need!(Broker::shared());
    let objects = need!(Objects::shared());
    let topic = broker.topic("zombie", PARTITIONS, &[])?;
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let (first, mut second) = pair(broker, objects, &topic, "zombie")?;
    let end = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce_until(broker, &topic, 500, &stop, &made));
        let mut story = || -> Result<()> {
            first.wait_ready()?;
            wait_between(Duration::from_secs(1));
            // Frozen with rows in hand, beyond the group's patience; the other takes its partitions.
            first.signal("STOP")?;
            second.launch()?;
            let mine =
                "select count(distinct member) from otus.partitions where member is not null";
            second.wait_number(mine, 1)?;
            wait_between(Duration::from_secs(2));
            first.signal("CONT")?;
            wait_between(Duration::from_secs(6));
            Ok(())
        };
        let story = story();
        first.signal("CONT").ok();
        stop.store(true, Ordering::SeqCst);
        let end = producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?;
        story.map(|()| end)?
    })?;
    drop(first);
    committed(&second, end)
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
        let (key, value) = (format!("key-{}", id % 20), events::payload(id * 100));
        let record = Record {
            partition: Some(0),
            key: Some(key.as_bytes()),
            value: Some(&value),
            ..Record::default()
        };
        records.send(&topic, &record)?;
    }
    records.flush()?;
    let left = until("the cleaner", PATIENCE, || {
        wait_between(Duration::from_millis(700));
        let (key, value) = ("roll", events::payload(0));
        let record = Record {
            partition: Some(0),
            key: Some(key.as_bytes()),
            value: Some(&value),
            ..Record::default()
        };
        records.send(&topic, &record)?;
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
    let put = |from: u64, to: u64, partitions: u64| -> Result<()> {
        let records = broker.producer(&[])?;
        for id in from..to {
            let partition = i32::try_from(id % partitions)?;
            records.value(&topic, partition, &events::payload(id))?;
        }
        records.flush()
    };
    put(0, 1_000, 2)?;
    // Even a table that begins at the end reads a partition added later from its beginning.
    let otus = hurried(&topic, broker).start()?;
    audit(&otus, 1_000)?;
    broker.add_partitions(&topic, 4)?;
    put(1_000, 3_000, 4)?;
    audit(&otus, 3_000)?;
    otus.wait_number("select count(*) from otus.partitions", 4)
}

/// Waits until the partition has stopped, and gives what it says.
fn wait_stopped(otus: &Otus) -> Result<String> {
    otus.wait_state("stopped")
}

#[test]
fn a_created_again_topic_stops_the_partition() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("again", 1, &[])?;
    let put = |from: u64, to: u64| -> Result<()> {
        let records = broker.producer(&[])?;
        (from..to).try_for_each(|id| records.value(&topic, 0, &events::payload(id)))?;
        records.flush()
    };
    put(0, 500)?;
    let mut otus = hurried(&topic, broker).start()?;
    audit(&otus, 500)?;
    otus.stop()?;
    broker.delete_topic(&topic)?;
    broker.create_topic(&topic, 1, &[])?;
    // Longer than before: by offsets alone nothing would look wrong.
    put(10_000, 12_000)?;
    otus.launch()?;
    let error = wait_stopped(&otus)?;
    anyhow::ensure!(error.contains(&topic), "the error does not name the topic: {error}");
    audit(&otus, 500).context("nothing of the new topic came in")?;
    let (status, body) = get(&otus.url("/readyz"))?;
    anyhow::ensure!(status == 503 && body.contains(&topic), "{status} {body}");
    // The operator says: read the new topic from its beginning.
    otus.run(&["reset", "events", "--topic", &topic, "--to", "earliest"])?;
    let (old, _, _) = events::sums(500);
    let (before, _, _) = events::sums(10_000);
    let (after, _, _) = events::sums(12_000);
    otus.wait_number("select count(*) from events", old + after - before)
}

#[test]
fn a_truncated_log_stops_the_partition() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("cut", 1, &[])?;
    let put = |from: u64, to: u64| -> Result<()> {
        let records = broker.producer(&[])?;
        (from..to).try_for_each(|id| records.value(&topic, 0, &events::payload(id)))?;
        records.flush()
    };
    put(0, 500)?;
    let mut otus = hurried(&topic, broker).start()?;
    audit(&otus, 500)?;
    otus.stop()?;
    put(500, 1_500)?;
    broker.truncate(&topic, 0, 1_000)?;
    otus.launch()?;
    let error = wait_stopped(&otus)?;
    anyhow::ensure!(error.contains("500"), "the error does not name the position: {error}");
    audit(&otus, 500)?;
    otus.run(&["reset", "events", "--topic", &topic, "--to", "earliest"])?;
    let (old, _, _) = events::sums(500);
    let (before, _, _) = events::sums(1_000);
    let (after, _, _) = events::sums(1_500);
    otus.wait_number("select count(*) from events", old + after - before)
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
