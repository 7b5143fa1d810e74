//! Raw rows and rollup views: right answers, pruned files, folded counts.

use std::sync::Arc;

use otus_engine::catalog::TableId;
use otus_engine::reading::{PartitionReport, Reading};

use super::world::World;
use crate::SqlConfig;

#[tokio::test]
async fn conditions_that_are_tested_for_truth_are_planned() {
    let world = World::filled().await;
    world.rows("SET otus.rollups = off").await;
    let twice = "sum(CASE WHEN ok IS NOT FALSE THEN 1 WHEN ok IS NOT FALSE THEN 2 END)";
    let sql = format!("SELECT {twice} FROM events WHERE user_id > 0");
    let plain = "SELECT count(*) FROM events WHERE user_id > 0 AND (ok OR ok IS NULL)";
    assert_eq!(world.value(&sql).await, world.value(plain).await);
}

#[tokio::test]
async fn the_least_of_a_column_hides_no_rows_from_other_aggregates() {
    let world = World::new().await;
    for _ in 0..6 {
        world.append(500);
        world.dataset.flush().await.unwrap();
    }
    world.append(100);
    world.rows("SET otus.rollups = off").await;
    // The least of the first is in each file and among the hot rows, what the others ask for in one file.
    for (other, expected) in [
        ("min(ts + INTERVAL '1 hour')", "2026-03-01T01:00:00Z"),
        ("max(ts) FILTER (WHERE score > 740 AND score < 741)", "2026-03-01T16:27:40Z"),
        ("max(ts) FILTER (WHERE score > 10 AND score < 11)", "2026-03-01T00:14:20Z"),
    ] {
        let sql = format!("SELECT min(\"mixedCase\"), {other} FROM events WHERE user_id >= 0");
        for _ in 0..40 {
            assert_eq!(world.rows(&sql).await, [["M0", expected]], "{sql}");
        }
    }
}

#[tokio::test]
async fn a_range_of_time_reads_the_hot_batches_of_that_time() {
    let world = World::new().await;
    world.append(5_000);
    world.append(5_000);
    world.rows("SET otus.rollups = off").await;
    let query = "SELECT count(*), sum(user_id) FROM events WHERE ts < '2026-03-01 01:00:00+00'";
    let whole = world.rows("SELECT count(*) FROM events").await;
    assert_eq!(whole, [["10000"]]);
    let explained = world.rows(&format!("EXPLAIN (ANALYZE, VERBOSE) {query}")).await.concat();
    let filter = explained.iter().find(|line| line.contains("FilterExec")).unwrap();
    assert!(filter.contains("/5.00 K)"), "{filter}");
    let all = query.replace("WHERE", "WHERE user_id IS NOT NULL AND 1 > random() AND");
    assert_eq!(world.rows(query).await, world.rows(&all).await);
}

#[tokio::test]
async fn raw_rows_and_views_agree_at_every_stage() {
    let world = World::filled().await;
    for stage in ["level 0 and hot", "compacted"] {
        if stage == "compacted" {
            world.dataset.flush().await.unwrap();
            world.dataset.maintain(true).await.unwrap();
            world.append(77);
        }
        for (view, unit) in [("minute", "minute"), ("hour", "hour"), ("day", "day")] {
            let from_view = world
                .rows(&format!(
                    "SELECT bucket, kind, events, amount, ids, mean, users, last_user, good, share, least
                     FROM by_kind_{view} ORDER BY 1, 2"
                ))
                .await;
            let from_raw = world
                .rows(&format!(
                    "SELECT date_trunc('{unit}', ts), kind, count(*), sum(amount), sum(user_id),
                        sum(user_id)::double precision / count(user_id)::double precision,
                        approx_distinct(user_id), last(user_id, ts), count(*) FILTER (WHERE ok),
                        count(*) FILTER (WHERE ok)::double precision / count(*)::double precision, min(amount)
                     FROM events GROUP BY 1, 2 ORDER BY 1, 2"
                ))
                .await;
            assert_eq!(from_view, from_raw, "{stage}, {view}");
            assert!(from_view.len() > 5);
        }
    }
}

