//! Sample files, valid and invalid, with the exact problems they must give.

use std::collections::BTreeMap;
use std::path::Path;

use otus_engine::catalog::{ColumnSource, EpochUnit, Source, Start};
use otus_engine::time::Granularity;
use otus_engine::types::ColumnType;

use super::*;

struct Fake;

impl Environment for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "KAFKA_PASSWORD").then(|| "hunter2".to_string())
    }
    fn file(&self, path: &Path) -> std::io::Result<String> {
        match path.to_str() {
            Some("/run/secret") => Ok("s3cret\n".to_string()),
            _ => Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no such file")),
        }
    }
}

pub(super) fn read(text: &str) -> Result<Config, Problems> {
    Config::parse("otus.toml", text, &Fake, None)
}

pub(super) fn refused(text: &str, expected: &str) {
    let problems = read(text).expect_err("the file is refused").to_string();
    assert_eq!(problems, expected.trim_start_matches('\n'));
}

const EDITS: &str = r##"
[storage]
url = "s3://bucket/prefix"
region = "eu-west-1"
secret_access_key_file = "/run/secret"
allow_http = true

[kafka]
bootstrap.servers = "localhost:9092"
"sasl.password"   = "${KAFKA_PASSWORD}"
fetch.min.bytes   = 1_000

[server]
postgres = "127.0.0.1:6000"
hosts = ["otus.example.org"]
shutdown = "1m 30s"

[query]
memory = "512MiB"
threads = 2
timeout = "5m"

[limits]
result_cache = "8MiB"
states_cache = "4MiB"
rows_cache = "8MiB"

[tables.edits]
description = "Wikipedia edits"
topic = "wikiticker"
time = "time"
start = 2015-09-12T00:00:00Z
accept = { late = "30d", early = "1d" }
retention = { raw = "30d", minute = "90d" }
filter = "channel <> 'x'"
record_max = "2MiB"

[tables.edits.columns]
time = "timestamptz"
channel = { type = "text", title = "Channel" }
editor = { type = "text", path = "user" }
city = { type = "text", path = "geo.city.name" }
odd = { type = "text", path = ["a.b", "c"] }
sent_at = { type = "timestamptz", unit = "ms" }
weight = { type = "double precision", unit = "kg", default = 1.5 }
tags = { type = "text[]", default = [] }
is_big = { type = "boolean", sql = "weight > 100" }
key = { type = "text", from = "key" }
trace = { type = "text", from = "header.trace-id", hidden = true }
arrived = { type = "timestamptz", from = "timestamp" }
others = { type = "jsonb", from = "rest" }

[tables.edits.measures]
edits = "count(*)"
added = { sql = "sum(weight)", unit = "bytes", format = "0,0" }

[tables.edits.rollups.by_channel]
granularity = ["day", "minute", "hour"]
dimensions = ["channel", "is_big"]
"##;

