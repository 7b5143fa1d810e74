//! The wikiticker day on real Kafka, in four partitions: every figure of the known answers comes out by psql
//! from raw and from the rollups, before and after compaction, and again from the Parquet files by a reader
//! that shares no code with Otus.

use anyhow::{Context, Result};
use otus_tests::broker::{Broker, Record};
use otus_tests::objects::Objects;
use otus_tests::otus::{Otus, Setup};
use otus_tests::postgres::Psql;
use otus_tests::process::until;
use otus_tests::{need, python, skip, wiki};
use serde_json::Value;

const PARTITIONS: i32 = 4;
const ROWS: i64 = 39_244;
/// Rows of the finished views; minute and hour equal the known answers.
const VIEW_ROWS: [(&str, i64); 3] = [("minute", 24_084), ("hour", 6_064), ("day", 1_313)];

/// Produces the file by line number into four partitions.
pub(crate) fn produce(broker: &Broker, topic: &str, lines: &[String]) -> Result<()> {
    let records = broker.producer(&[("compression.type", "zstd")])?;
    for (number, line) in (0..).zip(lines) {
        let partition = Some(number % PARTITIONS);
        let value = Some(line.as_bytes());
        records.send(topic, &Record { partition, value, ..Record::default() })?;
    }
    records.flush()
}

/// Waits until all rows can be seen.
pub(crate) fn wait_rows(otus: &Otus) -> Result<()> {
    otus.wait_number("select count(*) from wikipedia", ROWS)
}

fn cell(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn integer(value: &Value) -> Result<i64> {
    value.as_i64().with_context(|| format!("{value} is not an integer"))
}

fn check(psql: &Psql, sql: &str, wanted: &str) -> Result<()> {
    let found = psql.query(sql)?;
    anyhow::ensure!(found == wanted, "{sql}\n  gave   {found}\n  wanted {wanted}");
    Ok(())
}

/// Figures that only raw rows have.
fn check_raw_only(psql: &Psql, answers: &Value) -> Result<()> {
    check(
        psql,
        "select min(time), max(time) from wikipedia",
        "2015-09-12 00:46:58.771+00|2015-09-12 23:59:59.2+00",
    )?;
    for (column, key) in [
        ("page", "page"),
        ("editor", "user"),
        ("channel", "channel"),
        ("city_name", "cityName"),
        ("country_name", "countryName"),
    ] {
        let wanted = integer(&answers["distinct"][key])?.to_string();
        check(psql, &format!("select count(distinct {column}) from wikipedia"), &wanted)?;
    }
    let unpatrolled = integer(&answers["count_true"]["isUnpatrolled"])?.to_string();
    check(psql, "select count(*) from wikipedia where is_unpatrolled", &unpatrolled)?;
    let pages =
        "select page, count(*) n from wikipedia group by page order by n desc, page limit 5";
    let mut found = cell(&psql.query(pages)?);
    let mut wanted = pairs(&answers["top_pages"])?;
    found.sort();
    wanted.sort();
    anyhow::ensure!(found == wanted, "{pages}: {found:?}");
    let nulls = &answers["delta_where_countryIsoCode_is_null"];
    let condition = "from wikipedia where country_iso_code is null";
    let wanted = integer(&nulls["value"])?.to_string();
    check(psql, &format!("select sum(delta) {condition}"), &wanted)?;
    let hours = nulls["first_three_hours"].as_array().context("first_three_hours")?;
    let wanted: Vec<String> = hours.iter().map(ToString::to_string).collect();
    let by_hour = format!(
        "select sum(delta) {condition} group by date_trunc('hour', time) \
         order by date_trunc('hour', time) limit 3"
    );
    check(psql, &by_hour, &wanted.join("\n"))
}

fn pairs(value: &Value) -> Result<Vec<String>> {
    let list = value.as_array().context("not a list")?;
    list.iter()
        .map(|pair| {
            let name = pair[0].as_str().context("not a name")?;
            Ok(format!("{name}|{}", integer(&pair[1])?))
        })
        .collect()
}

/// Figures that raw and every granularity of the rollup have. `edits` and its like are SQL for the measure,
/// `time` is the time column, `from` the table or view.
struct Side<'a> {
    from: &'a str,
    time: &'a str,
    edits: &'a str,
    sums: [&'a str; 3],
    editors: &'a str,
    hourly: bool,
}

const RAW: Side<'_> = Side {
    from: "wikipedia",
    time: "time",
    edits: "count(*)",
    sums: ["sum(added)", "sum(deleted)", "sum(delta)"],
    editors: "approx_distinct(editor)",
    hourly: true,
};