#[tokio::test]
async fn approximate_and_float_measures_are_near() {
    let world = World::filled().await;
    let near = |a: &str, b: &str, within: f64| {
        let (a, b): (f64, f64) = (a.parse().unwrap(), b.parse().unwrap());
        assert!((a - b).abs() <= within * b.abs().max(1.0), "{a} is not near {b}");
    };
    let raw = world.rows("SELECT approx_distinct(user_id), stddev(score), approx_quantile(score, 0.9) FROM events").await;
    near(&raw[0][0], "97", 0.03);
    // Sample deviation of i / 4 for i below n: sqrt(n (n + 1) / 12) / 4.
    near(&raw[0][1], &((3200.0_f64 * 3201.0 / 12.0).sqrt() / 4.0).to_string(), 1e-9);
    near(&raw[0][2], "720", 0.03);
    let day = world.rows("SELECT sum(events), max(users), max(p90) FROM by_kind_day WHERE kind = 'kind number 1'").await;
    assert_eq!(
        day[0][0],
        world.value("SELECT count(*) FROM events WHERE kind = 'kind number 1'").await
    );
}

#[tokio::test]
async fn counts_and_bounds_fold_without_reading_files() {
    let world = World::new().await;
    world.append(1_000);
    world.dataset.flush().await.unwrap();
    assert_eq!(world.value("SELECT count(*) FROM events").await, "1000");
    let plan = world.explain("SELECT count(*), max(ts), min(user_id) FROM events").await;
    assert!(!plan.contains("parquet"), "{plan}");
    let rows = world.rows("SELECT count(*), max(ts), min(user_id) FROM events").await;
    assert_eq!(rows[0], ["1000", "2026-03-01T05:33:00Z", "0"]);
    world.append(1);
    let plan = world.explain("SELECT count(*), max(ts) FROM events").await;
    assert!(!plan.contains("parquet"), "{plan}");
    let rows = world.rows("SELECT count(*), max(ts) FROM events").await;
    assert_eq!(rows[0], ["1001", "2026-03-01T05:33:20Z"]);
}

#[tokio::test]
async fn files_that_cannot_match_are_not_read() {
    let config = SqlConfig { threads: 2, states_cache_bytes: 0, ..SqlConfig::default() };
    let world = World::with(config).await.fill().await;
    let files = |plan: &str| plan.matches(".parquet").count();
    let all = world.explain("SELECT * FROM events").await;
    assert_eq!(files(&all), 2, "{all}");
    let late = world.explain("SELECT * FROM events WHERE ts >= '2026-03-01T10:00:00Z'").await;
    assert_eq!(files(&late), 1, "{late}");
    let none = world.explain("SELECT * FROM events WHERE ts < '2026-01-01'").await;
    assert_eq!(files(&none), 0, "{none}");
    let user = world.explain("SELECT * FROM events WHERE user_id = 1000").await;
    assert_eq!(files(&user), 0, "{user}");
    let view =
        world.explain("SELECT * FROM by_kind_hour WHERE bucket >= '2026-03-01T13:00:00Z'").await;
    assert_eq!(files(&view), 1, "{view}");
    assert_eq!(
        world.value("SELECT count(*) FROM events WHERE ts >= '2026-03-01T10:00:00Z'").await,
        "1400"
    );
    assert_eq!(
        world
            .value("SELECT sum(events) FROM by_kind_hour WHERE bucket >= '2026-03-01T13:00:00Z'")
            .await,
        world.value("SELECT count(*) FROM events WHERE ts >= '2026-03-01T13:00:00Z'").await,
    );
}

#[tokio::test]
async fn names_and_values_are_those_of_postgres() {
    let world = World::filled().await;
    assert_eq!(
        world.rows("SELECT kind FROM events GROUP BY kind ORDER BY kind LIMIT 1").await,
        [["kind number 0"]]
    );
    let desc = world.rows("SELECT kind FROM events GROUP BY kind ORDER BY kind DESC LIMIT 1").await;
    assert_eq!(desc, [["NULL"]]);
    assert_eq!(world.rows("SELECT 1, 1, NULL, NULL").await, [["1", "1", "NULL", "NULL"]]);
    assert_eq!(
        world.rows("SELECT user_id, *, user_id FROM events ORDER BY user_id, ts LIMIT 1").await[0]
            .len(),
        9
    );
    let with_offset = "SELECT _offset, * FROM events ORDER BY user_id, ts LIMIT 1";
    assert_eq!(world.rows(with_offset).await[0].len(), 8);
    assert_eq!(
        world.value("SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) t(x)").await,
        "9223372036854775808"
    );
    assert_eq!(world.value("SELECT sum(x) FROM (SELECT 1 AS x WHERE false) t").await, "NULL");
    assert_eq!(world.value("SELECT avg(x) FROM (SELECT 1 AS x WHERE false) t").await, "NULL");
    assert_eq!(world.value("SELECT sum(DISTINCT user_id) FROM events").await, "4656");
    assert_eq!(world.value("SELECT \"mixedCase\" FROM events ORDER BY ts LIMIT 1").await, "M0");
    assert_eq!(world.value("SELECT count FROM (SELECT count(*) FROM events) s").await, "3200");
    assert_eq!(world.value("SELECT abs(-3) + round(2.4)::int").await, "5");
    let correlated = world
        .rows(
            "SELECT k.kind, (SELECT max(e.user_id) FROM events e WHERE e.kind = k.kind)
             FROM (VALUES ('kind number 1'), ('none')) AS k(kind) ORDER BY 1",
        )
        .await;
    assert_eq!(correlated, [["kind number 1", "96"], ["none", "NULL"]]);
    assert_eq!(
        world.rows("SELECT sum(user_id) OVER (ORDER BY ts ROWS 1 PRECEDING) FROM events ORDER BY ts LIMIT 3").await,
        [["0"], ["1"], ["3"]]
    );
}

