//! What a session keeps, how statements fail and stop, cursors and parameters.

use std::time::Duration;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use otus_engine::types::PG_TYPE_KEY;

use super::world::{World, rows_of, text};
use crate::{Outcome, Report, SessionOptions, SqlConfig, SqlError, TransactionStatus};

/// Long enough that it cannot end by itself during a test.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 2000000) a(x), generate_series(1, 2000000) b(y) WHERE x * y = 7";

#[tokio::test]
async fn errors_carry_their_sqlstate() {
    let world = World::filled().await;
    let check = async |sql: &str, state: &str, part: &str| {
        let e = world.error(sql).await;
        assert_eq!(e.sqlstate, state, "{sql}: {e:?}");
        assert!(e.message.contains(part), "{sql}: {e:?}");
    };
    check("SELECT * FROM nope", "42P01", "relation \"nope\" does not exist").await;
    check("SELECT nope FROM events", "42703", "column \"nope\" does not exist").await;
    check("SELECT e.nope FROM events e", "42703", "column e.nope does not exist").await;
    check("SELECT nope(1)", "42883", "function nope() does not exist").await;
    check("SELECT 1/0", "22012", "division by zero").await;
    check("SELECT user_id / (user_id - user_id) FROM events", "22012", "division by zero").await;
    check("SELECT 'x'::int", "22P02", "invalid input syntax for type integer: \"x\"").await;
    check("SELECT sum(kind) FROM events", "42883", "sum(text)").await;
    check("SELECT kind, count(*) FROM events", "42803", "GROUP BY").await;
    check("SELECT (SELECT user_id FROM events)", "21000", "more than one row").await;
    check("SELECT * FORM events", "42601", "syntax error at or near \"events\"").await;
    check("SET nonsense = 1", "42704", "unrecognized configuration parameter").await;
    check("SELECT * FROM read_csv('/etc/passwd')", "42883", "read_csv").await;
    check("SELECT * FROM '/etc/passwd'", "42601", "syntax error").await;
    let e = world.error("SELECT mixedCase FROM events").await;
    assert_eq!(e.sqlstate, "42703");
    assert!(e.hint.unwrap_or_default().contains("\"mixedCase\""));
}

#[tokio::test]
async fn deep_expressions_are_planned_or_refused() {
    let world = World::new().await;
    let sum = format!("SELECT 1{}", "+1".repeat(700));
    assert_eq!(world.value(&sum).await, "701");
    let or =
        format!("SELECT count(*) FROM events WHERE user_id = 1{}", " OR user_id = 2".repeat(450));
    assert_eq!(world.value(&or).await, "0");
    let nested = format!("SELECT {}1{}", "(".repeat(99), ")".repeat(99));
    assert_eq!(world.value(&nested).await, "1");
    assert_eq!(world.error(&format!("SELECT 1{}", "+1".repeat(1_001))).await.sqlstate, "54001");
}

