//! Numbers and times as Postgres 15 answers, where the planner's own operators would answer otherwise.

use super::world::World;

#[tokio::test]
async fn numbers_that_do_not_fit_are_errors() {
    let world = World::filled().await;
    for (sql, state, message) in [
        ("SELECT 9223372036854775807 + 1", "22003", "bigint out of range"),
        ("SELECT -9223372036854775807 - 2", "22003", "bigint out of range"),
        ("SELECT 9223372036854775807 * 2", "22003", "bigint out of range"),
        ("SELECT 2147483647::int + 1::int", "22003", "integer out of range"),
        ("SELECT 32767::smallint * 2::smallint", "22003", "smallint out of range"),
        ("SELECT max(user_id + 9223372036854775800) FROM events", "22003", "bigint out of range"),
        ("SELECT count(*) FROM events WHERE user_id * 9223372036854775807 > 0", "22003", "bigint"),
        ("SELECT 1 / 0", "22012", "division by zero"),
        ("SELECT 1.5::numeric(3,1) / 0", "22012", "division by zero"),
        ("SELECT 1.5::double precision / 0", "22012", "division by zero"),
        ("SELECT 0.0 / 0.0", "22012", "division by zero"),
        ("SELECT sum(score / (user_id - user_id)) FROM events", "22012", "division by zero"),
        ("SELECT 5 % 0", "22012", "division by zero"),
        ("SELECT 300000::smallint", "22003", "out of range"),
    ] {
        let e = world.error(sql).await;
        assert_eq!(e.sqlstate, state, "{sql}: {e:?}");
        let said = e.message.contains(message);
        assert!(said || message == "out of range", "{sql}: {e:?}");
    }
    for (sql, wanted) in [
        ("SELECT 9223372036854775806 + 1", "9223372036854775807"),
        ("SELECT 7 / 2", "3"),
        ("SELECT -7 % 3", "-1"),
        ("SELECT NULL::double precision / 0", "NULL"),
        ("SELECT 'NaN'::double precision / 0", "NaN"),
        ("SELECT 2.5::double precision::int", "2"),
        ("SELECT 3.5::double precision::int", "4"),
        ("SELECT (-2.5)::numeric(3,1)::int", "-3"),
        ("SELECT 2.5::numeric(3,1)::bigint", "3"),
        ("SELECT max((score * 10)::int) FROM events", "7998"),
        ("SELECT count(DISTINCT user_id + 1) FROM events", "97"),
        ("SELECT 1::numeric / 3", "0.3333333333333333"),
        ("SELECT sum(user_id) / 7 FROM events WHERE user_id < 3", "14.1428571428571429"),
        ("SELECT sum(amount) / sum(events) FROM by_kind_day", "4.2337593750000000"),
        ("SELECT 1 + 2 * 3 - 4", "3"),
        ("SELECT (1 + 2) * 3 - 4", "5"),
        ("SELECT 10 - (4 - 3) - (2 - 1) * 2", "7"),
        ("SELECT 64::double precision / 4 / (8::double precision / 2)", "4.0"),
        ("SELECT max(user_id * 2 + 1 - user_id) FROM events", "97"),
    ] {
        assert_eq!(world.value(sql).await, wanted, "{sql}");
    }
    let grouped = "SELECT user_id + 1, count(*) FROM events WHERE user_id < 2 GROUP BY user_id + 1 ORDER BY 1";
    assert_eq!(world.rows(grouped).await, [["1", "33"], ["2", "33"]]);
}

/// A thousand terms are promised; when each nested in the one before, planning them took minutes.
#[tokio::test]
async fn a_thousand_terms_are_one_calculation() {
    let world = World::filled().await;
    let terms: Vec<_> = (0..490).map(|n| format!("user_id * {n}")).collect();
    let sum = format!("SELECT max({}) FROM events WHERE user_id = 1", terms.join(" + "));
    assert_eq!(world.value(&sum).await, "119805");
    let past = format!("SELECT max({}) FROM events", ["9223372036854775800"; 3].join(" + "));
    assert_eq!(world.error(&past).await.sqlstate, "22003");
}