#[tokio::test]
async fn days_and_texts_follow_the_time_zone_of_the_session() {
    let world = World::filled().await;
    let query = "SELECT date_trunc('day', ts), extract(hour FROM min(ts)), count(*) FROM events GROUP BY 1 ORDER BY 1";
    let utc = world.rows(query).await;
    assert_eq!(utc, [["2026-03-01T00:00:00Z", "0", "3200"]]);
    world.rows("SET TIME ZONE 'America/New_York'").await;
    let local = world.rows(query).await;
    // 5 hours of 180 rows belong to the local day before.
    assert_eq!(
        local,
        [["2026-02-28T05:00:00Z", "19", "900"], ["2026-03-01T05:00:00Z", "0", "2300"]]
    );
    assert_eq!(world.value("SELECT count(*) FROM events WHERE ts >= '2026-03-01'").await, "2300");
    assert_eq!(
        world.value("SELECT count(*) FROM events WHERE ts >= '2026-03-01T00:00:00Z'").await,
        "3200"
    );
    assert_eq!(world.value("SELECT min(ts)::date FROM events").await, "2026-02-28");
    let minutes = "SELECT count(*) FROM events WHERE ts >= '2026-03-01 12:00'";
    assert_eq!(world.value(minutes).await, "140");
    let zulu = "SELECT count(*) FROM events WHERE ts >= timestamptz '2026-03-01T12:00Z'";
    assert_eq!(world.value(zulu).await, "1040");
    let weeks = "SELECT date_trunc('week', ts), count(*) FROM events GROUP BY 1 ORDER BY 1";
    assert_eq!(world.rows(weeks).await[0][0], "2026-02-23T05:00:00Z");
    world.rows("RESET TIME ZONE").await;
    assert_eq!(world.rows(query).await, utc);
}

#[tokio::test]
async fn a_horizon_is_a_lower_bound_of_the_raw_table() {
    use super::world::{BASE_US, STEP_US};
    const DAY_US: i64 = 86_400_000_000;
    let world = World::filled().await;
    world.rows("SET otus.rollups = off").await;
    world.dataset.flush().await.unwrap();
    // Rows on both sides of midnight in one chunk, later in one file: pieces that cannot go as a whole.
    world.append(3_000);
    let table = world.dataset.snapshot().table("public", "events").unwrap().id;
    world.dataset.advance_horizon(table, BASE_US + DAY_US).await.unwrap();
    let first = DAY_US / STEP_US;
    let kept = (6_200 - first).to_string();
    for life in ["hot", "flushed"] {
        let files = world.value("SELECT count(*) FROM otus.segments WHERE kind = 'raw'").await;
        assert_eq!(files, if life == "hot" { "0" } else { "1" }, "whole files before it are gone");
        let seen = "SELECT count(*), count(kind) < count(*), min(ts), min(_offset) FROM events";
        let wanted =
            [kept.clone(), "true".into(), "2026-03-02T00:00:00Z".into(), first.to_string()];
        assert_eq!(world.rows(seen).await, [wanted], "{life}");
        for (sql, wanted) in [
            ("SELECT count(*) FROM events", kept.as_str()),
            ("SELECT count(*) FROM events WHERE ts < '2026-03-02T00:00:00Z'", "0"),
            ("SELECT count(*) FROM (SELECT ok FROM events) e", kept.as_str()),
            ("SELECT min(_offset) >= 4320 FROM (SELECT _offset FROM events LIMIT 5) e", "true"),
            ("SELECT max(ts) FROM events WHERE _offset < 4320", "NULL"),
        ] {
            assert_eq!(world.value(sql).await, wanted, "{life}: {sql}");
        }
        world.dataset.flush().await.unwrap();
    }
}

