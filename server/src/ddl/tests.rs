//! Definitions written and read back, changed and refused, over a server in memory.

use otus_engine::catalog::TableDef;

use super::*;
use crate::otus::Otus;

/// A table of everything: what is written for it must be read as the same.
const ALL: &str = r##"
[tables."Odd name"]
schema = "web"
description = "a \"quoted\" line\nand $${HOME} \\ \u0007"
topics = ["a", "b.c"]
time = "at"
start = "2024-08-20T09:00:00.5Z"
filter = "n > 1"
append = true
record_max = "3000B"
accept = { late = "90m", early = "1500us" }
retention = { raw = "30d", minute = "36h" }
[tables."Odd name".columns]
zeta = "bigint"
at = { type = "timestamptz", unit = "ms", title = "When" }
n = { type = "integer", path = "a.b", default = -3, unit = "kg", hidden = true }
odd = { type = "text", path = ["x.y", "z"], default = "${HOME}" }
price = { type = "numeric(10,2)", default = 1.5, format = "0.00" }
tags = { type = "text[]", default = ["a", "b"] }
doc = { type = "jsonb", default = { k = [1, true, { z = "" }] } }
big = { type = "boolean", sql = "n > 100 AND odd <> '\"'" }
sent = { type = "timestamptz", from = "timestamp" }
key = { type = "text", from = "key" }
trace = { type = "text", from = "header.trace-id" }
rest = { type = "jsonb", from = "rest" }
[tables."Odd name".measures]
rows = "count(*)"
total = { sql = "sum(price)", unit = "EUR", description = "spent" }
mean = "total / rows"
[tables."Odd name".rollups.by_n]
granularity = ["minute", "day"]
dimensions = ["n", "odd"]
measures = ["rows", "mean"]
[tables."Odd name".rollups."all of it"]
granularity = "hour"
filter = "n > 3 AND odd <> '\"'"
dimensions = [{ name = "Odd host", sql = "split_part(odd, '${HOME}', 3)" }, "n"]

[tables.jobs]
topic = "jobs"
kind = "keyed"
key = "id"
[tables.jobs.columns]
id = { type = "text", from = "key" }
state = "text"
"##;

struct Home;

impl Environment for Home {
    fn variable(&self, _: &str) -> Option<String> {
        Some("of the environment ${HOME}".into())
    }
    fn file(&self, _: &std::path::Path) -> std::io::Result<String> {
        unreachable!()
    }
}

#[test]
fn what_is_written_for_a_table_is_read_as_the_same() {
    let config = Config::parse("otus.toml", ALL, &Home, None).unwrap();
    for def in &config.tables {
        let text = Section::of_table(def).toml(&["tables", &def.name]);
        let again =
            Config::parse("again", &text, &Home, None).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(again.tables, std::slice::from_ref(def), "{text}");
    }
}

/// A server in memory whose file declares `edits` and allows `clicks` and `team-…`.
async fn server() -> Otus {
    Otus::builder()
        .toml(
            "[storage]\nurl = \"memory:\"\n[ddl]\ntopics = [\"clicks\", \"team-*\"]\n[tables.edits]\n\
             topic = \"edits\"\ntime = \"at\"\n[tables.edits.columns]\nat = \"timestamptz\"\nn = \
             \"bigint\"\n[tables.edits.measures]\nrows = \"count(*)\"\n[tables.edits.rollups.all]\n\
             granularity = \"hour\"\n",
        )
        .open()
        .await
        .unwrap()
}

async fn refused(otus: &Otus, sql: &str) -> String {
    let error = otus.query(sql).await.expect_err(sql);
    match error.hint() {
        Some(hint) => format!("{error} | {hint}"),
        None => error.to_string(),
    }
}

