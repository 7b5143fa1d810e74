//! P1 on real Kafka: while events with ids flow in, one in a hundred malformed, the process is killed again and
//! again, at every step of a commit and at moments of chance. In the end each event stands once in raw and in
//! every rollup, and each bad one once in `otus.rejected`.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::broker::{Broker, Record};
use otus_tests::objects::Objects;
use otus_tests::otus::{Otus, Setup, wait_between};
use otus_tests::{events, need};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const PARTITIONS: i32 = 4;
/// Events per second while the process is being killed.
const RATE: u64 = 1_500;
/// Deaths in all; those that are no failpoint come at moments of chance.
const DEATHS: usize = 42;

/// Each step, by failpoint, and how often a process must have died there. `commit.ack_lost` does not kill: the
/// death at a later commit proves that the lost acknowledgement came before.
const STEPS: [(&str, &str); 7] = [
    ("between data file and entry", "flush.files_written:{n}"),
    ("between entry and swap", "commit.put_done:{n}"),
    ("between checkpoint and trim", "checkpoint.written:1"),
    ("in a trim of the log", "trim.deleted:{n}"),
    ("in a compaction", "compact.files_written:1"),
    ("between sweep and delete", "sweep.committed:1"),
    ("after a lost acknowledgement", "commit.ack_lost:2,commit.put_done:4"),
];
const DEATHS_PER_STEP: usize = 3;
/// Entries that a checkpoint holds go at once, not after a week: each process trims the log.
const TRIMS: &str = "trim.at_once";

/// Produces ids from 0 on until told to stop; gives the end of the ids that were acknowledged.
pub(crate) fn produce_until(
    broker: &Broker,
    topic: &str,
    rate: u64,
    stop: &AtomicBool,
    made: &AtomicU64,
) -> Result<u64> {
    let records = broker.producer(&[("compression.type", "lz4")])?;
    let started = std::time::Instant::now();
    let mut id = 0_u64;
    while !stop.load(Ordering::SeqCst) {
        let due = u64::try_from(started.elapsed().as_millis())? * rate / 1_000;
        while id < due {
            send(&records, topic, id)?;
            id += 1;
        }
        records.poll();
        made.store(id, Ordering::SeqCst);
        otus_tests::process::pause(Duration::from_millis(5));
    }
    records.flush()?;
    Ok(id)
}

/// Sends the event of one id to the partition that is its own.
pub(crate) fn send(records: &otus_tests::broker::Records, topic: &str, id: u64) -> Result<()> {
    let partition = Some(i32::try_from(id % u64::from(PARTITIONS.unsigned_abs()))?);
    let value = events::payload(id);
    records.send(topic, &Record { partition, value: Some(&value), ..Record::default() })
}

/// Counts every event in raw, in each granularity of each rollup, and every bad one among the rejected.
pub(crate) fn audit(otus: &Otus, end: u64) -> Result<()> {
    let (count, ids, amounts) = events::sums(end);
    otus.wait_number("select count(*) from events", count)?;
    otus.wait_number("select count(*) from otus.rejected", events::bad(end))?;
    let client = otus.connect()?;
    let raw =
        client.numbers("select count(*), count(distinct id), sum(id), sum(amount) from events")?;
    anyhow::ensure!(raw == [count, count, ids, amounts], "raw {raw:?}, {count} {ids} {amounts}");
    for view in ["by_kind_minute", "by_kind_hour", "by_kind_day", "by_country_hour"] {
        let sql = format!("select sum(events), sum(ids), sum(amounts) from {view}");
        let found = client.numbers(&sql)?;
        anyhow::ensure!(found == [count, ids, amounts], "{view}: {found:?}");
    }
    let bad = client.numbers(
        "select count(*), count(distinct (partition * 1000000000000 + \"offset\")) \
         from otus.rejected",
    )?;
    anyhow::ensure!(bad == [events::bad(end), events::bad(end)], "rejected: {bad:?}");
    otus.flush()?;
    let read = client.numbers(
        "select sum(rows_kept), sum(rows_rejected), sum(rows_filtered) from otus.partitions",
    )?;
    anyhow::ensure!(read == [count, events::bad(end), 0], "otus.partitions: {read:?}");
    Ok(())
}

/// A server that commits, checkpoints, compacts and collects as often as it can.
pub(crate) fn hurried(topic: &str, broker: &Broker) -> Setup {
    Setup::tables(events::table_section(topic))
        .kafka(broker)
        .limit("flush_age", "\"200ms\"")
        .limit("flush_small_rows", "0")
        .limit("compact_files", "4")
        .limit("collect_grace", "\"1s\"")
}

