//! Rollups chosen by themselves: what is matched answers as raw rows do, and what is not is refused.

use otus_engine::catalog::MeasureDef;

use super::world::{BASE_US, World, rows_of};

/// Whether two cells are the same answer: floats within 1e-9.
fn same(a: &str, b: &str) -> bool {
    a == b
        || match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(x), Ok(y)) => (x - y).abs() <= 1e-9 * x.abs().max(y.abs()).max(1e-300),
            _ => false,
        }
}

pub(super) async fn under(world: &World, mode: &str, sql: &str) -> Vec<Vec<String>> {
    world.rows(&format!("SET otus.rollups = {mode}; {sql}")).await
}

pub(super) fn assert_same(sql: &str, mut a: Vec<Vec<String>>, mut b: Vec<Vec<String>>) {
    if !sql.contains("ORDER BY") {
        a.sort();
        b.sort();
    }
    assert_eq!(a.len(), b.len(), "{sql}\n{a:?}\n{b:?}");
    for (x, y) in a.iter().zip(&b) {
        assert!(
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
            "{sql}\n{x:?}\n{y:?}"
        );
    }
}

/// Answers by rollup as by raw rows, under both spellings; `parts` stand in the plan.
async fn served(world: &World, sql: &str, parts: &[&str]) {
    let by_rollup = under(world, "force", sql).await;
    let plan = world.explain(sql).await;
    assert!(plan.contains("rollup by_kind"), "{sql}\n{plan}");
    for part in parts {
        assert!(plan.contains(part), "{sql}: no {part:?} in\n{plan}");
    }
    let raw = under(world, "off", sql).await;
    assert_same(sql, by_rollup, raw);
}

pub(super) async fn refused(world: &World, sql: &str, reason: &str) {
    let automatic = under(world, "auto", sql).await;
    assert_same(sql, automatic, under(world, "off", sql).await);
    world.rows("SET otus.rollups = force").await;
    let e = world.error(sql).await;
    assert_eq!(e.sqlstate, "0A000", "{sql}: {e:?}");
    assert!(e.message.contains(reason), "{sql}: {}", e.message);
}

