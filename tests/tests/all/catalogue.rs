//! The Postgres catalogue as tools see it: psql's backslash commands, and the statements by which drivers and BI
//! tools find out what there is (`tests/catalogue`, by the shape of what they send).

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, Setup};
use otus_tests::postgres::{Answer, Client, Rows};
use otus_tests::reference::Reference;
use otus_tests::{need, paths};

const TABLE: &str = r#"
[tables.visits]
description = "Visits of pages"
file = "visits.ndjson"
time = "at"
[tables.visits.columns]
at    = "timestamptz"
page  = { type = "text", description = "Page that was seen" }
ms    = "integer"
price = "numeric(12,2)"
tags  = "text[]"
[tables.visits.measures]
visits = "count(*)"
total  = "sum(ms)"
[tables.visits.rollups.visits_by_page]
granularity = ["hour"]
dimensions  = ["page"]
"#;

/// All that make sense where nothing can be created.
#[rustfmt::skip]
const COMMANDS: &[&str] = &[
    r"\d", r"\d visits", r"\d+ visits", r"\d visits_by_page_hour", r"\d+ visits_by_page_hour", r"\d otus.segments",
    r"\d+ pg_class", r"\dt+", r"\dv+", r"\di+", r"\ds", r"\dm", r"\dE", r"\dn+", r"\l+", r"\du+", r"\dg", r"\df+",
    r"\df sum", r"\da sum", r"\do ||", r"\dT+", r"\dT int8", r"\dC int8", r"\dD", r"\dp", r"\z visits", r"\ddp",
    r"\db+", r"\sv visits_by_page_hour", r"\dx", r"\dy", r"\dF", r"\dFd", r"\dFp", r"\dFt", r"\dO", r"\dRp", r"\dRs",
    r"\drds", r"\dconfig TimeZone", r"\dc", r"\dL", r"\dd", r"\des", r"\dew", r"\det", r"\dX", r"\dA+",
    r"\dAc btree int8", r"\dAf btree int8", r"\dAo btree", r"\dAp btree", r"\dP", r"\dS", r"\dt information_schema.*",
];

fn server() -> Result<Otus> {
    let otus = Setup::tables(TABLE.to_owned()).prepare()?;
    let rows = (0..100).map(|n| {
        format!(
            "{{\"at\":\"2026-01-01T00:{:02}:00Z\",\"page\":\"/{}\",\"ms\":{n}}}\n",
            n % 60,
            n % 7
        )
    });
    std::fs::write(otus.folder().join("visits.ndjson"), rows.collect::<String>())?;
    let mut otus = otus;
    otus.launch()?;
    otus.wait_ready()?;
    Ok(otus)
}

#[test]
fn every_backslash_command_answers() -> Result<()> {
    let otus = server()?;
    let psql = need!(otus.psql());
    let mut failed = Vec::new();
    for command in COMMANDS {
        if let Err(e) = psql.query(command) {
            failed.push(e.to_string());
        }
    }
    anyhow::ensure!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
    let columns = psql.query(r"\d visits")?;
    for line in
        ["at|timestamp with time zone||not null|", "price|numeric(12,2)|||", "tags|text[]|||"]
    {
        anyhow::ensure!(columns.lines().any(|l| l == line), "{line} is not in\n{columns}");
    }
    let described = psql.query(r"\d+ visits")?;
    anyhow::ensure!(described.contains("Page that was seen"), "{described}");
    anyhow::ensure!(psql.query(r"\dt+")?.contains("Visits of pages"));
    let view = psql.query(r"\sv visits_by_page_hour")?;
    anyhow::ensure!(view.contains("time_bucket('hour', at) AS bucket"), "{view}");
    Ok(())
}

/// The same table as PostgreSQL has it.
const REFERENCE: &str = "
CREATE TABLE visits (at timestamptz NOT NULL, page text, ms integer, price numeric(12,2), tags text[]);
COMMENT ON TABLE visits IS 'Visits of pages';
COMMENT ON COLUMN visits.page IS 'Page that was seen';
";
const DATABASE: &str = "catalogue";
/// Ids of what users made begin here.
const FIRST_ID: u32 = 16_384;

