//! The memory of queries: what they gather is seen, and what does not fit goes to disk and comes back.

use std::time::Duration;

use super::world::World;
use crate::SqlConfig;
use crate::error::sqlstate;

async fn limited(memory_bytes: usize, batch_rows: usize) -> World {
    let config = SqlConfig { memory_bytes, batch_rows, threads: 2, ..SqlConfig::default() };
    World::with(config).await
}

#[tokio::test]
async fn what_aggregates_gather_is_bounded() {
    let world = limited(32 << 20, 8192).await;
    world.append(3_000);
    for gathered in [
        "array_agg(repeat(kind, 2000))",
        "array_agg(repeat(kind, 2000)) FILTER (WHERE user_id > 5)",
        "array_agg(repeat(kind, 2000) ORDER BY ts)",
        "array_agg(DISTINCT repeat(kind, 2000) || _offset)",
        "array_agg(make_array(repeat(kind, 2000)))",
        "string_agg(repeat(kind, 2000), ',')",
        "string_agg(repeat(kind, 2000), ',' ORDER BY ts)",
    ] {
        for sql in [
            format!("SELECT {gathered} IS NULL FROM events"),
            format!("SELECT ok, {gathered} IS NULL FROM events GROUP BY 1"),
        ] {
            let e = world.error(&sql).await;
            assert_eq!(e.sqlstate, sqlstate::OUT_OF_MEMORY, "{sql}: {e:?}");
            assert!(e.hint.as_ref().is_some_and(|hint| hint.contains("[query]")), "{sql}: {e:?}");
        }
    }
    for _ in 0..100 {
        if world.engine.memory_reserved() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} bytes are still taken", world.engine.memory_reserved());
}

#[tokio::test]
async fn counted_aggregates_answer_as_ever() {
    // Each sort reserves ten MiB for its merge.
    let world = limited(64 << 20, 100).await;
    world.append(4_000);
    let gathered = world
        .rows(
            "SELECT kind, array_agg(\"mixedCase\" ORDER BY ts DESC)[1], cardinality(array_agg(ts)),
                array_agg(score) FILTER (WHERE score < 1), length(string_agg(repeat(kind, 10), ','))
             FROM events WHERE kind IS NOT NULL GROUP BY kind ORDER BY kind",
        )
        .await;
    let count = world.rows("SELECT count(*) FROM events WHERE kind = 'kind number 3'").await;
    assert_eq!(gathered.len(), 5);
    let three = &gathered[3];
    assert_eq!(three[0], "kind number 3");
    assert_eq!(three[2], count[0][0]);
    assert_eq!(three[3], "[0.75]");
    let rows: usize = count[0][0].parse().unwrap();
    assert_eq!(three[4], (rows * 131 - 1).to_string());
    for (sql, wanted) in [
        (
            "SELECT string_agg(DISTINCT \"mixedCase\", '' ORDER BY \"mixedCase\") FROM events",
            "M0M1M2",
        ),
        ("SELECT (array_agg(DISTINCT ok ORDER BY ok))[2] FROM events", "true"),
    ] {
        assert_eq!(world.value(sql).await, wanted, "{sql}");
    }
    // Gathered in pieces that are put on disk and merged.
    let small = limited(16 << 20, 100).await;
    small.append(4_000);
    let long = small
        .rows(
            "SELECT count(*), bool_and(cardinality(list) = n AND list[1] = repeat(kind, 400)) FROM (
                SELECT kind, user_id, count(*) AS n, array_agg(repeat(kind, 400)) AS list
                FROM events GROUP BY kind, user_id) AS t WHERE kind IS NOT NULL",
        )
        .await;
    assert_eq!(long, [["485", "true"]]);
}

/// Rows that two tasks put on disk for one reader all come back, and it never waits for what is there.
#[tokio::test]
async fn rows_between_tasks_come_back_from_disk() {
    let world = limited(2 << 20, 64).await;
    let sql = "SELECT count(*), sum(n) FROM (SELECT g, count(DISTINCT t) AS n FROM (
            SELECT v % 13 AS g, md5((v % 337)::text) AS t FROM generate_series(1, 40000) AS s(v)) AS r GROUP BY g) AS r";
    for run in 0..12 {
        let rows = tokio::time::timeout(Duration::from_secs(60), world.rows(sql)).await;
        assert_eq!(rows.unwrap_or_else(|_| panic!("run {run} waits")), [["13", "4381"]]);
    }
}