const SERVED: &[&str] = &[
    "SELECT kind, count(*), sum(amount) FROM events GROUP BY kind",
    "SELECT count(*) FROM events WHERE kind = 'kind number 1'",
    "SELECT date_trunc('hour', ts) AS h, count(*), sum(user_id) FROM events GROUP BY 1 ORDER BY 1",
    "SELECT date_trunc('day', ts), kind, min(amount), approx_distinct(user_id) FROM events GROUP BY 1, 2",
    "SELECT kind, avg(user_id), stddev(score), var_pop(score) FROM events GROUP BY kind",
    "SELECT kind, last(user_id, ts) FROM events GROUP BY kind",
    "SELECT kind, count(*) FILTER (WHERE ok) FROM events GROUP BY kind",
    "SELECT sum(amount) FILTER (WHERE kind = 'kind number 2'), count(*) FROM events WHERE ts >= '2026-03-01T02:00:00Z'",
    "SELECT count(*) FROM events WHERE ts >= '2026-03-01T02:00:30Z' AND ts < '2026-03-01T10:11:12.5Z'",
    "SELECT count(*) FROM events WHERE ts > '2026-03-01T02:00:30Z' AND ts <= '2026-03-01T10:11:00Z'",
    "SELECT kind, count(*) FROM events WHERE ts BETWEEN '2026-03-01T01:00:00Z' AND '2026-03-01T09:00:00Z' GROUP BY 1",
    "SELECT kind, sum(CASE WHEN kind = 'kind number 3' THEN amount ELSE 0 END) FROM events GROUP BY kind",
    "SELECT sum(CASE WHEN kind LIKE '%1' THEN amount END), sum(CASE WHEN kind LIKE '%1' THEN 1 ELSE 0 END) FROM events WHERE kind IS NOT NULL",
    "SELECT count(CASE WHEN kind LIKE '%1' THEN 1 END), count(kind), count(DISTINCT kind), min(kind), max(kind) FROM events",
    "SELECT date_trunc('hour', ts), count(*) FROM events GROUP BY 1 HAVING count(*) > 100 ORDER BY 2 DESC, 1 LIMIT 3",
    "SELECT kind, date_trunc('hour', ts), sum(amount) FROM events GROUP BY GROUPING SETS ((kind), (date_trunc('hour', ts)), ())",
    "SELECT kind, grouping(kind), sum(amount) FROM events GROUP BY ROLLUP (kind)",
    "SELECT upper(kind), count(*) FROM events GROUP BY 1",
    "SELECT DISTINCT kind FROM events",
    "SELECT date_bin(interval '15 minutes', ts), count(*) FROM events GROUP BY 1",
    "SELECT extract(hour from ts), count(*) FROM events GROUP BY 1",
    "SELECT floor(extract(epoch from ts) / 300) * 300, count(*) FROM events GROUP BY 1",
    "SELECT to_timestamp(floor(extract(epoch from ts) / 300) * 300), count(*) FROM events GROUP BY 1",
    "SELECT sum(CASE WHEN kind LIKE '%1' THEN coalesce(amount, 0) ELSE 0 END) FROM events",
    "SELECT sum(CASE WHEN kind LIKE '%1' THEN amount ELSE CASE WHEN kind LIKE '%2' THEN 2 ELSE CASE WHEN kind IS NULL THEN NULL \
     ELSE amount END END END), count(CASE WHEN kind LIKE '%1' THEN NULL ELSE CASE WHEN kind LIKE '%2' THEN 1 END END) FROM events",
    "SELECT date_trunc('week', ts + interval '1 day') + interval '-1 day', count(*) FROM events GROUP BY 1",
    "SELECT date_trunc('day', ts - interval '6 hours'), count(*) FROM events WHERE ts + interval '1 hour' < '2026-03-01T09:00:00Z' GROUP BY 1",
    "SELECT count(*) FROM events WHERE ts >= ((SELECT date_trunc('day', timestamptz '2026-03-02') + ('-1' || ' day')::interval))",
    "SELECT count(*) FROM events WHERE ts < '9999-12-31' AND ts BETWEEN '0001-01-01' AND '2300-01-01'",
    "SELECT count(*) FROM events WHERE ts >= TO_TIMESTAMP('2026-03-01 02:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') AND ts < to_date('03/03/2026', 'DD/MM/YYYY')",
    "SELECT date(ts), count(*) FROM events WHERE date(ts) = '2026-03-01' GROUP BY 1",
    "SELECT sum(user_id), sum(user_id::bigint) FROM events",
    "SELECT kind, count(*) FROM events GROUP BY ROLLUP (1)",
    "SELECT time_bucket('2 hours', ts), count(*) FROM events GROUP BY 1",
    "SELECT time_bucket('45 minutes', ts, 'Asia/Kolkata'), count(*) FROM events GROUP BY 1",
    "SELECT time_bucket('1 day', ts, timestamptz '2026-03-01 12:00:00Z'), count(*) FROM events GROUP BY 1",
    "SELECT time_bucket('2 months', ts, 'Europe/Berlin'), count(*) FROM events GROUP BY 1",
    "SELECT time_bucket_gapfill('30 minutes', ts, '2026-03-01', '2026-03-02'), count(*) FROM events GROUP BY 1",
    "SELECT count(*) FROM events WHERE time_bucket('2 hours', ts) >= '2026-03-01T02:00:00Z'",
    "SELECT to_char(ts, 'YYYY-MM-DD HH24:00'), count(*) FROM events GROUP BY 1",
    "SELECT to_char(ts, 'IYYY-IW Month'), count(*) FROM events WHERE to_char(ts, 'YYYY-MM') = '2026-03' GROUP BY 1",
    "SELECT kind, count(*) FROM events WHERE kind IN (SELECT kind FROM events GROUP BY kind ORDER BY count(*) DESC, kind LIMIT 2) GROUP BY 1 ORDER BY 1",
    "SELECT date_trunc('hour', ts), kind, count(*) FROM events JOIN (SELECT kind AS k, sum(amount) AS most FROM events \
     WHERE ts >= '2026-03-01T01:00:00Z' GROUP BY kind ORDER BY most DESC, 1 LIMIT 3) s ON kind = k GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT d.name, count(*), sum(amount), avg(user_id) FROM events e JOIN (VALUES ('kind number 1', 'one'), \
     ('kind number 2', 'two'), ('kind number 2', 'zwei')) AS d (k, name) ON e.kind = d.k WHERE e.ts >= '2026-03-01T02:00:30Z' GROUP BY 1",
    "SELECT coalesce(d.name, 'none'), count(*) FROM (VALUES ('kind number 1', 'one')) AS d (k, name) RIGHT JOIN events e \
     ON e.kind = d.k GROUP BY 1",
    "SELECT upper(d.name) || e.kind, min(amount) FROM events e LEFT JOIN (VALUES ('1', 'one'), ('2', 'two')) AS d (k, name) \
     ON right(e.kind, 1) = d.k AND d.name <> 'two' WHERE d.name IS NOT NULL OR e.kind LIKE '%3' GROUP BY 1",
    "SELECT count(*) FROM events, (VALUES (1), (2)) AS v (n) WHERE kind <> 'kind number 1'",
    "SELECT count(*) FROM events e, (VALUES ('kind number 1'), ('kind number 2')) AS v (k), (VALUES (3), (4)) AS w (n) WHERE e.kind = v.k",
    "SELECT DISTINCT e.kind, d.name FROM events e JOIN (VALUES ('kind number 1', 'one')) AS d (k, name) ON e.kind = d.k",
    "SELECT count(*) FROM events WHERE kind = (SELECT min(kind) FROM events)",
    "SELECT count(*) FROM events WHERE kind NOT IN (SELECT kind FROM events WHERE kind LIKE '%1' GROUP BY kind)",
    "SELECT count(*) FROM events WHERE date_trunc('day', ts) = '2026-03-01'",
    "SELECT count(*) FROM events WHERE extract(epoch from ts) >= 1772330000 AND extract(epoch from ts) < 1772340000",
    "SELECT count(*) FROM events WHERE ts::date = '2026-03-01'",
    "SELECT count(*) FILTER (WHERE ts >= '2026-03-01T05:00:10Z'), count(*) FILTER (WHERE ts < '2026-03-01T05:00:10Z') FROM events WHERE ts < '2026-03-01T15:00:00Z'",
    "SELECT count(*), sum(amount) FROM events WHERE kind = 'nobody'",
    "SELECT kind, count(*), sum(amount) FROM events WHERE kind = 'nobody' GROUP BY kind",
    "SELECT e.kind, e.n, t.n FROM (SELECT kind, count(*) AS n FROM events GROUP BY 1) e JOIN (SELECT kind, sum(amount) AS n FROM events GROUP BY 1) t USING (kind)",
    "WITH x AS (SELECT ts AS at, kind AS k, amount * 1 AS one, amount FROM events WHERE kind <> 'kind number 4') SELECT k, sum(amount) FROM x WHERE at >= '2026-03-01T03:00:00Z' GROUP BY k",
    "SELECT kind, n, rank() OVER (ORDER BY n DESC, kind) FROM (SELECT kind, count(*) AS n FROM events GROUP BY 1) s",
    "SELECT 'a', count(*) FROM events WHERE kind = 'kind number 1' UNION ALL SELECT 'b', count(*) FROM events WHERE kind = 'kind number 2'",
    "SELECT (SELECT count(*) FROM events WHERE kind = 'kind number 1') AS one",
    "SELECT 'x', count(*) FROM events WHERE kind = 'nobody' GROUP BY 1",
    "SELECT approx_distinct(kind), approx_distinct(user_id) FROM events",
    "SELECT kind, sum(coalesce(amount, 0)) FROM events GROUP BY kind",
    "SELECT kind, bool_or(kind = 'kind number 1') FROM events GROUP BY kind",
    "SELECT count(*) FROM events WHERE 1 = 1 AND kind IN ('kind number 1', 'kind number 2')",
    "SELECT kind IS NOT TRUE FROM (SELECT kind = 'kind number 1' AS kind FROM events) x GROUP BY 1",
    "SELECT count(*) FILTER (WHERE (kind = 'kind number 1') IS NOT TRUE) FROM events WHERE ts < '2026-03-01T09:00:00Z'",
    "SELECT count(*) FROM events WHERE (ts >= '2026-03-01T01:00:10Z' AND ts < '2026-03-01T02:00:00Z') OR (ts >= '2026-03-01T05:30:00Z' AND ts < '2026-03-01T07:00:00Z')",
    "SELECT count(*), avg(user_id) FROM events WHERE ts < now() - interval '1 minute'",
    "SELECT kind, count(*) FROM events WHERE ts >= '2026-03-01' GROUP BY CUBE (kind, date_trunc('day', ts))",
    "SELECT sum(CASE WHEN length(kind) <> 13 THEN 1 / (length(kind) - 13) ELSE 0 END), count(CASE WHEN length(kind) <> 13 THEN 1 / (length(kind) - 13) END) FROM events WHERE kind LIKE '%'",
    "SELECT sum(CASE kind WHEN 'kind number 1' THEN amount WHEN 'kind number 2' THEN amount WHEN NULL THEN 3 ELSE 1 END) FROM events WHERE ts > '2026-03-01T01:00:00Z'",
    "SELECT sum(events_per) FROM (SELECT date_trunc('minute', ts), count(*) AS events_per FROM events GROUP BY 1) x",
];