const CLICKS: &str = "CREATE TABLE clicks (at timestamptz, page text, n smallint, price numeric(8,2), \
                      MEASURE clicks AS (count(*)), MEASURE spent AS (sum(price))) \
                      WITH (topic = 'clicks', time = 'at')";

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_refused_as_the_file_is() {
    let otus = server().await;
    let table = |columns: &str, options: &str| {
        format!("CREATE TABLE t (at timestamptz, {columns}) WITH ({options})")
    };
    let usual = "topic = 'team-a', time = 'at'";
    for (sql, told) in [
        (table("a intt", usual), "table \"t\": columns.a.type: unknown column type \"intt\""),
        (table("a text", "time = 'at'"), "table \"t\": the table reads nothing"),
        (table("a text", "topic = 'other', time = 'at'"), "topic \"other\" may not be named"),
        (
            table("a text", "topic = 'clicks2', time = 'at'"),
            "allows [ddl] topics = [\"clicks\", \"team-*\"]",
        ),
        (table("a text", "file = '/etc/passwd', time = 'at'"), "names neither files nor patterns"),
        (table("a text", "topic_pattern = '.*', time = 'at'"), "names neither files nor patterns"),
        (table("a text", "topic = 'clicks', tme = 'at'"), "\"time\" is missing"),
        (table("a text", "topic = 'clicks', time = 'at', bootstrap.servers = 'x'"), "unknown key"),
        (table("a text", "topic = 'clicks', time = 'b'"), "column \"b\" is not declared"),
        (table("a text AS (nope)", usual), "columns.a.sql"),
        (table("a text, a int", usual), "column \"a\" is declared twice"),
        (table("_offset bigint", usual), "every table has a system column"),
        (table("a text, MEASURE m AS (sum(a))", usual), "measures.m"),
        (table("a text DEFAULT 3", usual), "default 3 is not a value of type text"),
        (
            "CREATE ROLLUP r ON edits (lower(n)) WITH (granularity = 'hour')".into(),
            "dimension (lower(n)) has no name | give it one: lower(n) AS name",
        ),
        (
            "CREATE TABLE edits (at timestamptz) WITH (topic = 'clicks', time = 'at')".into(),
            "already exists",
        ),
        (
            "CREATE TABLE all_hour (at timestamptz) WITH (topic = 'clicks', time = 'at')".into(),
            "already exists",
        ),
        (
            "CREATE TABLE otus.x (at timestamptz) WITH (topic = 'clicks', time = 'at')".into(),
            "belongs to the system",
        ),
        (
            "ALTER TABLE edits ADD COLUMN x text".into(),
            "\"public.edits\" is declared in the configuration file | change [tables.edits] there",
        ),
        ("DROP TABLE edits".into(), "declared in the configuration file"),
        (
            "CREATE ROLLUP r ON edits (n) WITH (granularity = 'hour')".into(),
            "declared in the configuration file",
        ),
        ("DROP ROLLUP \"all\"".into(), "change [tables.edits.rollups.all] there"),
        ("COMMENT ON TABLE edits IS 'x'".into(), "declared in the configuration file"),
        ("DROP TABLE nope".into(), "table \"nope\" does not exist"),
        ("ALTER ROLLUP nope ADD DIMENSION x".into(), "rollup \"nope\" does not exist"),
    ] {
        let shown = refused(&otus, &sql).await;
        assert!(shown.contains(told), "{sql}\n  {shown}\n  {told}");
    }
    assert_eq!(otus.dataset().snapshot().tables().count(), 1, "nothing was made");
}

