//! The table of clients in `docs/clients.md`. Each test of a client checks its row, and rewrites it where
//! `OTUS_TEST_WRITE=1`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use super::{Counts, folder};
use crate::paths;

static WRITING: Mutex<()> = Mutex::new(());

fn document() -> PathBuf {
    paths::checkout().join("docs/clients.md")
}

/// Row of the table: client, version, probes, of which different. Others may follow.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.strip_prefix("| ")?.strip_suffix(" |")?;
    let cells: Vec<String> = inner.split(" | ").map(|cell| cell.trim().to_owned()).collect();
    (cells.len() == 4).then_some(cells)
}

/// Whether the tests write down what they find (`OTUS_TEST_WRITE=1`).
pub fn writes() -> bool {
    std::env::var("OTUS_TEST_WRITE").is_ok_and(|v| v == "1")
}

/// Checks that the table says of a client what was found, or writes it there.
pub fn documented(client: &str, counts: Counts) -> Result<()> {
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = std::fs::read_to_string(document())?;
    let wanted =
        format!("| {client} | {} | {} | {} |", version(client)?, counts.probes, counts.different);
    let row = text
        .lines()
        .find(|line| cells(line).is_some_and(|cells| cells.first().is_some_and(|c| c == client)));
    let row = row
        .with_context(|| format!("docs/clients.md has no row of {client}; it would be {wanted}"))?;
    if row == wanted {
        return Ok(());
    }
    if writes() {
        return Ok(std::fs::write(document(), text.replace(row, &wanted))?);
    }
    anyhow::bail!(
        "docs/clients.md says {row}\nfound was        {wanted}\nrun the tests of clients with OTUS_TEST_WRITE=1"
    )
}

/// Checks the versions of all rows against the manifests that the clients are installed from.
pub fn versions_are_documented() -> Result<()> {
    let text = std::fs::read_to_string(document())?;
    let rows: Vec<Vec<String>> = text
        .lines()
        .filter_map(cells)
        .filter(|c| c.first().is_some_and(|c| c != "client"))
        .collect();
    let rows: Vec<&Vec<String>> =
        rows.iter().filter(|c| !c.iter().all(|cell| cell.starts_with("--"))).collect();
    anyhow::ensure!(rows.len() >= 15, "only {} clients in the table", rows.len());
    for row in rows {
        let (client, written) = (row.first().context("a name")?, row.get(1).context("a version")?);
        let wanted = version(client)?;
        anyhow::ensure!(
            *written == wanted,
            "docs/clients.md says {client} {written}, its manifest {wanted}"
        );
    }
    Ok(())
}

/// The version of a client, from where it is pinned.
fn version(client: &str) -> Result<String> {
    let python = |name: &str| pinned("python/requirements.txt", &format!("{name}=="));
    match client {
        "psql" => Ok("15".into()),
        "pgcli" => python("pgcli"),
        "psycopg2" => python("psycopg2-binary"),
        "psycopg" => python("psycopg"),
        "asyncpg" => python("asyncpg"),
        "SQLAlchemy" | "SQLAlchemy with psycopg" => python("SQLAlchemy"),
        "SQLAlchemy 1.4" => pinned("superset/requirements.txt", "SQLAlchemy=="),
        "pandas" => python("pandas"),
        "ADBC" => python("adbc-driver-postgresql"),
        "connectorx" => python("connectorx"),
        "psqlodbc" => Ok("13.02".into()),
        "pgjdbc" => pinned("java/pom.xml", "<artifactId>postgresql</artifactId><version>"),
        "node-postgres" => pinned("node/package.json", "\"pg\":\""),
        "pgx" => pinned("go/go.mod", "github.com/jackc/pgx/v5v"),
        "tokio-postgres" => pinned("../../Cargo.lock", "name=\"tokio-postgres\"version=\""),
        "Superset" => pinned("superset/requirements.txt", "apache_superset=="),
        _ => anyhow::bail!("nobody knows the client {client}"),
    }
}

/// What follows `before` in a file, white space left out of both: digits and points.
fn pinned(file: &str, before: &str) -> Result<String> {
    let text = std::fs::read_to_string(folder().join(file))?;
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    // A requirement stands at the beginning of its line; in the other files the name is unique.
    let found = match lines.iter().find_map(|line| line.strip_prefix(before)) {
        Some(rest) => rest.to_owned(),
        None => {
            let all = lines.concat();
            let (_, rest) =
                all.split_once(before).with_context(|| format!("no {before} in {file}"))?;
            rest.to_owned()
        }
    };
    Ok(found.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect())
}