#[tokio::test]
async fn what_is_matched_answers_as_raw_rows_do() {
    let world = World::filled().await;
    for stage in ["level 0 and hot", "compacted"] {
        if stage == "compacted" {
            world.dataset.flush().await.unwrap();
            world.dataset.maintain(true).await.unwrap();
            world.append(77);
        }
        for sql in SERVED {
            served(&world, sql, &[]).await;
        }
    }
}

/// Bands of a dashboard: planning must not grow by a factor with each level.
#[tokio::test]
async fn a_deep_case_is_planned_soon() {
    let world = World::filled().await;
    for depth in [8, 12, 60] {
        let arms: String = (0..depth)
            .map(|i| format!("CASE WHEN kind = 'kind number {i}' THEN amount ELSE "))
            .collect();
        let sql = format!("SELECT sum({arms} 0 {}) FROM events", "END ".repeat(depth));
        under(&world, "auto", "SELECT 1").await;
        let plan = tokio::time::timeout(std::time::Duration::from_secs(60), world.explain(&sql));
        let plan = plan.await.unwrap_or_else(|_| panic!("{depth} levels are planned too long"));
        assert_eq!(plan.contains("events: rollup by_kind"), depth < 48, "{plan}");
        let by_rollup = under(&world, "auto", &sql).await;
        assert_same(&sql, by_rollup, under(&world, "off", &sql).await);
    }
}