/// What stored rows cannot follow, and what is told.
const REFUSED: [(&str, &str); 11] = [
    (
        "ALTER TABLE clicks ALTER n TYPE smallint",
        "column \"n\" cannot change from bigint to smallint",
    ),
    (
        "ALTER TABLE clicks ALTER price TYPE numeric(12,4)",
        "cannot change from numeric(8,2) to numeric(12,4)",
    ),
    ("ALTER TABLE clicks ALTER page TYPE uuid", "cannot change from text to uuid"),
    ("ALTER TABLE clicks ALTER nope TYPE text", "column \"nope\" of table"),
    ("ALTER TABLE clicks ADD COLUMN lang text", "already exists"),
    ("ALTER TABLE clicks DROP COLUMN at", "is not declared"),
    ("ALTER TABLE clicks DROP COLUMN page", "is not declared"),
    ("ALTER TABLE clicks SET (topic = 'edits')", "topic \"edits\" may not be named"),
    ("ALTER TABLE clicks SET (topic = 'team-a')", "its source"),
    ("ALTER TABLE clicks SET (time = 'lang')", "the event-time column \"lang\" is text"),
    ("ALTER TABLE clicks SET (columns = 'x')", "is not an option"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_table_lives_and_changes() {
    let otus = server().await;
    otus.query(CLICKS).await.unwrap();
    otus.query("CREATE TABLE IF NOT EXISTS clicks (x text) WITH (topic = 'clicks')").await.unwrap();
    assert!(refused(&otus, CLICKS).await.contains("relation \"clicks\" already exists"));
    otus.query("CREATE ROLLUP pages ON clicks (page) WITH (granularity = ('minute', 'hour'))")
        .await
        .unwrap();
    let shown = refused(&otus, "CREATE ROLLUP pages ON clicks () WITH (granularity = 'day')").await;
    assert!(shown.contains("already exists"), "{shown}");
    let shown = refused(&otus, "CREATE ROLLUP p2 ON clicks (at) WITH (granularity = 'day')").await;
    assert!(shown.contains("rollups.p2.dimensions"), "{shown}");
    let shown =
        refused(&otus, "CREATE ROLLUP p2 ON clicks (page) WITH (granularity = 'dya')").await;
    assert!(shown.contains("dya"), "{shown}");

    let value = r#"{"at":"2024-08-20T09:00:00Z","page":"/","n":7,"price":1.25}"#;
    let record = otus_ingest::AppendRecord { value: Some(value.into()), ..Default::default() };
    let written = otus.append("clicks", vec![record]).await.unwrap();
    let wait = std::time::Duration::from_secs(30);
    otus.wait_visible("clicks", written[0].0, written[0].1, wait).await.unwrap();

    // Wider types, columns, measures; what stored rows cannot follow is refused.
    otus.query("ALTER TABLE clicks ADD COLUMN lang text DEFAULT 'en', ALTER n TYPE bigint")
        .await
        .unwrap();
    for (sql, told) in REFUSED {
        let shown = refused(&otus, sql).await;
        assert!(shown.contains(told), "{sql}\n  {shown}\n  {told}");
    }
    // What lets stored data go has to be meant.
    for sql in [
        "ALTER TABLE clicks SET (retention.raw = '30d')",
        "ALTER ROLLUP pages ADD DIMENSION lang",
        "ALTER TABLE clicks ADD MEASURE dearest AS (max(price))",
    ] {
        let shown = refused(&otus, sql).await;
        assert!(shown.contains("would go") && shown.contains("APPLY"), "{sql}: {shown}");
    }
    otus.query("ALTER TABLE clicks SET (retention.raw = '3000d') APPLY").await.unwrap();
    otus.query("ALTER TABLE clicks SET (retention.raw = '4000d')").await.unwrap();
    otus.query("ALTER TABLE clicks RESET (retention)").await.unwrap();
    otus.query("ALTER ROLLUP pages ADD DIMENSION lang APPLY").await.unwrap();
    otus.query("ALTER TABLE clicks ADD MEASURE dearest AS (max(price)) APPLY").await.unwrap();
    otus.query("COMMENT ON TABLE clicks IS 'each click'").await.unwrap();
    otus.query("COMMENT ON COLUMN clicks.n IS 'how many'").await.unwrap();
    let snapshot = otus.dataset().snapshot();
    let def: Arc<TableDef> = Arc::clone(&snapshot.table("public", "clicks").unwrap().def);
    assert_eq!(def.origin, Origin::Sql);
    assert_eq!(def.description.as_deref(), Some("each click"));
    assert_eq!(def.column("n").unwrap().presentation.description.as_deref(), Some("how many"));
    assert!(def.rollups[0].dimension_names().eq(["page", "lang"]));
    assert_eq!(def.measures.len(), 3);
    assert_eq!(def.retention, Default::default());
    let rows = otus.query("SELECT n, price, lang FROM clicks").await.unwrap();
    assert_eq!(rows.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 1);

    otus.query("DROP ROLLUP pages").await.unwrap();
    otus.query("DROP ROLLUP IF EXISTS pages").await.unwrap();
    otus.query("DROP TABLE clicks").await.unwrap();
    otus.query("DROP TABLE IF EXISTS clicks").await.unwrap();
    assert!(refused(&otus, "SELECT * FROM clicks").await.contains("does not exist"));
    // A table made again shares nothing with the old one but its topic, which is read again.
    otus.query(CLICKS).await.unwrap();
    otus.wait_visible("clicks", written[0].0, written[0].1, wait).await.unwrap();
    let rows = otus.query("SELECT * FROM clicks").await.unwrap();
    assert_eq!(rows.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_filters_and_computes() {
    let otus = server().await;
    otus.query(CLICKS).await.unwrap();
    otus.query("ALTER TABLE clicks ADD COLUMN lang text DEFAULT 'en'").await.unwrap();
    for (sql, told) in [
        (
            "CREATE ROLLUP p2 ON clicks (lower(page) AS n) WITH (granularity = 'day')",
            "the computed dimension \"n\" is called as a column",
        ),
        (
            "CREATE ROLLUP p2 ON clicks (price / 2.5::float AS x) WITH (granularity = 'day')",
            "rollup \"p2\": dimension \"x\" gives Float64",
        ),
        (
            "CREATE ROLLUP p2 ON clicks (page) WHERE now() > at WITH (granularity = 'day')",
            "rollup \"p2\": its filter",
        ),
        (
            "CREATE ROLLUP p2 ON clicks (page) WITH (granularity = 'day', filter = 'n > 1')",
            "WHERE condition",
        ),
    ] {
        let shown = refused(&otus, sql).await;
        assert!(shown.contains(told), "{sql}\n  {shown}\n  {told}");
    }
    let large = "CREATE ROLLUP large ON clicks (page, n % 10 AS digit) WHERE price > 1 AND lang = 'en' \
                 WITH (granularity = 'hour')";
    otus.query(large).await.unwrap();
    otus.query(
        "ALTER ROLLUP large ADD DIMENSION first AS (left(page, 1)), DROP DIMENSION page APPLY",
    )
    .await
    .unwrap();
    let snapshot = otus.dataset().snapshot();
    let def = Arc::clone(&snapshot.table("public", "clicks").unwrap().def);
    let rollup = def.rollups.iter().find(|r| r.name == "large").unwrap();
    assert_eq!(rollup.filter.as_deref(), Some("price > 1 AND lang = 'en'"));
    let dimensions: Vec<_> = rollup.dimensions.iter().map(ToString::to_string).collect();
    assert_eq!(dimensions, ["n % 10 AS digit", "left(page, 1) AS first"]);
    let shown = refused(&otus, "ALTER TABLE clicks DROP COLUMN lang").await;
    assert!(shown.contains("lang"), "{shown}");
    otus.query("ALTER ROLLUP large RESET (filter) APPLY").await.unwrap();
    otus.query("DROP ROLLUP large").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_allowed_topics_nothing_is_declared() {
    let otus = Otus::builder().open().await.unwrap();
    let shown = refused(&otus, CLICKS).await;
    assert!(
        shown.contains("statements declare nothing here") && shown.contains("[ddl] topics"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_on_the_machine_and_outside_transactions_declare() {
    let otus = server().await;
    let declare = async |session: &otus_sql::Session| {
        let statement = session.parse(CLICKS).unwrap().remove(0);
        session.execute(&statement, Vec::new()).await.map(|_| ()).map_err(|e| e.to_string())
    };
    let remote = otus.sql().session(otus_sql::SessionOptions::default());
    let shown = declare(&remote).await.unwrap_err();
    assert!(shown.contains("for clients on the server's own machine"), "{shown}");
    let options = otus_sql::SessionOptions { is_local: true, ..Default::default() };
    let local = otus.sql().session(options);
    let begin = local.parse("BEGIN").unwrap().remove(0);
    local.execute(&begin, Vec::new()).await.unwrap();
    let shown = declare(&local).await.unwrap_err();
    assert!(shown.contains("cannot run inside a transaction block"), "{shown}");

    let peer = |text: &str| Some(text.parse::<std::net::SocketAddr>().unwrap());
    assert!(crate::is_local(peer("127.0.0.1:9")) && crate::is_local(peer("[::1]:9")));
    assert!(crate::is_local(peer("[::ffff:127.0.0.1]:9")));
    assert!(!crate::is_local(peer("10.0.0.7:9")) && !crate::is_local(peer("[::ffff:10.0.0.7]:9")));
    assert!(!crate::is_local(None));
}