#[test]
fn a_full_sample_is_read() {
    let config = read(EDITS).unwrap();
    let kafka = BTreeMap::from([
        ("bootstrap.servers".to_string(), "localhost:9092".to_string()),
        ("fetch.min.bytes".to_string(), "1000".to_string()),
        ("sasl.password".to_string(), "hunter2".to_string()),
    ]);
    assert_eq!(config.kafka, Some(kafka));
    assert_eq!(config.storage.options["secret_access_key"], "s3cret");
    assert_eq!(config.storage.options["allow_http"], "true");
    assert_eq!(config.server.postgres, "127.0.0.1:6000");
    assert_eq!(config.server.http, "127.0.0.1:8080");
    assert_eq!(config.server.shutdown, Duration::from_secs(90));
    assert_eq!(config.query.memory_bytes, Some(512 << 20));
    assert_eq!(config.query.result_cache_bytes, Some(8 << 20));
    assert_eq!(config.query.states_cache_bytes, Some(4 << 20));
    assert_eq!(config.query.rows_cache_bytes, Some(8 << 20));
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("s3cret"), "{shown}");

    let edits = &config.tables[0];
    assert_eq!(edits.qualified_name(), "public.edits");
    assert_eq!(edits.source, Source::Topics(vec!["wikiticker".into()]));
    assert_eq!(edits.start, Start::Time(1_442_016_000_000_000));
    assert_eq!(edits.record_bytes_max, 2 << 20);
    assert!(!edits.append, "off by default for Kafka");
    let names: Vec<_> = edits.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names[..4], ["time", "channel", "editor", "city"], "the order of the file");
    let source = |name: &str| edits.column(name).unwrap().source.clone();
    assert_eq!(
        source("city"),
        ColumnSource::Path(["geo", "city", "name"].map(String::from).into())
    );
    assert_eq!(source("odd"), ColumnSource::Path(["a.b", "c"].map(String::from).into()));
    assert_eq!(source("trace"), ColumnSource::RecordHeader("trace-id".into()));
    assert_eq!(source("others"), ColumnSource::Rest);
    assert_eq!(edits.column("sent_at").unwrap().epoch, Some(EpochUnit::Millis));
    assert_eq!(edits.column("weight").unwrap().presentation.unit.as_deref(), Some("kg"));
    assert_eq!(edits.column("tags").unwrap().default, Some(serde_json::json!([])));
    assert_eq!(edits.measures[1].presentation.unit.as_deref(), Some("bytes"));
    let minute_hour_day = [Granularity::Minute, Granularity::Hour, Granularity::Day];
    assert_eq!(edits.rollups[0].granularities, minute_hour_day, "from fine to coarse");
    assert_eq!(edits.column("is_big").unwrap().column_type, ColumnType::Boolean);
}

#[test]
fn a_local_table_can_be_appended_to() {
    let text =
        "[tables.t]\ntopic = \"t\"\ntime = \"at\"\n[tables.t.columns]\nat = \"timestamptz\"\n";
    let config = read(text).unwrap();
    assert!(config.tables[0].append && config.uses_local_log(&[]));
    assert_eq!(config.storage.url, "file:./otus-data");
}

