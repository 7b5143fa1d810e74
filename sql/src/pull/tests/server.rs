//! Requests against a dataset in memory: the fixture of the design, half of it flushed, half hot, in a table
//! with rollups and in one without; both must answer alike.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::object_store::memory::InMemory;
use datafusion::physical_plan::displayable;
use otus_engine::catalog::{ColumnDef, MeasureDef, RollupDef, TableDef};
use otus_engine::clock::ManualClock;
use otus_engine::dataset::{
    Append, Dataset, DatasetOptions, FlushLimits, StartPosition, rejected_schema,
};
use otus_engine::position::{LogIdentity, ReadCounts, TopicPartition};
use otus_engine::store::Storage;
use otus_engine::time::Granularity;

use super::super::answer::Encoding;
use super::super::data::decode_form;
use super::super::request::run;
use super::super::source::TimeRanges;
use super::super::text::{ReadLimits, parse_instant};
use super::super::value::{Map, Value};
use super::super::{branch, edn, json, plan};
use super::{read, text, vectors};
use crate::compile::SqlCompiler;
use crate::engine::{SqlConfig, SqlEngine};
use crate::session::{Session, SessionOptions};

fn table_def(name: &str, rollups: Vec<RollupDef>) -> TableDef {
    let column = |name: &str, t: &str| ColumnDef::new(name, t.parse().unwrap());
    let columns = vec![
        column("ts", "timestamptz"),
        column("region", "text"),
        column("game", "text"),
        column("user", "text"),
        column("plays", "bigint"),
        column("cost", "bigint"),
    ];
    TableDef {
        measures: vec![
            MeasureDef::new("plays", "sum(plays)"),
            MeasureDef::new("cost", "sum(cost)"),
            MeasureDef::new("users", "approx_distinct(\"user\")"),
            MeasureDef::new("events", "count(*)"),
            MeasureDef::new("avg_cost", "avg(cost)"),
            MeasureDef::new("cheapest", "min(cost)"),
            MeasureDef::new("cost_per_play", "cost / plays"),
            MeasureDef::new("eu_plays", "sum(plays) filter (where region = 'eu')"),
        ],
        rollups,
        ..TableDef::events(name, "ts", columns)
    }
}

fn rollup() -> RollupDef {
    RollupDef {
        name: "by_region".into(),
        granularities: vec![Granularity::Minute, Granularity::Hour, Granularity::Day],
        dimensions: vec!["region".into(), "game".into()],
        filter: None,
        measures: vec![],
    }
}

fn batch(rows: &[Map], from: i64) -> (Vec<ArrayRef>, i64) {
    let texts = |key: &str| -> ArrayRef {
        Arc::new(StringViewArray::from_iter(rows.iter().map(|row| text(row, key))))
    };
    let ints = |key: &str| -> ArrayRef {
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| match row.get_keyword(key) {
            Some(Value::Int(n)) => Some(*n),
            _ => None,
        })))
    };
    let times = rows.iter().map(|row| parse_instant(text(row, "ts").unwrap()).unwrap().0);
    let ts = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let to = from + i64::try_from(rows.len()).unwrap();
    let ingested = TimestampMicrosecondArray::from(vec![0; rows.len()]).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ts),
        texts("region"),
        texts("game"),
        texts("user"),
        ints("plays"),
        ints("cost"),
        Arc::new(Int32Array::from(vec![0; rows.len()])),
        Arc::new(Int64Array::from_iter_values(from..to)),
        Arc::new(ingested),
    ];
    (columns, to)
}

pub(super) async fn append(dataset: &Dataset, name: &str, epoch: u64, rows: &[Map], from: i64) {
    let snapshot = dataset.snapshot();
    let table = snapshot.table("public", name).unwrap();
    let (columns, to) = batch(rows, from);
    let batch = RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap();
    let append = Append {
        table: table.id,
        tp: TopicPartition::new(name, 0),
        epoch,
        from,
        to,
        batch,
        counts: ReadCounts { kept: rows.len() as u64, ..ReadCounts::default() },
        rejected: RecordBatch::new_empty(rejected_schema()),
        fields: vec![],
        identity: LogIdentity::default(),
    };
    dataset.append(vec![append]).unwrap();
}