#[tokio::test]
async fn at_time_zone_turns_instants_and_local_times_into_each_other() {
    let world = World::filled().await;
    for (sql, wanted) in [
        (
            "SELECT timestamptz '2026-07-01T12:00:00Z' AT TIME ZONE 'Europe/Berlin'",
            "2026-07-01T14:00:00",
        ),
        (
            "SELECT timestamp '2026-07-01 12:00' AT TIME ZONE 'Europe/Berlin'",
            "2026-07-01T10:00:00Z",
        ),
        ("SELECT timezone('utc', timestamp '2026-07-01 12:00')", "2026-07-01T12:00:00Z"),
        ("SELECT max(ts AT TIME ZONE 'Asia/Tokyo') FROM events", "2026-03-02T02:46:20"),
        (
            "SELECT count(*) FROM events WHERE (ts AT TIME ZONE 'Asia/Tokyo')::date = '2026-03-02'",
            "500",
        ),
        (
            "SELECT (ts AT TIME ZONE 'Asia/Tokyo') AT TIME ZONE 'Asia/Tokyo' = ts FROM events LIMIT 1",
            "true",
        ),
        ("SELECT NULL::timestamptz AT TIME ZONE 'UTC'", "NULL"),
    ] {
        assert_eq!(world.value(sql).await, wanted, "{sql}");
    }
    world.rows("SET TIME ZONE 'America/New_York'").await;
    // A text is an instant in the zone of the session first.
    let text = "SELECT '2026-07-01 12:00'::timestamptz AT TIME ZONE 'UTC'";
    assert_eq!(world.value(text).await, "2026-07-01T16:00:00");
    // Offsets count westwards, as in Postgres.
    for (zone, wanted) in [
        ("'+02:00'", "2026-07-01T14:00:00"),
        ("'EDT'", "2026-07-01T12:00:00"),
        ("interval '2 hours'", "2026-07-01T18:00:00"),
    ] {
        let sql = format!("SELECT timestamptz '2026-07-01 16:00Z' AT TIME ZONE {zone}");
        assert_eq!(world.value(&sql).await, wanted, "{sql}");
    }
    for zone in ["Mars", "+25:00", ""] {
        let e = world.error(&format!("SELECT now() AT TIME ZONE '{zone}'")).await;
        assert_eq!(e.sqlstate, "22023", "{e:?}");
        assert!(e.message.contains(&format!("\"{zone}\" not recognized")), "{e:?}");
    }
    // Postgres reads the sign of an offset the other way round: neither reading is safe.
    let e = world.error("SET TIME ZONE '+02:00'").await;
    assert_eq!(e.sqlstate, "22023", "{e:?}");
    assert!(e.hint.unwrap().contains("Europe/Berlin"));
}

#[tokio::test]
async fn to_char_takes_the_patterns_of_postgres() {
    let world = World::filled().await;
    for (sql, wanted) in [
        ("SELECT to_char(max(ts), 'YYYY-MM-DD HH24:MI:SS') FROM events", "2026-03-01 17:46:20"),
        ("SELECT to_char(date '2026-03-01', 'FMDay DDth Mon')", "Sunday 01st Mar"),
        ("SELECT to_char(sum(amount), 'FM999G999D00') FROM events WHERE user_id = 1", "127.83"),
        ("SELECT to_char(1234567, '9,999,999')", " 1,234,567"),
        ("SELECT to_char(0.5, 'FM990.0%')", "0.5%"),
        ("SELECT to_char(NULL::timestamptz, 'YYYY')", "NULL"),
        ("SELECT count(DISTINCT to_char(ts, 'HH24')) FROM events", "18"),
    ] {
        assert_eq!(world.value(sql).await, wanted, "{sql}");
    }
    world.rows("SET TIME ZONE 'Asia/Kolkata'").await;
    let told = "SELECT to_char(timestamptz '2026-03-01T00:00:00Z', 'HH24:MI TZ OF')";
    assert_eq!(world.value(told).await, "05:30 IST +05:30");
    let e = world.error("SELECT to_char(1, 'FM9EEEE')").await;
    assert_eq!((e.sqlstate, e.message.contains("EEEE")), ("22023", true), "{e:?}");
    for (sql, wanted) in [
        ("SELECT to_char(-12345.678, '9.99EEEE')", "-1.23e+04"),
        ("SELECT to_char(interval '1 day -3 hours', 'DD HH24:MI')", "01 -03:00"),
        ("SELECT to_char(1999, 'FMRN')", "MCMXCIX"),
        ("SELECT to_char(4000, 'RN')", "###############"),
        ("SELECT to_char(12.46, '99V9')", " 125"),
        ("SELECT to_number('1,234.5-', '9,999.9S')", "-1234.5"),
    ] {
        assert_eq!(world.value(sql).await, wanted, "{sql}");
    }
    let e = world.error("SELECT to_char(interval '1 day', 'Day')").await;
    assert_eq!(e.sqlstate, "22007", "{e:?}");
}