#[tokio::test]
async fn counted_windows_answer_as_ever() {
    let world = limited(64 << 20, 100).await;
    let rows =
        "(VALUES (1, 'a', true), (2, 'b', false), (3, NULL, NULL), (4, 'd', true)) t (i, x, y)";
    for (over, wanted) in [
        ("string_agg(x, '-') OVER ()", "a-b-d|a-b-d|a-b-d|a-b-d"),
        ("string_agg(x, '-') FILTER (WHERE y) OVER ()", "a-d|a-d|a-d|a-d"),
        ("string_agg(x, '-') FILTER (WHERE i > 1) OVER (ORDER BY i)", "NULL|b|b|b-d"),
        ("array_agg(x) FILTER (WHERE y) OVER (PARTITION BY i % 2)::text", "{a}|{d}|{a}|{d}"),
        (
            "array_agg(i) FILTER (WHERE i <> 2) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)::text",
            "{1}|{1,3}|{3,4}|{3,4}",
        ),
        ("array_agg(x) OVER (ORDER BY i DESC)::text", "{d,NULL,b,a}|{d,NULL,b}|{d,NULL}|{d}"),
        ("max(x) OVER (ORDER BY i)", "a|b|b|d"),
        ("max(x) FILTER (WHERE y) OVER (ORDER BY i)", "a|a|a|d"),
        ("min(x) OVER (ORDER BY i ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)", "a|b|d|d"),
        ("first_value(x) OVER (ORDER BY i DESC)", "d|d|d|d"),
        ("last_value(x) OVER (ORDER BY i)", "a|b|NULL|d"),
        ("nth_value(x, 2) OVER (ORDER BY i)", "NULL|b|b|b"),
        ("lag(x, 1, 'none') OVER (ORDER BY i)", "none|a|b|NULL"),
        ("lead(x) OVER (ORDER BY i)", "b|NULL|d|NULL"),
        (
            "json_agg(x) FILTER (WHERE y) OVER (ORDER BY i)",
            "[\"a\"]|[\"a\"]|[\"a\"]|[\"a\", \"d\"]",
        ),
    ] {
        let found = world.rows(&format!("SELECT {over} FROM {rows} ORDER BY i")).await;
        let found: Vec<_> = found.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(found.join("|"), wanted, "{over}");
    }
    let plan = world
        .rows("EXPLAIN SELECT string_agg(kind, ',') FILTER (WHERE ok) OVER () FROM events")
        .await;
    let plan: Vec<_> = plan.iter().map(|row| row[0].as_str()).collect();
    assert!(plan.join("\n").contains("FILTER (WHERE events.ok)"), "{plan:?}");
}

#[tokio::test]
async fn windows_and_repeated_values_are_bounded() {
    let world = limited(16 << 20, 8192).await;
    world.append(3_000);
    let texts = "SELECT repeat(kind, 100) AS t, ts, user_id, ok FROM events WHERE kind IS NOT NULL";
    for sql in [
        "SELECT array_agg(t) OVER () FROM x",
        "SELECT array_agg(t) FILTER (WHERE user_id > 5) OVER () FROM x",
        "SELECT count(*), max(n) FROM (SELECT array_agg(t) OVER (PARTITION BY ok) a, count(*) OVER (PARTITION BY ok) n FROM x) w WHERE a IS NOT NULL",
        "SELECT string_agg(t, ',') OVER (ORDER BY ts), count(*) OVER (ORDER BY ts ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) FROM x",
        "SELECT max(n), max(length(s)) FROM (SELECT s, count(s) OVER () n FROM (SELECT t || g.i AS s FROM x, generate_series(1, 20) g(i)) y) w",
        "SELECT g.a FROM (SELECT array_agg(t) a FROM x) g, events",
        "SELECT g.a, unnest(g.a) FROM (SELECT array_agg(t) a FROM x) g",
        "SELECT upper(g.s) FROM (SELECT string_agg(t, ',') s FROM x) g, events",
    ] {
        let e = world.error(&format!("WITH x AS ({texts}) {sql}")).await;
        assert_eq!(e.sqlstate, sqlstate::OUT_OF_MEMORY, "{sql}: {e:?}");
    }
    // What is made of a window's rows is made batch by batch.
    let made = format!(
        "WITH x AS ({texts}) SELECT max(length(upper(t) || n)) > 1000 FROM (SELECT t, count(*) OVER () n FROM x) w"
    );
    assert_eq!(world.value(&made).await, "true");
    let few = format!(
        "WITH x AS ({texts} LIMIT 20) SELECT count(*), min(cardinality(a)), max(length(s)) FROM (
           SELECT g.a, g.s FROM (SELECT array_agg(t) a, string_agg(t, ',') s FROM x) g, events) j"
    );
    assert_eq!(world.rows(&few).await[0][..2], ["3000", "20"]);
    for _ in 0..100 {
        if world.engine.memory_reserved() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{} bytes are still taken", world.engine.memory_reserved());
}
