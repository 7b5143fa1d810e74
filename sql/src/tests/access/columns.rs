//! Columns that are not granted are not there.

use super::{answer, refusal, same, user, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_not_granted_does_not_exist() {
    let world = world().await;
    for roles in [["narrow"], ["narrow_low"]] {
        let session = user(&world, &roles, &[]);
        for sql in [
            "SELECT score FROM events",
            "SELECT e.score FROM events e",
            "SELECT count(*) FROM events WHERE score > 1",
            "SELECT count(*) FROM events GROUP BY score",
            "SELECT kind FROM events ORDER BY score",
            "SELECT count(score) FROM events",
            "SELECT a.kind FROM events a JOIN events b ON a.score = b.score",
            "SELECT _offset FROM events",
            "SELECT amount FROM by_kind_hour",
            "SELECT mean FROM by_kind_hour",
            "SELECT (SELECT score) FROM events",
        ] {
            let e = refusal(&session, sql).await;
            let unknown =
                e.sqlstate == "42703" || (roles == ["narrow_low"] && e.sqlstate == "42P01");
            assert!(unknown, "{sql}: {e:?}");
        }
        let e = refusal(&session, "SELECT scor FROM events").await;
        assert!(e.hint.is_none_or(|hint| !hint.contains("score")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_row_is_what_can_be_seen() {
    let world = world().await;
    let part = "(SELECT ts, kind, ok FROM events) e";
    let questions = [
        "SELECT row_to_json(e) FROM {} ORDER BY ts LIMIT 5",
        "SELECT to_jsonb(e.*) FROM {} ORDER BY ts LIMIT 5",
        "SELECT e::text FROM {} ORDER BY ts LIMIT 5",
        "SELECT count(e) FROM {}",
        "SELECT count(*) FROM {} WHERE e IS NOT NULL",
    ];
    let session = user(&world, &["narrow"], &[]);
    for question in questions {
        let seen = answer(&session, &question.replace("{}", "events e")).await;
        assert_eq!(seen, answer(&session, &question.replace("{}", part)).await, "{question}");
        assert!(!seen.iter().flatten().any(|cell| cell.contains("score")), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_are_answered_as_ever() {
    let world = world().await;
    let questions = [
        "SELECT * FROM {} ORDER BY ts LIMIT 5",
        "SELECT count(*), min(ts), max(kind) FROM {}",
        "SELECT kind, count(*) FROM {} GROUP BY kind",
        "SELECT count(*) FROM {} WHERE ok AND kind = 'kind number 1'",
        "SELECT date_trunc('hour', ts), count(*) FROM {} GROUP BY 1",
    ];
    let part = "(SELECT ts, kind, ok FROM events) events";
    same(&world, &user(&world, &["narrow"], &[]), part, &questions).await;
    let part = "(SELECT ts, kind, ok FROM events WHERE score < 200) events";
    same(&world, &user(&world, &["narrow_low"], &[]), part, &questions).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn measures_of_hidden_columns_are_not_in_views() {
    let world = world().await;
    let session = user(&world, &["narrow"], &[]);
    let columns = answer(
        &session,
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'by_kind_hour' ORDER BY 1",
    )
    .await;
    assert_eq!(columns, [["bucket"], ["events"], ["good"], ["kind"], ["share"]]);
    let all = answer(&session, "SELECT * FROM by_kind_hour LIMIT 1").await;
    assert_eq!(all[0].len(), 5);
    let theirs = answer(&session, "SELECT sum(events) FROM by_kind_hour").await;
    assert_eq!(theirs, answer(&world.session, "SELECT sum(events) FROM by_kind_hour").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_grants_do_not_add_up_to_more_than_each_gives() {
    let world = world().await;
    let session = user(&world, &["mixed"], &[]);
    let part = "(SELECT ts, CASE WHEN user_id < 20 THEN kind END AS kind, CASE WHEN ok THEN user_id END AS user_id \
                FROM events WHERE user_id < 20 OR ok) events";
    let questions = [
        "SELECT * FROM {} ORDER BY ts",
        "SELECT count(*), count(kind), count(user_id) FROM {}",
        "SELECT count(*) FROM {} WHERE user_id >= 20 AND kind IS NOT NULL",
        "SELECT count(*) FROM {} WHERE kind IS NULL",
        "SELECT count(*) FROM {} WHERE user_id IS NULL AND kind = 'kind number 1'",
        "SELECT kind, max(user_id) FROM {} GROUP BY kind",
        "SELECT user_id FROM {} WHERE user_id < 20 ORDER BY user_id, ts LIMIT 3",
        "SELECT count(*) FROM {} WHERE user_id = 30 OR user_id IS NULL",
    ];
    same(&world, &session, part, &questions).await;
    // States tell no value of a row from that of another: no rollup of such a table is there.
    assert_eq!(refusal(&session, "SELECT * FROM by_kind_hour").await.sqlstate, "42P01");
}