#[tokio::test]
async fn what_is_not_matched_is_refused() {
    let world = World::filled().await;
    for (sql, reason) in [
        ("SELECT user_id, count(*) FROM events GROUP BY 1", "column \"user_id\" is no dimension"),
        ("SELECT count(*) FROM events WHERE ok", "column \"ok\" is no dimension"),
        ("SELECT count(DISTINCT user_id) FROM events", "exact over dimensions only"),
        ("SELECT sum(score) FROM events WHERE kind = 'a'", "stores no state of sum(score)"),
        ("SELECT max(ts), kind FROM events GROUP BY kind", "stores no state of max(ts)"),
        ("SELECT count(*) FROM events WHERE _offset > 10", "column \"_offset\" is no dimension"),
        ("SELECT date_trunc('second', ts), count(*) FROM events GROUP BY 1", "no granularity"),
        ("SELECT ts, count(*) FROM events GROUP BY 1", "\"ts\" is used otherwise"),
        ("SELECT count(*) FROM (SELECT * FROM events LIMIT 10) x", "LIMIT stands below"),
        (
            "SELECT count(*) FROM events a JOIN events b USING (_offset)",
            "\"_offset\" is no dimension",
        ),
        (
            "SELECT count(e.kind) FROM (VALUES ('kind number 1')) AS d (k) LEFT JOIN events e ON e.kind = d.k",
            "a join stands below",
        ),
        (
            "SELECT max(d.n) FROM events e JOIN (VALUES ('kind number 1', 2)) AS d (k, n) ON e.kind = d.k",
            "columns of a joined table",
        ),
        (
            "SELECT count(*) FROM events e WHERE EXISTS (SELECT 1 FROM (VALUES ('a')) AS d (k) WHERE d.k = e.kind)",
            "correlated subquery",
        ),
        ("SELECT kind FROM events ORDER BY ts LIMIT 1", "not aggregated"),
        (
            "SELECT count(*) FROM events WHERE ts >= '2026-03-01T00:00:10Z' AND ts < '2026-03-01T00:00:20Z'",
            "no whole bucket",
        ),
        ("SELECT array_agg(kind ORDER BY ts) FROM events WHERE kind = 'nobody'", "clause"),
        ("SELECT median(user_id) FROM events", "stores no state"),
    ] {
        refused(&world, sql, reason).await;
    }
    world.rows("SET otus.rollups = force").await;
    let volatile =
        "SELECT count(*) FROM events, (VALUES (1), (2)) AS v (n) WHERE random() < 0.5 * n";
    let e = world.error(volatile).await;
    assert!(e.message.contains("random() is not immutable"), "{e:?}");
}

