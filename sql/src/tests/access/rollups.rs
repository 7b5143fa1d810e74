//! Rollups answer for a part of the rows where their dimensions tell which it is, and are not there where not.

use super::{answer, refusal, user, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_with_the_filters_column_answers() {
    let world = world().await;
    let session = user(&world, &["kind"], &[("kind", "kind number 1")]);
    let sql = "SELECT kind, count(*), sum(amount) FROM events GROUP BY kind";
    let plan = answer(&session, &format!("EXPLAIN {sql}")).await;
    let plan: Vec<_> = plan.into_iter().flatten().collect();
    assert!(plan.iter().any(|line| line.contains("rollup by_kind")), "{plan:#?}");
    assert!(!plan.iter().any(|line| line.contains("2026")), "times of other rows: {plan:#?}");
    let own = answer(&session, sql).await;
    let all = answer(&world.session, &format!("{sql} HAVING kind = 'kind number 1'")).await;
    assert_eq!(own, all);
    for view in ["by_kind_minute", "by_kind_hour", "by_kind_day"] {
        let own = answer(&session, &format!("SELECT * FROM {view} ORDER BY bucket, kind")).await;
        let all = answer(
            &world.session,
            &format!("SELECT * FROM {view} WHERE kind = 'kind number 1' ORDER BY bucket, kind"),
        )
        .await;
        assert_eq!(own, all, "{view}");
        assert!(!own.is_empty());
        // The other kinds are divided by, and are not there.
        let sql = format!(
            "SELECT sum(1 / (substr(kind, 13)::int - 2)) FROM {view} WHERE kind IS NOT NULL"
        );
        answer(&session, &sql).await;
        assert_eq!(refusal(&world.session, &sql).await.sqlstate, "22012");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_without_it_is_not_there() {
    let world = world().await;
    let session = user(&world, &["low"], &[]);
    for view in ["by_kind_minute", "by_kind_hour", "by_kind_day", "public.by_kind_hour"] {
        assert_eq!(refusal(&session, &format!("SELECT * FROM {view}")).await.sqlstate, "42P01");
    }
    let e = refusal(
        &session,
        "SET otus.rollups = force; SELECT kind, count(*) FROM events GROUP BY kind",
    )
    .await;
    assert!(!format!("{e:?}").contains("by_kind"), "{e:?}");
    answer(&session, "SET otus.rollups = auto").await;
    let listed = answer(
        &session,
        "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'by_kind%'",
    )
    .await;
    assert_eq!(listed, [["0"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_below_the_horizon_are_those_of_the_part() {
    let world = world().await;
    let table = world.dataset.snapshot().table("public", "events").unwrap().id;
    let horizon = crate::tests::world::BASE_US + 8 * 3_600_000_000;
    world.dataset.advance_horizon(table, horizon).await.unwrap();
    let session = user(&world, &["kind"], &[("kind", "kind number 1")]);
    let sql = "SELECT date_trunc('hour', ts) AS h, kind, count(*) FROM events GROUP BY 1, 2 ORDER BY 1, 2";
    let own = answer(&session, sql).await;
    let all = answer(&world.session, sql).await;
    let all: Vec<_> = all.into_iter().filter(|row| row[1] == "kind number 1").collect();
    assert_eq!(own, all);
    assert!(own.len() > 10);
    let low = user(&world, &["low"], &[]);
    let seen = answer(&low, "SELECT count(*), min(ts) FROM events").await;
    let part =
        "SELECT count(*), min(ts) FROM (SELECT * FROM events WHERE score < 200 AND user_id > 10) t";
    assert_eq!(seen, answer(&world.session, part).await);
}