#[tokio::test]
async fn what_may_fail_stands_behind_the_conditions_beside_it() {
    let world = World::filled().await;
    // Users 0 and 1 have 33 rows each; for user 0 the division fails.
    for (sql, wanted) in [
        ("SELECT count(*) FROM events WHERE user_id <> 0 AND 100 / user_id > 50", "33"),
        ("SELECT count(*) FROM events WHERE 100 / user_id > 50 AND user_id <> 0", "33"),
        ("SELECT count(*) FROM events WHERE user_id = 0 OR 100 / user_id > 50", "66"),
        (
            "SELECT count(*) FROM events WHERE user_id <> 0 AND kind IS NULL AND 9e0 / user_id > 5",
            "3",
        ),
        (
            "SELECT count(*) FROM events WHERE CASE WHEN user_id <> 0 THEN 100 / user_id > 50 ELSE false END",
            "33",
        ),
        (
            "SELECT count(*) FROM (SELECT 100 / user_id AS r, user_id FROM events) e WHERE user_id <> 0 AND r > 50",
            "33",
        ),
        ("SELECT count(*) FROM events WHERE kind ~ '[0-9]$' AND right(kind, 1)::int = 1", "582"),
        ("SELECT sum(CASE WHEN user_id > 0 THEN 97 / user_id END) > 0 FROM events", "true"),
    ] {
        assert_eq!(world.value(sql).await, wanted, "{sql}");
    }
    let narrow = "SELECT (score + ids) / user_id, user_id FROM (SELECT *, user_id AS ids FROM events) e \
                  WHERE user_id <> 0";
    assert_eq!(world.rows(narrow).await.len(), 3_200 - 33);
    let e = world.error("SELECT 100 / user_id FROM events WHERE user_id < 2").await;
    assert_eq!(e.sqlstate, "22012", "{e:?}");
}

#[tokio::test]
async fn numbers_have_the_types_of_postgres() {
    let world = World::filled().await;
    for (sql, of) in [
        ("length(kind) * 2", "integer"),
        ("length(kind) / 2.0", "numeric"),
        ("length(kind) * 3000000000", "bigint"),
        ("user_id + 1", "bigint"),
        ("amount * 2", "numeric"),
        ("score * 1.5", "double precision"),
        ("1.5 * length(kind) * score", "double precision"),
        ("CASE WHEN ok THEN 1 ELSE 2 END", "integer"),
        ("CASE WHEN ok THEN 1 ELSE 2.5 END", "numeric"),
        ("CASE WHEN ok THEN 1.5 ELSE score END", "double precision"),
        ("coalesce(score, 0.5)", "double precision"),
        ("coalesce(length(kind), 0)", "integer"),
        ("greatest(amount, score)", "double precision"),
        ("round(score)", "double precision"),
        ("floor(amount)", "numeric"),
        ("sqrt(amount)", "numeric"),
        ("ln(amount + 1)", "numeric"),
        ("sign(amount)", "numeric"),
        ("2.0 ^ 3", "numeric"),
        ("power(score, 2)", "double precision"),
    ] {
        let sql = format!("SELECT pg_typeof({sql}) FROM events LIMIT 1");
        assert_eq!(world.value(&sql).await, of, "{sql}");
    }
    for (sql, expected) in [
        (
            "CASE WHEN ok THEN 0 ELSE 1.0 END / 3 FROM events WHERE NOT ok LIMIT 1",
            "0.3333333333333333",
        ),
        ("ceil(9.9)", "10"),
        ("round(2.5::float8)", "2.0"),
        ("round(-2.5)", "-3"),
        ("count(*) FROM events WHERE amount > 1e300::float8", "0"),
        (
            "pg_typeof(x) FROM (SELECT amount FROM events UNION ALL SELECT score FROM events) t (x) LIMIT 1",
            "double precision",
        ),
        ("pg_typeof(n) FROM (VALUES (1) UNION ALL VALUES (2)) t (n) LIMIT 1", "integer"),
    ] {
        assert_eq!(world.value(&format!("SELECT {sql}")).await, expected, "{sql}");
    }
    for (sql, state) in [
        ("sqrt(-1)", "2201F"),
        ("sqrt(-1.5)", "2201F"),
        ("ln(0.0)", "2201E"),
        ("log(2, -8)", "2201E"),
        ("factorial(-1)", "22003"),
        ("length(kind) * 2147483647 FROM events", "22003"),
    ] {
        assert_eq!(world.error(&format!("SELECT {sql}")).await.sqlstate, state, "{sql}");
    }
}