/// Tables `rolled` (with rollups) and `plain` (without), with the epochs of their partitions.
async fn dataset(clock: Arc<ManualClock>) -> (Arc<Dataset>, Vec<(&'static str, u64)>) {
    let tables = [table_def("rolled", vec![rollup()]), table_def("plain", vec![])];
    let dataset = empty_dataset(clock, &tables).await;
    let names = ["rolled", "plain"];
    let claims = dataset.claim(&names.map(|name| TopicPartition::new(name, 0))).await.unwrap();
    let mut epochs = Vec::new();
    for name in names {
        let tp = TopicPartition::new(name, 0);
        let epoch = claims.iter().find(|claim| claim.tp == tp).unwrap().epoch;
        let table = dataset.snapshot().table("public", name).unwrap().id;
        let identity = LogIdentity::default();
        let start = StartPosition { table, tp, epoch, offset: 0, identity };
        dataset.start_positions(vec![start]).await.unwrap();
        epochs.push((name, epoch));
    }
    (dataset, epochs)
}

async fn empty_dataset(clock: Arc<ManualClock>, tables: &[TableDef]) -> Arc<Dataset> {
    let options = DatasetOptions {
        member: "test".into(),
        clock,
        compiler: SqlCompiler::new(),
        flush: FlushLimits::default(),
    };
    let storage = Storage::from_store(Arc::new(InMemory::new()));
    let dataset = Dataset::open(storage, options).await.unwrap();
    dataset.apply_tables(tables, true).await.unwrap();
    dataset
}

pub(super) fn over(dataset: Arc<Dataset>) -> Session {
    let engine = SqlEngine::new(dataset, SqlConfig { threads: 2, ..SqlConfig::default() }).unwrap();
    engine.session(SessionOptions { user: "otus".into(), ..SessionOptions::default() })
}

/// A session over the rows of the design, the first five flushed, the others hot.
async fn session() -> Session {
    let clock = Arc::new(ManualClock::new(parse_instant("2024-08-21T12:00:00Z").unwrap().0));
    over(filling(clock).await.0)
}

/// The rows of the design, and how more are appended: to each table, with the epoch of its partition.
pub(super) async fn filling(clock: Arc<ManualClock>) -> (Arc<Dataset>, Vec<(&'static str, u64)>) {
    let (dataset, epochs) = dataset(clock).await;
    let fixture = vectors("fixture");
    let (first, second) = fixture.split_at(5);
    for (name, epoch) in &epochs {
        append(&dataset, name, *epoch, first, 0).await;
    }
    dataset.flush().await.unwrap();
    for (name, epoch) in &epochs {
        append(&dataset, name, *epoch, second, 5).await;
    }
    (dataset, epochs)
}

pub(super) async fn ask(session: &Session, pattern: &str) -> (u16, Map) {
    let body = format!("{{:pattern {pattern}}}");
    let response = run(session, body.as_bytes(), Encoding::Edn).await;
    let text = std::str::from_utf8(&response.body).unwrap();
    let Value::Map(answer) = read(text) else { panic!("{text}") };
    (response.status, answer)
}

/// Rows of a metrics query, from the table with rollups; the one without must give the same.
pub(super) async fn rows(session: &Session, query: &str, columns: &str) -> (Value, Option<String>) {
    let mut answers = Vec::new();
    for table in ["rolled", "plain"] {
        let pattern =
            format!("{{:metrics {{(:{table} :with [{{{query}}}] :as :m) [{{{columns}}} ?rows]}}}}");
        let (status, answer) = ask(session, &pattern).await;
        assert_eq!(status, 200, "{answer:?}");
        assert!(answer.get_keyword("errors").is_none(), "{answer:?}");
        let rows = answer.get(&Value::symbol("?rows")).unwrap().clone();
        let meta = answer.get_keyword("meta").and_then(Value::as_map).cloned().unwrap();
        let meta = meta.get_keyword("metrics").and_then(Value::as_map).cloned().unwrap();
        let meta = meta.get_keyword("m").and_then(Value::as_map).cloned().unwrap();
        let rollup = meta.get_keyword("rollup").and_then(Value::as_name).map(str::to_string);
        answers.push((rows, rollup));
    }
    assert_eq!(edn::write(&answers[0].0), edn::write(&answers[1].0), "{query}");
    assert_eq!(answers[1].1, None);
    answers.swap_remove(0)
}

#[track_caller]
pub(super) fn check((found, rollup): (Value, Option<String>), expected: &str, by: Option<&str>) {
    assert_eq!(found, read(expected), "{}", edn::write(&found));
    assert_eq!(rollup.as_deref(), by);
}

const DAYS: &str = ":from \"2024-08-20\" :to \"2024-08-22\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance() {
    let session = session().await;
    let marks = ":bucket ? :plays ? :cost ? :users ?";
    let hours = ":granularity :hour :from \"2024-08-20T00:00:00Z\" :to \"2024-08-20T05:00:00Z\"";
    let found = rows(&session, hours, marks).await;
    check(
        found,
        "[{:bucket #inst \"2024-08-20T00:00:00Z\" :plays 2 :cost 15 :users 2}
          {:bucket #inst \"2024-08-20T01:00:00Z\" :plays 1 :cost 7 :users 1}
          {:bucket #inst \"2024-08-20T02:00:00Z\" :plays 0 :cost 0 :users 0}
          {:bucket #inst \"2024-08-20T03:00:00Z\" :plays 2 :cost 1 :users 1}
          {:bucket #inst \"2024-08-20T04:00:00Z\" :plays 1 :cost nil :users 1}]",
        Some("by_region_hour"),
    );
    let (found, _) = rows(&session, &format!("{hours} :fill :none"), marks).await;
    assert_eq!(found.as_sequence().unwrap().len(), 4);
    let days = ":granularity :day :tz \"Asia/Singapore\" :from \"2024-08-20\" :to \"2024-08-22\"";
    let found = rows(&session, days, marks).await;
    assert!(edn::write(&found.0).contains("2024-08-20T00:00:00+08:00"));
    check(
        found,
        "[{:bucket #inst \"2024-08-19T16:00:00Z\" :plays 6 :cost 23 :users 3}
          {:bucket #inst \"2024-08-20T16:00:00Z\" :plays 6 :cost 15 :users 4}]",
        Some("by_region_hour"),
    );
    let found = rows(&session, DAYS, ":region ? :plays ?").await;
    let regions = "[{:region \"sg\" :plays 6} {:region \"eu\" :plays 5} {:region nil :plays 1}]";
    check(found, regions, Some("by_region_day"));
    let found = rows(&session, DAYS, ":region ? :game ? :plays ?").await;
    check(
        found,
        "[{:region \"eu\" :game \"ddz\" :plays 3} {:region \"sg\" :game \"ddz\" :plays 3}
          {:region \"sg\" :game \"pdk\" :plays 3} {:region \"eu\" :game \"mahjong\" :plays 2}
          {:region nil :game \"ddz\" :plays 1}]",
        Some("by_region_day"),
    );
    let kolkata = ":granularity :hour :tz \"Asia/Kolkata\" :from \"2024-08-20T00:00:00Z\"
                   :to \"2024-08-20T02:00:00Z\"";
    let found = rows(&session, kolkata, ":bucket ? :plays ?").await;
    check(
        found,
        "[{:bucket #inst \"2024-08-20T05:00:00+05:30\" :plays 1}
          {:bucket #inst \"2024-08-20T06:00:00+05:30\" :plays 2}
          {:bucket #inst \"2024-08-20T07:00:00+05:30\" :plays 0}]",
        Some("by_region_minute"),
    );
    let nothing = format!("{DAYS} :filters {{:game \"chess\"}}");
    let all = ":plays ? :events ? :avg_cost ? :cheapest ? :cost_per_play ? :eu_plays ?";
    let zeros = "[{:plays 0 :events 0 :avg_cost nil :cheapest nil :cost_per_play nil :eu_plays 0}]";
    check(rows(&session, &nothing, all).await, zeros, Some("by_region_day"));
    check(
        rows(&session, &format!("{nothing} :fill :none"), all).await,
        "[]",
        Some("by_region_day"),
    );
    let empty = ":from \"2024-08-20\" :to \"2024-08-20\"";
    assert_eq!(rows(&session, empty, ":plays ?").await.0, read("[]"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_order_pages_and_gaps() {
    let session = session().await;
    let with = |more: &str| format!("{DAYS} {more}");
    let plays = |n: i64| format!("[{{:plays {n}}}]");
    for (filter, expected) in [
        (":filters {:region \"eu\"}", 5),
        (":filters {:region nil}", 1),
        (":filters {:region #{\"sg\" nil}}", 7),
        (":filters {:region \"eu\" :game \"ddz\"}", 3),
        (":filters [:and {:region \"eu\"} [:not= :game \"ddz\"]]", 2),
        (":filters [:not [:= :region \"eu\"]]", 7),
        (":filters [:or [:= :game \"pdk\"] [:null? :region]]", 4),
        (":filters [:in :game #{\"pdk\" \"mahjong\"}]", 5),
        (":filters [:like :game \"%a%\"]", 2),
        (":filters [:and]", 12),
        (":filters [:>= :game \"mahjong\"]", 5),
        (":filters [:between :game \"a\" \"e\"]", 7),
    ] {
        let found = rows(&session, &with(filter), ":plays ?").await;
        check(found, &plays(expected), Some("by_region_day"));
    }
    let by_user = rows(&session, &with(":filters {:user \"u1\"}"), ":plays ?").await;
    check(by_user, &plays(3), None);
    let literal = rows(&session, DAYS, ":region \"sg\" :game ? :plays ?").await;
    check(literal, "[{:game \"ddz\" :plays 3} {:game \"pdk\" :plays 3}]", Some("by_region_day"));
    let having = rows(&session, &with(":having [:>= :plays 5]"), ":region ? :plays ?").await;
    check(having, "[{:region \"sg\" :plays 6} {:region \"eu\" :plays 5}]", Some("by_region_day"));
    let measure = rows(&session, DAYS, ":region ? :plays 5").await;
    check(measure, "[{:region \"eu\"}]", Some("by_region_day"));
    let ordered = rows(&session, &with(":order [[:region :asc]]"), ":region ?").await;
    check(ordered, "[{:region \"eu\"} {:region \"sg\"} {:region nil}]", Some("by_region_day"));
    let page =
        rows(&session, &with(":order [[:plays :desc]] :limit 1 :offset 1"), ":region ?").await;
    check(page, "[{:region \"eu\"}]", Some("by_region_day"));
    let hours = ":granularity :hour :from \"2024-08-20T00:00:00Z\" :to \"2024-08-20T04:00:00Z\"";
    let previous = rows(&session, &format!("{hours} :fill :previous"), ":cost ?").await;
    check(previous, "[{:cost 15} {:cost 7} {:cost 7} {:cost 1}]", Some("by_region_hour"));
    let grouped = format!("{hours} :dims [:game] :fill :null :filters {{:game \"mahjong\"}}");
    let grouped = rows(&session, &grouped, ":game ? :plays ?").await;
    let (one, none) = ("{:game \"mahjong\" :plays 1}", "{:game \"mahjong\" :plays nil}");
    check(grouped, &format!("[{one} {none} {none} {none}]"), Some("by_region_hour"));
    let window = ":window {:kind :last :period \"P1D\" :anchor :data :align :day}";
    check(rows(&session, window, ":plays ?").await, &plays(2), Some("by_region_day"));
    check(
        rows(&session, ":window :yesterday", ":plays ?").await,
        &plays(10),
        Some("by_region_day"),
    );
    // The end lies after the newest event: nothing is cut, so the coarse rollup still serves.
    let open = ":from \"2024-08-20\" :to \"2024-08-21T11:22:33Z\"";
    check(rows(&session, open, ":plays ?").await, &plays(12), Some("by_region_day"));
    let cut = ":from \"2024-08-20T00:30:00Z\" :to \"2024-08-21T01:00:00Z\"";
    check(rows(&session, cut, ":plays ?").await, &plays(10), Some("by_region_minute"));
    let odd = ":from \"2024-08-20T00:10:30Z\" :to \"2024-08-21T01:00:00Z\"";
    check(rows(&session, odd, ":plays ?").await, &plays(10), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_bounds_and_schema() {
    let session = session().await;
    let pattern = format!(
        "{{:records {{(:plain :with [{{{DAYS} :filters {{:game \"ddz\"}} :limit 2}}])
                      [{{:ts ?, :user ?, :region ?, :_offset ?}}]}}
          :bounds {{:plain {{:first ?, :last ?, :lag ?lag}}}}
          :schema {{:tables [{{:name ?, :measures [{{:name ?}}], :rollups ?}}]}}}}"
    );
    let (status, answer) = ask(&session, &pattern).await;
    assert_eq!(status, 200, "{answer:?}");
    let tree = answer.get(&Value::symbol("&?")).and_then(Value::as_map).unwrap();
    let expected = "{:plain [{:ts #inst \"2024-08-21T02:00:00Z\" :user \"u2\" :region nil :_offset 8}
                             {:ts #inst \"2024-08-21T00:00:00Z\" :user \"u5\" :region \"eu\" :_offset 7}]}";
    assert_eq!(tree.get_keyword("records"), Some(&read(expected)));
    let bounds =
        "{:plain {:first #inst \"2024-08-20T00:10:00Z\" :last #inst \"2024-08-21T02:00:00Z\"
                           :lag 36000000}}";
    assert_eq!(tree.get_keyword("bounds"), Some(&read(bounds)));
    assert_eq!(answer.get(&Value::symbol("?lag")), Some(&Value::Int(36_000_000)));
    let schema = edn::write(tree.get_keyword("schema").unwrap());
    assert!(schema.contains("{:name :rolled, :measures [{:name :plays} {:name :cost}"), "{schema}");
    assert!(schema.contains(":granularities [:minute :hour :day]"), "{schema}");
    let meta = edn::write(answer.get_keyword("meta").unwrap());
    assert!(meta.contains(":truncated true"), "{meta}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_requests_are_answered_in_json() {
    let session = session().await;
    let body = r#"{"pattern": {"metrics": {"rolled": [
        {"$with": [{"granularity": "day", "from": "$from", "to": "2024-08-22", "filters": {"game": ["ddz", "pdk"]}}],
         "$as": "daily", "$get": [{"bucket": "?", "plays": "?"}, "?rows"]},
        {"$batch": [[{"from": "$from", "to": "2024-08-21"}], [{"from": "2024-08-21", "to": "2024-08-22"}]],
         "$as": "each", "$get": [[{"plays": "?"}]]}]}},
        "params": {"from": "2024-08-20"}}"#;
    let response = run(&session, body.as_bytes(), Encoding::Json).await;
    let found =
        json::read(std::str::from_utf8(&response.body).unwrap(), ReadLimits::DOCUMENT).unwrap();
    let found = found.as_map().unwrap();
    assert_eq!((response.status, found.get_keyword("errors")), (200, None), "{:?}", response.body);
    let data = r#"{"metrics":{"daily":[{"bucket":"2024-08-20T00:00:00Z","plays":8},
        {"bucket":"2024-08-21T00:00:00Z","plays":2}],"each":[[{"plays":10}],[{"plays":2}]]}}"#;
    assert_eq!(found.get_keyword("data"), Some(&json::read(data, ReadLimits::REQUEST).unwrap()));
    assert_eq!(response.content_type, "application/json");
    let paged = "{:pattern {:metrics {(:rolled :with [{:from \"2024-08-20\" :to \"2024-08-22\"
                                                       :order [[:plays :desc]]}] :seq [1 1])
                 [{:region ?}]}} :opt :data-only}";
    let response = run(&session, paged.as_bytes(), Encoding::Edn).await;
    let text = std::str::from_utf8(&response.body).unwrap();
    assert!(text.starts_with("{&? {:metrics {:rolled [{:region \"eu\"}]}}"), "{text}");
}

