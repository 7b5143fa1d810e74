//! Who may write what: the filter of a grant holds for rows that come as for rows that are read, by every way in.

use anyhow::Result;
use otus_tests::need;
use otus_tests::otus::{PATIENCE, Setup};
use otus_tests::process::until;
use serde_json::json;

use crate::access_login::{password, psql, text, token, words};

const TABLES: &str = r#"
[tables.moves]
topic = "moves"
time = "at"
append = true
[tables.moves.columns]
at = "timestamptz"
owner = "text"
amount = "bigint"
[tables.notes]
topic = "notes"
time = "at"
append = true
[tables.notes.columns]
at = "timestamptz"
text = "text"
author = "text"
[tables.players]
kind = "keyed"
topic = "players"
key = "id"
append = true
[tables.players.columns]
id = "text"
region = "text"
[roles.own]
grants = [
    { tables = ["moves"], filter = "owner = current_user", can = ["select", "insert"] },
    { tables = ["notes"], columns = ["at", "text"], can = ["select", "insert"] },
    { tables = ["players"], filter = "region = 'eu'", can = ["select", "insert"] },
]
[roles.feed]
grants = [{ tables = ["moves", "players"], can = ["insert"] }]
[roles.admin]
admin = true
"#;

#[test]
fn a_filter_holds_for_rows_that_are_written() -> Result<()> {
    let (ann, ann_line) = token()?;
    let (feed, feed_line) = token()?;
    let (secret, root) = (password("pencil")?, password("eraser")?);
    let users = format!(
        "[users.ann]\n{secret}roles = \"own\"\n{ann_line}\n[users.feed]\nroles = \"feed\"\n{feed_line}\n\
         [users.root]\n{root}roles = \"admin\"\n"
    );
    let otus = Setup::tables(format!("{users}{TABLES}")).start()?;
    let as_ann = |sql: &str| psql(&otus, "ann", "pencil", "", sql);
    let as_root = |sql: &str| psql(&otus, "root", "eraser", "", sql);
    let http = |path: &str, token: &str, body: serde_json::Value| {
        let request = reqwest::Client::new().post(otus.url(path)).bearer_auth(token);
        text(request.header("content-type", "application/json").body(body.to_string()))
    };

    let insert = |owner: &str, amount: i64| {
        format!("insert into moves (at, owner, amount) values (now(), '{owner}', {amount})")
    };
    assert_eq!(words(&need!(as_ann(&insert("ann", 1)))), "INSERT 0 1");
    for owner in ["bob", ""] {
        let refused = need!(as_ann(&insert(owner, 99)));
        assert!(words(&refused).contains("violates the row filters"), "{refused:?}");
        assert!(!words(&refused).contains("99"), "a message holds no values: {refused:?}");
    }
    let null = "insert into moves (at, amount) values (now(), 99)";
    assert!(words(&need!(as_ann(null))).contains("violates the row filters"));
    let both = "insert into moves (at, owner, amount) values (now(), 'ann', 2), (now(), 'bob', 99)";
    assert!(words(&need!(as_ann(both))).contains("row 2"), "none of them is taken");
    let row = |owner: &str| json!({ "at": "2026-01-01T00:00:00Z", "owner": owner, "amount": 4 });
    assert_eq!(http("/api/append/moves", &ann, json!([row("ann")]))?.0, 200);
    assert_eq!(http("/api/append/moves", &ann, json!([row("ann"), row("bob")]))?.0, 403);
    assert_eq!(http("/api/append/moves", &feed, json!([row("bob")]))?.0, 200);

    // Columns that are not granted are not written either.
    let note = "insert into notes (at, text) values (now(), 'x')";
    assert_eq!(words(&need!(as_ann(note))), "INSERT 0 1");
    for note in [
        "insert into notes (at, text, author) values (now(), 'x', 'bob')",
        "insert into notes values (now(), 'x', 'bob')",
    ] {
        assert!(words(&need!(as_ann(note))).contains("permission denied for table notes"));
    }
    let note = json!([{ "at": "2026-01-01T00:00:00Z", "author": "bob" }]);
    assert_eq!(http("/api/append/notes", &ann, note)?.0, 403);

    // A row that is not seen could be replaced: no way in takes rows of this table from her.
    assert_eq!(
        http("/api/append/players?key=p1", &feed, json!([{ "id": "p1", "region": "us" }]))?.0,
        200
    );
    let taken = "insert into players (id, region) values ('p1', 'eu')";
    assert!(words(&need!(as_ann(taken))).contains("permission denied for table players"));
    assert_eq!(
        http("/api/append/players?key=p1", &ann, json!([{ "id": "p1", "region": "eu" }]))?.0,
        403
    );
    assert_eq!(http("/api/tables/players", &ann, json!({ "id": "p2", "region": "eu" }))?.0, 403);

    let becomes = |sql: &str, expected: &str| {
        until(sql, PATIENCE, || {
            let output = as_root(sql).map_err(anyhow::Error::msg)?;
            anyhow::ensure!(words(&output) == expected, "{output:?}");
            Ok(())
        })
    };
    becomes("select count(*) from moves", "3")?;
    let owners = "select string_agg(owner, ',' order by owner) from moves";
    assert_eq!(words(&need!(as_root(owners))), "ann,ann,bob");
    becomes("select region from players", "us")
}
