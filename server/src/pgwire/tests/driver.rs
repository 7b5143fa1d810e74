//! Through tokio-postgres: extended protocol in binary, portals, COPY, cancel, limits.

use std::pin::pin;
use std::time::Instant;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use futures::TryStreamExt;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::{ToSql, Type};

use super::*;

/// Values of a text answer, rows and columns.
fn texts(messages: &[SimpleQueryMessage]) -> Vec<Vec<Option<String>>> {
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_arrive_in_binary_and_in_text() {
    let server = Serving::start(4).await;
    let client = server.connect().await.unwrap();
    let sql = "SELECT true AS b, 2::smallint AS i2, 3::integer AS i4, 4::bigint AS i8, \
        1.5::real AS f4, 2.5::double precision AS f8, 'é' AS t, DATE '2015-09-12' AS d, \
        TIMESTAMP '2015-09-12 13:47:58.771' AS ts, \
        CAST('2015-09-12T13:47:58.771Z' AS timestamptz) AS tz, NULL AS n, 12.30::numeric(6,2) AS num";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert!(row.get::<_, bool>("b"));
    assert_eq!(row.get::<_, i16>("i2"), 2);
    assert_eq!(row.get::<_, i32>("i4"), 3);
    assert_eq!(row.get::<_, i64>("i8"), 4);
    assert_eq!((row.get::<_, f32>("f4"), row.get::<_, f64>("f8")), (1.5, 2.5));
    assert_eq!(row.get::<_, &str>("t"), "é");
    assert_eq!(row.get::<_, NaiveDate>("d").to_string(), "2015-09-12");
    assert_eq!(row.get::<_, NaiveDateTime>("ts").to_string(), "2015-09-12 13:47:58.771");
    let instant: DateTime<Utc> = "2015-09-12T13:47:58.771Z".parse().unwrap();
    assert_eq!(row.get::<_, DateTime<Utc>>("tz"), instant);
    assert_eq!(row.get::<_, Option<String>>("n"), None);
    assert_eq!(*row.columns()[11].type_(), Type::NUMERIC);

    client.batch_execute("SET TimeZone = 'Asia/Tokyo'").await.unwrap();
    let shown = texts(&client.simple_query(sql).await.unwrap());
    let shown: Vec<&str> = shown[0].iter().map(|v| v.as_deref().unwrap_or("null")).collect();
    assert_eq!(
        shown,
        [
            "t",
            "2",
            "3",
            "4",
            "1.5",
            "2.5",
            "é",
            "2015-09-12",
            "2015-09-12 13:47:58.771",
            "2015-09-12 22:47:58.771+09",
            "null",
            "12.30",
        ]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_arrive_with_their_types() {
    let server = Serving::start(4).await;
    let client = server.connect().await.unwrap();
    let statement = client
        .prepare_typed(
            "SELECT $1 + 1 AS n, $2 AS t, $3 AS d",
            &[Type::INT8, Type::TEXT, Type::DATE],
        )
        .await
        .unwrap();
    assert_eq!(statement.params(), [Type::INT8, Type::TEXT, Type::DATE]);
    let day = NaiveDate::from_ymd_opt(2020, 2, 29).unwrap();
    for n in [1_i64, 41] {
        let row = client.query_one(&statement, &[&n, &"it's", &day]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), n + 1);
        assert_eq!(row.get::<_, &str>(1), "it's");
        assert_eq!(row.get::<_, NaiveDate>(2), day);
    }
    let inferred = "SELECT v FROM generate_series(1, 10) AS t(v) WHERE v > $1 ORDER BY v LIMIT $2";
    let rows = client.query(inferred, &[&7_i32, &2_i64]).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.get(0)).collect::<Vec<i32>>(), [8, 9]);
    let typed: [(&(dyn ToSql + Sync), Type); 1] = [(&vec![1_i32, 2, 3], Type::INT4_ARRAY)];
    let row = client.query_typed("SELECT $1 AS a", &typed).await.unwrap();
    assert_eq!(row[0].get::<_, Vec<i32>>(0), [1, 2, 3]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_gives_some_rows_at_a_time() {
    let server = Serving::start(4).await;
    let mut client = server.connect().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let statement = transaction.prepare(FLOOD).await.unwrap();
    let portal = transaction.bind(&statement, &[]).await.unwrap();
    for start in [1_i64, 4, 7] {
        let rows = transaction.query_portal(&portal, 3).await.unwrap();
        let values: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(values, [start, start + 1, start + 2]);
    }
    transaction.commit().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_older_than_its_snapshot_may_be_is_refused() {
    use otus_engine::clock::ManualClock;
    let age_max_us = otus_engine::limits::PIN_AGE_MAX_US;
    let clock = Arc::new(ManualClock::new(1_772_323_200_000_000));
    let server = Serving::start_at(Arc::<ManualClock>::clone(&clock)).await;
    let mut client = server.connect().await.unwrap();
    for sql in ["SELECT v FROM generate_series(1, 9) AS t(v)", "FETCH ALL FROM c"] {
        let transaction = client.transaction().await.unwrap();
        let declare = "DECLARE c CURSOR FOR SELECT v FROM generate_series(1, 9) AS t(v)";
        transaction.batch_execute(declare).await.unwrap();
        let statement = transaction.prepare(sql).await.unwrap();
        let portal = transaction.bind(&statement, &[]).await.unwrap();
        for _ in 0..2 {
            let rows = transaction.query_portal(&portal, 3).await.unwrap();
            assert_eq!(rows.len(), 3, "{sql}");
            clock.advance(age_max_us * 3 / 5);
        }
        assert_eq!(code(transaction.query_portal(&portal, 3).await), "72000", "{sql}");
        assert_eq!(code(transaction.batch_execute("SELECT 1").await), "25P02", "{sql}");
        transaction.rollback().await.unwrap();
    }
    server.stop().await;
}

/// A server that collected the answer would never send its first row.
#[tokio::test(flavor = "multi_thread")]
async fn rows_stream_in_both_protocols() {
    let server = Serving::start(4).await;
    {
        let client = server.connect().await.unwrap();
        let mut rows = pin!(client.query_raw(FLOOD, Vec::<i64>::new()).await.unwrap());
        for n in 1..=20_000_i64 {
            assert_eq!(rows.try_next().await.unwrap().unwrap().get::<_, i64>(0), n);
        }
        client.cancel_token().cancel_query(NoTls).await.unwrap();
        let end = loop {
            match rows.try_next().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        assert_eq!(code(end), "57014");
    }
    let client = server.connect().await.unwrap();
    let mut messages = pin!(client.simple_query_raw(FLOOD).await.unwrap());
    for _ in 0..20_000 {
        assert!(messages.try_next().await.unwrap().is_some());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_request_stops_the_work_and_leaves_the_session() {
    let server = Serving::start(4).await;
    let client = server.connect().await.unwrap();
    for simple in [true, false] {
        let token = client.cancel_token();
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            token.cancel_query(NoTls).await.unwrap();
            Instant::now()
        };
        let work = async {
            let result = if simple {
                client.simple_query(ENDLESS).await.map(drop)
            } else {
                client.query(ENDLESS, &[]).await.map(drop)
            };
            (result, Instant::now())
        };
        let (cancelled, (result, ended)) = tokio::join!(cancel, work);
        assert_eq!(code(result), "57014");
        assert!(ended.saturating_duration_since(cancelled) < Duration::from_secs(1));
        assert_eq!(client.query_one("SELECT 1::integer", &[]).await.unwrap().get::<_, i32>(0), 1);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_timeout_stops_the_work() {
    let server = Serving::start(4).await;
    let client = server.connect_with("options='-c statement_timeout=200ms'").await.unwrap();
    let began = Instant::now();
    assert_eq!(code(client.simple_query(ENDLESS).await), "57014");
    assert_eq!(code(client.query(ENDLESS, &[]).await), "57014");
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(client.simple_query("SELECT 1").await.is_ok());
    server.stop().await;
}

/// There is room for one: a second client gets in as soon as the server has seen the first one go.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_its_statement() {
    let server = Serving::start(1).await;
    for sql in [ENDLESS, FLOOD] {
        let (client, socket) = server.connect_apart("").await.unwrap();
        assert_eq!(code(server.connect().await.map(drop)), "53300");
        let work = client.simple_query(sql);
        assert!(tokio::time::timeout(Duration::from_millis(200), work).await.is_err());
        socket.abort();
        let again = async {
            while server.connect().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), again).await.unwrap();
        // The probe that got in must go first, too.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_their_codes_and_leave_the_session() {
    let server = Serving::start(4).await;
    let client = server.connect().await.unwrap();
    for (sql, expected) in [
        ("SELEC 1", "42601"),
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT nothing FROM (SELECT 1 AS a) t", "42703"),
        ("SELECT 1; SELECT * FROM nowhere; SELECT 2", "42P01"),
        ("DROP TABLE x", "0A000"),
        ("COPY (SELECT 1) TO '/tmp/x'", "0A000"),
    ] {
        let got = code(client.simple_query(sql).await);
        assert!(got == expected || (expected == "0A000" && got.starts_with("42")), "{sql}: {got}");
    }
    assert_eq!(code(client.query("SELECT * FROM nowhere", &[]).await), "42P01");
    assert_eq!(code(client.query("SELECT 1; SELECT 2", &[]).await), "42601");
    let rows = texts(&client.simple_query("SELECT 1 AS a; ; SELECT 2 AS b;").await.unwrap());
    assert_eq!(rows, [[Some("1".to_owned())], [Some("2".to_owned())]]);
    assert!(client.simple_query("").await.is_ok());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_transaction_accepts_only_its_end() {
    let server = Serving::start(4).await;
    let client = server.connect().await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    let prepared = client.prepare("SELECT 1::integer").await.unwrap();
    assert_eq!(code(client.query("SELECT * FROM nowhere", &[]).await), "42P01");
    assert_eq!(code(client.simple_query("SELECT 1").await), "25P02");
    assert_eq!(code(client.query(&prepared, &[]).await), "25P02");
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(client.query_one(&prepared, &[]).await.unwrap().get::<_, i32>(0), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_out_gives_lines() {
    let server = Serving::start(4).await;
    let client = server.connect().await.unwrap();
    for (options, expected) in
        [("", "1\t\\N\n2\t\\N\n"), (" WITH (FORMAT csv, HEADER)", "v,n\n1,\n2,\n")]
    {
        let sql = format!(
            "COPY (SELECT v, NULL AS n FROM generate_series(1, 2) AS t(v) ORDER BY v) TO STDOUT{options}"
        );
        let data = client.copy_out(&sql).await.unwrap();
        let chunks: Vec<bytes::Bytes> = data.try_collect().await.unwrap();
        assert_eq!(chunks.concat(), expected.as_bytes(), "{options}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_tells_its_clients() {
    let server = Serving::start(4).await;
    let idle = server.connect().await.unwrap();
    let busy = server.connect().await.unwrap();
    let work = tokio::spawn(async move { busy.simple_query(ENDLESS).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.stop().await;
    assert_eq!(code(work.await.unwrap()), "57P01");
    assert!(idle.simple_query("SELECT 1").await.is_err());
}
