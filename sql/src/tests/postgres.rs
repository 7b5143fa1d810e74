//! What Postgres says where the planner would say something else. Expected values are those of PostgreSQL.

use super::world::World;

#[tokio::test]
async fn distinct_from_binds_tighter_than_and() {
    let world = World::new().await;
    for (sql, expected) in [
        ("1 IS DISTINCT FROM 2 AND false", "false"),
        ("1 IS DISTINCT FROM NULL OR false", "true"),
        ("NOT 1 IS DISTINCT FROM 1 AND true", "true"),
        ("NOT 1 IS NOT DISTINCT FROM 2 OR NULL", "true"),
        ("true IS NOT DISTINCT FROM NULL OR true", "true"),
        ("false AND 1 IS DISTINCT FROM 2 OR true", "true"),
        ("1 = 1 IS DISTINCT FROM true", "false"),
        ("1 IS DISTINCT FROM 1 + 1 AND 2 IS NOT DISTINCT FROM 1 + 1 AND NOT false", "true"),
        ("CASE WHEN 1 IS DISTINCT FROM 2 AND false THEN 1 ELSE 2 END", "2"),
        ("(1 IS DISTINCT FROM 2) AND (NULL IS DISTINCT FROM (true AND NULL))", "false"),
    ] {
        assert_eq!(world.value(&format!("SELECT {sql}")).await, expected, "{sql}");
    }
    let world = World::filled().await;
    let both = "SELECT count(*) FROM events WHERE kind IS DISTINCT FROM 'kind number 1' AND ok";
    let apart =
        "SELECT count(*) FROM events WHERE (kind <> 'kind number 1' OR kind IS NULL) AND ok";
    assert_eq!(world.value(both).await, world.value(apart).await);
    let measure = "SELECT count(*) FILTER (WHERE kind IS DISTINCT FROM NULL AND ok) FROM events";
    let plain = "SELECT count(kind) FROM events WHERE ok";
    assert_eq!(world.value(measure).await, world.value(plain).await);
}

#[tokio::test]
async fn local_times_that_occur_twice_or_never_are_instants() {
    let world = World::new().await;
    for (zone, local, utc) in [
        ("Europe/Berlin", "2026-10-25 02:30:00", "2026-10-25T01:30:00Z"),
        ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25T01:30:00Z"),
        ("Europe/Berlin", "2026-03-29 02:30:00", "2026-03-29T01:30:00Z"),
        ("America/New_York", "2026-11-01 01:30:00", "2026-11-01T06:30:00Z"),
        ("America/New_York", "2026-03-08 02:30:00", "2026-03-08T07:30:00Z"),
    ] {
        world.rows(&format!("SET TIME ZONE '{zone}'")).await;
        for sql in [
            format!("'{local}'::timestamptz"),
            format!("timestamptz '{local}'"),
            format!("(t || '')::timestamptz FROM (VALUES ('{local}')) AS v (t)"),
            format!("'{local}'::timestamp::timestamptz"),
            format!("timestamp '{local}' AT TIME ZONE '{zone}'"),
            format!("t::timestamptz FROM (VALUES (timestamp '{local}')) AS v (t)"),
        ] {
            assert_eq!(world.value(&format!("SELECT {sql}")).await, utc, "{zone}: {sql}");
        }
        let sql = format!("SELECT count(*) FROM events WHERE ts > '{local}'");
        assert_eq!(world.value(&sql).await, "0");
    }
    world.rows("SET TIME ZONE 'UTC'").await;
    let named = world.value("SELECT timestamptz '2026-10-25 02:30:00 Europe/Berlin'").await;
    assert_eq!(named, "2026-10-25T01:30:00Z");
    world.rows("SET TIME ZONE 'America/New_York'").await;
    let named = world.value("SELECT timestamptz '2026-10-25 02:30:00 Europe/Berlin'").await;
    assert_eq!(named, "2026-10-25T01:30:00Z");
    let offset = world.value("SELECT timestamptz '2026-10-25 02:30:00+02'").await;
    assert_eq!(offset, "2026-10-25T00:30:00Z");
    let day = world.value("SELECT '2026-11-01'::date::timestamptz").await;
    assert_eq!(day, "2026-11-01T04:00:00Z");
    let wrong = world.error("SELECT 'noon'::timestamptz").await;
    assert_eq!(wrong.sqlstate, "22007", "{wrong:?}");
    assert!(wrong.message.contains("\"noon\""), "{wrong:?}");
}

