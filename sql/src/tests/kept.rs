//! Plans that are kept from one execution to the next. The oracle is the same statement under a text that runs
//! for the first time.

use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use otus_engine::catalog::{ColumnDef, MeasureDef};

use super::access;
use super::world::{BASE_US, STEP_US, World, rows_of, text};
use crate::{Outcome, Session, SqlError};

pub(super) type Answer = Result<Vec<Vec<String>>, String>;

/// Runs one statement with parameters.
pub(super) async fn run(session: &Session, sql: &str, params: &[ScalarValue]) -> Answer {
    let of = |e: SqlError| e.sqlstate.to_owned();
    let statement = session.parse(sql).map_err(of)?.remove(0);
    let outcome = session.execute(&statement, params.to_vec()).await.map_err(of)?;
    let Outcome::Rows { mut stream, .. } = outcome else { panic!("{sql}") };
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        rows.extend(text(&batch.map_err(|e| of(e.into()))?));
    }
    Ok(rows)
}

/// The same planned anew.
pub(super) async fn anew(session: &Session, sql: &str, params: &[ScalarValue]) -> Answer {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    run(session, &format!("WITH anew_{number} AS (SELECT 1) {sql}"), params).await
}

/// A world whose table has no rollup.
pub(super) async fn world() -> World {
    World::declared(|def| def.rollups.clear()).await.fill().await
}

pub(super) fn at(row: i64) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(BASE_US + row * STEP_US), Some("UTC".into()))
}

pub(super) fn whole(value: i64) -> ScalarValue {
    ScalarValue::Int64(Some(value))
}

pub(super) fn words(value: &str) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

/// Runs a statement until its plan is kept, if it may be.
pub(super) async fn warm(world: &World, sql: &str, params: &[ScalarValue]) -> bool {
    let before = world.engine.kept().len();
    for _ in 0..4 {
        assert_eq!(
            run(&world.session, sql, params).await,
            anew(&world.session, sql, params).await,
            "{sql}"
        );
    }
    world.engine.kept().len() > before
}