#[test]
fn all_problems_come_at_once_with_their_places() {
    refused(
        r#"
[storge]
url = "file:./x"
[kafka]
bootstrap.servers = "b:9092"
group.id = "mine"
sasl.password = "${NOT_SET}"
ssl.key_file = "/nowhere"
[tables.edits]
topic = "wiki ticker"
tme = "time"
retention = { raw = "30 fortnights", week = "1y" }
[tables.edits.columns]
time = "timestamtz"
_offset = "bigint"
price = { type = "real", defalt = 1 }
small = { type = "smallint", default = 70000 }
"#,
        r#"
otus.toml:2:2: error: storge: unknown key "storge"
    hint: did you mean "storage"?
otus.toml:6:12: error: kafka.group.id: property "group.id" is fixed by Otus: Otus names the group after the dataset
    hint: remove it
otus.toml:7:17: error: kafka.sasl.password: environment variable "NOT_SET" is not set
    hint: set it, or write $${ for a plain ${
otus.toml:8:16: error: kafka.ssl.key_file: file "/nowhere" cannot be read: no such file
otus.toml:9:9: error: tables.edits: "time" is missing
    hint: the name of the column that holds the event's time
otus.toml:10:9: error: tables.edits.topic: "wiki ticker" is not a topic's name
    hint: 1 to 249 letters, digits, dots, underscores and hyphens
otus.toml:11:1: error: tables.edits.tme: unknown key "tme"
    hint: did you mean "time"?
otus.toml:12:1: error: tables.edits.retention: no rollup of the table has the granularity week
otus.toml:12:21: error: tables.edits.retention.raw: "30 fortnights" is not a duration
    hint: a number with a unit: us, ms, s, m, h, d, w or y, for example "30d"
otus.toml:14:8: error: tables.edits.columns.time: unknown column type "timestamtz"
    hint: one of boolean, smallint, integer, bigint, real, double precision, numeric(p,s), text, uuid, date, timestamp, timestamptz, bytea, jsonb, or one of these with []
otus.toml:15:1: error: tables.edits.columns._offset: every table has a system column "_offset" already
    hint: choose another name and give the field by path
otus.toml:16:26: error: tables.edits.columns.price.defalt: unknown key "defalt"
    hint: did you mean "default"?
otus.toml:17:40: error: tables.edits.columns.small.default: default 70000 is not a value of type smallint"#,
    );
}

#[test]
fn rollups_are_checked_against_columns_and_measures() {
    refused(
        r#"
[tables.t]
topic = "t"
time = "at"
[tables.t.columns]
at = "timestamptz"
price = "real"
kind = "text"
doc = "jsonb"
[tables.t.measures]
n = "count(*)"
kind = "count(kind)"
bucket = "count(*)"
[tables.t.rollups.r]
granularity = ["week", "month", "sec"]
dimensions = ["price", "at", "kind", "kin", "doc"]
measures = ["m"]
[tables.t.rollups.s]
granularity = "day"
[tables.s_day]
topic = "u"
time = "at"
[tables.s_day.columns]
at = "date"
"#,
        r#"
otus.toml:13:1: error: tables.t.measures.bucket: "bucket" is the time column of every rollup
    hint: choose another name
otus.toml:15:15: error: tables.t.rollups.r.granularity: a month is not made of whole weeks
    hint: declare a second rollup for one of them
otus.toml:15:33: error: tables.t.rollups.r.granularity[2]: unknown granularity "sec"
    hint: one of second, minute, five_minute, fifteen_minute, hour, day, week, month, quarter, year
otus.toml:16:15: error: tables.t.rollups.r.dimensions[0]: column "price" is real, and floats cannot be dimensions
    hint: declare it as numeric(p,s), or leave it out
otus.toml:16:24: error: tables.t.rollups.r.dimensions[1]: the event-time column "at" cannot be a dimension
    hint: every rollup has its bucket already
otus.toml:16:30: error: tables.t.rollups.r.dimensions[2]: "kind" is a dimension here and a measure of the table
    hint: give the measure another name
otus.toml:16:38: error: tables.t.rollups.r.dimensions[3]: column "kin" is not declared
    hint: did you mean "kind"?
otus.toml:16:45: error: tables.t.rollups.r.dimensions[4]: column "doc" is jsonb, which cannot be a dimension
    hint: declare a computed column that takes a scalar out of it
otus.toml:17:13: error: tables.t.rollups.r.measures[0]: measure "m" is not declared
otus.toml:18:19: error: tables.t.rollups.s: its view "s_day" collides with table "s_day"
    hint: rename the rollup
otus.toml:24:6: error: tables.s_day.columns.at: the event-time column "at" is date
    hint: declare it as timestamptz, or as timestamp if it has no zone"#,
    );
}

#[test]
fn tables_of_two_schemas_may_share_a_name() {
    let table = |key: &str, schema: &str| {
        format!(
            "[tables.{key}]\nname = \"orders\"\nschema = \"{schema}\"\ntopic = \"{key}\"\n\
             time = \"at\"\n[tables.{key}.columns]\nat = \"timestamptz\"\n"
        )
    };
    let config = read(&(table("north", "n") + &table("south", "s"))).unwrap();
    let names: Vec<_> = config.tables.iter().map(|t| t.qualified_name()).collect();
    assert_eq!(names, ["n.orders", "s.orders"]);
    let problems = read(&(table("north", "n") + &table("south", "n"))).expect_err("refused");
    assert_eq!(
        problems.to_string(),
        "otus.toml:8:9: error: tables.south: there is another table \"n.orders\"\n    \
         hint: give one of them another name or schema"
    );
}

#[test]
fn kafka_properties_are_those_of_the_client() {
    refused(
        "[kafka]\nbootstrap.servers = \"b:9092\"\nbootstrop.servers = \"b\"\n",
        "otus.toml:1:2: error: kafka: [kafka]: \"bootstrop.servers\" is no property of \
         the Kafka client\n    \
         hint: librdkafka's CONFIGURATION.md lists its properties",
    );
    refused(
        "[kafka]\nbootstrap.servers = \"b:9092\"\nacks = 1\nsasl.pasword = \"hunter2\"\n",
        "otus.toml:1:2: error: kafka: [kafka]: \"sasl.pasword\" is no property of \
         the Kafka client\n    \
         hint: librdkafka's CONFIGURATION.md lists its properties\n\
         otus.toml:3:8: error: kafka.acks: property \"acks\" is fixed by Otus: an append is answered \
         when it is durable\n    hint: remove it",
    );
}

#[test]
fn a_file_is_read_from_its_beginning() {
    let table = |start: &str| {
        format!(
            "[tables.a]\nfile = \"f.ndjson\"\nstart = {start}\ntime = \"at\"\n\
             [tables.a.columns]\nat = \"timestamptz\"\n"
        )
    };
    assert!(read(&table("\"earliest\"")).is_ok());
    for start in ["2024-08-20T09:00:00Z", "\"latest\""] {
        refused(
            &table(start),
            "otus.toml:3:9: error: tables.a.start: a file is read from its beginning: its lines have \
             no timestamps\n    hint: remove start; a filter on the event time drops rows",
        );
    }
}

#[test]
fn sources_exclude_each_other() {
    refused(
        r#"
[tables.a]
topic = "t"
file = "f.ndjson"
time = "at"
[tables.a.columns]
at = { type = "timestamptz", path = "x", from = "key" }
who = { type = "text", path = "a..b" }
what = { type = "text", from = "headers" }
[tables.b]
time = "at"
append = 1
start = "yesterday"
[tables.b.columns]
at = { type = "timestamptz", unit = "minutes" }
"#,
        r#"
otus.toml:2:9: error: tables.a: the table reads more than one
    hint: give one of topic, topics, topic_pattern and file
otus.toml:7:1: error: tables.a.columns.at: a column has one of path, from and sql
    hint: path names a field of the record, from a part of its envelope, sql computes
otus.toml:8:31: error: tables.a.columns.who.path: a path has at least one element and no empty one
    hint: "geo.city.name", or ["a.b", "c"] where a field's name holds a dot
otus.toml:9:32: error: tables.a.columns.what.from: unknown part of a record: "headers"
    hint: one of "key", "timestamp", "header.<name>" and "rest"
otus.toml:10:9: error: tables.b: the table reads nothing
    hint: give one of topic, topics, topic_pattern and file
otus.toml:12:10: error: tables.b.append: expected true or false, found an integer
otus.toml:13:9: error: tables.b.start: unknown start "yesterday"
    hint: "earliest", "latest" or a moment such as "2024-08-20T09:00:00Z"
otus.toml:15:37: error: tables.b.columns.at.unit: unknown unit of an epoch time: "minutes"
    hint: one of "s", "ms", "us" and "ns""#,
    );
}

#[test]
fn a_lost_event_time_hides_no_measure() {
    let text = r#"
[tables.t]
topic = "t"
time = "at"
[tables.t.columns]
at = "timestamtz"
n = "numerik"
[tables.t.measures]
n = "cont(*)"
latest = "max(at)"
m = "sum(n)"
"#;
    let compiler = otus_sql::SqlCompiler::new();
    let problems = Config::parse("otus.toml", text, &Fake, Some(compiler.as_ref()));
    let problems = problems.expect_err("refused");
    let places: Vec<_> = problems.list.iter().map(|p| (p.line, p.path.as_str())).collect();
    let expected =
        [(6, "tables.t.columns.at"), (7, "tables.t.columns.n"), (9, "tables.t.measures.n")];
    assert_eq!(places, expected, "{problems}");
    assert!(problems.to_string().contains("function cont() does not exist"), "{problems}");
}

#[test]
fn storage_takes_the_options_of_its_store() {
    refused(
        "[storage]\nurl = \"file:./data\"\nfoo = 1\nregion = \"x\"\n",
        "otus.toml:3:1: error: storage.foo: unknown key \"foo\"\n    \
         hint: known here: url; more are of stores at s3://\n\
         otus.toml:4:1: error: storage.region: unknown key \"region\"\n    \
         hint: known here: url; more are of stores at s3://",
    );
    refused(
        "[storage]\nurl = \"s3://bucket\"\nregion = \"x\"\nregoin = \"y\"\n",
        "otus.toml:4:1: error: storage.regoin: unknown key \"regoin\"\n    \
         hint: known are endpoint, region, access_key_id, secret_access_key, token, allow_http and \
         virtual_hosted_style_request",
    );
}

#[test]
fn the_environment_is_put_into_every_text() {
    let table = |description: &str, at: &str| {
        format!(
            "[tables.a]\ndescription = {description}\ntopics = [\"t-${{KAFKA_PASSWORD}}\"]\ntime = \"at\"\n\
             [tables.a.columns]\nat = {at}\n"
        )
    };
    let config = read(&table("\"of ${KAFKA_PASSWORD}, not $${X}\"", "\"timestamptz\"")).unwrap();
    assert_eq!(config.tables[0].description.as_deref(), Some("of hunter2, not ${X}"));
    assert_eq!(config.tables[0].source, Source::Topics(vec!["t-hunter2".into()]));
    refused(
        &table("\"${NOPE}\"", "{ type = \"${NOPE}\", title = \"${NOPE\" }"),
        "otus.toml:2:15: error: tables.a.description: environment variable \"NOPE\" is not set\n    \
         hint: set it, or write $${ for a plain ${\n\
         otus.toml:6:15: error: tables.a.columns.at.type: environment variable \"NOPE\" is not set\n    \
         hint: set it, or write $${ for a plain ${\n\
         otus.toml:6:34: error: tables.a.columns.at.title: \"${\" has no closing brace\n    \
         hint: set it, or write $${ for a plain ${",
    );
}

#[test]
fn keyed_tables_have_a_key_and_no_time() {
    let config = read(
        r#"
[tables.players]
kind = "keyed"
topic = "players"
key = "id"
[tables.players.columns]
id = { type = "uuid", from = "key" }
name = "text"
"#,
    )
    .unwrap();
    let players = &config.tables[0];
    assert_eq!((players.keyed().unwrap().key.as_str(), players.time.as_str()), ("id", ""));
    assert!(players.append, "the embedded log takes writes");
    refused(
        r#"
[tables.a]
kind = "keyed"
topic = "a"
time = "at"
filter = "at is not null"
[tables.a.columns]
at = "timestamptz"
[tables.a.rollups.r]
granularity = "hour"
[tables.b]
kind = "keyed"
file = "b.ndjson"
key = "id"
[tables.b.columns]
id = { type = "double precision", default = 1 }
_timestamp = "bigint"
[tables.c]
kind = "latest"
topic = "c"
key = "nme"
[tables.c.columns]
name = { type = "text", from = "header.name" }
[tables.d]
topic = "d"
key = "at"
time = "at"
[tables.d.columns]
at = "timestamptz"
"#,
        "otus.toml:2:9: error: tables.a: \"key\" is missing\n    \
         hint: the name of the column that holds the key\n\
         otus.toml:5:8: error: tables.a.time: a keyed table has no \"time\": its rows are the latest of their keys, whenever they were written\n\
         otus.toml:6:10: error: tables.a.filter: a keyed table has no \"filter\": a row that is filtered away would leave an older one behind\n\
         otus.toml:9:11: error: tables.a.rollups: a keyed table has no \"rollups\": declare them in a table of events\n\
         otus.toml:9:19: error: tables.a.rollups.r: a rollup stores measures, and the table has none\n    \
         hint: declare a measure\n\
         otus.toml:11:9: error: tables.b: a keyed table reads topics, not a file\n    \
         hint: give its topic\n\
         otus.toml:16:1: error: tables.b.columns.id: the key column \"id\" is double precision\n    \
         hint: declare it as text, bigint, uuid or jsonb\n\
         otus.toml:16:1: error: tables.b.columns.id: the key column \"id\" cannot have a default\n\
         otus.toml:17:14: error: tables.b.columns._timestamp: a keyed table has a system column \"_timestamp\" already\n    \
         hint: choose another name and give the field by path\n\
         otus.toml:19:8: error: tables.c.kind: unknown kind \"latest\"\n    \
         hint: \"events\" (which is meant without it) or \"keyed\"\n\
         otus.toml:21:7: error: tables.c.key: column \"nme\" is not declared\n    \
         hint: did you mean \"name\"?\n\
         otus.toml:26:7: error: tables.d.key: only a keyed table has a key\n    \
         hint: add kind = \"keyed\"",
    );
}

#[test]
fn syntax_errors_have_their_place_too() {
    let problems = read("[storage]\nurl = \n[server]\nhttp = \"nowhere\"\n").expect_err("refused");
    let lines: Vec<usize> = problems.list.iter().map(|p| p.line).collect();
    assert_eq!(lines, [2, 4], "{problems}");
}

#[test]
fn names_that_make_people_stumble_are_warned_of() {
    let text = "[tables.Edits]\ntopic = \"t\"\ntime = \"at\"\n[tables.Edits.columns]\n\
                at = \"timestamptz\"\nuser = \"text\"\nisRobot = \"boolean\"\n\"a b\" = \"text\"\n";
    let config = read(text).unwrap();
    let shown: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "1:9: warning: tables.Edits: \"Edits\" has capital letters, which SQL folds away\n    \
             hint: in SQL write it with quotes: \"Edits\"",
            "6:1: warning: tables.Edits.columns.user: \"user\" is a reserved word of SQL\n    \
             hint: in SQL write it with quotes: \"user\"",
            "7:1: warning: tables.Edits.columns.isRobot: \"isRobot\" has capital letters, which \
             SQL folds away\n    hint: in SQL write it with quotes: \"isRobot\"",
            "8:1: warning: tables.Edits.columns.\"a b\": \"a b\" is not a plain SQL name\n    \
             hint: in SQL write it with quotes: \"a b\"",
        ]
    );
}

