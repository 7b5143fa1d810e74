//! P3: one statement sees one moment. While events flow and flushes and compactions run, a thousand statements
//! that compare raw, each rollup and a second table of the same topic never disagree; a cursor keeps its moment
//! across compactions and past its age is refused, a prepared statement sees the newest.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::broker::Broker;
use otus_tests::otus::{Otus, PATIENCE, Setup, wait_between};
use otus_tests::process::until;
use otus_tests::{events, need};

use crate::exactly_once::produce_until;

const PARTITIONS: i32 = 4;
const STATEMENTS: usize = 1_000;

/// The made-up events and a second, narrower table of the same topic.
fn two_tables(topic: &str) -> String {
    let mut text = events::table_section(topic);
    let second = r#"
[tables.sales]
topic  = "TOPIC"
format = "json"
time   = "at"

[tables.sales.columns]
id     = "bigint"
at     = { type = "timestamptz", unit = "us" }
amount = "bigint"

[tables.sales.measures]
sales = "count(*)"
total = "sum(amount)"

[tables.sales.rollups.sales_by]
granularity = ["hour"]
dimensions  = []
"#;
    write!(text, "{}", second.replace("TOPIC", topic)).ok();
    text
}

fn busy(broker: &Broker, topic: &str) -> Result<Otus> {
    Setup::tables(two_tables(topic))
        .kafka(broker)
        .limit("flush_age", "\"300ms\"")
        .limit("flush_small_rows", "0")
        .limit("compact_files", "4")
        .start()
}

const COMPARE: &str = "select (select count(*) from events), (select coalesce(sum(id), 0) from events), \
    (select coalesce(sum(amount), 0) from events), \
    (select coalesce(sum(events), 0) from by_kind_minute), \
    (select coalesce(sum(ids), 0) from by_kind_minute), \
    (select coalesce(sum(amounts), 0) from by_kind_minute), \
    (select coalesce(sum(events), 0) from by_kind_hour), \
    (select coalesce(sum(ids), 0) from by_kind_hour), \
    (select coalesce(sum(amounts), 0) from by_kind_hour), \
    (select coalesce(sum(events), 0) from by_kind_day), \
    (select coalesce(sum(ids), 0) from by_kind_day), \
    (select coalesce(sum(amounts), 0) from by_kind_day), \
    (select count(*) from sales), (select coalesce(sum(id), 0) from sales), \
    (select coalesce(sum(total), 0) from sales_by_hour)";

fn compare(row: &[i64]) -> Result<()> {
    let [count, ids, amounts] = [row[0], row[1], row[2]];
    for view in [&row[3..6], &row[6..9], &row[9..12]] {
        anyhow::ensure!(view == [count, ids, amounts], "a rollup disagrees with raw: {row:?}");
    }
    anyhow::ensure!(row[12..] == [count, ids, amounts], "the second table disagrees: {row:?}");
    Ok(())
}

/// Statements until the number is reached; gives how many different moments they saw.
fn statements(otus: &Otus, number: usize) -> Result<usize> {
    let client = otus.connect()?;
    let (mut last, mut moments) = (vec![-1], 0);
    for _ in 0..number {
        let row = client.numbers(COMPARE)?;
        compare(&row)?;
        anyhow::ensure!(row[0] >= last[0], "time went back: {last:?}, then {row:?}");
        moments += usize::from(row != last);
        last = row;
    }
    Ok(moments)
}

#[test]
fn a_thousand_statements_never_disagree() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("moments", PARTITIONS, &[])?;
    let otus = busy(broker, &topic)?;
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let moments = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce_until(broker, &topic, 2_000, &stop, &made));
        let halves: Vec<_> =
            (0..2).map(|_| scope.spawn(|| statements(&otus, STATEMENTS / 2))).collect();
        let halves: Vec<_> = halves.into_iter().map(|half| half.join()).collect();
        stop.store(true, Ordering::SeqCst);
        producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))??;
        halves
            .into_iter()
            .map(|half| half.map_err(|_| anyhow::anyhow!("a client panicked"))?)
            .sum::<Result<usize>>()
    })?;
    // The comparison means nothing unless the data moved under it.
    anyhow::ensure!(moments > 100, "the statements saw only {moments} moments");
    let files = otus.number("select max(level) from otus.segments")?;
    anyhow::ensure!(files > 0, "no compaction ran meanwhile");
    Ok(())
}

