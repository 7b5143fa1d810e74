//! What is not granted is in no catalogue, no hint and no error.

use super::{answer, refusal, user, world};
use crate::tests::world::rows_of;

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_grant_is_as_one_that_is_missing() {
    let world = world().await;
    for session in [user(&world, &["low"], &[]), user(&world, &["nothing"], &[])] {
        for (hidden, missing) in [
            ("SELECT * FROM secrets", "SELECT * FROM nosuchs"),
            ("SELECT * FROM public.secrets", "SELECT * FROM public.nosuchs"),
            ("SELECT * FROM \"secrets\"", "SELECT * FROM \"nosuchs\""),
            ("SELECT * FROM hidden()", "SELECT * FROM nosuch()"),
            ("SELECT * FROM hidden", "SELECT * FROM nosuch"),
            ("SELECT 'secrets'::regclass", "SELECT 'nosuchs'::regclass"),
            ("SELECT to_regclass('secrets')", "SELECT to_regclass('nosuchs')"),
            (
                "SELECT has_table_privilege('secrets', 'SELECT')",
                "SELECT has_table_privilege('nosuchs', 'SELECT')",
            ),
            ("COPY (SELECT * FROM secrets) TO STDOUT", "COPY (SELECT * FROM nosuchs) TO STDOUT"),
            ("EXPLAIN SELECT * FROM secrets", "EXPLAIN SELECT * FROM nosuchs"),
        ] {
            let (a, b) = (rows_of(&session, hidden).await, rows_of(&session, missing).await);
            match (a, b) {
                (Ok(a), Ok(b)) => assert_eq!(a, b, "{hidden}"),
                (Err(a), Err(b)) => {
                    let plain = |e: &crate::SqlError| {
                        format!("{e:?}").replace("secrets", "nosuchs").replace("hidden", "nosuch")
                    };
                    assert_eq!(plain(&a), plain(&b), "{hidden}");
                }
                (a, b) => panic!("{hidden}: {a:?}, {b:?}"),
            }
        }
        let e = refusal(&session, "SELECT * FROM secret").await;
        assert_eq!((e.sqlstate, e.hint), ("42P01", None));
    }
    answer(&user(&world, &["everything"], &[]), "SELECT * FROM secrets").await;
    answer(&user(&world, &["admin"], &[]), "SELECT * FROM secrets").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogues_list_what_is_granted() {
    let world = world().await;
    let narrow = user(&world, &["narrow"], &[]);
    let low = user(&world, &["low"], &[]);
    let nothing = user(&world, &["nothing"], &[]);
    for (sql, names) in [
        (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
            4,
        ),
        (
            "SELECT relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
          WHERE nspname = 'public' AND relkind IN ('r', 'v', 'm', 'p') ORDER BY 1",
            4,
        ),
    ] {
        let shown = answer(&narrow, sql).await;
        assert_eq!(shown.len(), names, "{sql}: {shown:?}");
        assert_eq!(answer(&low, sql).await, [["events"]], "{sql}");
        assert!(answer(&nothing, sql).await.is_empty(), "{sql}");
    }
    for sql in [
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'events' ORDER BY 1",
        "SELECT attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
         WHERE relname = 'events' AND attnum > 0 ORDER BY 1",
    ] {
        assert_eq!(answer(&narrow, sql).await, [["kind"], ["ok"], ["ts"]], "{sql}");
        assert!(answer(&nothing, sql).await.is_empty(), "{sql}");
    }
    let hidden =
        "SELECT count(*) FROM pg_catalog.pg_attribute WHERE attname IN ('secret', 'score')";
    assert_eq!(answer(&narrow, hidden).await, [["0"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn system_tables_tell_of_whole_tables_only() {
    let world = world().await;
    for (roles, shown) in
        [(["narrow"], false), (["low"], false), (["nothing"], false), (["all"], true)]
    {
        let session = user(&world, &roles, &[]);
        for table in ["segments", "partitions", "rollups"] {
            let count = answer(&session, &format!("SELECT count(*) > 0 FROM otus.{table}")).await;
            assert_eq!(count, [[shown.to_string()]], "{roles:?}, {table}");
        }
        let texts = answer(&session, "SELECT * FROM otus.segments").await;
        assert!(!format!("{texts:?}").contains("secrets"));
        for table in ["changes", "rejected", "fields"] {
            let count = answer(&session, &format!("SELECT count(*) FROM otus.{table}")).await;
            assert_eq!(count, [["0"]], "{roles:?}, {table}");
        }
    }
    assert_ne!(answer(&world.session, "SELECT count(*) FROM otus.changes").await, [["x"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_queries_are_theirs() {
    let world = world().await;
    answer(&world.session, "SELECT count(*) AS of_an_admin FROM events").await;
    let session = user(&world, &["low"], &[]);
    answer(&session, "SELECT count(*) AS of_eve FROM events").await;
    let texts = format!("{:?}", answer(&session, "SELECT query, \"user\" FROM otus.queries").await);
    assert!(texts.contains("of_eve") && !texts.contains("of_an_admin"), "{texts}");
    let read = answer(&session, "SELECT max(bytes_read) FROM otus.queries").await;
    assert_eq!(read, [["0"]], "what was read tells how much there is");
    let wanted = answer(&session, "SELECT count(wanted_rollup) FROM otus.queries").await;
    assert_eq!(wanted, [["0"]], "a wish tells how many rows there are");
}

#[tokio::test(flavor = "multi_thread")]
async fn named_queries_are_those_that_can_be_asked() {
    let world = world().await;
    let names = "SELECT name FROM otus.named_queries ORDER BY 1";
    for (roles, expected) in [
        (["low"], &["kinds", "scores"][..]),
        (["narrow"], &["kinds"]),
        (["nothing"], &[]),
        (["admin"], &["hidden", "kinds", "scores"]),
    ] {
        let session = user(&world, &roles, &[]);
        let listed: Vec<_> = answer(&session, names).await.into_iter().flatten().collect();
        assert_eq!(listed, expected, "{roles:?}");
        let infos: Vec<_> = session.named_queries().await.into_iter().map(|q| q.def.name).collect();
        assert_eq!(infos.len(), expected.len(), "{roles:?}");
    }
    let low = user(&world, &["low"], &[]);
    let part = "SELECT max(score) FROM events WHERE score < 200 AND user_id > 10";
    assert_eq!(answer(&low, "SELECT * FROM scores()").await, answer(&world.session, part).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_for_admins() {
    let world = world().await;
    for sql in [
        "CREATE TABLE t (ts timestamptz)",
        "DROP TABLE events",
        "ALTER TABLE events ADD COLUMN x int",
    ] {
        for role in ["all", "everything", "nothing"] {
            if let Err(e) = rows_of(&user(&world, &[role], &[]), sql).await {
                assert!(["42501", "42601", "0A000"].contains(&e.sqlstate), "{sql}: {e:?}");
            } else {
                panic!("{sql} ran");
            }
        }
    }
    let e = refusal(&user(&world, &["everything"], &[]), "DROP TABLE events").await;
    assert_eq!(e.sqlstate, "42501");
}
