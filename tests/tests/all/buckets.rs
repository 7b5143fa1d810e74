//! Buckets of time against readers of the calendar that share no code with Otus: Python's zoneinfo for buckets in
//! a zone, DuckDB for the others, over years and clock changes.

use std::fs;

use anyhow::{Context, Result};
use otus_tests::otus::Setup;
use otus_tests::{events, leash, python, skip};
use serde_json::{Value, json};

/// Zones with every kind of clock change: none and half hours, half an hour, at midnight, and once a whole day.
const ZONES: [&str; 10] = [
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Africa/Cairo",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/Havana",
];

/// Widths in months and minutes, with the interval's text.
const WIDTHS: [(u32, u32, &str); 13] = [
    (0, 1, "1 minute"),
    (0, 5, "5 minutes"),
    (0, 15, "15 minutes"),
    (0, 45, "45 minutes"),
    (0, 60, "1 hour"),
    (0, 360, "6 hours"),
    (0, 1_440, "1 day"),
    (0, 3 * 1_440, "3 days"),
    (0, 7 * 1_440, "1 week"),
    (0, 14 * 1_440, "14 days"),
    (1, 0, "1 month"),
    (3, 0, "3 months"),
    (12, 0, "1 year"),
];

/// Widths that only buckets without a zone are asked for.
const ODD: [(u32, u32, &str); 4] =
    [(0, 7 * 60, "7 hours"), (0, 10 * 1_440, "10 days"), (5, 0, "5 months"), (24, 0, "2 years")];

/// Ranges and steps: the years around now, and times before 1970.
const RANGES: [(&str, &str, &str); 3] = [
    ("2011-12-01", "2012-02-01", "59 minutes"),
    ("2022-01-01", "2027-01-01", "22 hours 17 minutes"),
    ("1947-01-01", "1969-12-31", "122 hours 7 minutes"),
];

fn rows(otus: &otus_tests::otus::Otus, sql: &str) -> Result<Vec<Value>> {
    let rows = otus.rows(sql).with_context(|| sql.to_owned())?;
    rows.into_iter()
        .map(|row| {
            let numbers =
                row.into_iter().map(|cell| cell.context("null")?.parse::<i64>().context("number"));
            Ok(json!(numbers.collect::<Result<Vec<_>>>()?))
        })
        .collect()
}

#[test]
fn buckets_begin_where_the_calendar_says() -> Result<()> {
    let python = match python::interpreter() {
        Ok(python) => python,
        Err(why) => {
            skip::missing(&why);
            return Ok(());
        }
    };
    let otus = Setup::tables(events::table_section("events")).start()?;
    let mut cases = Vec::new();
    for (from, to, step) in RANGES {
        for (months, minutes, width) in WIDTHS {
            for zone in ZONES {
                let sql = format!(
                    "select extract(epoch from at)::bigint, \
                     extract(epoch from time_bucket('{width}', at, '{zone}'))::bigint \
                     from generate_series(timestamptz '{from}', timestamptz '{to}', interval '{step}') as at"
                );
                let rows = rows(&otus, &sql)?;
                cases.push(json!({"width": [months, minutes], "zone": zone, "rows": rows}));
            }
        }
        for (months, minutes, width) in WIDTHS.into_iter().chain(ODD) {
            let sql = format!(
                "select extract(epoch from at)::bigint, \
                 extract(epoch from time_bucket('{width}', at))::bigint \
                 from generate_series(timestamp '{from}', timestamp '{to}', interval '{step}') as at"
            );
            let rows = rows(&otus, &sql)?;
            cases.push(json!({"width": [months, minutes], "zone": null, "rows": rows}));
        }
    }
    let file = leash::fresh_folder("buckets")?.join("cases.json");
    fs::write(&file, json!({"cases": cases}).to_string())?;
    let found = python::run(&python, "buckets.py", &[&file.display().to_string()])?;
    anyhow::ensure!(found["wrong"] == json!([]), "at, start, expected: {}", found["wrong"]);
    let checked = found["checked"].as_u64().context("checked")?;
    anyhow::ensure!(checked > 350_000, "only {checked} buckets were checked");
    Ok(())
}

/// `date_trunc` with a zone is the same function under the name of Postgres.
#[test]
fn date_trunc_in_a_zone_is_the_same_bucket() -> Result<()> {
    let otus = Setup::tables(events::table_section("events")).start()?;
    for zone in ZONES {
        for unit in ["minute", "hour", "day", "week", "month", "quarter", "year"] {
            let width = if unit == "quarter" { "3 months".to_owned() } else { format!("1 {unit}") };
            let sql = format!(
                "select count(*) from generate_series(timestamptz '2019-01-01', timestamptz '2021-01-01', \
                 interval '171 minutes') as at \
                 where date_trunc('{unit}', at, '{zone}') <> time_bucket('{width}', at, '{zone}')"
            );
            anyhow::ensure!(otus.number(&sql)? == 0, "{unit} in {zone}");
        }
    }
    Ok(())
}
