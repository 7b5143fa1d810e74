//! The statements of `tests/dialect`, as analysts and their tools write them, answered by PostgreSQL 15 and by Otus
//! over the same rows. Names, types and rows must agree, or the SQLSTATE; what differs stands in `docs/postgres.md` with
//! its reason, and nothing stands there that agrees.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, Setup};
use otus_tests::postgres::{Answer, Client, Rows, Shown};
use otus_tests::reference::Reference;
use otus_tests::{given, need, paths, wiki};

/// Least share of statements that agree, percent.
const SHARE_MIN: f64 = 97.0;
/// Least number of statements.
const STATEMENTS_MIN: usize = 400;
/// Digits to which floats and numerics are compared.
const DIGITS: usize = 12;

const FLOATS: [u32; 2] = [700, 701];
const FLOAT_LISTS: [u32; 2] = [1021, 1022];
const NUMERIC: u32 = 1700;
const NUMERIC_LIST: u32 = 1231;

const THINGS: &str = r#"
[tables.things]
file   = "FILE"
format = "json"
time   = "at"

[tables.things.columns]
id     = "integer"
at     = "timestamptz"
plain  = "timestamp"
day    = "date"
flag   = "boolean"
small  = "smallint"
n      = "integer"
big    = "bigint"
narrow = "real"
x      = "double precision"
price  = "numeric(12,2)"
name   = "text"
kind   = "text"
uid    = "uuid"
doc    = "jsonb"
tags   = "text[]"
nums   = "integer[]"
raw    = "bytea"
"#;

fn folder() -> PathBuf {
    paths::checkout().join("tests/dialect")
}

/// A statement by its file, without `.sql`, and its number there.
type Place = (String, usize);

/// All statements. Each ends with a semicolon at the end of a line; comments begin a line between two of them.
fn statements() -> Result<Vec<(Place, String)>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder())?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "sql"));
    files.retain(|path| path.file_stem().is_some_and(|stem| stem != "postgres"));
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let name =
            file.file_stem().context("a file without a name")?.to_string_lossy().into_owned();
        let (mut number, mut statement) = (0, String::new());
        for line in std::fs::read_to_string(&file)?.lines() {
            if statement.is_empty() && (line.is_empty() || line.starts_with("--")) {
                continue;
            }
            if !statement.is_empty() {
                statement.push('\n');
            }
            statement.push_str(line);
            if let Some(whole) = statement.strip_suffix(';') {
                number += 1;
                all.push(((name.clone(), number), whole.to_owned()));
                statement.clear();
            }
        }
        anyhow::ensure!(statement.is_empty(), "{} ends within a statement", file.display());
    }
    Ok(all)
}

/// The statements that the page lists as differing: rows that begin with the file's name in quotes and numbers.
fn listed() -> Result<BTreeSet<Place>> {
    let page = std::fs::read_to_string(paths::checkout().join("docs/postgres.md"))?;
    let mut listed = BTreeSet::new();
    for line in page.lines() {
        let Some((file, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once("` "))
        else {
            continue;
        };
        let (numbers, _) = rest.split_once(" |").context("a row of the page is cut off")?;
        for number in numbers.split(", ") {
            let number = number.parse().with_context(|| format!("{line}: {number}"))?;
            listed.insert((file.to_owned(), number));
        }
    }
    Ok(listed)
}

/// Loads the tables into PostgreSQL from the files that Otus reads.
fn load(postgres: &mut Client, events: &[String]) -> Result<()> {
    postgres.rows(&std::fs::read_to_string(folder().join("postgres.sql"))?)?;
    let things = std::fs::read_to_string(folder().join("things.ndjson"))?;
    let things: Vec<String> = things.lines().map(str::to_owned).collect();
    copy(postgres, &things)?;
    postgres.rows(
        "INSERT INTO things SELECT (jsonb_populate_record(NULL::things, line)).* FROM lines; TRUNCATE lines",
    )?;
    copy(postgres, events)?;
    // Fields are in camel case, but for the user, who is an editor.
    postgres.rows(
        "INSERT INTO wikipedia SELECT (jsonb_populate_record(NULL::wikipedia, (SELECT jsonb_object_agg( \
         CASE key WHEN 'user' THEN 'editor' ELSE lower(regexp_replace(key, '([A-Z])', '_\\1', 'g')) END, value) \
         FROM jsonb_each(line)))).* FROM lines; TRUNCATE lines",
    )?;
    Ok(())
}

fn copy(postgres: &mut Client, lines: &[String]) -> Result<()> {
    const STATEMENT: &str =
        "COPY lines FROM STDIN (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')";
    let mut text = lines.join("\n").into_bytes();
    text.push(b'\n');
    postgres.with(async |client| {
        let mut sink = std::pin::pin!(client.copy_in::<_, bytes::Bytes>(STATEMENT).await?);
        futures::SinkExt::send(&mut sink, bytes::Bytes::from(text)).await?;
        sink.finish().await?;
        Ok(())
    })
}

/// A number to as many digits as are compared.
fn rounded(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(number) => format!("{number:.*e}", DIGITS - 1),
        Err(_) => text.to_owned(),
    }
}

