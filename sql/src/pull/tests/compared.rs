//! Comparisons, first values with others, totals, cursors and lists of values, over the rows of the design.

use std::sync::Arc;

use otus_engine::clock::ManualClock;

use super::super::edn;
use super::super::text::parse_instant;
use super::super::value::{Map, Value};
use super::read;
use super::server::{ask, check, filling, over, rows};
use crate::session::Session;

const DAYS: &str = ":from \"2024-08-20\" :to \"2024-08-22\"";

async fn session_at(now: &str) -> Session {
    let clock = Arc::new(ManualClock::new(parse_instant(now).unwrap().0));
    over(filling(clock).await.0)
}

async fn session() -> Session {
    session_at("2024-08-23T00:00:00Z").await
}

/// The answer of one branch and its meta.
async fn branch(session: &Session, part: &str, argument: &str, columns: &str) -> (Value, Map) {
    let pattern = format!("{{:{part} {{(:rolled :with [{{{argument}}}]) [{{{columns}}} ?rows]}}}}");
    let (status, answer) = ask(session, &pattern).await;
    assert_eq!(status, 200, "{answer:?}");
    assert!(answer.get_keyword("errors").is_none(), "{answer:?}");
    let rows = answer.get(&Value::symbol("?rows")).unwrap().clone();
    let meta = answer.get_keyword("meta").and_then(Value::as_map).unwrap();
    let meta = meta.get_keyword(part).and_then(Value::as_map).unwrap();
    let meta = meta.get_keyword("rolled").and_then(Value::as_map).unwrap();
    (rows, meta.clone())
}