#[test]
fn a_table_like_a_system_table_is_warned_of() {
    let text = "[tables.pg_class]\ntopic = \"t\"\ntime = \"at\"\n[tables.pg_class.columns]\nat = \"timestamptz\"\n";
    let shown: Vec<_> = read(text).unwrap().warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "1:9: warning: tables.pg_class: \"pg_class\" is like the name of a system table, which SQL \
          finds first\n    hint: in SQL write it with its schema, as in public.pg_class"
        ]
    );
}

/// What the storage could not hold is found here, not at the start.
#[test]
fn a_dimension_named_like_a_state_is_refused() {
    let text = r#"
[tables.a]
topic = "a"
time = "at"
[tables.a.columns]
at = "timestamptz"
count__count = "text"
[tables.a.measures]
events = "count(*)"
[tables.a.rollups.fine]
granularity = "hour"
[tables.a.rollups.torn]
granularity = "hour"
dimensions = ["count__count"]
[tables.a.rollups.wrong]
granularity = "hour"
dimensions = ["nothing"]
"#;
    let compiler = otus_sql::SqlCompiler::new();
    let problems = Config::parse("otus.toml", text, &Fake, Some(compiler.as_ref()));
    let shown: Vec<_> =
        problems.expect_err("refused").list.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "12:19: error: tables.a.rollups.torn: rollup \"torn\" would have two columns \
             \"count__count\"\n    hint: a dimension is named like the states of a measure: give the \
             column another name",
            "17:15: error: tables.a.rollups.wrong.dimensions[0]: column \"nothing\" is not declared",
        ]
    );
}