fn view<'a>(name: &'a str, hourly: bool) -> Side<'a> {
    Side {
        from: name,
        time: "bucket",
        edits: "sum(edits)",
        sums: ["sum(added)", "sum(deleted)", "sum(delta)"],
        editors: "",
        hourly,
    }
}

fn check_side(psql: &Psql, side: &Side<'_>, answers: &Value) -> Result<()> {
    let Side { from, time, edits, sums, .. } = side;
    let sum = &answers["sum"];
    let wanted = format!(
        "{ROWS}|{}|{}|{}",
        integer(&sum["added"])?,
        integer(&sum["deleted"])?,
        integer(&sum["delta"])?
    );
    let [added, deleted, delta] = sums;
    check(psql, &format!("select {edits}, {added}, {deleted}, {delta} from {from}"), &wanted)?;
    for (column, key) in [
        ("is_new", "isNew"),
        ("is_minor", "isMinor"),
        ("is_robot", "isRobot"),
        ("is_anonymous", "isAnonymous"),
    ] {
        let wanted = integer(&answers["count_true"][key])?.to_string();
        check(psql, &format!("select {edits} from {from} where {column}"), &wanted)?;
    }
    for (column, key) in [("channel", "channel"), ("country_name", "countryName")] {
        let wanted = integer(&answers["distinct"][key])?.to_string();
        check(psql, &format!("select count(distinct {column}) from {from}"), &wanted)?;
    }
    let channels = format!(
        "select channel, {edits} n from {from} group by channel order by n desc, channel limit 6"
    );
    check(psql, &channels, &pairs(&answers["top_channels"])?.join("\n"))?;
    if side.hourly {
        let hours = answers["edits_per_hour_00_23"].as_array().context("edits per hour")?;
        let wanted: Vec<String> =
            (0..).zip(hours).map(|(hour, n): (u8, _)| format!("{hour}|{n}")).collect();
        let by_hour = format!(
            "select extract(hour from {time})::integer h, {edits} \
             from {from} group by 1 order by 1"
        );
        check(psql, &by_hour, &wanted.join("\n"))?;
    }
    if !side.editors.is_empty() {
        let editors = format!("select {} from {from}", side.editors);
        let found: f64 = psql.query(&editors)?.parse()?;
        let exact = answers["distinct"]["user"].as_f64().context("distinct user")?;
        anyhow::ensure!((found - exact).abs() <= exact * 0.02, "{editors} gave {found}");
    }
    Ok(())
}

/// The distinct editors of a day are approximate; in each of the day's rows they are counted in its states.
fn check_editors_by_channel(psql: &Psql) -> Result<()> {
    let raw = "select channel, namespace, country_name, is_robot, is_anonymous, is_new, is_minor, \
               approx_distinct(editor) from wikipedia group by 1, 2, 3, 4, 5, 6, 7 \
               order by 1, 2, 3, 4, 5, 6, 7";
    let day = "select channel, namespace, country_name, is_robot, is_anonymous, is_new, is_minor, \
               editors from edits_day order by 1, 2, 3, 4, 5, 6, 7";
    let (raw, day) = (psql.query(raw)?, psql.query(day)?);
    anyhow::ensure!(raw == day, "editors of edits_day differ from raw");
    Ok(())
}