/// Starts the process with a failpoint and waits until it dies there; `false` if it does not within the time.
/// Maintenance is asked for meanwhile: by itself it looks for orphans every few minutes only.
fn die_at(otus: &mut Otus, failpoint: &str) -> Result<bool> {
    let before = otus.output().len();
    otus.spawn(&[("OTUS_FAILPOINT", &format!("{failpoint},{TRIMS}"))])?;
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        if let Ok(status) = otus.wait_end(Duration::from_millis(800)) {
            let output = otus.output();
            let said = output.get(before..).unwrap_or_default();
            let killed = matches!(status.signal(), Some(6 | 9));
            anyhow::ensure!(killed, "{failpoint}: ended with {status}:\n{said}");
            for name in failpoint.split(',').filter_map(|point| point.split(':').next()) {
                let line = otus_engine::failpoint::reached(name);
                anyhow::ensure!(said.contains(&line), "it died, but not at {name:?}:\n{said}");
            }
            return Ok(true);
        }
        // Refused before the endpoint is up, and broken off by the death that is waited for.
        otus.maintain().ok();
    }
    otus.kill()?;
    Ok(false)
}

fn die_by_chance(otus: &mut Otus, rng: &mut SmallRng) -> Result<()> {
    otus.spawn(&[("OTUS_FAILPOINT", TRIMS)])?;
    wait_between(Duration::from_millis(rng.random_range(150..2_500)));
    otus.kill()
}

/// Kills the process at every step and at moments of chance; gives how often it died where.
fn kill_everywhere(otus: &mut Otus, seed: u64) -> Result<BTreeMap<&'static str, usize>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut deaths: BTreeMap<&'static str, usize> = BTreeMap::new();
    for round in 1..=DEATHS_PER_STEP {
        for (step, failpoint) in STEPS {
            let failpoint = failpoint.replace("{n}", &(round + 1).to_string());
            if die_at(otus, &failpoint)? {
                *deaths.entry(step).or_default() += 1;
            }
            die_by_chance(otus, &mut rng)?;
            *deaths.entry("at a moment of chance").or_default() += 1;
        }
    }
    while deaths.values().sum::<usize>() < DEATHS {
        die_by_chance(otus, &mut rng)?;
        *deaths.entry("at a moment of chance").or_default() += 1;
    }
    Ok(deaths)
}

/// Number of the oldest entry that the log still has.
fn first_entry(otus: &Otus) -> Result<u64> {
    let mut first = u64::MAX;
    for entry in std::fs::read_dir(otus.folder().join("data/_log"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(number) = name.strip_suffix(".json").and_then(|n| n.parse().ok()) {
            first = first.min(number);
        }
    }
    Ok(first)
}

#[expect(clippy::print_stdout, reason = "the list of deaths is part of the result")]
fn run(otus: &mut Otus, broker: &Broker, topic: &str, seed: u64) -> Result<()> {
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let (end, deaths) = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce_until(broker, topic, RATE, &stop, &made));
        let deaths = kill_everywhere(otus, seed);
        stop.store(true, Ordering::SeqCst);
        let end = producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?;
        anyhow::Ok((end?, deaths?))
    })?;
    println!("seed {seed}, {end} events, deaths:");
    for (step, count) in &deaths {
        println!("  {count:3} {step}");
    }
    let first = first_entry(otus)?;
    anyhow::ensure!(first > 1, "the log was never trimmed");
    otus.launch()?;
    otus.wait_ready()?;
    audit(otus, end).context("after all deaths")?;
    otus.stop()?;
    otus.run(&["inspect", "--verify"])?;
    otus.launch()?;
    audit(otus, end).context("after a clean stop")?;
    for (step, _) in STEPS {
        let count = deaths.get(step).copied().unwrap_or(0);
        anyhow::ensure!(count >= 2, "only {count} deaths {step}: {deaths:?}");
    }
    let all: usize = deaths.values().sum();
    anyhow::ensure!(all >= 40, "only {all} deaths");
    Ok(())
}

#[test]
fn every_event_once_through_forty_deaths() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("deaths", PARTITIONS, &[])?;
    let mut otus = hurried(&topic, broker).prepare()?;
    run(&mut otus, broker, &topic, 20_261_122)
}

#[test]
fn every_event_once_on_s3() -> Result<()> {
    let broker = need!(Broker::shared());
    let objects = need!(Objects::shared());
    let topic = broker.topic("deaths-s3", PARTITIONS, &[])?;
    let setup = hurried(&topic, broker).storage(objects.storage_section("deaths"));
    let mut otus = setup.prepare()?;
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut rng = SmallRng::seed_from_u64(7);
    let end = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce_until(broker, &topic, RATE, &stop, &made));
        let mut killed = || -> Result<()> {
            for _ in 0..4 {
                die_by_chance(&mut otus, &mut rng)?;
            }
            anyhow::ensure!(die_at(&mut otus, "flush.files_written:2")?, "no flush");
            anyhow::ensure!(die_at(&mut otus, "commit.put_done:2")?, "no commit");
            anyhow::ensure!(die_at(&mut otus, STEPS[6].1)?, "no lost acknowledgement");
            Ok(())
        };
        let killed = killed();
        stop.store(true, Ordering::SeqCst);
        let end = producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?;
        killed?;
        end
    })?;
    otus.launch()?;
    otus.wait_ready()?;
    audit(&otus, end)
}