#[track_caller]
fn refused((status, answer): (u16, Map), expected: &[(&str, &str)]) {
    let errors = answer.get_keyword("errors").and_then(Value::as_sequence).unwrap().to_vec();
    let found: Vec<(String, String)> = errors
        .iter()
        .map(|error| {
            let error = error.as_map().unwrap();
            let code = error.get_keyword("code").and_then(Value::as_name).unwrap();
            (code.to_string(), edn::write(error.get_keyword("path").unwrap()))
        })
        .collect();
    let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(found, expected);
    assert_eq!(status, 422);
    assert!(answer.get(&Value::symbol("&?")).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_name_their_paths_and_run_nothing() {
    let session = session().await;
    let pattern = "{:metrics {(:nope :with [{}]) [{:a ?}]
                              (:rolled :with [{:granularity :fortnight :from \"x\" :filter 1 :top 3
                                               :filters {:regio 1 :game 5} :limit 60000}])
                              [{:plays ? :unknown ? :region 7}]}
                    :values {:rolled ?} :wrong ?}";
    refused(
        ask(&session, pattern).await,
        &[
            ("unknown-key", "[:metrics :nope]"),
            ("unknown-key", "[:metrics :rolled :unknown]"),
            ("type-mismatch", "[:metrics :rolled :region]"),
            ("not-called", "[:values :rolled]"),
            ("unknown-key", "[:wrong]"),
            ("bad-argument", "[:metrics :rolled :with 0 :filter]"),
            ("bad-argument", "[:metrics :rolled :with 0 :from]"),
            ("bad-argument", "[:metrics :rolled :with 0 :to]"),
            ("bad-argument", "[:metrics :rolled :with 0 :granularity]"),
            ("bad-argument", "[:metrics :rolled :with 0 :limit]"),
            ("unknown-key", "[:metrics :rolled :with 0 :filters :regio]"),
            ("type-mismatch", "[:metrics :rolled :with 0 :filters :game]"),
            ("type-mismatch", "[:metrics :rolled :region]"),
            ("bad-argument", "[:metrics :rolled :with 0 :top]"),
        ],
    );
    let interval =
        "{:metrics {(:rolled :with [{:from \"2024-08-22\" :to \"2024-08-20\"}]) [{:plays ?}]}}";
    refused(ask(&session, interval).await, &[("invalid-interval", "[:metrics :rolled :with 0]")]);
    let many = "{:metrics {(:rolled :with [{:granularity :second :from \"2024-08-22\" :to \"2024-08-24\"}])
                           [{:plays ?}]}}";
    refused(ask(&session, many).await, &[("too-large", "[:metrics :rolled :with 0 :granularity]")]);
    let uncalled = "{:metrics {:rolled [{:plays ?}]}}";
    refused(ask(&session, uncalled).await, &[("not-called", "[:metrics :rolled]")]);
    for (body, status) in
        [("{:pattern", 400), ("{:pattern {} :x 1}", 422), ("[]", 422), ("{}", 422)]
    {
        let response = run(&session, body.as_bytes(), Encoding::Edn).await;
        assert_eq!(response.status, status, "{body}");
    }
    let long = format!("{{:pattern {{}} :params {{:p \"{}\"}}}}", "x".repeat(300_000));
    assert_eq!(run(&session, long.as_bytes(), Encoding::Edn).await.status, 413);
    assert_eq!(run(&session, b"\xff", Encoding::Json).await.status, 400);
}

