//! P5: the dozen kinds of bad record through Kafka. Each ends as the design says: rejected with its reason, bytes
//! and place, filtered and counted, or accepted by a stated rule; the good ones beside them are untouched.

use anyhow::{Context, Result};
use otus_tests::broker::{Broker, Record};
use otus_tests::need;
use otus_tests::objects::Objects;
use otus_tests::otus::{PATIENCE, Setup, get};
use otus_tests::process::until;

/// How a record ends.
enum End {
    /// A row with this value in `note`.
    Row(&'static str),
    /// Filtered and counted.
    Filtered,
    /// Rejected; the reason holds this.
    Rejected(&'static str),
}

const TABLE: &str = r#"
[tables.readings]
topic      = "TOPIC"
format     = "json"
time       = "at"
record_max = "64 KiB"

[tables.readings.columns]
at     = "timestamptz"
number = "integer"
ratio  = "double precision"
note   = "text"

[tables.readings.measures]
readings = "count(*)"
total    = "sum(number)"

[tables.readings.rollups.per_hour]
granularity = ["hour"]
dimensions  = ["note"]
"#;

fn cases() -> Vec<(&'static str, Option<Vec<u8>>, End)> {
    let at = r#""at":"2024-01-01T00:00:00Z""#;
    let json = |rest: &str| Some(format!("{{{at},{rest}}}").into_bytes());
    let deep = format!("{{{at},\"note\":{}}}", "[".repeat(100_000));
    let large = format!("{{{at},\"note\":\"{}\"}}", "x".repeat(70_000));
    vec![
        ("good", json(r#""number":1,"ratio":0.5,"note":"a""#), End::Row("a")),
        ("bad JSON", Some(b"{nope}".to_vec()), End::Rejected("bad JSON")),
        ("truncated", Some(format!("{{{at},\"num").into_bytes()), End::Rejected("unexpected end")),
        ("empty", Some(Vec::new()), End::Rejected("empty")),
        ("null value", None, End::Filtered),
        ("missing time", Some(br#"{"number":1}"#.to_vec()), End::Rejected("\"at\" is missing")),
        ("wrong type", json(r#""number":"seven""#), End::Rejected("\"number\"")),
        ("overflow", json(r#""number":2147483648"#), End::Rejected("out of range for integer")),
        ("1e999", json(r#""ratio":1e999"#), End::Rejected("out of range for double precision")),
        ("NUL in text", json(r#""note":"a\u0000b""#), End::Rejected("U+0000")),
        ("lone surrogate", json(r#""note":"\ud800""#), End::Rejected("lone surrogate")),
        ("100,000 [", Some(deep.clone().into_bytes()), End::Rejected("larger than")),
        (
            "deep",
            Some(deep.get(..40_000).unwrap_or_default().as_bytes().to_vec()),
            End::Rejected("deep"),
        ),
        ("oversize", Some(large.into_bytes()), End::Rejected("larger than")),
        ("duplicate keys", json(r#""note":"first","note":"last""#), End::Row("last")),
        (
            "time out of range",
            Some(br#"{"at":"2200-01-01T00:00:00Z"}"#.to_vec()),
            End::Rejected("outside 1970 to 2200"),
        ),
        ("trailing bytes", Some(format!("{{{at}}} x").into_bytes()), End::Rejected("trailing")),
        ("not UTF-8", Some(b"{\"note\":\"\xff\"}".to_vec()), End::Rejected("UTF-8")),
        ("good again", json(r#""number":2,"ratio":1.5,"note":"z""#), End::Row("z")),
    ]
}

#[test]
fn each_kind_ends_as_designed() -> Result<()> {
    each_kind(need!(Broker::shared()), None)
}

#[test]
fn each_kind_ends_as_designed_on_s3() -> Result<()> {
    each_kind(need!(Broker::shared()), Some(need!(Objects::shared())))
}

fn each_kind(broker: &Broker, objects: Option<&Objects>) -> Result<()> {
    let topic = broker.topic("bad", 1, &[])?;
    let records = broker.producer(&[])?;
    let cases = cases();
    for (name, value, _) in &cases {
        let record = Record {
            partition: Some(0),
            key: Some(name.as_bytes()),
            value: value.as_deref(),
            ..Record::default()
        };
        records.send(&topic, &record)?;
    }
    records.flush()?;
    let setup = Setup::tables(TABLE.replace("TOPIC", &topic)).kafka(broker);
    let mut otus = setup.on(objects, &topic).start()?;
    let count = |end: fn(&End) -> bool| -> i64 {
        i64::try_from(cases.iter().filter(|(_, _, e)| end(e)).count()).unwrap_or(0)
    };
    let rows = count(|e| matches!(e, End::Row(_)));
    let rejected = count(|e| matches!(e, End::Rejected(_)));
    let filtered = count(|e| matches!(e, End::Filtered));
    otus.wait_number("select count(*) from readings", rows)?;
    otus.wait_number("select count(*) from otus.rejected", rejected)?;
    for life in ["hot", "flushed", "started again"] {
        if life == "flushed" {
            otus.flush()?;
            let counted = "select rows_kept, rows_rejected, rows_filtered from otus.partitions";
            let counted = otus.connect()?.numbers(counted)?;
            anyhow::ensure!(counted == [rows, rejected, filtered], "{counted:?}");
        } else if life == "started again" {
            otus.kill()?;
            otus.launch()?;
        }
        check(&otus, &topic, &cases).context(life)?;
        let rollup =
            otus.connect()?.numbers("select sum(readings), sum(total) from per_hour_hour")?;
        anyhow::ensure!(rollup == [rows, 3], "{life}: {rollup:?}");
    }
    Ok(())
}

type Case = (&'static str, Option<Vec<u8>>, End);

fn check(otus: &otus_tests::otus::Otus, topic: &str, cases: &[Case]) -> Result<()> {
    for (offset, (name, value, end)) in (0_i64..).zip(cases) {
        let note = format!("select note from readings where _offset = {offset}");
        let row = otus.rows(&note)?;
        let bad = otus.rows(&format!(
            "select reason, topic, partition, encode(payload, 'hex'), payload_bytes, \
             encode(key, 'hex') from otus.rejected where \"offset\" = {offset}"
        ))?;
        let Some(value) = value else {
            anyhow::ensure!(row.is_empty() && bad.is_empty(), "{name}: {row:?} {bad:?}");
            continue;
        };
        match end {
            End::Row(wanted) => {
                let found = row.first().and_then(|r| r.first()).cloned().flatten();
                anyhow::ensure!(found.as_deref() == Some(*wanted), "{name}: {row:?}");
                anyhow::ensure!(bad.is_empty(), "{name}: {bad:?}");
            }
            End::Filtered => anyhow::bail!("{name}: only a null value is filtered"),
            End::Rejected(wanted) => {
                anyhow::ensure!(row.is_empty() && bad.len() == 1, "{name}: {row:?} {bad:?}");
                let cells: Vec<&str> = bad[0].iter().map(|c| c.as_deref().unwrap_or("")).collect();
                anyhow::ensure!(cells[0].contains(wanted), "{name}: {:?}", cells[0]);
                anyhow::ensure!(cells[1] == topic && cells[2] == "0", "{name}: {cells:?}");
                let kept = value.get(..65_536).unwrap_or(value);
                anyhow::ensure!(cells[3] == hex(kept), "{name}: other bytes were kept");
                anyhow::ensure!(cells[4] == value.len().to_string(), "{name}: {}", cells[4]);
                anyhow::ensure!(cells[5] == hex(name.as_bytes()), "{name}: another key");
            }
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A topic whose records are mostly rejected: state `rejecting`, not ready, and yet never stopped.
#[test]
fn a_mostly_rejected_topic_is_not_ready() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("rejecting", 1, &[])?;
    let records = broker.producer(&[])?;
    (0..2_000).try_for_each(|_| records.value(&topic, 0, b"<xml/>"))?;
    records.value(&topic, 0, br#"{"at":"2024-01-01","number":1}"#)?;
    records.flush()?;
    let otus = Setup::tables(TABLE.replace("TOPIC", &topic)).kafka(broker).start()?;
    otus.wait_number("select count(*) from otus.rejected", 2_000)?;
    otus.wait_number("select count(*) from readings", 1)?;
    otus.wait_state("rejecting")?;
    let (status, body) = get(&otus.url("/readyz"))?;
    anyhow::ensure!(status == 503 && body.contains("rejecting"), "{status} {body}");
    // Good records heal it.
    (0..20_000).try_for_each(|_| records.value(&topic, 0, br#"{"at":"2024-01-01","number":1}"#))?;
    records.flush()?;
    otus.wait_number("select count(*) from readings", 20_001)?;
    until("ready again", PATIENCE, || {
        let (status, body) = get(&otus.url("/readyz"))?;
        anyhow::ensure!(status == 200, "{status} {body}");
        Ok(())
    })
}

/// Undeclared and retyped fields are listed, with type, count and first place.
#[test]
fn undeclared_fields_are_listed() -> Result<()> {
    undeclared_fields(need!(Broker::shared()), None)
}

#[test]
fn undeclared_fields_are_listed_on_s3() -> Result<()> {
    undeclared_fields(need!(Broker::shared()), Some(need!(Objects::shared())))
}

fn undeclared_fields(broker: &Broker, objects: Option<&Objects>) -> Result<()> {
    let topic = broker.topic("fields", 1, &[])?;
    let records = broker.producer(&[])?;
    for extra in [r#""new":1"#, r#""new":"x""#, r#""number":"5""#, r#""deep":{"a":[1]}"#] {
        let value = format!("{{\"at\":\"2024-01-01\",{extra}}}");
        records.value(&topic, 0, value.as_bytes())?;
    }
    records.flush()?;
    let setup = Setup::tables(TABLE.replace("TOPIC", &topic)).kafka(broker);
    let otus = setup.on(objects, &topic).start()?;
    otus.wait_number("select count(*) from readings", 4)?;
    otus.flush()?;
    let found =
        otus.rows("select path, json_type, count, first_offset from otus.fields order by 1, 2")?;
    let found: Vec<String> = found
        .into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" "))
        .collect();
    let wanted = ["deep object 1 3", "new number 1 0", "new string 1 1", "number string 1 2"];
    anyhow::ensure!(found == wanted, "{found:?}");
    Ok(())
}