#[tokio::test]
async fn a_zone_is_served_by_granularities_that_its_offsets_are_multiples_of() {
    let world = World::filled().await;
    let day = "SELECT date_trunc('day', ts), count(*) FROM events GROUP BY 1 ORDER BY 1";
    world.rows("SET timezone = 'Asia/Kolkata'").await;
    served(&world, day, &[]).await;
    world.rows("SET timezone = 'Europe/Berlin'").await;
    served(&world, day, &[]).await;
    served(&world, "SELECT extract(hour from ts), count(*) FROM events GROUP BY 1", &[]).await;
    served(&world, "SELECT count(*) FROM events WHERE ts::date = '2026-03-01'", &[]).await;
    served(&world, "SELECT count(*) FROM events WHERE date_trunc('day', ts) >= '2026-03-01'", &[])
        .await;
}

#[tokio::test]
async fn sources_follow_the_range() {
    let world = World::filled().await;
    world.dataset.flush().await.unwrap();
    world.dataset.maintain(true).await.unwrap();
    world.append(500);
    let sql = "SELECT sum(amount) FROM events WHERE ts >= '2026-03-01T00:30:10Z' AND ts < '2026-03-01T20:00:00Z'";
    world.rows("SET otus.rollups = force").await;
    let plan = world.explain(sql).await;
    assert!(plan.contains("hour states, 2026-03-01T01:00:00Z to 2026-03-01T20:00:00Z"), "{plan}");
    assert!(
        plan.contains("raw rows of cut buckets, 2026-03-01T00:30:10Z to 2026-03-01T01:00:00Z"),
        "{plan}"
    );
    assert!(plan.contains("raw rows of the open hot chunk"), "{plan}");
    served(&world, sql, &[]).await;
}