pub(crate) fn check_everything(otus: &Otus, psql: &Psql) -> Result<()> {
    let answers = wiki::answers()?;
    check(psql, "select count(*) from wikipedia", &ROWS.to_string())?;
    check_raw_only(psql, &answers)?;
    check_side(psql, &RAW, &answers)?;
    for (granularity, rows) in VIEW_ROWS {
        let name = format!("edits_{granularity}");
        check(psql, &format!("select count(*) from {name}"), &rows.to_string())?;
        check_side(psql, &view(&name, granularity != "day"), &answers)?;
    }
    check_editors_by_channel(psql)?;
    let (status, pulled) = otus.pull(&serde_json::json!({"pattern": {"metrics": {"wikipedia": {
        "$with": [{"from": "2015-09-12", "to": "2015-09-13"}],
        "$get": [{"edits": "?", "added": "?", "delta": "?"}]}}}}))?;
    anyhow::ensure!(status == 200, "pull: {status} {pulled}");
    let row = &pulled["data"]["metrics"]["wikipedia"][0];
    anyhow::ensure!(row["edits"] == ROWS, "pull gave {pulled}");
    anyhow::ensure!(row["added"].to_string().trim_matches('"') == "9385573", "pull gave {pulled}");
    Ok(())
}

/// Raw and rollup files of one flush came in one commit: by the system table, and by the log itself.
fn check_one_commit(otus: &Otus, psql: &Psql) -> Result<()> {
    let sql = "select count(*) filter (where raws > 0 and states > 0) > 0, \
               count(*) filter (where \"commit\" is null or raws = 0 or states = 0) from \
               (select \"commit\", count(*) filter (where kind = 'raw') as raws, \
               count(*) filter (where kind = 'rollup') as states from otus.segments \
               where level = 0 and \"table\" = 'public.wikipedia' group by \"commit\") as commits";
    check(psql, sql, "t|0")?;
    let folder = otus.folder().join("data/_log");
    if !folder.is_dir() {
        return Ok(());
    }
    let mut rows = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            let entry: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
            rows += raw_rows_with_states(&entry).with_context(|| path.display().to_string())?;
        }
    }
    anyhow::ensure!(rows == ROWS, "the log names {rows} raw rows");
    Ok(())
}

/// Raw rows that an entry adds; fails unless states and positions come with them.
fn raw_rows_with_states(entry: &Value) -> Result<i64> {
    let ops = entry["entry"]["ops"].as_array().context("no operations")?;
    let added = |op: &&Value| op["op"] == "add_file";
    let raw: Vec<_> =
        ops.iter().filter(added).filter(|op| op["file"]["target"]["raw"].is_number()).collect();
    let states = ops.iter().filter(added).any(|op| op["file"]["target"]["rollup"].is_object());
    let positions = ops.iter().any(|op| op["op"] == "advance");
    anyhow::ensure!(raw.is_empty() || (states && positions), "raw rows alone: {entry}");
    raw.iter().map(|op| integer(&op["file"]["rows"])).sum()
}

/// The same sums out of the files, read by DuckDB and pyarrow.
fn check_files(otus: &Otus, python: &std::path::Path, storage: &str) -> Result<Value> {
    let listed = otus.run(&["inspect", "--files", "--format", "json"])?;
    let list = otus.folder().join("files.json");
    std::fs::write(&list, &listed)?;
    let list = list.display().to_string();
    let found = python::run(python, "wikiticker_files.py", &[&list, storage])?;
    let raw = &found["raw"];
    anyhow::ensure!(raw["rows"] == ROWS, "raw files: {found}");
    for side in ["raw", "rollup_minute"] {
        let sums = &found[side];
        anyhow::ensure!(sums["edits"] == ROWS, "{side}: {found}");
        anyhow::ensure!(sums["added"] == 9_385_573, "{side}: {found}");
        anyhow::ensure!(sums["deleted"] == 394_298, "{side}: {found}");
        anyhow::ensure!(sums["delta"] == 8_991_275, "{side}: {found}");
    }
    anyhow::ensure!(found["legal"] == true, "types no other reader expects: {found}");
    Ok(found)
}