fn shown(meta: &Map, name: &str) -> String {
    edn::write(meta.get_keyword(name).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_values_and_others() {
    let session = session().await;
    let top = format!("{DAYS} :top {{:n 1 :by :plays :others true}}");
    let found = rows(&session, &top, ":game ? :plays ? :users ?").await;
    let expected = "[{:game \"ddz\" :plays 7 :users 4} {:game {:others 2} :plays 5 :users 2}]";
    check(found, expected, Some("by_region_day"));
    let least = format!("{DAYS} :top {{:n 1 :by :plays :order :asc}}");
    let found = rows(&session, &least, ":game ? :plays ?").await;
    check(found, "[{:game \"mahjong\" :plays 2}]", Some("by_region_day"));
    // Nil is a value like any other.
    let top = format!("{DAYS} :top {{:n 2 :by :plays :order :asc :others true}}");
    let found = rows(&session, &top, ":region ? :plays ?").await;
    let expected =
        "[{:region \"eu\" :plays 5} {:region nil :plays 1} {:region {:others 1} :plays 6}]";
    check(found, expected, Some("by_region_day"));
    // Within each bucket others come last, and a bucket without a row of a value is filled.
    let days =
        format!("{DAYS} :granularity :day :fill :zero :top {{:n 1 :by :plays :others true}}");
    let found = rows(&session, &days, ":bucket ? :game ? :plays ?").await;
    check(
        found,
        "[{:bucket #inst \"2024-08-20T00:00:00Z\" :game \"ddz\" :plays 5}
          {:bucket #inst \"2024-08-20T00:00:00Z\" :game {:others 2} :plays 5}
          {:bucket #inst \"2024-08-21T00:00:00Z\" :game \"ddz\" :plays 2}
          {:bucket #inst \"2024-08-21T00:00:00Z\" :game {:others 2} :plays 0}]",
        Some("by_region_day"),
    );
    let two = format!("{DAYS} :top {{:n 1 :by :plays :dim :game :others true}} :order [:region]");
    let found = rows(&session, &two, ":region ? :game ? :plays ?").await;
    check(
        found,
        "[{:region \"eu\" :game \"ddz\" :plays 3} {:region \"sg\" :game \"ddz\" :plays 3}
          {:region nil :game \"ddz\" :plays 1} {:region \"eu\" :game {:others 2} :plays 2}
          {:region \"sg\" :game {:others 2} :plays 3}]",
        Some("by_region_day"),
    );
    // All values are told apart: there are no others.
    let all = format!("{DAYS} :top {{:n 9 :by :plays :others true}}");
    let (found, meta) = branch(&session, "metrics", &all, ":game ? :plays ?").await;
    assert_eq!(found.as_sequence().unwrap().len(), 3);
    assert_eq!(shown(&meta, "others"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comparisons() {
    let session = session().await;
    let compared = ":plays ? :plays/prev ? :plays/delta ? :plays/pct ?";
    let day = ":from \"2024-08-21\" :to \"2024-08-22\" :compare :previous-period";
    let found = rows(&session, day, compared).await;
    let expected = "[{:plays 2 :plays/prev 10 :plays/delta -8 :plays/pct -0.8}]";
    check(found, expected, Some("by_region_day"));
    for other in ["{:shift \"P1D\"}", "{:from \"2024-08-20\" :to \"2024-08-21\"}"] {
        let day = format!(":from \"2024-08-21\" :to \"2024-08-22\" :compare {other}");
        check(rows(&session, &day, compared).await, expected, Some("by_region_day"));
    }
    // What only one of the two has is there as well, and can be ordered by its change.
    let games = format!("{day} :order [[:plays/delta :asc]]");
    let found = rows(&session, &games, ":game ? :plays ? :plays/prev ? :plays/delta ?").await;
    check(
        found,
        "[{:game \"ddz\" :plays 2 :plays/prev 5 :plays/delta -3}
          {:game \"pdk\" :plays 0 :plays/prev 3 :plays/delta -3}
          {:game \"mahjong\" :plays 0 :plays/prev 2 :plays/delta -2}]",
        Some("by_region_day"),
    );
    let moved = format!("{day} :top {{:n 1 :by :plays/delta :order :asc :others true}}");
    let found = rows(&session, &moved, ":game ? :plays ? :plays/delta ?").await;
    let expected =
        "[{:game \"ddz\" :plays 2 :plays/delta -3} {:game {:others 2} :plays 0 :plays/delta -5}]";
    check(found, expected, Some("by_region_day"));
    let none = ":from \"2024-08-20\" :to \"2024-08-21\" :compare :previous-period";
    let found = rows(&session, none, compared).await;
    let expected = "[{:plays 10 :plays/prev 0 :plays/delta 10 :plays/pct nil}]";
    check(found, expected, Some("by_region_day"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_interval_is_compared_with_the_part_that_has_passed() {
    let session = session_at("2024-08-21T01:00:00Z").await;
    let today = ":window :today :granularity :hour :compare :previous-period :limit 3";
    let (found, meta) =
        branch(&session, "metrics", today, ":plays ? :plays/prev ? :plays/delta ?").await;
    let expected =
        "[{:plays 1 :plays/prev 2 :plays/delta -1} {:plays 0 :plays/prev nil :plays/delta nil}
                     {:plays 1 :plays/prev nil :plays/delta nil}]";
    assert_eq!(found, read(expected), "{}", edn::write(&found));
    let expected =
        "{:cut true, :from #inst \"2024-08-20T00:00:00Z\", :to #inst \"2024-08-20T01:00:00Z\"}";
    assert_eq!(read(&shown(&meta, "compare")), read(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calendars_are_shifted() {
    let session = session().await;
    for (given, other) in [
        // The day of 23 hours stands beside the whole day before it.
        (
            ":tz \"Europe/Berlin\" :from \"2024-03-31\" :to \"2024-04-01\" :compare :previous-period",
            ("2024-03-29T23:00:00Z", "2024-03-30T23:00:00Z"),
        ),
        (
            ":from \"2024-03-01\" :to \"2024-04-01\" :compare :previous-period",
            ("2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
        ),
        (
            ":from \"2024-03-01T06:00\" :to \"2024-03-01T09:00\" :compare :previous-period",
            ("2024-03-01T03:00:00Z", "2024-03-01T06:00:00Z"),
        ),
        (
            ":from \"2024-02-29\" :to \"2024-03-01\" :compare {:shift \"P1Y\"}",
            ("2023-02-28T00:00:00Z", "2023-03-01T00:00:00Z"),
        ),
    ] {
        let (_, meta) = branch(&session, "metrics", given, ":plays ? :plays/prev ?").await;
        let about = meta.get_keyword("compare").and_then(Value::as_map).unwrap();
        let at = |name: &str| match about.get_keyword(name) {
            Some(Value::Inst { micros, .. }) => *micros,
            other => panic!("{other:?}"),
        };
        let expected = [other.0, other.1].map(|at| parse_instant(at).unwrap().0);
        assert_eq!([at("from"), at("to")], expected, "{given}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_stand_beside_the_rows() {
    let session = session().await;
    let query = format!("{DAYS} :limit 1 :totals true");
    let (found, meta) = branch(&session, "metrics", &query, ":game ? :plays ? :users ?").await;
    assert_eq!(found, read("[{:game \"ddz\" :plays 7 :users 4}]"));
    assert_eq!(read(&shown(&meta, "totals")), read("[{:by [] :rows [{:plays 12 :users 5}]}]"));
    let query = format!("{DAYS} :granularity :day :totals [[:region] [:bucket]]");
    let (_, meta) =
        branch(&session, "metrics", &query, ":bucket ? :region ? :game ? :plays ?").await;
    let expected = "[{:by [:region] :rows [{:region \"eu\" :plays 5} {:region \"sg\" :plays 6} {:region nil :plays 1}]}
                     {:by [:bucket] :rows [{:bucket #inst \"2024-08-20T00:00:00Z\" :plays 10}
                                           {:bucket #inst \"2024-08-21T00:00:00Z\" :plays 2}]}]";
    assert_eq!(read(&shown(&meta, "totals")), read(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_give_every_row_once() {
    let session = session().await;
    for (part, columns, key) in [
        ("metrics", ":region ? :game ? :plays ?", ""),
        ("records", ":ts ? :user ? :cost ? :_offset ?", ""),
        ("records", ":ts ? :user ? :cost ? :_offset ?", ":order [[:cost :desc] :ts]"),
        ("records", ":ts ? :user ? :cost ? :_offset ?", ":order [:cost [:region :desc]]"),
    ] {
        let query = format!("{DAYS} {key}");
        let (all, meta) = branch(&session, part, &query, columns).await;
        assert_eq!(shown(&meta, "next"), "nil");
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let query = format!("{query} :limit 2 {after}");
            let (page, meta) = branch(&session, part, &query, columns).await;
            seen.extend(page.as_sequence().unwrap().iter().cloned());
            match meta.get_keyword("next").unwrap() {
                Value::Nil => break,
                next => after = format!(":after {}", edn::write(next)),
            }
            assert!(seen.len() < 20, "the pages have no end");
        }
        assert_eq!(Value::Vector(seen), all, "{part} {key}");
        let other = format!(
            "{{:{part} {{(:rolled :with [{{{DAYS} :tz \"Asia/Tokyo\" {after}}}]) [{{:region ?}}]}}}}"
        );
        assert_eq!(ask(&session, &other).await.0, 422);
    }
    let (_, meta) =
        branch(&session, "records", &format!("{DAYS} :limit 1 :count true"), ":ts ?").await;
    assert_eq!(shown(&meta, "count"), "9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_a_dimension() {
    let session = session().await;
    let (found, meta) = branch(&session, "values", ":dim :game", ":value ? :plays ?").await;
    let expected =
        "[{:value \"ddz\" :plays 7} {:value \"pdk\" :plays 3} {:value \"mahjong\" :plays 2}]";
    assert_eq!(found, read(expected));
    assert_eq!(shown(&meta, "behind"), "0");
    assert_eq!(shown(&meta, "rollup"), "\"by_region_day\"");
    let (found, meta) =
        branch(&session, "values", ":dim :game :by :plays :limit 1", ":value ?").await;
    assert_eq!(found, read("[{:value \"ddz\"}]"));
    assert_eq!(shown(&meta, "behind"), "2");
    let (found, _) = branch(&session, "values", ":dim :game :search \"D\"", ":value ?").await;
    assert_eq!(found, read("[{:value \"ddz\"} {:value \"pdk\"}]"));
    for nothing in ["%", "_", "\\\\", "d%z"] {
        let query = format!(":dim :game :search \"{nothing}\"");
        assert_eq!(branch(&session, "values", &query, ":value ?").await.0, read("[]"));
    }
    let filtered = ":dim :region :filters {:game \"ddz\"} :from \"2024-08-21\" :to \"2024-08-22\"";
    let (found, _) = branch(&session, "values", filtered, ":value ? :plays ?").await;
    assert_eq!(found, read("[{:value \"eu\" :plays 1} {:value nil :plays 1}]"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_before_anything_runs() {
    let session = session().await;
    for (part, argument, columns) in [
        ("metrics", format!("{DAYS} :top {{:n 0 :by :plays}}"), ":game ?"),
        ("metrics", format!("{DAYS} :top {{:n 1 :by :chess}}"), ":game ? :plays ?"),
        ("metrics", format!("{DAYS} :top {{:n 1 :by :plays}}"), ":game ? :region ? :plays ?"),
        ("metrics", format!("{DAYS} :top {{:n 1 :by :plays :more 1}}"), ":game ? :plays ?"),
        (
            "metrics",
            format!("{DAYS} :top {{:n 1 :by :plays}} :having [:> :plays 1]"),
            ":game ? :plays ?",
        ),
        ("metrics", DAYS.to_string(), ":plays/prev ?"),
        ("metrics", format!("{DAYS} :order [:plays/delta]"), ":game ? :plays ?"),
        ("metrics", format!("{DAYS} :compare :yesterday"), ":plays ?"),
        ("metrics", format!("{DAYS} :compare {{:shift \"soon\"}}"), ":plays ?"),
        ("metrics", format!("{DAYS} :compare {{:shift \"P1D\" :from 0 :to 1}}"), ":plays ?"),
        ("metrics", format!("{DAYS} :totals [[:user]]"), ":game ? :plays ?"),
        ("metrics", format!("{DAYS} :after \"???\""), ":game ? :plays ?"),
        ("values", ":dim :ts".to_string(), ":value ?"),
        ("values", String::new(), ":value ?"),
        ("values", ":dim :game :search 1".to_string(), ":value ?"),
        ("values", ":dim :game".to_string(), ":value \"ddz\" :plays ?"),
        ("records", format!("{DAYS} :after \"\""), ":ts ?"),
        ("records", format!("{DAYS} :count 1"), ":ts ?"),
    ] {
        let pattern = format!("{{:{part} {{(:rolled :with [{{{argument}}}]) [{{{columns}}}]}}}}");
        let (status, answer) = ask(&session, &pattern).await;
        assert_eq!(status, 422, "{pattern}: {answer:?}");
    }
}