/// Twelve hours of one event per two seconds, some compacted, some flushed, some hot: enough for rollups to
/// pay even where the interval cuts their buckets.
async fn busy_session() -> Session {
    let clock = Arc::new(ManualClock::new(parse_instant("2024-08-21T12:00:00Z").unwrap().0));
    let (dataset, epochs) = dataset(clock).await;
    let begin = parse_instant("2024-08-20T00:00:00.5Z").unwrap().0;
    let row = |i: i64| {
        let at = super::super::text::instant_text(begin + i * 2_000_000, 0);
        let region = if i % 7 == 0 { "nil".to_string() } else { format!("\"r{}\"", i % 3) };
        let game = ["ddz", "pdk"][usize::from(i % 5 == 0)];
        let text = format!(
            "{{:ts \"{at}\" :region {region} :game \"{game}\" :user \"u{}\" :plays {} :cost {}}}",
            i * 7 % 501,
            i % 9,
            if i % 11 == 0 { "nil".into() } else { (i % 13 - 5).to_string() },
        );
        read(&text).as_map().unwrap().clone()
    };
    let rows: Vec<Map> = (0..21_600).map(row).collect();
    let mut at = 0;
    for (i, piece) in rows.chunks(800).enumerate() {
        for (name, epoch) in &epochs {
            append(&dataset, name, *epoch, piece, at).await;
        }
        at += i64::try_from(piece.len()).unwrap();
        if i < 20 {
            dataset.flush().await.unwrap();
        }
        if i == 17 {
            // Folded files, fresh ones and hot rows: all levels answer together.
            dataset.maintain(true).await.unwrap();
        }
    }
    over(dataset)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_rows_answer_for_buckets_that_the_interval_cuts() {
    let session = busy_session().await;
    let columns = ":bucket ? :region ? :plays ? :cost ? :users ? :events ? :avg_cost ? :cheapest ?
                   :cost_per_play ? :eu_plays ?";
    let mut used = std::collections::BTreeSet::new();
    for (from, to) in [
        ("00:00:00", "12:00:00"),
        ("00:10:30", "11:47:13.25"),
        ("01:59:59.999", "02:00:00.001"),
        ("03:00:00", "09:30:00"),
        ("05:59:00", "06:01:30"),
        ("00:00:01", "23:00:00"),
        ("04:20:00", "04:20:30"),
    ] {
        for granularity in [
            ":all",
            ":hour",
            "\"PT15M\"",
            ":day",
            ":hour :tz \"Asia/Kolkata\"",
            "\"PT6H\" :tz \"America/New_York\"",
            "{:period \"PT2H\" :origin \"2024-08-20T01:30:00Z\"}",
        ] {
            let query = format!(
                ":granularity {granularity} :from \"2024-08-20T{from}Z\" :to \"2024-08-20T{to}Z\""
            );
            let (_, rollup) = rows(&session, &query, columns).await;
            used.extend(rollup);
            let filtered = format!("{query} :filters [:not= :game \"ddz\"] :fill :zero");
            used.extend(rows(&session, &filtered, columns).await.1);
        }
    }
    let all = ["by_region_day", "by_region_hour", "by_region_minute"];
    assert!(all.iter().all(|name| used.contains(*name)), "{used:?}");
}

/// The requests of the page on pull patterns, over a table with the columns they name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_requests_of_the_page_are_understood() {
    let mut def = table_def("game_events", vec![]);
    let ts = def.columns[0].clone();
    let region = def.columns[1].clone();
    def.time = "time".into();
    def.columns = vec![ColumnDef { name: "time".into(), ..ts }];
    for name in ["event", "game", "platform", "client_version", "error", "player"] {
        def.columns.push(ColumnDef { name: name.into(), ..region.clone() });
    }
    let measures = [("matches", "count(*)"), ("players", "approx_distinct(player)")];
    def.measures = measures.map(|(name, sql)| MeasureDef::new(name, sql)).into();
    let clock = Arc::new(ManualClock::new(parse_instant("2026-11-21T12:00:00Z").unwrap().0));
    let session = over(empty_dataset(clock, &[def]).await);
    let mut count = 0;
    for (language, block) in super::page_blocks() {
        let (encoding, body) = match language {
            "sh" if block.starts_with("curl") => {
                let json = block.contains("application/json");
                let body = block.split_once("-d '").unwrap().1.strip_suffix('\'').unwrap();
                (if json { Encoding::Json } else { Encoding::Edn }, body)
            }
            "clojure" if block.starts_with("{:pattern") => (Encoding::Edn, block),
            _ => continue,
        };
        // Named queries are those of a configuration.
        if body.contains("{:queries") {
            continue;
        }
        let response = run(&session, body.as_bytes(), encoding).await;
        let text = std::str::from_utf8(&response.body).unwrap();
        assert!(response.status == 200 && !text.contains("errors"), "{body}\n{text}");
        count += 1;
    }
    assert_eq!(count, 7);
}