#[test]
fn mistakes_in_expressions_are_told_with_all_the_others() {
    let text = r#"
[tables.t]
topic = "a"
file  = "b"
time  = "when"
filter = "kind <> "
[tables.t.columns]
at    = "timestamptz"
kind  = "text"
price = "numerik(3,2)"
twice = { type = "bigint", sql = "price * 2" }
worse = { type = "bigint", sql = "kidn || 'x'" }
[tables.t.measures]
n    = "count(*"
paid = "sum(price)"
sold = "sum(pice)"
[tables.t.rollups.r]
granularity = ["hour"]
dimensions  = ["price", "kin"]
"#;
    let compiler = otus_sql::SqlCompiler::new();
    let problems = Config::parse("otus.toml", text, &Fake, Some(compiler.as_ref()));
    let problems = problems.expect_err("refused");
    let places: Vec<_> = problems.list.iter().map(|p| (p.line, p.path.as_str())).collect();
    // What only follows from the bad type of `price` is not told.
    assert_eq!(
        places,
        [
            (2, "tables.t"),
            (5, "tables.t.time"),
            (6, "tables.t.filter"),
            (10, "tables.t.columns.price"),
            (12, "tables.t.columns.worse.sql"),
            (14, "tables.t.measures.n"),
            (16, "tables.t.measures.sold"),
            (19, "tables.t.rollups.r.dimensions[1]"),
        ],
        "{problems}"
    );
}