/// Rows as they are compared. Without ORDER BY they come in any order.
fn comparable(sql: &str, columns: &[Shown], rows: &Rows) -> Rows {
    let value = |(column, text): (&Shown, &Option<String>)| {
        text.as_ref().map(|text| match column.oid {
            oid if FLOATS.contains(&oid) || oid == NUMERIC => rounded(text),
            oid if FLOAT_LISTS.contains(&oid) || oid == NUMERIC_LIST => {
                text.trim_matches(['{', '}']).split(',').map(rounded).collect::<Vec<_>>().join(",")
            }
            _ => text.clone(),
        })
    };
    let mut rows: Rows =
        rows.iter().map(|row| columns.iter().zip(row).map(value).collect()).collect();
    if !sql.to_ascii_lowercase().contains("order by") {
        rows.sort();
    }
    rows
}

/// Whether columns have the same names and types, and the same length or digits where PostgreSQL tells them.
fn same_columns(wanted: &[Shown], columns: &[Shown]) -> bool {
    let same = |(wanted, column): (&Shown, &Shown)| {
        let modifier = wanted.modifier == -1 || wanted.modifier == column.modifier;
        wanted.name == column.name && wanted.oid == column.oid && modifier
    };
    wanted.len() == columns.len() && wanted.iter().zip(columns).all(same)
}

/// What differs; nothing if the answers agree.
fn difference(sql: &str, postgres: &Answer, otus: &Answer) -> Option<String> {
    match (postgres, otus) {
        (Answer::Failure(wanted, _), Answer::Failure(state, message)) => {
            (wanted != state).then(|| format!("fails with {state} ({message}), not {wanted}"))
        }
        (Answer::Rows(..), Answer::Failure(state, message)) => {
            Some(format!("fails with {state} ({message})"))
        }
        (Answer::Failure(state, message), Answer::Rows(..)) => {
            Some(format!("does not fail with {state} ({message})"))
        }
        (Answer::Rows(wanted, wanted_rows), Answer::Rows(columns, rows)) => {
            if !same_columns(wanted, columns) {
                return Some(format!("columns are {columns:?}, not {wanted:?}"));
            }
            let wanted = comparable(sql, wanted, wanted_rows);
            let rows = comparable(sql, columns, rows);
            let different = rows.iter().zip(&wanted).find(|(row, wanted)| row != wanted);
            match different {
                Some((row, wanted)) => Some(format!("a row is {row:?}, not {wanted:?}")),
                None if rows.len() != wanted.len() => {
                    Some(format!("{} rows, not {}", rows.len(), wanted.len()))
                }
                None => None,
            }
        }
    }
}

fn tables() -> Result<Otus> {
    let things = folder().join("things.ndjson");
    let events = wiki::file().map_err(anyhow::Error::msg)?;
    let things = THINGS.replace("FILE", &things.display().to_string());
    let events = wiki::table_section(&format!("file = \"{}\"", events.display()));
    let otus = Setup::tables(things + &events).start()?;
    otus.wait_ready()?;
    Ok(otus)
}

#[test]
fn statements_are_answered_as_by_postgres() -> Result<()> {
    let events = wiki::lines(&given!(wiki::file()))?;
    let reference = need!(Reference::shared());
    reference.database("dialect")?;
    let mut postgres = Client::connect_to(reference.port(), "dialect")?;
    load(&mut postgres, &events)?;
    let otus = tables()?;
    otus.wait_number("select count(*) from wikipedia", i64::try_from(events.len())?)?;
    let asked = Client::connect(otus.postgres_port())?;
    let statements = statements()?;
    let mut differing = BTreeMap::new();
    for (place, sql) in &statements {
        let (wanted, found) = (postgres.answer(sql)?, asked.answer(sql)?);
        if let Some(difference) = difference(sql, &wanted, &found) {
            differing.insert(place.clone(), format!("{sql}\n    {difference}"));
        }
    }
    report(statements.len(), &differing)
}

fn report(all: usize, differing: &BTreeMap<Place, String>) -> Result<()> {
    let equal = all - differing.len();
    let share = 100.0 * f64::from(u32::try_from(equal)?) / f64::from(u32::try_from(all)?);
    let mut words = format!("{equal} of {all} statements agree, {share:.1} %\n");
    let listed = listed()?;
    for ((file, number), what) in differing {
        if !listed.contains(&(file.clone(), *number)) {
            writeln!(words, "{file} {number} differs, docs/postgres.md does not say so: {what}")?;
        }
    }
    for (file, number) in &listed {
        if !differing.contains_key(&(file.clone(), *number)) {
            writeln!(words, "{file} {number} agrees, docs/postgres.md says it does not")?;
        }
    }
    std::io::Write::write_all(&mut std::io::stderr(), words.as_bytes())?;
    anyhow::ensure!(all >= STATEMENTS_MIN, "there are {all} statements only");
    anyhow::ensure!(share >= SHARE_MIN, "less than {SHARE_MIN} % agree");
    anyhow::ensure!(words.lines().count() == 1, "docs/postgres.md is not true:\n{words}");
    Ok(())
}