/// Columns that the plan of a `:records` call reads from files.
async fn columns_read(session: &Session, call: &str) -> Vec<String> {
    let form = read(&format!("{{:records {{{call}}}}}"));
    let mut pattern = decode_form(&form, Encoding::Edn, &Map::new()).unwrap();
    let pinned = session.pinned_state().unwrap();
    let mut problems = Vec::new();
    let branches = branch::collect(
        &mut pattern,
        &pinned,
        &TimeRanges::default(),
        session.engine().named(),
        &mut problems,
    );
    assert!(problems.is_empty(), "{problems:?}");
    let [branch] = branches.as_slice() else { panic!("{branches:?}") };
    let branch::Query::Records(table, query) = &branch.query else { panic!("{branch:?}") };
    let (state, snapshot) = (pinned.state(), pinned.snapshot());
    let ground = plan::Ground { state, snapshot, table };
    let logical = plan::records(&ground, query).unwrap();
    let physical = state.create_physical_plan(&logical).await.unwrap();
    let shown = displayable(physical.as_ref()).indent(false).to_string();
    let scan = shown.lines().find(|line| line.contains("file_type=parquet")).unwrap();
    let (_, listed) = scan.split_once("projection=[").unwrap();
    let mut columns: Vec<_> =
        listed.split_once(']').unwrap().0.split(", ").map(str::to_string).collect();
    columns.sort();
    columns
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_read_the_columns_asked_for_and_no_others() {
    let session = session().await;
    // The order of rows needs three columns of its own.
    let marked = format!("(:plain :with [{{{DAYS}}}]) [{{:game ?}}]");
    assert_eq!(columns_read(&session, &marked).await, ["_offset", "_partition", "game", "ts"]);
    let filtered = format!(
        "(:plain :with [{{{DAYS} :filters {{:region \"eu\"}} :order [:cost]}}]) [{{:ts ?, :plays ?}}]"
    );
    assert_eq!(
        columns_read(&session, &filtered).await,
        ["_offset", "_partition", "cost", "plays", "region", "ts"]
    );
}
