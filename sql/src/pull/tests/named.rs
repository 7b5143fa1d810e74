//! `:queries` against a dataset in memory.

use std::sync::Arc;

use otus_engine::clock::ManualClock;

use super::super::answer::Encoding;
use super::super::edn;
use super::super::request::run;
use super::server::{ask, filling};
use crate::engine::{SqlConfig, SqlEngine};
use crate::named::{NamedQueryDef, ParameterDef};
use crate::session::{Session, SessionOptions};

async fn session() -> Session {
    let parameter = |name: &str, column_type: &str, default: Option<&str>| ParameterDef {
        name: name.into(),
        column_type: column_type.parse().unwrap(),
        default: default.map(Into::into),
        description: None,
    };
    let query = NamedQueryDef {
        name: "top_games".into(),
        sql: "SELECT game, sum(plays) AS plays, max(ts) AS last FROM rolled \
              WHERE ts >= $from AND (region = $region OR $region IS NULL) \
              GROUP BY game ORDER BY plays DESC, game LIMIT $n"
            .into(),
        parameters: vec![
            parameter("from", "timestamptz", None),
            parameter("n", "bigint", Some("10")),
            parameter("region", "text", Some("eu")),
        ],
        description: None,
    };
    let queries = vec![query];
    let config = SqlConfig { threads: 2, queries, ..SqlConfig::default() };
    let (dataset, _) = filling(Arc::new(ManualClock::new(1_724_241_600_000_000))).await;
    let engine = SqlEngine::new(dataset, config).unwrap();
    engine.session(SessionOptions { user: "otus".into(), ..SessionOptions::default() })
}

async fn answer(session: &Session, pattern: &str) -> (u16, String) {
    let (status, answer) = ask(session, pattern).await;
    let shown = |name: &str| answer.get_keyword(name).map(edn::write).unwrap_or_default();
    let tree = answer.get(&super::super::value::Value::symbol("&?")).map(edn::write);
    (status, format!("{}{}", tree.unwrap_or_default(), shown("errors")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_query_is_called_with_a_map() {
    let session = session().await;
    let all =
        "{:queries {(:top_games :with [{:from \"2024-08-20\" :region nil}]) [{:game ? :plays ?}]}}";
    let (status, rows) = answer(&session, all).await;
    assert_eq!(status, 200, "{rows}");
    assert!(rows.contains(":top_games [{:game "), "{rows}");
    // The same by an instant, by milliseconds, in a page, under another name, and filtered.
    for from in ["#inst \"2024-08-20T00:00:00Z\"", "1724112000000"] {
        let same = all.replace("\"2024-08-20\"", from);
        assert_eq!(answer(&session, &same).await, (status, rows.clone()), "{from}");
    }
    let one = "{:queries {(:top_games :with [{:from \"2024-08-20\" :region nil :n 1}]) [{:game ? :plays ?}]}}";
    let paged = "{:queries {(:top_games :with [{:from \"2024-08-20\" :region nil}] :seq [0 1]) [{:game ? :plays ?}]}}";
    let (_, first) = answer(&session, one).await;
    assert_eq!(answer(&session, paged).await.1, first);
    assert_eq!(first.matches(":game").count(), 1, "{first}");
    let batch = "{:queries {(:top_games :batch [[{:from \"2024-08-20\" :n 1}] [{:from \"2030-01-01\"}]]) [[{:last ?}]]}}";
    let (status, rows) = answer(&session, batch).await;
    assert_eq!(status, 200, "{rows}");
    assert!(rows.contains("[{:last #inst \"2024-08-2") && rows.contains("}] []]"), "{rows}");
    let literal =
        "{:queries {(:top_games :with [{:from \"2024-08-20\"}]) [{:game \"no such\" :plays ?}]}}";
    assert!(answer(&session, literal).await.1.contains(":top_games []"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_call_is_told_with_its_path() {
    let session = session().await;
    for (call, reason) in [
        (
            "(:top_games :with [{}])",
            "parameter \\\"from\\\" of query \\\"top_games\\\" has no value",
        ),
        ("(:top_games :with [{:from \"soon\"}])", "invalid input syntax"),
        (
            "(:top_games :with [{:from 0 :n \"x\"}])",
            "parameter \\\"n\\\" of query \\\"top_games\\\"",
        ),
        ("(:top_games :with [{:from 0 :n {}}])", "must be a plain value, not a map"),
        ("(:top_games :with [{:from true}])", "timestamptz is expected, not boolean"),
        ("(:top_games :with [{:from 0 :m 1}])", "unknown key; there is from, n, region"),
        ("(:nothing :with [{}])", "unknown key; there is top_games"),
        (":top_games", "an endpoint gives its value only when called"),
    ] {
        let (status, shown) =
            answer(&session, &format!("{{:queries {{{call} [{{:game ?}}]}}}}")).await;
        assert_eq!(status, 422, "{call}: {shown}");
        assert!(shown.contains(reason), "{call}: {shown}");
    }
    let wrong = "{:queries {(:top_games :with [{:from 0}]) [{:nope ?}]}}";
    let (status, shown) = answer(&session, wrong).await;
    assert!(status == 422 && shown.contains("unknown key; there is game, plays, last"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_in_json() {
    let session = session().await;
    let body = r#"{"pattern": {"queries": {"top_games": {"$with": [{"from": "$from", "n": 1}],
        "$get": [{"game": "?", "plays": "?"}]}}}, "params": {"from": "2024-08-20"}}"#;
    let response = run(&session, body.as_bytes(), Encoding::Json).await;
    let text = std::str::from_utf8(&response.body).unwrap();
    assert_eq!(response.status, 200, "{text}");
    assert!(text.starts_with("{\"data\":{\"queries\":{\"top_games\":[{\"game\":"), "{text}");
}