#[tokio::test]
async fn off_uses_none_and_names_and_types_stay() {
    let world = World::filled().await;
    let sql = "SELECT kind, count(*) AS n, avg(user_id), sum(amount) FROM events e GROUP BY kind";
    let plan = world.explain(sql).await;
    assert!(plan.contains("events: rollup by_kind"), "{plan}");
    world.rows("SET otus.rollups = off").await;
    let plan = world.explain(sql).await;
    assert!(plan.contains("raw rows (otus.rollups is off)"), "{plan}");
    let of = async |mode: &str| {
        rows_of(&world.session, &format!("SET otus.rollups = {mode}")).await.unwrap();
        let statement = world.session.parse(sql).unwrap().remove(0);
        match world.session.execute(&statement, vec![]).await.unwrap() {
            crate::Outcome::Rows { schema, .. } => schema,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(of("off").await, of("force").await);
}

#[tokio::test]
async fn rows_from_before_a_rollup_was_declared_are_read_raw() {
    let world = World::filled().await;
    world
        .declare(|def| {
            def.rollups[0].granularities.remove(0);
            def.rollups[0].measures = vec!["share".into(), "amount".into()];
        })
        .await;
    world.append(2_000);
    world.dataset.flush().await.unwrap();
    world.append(300);
    let queries = [
        "SELECT kind, count(*), sum(amount), count(*) FILTER (WHERE ok) FROM events GROUP BY kind",
        "SELECT date_trunc('hour', ts), count(*) FROM events WHERE ts >= '2026-03-01T02:30:00Z' GROUP BY 1",
    ];
    let progress = "SELECT DISTINCT state, complete, offsets_covered, offsets_total, covered, \
                    whole_from IS NULL, declared_at IS NULL FROM otus.rollups";
    // 3,200 rows of before were flushed with the declaration; steps are smaller.
    for (covered, part) in [("2000", "0.38"), ("2850", "0.54"), ("5200", "1.0")] {
        let rows = world.rows(progress).await;
        let said = ["from before the rollup was declared"];
        for sql in queries {
            served(&world, sql, if covered == "5200" { &[] } else { &said }).await;
        }
        notices_of(&world);
        world.rows("SELECT count(*) FROM by_kind_hour").await;
        let said =
            notices_of(&world).contains("\"by_kind\" holds a part of the rows of \"events\"");
        assert_eq!(said, covered != "5200", "{covered}");
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert!(row[2].starts_with(covered) && row[4].starts_with(part), "{row:?}");
        let (state, complete) = match covered {
            "5200" => ("live", "true"),
            _ => ("backfilling", "false"),
        };
        assert_eq!([&row[0], &row[1], &row[3]], [state, complete, "5200"]);
        assert_eq!([&row[5], &row[6]], ["true", "false"]);
        match covered {
            "2000" => drop(world.dataset.backfill_step().await.unwrap()),
            _ => drop(world.dataset.maintain(true).await.unwrap()),
        }
    }
    world.rows("SET otus.rollups = force").await;
    let plan = world.explain(queries[0]).await;
    assert!(plan.contains("rollup by_kind") && !plan.contains("from before"), "{plan}");
    // A measure that is stored by way of another one: its states are of another call now.
    world
        .declare(|def| {
            def.rollups[0].granularities.remove(0);
            def.rollups[0].measures = vec!["share".into(), "amount".into()];
            def.measures.iter_mut().find(|m| m.name == "good").unwrap().sql =
                "count(*) FILTER (WHERE NOT ok)".into();
        })
        .await;
    world.append(100);
    let sql = "SELECT kind, count(*) FILTER (WHERE NOT ok) FROM events GROUP BY kind";
    served(&world, sql, &["from before the rollup was declared"]).await;
}

#[tokio::test]
async fn below_the_horizon_a_rollup_answers_and_raw_rows_are_cut() {
    let world = World::filled().await;
    world.append(3_000);
    world.dataset.flush().await.unwrap();
    world.dataset.maintain(true).await.unwrap();
    let by_kind = "SELECT kind, count(*) FROM events GROUP BY kind";
    let before = under(&world, "auto", by_kind).await;
    let whole = world.value("SELECT count(*) FROM events WHERE ts >= '2026-03-01T10:01:00Z'").await;
    let table = world.dataset.snapshot().table("public", "events").unwrap().id;
    world.dataset.advance_horizon(table, BASE_US + 86_400_000_000).await.unwrap();
    let notices = || notices_of(&world);
    notices();
    assert_same(by_kind, under(&world, "auto", by_kind).await, before);
    assert!(notices().contains("rollup \"by_kind\" answers for them"));
    for (sql, expected) in [
        ("SELECT count(*) FROM events WHERE user_id >= 0", "1880"),
        (
            "SELECT count(*) FROM events WHERE ts >= '2026-03-01T00:00:10Z' AND kind IS NULL OR user_id >= 0",
            "1880",
        ),
    ] {
        assert_eq!(world.value(sql).await, expected, "{sql}");
        assert!(notices().contains("the answer begins there"), "{sql}");
    }
    for sql in [
        "SELECT count(*) FROM events WHERE ts >= '2026-03-02T00:00:00Z' AND user_id >= 0",
        "SELECT kind, count(*) FROM events WHERE ts >= '2026-03-02T10:00:00Z' GROUP BY 1",
        "SELECT kind FROM events WHERE ts >= '2026-03-02T10:00:00Z' LIMIT 1",
    ] {
        world.rows(sql).await;
        assert_eq!(notices(), "", "{sql}");
    }
    // A bucket below the horizon that the range cuts cannot be read from anywhere: the next one begins. That is so while
    // files with its rows are there, and when they are gone.
    let cut = "SELECT count(*) FROM events WHERE ts >= '2026-03-01T10:00:10Z'";
    for _ in 0..2 {
        assert_eq!(world.value(cut).await, whole);
        let said = notices();
        assert!(
            said.contains("\"by_kind\" answers for them from 2026-03-01T10:01:00Z on"),
            "{said}"
        );
        world.dataset.maintain(true).await.unwrap();
    }
    // Here nothing is whole below the horizon.
    let cut = "SELECT count(*) FROM events WHERE ts >= '2026-03-01T10:00:10Z' AND extract(second FROM ts) >= 0";
    assert_eq!(world.value(cut).await, "1880");
    assert!(notices().contains("the answer begins there"));
}

/// Messages of the session since they were last asked for.
fn notices_of(world: &World) -> String {
    let reports = world.session.take_reports();
    let texts = reports.into_iter().filter_map(|r| match r {
        crate::Report::Notice { message, severity: "NOTICE", .. } => Some(message),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// What retention had taken before a rollup was filled is not in it, and it does not answer for that.
#[tokio::test]
async fn a_filled_rollup_answers_from_where_it_is_whole() {
    let world = World::filled().await;
    world.append(3_000);
    world.dataset.flush().await.unwrap();
    let table = world.dataset.snapshot().table("public", "events").unwrap().id;
    world.dataset.advance_horizon(table, BASE_US + 86_400_000_000).await.unwrap();
    world
        .declare(|def| {
            def.rollups[0].granularities.remove(0);
        })
        .await;
    world.dataset.maintain(true).await.unwrap();
    let rows = world.rows("SELECT DISTINCT state, whole_from FROM otus.rollups").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0][0] == "live" && rows[0][1].starts_with("2026-03-02T00:00:00"), "{rows:?}");
    // A late event: the rollup has it, and nothing else of its day.
    world.append_at(BASE_US + 1_000_000);
    let queries = [
        "SELECT kind, count(*), sum(amount) FROM events GROUP BY kind",
        "SELECT date_trunc('day', ts), count(*) FROM events GROUP BY 1",
        "SELECT count(*) FROM events WHERE ts >= '2026-03-01T00:00:00Z' AND kind IS NOT NULL",
    ];
    let mut before = Vec::new();
    for sql in queries {
        served(&world, sql, &[]).await;
        notices_of(&world);
        before.push(under(&world, "auto", sql).await);
        let said = notices_of(&world);
        assert!(
            said.contains("before 2026-03-02T00:00:00Z are gone; the answer begins there"),
            "{said}"
        );
    }
    // From now on it answers below the horizon, down to where it is whole.
    world.dataset.flush().await.unwrap();
    world.dataset.advance_horizon(table, BASE_US + 2 * 86_400_000_000).await.unwrap();
    for (sql, before) in queries.into_iter().zip(before) {
        assert_same(sql, under(&world, "auto", sql).await, before);
    }
}

#[tokio::test]
async fn the_latest_queries_are_kept() {
    let world = World::filled().await;
    world.rows("SELECT kind, count(*) FROM events GROUP BY kind").await;
    world.rows("SELECT user_id, count(*) FROM events GROUP BY user_id").await;
    world.error("SELECT 1 / (count(*) - count(*)) FROM events").await;
    let rows = world
        .rows("SELECT \"user\", query, rows, rollup, raw_reason, sqlstate FROM otus.queries ORDER BY started_at, query")
        .await;
    let find = |text: &str| {
        rows.iter().find(|r| r[1].contains(text)).unwrap_or_else(|| panic!("{text}: {rows:?}"))
    };
    let by_kind = find("GROUP BY kind");
    assert_eq!(
        (by_kind[0].as_str(), by_kind[2].as_str(), by_kind[3].as_str()),
        ("ann", "6", "by_kind")
    );
    let by_user = find("GROUP BY user_id");
    assert!(by_user[4].contains("\"user_id\" is no dimension"), "{by_user:?}");
    assert_eq!(find("1 / (")[5], "22012");
}

#[tokio::test]
async fn arithmetic_that_may_fail_is_left_to_raw_rows() {
    let world = World::declared(|def| {
        def.measures = vec![
            MeasureDef::new("events", "count(*)"),
            MeasureDef::new("more", "sum(user_id * 2 + 1)"),
            MeasureDef::new("most", "sum(user_id * 922337203685477580)"),
            MeasureDef::new("halves", "sum(score / 2)"),
            MeasureDef::new("parts", "sum(1 / (score + 1))"),
            MeasureDef::new("whole", "sum(score::bigint)"),
            MeasureDef::new("thirds", "sum(amount / 3)"),
        ];
    });
    let world = world.await.fill().await;
    for sql in [
        "SELECT kind, sum(user_id * 2 + 1) FROM events GROUP BY kind",
        "SELECT kind, sum(score / 2), sum(score::bigint) FROM events GROUP BY kind",
        "SELECT floor(extract(epoch from ts))::bigint / 300, count(*) FROM events GROUP BY 1",
        "SELECT kind || '!', length(kind) + 1, count(*) FROM events GROUP BY 1, 2",
        "SELECT repeat(kind, 2), count(*) FROM events GROUP BY 1",
    ] {
        served(&world, sql, &[]).await;
        served(&world, sql, &[]).await;
    }
    refused(&world, "SELECT sum(1 / (score + 1)) FROM events WHERE kind = 'a'", "may fail").await;
    // A declared quotient of numerics has fewer digits than that of a query.
    refused(&world, "SELECT sum(amount / 3) FROM events WHERE kind = 'a'", "stores no state").await;
    let half = "SELECT extract(epoch from ts)::bigint / 300, count(*) FROM events GROUP BY 1";
    refused(&world, half, "\"ts\" is used otherwise").await;
    let wide = "SELECT kind, sum(user_id * 922337203685477580) FROM events GROUP BY kind";
    for mode in ["auto", "off"] {
        world.rows(&format!("SET otus.rollups = {mode}")).await;
        assert_eq!(world.error(wide).await.sqlstate, "22003", "{mode}");
    }
}

#[tokio::test]
async fn declared_numbers_answer_those_of_queries() {
    let world = World::declared(|def| {
        def.measures = vec![
            MeasureDef::new("events", "count(*)"),
            MeasureDef::new("letters", "sum(length(kind) * 2 - 1)"),
            MeasureDef::new("longest", "max(length(kind) * 2)"),
            MeasureDef::new("most", "sum(length(kind) * 2000000000)"),
            MeasureDef::new("halves", "sum(user_id * 1.5)"),
            MeasureDef::new("quarters", "avg(user_id / 4.0)"),
            MeasureDef::new("tenths", "sum(amount * 0.1)"),
            MeasureDef::new("least", "min(amount * 2.5 + 1)"),
            MeasureDef::new("good", "sum(CASE WHEN ok THEN 1 ELSE 0 END)"),
            MeasureDef::new("known", "sum(coalesce(length(kind), 0))"),
            MeasureDef::new("whole", "sum(floor(user_id / 0.3))"),
        ];
    });
    let world = world.await.fill().await;
    for (sql, of) in [
        ("sum(length(kind) * 2 - 1)", "bigint"),
        ("max(length(kind) * 2)", "integer"),
        ("avg(length(kind) * 2 - 1)", "numeric"),
        ("sum(user_id * 1.5)", "numeric"),
        ("avg(user_id / 4.0)", "numeric"),
        ("sum(amount * 0.1)", "numeric"),
        ("min(amount * 2.5 + 1)", "numeric"),
        ("sum(CASE WHEN ok THEN 1 ELSE 0 END)", "bigint"),
        ("sum(coalesce(length(kind), 0))", "bigint"),
        ("sum(1)", "bigint"),
    ] {
        served(&world, &format!("SELECT kind, {sql} FROM events GROUP BY kind"), &[]).await;
        let sql = format!("SELECT pg_typeof({sql}) FROM events");
        for mode in ["force", "off"] {
            assert_eq!(under(&world, mode, &sql).await, [[of]], "{mode}: {sql}");
        }
    }
    // A quotient in double precision may lie on the other side of a whole number.
    let cut = "SELECT sum(floor(user_id / 0.3)) FROM events WHERE kind = 'a'";
    refused(&world, cut, "stores no state").await;
    let wide = "SELECT kind, sum(length(kind) * 2000000000) FROM events GROUP BY kind";
    for mode in ["auto", "off"] {
        world.rows(&format!("SET otus.rollups = {mode}")).await;
        assert_eq!(world.error(wide).await.sqlstate, "22003", "{mode}");
    }
}

#[tokio::test]
async fn a_time_without_zone_is_matched_too() {
    let naive = World::declared(|def| def.columns[0].column_type = "timestamp".parse().unwrap());
    let world = naive.await.fill().await;
    for zone in ["UTC", "Europe/Berlin"] {
        world.rows(&format!("SET timezone = '{zone}'")).await;
        for sql in [
            "SELECT date_trunc('hour', ts), kind, count(*), sum(amount) FROM events GROUP BY 1, 2",
            "SELECT count(*) FROM events WHERE ts >= '2026-03-01 02:00:30' AND ts < '2026-03-01 10:11:12.5'",
            "SELECT extract(hour from ts), last(user_id, ts) FROM events WHERE ts::date = '2026-03-01' GROUP BY 1",
            "SELECT count(*) FILTER (WHERE ts < '2026-03-01 05:00:10'), count(*) FROM events",
        ] {
            served(&world, sql, &[]).await;
        }
    }
}
