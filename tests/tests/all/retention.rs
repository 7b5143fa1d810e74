//! Declared retention: raw rows and each granularity of a rollup leave when their time is up, and not before;
//! `check` says it first.

use anyhow::Result;
use otus_engine::clock::{Clock, SystemClock};
use otus_tests::need;
use otus_tests::objects::Objects;
use otus_tests::otus::{Otus, Setup};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// One event an hour, for twelve days.
const EVENTS: i64 = 12 * 24;

fn section(retention: &str) -> String {
    format!(
        r#"
[tables.visits]
topic = "visits"
time  = "at"
{retention}

[tables.visits.columns]
at = {{ type = "timestamptz", unit = "us" }}
n  = "bigint"

[tables.visits.measures]
visits = "count(*)"
total  = "sum(n)"

[tables.visits.rollups.by]
granularity = ["minute", "hour", "day"]
dimensions  = []
"#
    )
}

/// Count and sum of the events from `from_us` on; the i-th is `i` hours old and has the number i.
fn since(now_us: i64, from_us: i64) -> [i64; 2] {
    let kept = (0..EVENTS).filter(|i| now_us - i * HOUR_US >= from_us);
    kept.fold([0, 0], |[count, sum], i| [count + 1, sum + i])
}

fn seen(otus: &Otus, sql: &str) -> Result<[i64; 2]> {
    let row = otus.connect()?.numbers(sql)?;
    Ok([row[0], row[1]])
}

/// What raw rows say: without rollups, which know older ones.
fn raw(otus: &Otus) -> Result<[i64; 2]> {
    let client = otus.connect()?;
    client.rows("set otus.rollups = off")?;
    let found = client.numbers("select count(*), coalesce(sum(n), 0) from visits")?;
    found.try_into().map_err(|found| anyhow::anyhow!("{found:?}"))
}

fn view(otus: &Otus, granularity: &str) -> Result<[i64; 2]> {
    let sql =
        format!("select coalesce(sum(visits), 0), coalesce(sum(total), 0) from by_{granularity}");
    seen(otus, &sql)
}

fn files(otus: &Otus, condition: &str, time_us: i64) -> Result<i64> {
    let time = time_us / 1_000_000;
    otus.number(&format!(
        "select count(*) from otus.segments where {condition} < to_timestamp({time})"
    ))
}

/// Appends records of these ages in hours, and brings them into merged files.
fn lay_down(otus: &Otus, now_us: i64, events: &[(i64, i64)]) -> Result<()> {
    let before = otus.number("select count(*) from visits")?;
    let line = |(age, n): &(i64, i64)| {
        format!("{{\"at\":{},\"n\":{n}}}", now_us - age * HOUR_US).into_bytes()
    };
    let lines: Vec<Vec<u8>> = events.iter().map(line).collect();
    let (status, answer) = otus.append("visits", &lines)?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    otus.wait_number("select count(*) from visits", before + i64::try_from(events.len())?)?;
    otus.flush()?;
    otus.maintain()
}

#[test]
fn each_granularity_leaves_when_it_is_declared_to() -> Result<()> {
    each_granularity(None)
}

#[test]
fn each_granularity_leaves_when_it_is_declared_to_on_s3() -> Result<()> {
    each_granularity(Some(need!(Objects::shared())))
}

fn each_granularity(objects: Option<&Objects>) -> Result<()> {
    // The whole test lies within one UTC day, on which horizons depend.
    let mut now_us = SystemClock.now_us();
    if now_us.rem_euclid(DAY_US) > DAY_US - HOUR_US / 4 {
        otus_tests::otus::wait_between(std::time::Duration::from_secs(20 * 60));
        now_us = SystemClock.now_us();
    }
    let mut otus = Setup::tables(section("")).on(objects, "retention").start()?;
    // Day by day, so that there are raw files of old days alone.
    let ages: Vec<(i64, i64)> = (0..EVENTS).rev().map(|i| (i, i)).collect();
    for day in ages.chunks(24) {
        lay_down(&otus, now_us, day)?;
    }
    anyhow::ensure!(raw(&otus)? == since(now_us, i64::MIN), "before");
    let folder = otus.folder().to_owned();
    otus.stop()?;

    let retention = "retention = { raw = \"1d\", minute = \"3d\", hour = \"8d\" }";
    let setup = Setup::tables(section(retention)).folder(&folder).on(objects, "retention");
    let mut otus = setup.clone().prepare()?;
    let said = otus.run(&["check"])?;
    for part in ["retention", "raw rows after 1 day", "minute after 3 days", "lets stored data go"]
    {
        anyhow::ensure!(said.contains(part), "no {part:?} in {said}");
    }
    anyhow::ensure!(otus.launch().is_err(), "it started without --apply");
    let mut otus = setup.apply().start()?;
    let day = |days: i64| (now_us - days * DAY_US).div_euclid(DAY_US) * DAY_US;
    // Also on S3, where a process that did not give up its lease would keep this one from it.
    otus.maintain()?;
    // A file of states spans all days: the next merge leaves out what has expired.
    lay_down(&otus, now_us, &[(0, 1_000)])?;
    let left = |from_us: i64| {
        let [count, sum] = since(now_us, from_us);
        [count + 1, sum + 1_000]
    };
    for life in ["maintained", "opened again"] {
        anyhow::ensure!(raw(&otus)? == left(day(1)), "{life}: raw {:?}", raw(&otus)?);
        anyhow::ensure!(
            files(&otus, "kind = 'raw' and max_time", day(1))? == 0,
            "{life}: raw files"
        );
        for (granularity, days) in [("minute", 3), ("hour", 8)] {
            let (found, wanted) = (view(&otus, granularity)?, left(day(days)));
            anyhow::ensure!(found == wanted, "{life}: {granularity} {found:?}, not {wanted:?}");
            let own = format!("granularity = '{granularity}' and level > 0 and min_time");
            anyhow::ensure!(files(&otus, &own, day(days))? == 0, "{life}: files of {granularity}");
        }
        anyhow::ensure!(
            view(&otus, "day")? == left(i64::MIN),
            "{life}: day {:?}",
            view(&otus, "day")?
        );
        otus.run(&["inspect", "--verify"])?;
        otus.stop()?;
        otus.launch()?;
    }
    Ok(())
}
