//! Instants in a session whose zone is not UTC, spans and seconds, as Postgres 15 answers.

use super::world::World;

#[tokio::test]
async fn casts_follow_the_zone_of_the_session() {
    let world = World::filled().await;
    world.rows("SET timezone = 'Pacific/Pago_Pago'").await;
    let at = "timestamptz '2026-03-01 03:00:03.416Z'";
    for (sql, wanted) in [
        (format!("SELECT ({at})::timestamp"), "2026-02-28T16:00:03.416"),
        (format!("SELECT ({at})::date"), "2026-02-28"),
        (format!("SELECT ({at})::time"), "16:00:03.416"),
        (format!("SELECT ({at})::text"), "2026-02-28 16:00:03.416-11"),
        (format!("SELECT 'at ' || {at}"), "at 2026-02-28 16:00:03.416-11"),
        ("SELECT (timestamp '2026-03-01 03:00')::timestamptz".into(), "2026-03-01T14:00:00Z"),
        ("SELECT (date '2026-03-01')::timestamptz".into(), "2026-03-01T11:00:00Z"),
        ("SELECT min(ts)::timestamp FROM events".into(), "2026-02-28T13:00:00"),
        ("SELECT min(ts)::text FROM events".into(), "2026-02-28 13:00:00-11"),
        ("SELECT count(*) FROM events WHERE ts < date '2026-03-01'".into(), "1980"),
        ("SELECT count(*) FROM events WHERE ts < timestamp '2026-03-01'".into(), "1980"),
        ("SELECT count(*) FROM events WHERE ts < '2026-03-01'".into(), "1980"),
        ("SELECT count(*) FROM events WHERE ts::date = date '2026-02-28'".into(), "1980"),
        ("SELECT localtimestamp".into(), "2026-03-30T13:00:00"),
        ("SELECT now()::timestamp".into(), "2026-03-30T13:00:00"),
        ("SELECT current_date".into(), "2026-03-30"),
    ] {
        assert_eq!(world.value(&sql).await, wanted, "{sql}");
    }
    world.rows("PREPARE days(timestamptz) AS SELECT count(*) FROM events WHERE ts < $1").await;
    assert_eq!(world.value("EXECUTE days('2026-03-01')").await, "1980");
    // The column is compared as it is stored, so that files are pruned.
    for condition in
        ["ts < date '2026-03-01'", "ts BETWEEN date '2026-02-28' AND date '2026-03-01'"]
    {
        let plan = world.explain(&format!("SELECT count(*) FROM events WHERE {condition}")).await;
        assert!(!plan.contains("timezone("), "{condition}\n{plan}");
    }
    world.rows("SET timezone = 'UTC'").await;
    assert_eq!(
        world.value("SELECT (timestamptz '2026-03-01 03:00Z')::text").await,
        "2026-03-01 03:00:00+00"
    );
    assert_eq!(
        world.value("SELECT (timestamp '2026-03-01 03:00:00.5')::text").await,
        "2026-03-01 03:00:00.5"
    );
}

#[tokio::test]
async fn a_day_later_is_the_same_time_of_the_zone() {
    let world = World::filled().await;
    world.rows("SET timezone = 'Europe/Berlin'").await;
    for (sql, wanted) in [
        ("timestamptz '2026-03-28 12:00' + interval '1 day'", "2026-03-29T10:00:00Z"),
        ("interval '1 day' + timestamptz '2026-03-28 12:00'", "2026-03-29T10:00:00Z"),
        ("timestamptz '2026-03-28 12:00' + interval '24 hours'", "2026-03-29T11:00:00Z"),
        ("timestamptz '2026-03-29 12:00' - interval '1 day'", "2026-03-28T11:00:00Z"),
        ("timestamptz '2026-03-31 12:00' - interval '1 month'", "2026-02-28T11:00:00Z"),
        (
            "date_trunc('day', timestamptz '2026-03-29 12:00') + interval '1 day'",
            "2026-03-29T22:00:00Z",
        ),
        ("timestamp '2026-03-28 12:00' + interval '1 day'", "2026-03-29T12:00:00"),
    ] {
        assert_eq!(world.value(&format!("SELECT {sql}")).await, wanted, "{sql}");
    }
    // 02:30 came twice: the first time is before the local time, which means the second.
    let twice = "SELECT timestamptz '2026-10-25 02:30+02' < timestamp '2026-10-25 02:10'";
    assert_eq!(world.value(twice).await, "true");
    let moved = "SELECT count(*) FROM events WHERE ts + interval '1 day' >= '2026-03-02 01:00:20'";
    assert_eq!(world.value(moved).await, "3199");
}