const RANGE: &str = "SELECT count(*), sum(user_id) FROM events WHERE ts >= $1 AND ts < $2";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_answers_for_other_values() {
    let world = world().await;
    let ranges = [(0, 3_200), (100, 112), (1_490, 1_510), (2_990, 3_100), (-9, 0), (5, 5), (9, 3)];
    let ranges = ranges.map(|(from, to)| vec![at(from), at(to)]);
    let numbers = [0, 1, 50, 96, 97, -1, i64::MAX].map(|n| vec![whole(n)]);
    let names = ["kind number 1", "kind number 4", "", "no"].map(|name| vec![words(name)]);
    let none: [Vec<ScalarValue>; 1] = [vec![]];
    let cases: [(&str, &[Vec<ScalarValue>]); 14] = [
        (RANGE, &ranges),
        (
            "SELECT kind, count(*) FROM events WHERE ts >= $1 AND ts < $2 GROUP BY kind ORDER BY kind",
            &ranges,
        ),
        ("SELECT * FROM events WHERE ts >= $1 AND ts < $2 ORDER BY ts LIMIT 5", &ranges),
        ("SELECT min(score), max(ts) FROM events WHERE ts BETWEEN $1 AND $2", &ranges),
        ("SELECT count(*) FROM events WHERE user_id = $1", &numbers),
        ("SELECT count(*) FROM events WHERE user_id <> $1 AND ok", &numbers),
        (
            "SELECT user_id, count(*) FROM events WHERE user_id < $1 GROUP BY user_id HAVING count(*) > 30 ORDER BY 1",
            &numbers,
        ),
        ("SELECT count(*) FROM events WHERE kind = $1", &names),
        ("SELECT count(*) FROM events WHERE kind <> $1 OR kind IS NULL", &names),
        ("SELECT ts, score FROM events WHERE kind = $1 ORDER BY ts DESC LIMIT 3", &names),
        ("SELECT 1", &none),
        ("SELECT count(*) FROM events", &none),
        ("SELECT 'a' AS x, 2 AS y, NULL AS z", &none),
        (
            "SELECT a.kind, count(*) FROM events a JOIN events b ON a.ts = b.ts WHERE a.user_id = $1 GROUP BY 1 ORDER BY 1",
            &numbers,
        ),
    ];
    for (sql, values) in cases {
        assert!(warm(&world, sql, &values[0]).await, "{sql} is not kept");
        for params in values {
            let (kept, new) = (run(&world.session, sql, params), anew(&world.session, sql, params));
            assert_eq!(kept.await, new.await, "{sql} {params:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_on_more_than_its_key_is_not_kept() {
    let world = world().await;
    for sql in [
        "SELECT now()",
        "SELECT count(*) FROM events WHERE ts < now()",
        "SELECT count(*) FROM events WHERE ts < current_timestamp - interval '1 day'",
        "SELECT clock_timestamp() IS NULL",
        "SELECT current_date",
        "SELECT 'now'::timestamptz",
        "SELECT 'today'::date",
        "SELECT count(*) FROM events WHERE ts < 'tomorrow'::timestamptz",
        "SELECT random() < 2",
        "SELECT current_setting('TimeZone')",
        "SELECT set_config('my.own', 'x', false)",
        "SELECT current_user",
        "SELECT pg_backend_pid()",
        "SELECT relname FROM pg_class ORDER BY 1",
        "SELECT 'events'::regclass",
        "SELECT count(*) FROM otus.tables",
        "SELECT repeat('a', 3)",
        "SELECT count(*) FROM events WHERE user_id > (SELECT avg(user_id) FROM events)",
        "SELECT count(*) FROM events WHERE EXISTS (SELECT 1 FROM events)",
    ] {
        assert!(!warm(&world, sql, &[]).await, "{sql}");
    }
    let limited = "SELECT ts FROM events ORDER BY ts LIMIT $1";
    warm(&world, limited, &[whole(3)]).await;
    for count in [0, 1, 5] {
        assert_eq!(
            run(&world.session, limited, &[whole(count)]).await.unwrap().len() as i64,
            count
        );
    }
    let before = run(&world.session, "SELECT now()::text", &[]).await;
    world.clock.advance(1_000_000);
    assert_ne!(run(&world.session, "SELECT now()::text", &[]).await, before);
    // Rollups choose by time, so that their tables are planned each time.
    let with_rollups = World::filled().await;
    assert!(!warm(&with_rollups, RANGE, &[at(0), at(3_000)]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_reads_the_snapshot_of_its_statement() {
    let world = world().await;
    let params = [at(0), at(10_000)];
    assert!(warm(&world, RANGE, &params).await);
    let count = async || run(&world.session, RANGE, &params).await.unwrap()[0][0].clone();
    assert_eq!(count().await, "3200");
    world.append(10);
    assert_eq!(count().await, "3210");
    let before = world.dataset.snapshot();
    world.dataset.flush().await.unwrap();
    let after = world.dataset.snapshot();
    assert!(std::sync::Arc::ptr_eq(before.catalog(), after.catalog()), "the same definitions");
    assert_eq!(count().await, "3210");
    world.append(1_000);
    assert_eq!(count().await, "4210");
    world.rows("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    assert_eq!(count().await, "4210");
    world.append(5);
    assert_eq!(count().await, "4210", "one snapshot for all statements");
    world.rows("COMMIT").await;
    assert_eq!(count().await, "4215");
    assert_eq!(world.engine.kept().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_gone_are_told_of() {
    let world = world().await;
    let params = [at(0), at(10_000)];
    assert!(warm(&world, RANGE, &params).await);
    let day = 86_400_000_000;
    world.append_at(BASE_US + day);
    assert_eq!(run(&world.session, RANGE, &params).await.unwrap()[0][0], "3201");
    let table = world.dataset.snapshot().table("public", "events").unwrap().id;
    world.dataset.advance_horizon(table, BASE_US + day).await.unwrap();
    world.session.take_reports();
    for _ in 0..4 {
        assert_eq!(run(&world.session, RANGE, &params).await.unwrap()[0][0], "1");
        assert_eq!(world.session.take_reports().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_definitions_have_other_plans() {
    let world = world().await;
    let all = "SELECT * FROM events WHERE ts >= $1 ORDER BY ts LIMIT 1";
    assert!(warm(&world, all, &[at(7)]).await);
    assert!(warm(&world, RANGE, &[at(0), at(9)]).await);
    let before = run(&world.session, all, &[at(7)]).await.unwrap()[0].len();
    let with_column = |def: &mut otus_engine::catalog::TableDef| {
        def.rollups.clear();
        def.columns.push(ColumnDef::new("added", "bigint".parse().unwrap()));
        def.measures.push(MeasureDef::new("more", "sum(added)"));
    };
    world.declare(with_column).await;
    assert_eq!(run(&world.session, all, &[at(7)]).await.unwrap()[0].len(), before + 1);
    assert_eq!(run(&world.session, RANGE, &[at(0), at(9)]).await.unwrap()[0][0], "9");
    warm(&world, RANGE, &[at(0), at(9)]).await;
    assert_eq!(world.engine.kept().len(), 1, "plans over definitions that are gone are let go");
    // With a rollup there is more to choose from.
    world.declare(|_| ()).await;
    assert_eq!(run(&world.session, RANGE, &[at(0), at(9)]).await.unwrap()[0][0], "9");
    world.rows("SET otus.rollups = force").await;
    assert_eq!(run(&world.session, RANGE, &[at(0), at(9)]).await.unwrap()[0][0], "9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_settings_have_other_plans() {
    let world = world().await;
    let days = "SELECT date_trunc('day', ts) AS day, count(*) FROM events WHERE user_id = $1 GROUP BY 1 ORDER BY 1";
    let hour = "SELECT count(*) FROM events WHERE extract(hour FROM ts) = 3 AND user_id < $1";
    let date = "SELECT count(*) FROM events WHERE ts < '2026-03-01 05:00' AND user_id < $1";
    for sql in [days, hour, date] {
        assert!(warm(&world, sql, &[whole(7)]).await, "{sql}");
        let utc = run(&world.session, sql, &[whole(7)]).await;
        for zone in ["Asia/Tokyo", "America/New_York", "UTC"] {
            world.rows(&format!("SET TimeZone = '{zone}'")).await;
            for _ in 0..5 {
                let kept = run(&world.session, sql, &[whole(7)]).await;
                assert_eq!(kept, anew(&world.session, sql, &[whole(7)]).await, "{zone} {sql}");
                assert!(kept != utc || zone == "UTC" || sql == hour, "{zone} {sql}");
            }
        }
    }
    world.rows("SET otus.rollups = force").await;
    assert!(run(&world.session, RANGE, &[at(0), at(9)]).await.is_err());
    world.rows("RESET otus.rollups").await;
    assert!(warm(&world, RANGE, &[at(0), at(9)]).await);
    world.rows("SET otus.rollups = force").await;
    assert!(run(&world.session, RANGE, &[at(0), at(9)]).await.is_err());
    world.rows("RESET otus.rollups").await;
    world.rows("SET search_path = otus").await;
    assert_eq!(run(&world.session, RANGE, &[at(0), at(9)]).await, Err("42P01".into()));
    world.rows("BEGIN; SET LOCAL search_path = public").await;
    assert!(run(&world.session, RANGE, &[at(0), at(9)]).await.is_ok());
    world.rows("ROLLBACK").await;
    assert_eq!(run(&world.session, RANGE, &[at(0), at(9)]).await, Err("42P01".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_of_parameters_are_part_of_the_key() {
    let world = world().await;
    let sql = "SELECT $1 AS x, count(*) FROM events WHERE user_id = 3 GROUP BY 1";
    let equal = "SELECT count(*) FROM events WHERE user_id = $1";
    let values = [
        whole(4),
        words("4"),
        ScalarValue::Int32(Some(4)),
        ScalarValue::Float64(Some(4.5)),
        ScalarValue::Decimal128(Some(400), 10, 2),
        ScalarValue::Int64(None),
        ScalarValue::Utf8(None),
    ];
    for _ in 0..4 {
        for value in &values {
            for sql in [sql, equal] {
                let params = std::slice::from_ref(value);
                let kept = run(&world.session, sql, params).await;
                assert_eq!(kept, anew(&world.session, sql, params).await, "{sql} {value:?}");
            }
        }
    }
    assert_eq!(run(&world.session, equal, &[ScalarValue::Int64(None)]).await.unwrap(), [["0"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_shows_what_its_asker_may_see() {
    let world = access::world().await;
    world
        .dataset
        .apply_tables(
            &[{
                let mut def = super::world::definition();
                def.rollups.clear();
                def
            }],
            true,
        )
        .await
        .unwrap();
    let one = access::user(&world, &["kind"], &[("kind", "kind number 1")]);
    let two = access::user(&world, &["kind"], &[("kind", "kind number 2")]);
    let low = access::user(&world, &["low"], &[]);
    let narrow = access::user(&world, &["narrow_low"], &[]);
    let nothing = access::user(&world, &["nothing"], &[]);
    let sql = "SELECT count(*) FROM events WHERE ts >= $1";
    let wide = "SELECT count(*), sum(user_id) FROM events WHERE ts >= $1";
    let part = async |condition: &str, sql: &str| {
        let sql = sql.replace("WHERE", &format!("WHERE ({condition}) AND"));
        anew(&world.session, &sql, &[at(5)]).await
    };
    for _ in 0..6 {
        for (session, condition) in [
            (&world.session, "true"),
            (&one, "kind = 'kind number 1'"),
            (&two, "kind = 'kind number 2'"),
            (&low, "score < 200 AND user_id > 10"),
            (&narrow, "score < 200"),
        ] {
            let seen = run(session, sql, &[at(5)]).await;
            assert_eq!(seen, part(condition, sql).await, "{condition}");
            let seen = run(session, wide, &[at(5)]).await;
            match condition {
                "score < 200" => assert_eq!(seen, Err("42703".into())),
                condition => assert_eq!(seen, part(condition, wide).await, "{condition}"),
            }
        }
        assert_eq!(run(&nothing, sql, &[at(5)]).await, Err("42P01".into()));
    }
    assert!(world.engine.kept().len() > 2, "{}", world.engine.kept().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_plan_is_noted_and_stopped_as_any() {
    let world = world().await;
    assert!(warm(&world, RANGE, &[at(0), at(9)]).await);
    let asked = format!("SELECT count(*), max(rows) FROM otus.queries WHERE query = '{RANGE}'");
    assert_eq!(world.rows(&asked).await, [["4", "1"]]);
    let long = "SELECT a.ts FROM events a CROSS JOIN events b WHERE a.user_id < $1";
    let statement = world.session.parse(long).unwrap().remove(0);
    for _ in 0..5 {
        let outcome = world.session.execute(&statement, vec![whole(96)]).await.unwrap();
        let Outcome::Rows { mut stream, .. } = outcome else { panic!() };
        stream.next().await.unwrap().unwrap();
        world.session.cancel_handle().cancel();
        let ended = stream.next().await.unwrap();
        assert_eq!(SqlError::from(ended.unwrap_err()).sqlstate, "57014");
    }
    rows_of(&world.session, "SET otus.cache_max_age = '1h'").await.unwrap();
    let (first, again) = (run(&world.session, RANGE, &[at(0), at(9)]).await, at(8));
    world.append(1);
    assert_eq!(run(&world.session, RANGE, &[at(0), at(9)]).await, first);
    assert_ne!(run(&world.session, RANGE, &[at(0), again]).await, first);
}
