//! What users see to whom not everything is granted. The oracle is an admin who asks the same over a subquery with
//! the rows and columns that the user may see.

mod catalogues;
mod columns;
mod kept;
mod keyed;
mod limits;
mod pull;
mod rollups;
mod rows;

use std::collections::BTreeMap;

use otus_engine::catalog::{ColumnDef, TableDef};

use super::world::{World, definition, rows_of};
use crate::access::{GrantDef, RoleDef};
use crate::{NamedQueryDef, Session, SessionOptions, SqlConfig, SqlError};

/// A grant to read.
pub(super) fn grant(tables: &[&str], columns: &[&str], filter: &str) -> GrantDef {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    GrantDef {
        tables: list(tables),
        columns: (!columns.is_empty()).then(|| list(columns)),
        filter: (!filter.is_empty()).then(|| filter.to_owned()),
        select: true,
        insert: false,
    }
}

fn role(name: &str, grants: Vec<GrantDef>) -> RoleDef {
    RoleDef { name: name.into(), grants, ..RoleDef::default() }
}

fn roles() -> Vec<RoleDef> {
    let events = |columns: &[&str], filter: &str| grant(&["events"], columns, filter);
    vec![
        RoleDef { admin: true, ..role("admin", vec![]) },
        role("kind", vec![events(&[], "kind = attribute('kind')")]),
        role("low", vec![events(&[], "score < 200 AND user_id > 10")]),
        role("own", vec![events(&[], "'user ' || user_id::text = current_user")]),
        role("narrow", vec![events(&["ts", "kind", "ok"], "")]),
        role("narrow_low", vec![events(&["ts", "kind", "ok"], "score < 200")]),
        role(
            "mixed",
            vec![events(&["ts", "kind"], "user_id < 20"), events(&["ts", "user_id"], "ok")],
        ),
        role("all", vec![events(&[], "")]),
        role("nothing", vec![]),
        role("fails", vec![events(&[], "1 / (user_id - 5) >= 0 OR 1 / (user_id - 5) < 0")]),
        role("texts", vec![events(&["ts", "user_id"], "kind::bigint > 5")]),
        role("everything", vec![grant(&["*"], &[], "")]),
    ]
}

fn queries() -> Vec<NamedQueryDef> {
    let query = |name: &str, sql: &str| NamedQueryDef {
        name: name.into(),
        sql: sql.into(),
        ..NamedQueryDef::default()
    };
    vec![
        query("kinds", "SELECT kind, count(*) AS n FROM events GROUP BY kind"),
        query("scores", "SELECT max(score) AS top FROM events"),
        query("hidden", "SELECT count(*) AS n FROM secrets"),
    ]
}

/// A filled world with users, and a second table of which nobody but admins know.
pub(super) async fn world() -> World {
    let config =
        SqlConfig { threads: 2, roles: roles(), queries: queries(), ..SqlConfig::default() };
    let world = World::with(config).await.fill().await;
    let columns = vec![
        ColumnDef::new("ts", "timestamptz".parse().unwrap()),
        ColumnDef::new("secret", "text".parse().unwrap()),
    ];
    let secrets = TableDef::events("secrets", "ts", columns);
    world.dataset.apply_tables(&[definition(), secrets], true).await.unwrap();
    world
}

pub(super) fn options(
    world: &World,
    user: &str,
    roles: &[&str],
    own: &[(&str, &str)],
) -> SessionOptions {
    let roles: Vec<String> = roles.iter().map(|r| (*r).to_owned()).collect();
    let own: BTreeMap<_, _> = own.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let identity = world.engine.roles().identity(user, &roles, &own).unwrap();
    SessionOptions {
        user: user.into(),
        identity: Some(identity),
        is_local: true,
        ..SessionOptions::default()
    }
}

/// A session of a user with these roles and attributes.
pub(super) fn user(world: &World, roles: &[&str], own: &[(&str, &str)]) -> Session {
    world.engine.session(options(world, "eve", roles, own))
}

pub(super) async fn answer(session: &Session, sql: &str) -> Vec<Vec<String>> {
    rows_of(session, sql).await.unwrap_or_else(|e| panic!("{sql}\n{e:?}"))
}

pub(super) async fn refusal(session: &Session, sql: &str) -> SqlError {
    match rows_of(session, sql).await {
        Err(e) => e,
        Ok(rows) => panic!("{sql} answered {rows:?}"),
    }
}

/// Whoever may see a part sees what an admin sees of that part. `{}` in a question stands for the table.
pub(super) async fn same(world: &World, session: &Session, part: &str, questions: &[&str]) {
    same_as(world, session, ("events", part), questions).await;
}

/// The same for a table by another name.
pub(super) async fn same_as(
    world: &World,
    session: &Session,
    (table, part): (&str, &str),
    questions: &[&str],
) {
    for question in questions {
        for mode in ["auto", "off"] {
            answer(session, &format!("SET otus.rollups = {mode}")).await;
            // `*` leaves these out, so that the part has them by name.
            let part = match question.contains("_offset") {
                true => part.replacen("SELECT *", "SELECT _partition, _offset, *", 1),
                false => part.to_owned(),
            };
            let expected = rows_of(&world.session, &question.replace("{}", &part)).await;
            let got = rows_of(session, &question.replace("{}", table)).await;
            match (got, expected) {
                (Ok(mut got), Ok(mut expected)) => {
                    if !question.contains("ORDER BY") {
                        got.sort();
                        expected.sort();
                    }
                    assert_eq!(got, expected, "{question}, rollups {mode}");
                }
                (Err(got), Err(expected)) => {
                    assert_eq!(got.sqlstate, expected.sqlstate, "{question}: {got:?}");
                }
                (got, expected) => panic!("{question}: {got:?}\nexpected {expected:?}"),
            }
        }
    }
}
