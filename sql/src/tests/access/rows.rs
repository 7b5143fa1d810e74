//! Rows that a filter hides: no statement tells anything of them.

use super::{answer, refusal, same, user, world};
use crate::tests::world::rows_of;

/// Questions that are answered otherwise as soon as one hidden row takes part.
const QUESTIONS: &[&str] = &[
    "SELECT count(*) FROM {}",
    "SELECT count(1), min(ts), max(ts) FROM {}",
    "SELECT min(user_id), max(score), min(amount) FROM {}",
    "SELECT count(*) FROM (SELECT * FROM {} LIMIT 100000) t",
    "SELECT DISTINCT kind FROM {}",
    "SELECT DISTINCT ON (kind) kind, user_id FROM {} ORDER BY kind, user_id, ts",
    "SELECT kind, count(*), sum(amount), avg(user_id) FROM {} GROUP BY kind",
    "SELECT date_trunc('hour', ts) AS h, kind, count(*) FROM {} GROUP BY 1, 2",
    "SELECT date_trunc('day', ts) AS d, sum(user_id), count(*) FROM {} GROUP BY 1",
    "SELECT approx_distinct(user_id), count(DISTINCT kind) FROM {}",
    "SELECT kind, count(*) FROM {} GROUP BY ROLLUP (kind)",
    "SELECT count(*) FROM {} WHERE ts >= '2026-03-01T02:00:00Z' AND ts < '2026-03-01T09:00:00Z'",
    "SELECT count(*) FROM {} WHERE kind IS NULL",
    "SELECT count(*) FROM {} WHERE kind = 'kind number 2'",
    "SELECT count(*) FROM {} WHERE kind <> 'kind number 2' OR kind IS NULL",
    "SELECT count(*) FROM {} WHERE kind LIKE '%number 3'",
    "SELECT count(*) FROM {} WHERE user_id IN (1, 2, 3, 50)",
    "SELECT count(*) FROM {} WHERE NOT (score >= 0)",
    "SELECT count(*) FROM {} a JOIN {} b ON a.ts = b.ts",
    "SELECT count(*) FROM {} a FULL JOIN (VALUES (1::bigint), (2)) v(x) ON a.user_id = v.x",
    "SELECT x, (SELECT count(*) FROM {} e WHERE e.user_id = x) FROM generate_series(0, 20) x",
    "SELECT x FROM generate_series(0, 97) x WHERE x IN (SELECT user_id FROM {})",
    "SELECT x FROM generate_series(0, 97) x WHERE x NOT IN (SELECT user_id FROM {})",
    "SELECT x FROM generate_series(0, 97) x WHERE EXISTS (SELECT 1 FROM {} e WHERE e.user_id = x)",
    "SELECT x, t.ts FROM generate_series(0, 5) x, \
     LATERAL (SELECT ts FROM {} e WHERE e.user_id = x ORDER BY ts LIMIT 1) t ORDER BY x",
    "SELECT user_id FROM {} UNION SELECT 1000",
    "SELECT x FROM generate_series(0, 97) x EXCEPT SELECT user_id FROM {}",
    "SELECT x FROM generate_series(0, 97) x INTERSECT SELECT user_id FROM {}",
    "SELECT ts, row_number() OVER (ORDER BY ts), lag(user_id) OVER (ORDER BY ts), \
     sum(user_id) OVER (PARTITION BY kind ORDER BY ts) FROM {} ORDER BY ts LIMIT 50",
    "SELECT * FROM {} ORDER BY ts LIMIT 7",
    "SELECT ts, score FROM {} ORDER BY score DESC LIMIT 3",
    "SELECT ts FROM {} ORDER BY ts DESC OFFSET 2 LIMIT 3",
    "SELECT max(_offset), min(_offset), count(DISTINCT _partition) FROM {}",
    "WITH t AS (SELECT * FROM {}) SELECT count(*) FROM t a, t b WHERE a.ts = b.ts",
    "SELECT string_agg(DISTINCT kind, ',' ORDER BY kind) FROM {}",
    "SELECT 1 / (user_id - 3) FROM {} WHERE user_id > 20 LIMIT 1",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_over_a_dimension_holds_everywhere() {
    let world = world().await;
    let part = "(SELECT * FROM events WHERE kind = 'kind number 1') events";
    let session = user(&world, &["kind"], &[("kind", "kind number 1")]);
    // A subquery that is named twice must have two names.
    let questions: Vec<&str> = QUESTIONS.iter().copied().filter(|q| !q.contains("{} ")).collect();
    same(&world, &session, part, &questions).await;
    let part = "(SELECT * FROM events WHERE kind = 'kind number 1')";
    let questions: Vec<&str> =
        QUESTIONS.iter().copied().filter(|q| q.contains("{} a") || q.contains("{} e")).collect();
    same(&world, &session, part, &questions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_over_other_columns_holds_everywhere() {
    let world = world().await;
    let session = user(&world, &["low"], &[]);
    let part = "(SELECT * FROM events WHERE score < 200 AND user_id > 10) events";
    let questions: Vec<&str> = QUESTIONS.iter().copied().filter(|q| !q.contains("{} ")).collect();
    same(&world, &session, part, &questions).await;
    // The union of two roles is the union of their rows.
    let session = user(&world, &["low", "kind"], &[("kind", "kind number 1")]);
    let part = "(SELECT * FROM events WHERE score < 200 AND user_id > 10 OR kind = 'kind number 1') events";
    same(&world, &session, part, &questions).await;
    let session = user(&world, &["low", "all"], &[]);
    same(&world, &session, "events", &questions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_of_a_statement_fail_on_no_hidden_row() {
    let world = world().await;
    let session = user(&world, &["low"], &[]);
    // Hidden rows have user_id 5, scores from 200 on and texts that are no numbers.
    for condition in [
        "1 / (user_id - 5) >= 0",
        "1 / (user_id - 5) >= 0 AND score < 200",
        "100 / (CASE WHEN score >= 200 THEN 0 ELSE 1 END) > 0",
        "(CASE WHEN score >= 200 THEN 'x' ELSE '1' END)::int = 1",
        "score::int::smallint < 200 OR sqrt(200 - score) > 0",
        "user_id::text::bigint / (user_id - 5) > -1000",
        "power(10, score)::double precision > 0 OR score > 0",
    ] {
        let sql = format!("SELECT count(*) FROM events WHERE {condition}");
        answer(&session, &sql).await;
        answer(&session, &format!("SELECT {condition} FROM events")).await;
        answer(&session, &format!("SELECT count(*) FILTER (WHERE {condition}) FROM events")).await;
        answer(&session, &format!("SELECT * FROM events ORDER BY {condition}, ts LIMIT 1")).await;
        let joined = "SELECT count(*) FROM (SELECT * FROM events) a JOIN (SELECT ts AS t FROM events) b ON a.ts = b.t";
        answer(&session, &format!("{joined} WHERE {condition}")).await;
    }
    // An admin sees that they would fail.
    assert_eq!(
        refusal(&world.session, "SELECT 1 / (user_id - 5) FROM events").await.sqlstate,
        "22012"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_session_sets_changes_who_it_is() {
    let world = world().await;
    let session = world.engine.session(super::options(&world, "user 7", &["own"], &[]));
    let expected = answer(&world.session, "SELECT count(*) FROM events WHERE user_id = 7").await;
    assert_ne!(expected, [["0"]]);
    for sql in [
        "SET SESSION AUTHORIZATION 'user 8'",
        "SET ROLE admin",
        "SET ROLE 'user 8'",
        "SET session_authorization = 'user 8'",
        "SET \"user\" = 'user 8'",
        "SET otus.user = 'user 8'",
        "SELECT set_config('session_authorization', 'user 8', false)",
        "SELECT set_config('role', 'admin', false)",
        "SET search_path = otus, public",
        "SET TimeZone = 'Asia/Tokyo'",
        "RESET ALL",
        "DISCARD ALL",
    ] {
        let _refused_or_not = rows_of(&session, sql).await;
        assert_eq!(answer(&session, "SELECT count(*) FROM events").await, expected, "{sql}");
        assert_eq!(answer(&session, "SELECT current_user").await, [["user 7"]], "{sql}");
    }
    // What the client says at start does not, either.
    let mut options = super::options(&world, "user 7", &["own"], &[]);
    options.user = "user 8".into();
    for (name, value) in
        [("role", "admin"), ("session_authorization", "user 8"), ("attribute.kind", "x")]
    {
        options.settings.insert(name.into(), value.into());
    }
    let session = world.engine.session(options);
    assert_eq!(answer(&session, "SELECT count(*) FROM events").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_attribute_a_user_sees_no_row() {
    let world = world().await;
    let session = user(&world, &["kind"], &[("region", "x")]);
    assert_eq!(answer(&session, "SELECT count(*) FROM events").await, [["0"]]);
    assert_eq!(
        answer(&session, "SELECT count(*), max(events) FROM by_kind_hour").await,
        [["0", "NULL"]]
    );
    // An attribute is a value, never SQL.
    let session = user(&world, &["kind"], &[("kind", "' OR true OR kind = '")]);
    assert_eq!(answer(&session, "SELECT count(*) FROM events").await, [["0"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_counts_no_hidden_row() {
    let world = world().await;
    let session = user(&world, &["low"], &[]);
    let seen: i64 = answer(&session, "SELECT count(*) FROM events").await[0][0].parse().unwrap();
    assert!((1..3_200).contains(&seen), "{seen}");
    for sql in [
        "SELECT * FROM events",
        "SELECT count(*) FROM events",
        "SELECT kind, count(*) FROM events GROUP BY kind",
        "SELECT count(*) FROM events WHERE kind = 'kind number 1'",
        "SELECT max(ts) FROM events",
    ] {
        for explain in
            ["EXPLAIN", "EXPLAIN VERBOSE", "EXPLAIN ANALYZE", "EXPLAIN (ANALYZE, VERBOSE)"]
        {
            let Ok(lines) = rows_of(&session, &format!("{explain} {sql}")).await else { continue };
            let lines: Vec<_> = lines.into_iter().flatten().collect();
            let text = lines.join("\n");
            for word in [
                "3200",
                "3,200",
                "1500",
                "3.2 K",
                "1.50 K",
                "score",
                "DataSource",
                ".parquet",
                "hot",
            ] {
                let named = sql.contains("*") && word == "score";
                assert!(named || !text.contains(word), "{explain} {sql} says {word}:\n{text}");
            }
            assert!(text.contains("GuardedExec"), "{explain} {sql}:\n{text}");
            let read = text.split("bytes_read=").nth(1).map(|rest| rest.starts_with("0 "));
            assert_eq!(read, text.contains("time=").then_some(true), "{explain} {sql}:\n{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_on_which_a_filter_fails_is_hidden() {
    let world = world().await;
    let fails = user(&world, &["fails"], &[]);
    let part = "(SELECT * FROM events WHERE user_id <> 5) events";
    let questions: Vec<&str> = QUESTIONS.iter().copied().filter(|q| !q.contains("{} ")).collect();
    same(&world, &fails, part, &questions).await;
    // Whatever a statement asks, and whichever files it leaves out by that, nothing tells that the filter fails.
    for condition in
        ["user_id = 5", "user_id <> 5", "user_id > 5", "kind < 'a'", "ts > '2030-01-01'"]
    {
        let seen = answer(&fails, &format!("SELECT count(*) FROM events WHERE {condition}")).await;
        let sql = format!("SELECT count(*) FROM {part} WHERE {condition}");
        assert_eq!(seen, answer(&world.session, &sql).await, "{condition}");
    }
    // A grant whose filter fails takes nothing from another.
    let session = user(&world, &["fails", "kind"], &[("kind", "kind number 1")]);
    let part = "(SELECT * FROM events WHERE user_id <> 5 OR kind = 'kind number 1') events";
    same(&world, &session, part, &questions).await;
    // Texts that are no numbers.
    let session = user(&world, &["texts"], &[]);
    assert_eq!(answer(&session, "SELECT count(*) FROM events").await, [["0"]]);
    let session = user(&world, &["texts", "narrow_low"], &[]);
    let part =
        "(SELECT ts, kind, ok, NULL::bigint AS user_id FROM events WHERE score < 200) events";
    same(&world, &session, part, &["SELECT ts, kind, ok, user_id FROM {} ORDER BY ts"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ways_around_a_table_lead_to_the_same_rows() {
    let world = world().await;
    let session = user(&world, &["kind"], &[("kind", "kind number 1")]);
    let expected = answer(&session, "SELECT count(*) FROM events").await;
    for sql in [
        "SELECT count(*) FROM public.events",
        "SELECT count(*) FROM \"public\".\"events\"",
        "SELECT count(*) FROM otus.public.events",
        "SELECT count(*) FROM (TABLE events) t",
        "SELECT count(*) FROM events AS e TABLESAMPLE SYSTEM (100)",
        "SELECT sum(n) FROM kinds()",
        "SELECT sum(events) FROM by_kind_minute",
        "SELECT sum(events) FROM by_kind_hour",
        "SELECT sum(events) FROM by_kind_day",
        "SET search_path = public; SELECT count(*) FROM events",
        "SET otus.rollups = force; SELECT sum(n) FROM (SELECT kind, count(*) AS n FROM events GROUP BY kind) t",
        "SET otus.rollups = off; SELECT sum(n) FROM (SELECT kind, count(*) AS n FROM events GROUP BY kind) t",
        "RESET ALL; PREPARE p AS SELECT count(*) FROM events; EXECUTE p",
        "SET otus.rollups = off; EXECUTE p",
        "BEGIN; DECLARE c CURSOR FOR SELECT count(*) FROM events; FETCH ALL FROM c",
        "COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM events",
        "SELECT count(*) FROM events",
        "COMMIT; COPY (SELECT count(*) FROM events) TO STDOUT",
    ] {
        match rows_of(&session, sql).await {
            Ok(rows) => assert_eq!(rows, expected, "{sql}"),
            // Not everything that is tried is SQL of ours.
            Err(e) => assert!(["0A000", "42601"].contains(&e.sqlstate), "{sql}: {e:?}"),
        }
    }
}