#[tokio::test]
async fn a_statement_stops_when_cancelled_or_out_of_time() {
    let world = World::new().await;
    let handle = world.session.cancel_handle();
    let killer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        handle.cancel();
    });
    let begun = std::time::Instant::now();
    let e = world.error(LONG).await;
    assert_eq!(e, SqlError::canceled());
    killer.await.unwrap();
    // Both query threads are free again.
    for _ in 0..4 {
        assert_eq!(world.value("SELECT 1").await, "1");
    }
    world.rows("SET statement_timeout = 200").await;
    let e = world.error(LONG).await;
    assert_eq!(e, SqlError::timed_out());
    assert!(begun.elapsed() < Duration::from_secs(10));
    world.rows("SET statement_timeout = 0").await;
    assert_eq!(world.value("SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_lifts_the_limit_of_all() {
    let limit = Some(Duration::from_millis(200));
    let world =
        World::with(SqlConfig { threads: 2, statement_timeout: limit, ..SqlConfig::default() })
            .await;
    for own in ["0", "'1h'"] {
        world.rows(&format!("SET statement_timeout = {own}")).await;
        assert_eq!(world.error(LONG).await, SqlError::timed_out(), "{own}");
    }
}

#[tokio::test]
async fn settings_belong_to_one_session() {
    let world = World::filled().await;
    let other = world.engine.session(SessionOptions::default());
    world.rows("SET TimeZone = 'Europe/Berlin'").await;
    assert_eq!(world.value("SHOW timezone").await, "Europe/Berlin");
    assert_eq!(rows_of(&other, "SHOW TIME ZONE").await.unwrap(), [["UTC"]]);
    let told = world.session.take_reports();
    assert!(
        told.contains(&Report::Parameter {
            name: "TimeZone".into(),
            value: "Europe/Berlin".into()
        })
    );
    assert_eq!(world.value("SELECT current_setting('timezone')").await, "Europe/Berlin");
    assert_eq!(world.value("SELECT current_user").await, "ann");
    assert!(world.value("SELECT version()").await.starts_with("PostgreSQL "));
    world.rows("SET search_path = otus").await;
    assert_eq!(world.value("SELECT count(*) > 0 FROM segments").await, "true");
    assert_eq!(world.error("SELECT * FROM events").await.sqlstate, "42P01");
    assert_eq!(world.value("SELECT count(*) FROM public.events").await, "3200");
    world.rows("DISCARD ALL").await;
    assert_eq!(world.value("SELECT count(*) FROM events").await, "3200");
    assert_eq!(
        world.value("SELECT pg_backend_pid()").await,
        world.session.backend_pid().to_string()
    );
}

#[tokio::test]
async fn transactions_hold_settings_and_snapshots() {
    let world = World::filled().await;
    world.rows("BEGIN; SET LOCAL statement_timeout = 1000").await;
    assert_eq!(world.session.transaction_status(), TransactionStatus::Open);
    assert_eq!(world.value("SHOW statement_timeout").await, "1000");
    world.error("SELECT nope").await;
    assert_eq!(world.session.transaction_status(), TransactionStatus::Failed);
    assert_eq!(world.error("SELECT 1").await.sqlstate, "25P02");
    assert_eq!(world.rows("COMMIT").await, [["ROLLBACK"]]);
    assert_eq!(world.value("SHOW statement_timeout").await, "0");
    world.rows("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    assert_eq!(world.value("SELECT count(*) FROM events").await, "3200");
    world.append(5);
    assert_eq!(world.value("SELECT count(*) FROM events").await, "3200");
    world.rows("SAVEPOINT a").await;
    world.error("SELECT nope").await;
    world.rows("ROLLBACK TO a").await;
    assert_eq!(world.value("SELECT count(*) FROM events").await, "3200");
    world.rows("COMMIT").await;
    assert_eq!(world.value("SELECT count(*) FROM events").await, "3205");
}

#[tokio::test]
async fn a_cursor_reads_one_snapshot_in_pieces() {
    let world = World::filled().await;
    world.rows("BEGIN; DECLARE c CURSOR FOR SELECT _offset FROM events ORDER BY 1").await;
    world.append(10);
    world.dataset.flush().await.unwrap();
    assert_eq!(world.rows("FETCH 2 FROM c").await, [["0"], ["1"]]);
    assert_eq!(world.rows("FETCH NEXT FROM c").await, [["2"]]);
    assert_eq!(world.rows("FETCH FORWARD 0 FROM c").await, [["2"]], "the same row again");
    assert_eq!(world.rows("FETCH ALL FROM c").await.len(), 3_197);
    assert!(world.rows("FETCH ALL FROM c").await.is_empty());
    world.rows("CLOSE c").await;
    assert_eq!(world.error("FETCH c").await.sqlstate, "34000");
    world.rows("ROLLBACK").await;
    world.rows("DECLARE h CURSOR WITH HOLD FOR SELECT 1, 1").await;
    assert_eq!(world.rows("FETCH h").await, [["1", "1"]]);
    assert_eq!(world.error("DECLARE n CURSOR FOR SELECT 1").await.sqlstate, "25P01");
    world.clock.advance(2 * 3_600_000_000);
    assert_eq!(world.error("FETCH h").await.sqlstate, "72000");
}

#[tokio::test]
async fn types_of_parameters_come_from_where_they_stand() {
    let world = World::filled().await;
    let types = async |sql: &str| {
        let list = world.session.parse(sql).unwrap();
        let described = world.session.describe(&list[0], &[]).await;
        let params = described.unwrap_or_else(|e| panic!("{sql}: {e:?}")).params;
        params.iter().map(|field| field.data_type().clone()).collect::<Vec<_>>()
    };
    assert_eq!(types("SELECT * FROM events WHERE user_id = $1").await, [DataType::Int64]);
    assert_eq!(
        types("SELECT * FROM events WHERE kind = $1 LIMIT $2").await,
        [DataType::Utf8, DataType::Int64]
    );
    assert_eq!(types("SELECT $1::int").await, [DataType::Int32]);
    assert_eq!(types("SELECT $1").await, [DataType::Utf8]);
    let any = types("SELECT * FROM events WHERE user_id = ANY($1)").await;
    assert!(
        matches!(&any[0], DataType::List(item) if *item.data_type() == DataType::Int64),
        "{any:?}"
    );
    let list = world
        .session
        .parse("SELECT count(*), $2 FROM events WHERE user_id < $1 AND ts > $3")
        .unwrap();
    let described = world.session.describe(&list[0], &[]).await.unwrap();
    let names: Vec<_> =
        described.schema.unwrap().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["count", "?column?"]);
    let ts = ScalarValue::Utf8(Some("2026-03-01T10:00:00Z".into()));
    let params = vec![ScalarValue::Int64(Some(10)), ScalarValue::Utf8(Some("x".into())), ts];
    let Outcome::Rows { mut stream, schema, .. } =
        world.session.execute(&list[0], params).await.unwrap()
    else {
        panic!("rows were expected")
    };
    assert_eq!(schema.field(1).name(), "?column?");
    assert_eq!(text(&stream.next().await.unwrap().unwrap())[0][1], "x");
}

#[tokio::test]
async fn prepared_statements_see_new_rows() {
    let world = World::filled().await;
    world.rows("PREPARE p (bigint) AS SELECT count(*) FROM events WHERE user_id >= $1").await;
    assert_eq!(world.value("EXECUTE p(0)").await, "3200");
    world.append(3);
    world.dataset.flush().await.unwrap();
    assert_eq!(world.value("EXECUTE p(0)").await, "3203");
    assert_eq!(world.error("EXECUTE p").await.sqlstate, "42601");
    world.rows("DEALLOCATE p").await;
    assert_eq!(world.error("EXECUTE p(0)").await.sqlstate, "26000");
}

#[tokio::test]
async fn rows_stream_and_stop_when_dropped() {
    let world = World::filled().await;
    let list = world.session.parse("SELECT * FROM events a, events b").unwrap();
    let Outcome::Rows { mut stream, .. } = world.session.execute(&list[0], vec![]).await.unwrap()
    else {
        panic!("rows were expected")
    };
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    drop(stream);
    for _ in 0..100 {
        if world.engine.memory_reserved() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the query still holds {} bytes", world.engine.memory_reserved());
}

#[tokio::test]
async fn now_is_the_beginning_of_the_transaction() {
    let world = World::filled().await;
    let minute = || world.clock.advance(60_000_000);
    let now =
        "SELECT now()::text, current_timestamp::text, localtimestamp::text, current_date::text";
    let at = |time: &str| {
        let day = "2026-03-31";
        [
            format!("{day} {time}+00"),
            format!("{day} {time}+00"),
            format!("{day} {time}"),
            day.into(),
        ]
    };
    let past = "SELECT count(*) FROM events WHERE ts < now() - interval '30 days'";
    minute();
    assert_eq!(world.rows(now).await, [at("00:01:00")]);
    assert_eq!(world.value(past).await, "3");
    minute();
    assert_eq!(world.rows(now).await, [at("00:02:00")]);
    assert_eq!(world.value(past).await, "6");
    world.rows("BEGIN").await;
    minute();
    assert_eq!(world.rows(now).await, [at("00:02:00")]);
    assert_eq!(world.value("SELECT statement_timestamp()::text").await, "2026-03-31 00:03:00+00");
    world.rows("COMMIT").await;
    assert_eq!(world.rows(now).await, [at("00:03:00")]);
    assert_eq!(world.value(past).await, "9");
}

#[tokio::test]
async fn casts_tell_the_types_of_parameters() {
    let world = World::filled().await;
    let marks = async |sql: &str| {
        let list = world.session.parse(sql).unwrap();
        let described = world.session.describe(&list[0], &[]).await;
        let params = described.unwrap_or_else(|e| panic!("{sql}: {e:?}")).params;
        let mark = |f: &FieldRef| f.metadata().get(PG_TYPE_KEY).cloned().unwrap_or_default();
        params.iter().map(mark).collect::<Vec<_>>()
    };
    assert_eq!(marks("SELECT $1::uuid").await, ["uuid"]);
    assert_eq!(marks("SELECT $1::jsonb, $2::json").await, ["jsonb", "json"]);
    assert_eq!(marks("SELECT coalesce($1::uuid, gen_random_uuid()) = $1").await, ["uuid"]);
    assert_eq!(marks("SELECT '{}'::jsonb @> $1, $2 <@ '{}'::jsonb").await, ["jsonb", "jsonb"]);
    let list = world.session.parse("SELECT $1::oid").unwrap();
    let described = world.session.describe(&list[0], &[]).await.unwrap();
    assert_eq!(*described.params[0].data_type(), DataType::UInt32);
}

#[tokio::test]
async fn settings_that_a_client_makes_up_are_told_by_functions() {
    let world = World::filled().await;
    let my = "SELECT current_setting('my.var')";
    assert_eq!(world.error(my).await.sqlstate, "42704");
    assert_eq!(world.value("SELECT current_setting('my.var', true)").await, "NULL");
    world.rows("SET my.var = 'x'").await;
    assert_eq!(world.value(my).await, "x");
    assert_eq!(world.value("SELECT current_setting('MY.Var', true)").await, "x");
    assert_eq!(world.value("SHOW my.var").await, "x");
    world.session.take_reports();
    // Alone, a statement is a transaction that ends with it, and that is no reason to warn.
    assert_eq!(world.value("SELECT set_config('my.var', 'y', true)").await, "y");
    assert_eq!(world.session.take_reports(), []);
    assert_eq!(world.value(my).await, "x");
    assert_eq!(world.value("SELECT set_config('my.other', 'y', true)").await, "y");
    assert_eq!(world.value("SELECT current_setting('my.other')").await, "");
    world.rows("BEGIN").await;
    assert_eq!(world.value("SELECT set_config('my.var', 'y', true)").await, "y");
    assert_eq!(world.value("SELECT set_config('my.new', 'z', true)").await, "z");
    assert_eq!(world.value(my).await, "y");
    world.rows("COMMIT").await;
    assert_eq!(world.value(my).await, "x");
    assert_eq!(world.value("SELECT current_setting('my.new')").await, "");
    world.rows("RESET my.var").await;
    assert_eq!(world.value(my).await, "");
    world.rows("SET my.var = 'x'").await;
    world.rows("RESET ALL").await;
    assert_eq!(world.value(my).await, "");
}

#[tokio::test]
async fn a_role_of_a_transaction_alone_is_refused_as_any() {
    let world = World::filled().await;
    for sql in [
        "SET LOCAL ROLE root",
        "SET LOCAL SESSION AUTHORIZATION root",
        "SET ROLE root",
        "SELECT set_config('role', 'root', true)",
        "SELECT set_config('role', 'root', false)",
    ] {
        assert_eq!(world.error(sql).await.sqlstate, "42501", "{sql}");
        world.rows("BEGIN").await;
        assert_eq!(world.error(sql).await.sqlstate, "42501", "{sql}");
        world.rows("ROLLBACK").await;
    }
    assert_eq!(world.error("SET LOCAL statement_timeout = 'soon'").await.sqlstate, "22023");
}

#[tokio::test]
async fn modes_of_a_transaction_are_fixed_by_its_first_query() {
    let world = World::filled().await;
    world.rows("BEGIN READ ONLY").await;
    world.rows("SHOW TimeZone").await;
    world.rows("SET TRANSACTION READ WRITE; SET TRANSACTION READ ONLY").await;
    world.rows("SELECT 1").await;
    world.rows("SET TRANSACTION READ ONLY").await;
    let e = world.error("SET TRANSACTION READ WRITE").await;
    assert_eq!(e.sqlstate, "25001");
    assert_eq!(e.message, "transaction read-write mode must be set before any query");
    world.rows("ROLLBACK; BEGIN READ ONLY; SELECT 1").await;
    assert_eq!(world.error("SET transaction_read_only = off").await.sqlstate, "25001");
    world.rows("ROLLBACK; BEGIN; SELECT 1; SET TRANSACTION READ ONLY").await;
    assert_eq!(world.value("SHOW transaction_read_only").await, "on");
    world.rows("ROLLBACK; BEGIN READ ONLY; SAVEPOINT a").await;
    assert_eq!(world.error("SET TRANSACTION READ WRITE").await.sqlstate, "25001");
    world.rows("ROLLBACK; BEGIN; SELECT 1").await;
    world.rows("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await;
    let later = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
    assert_eq!(world.error(later).await.sqlstate, "25001");
    world.rows("ROLLBACK").await;
}