#[tokio::test]
async fn bytes_are_read_and_shown_as_postgres_does() {
    let world = World::new().await;
    for (sql, expected) in [
        (r"'\x61'::bytea", r"\x61"),
        (r"bytea '\x61 62'", r"\x6162"),
        (r"CAST('a\\001b' AS bytea)", r"\x615c30303162"),
        (r"'a\001b'::bytea", r"\x610162"),
        (r"'\\'::bytea", r"\x5c"),
        (r"''::bytea", r"\x"),
        (r"'\x'::bytea", r"\x"),
        (r"'é'::bytea", r"\xc3a9"),
        (r"b::bytea", r"\x6162"),
    ] {
        let from = r"FROM (VALUES ('\x6162')) AS v (b)";
        let sql = format!("SELECT ({sql})::text {from}");
        assert_eq!(world.value(&sql).await, expected, "{sql}");
    }
    for (sql, expected) in [
        (r"'\x61'::bytea = 'a'", "true"),
        (r"'\x61'::bytea < '\x62'", "true"),
        (r"length('\x616263'::bytea)", "3"),
        (r"encode('\x616263'::bytea, 'base64')", "YWJj"),
        (r"encode('\x00ff', 'hex')", "00ff"),
        (r"'abc'::text::bytea::text", r"\x616263"),
        (r"NULL::bytea IS NULL", "true"),
    ] {
        assert_eq!(world.value(&format!("SELECT {sql}")).await, expected, "{sql}");
    }
    for (text, state, message) in [
        (r"\x6", "22023", "odd number of digits"),
        (r"\xzz", "22023", "invalid hexadecimal digit: \"z\""),
        (r"\x61 6 2", "22023", "invalid hexadecimal digit: \" \""),
        (r"a\b", "22P02", "invalid input syntax for type bytea"),
        (r"a\400", "22P02", "invalid input syntax for type bytea"),
    ] {
        let e = world.error(&format!("SELECT '{text}'::bytea")).await;
        assert_eq!(e.sqlstate, state, "{text}: {e:?}");
        assert!(e.message.contains(message), "{text}: {e:?}");
    }
}

#[tokio::test]
async fn a_column_to_sort_by_may_share_its_name_with_an_output() {
    let world = World::new().await;
    let from = "FROM (VALUES (1, 30), (2, 20), (3, 10)) AS d0 (day, n)";
    for (sql, expected) in [
        ("SELECT n AS day FROM d0 ORDER BY d0.day DESC", ["10", "20", "30"]),
        ("SELECT -n AS day FROM d0 ORDER BY d0.day + 0", ["-30", "-20", "-10"]),
        ("SELECT n AS day FROM d0 ORDER BY day, d0.day", ["10", "20", "30"]),
        ("SELECT sum(n) AS day FROM d0 GROUP BY d0.day ORDER BY d0.day DESC", ["10", "20", "30"]),
        ("SELECT sum(n) AS \"day\" FROM d0 GROUP BY day ORDER BY D0.Day", ["30", "20", "10"]),
        ("SELECT day FROM (SELECT n AS day FROM d0 ORDER BY d0.day LIMIT 3) s", ["30", "20", "10"]),
        ("SELECT d0.day AS day FROM d0 ORDER BY d0.day", ["1", "2", "3"]),
    ] {
        let sql = sql.replacen("FROM d0", from, 1);
        assert_eq!(world.rows(&sql).await, expected.map(|v| [v]), "{sql}");
    }
    let inner = format!(
        "SELECT max(day) FROM (SELECT n AS day, d0.day AS other {from} ORDER BY d0.day LIMIT 2) s"
    );
    assert_eq!(world.value(&inner).await, "30");
}

#[tokio::test]
async fn a_correlated_subquery_may_give_a_plain_column() {
    let world = World::new().await;
    let tables = "WITH a (k) AS (VALUES (1), (2), (3), (NULL)), b (k, v) AS (VALUES (1, 'x'), (2, 'y'), (4, 'z'), (4, 'w'))";
    let rows = world
        .rows(&format!("{tables} SELECT k, (SELECT b.v FROM b WHERE b.k = a.k) FROM a ORDER BY k"))
        .await;
    assert_eq!(rows, [["1", "x"], ["2", "y"], ["3", "NULL"], ["NULL", "NULL"]]);
    let rows = world
        .rows(&format!(
            "{tables} SELECT k FROM a WHERE k = 3 OR (SELECT b.v = 'y' FROM b WHERE b.k = a.k) ORDER BY 1"
        ))
        .await;
    assert_eq!(rows, [["2"], ["3"]]);
    // Two rows of a key that nobody asks for are no error.
    let filtered =
        format!("{tables} SELECT k FROM a WHERE (SELECT b.v FROM b WHERE b.k = a.k) = 'y'");
    assert_eq!(world.rows(&filtered).await, [["2"]]);
    let several = format!(
        "{tables} SELECT k, (SELECT b.v FROM b WHERE b.k = c.k) FROM (VALUES (1), (4)) AS c (k)"
    );
    let e = world.error(&several).await;
    assert_eq!(e.sqlstate, "21000", "{e:?}");
    let counted =
        format!("{tables} SELECT (SELECT count(*) FROM b WHERE b.k = a.k) FROM a ORDER BY k");
    assert_eq!(world.rows(&counted).await, [["1"], ["1"], ["0"], ["0"]]);
}