#[tokio::test]
async fn seconds_keep_their_fraction() {
    let world = World::filled().await;
    for (sql, wanted) in [
        ("extract(second from timestamp '2026-01-01 00:00:01.75')", "1.750000"),
        ("extract(century from timestamp '2000-12-31')", "20"),
        ("extract(decade from date '1999-12-31')", "199"),
        ("extract(millennium from timestamp '2001-01-01')", "3"),
        ("extract(timezone_hour from timestamptz '2026-01-01Z')", "0"),
        ("extract(milliseconds from timestamp '2026-01-01 00:00:01.75')", "1750.000"),
        ("date_part('seconds', timestamptz '2026-01-01 00:00:59.999999Z')", "59.999999"),
        ("extract(minute from timestamp '2026-01-01 00:07:01.75')", "7"),
        ("extract(epoch from interval '1 day 00:06:29.634')", "86789.634000"),
        (
            "extract(epoch from timestamp '2026-01-02 00:00:01.5' - timestamp '2026-01-01')",
            "86401.500000",
        ),
        ("extract(second from interval '-00:00:01.5')", "-1.500000"),
        ("extract(epoch from interval '1 year 1 month')", "34149600.000000"),
        ("extract(epoch from timestamptz '1970-01-02 00:00:00.25Z')", "86400.250000"),
    ] {
        assert_eq!(world.value(&format!("SELECT {sql}")).await, wanted, "{sql}");
    }
    let spans = "SELECT avg(extract(epoch from (ts + interval '0.5 seconds') - ts)) FROM events";
    assert_eq!(world.value(spans).await, "0.5000000000000000");
}

#[tokio::test]
async fn spans_and_patterns_are_spelled_as_in_postgres() {
    let world = World::filled().await;
    for (sql, wanted) in [
        ("interval '03:04:05' = interval '3 hours 4 minutes 5 seconds'", "true"),
        ("'1 month 2 days 03:04:05.678'::interval > interval '1 month 2 days 3 hours'", "true"),
        ("timestamp '2026-01-01' + interval '1 day 03:04:05'", "2026-01-02T03:04:05"),
        ("date '2026-01-01' + interval '36 hours'", "2026-01-02T12:00:00"),
        ("timestamp '2026-01-02 01:00' - timestamp '2026-01-01' > interval '1 day'", "true"),
        ("timestamp '2026-07-30' - timestamp '2026-01-01' <= interval '7 days'", "false"),
        ("interval '1 day' = interval '24 hours'", "true"),
        ("interval '1 month' BETWEEN interval '29 days' AND interval '31 days'", "true"),
        ("interval '25 hours' > interval '1 day'", "true"),
        ("interval '1 day' + date '2026-01-01'", "2026-01-02T00:00:00"),
        ("date '2026-01-31' - interval '1 minute'", "2026-01-30T23:59:00"),
        ("pg_typeof(date '2026-01-01' + interval '1 day')", "timestamp without time zone"),
        ("date '2026-01-31' - 1", "2026-01-30"),
        ("'abc' SIMILAR TO '%b%'", "true"),
        ("'abc' SIMILAR TO 'b'", "false"),
        ("'abc' NOT SIMILAR TO '_(b|d)_'", "false"),
        ("'a.c' SIMILAR TO 'a.c'", "true"),
        ("'abc' SIMILAR TO 'a.c'", "false"),
    ] {
        assert_eq!(world.value(&format!("SELECT {sql}")).await, wanted, "{sql}");
    }
}