/// Compacts until the rollup files have as many rows as the finished views.
fn wait_compacted(otus: &Otus) -> Result<()> {
    otus.maintain()?;
    for (granularity, rows) in VIEW_ROWS {
        let sql = format!(
            "select coalesce(sum(rows), 0) from otus.segments where kind = 'rollup' \
             and granularity = '{granularity}' and level > 0"
        );
        otus.wait_number(&sql, rows)?;
    }
    otus.wait_number("select count(*) from otus.segments where level = 0", 0)
}

fn whole_day(setup: Setup, storage: &str, python: &std::path::Path) -> Result<()> {
    let mut otus = setup.start()?;
    wait_rows(&otus)?;
    otus.wait_ready()?;
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    check_everything(&otus, &psql).context("from hot rows")?;
    otus.flush()?;
    check_everything(&otus, &psql).context("after the flush")?;
    check_one_commit(&otus, &psql)?;
    check_files(&otus, python, storage)?;
    wait_compacted(&otus)?;
    check_everything(&otus, &psql).context("after compaction")?;
    let files = check_files(&otus, python, storage)?;
    for (granularity, rows) in VIEW_ROWS {
        let found = &files[&format!("rollup_{granularity}")]["rows"];
        anyhow::ensure!(*found == rows, "{granularity} files have {found} rows");
    }
    let verified = otus.run(&["inspect", "--verify"])?;
    anyhow::ensure!(!verified.is_empty(), "inspect --verify said nothing");
    otus.stop()?;
    otus.launch()?;
    otus.wait_ready()?;
    check_everything(&otus, &psql).context("after a restart")
}

#[test]
fn known_answers_from_kafka() -> Result<()> {
    let broker = need!(Broker::shared());
    let python = need!(python::interpreter());
    need!(Psql::new(0));
    let lines = match wiki::lines() {
        Ok(lines) => lines,
        Err(reason) => {
            skip::unavailable(&reason);
            return Ok(());
        }
    };
    let topic = broker.topic("wikiticker", PARTITIONS, &[])?;
    produce(broker, &topic, &lines)?;
    let tables = wiki::table_section(&format!("topic = \"{topic}\""));
    whole_day(Setup::tables(tables).kafka(broker), "", &python)
}

#[test]
fn known_answers_on_s3() -> Result<()> {
    let broker = need!(Broker::shared());
    let objects = need!(Objects::shared());
    let python = need!(python::interpreter());
    need!(Psql::new(0));
    let lines = match wiki::lines() {
        Ok(lines) => lines,
        Err(reason) => {
            skip::unavailable(&reason);
            return Ok(());
        }
    };
    let topic = broker.topic("wikiticker-s3", PARTITIONS, &[])?;
    produce(broker, &topic, &lines)?;
    let tables = wiki::table_section(&format!("topic = \"{topic}\""));
    let setup = Setup::tables(tables).kafka(broker).storage(objects.storage_section("wikiticker"));
    whole_day(setup, &objects.endpoint(), &python)
}

#[test]
fn known_answers_from_the_file() -> Result<()> {
    let path = otus_tests::paths::data().join("wikiticker-2015-09-12-sampled.json.gz");
    if !path.is_file() {
        skip::unavailable(&format!("there is no {}", path.display()));
        return Ok(());
    }
    let psql_missing = Psql::new(0);
    need!(psql_missing);
    let tables = wiki::table_section(&format!("file = \"{}\"", path.display()));
    let otus = Setup::tables(tables).start()?;
    wait_rows(&otus)?;
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    check_everything(&otus, &psql)?;
    until("rejected", std::time::Duration::from_secs(1), || {
        check(&psql, "select count(*) from otus.rejected", "0")
    })
}
