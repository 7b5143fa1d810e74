//! A table of all types and time formats. The same lines are read by Otus and, as text, cast by DuckDB: the
//! values must be the same from hot rows, from the files through Otus, and from the files by DuckDB.

use anyhow::{Context, Result};
use otus_tests::broker::Broker;
use otus_tests::objects::Objects;
use otus_tests::otus::{Otus, Setup};
use otus_tests::{need, python};

const TABLE: &str = r#"
[tables.everything]
topic  = "TOPIC"
format = "json"
time   = "at"

[tables.everything.columns]
n        = "bigint"
at       = "timestamptz"
flag     = "boolean"
small    = "smallint"
whole    = "integer"
large    = "bigint"
narrow   = "real"
wide     = "double precision"
exact    = "numeric(20,4)"
huge     = "numeric(38,0)"
words    = "text"
id       = "uuid"
day      = "date"
plain    = "timestamp"
moment   = "timestamptz"
seconds  = { type = "timestamptz", unit = "s" }
millis   = { type = "timestamptz", unit = "ms" }
micros   = { type = "timestamptz", unit = "us" }
nanos    = { type = "timestamptz", unit = "ns" }
raw      = "bytea"
document = "jsonb"
tags     = "text[]"
numbers  = "bigint[]"
nested   = { type = "integer", path = "a.b.c" }
quoted   = { type = "text", path = "ein Feld" }
constant = { type = "text", default = "none" }
twice    = { type = "bigint", sql = "large * 2" }
"#;

/// Values as text, in one form for all readers; bytes and documents in their own spelling.
const SELECT: &str = "select n, flag, small, whole, large, narrow, wide, exact, huge, words, id, day, \
    plain, (extract(epoch from moment) * 1000000)::bigint, (extract(epoch from seconds) * 1000000)::bigint, \
    (extract(epoch from millis) * 1000000)::bigint, (extract(epoch from micros) * 1000000)::bigint, \
    (extract(epoch from nanos) * 1000000)::bigint, encode(raw, 'hex'), document, tags, numbers, nested, \
    quoted, constant, twice from everything order by n";

fn table(otus: &Otus) -> Result<Vec<Vec<Option<String>>>> {
    otus.rows(SELECT)
}

#[test]
fn all_types_as_an_independent_engine_reads_them() -> Result<()> {
    all_types(need!(Broker::shared()), None)
}

#[test]
fn all_types_as_an_independent_engine_reads_them_on_s3() -> Result<()> {
    all_types(need!(Broker::shared()), Some(need!(Objects::shared())))
}

fn all_types(broker: &Broker, objects: Option<&Objects>) -> Result<()> {
    let interpreter = need!(python::interpreter());
    let made = python::run(&interpreter, "every_type.py", &["lines"])?;
    let lines = made.as_array().context("lines")?;
    let topic = broker.topic("types", 1, &[])?;
    let records = broker.producer(&[])?;
    for line in lines {
        records.value(&topic, 0, line.as_str().context("a line")?.as_bytes())?;
    }
    records.flush()?;
    let setup = Setup::tables(TABLE.replace("TOPIC", &topic)).kafka(broker);
    let mut otus = setup.on(objects, &topic).start()?;
    let count = i64::try_from(lines.len())?;
    let outcome = otus.wait_number("select count(*) from everything", count);
    outcome.with_context(|| format!("{:?}", otus.rows("select reason from otus.rejected")))?;
    let wanted = python::run(&interpreter, "every_type.py", &["answers"])?;
    let wanted = wanted.as_array().context("answers")?;
    let hot = table(&otus)?;
    compare(&hot, wanted).context("from hot rows")?;
    otus.flush()?;
    let flushed = table(&otus)?;
    anyhow::ensure!(hot == flushed, "hot and flushed rows differ:\n{hot:?}\n{flushed:?}");
    otus.kill()?;
    otus.launch()?;
    anyhow::ensure!(hot == table(&otus)?, "rows differ after a restart");
    let listed = otus.run(&["inspect", "--files", "--format", "json"])?;
    let list = otus.folder().join("files.json");
    std::fs::write(&list, listed)?;
    let list = list.display().to_string();
    let endpoint = objects.map(Objects::endpoint).unwrap_or_default();
    let read = python::run(&interpreter, "every_type.py", &["files", &list, &endpoint])?;
    anyhow::ensure!(read.as_array() == Some(wanted), "DuckDB reads from the files {read}");
    Ok(())
}

fn compare(found: &[Vec<Option<String>>], wanted: &[serde_json::Value]) -> Result<()> {
    anyhow::ensure!(found.len() == wanted.len(), "{} rows", found.len());
    for (row, wanted) in found.iter().zip(wanted) {
        let wanted = wanted.as_array().context("a row")?;
        anyhow::ensure!(row.len() == wanted.len(), "{} columns", row.len());
        for (at, (cell, wanted)) in row.iter().zip(wanted).enumerate() {
            let same = same(cell.as_deref(), wanted.as_str());
            anyhow::ensure!(same, "row {:?}, column {at}: {cell:?}, wanted {wanted}", row[0]);
        }
    }
    Ok(())
}

/// Equal as text, or as numbers: the spelling of a float is not a value; or as documents, which are shown in an order of
/// their own.
fn same(cell: Option<&str>, wanted: Option<&str>) -> bool {
    match (cell, wanted) {
        (None, None) => true,
        (Some(cell), Some(wanted)) => {
            let numbers = (cell.parse::<f64>(), wanted.parse::<f64>());
            let document = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
            let documents = document(cell).filter(|d| d.is_object() || d.is_array());
            cell == wanted
                || (documents.is_some() && documents == document(wanted))
                || matches!(numbers, (Ok(a), Ok(b)) if (cell.contains(['.', 'e']) || wanted.contains(['.', 'e'])) && a == b)
        }
        _ => false,
    }
}