/// Statements of `tests/catalogue` by file, without `.sql`, and number, and why they differ.
fn listed() -> Result<BTreeMap<String, String>> {
    let file = paths::checkout().join("tests/catalogue/differences.toml");
    let listed: BTreeMap<String, BTreeMap<String, String>> =
        toml::from_str(&std::fs::read_to_string(file)?).context("differences.toml")?;
    let of_file = |(file, reasons): (String, BTreeMap<String, String>)| {
        reasons.into_iter().map(move |(number, reason)| (format!("{file} {number}"), reason))
    };
    Ok(listed.into_iter().flat_map(of_file).collect())
}

/// An answer without what no two servers share: ids of their own things, the name of the database, the order of rows.
fn comparable(answer: Answer) -> Result<(Vec<(String, u32)>, Rows)> {
    let (columns, mut rows) = match answer {
        Answer::Rows(columns, rows) => (columns, rows),
        Answer::Failure(state, message) => anyhow::bail!("{state} {message}"),
    };
    for value in rows.iter_mut().flatten().flatten() {
        if value.parse::<u32>().is_ok_and(|id| id >= FIRST_ID) {
            *value = "an id".into();
        } else if value == DATABASE {
            *value = "otus".into();
        }
    }
    rows.sort();
    Ok((columns.into_iter().map(|column| (column.name, column.oid)).collect(), rows))
}

/// What differs in an answer; nothing if it is PostgreSQL's.
fn difference(sql: &str, postgres: &Client, otus: &Client) -> Result<Option<String>> {
    let (names, rows) = comparable(postgres.answer(sql)?).context("PostgreSQL")?;
    let (own_names, own) = match comparable(otus.answer(sql)?) {
        Ok(own) => own,
        Err(e) => return Ok(Some(format!("{e:#}"))),
    };
    if own_names != names {
        return Ok(Some(format!("columns are {own_names:?}, not {names:?}")));
    }
    let more = own.iter().find(|row| !rows.contains(row));
    let less = rows.iter().find(|row| !own.contains(row));
    Ok((own != rows)
        .then(|| format!("{} rows, not {}; {more:?} and not {less:?}", own.len(), rows.len())))
}

#[test]
fn what_tools_ask_is_answered_as_by_postgres() -> Result<()> {
    let reference = need!(Reference::shared());
    reference.database(DATABASE)?;
    let postgres = Client::connect_to(reference.port(), DATABASE)?;
    postgres.rows(REFERENCE)?;
    let server = server()?;
    let otus = Client::connect(server.postgres_port())?;
    let mut files: Vec<_> = std::fs::read_dir(paths::checkout().join("tests/catalogue"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|e| e == "sql"));
    files.sort();
    let (listed, mut asked, mut wrong) = (listed()?, 0, Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file).context("cannot read the statements")?;
        let name = file.file_stem().context("a file without a name")?.to_string_lossy();
        let statements = text.lines().filter(|line| !line.starts_with("--") && !line.is_empty());
        for (number, sql) in (1..).zip(statements) {
            asked += 1;
            let place = format!("{name} {number}");
            match (difference(sql, &postgres, &otus)?, listed.contains_key(&place)) {
                (Some(what), false) => wrong.push(format!("{place} differs: {sql}\n    {what}")),
                (None, true) => wrong.push(format!("{place} agrees, and is listed")),
                _ => {}
            }
        }
    }
    anyhow::ensure!(asked > 60, "only {asked} statements were found");
    anyhow::ensure!(listed.values().all(|reason| !reason.is_empty()), "a reason is missing");
    anyhow::ensure!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn ids_stay_the_same() -> Result<()> {
    let mut otus = server()?;
    let psql = need!(otus.psql());
    let sql = "SELECT oid::bigint, relname FROM pg_class WHERE oid >= 16384 ORDER BY 2";
    let before = psql.query(sql)?;
    anyhow::ensure!(before.contains("visits_by_page_hour"), "{before}");
    otus.kill()?;
    otus.launch()?;
    otus.wait_ready()?;
    let psql = need!(otus.psql());
    anyhow::ensure!(psql.query(sql)? == before, "ids have changed");
    let same = psql.query("SELECT 'visits'::regclass::oid = c.oid, c.oid::regclass FROM pg_class c WHERE relname = 'visits'")?;
    anyhow::ensure!(same == "t|visits", "{same}");
    Ok(())
}