#[tokio::test]
async fn system_tables_tell_of_files_and_positions() {
    let world = World::filled().await;
    let raw = world
        .rows("SELECT kind, rows, level FROM otus.segments WHERE kind = 'raw' ORDER BY path")
        .await;
    assert_eq!(raw, [["raw", "1500", "0"], ["raw", "1500", "0"]]);
    let commits = world
        .rows("SELECT count(*), count(commit), count(DISTINCT kind) FROM otus.segments GROUP BY commit")
        .await;
    assert_eq!(commits, [["2", "2", "2"], ["2", "2", "2"]], "raw and rollup come in one commit");
    assert_eq!(
        world
            .rows("SELECT topic, committed_offset, visible_offset, rows_kept FROM otus.partitions")
            .await,
        [["events", "3000", "3200", "3200"]]
    );
    assert_eq!(
        world.rows("SELECT view, complete FROM otus.rollups ORDER BY 1").await,
        [["by_kind_day", "true"], ["by_kind_hour", "true"], ["by_kind_minute", "true"]]
    );
    assert_eq!(world.value("SELECT count(*) FROM otus.rejected").await, "0");
    assert_eq!(world.value("SELECT count(*) FROM otus.fields").await, "0");
}

/// A reader that says these things of table 1.
#[derive(Debug)]
struct Says(Vec<(&'static str, Option<i32>, &'static str)>);

impl Reading for Says {
    fn reports(&self) -> Vec<PartitionReport> {
        let report = |(topic, partition, reason): &(&str, Option<i32>, &str)| PartitionReport {
            table: TableId(1),
            topic: topic.to_string(),
            partition: *partition,
            state: "waiting",
            reason: Some(reason.to_string()),
            end: None,
            lag: None,
        };
        self.0.iter().map(report).collect()
    }
}

#[tokio::test]
async fn what_is_waited_for_is_among_the_partitions() {
    let world = World::filled().await;
    let sql = "SELECT topic, partition, state, error, visible_offset FROM otus.partitions \
               ORDER BY topic, partition NULLS LAST";
    for (says, expected) in [
        // What is said of a topic is said of its partitions.
        (vec![("events", None, "no login")], vec!["events|0|waiting|no login|3200"]),
        (
            vec![("events", Some(0), "opening"), ("events", None, "no login")],
            vec!["events|0|waiting|opening|3200", "events|NULL|waiting|no login|NULL"],
        ),
        (
            vec![("events", Some(1), "opening"), ("others", None, "missing")],
            vec![
                "events|0|NULL|NULL|3200",
                "events|1|waiting|opening|NULL",
                "others|NULL|waiting|missing|NULL",
            ],
        ),
    ] {
        world.dataset.set_reading(Arc::new(Says(says)));
        let rows: Vec<String> = world.rows(sql).await.iter().map(|r| r.join("|")).collect();
        assert_eq!(rows, expected);
    }
}

#[tokio::test]
async fn a_wrong_name_is_pointed_at_and_the_right_one_hinted() {
    let world = World::filled().await;
    for (sql, state, position, hint) in [
        ("SELECT nothing FROM events", "42703", 8, None),
        ("SELECT 'é',\n  kidn FROM events", "42703", 15, Some("\"kind\"")),
        ("SELECT 1; SELECT e.aount FROM events e", "42703", 18, Some("\"amount\"")),
        ("SELECT kind FROM events WHERE kidn = 'a'", "42703", 31, Some("\"kind\"")),
        ("SELECT kind FROM events ORDER BY kidn", "42703", 34, Some("\"kind\"")),
        ("SELECT count(*) FROM events GROUP BY kidn", "42703", 38, Some("\"kind\"")),
        ("SELECT mixedcase FROM events", "42703", 8, Some("\"mixedCase\"")),
        ("SELECT (SELECT max(kidn) FROM events), 1", "42703", 20, Some("\"kind\"")),
        ("SELECT * FROM event", "42P01", 15, Some("\"events\"")),
        ("EXPLAIN SELECT * FROM public.event", "42P01", 23, Some("\"public.events\"")),
        ("SELECT * FROM partitions", "42P01", 15, Some("\"otus.partitions\"")),
        ("SELECT * FROM nowhere", "42P01", 15, None),
        ("SELECT coutn(*) FROM events", "42883", 8, Some("count()")),
    ] {
        let e = world.error(sql).await;
        assert_eq!((e.sqlstate, e.position), (state, Some(position)), "{sql}: {e:?}");
        match hint {
            Some(hint) => assert!(e.hint.as_deref().unwrap_or("").contains(hint), "{sql}: {e:?}"),
            None => assert_eq!(e.hint, None, "{sql}"),
        }
    }
}
