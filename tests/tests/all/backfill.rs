//! A rollup that is added to the configuration of a table that has rows: `otus serve --apply` fills it, through
//! deaths at any moment, while queries have the answers of raw rows.

use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, PATIENCE, Setup};

const MINUTE_US: i64 = 60_000_000;
/// 2026-01-01T00:00:00Z.
const BASE_US: i64 = 1_767_225_600_000_000;
/// One event a minute, for some twenty days.
const EVENTS: i64 = 30_000;
const BATCH: i64 = 3_000;
/// Rows of a step: enough steps to die in the middle.
const STEP: &str = "2000";

const QUERIES: [&str; 4] = [
    "select kind, count(*), sum(n), min(n), max(n) from visits group by kind order by kind",
    "select date_trunc('day', at), kind, count(*), sum(n) from visits group by 1, 2 order by 1, 2",
    "select date_trunc('hour', at), sum(n) from visits \
     where at >= '2026-01-03T10:17:00Z' and at < '2026-01-19T00:00:30Z' group by 1 order by 1",
    "select count(*), approx_distinct(n) from visits where kind in ('k1', 'k4')",
];

fn section(rollup: &str) -> String {
    format!(
        r#"
[tables.visits]
topic = "visits"
time  = "at"

[tables.visits.columns]
at   = {{ type = "timestamptz", unit = "us" }}
kind = "text"
n    = "bigint"

[tables.visits.measures]
visits   = "count(*)"
total    = "sum(n)"
least    = "min(n)"
greatest = "max(n)"
distinct_n = "approx_distinct(n)"
{rollup}
"#
    )
}

fn rollup(dimensions: &str) -> String {
    format!(
        "[tables.visits.rollups.by_kind]\n\
         granularity = [\"minute\", \"hour\", \"day\"]\ndimensions = [{dimensions}]\n"
    )
}

fn setup(rollup: &str) -> Setup {
    Setup::tables(section(rollup)).limit("backfill_rows", STEP)
}

/// Appends the events of `[from, to)` and writes them; each is a minute later than the one before.
fn lay_down(otus: &Otus, from: i64, to: i64) -> Result<()> {
    let line = |i: i64| {
        let at = BASE_US + i * MINUTE_US;
        format!("{{\"at\":{at},\"kind\":\"k{}\",\"n\":{}}}", i % 7, i * 31 % 1_009).into_bytes()
    };
    let lines: Vec<Vec<u8>> = (from..to).map(line).collect();
    let (status, answer) = otus.append("visits", &lines)?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    otus.wait_number("select count(*) from visits", to)?;
    otus.flush()
}

/// Every query has the answer of raw rows under `mode`.
fn same_as_raw(otus: &Otus, mode: &str) -> Result<()> {
    let client = otus.connect()?;
    for sql in QUERIES {
        let mut answers = Vec::new();
        for mode in [mode, "off"] {
            client.rows(&format!("set otus.rollups = {mode}"))?;
            answers.push(client.rows(sql).with_context(|| format!("{mode}: {sql}"))?);
        }
        anyhow::ensure!(!answers[0].is_empty() && answers[0] == answers[1], "{mode}: {sql}");
    }
    Ok(())
}

/// Starts the process and waits until it dies at a failpoint of backfill.
fn die_at(otus: &mut Otus, failpoint: &str) -> Result<()> {
    let before = otus.output().len();
    otus.spawn(&[("OTUS_FAILPOINT", failpoint)])?;
    let status = otus.wait_end(PATIENCE)?;
    let output = otus.output();
    let said = output.get(before..).unwrap_or_default();
    let name = failpoint.split(':').next().unwrap_or_default();
    let reached = said.contains(&otus_engine::failpoint::reached(name));
    anyhow::ensure!(reached && matches!(status.signal(), Some(6 | 9)), "{status}: {said}");
    Ok(())
}

fn live(otus: &Otus) -> Result<i64> {
    otus.number("select count(*) from otus.rollups where state = 'live' and complete")
}

fn verified(otus: &mut Otus) -> Result<()> {
    otus.stop()?;
    otus.run(&["inspect", "--verify"])?;
    otus.launch()
}

#[test]
fn a_rollup_added_to_the_file_is_filled_through_deaths() -> Result<()> {
    let mut otus = setup("").start()?;
    for from in (0..EVENTS).step_by(usize::try_from(BATCH)?) {
        lay_down(&otus, from, from + BATCH)?;
    }
    let folder = otus.folder().to_owned();
    otus.stop()?;

    let mut otus = setup(&rollup("\"kind\"")).folder(&folder).apply().prepare()?;
    // Before a commit, after one, and again.
    for failpoint in
        ["backfill.files_written:3", "backfill.committed:2", "backfill.files_written:1"]
    {
        die_at(&mut otus, failpoint)?;
    }
    otus.run(&["inspect", "--verify"])?;
    // On a disk without room neither reading nor filling goes on: it can be looked at.
    let full = setup(&rollup("\"kind\"")).limit("disk_reserve", "\"900000GiB\"");
    let mut otus = full.folder(&folder).start()?;
    let covered = otus.number("select min(offsets_covered) from otus.rollups")?;
    anyhow::ensure!(covered >= 4 * 1_000, "what was committed stays: {covered}");
    let filling = "select count(*) from otus.rollups \
                   where state = 'backfilling' and not complete and offsets_covered < offsets_total";
    anyhow::ensure!(otus.number(filling)? == 3, "it is not said to be filling");
    same_as_raw(&otus, "force").context("while it is filled")?;
    otus.stop()?;
    let mut otus = setup(&rollup("\"kind\"")).folder(&folder).start()?;
    lay_down(&otus, EVENTS, EVENTS + BATCH)?;
    // It goes on by itself.
    otus.wait_number("select count(*) from otus.rollups where complete", 3)?;
    anyhow::ensure!(live(&otus)? == 3);
    same_as_raw(&otus, "force").context("filled")?;
    let events = EVENTS + BATCH;
    for view in ["by_kind_minute", "by_kind_hour", "by_kind_day"] {
        let found = otus.number(&format!("select sum(visits)::bigint from {view}"))?;
        anyhow::ensure!(found == events, "{view}: {found}");
    }
    verified(&mut otus)?;
    same_as_raw(&otus, "force").context("opened again")?;
    otus.stop()?;

    // One that is declared otherwise is filled anew, by maintenance that is asked for.
    let otus = setup(&rollup("\"kind\", \"n\"")).folder(&folder).prepare()?;
    let said = otus.run(&["check"])?;
    anyhow::ensure!(
        said.contains("starts anew") && said.contains("filled from raw rows"),
        "{said}"
    );
    let mut otus = setup(&rollup("\"kind\", \"n\"")).folder(&folder).apply().start()?;
    // It holds nothing yet, perhaps not one whole bucket.
    same_as_raw(&otus, "auto").context("declared otherwise")?;
    otus.maintain()?;
    anyhow::ensure!(live(&otus)? == 3, "maintenance that is asked for fills it");
    same_as_raw(&otus, "force").context("filled anew")?;
    verified(&mut otus)
}
