//! Real clients, unmodified, against Otus and PostgreSQL with the same rows: what they print is the same, but for
//! what `tests/clients/differences.toml` lists with its reason. The table in `docs/clients.md` says what was found.

use std::time::Duration;

use anyhow::Result;
use otus_tests::clients::documents::{documented, versions_are_documented};
use otus_tests::clients::{Servers, compared, program, tokio_client};
use otus_tests::reference::Reference;
use otus_tests::{given, need, wiki};

/// A client runs some three seconds, Superset half a minute; a loaded machine may take longer.
const WITHIN: Duration = Duration::from_secs(90);
const WITHIN_SUPERSET: Duration = Duration::from_secs(240);

fn compare(client: &str, within: Duration) -> Result<()> {
    given!(wiki::file());
    need!(program(client));
    let servers = Servers::shared(need!(Reference::shared()))?;
    documented(client, servers.compare(client, within)?)
}

#[test]
fn psql_prints_the_same() -> Result<()> {
    compare("psql", WITHIN)
}

#[test]
fn pgcli_completes_the_same() -> Result<()> {
    compare("pgcli", WITHIN)
}

#[test]
fn psycopg2_reads_the_same() -> Result<()> {
    compare("psycopg2", WITHIN)
}

#[test]
fn psycopg_reads_the_same() -> Result<()> {
    compare("psycopg", WITHIN)
}

#[test]
fn asyncpg_reads_the_same() -> Result<()> {
    compare("asyncpg", WITHIN)
}

#[test]
fn sqlalchemy_reads_and_reflects_the_same() -> Result<()> {
    compare("SQLAlchemy", WITHIN)
}

#[test]
fn sqlalchemy_with_psycopg_reads_and_reflects_the_same() -> Result<()> {
    compare("SQLAlchemy with psycopg", WITHIN)
}

#[test]
fn sqlalchemy_1_4_reads_and_reflects_the_same() -> Result<()> {
    compare("SQLAlchemy 1.4", WITHIN)
}

#[test]
fn pandas_reads_the_same() -> Result<()> {
    compare("pandas", WITHIN)
}

#[test]
fn adbc_reads_the_same() -> Result<()> {
    compare("ADBC", WITHIN)
}

#[test]
fn connectorx_reads_the_same() -> Result<()> {
    compare("connectorx", WITHIN)
}

#[test]
fn psqlodbc_reads_the_same() -> Result<()> {
    compare("psqlodbc", WITHIN)
}

#[test]
fn pgjdbc_reads_the_same() -> Result<()> {
    compare("pgjdbc", WITHIN)
}

#[test]
fn node_postgres_reads_the_same() -> Result<()> {
    compare("node-postgres", WITHIN)
}

#[test]
fn pgx_reads_the_same() -> Result<()> {
    compare("pgx", WITHIN)
}

#[test]
fn superset_explores_and_charts_the_same() -> Result<()> {
    compare("Superset", WITHIN_SUPERSET)
}

#[test]
fn tokio_postgres_reads_the_same() -> Result<()> {
    given!(wiki::file());
    let servers = Servers::shared(need!(Reference::shared()))?;
    let (postgres, otus) = servers.ports();
    let (wanted, found) = (tokio_client::answers(postgres)?, tokio_client::answers(otus)?);
    documented("tokio-postgres", compared("tokio-postgres", &wanted, &found)?)
}

#[test]
fn the_table_of_clients_has_the_versions_that_are_installed() -> Result<()> {
    versions_are_documented()
}
