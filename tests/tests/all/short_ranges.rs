//! A short range of time out of a fresh file reads the pages that have it, and not the file.

use anyhow::{Context, Result};
use otus_tests::events;
use otus_tests::need;
use otus_tests::otus::Setup;

const EVENTS: u64 = 120_000;
/// Rows of two pages, between which the range may lie.
const ROWS_MAX: u64 = 2 * 20_480;

/// `524.3 K` and the like as a number.
fn number(text: &str) -> Result<u64> {
    let (number, unit) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    let thousandfold = match unit {
        "" => 1.0,
        "K" => 1e3,
        "M" => 1e6,
        other => anyhow::bail!("unit {other:?} of {text:?}"),
    };
    let number: f64 = number.replace(',', "").parse().context("no number")?;
    #[expect(clippy::cast_possible_truncation, reason = "a number of rows")]
    #[expect(clippy::cast_sign_loss, reason = "a number of rows")]
    Ok((number * thousandfold) as u64)
}

#[test]
fn a_minute_reads_few_pages_of_a_fresh_file() -> Result<()> {
    let otus = Setup::tables(events::table_section("events")).start()?;
    let psql = need!(otus.psql());
    let ids: Vec<u64> = (0..EVENTS).collect();
    for piece in ids.chunks(20_000) {
        let lines: Vec<_> = piece.iter().copied().map(events::payload).collect();
        let (status, answer) = otus.append("events", &lines)?;
        anyhow::ensure!(status == 200, "append: {status} {answer}");
    }
    otus.wait_number("select count(*) from events", events::sums(EVENTS).0)?;
    otus.flush()?;
    let files =
        otus.number("select count(*) from otus.segments where \"table\" = 'public.events'")?;
    anyhow::ensure!(files >= 1, "nothing is in a file");

    // Four events a second; one of a hundred is malformed.
    let minute = "at >= '2024-01-01 05:00:00+00' and at < '2024-01-01 05:01:00+00'";
    let good = (72_000..72_240).filter(|id| !events::is_bad(*id)).count();
    let count = otus.number(&format!("select count(*) from events where {minute}"))?;
    anyhow::ensure!(count == i64::try_from(good)?, "{count} of {good} events");
    let explain =
        format!("explain (analyze, verbose) select sum(amount) from events where {minute}");
    // A rollup of hours would answer from less still.
    let plan = psql.query_under("off", &explain)?;
    let (mut total, mut matched) = (0, 0);
    for found in plan.split("page_index_rows_pruned=").skip(1) {
        let (all, rest) = found.split_once(" total → ").with_context(|| plan.clone())?;
        let (kept, _) = rest.split_once(" matched").with_context(|| plan.clone())?;
        (total, matched) = (total + number(all)?, matched + number(kept)?);
    }
    anyhow::ensure!(total > 100_000 && matched > 0 && matched <= ROWS_MAX, "{plan}");
    Ok(())
}
