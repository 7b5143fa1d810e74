//! Bounds of the statements of a role.

use std::time::Duration;

use super::{World, answer, refusal, role};
use crate::access::{RoleDef, RoleLimits, RolePlace, check};
use crate::tests::world::definition;
use crate::{Outcome, Session, SqlConfig};

fn bounded(name: &str, limits: RoleLimits) -> RoleDef {
    RoleDef { limits, ..role(name, vec![super::grant(&["*"], &[], "")]) }
}

async fn world() -> World {
    let none = RoleLimits::default;
    let roles = vec![
        bounded("rows", RoleLimits { rows: Some(100), ..none() }),
        bounded("more_rows", RoleLimits { rows: Some(200), ..none() }),
        bounded("memory", RoleLimits { memory_bytes: Some(4 << 20), ..none() }),
        bounded("time", RoleLimits { timeout: Some(Duration::from_millis(200)), ..none() }),
        bounded("two", RoleLimits { concurrency: Some(2), ..none() }),
    ];
    World::with(SqlConfig { threads: 2, roles, ..SqlConfig::default() }).await.fill().await
}

fn user(world: &World, roles: &[&str]) -> Session {
    super::user(world, roles, &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_answer_is_an_error() {
    let world = world().await;
    let session = user(&world, &["rows"]);
    assert_eq!(answer(&session, "SELECT * FROM events LIMIT 100").await.len(), 100);
    assert_eq!(answer(&session, "SELECT count(*) FROM events").await, [["3200"]]);
    for sql in [
        "SELECT * FROM events LIMIT 101",
        "SELECT * FROM generate_series(1, 101)",
        "COPY (SELECT * FROM events) TO STDOUT",
    ] {
        let e = refusal(&session, sql).await;
        assert_eq!(e.sqlstate, "54000", "{sql}");
        assert!(e.hint.is_some_and(|hint| hint.contains("LIMIT")));
    }
    // The widest counts.
    let session = user(&world, &["rows", "more_rows", "time"]);
    assert_eq!(answer(&session, "SELECT * FROM events LIMIT 200").await.len(), 200);
    assert_eq!(refusal(&session, "SELECT * FROM events LIMIT 201").await.sqlstate, "54000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_holds_no_more_memory() {
    let world = world().await;
    let sql = "SELECT array_agg(a.kind || x) IS NULL FROM events a, generate_series(1, 100) x";
    let e = refusal(&user(&world, &["memory"]), sql).await;
    assert_eq!(e.sqlstate, "53200", "{e:?}");
    assert_eq!(answer(&world.session, sql).await, [["false"]]);
    assert_eq!(answer(&user(&world, &["memory"]), "SELECT count(*) FROM events").await, [["3200"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_gives_more_time() {
    let world = world().await;
    let session = user(&world, &["time"]);
    for set in ["0", "1h"] {
        answer(&session, &format!("SET statement_timeout = '{set}'")).await;
        assert_eq!(session.statement_timeout(), Some(Duration::from_millis(200)));
        let long = "SELECT count(*) FROM events a, events b, events c WHERE a.score + b.score + c.score < 0";
        assert_eq!(refusal(&session, long).await.sqlstate, "57014");
    }
    answer(&session, "SET statement_timeout = '50ms'").await;
    assert_eq!(session.statement_timeout(), Some(Duration::from_millis(50)));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_statements_run_at_a_time() {
    let world = world().await;
    let sessions = [user(&world, &["two"]), user(&world, &["two"]), user(&world, &["two"])];
    let mut held = Vec::new();
    for session in &sessions[..2] {
        let statement = session.parse("SELECT * FROM events").unwrap().remove(0);
        let Outcome::Rows { stream, .. } = session.execute(&statement, vec![]).await.unwrap()
        else {
            panic!("no rows");
        };
        held.push(stream);
    }
    let e = refusal(&sessions[2], "SELECT 1").await;
    assert_eq!(e.sqlstate, "53300", "{e:?}");
    // Another user has places of its own.
    let other = world.engine.session(super::options(&world, "eva", &["two"], &[]));
    answer(&other, "SELECT 1").await;
    held.pop();
    answer(&sessions[2], "SELECT 1").await;
    answer(&sessions[2], "SELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_roles_is_said() {
    let grant = super::grant;
    let roles = vec![
        role(
            "filters",
            vec![
                grant(&["events"], &[], "kind = attribute('kind') AND user_id > 3 AND score < 1.5"),
                grant(&["events"], &[], "kind + 1"),
                grant(&["events"], &[], "nosuch = 1"),
                grant(&["events"], &[], "user_id IN (SELECT 1)"),
                grant(&["events"], &[], "ts > now()"),
                grant(&["events"], &[], "kind"),
                grant(&["events"], &[], "count(*) > 1"),
                grant(&["events"], &[], "attribute(kind) = 'x'"),
                grant(&["events"], &[], "kind = current_user"),
            ],
        ),
        role(
            "columns",
            vec![
                grant(&["events"], &["kind"], ""),
                grant(&["events"], &["ts", "kin"], ""),
                grant(&["eventz", "events"], &[], ""),
            ],
        ),
        RoleDef { inherits: vec!["nosuch".into()], ..role("child", vec![]) },
    ];
    let sound = crate::access::Roles::new(roles[..2].to_vec()).unwrap();
    let user = sound.identity("ann", &["filters".into()], &Default::default()).unwrap();
    let found = check(&roles, &[definition()], &[user]);
    let found: Vec<_> =
        found.iter().map(|p| (p.role.as_str(), &p.place, p.error.sqlstate, p.is_warning)).collect();
    let filter = RolePlace::Filter;
    let at = |i: usize| found.iter().filter(|p| *p.1 == filter(i)).count();
    assert_eq!((at(0), at(8)), (1, 0), "{found:#?}");
    assert!(found.iter().any(|p| *p.1 == filter(0) && p.3), "an attribute is missing: {found:#?}");
    for wrong in 1..8 {
        assert!(found.iter().any(|p| *p.1 == filter(wrong) && !p.3), "{wrong}: {found:#?}");
    }
    assert!(found.contains(&("columns", &RolePlace::Column(0, "ts".into()), "22023", false)));
    assert!(found.contains(&("columns", &RolePlace::Column(1, "kin".into()), "42703", false)));
    assert!(found.contains(&("columns", &RolePlace::Table(2, "eventz".into()), "42P01", true)));
    assert!(found.contains(&("child", &RolePlace::Inherits, "42704", false)));
}