/// The grace is short, so that merged files are really deleted below the cursor; what its snapshot names stays
/// for as long as it may be read, which is half of the grace.
#[test]
fn a_cursor_keeps_its_moment_and_a_prepared_statement_moves_on() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("cursors", PARTITIONS, &[])?;
    let otus = Setup::tables(two_tables(&topic))
        .kafka(broker)
        .limit("flush_small_rows", "0")
        .limit("compact_files", "4")
        .limit("collect_grace", "\"60s\"")
        .start()?;
    let records = broker.producer(&[])?;
    let put = |from: u64, to: u64| -> Result<()> {
        (from..to).try_for_each(|id| crate::exactly_once::send(&records, &topic, id))?;
        records.flush()?;
        otus.wait_number("select count(*) from events", events::sums(to).0)?;
        otus.flush()
    };
    put(0, 2_500)?;
    put(2_500, 5_000)?;
    let garbage = live_files(&otus)?;
    otus.maintain()?;
    let named = live_files(&otus)?;
    anyhow::ensure!(named.is_disjoint(&garbage), "nothing was merged");
    // What was merged before the cursor began has almost reached its grace.
    wait_between(Duration::from_secs(45));
    let mut client = otus.connect()?;
    let before = client.with(async |c| {
        let prepared = c.prepare("select count(*) from events where amount >= $1").await?;
        let before: i64 = c.query_one(&prepared, &[&0_i64]).await?.get(0);
        c.batch_execute("begin; declare walk cursor for select id from events order by id").await?;
        let first = c.query("fetch 100 from walk", &[]).await?;
        anyhow::ensure!(first.len() == 100, "{} rows", first.len());
        Ok((prepared, before))
    })?;
    // Flushes, compactions and collections under the open cursor.
    for step in 1..=4 {
        put(step * 5_000, (step + 1) * 5_000)?;
        otus.maintain()?;
    }
    until("a collection under the cursor", PATIENCE, || {
        otus.maintain()?;
        let left = present(&otus, &garbage);
        anyhow::ensure!(left == 0, "{left} of {} are there", garbage.len());
        Ok(())
    })?;
    let live = live_files(&otus)?;
    anyhow::ensure!(named.is_disjoint(&live), "the cursor's files are still live");
    anyhow::ensure!(present(&otus, &named) == named.len(), "files of the cursor are gone");
    let (prepared, counted) = before;
    let (rest, after): (usize, i64) = client.with(async |c| {
        let rest = c.query("fetch all from walk", &[]).await.context("fetch all")?.len();
        c.batch_execute("close walk; commit").await?;
        Ok((rest, c.query_one(&prepared, &[&0_i64]).await?.get(0)))
    })?;
    let wanted = events::sums(5_000).0;
    anyhow::ensure!(counted == wanted, "{counted} before, {wanted} wanted");
    anyhow::ensure!(i64::try_from(rest)? + 100 == wanted, "the cursor gave {rest} more");
    let wanted = events::sums(25_000).0;
    anyhow::ensure!(after == wanted, "the prepared statement gave {after}, {wanted} wanted");
    Ok(())
}

/// Paths of the files that queries read now.
fn live_files(otus: &Otus) -> Result<BTreeSet<String>> {
    let rows = otus.rows("select path from otus.segments")?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// Data files that are there, live or not.
fn present(otus: &Otus, files: &BTreeSet<String>) -> usize {
    files.iter().filter(|path| otus.folder().join("data").join(path).exists()).count()
}

/// Within its age a cursor reads on while the files of its moment are replaced; past it the files go, and the
/// cursor is refused with a clear error instead of reading around what is gone.
#[test]
fn a_cursor_older_than_the_grace_is_refused() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("old-cursors", PARTITIONS, &[])?;
    let records = broker.producer(&[])?;
    let otus = Setup::tables(two_tables(&topic))
        .kafka(broker)
        .limit("flush_small_rows", "0")
        .limit("collect_grace", "\"4s\"")
        .start()?;
    let put = |from: u64, to: u64| -> Result<()> {
        (from..to).try_for_each(|id| crate::exactly_once::send(&records, &topic, id))?;
        records.flush()?;
        otus.wait_number("select count(*) from events", events::sums(to).0)?;
        otus.flush()
    };
    put(0, 2_000)?;
    put(2_000, 4_000)?;
    let named = live_files(&otus)?;
    let mut client = otus.connect()?;
    client.with(async |c| {
        c.batch_execute("begin; declare walk cursor for select id from events order by id").await?;
        Ok(c.query("fetch 10 from walk", &[]).await?)
    })?;
    // Two files of each kind became one: those of the cursor are nobody else's now.
    otus.maintain()?;
    anyhow::ensure!(named.is_disjoint(&live_files(&otus)?), "nothing was merged");
    anyhow::ensure!(present(&otus, &named) == named.len(), "files went within the grace");
    until("the cursor's files are deleted", PATIENCE, || {
        otus.maintain()?;
        let left = present(&otus, &named);
        anyhow::ensure!(left == 0, "{left} of {} are there", named.len());
        Ok(())
    })?;
    let refused = client.with(async |c| Ok(c.query("fetch all from walk", &[]).await.err()))?;
    let refused = refused.context("the old cursor was answered")?;
    let error = refused.as_db_error().context("not an error of the server")?;
    anyhow::ensure!(error.message().contains("snapshot too old"), "{error:?}");
    anyhow::ensure!(error.code().code() == "72000", "{error:?}");
    otus.wait_number("select count(*) from events", events::sums(4_000).0)
}
