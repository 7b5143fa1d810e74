//! Every client signs in by password over TLS, and none with a wrong one.

use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::clients::{last, printed, probes, program};
use otus_tests::otus::{Otus, PATIENCE, Setup};
use otus_tests::process::{listens, until};
use otus_tests::{leash, need};

use crate::access_login::{certificate, password};

const WITHIN: Duration = Duration::from_secs(90);
const PASSWORD: &str = "Füller 7";

/// Serves the user otus, by password and only over TLS.
fn served() -> Result<Otus, String> {
    let serve = || -> Result<Otus> {
        let folder = leash::fresh_folder("otus")?;
        certificate(&folder, "server").map_err(anyhow::Error::msg)?;
        let tls =
            "[server.tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\nrequired = true\n";
        let user = format!(
            "[users.otus]\n{}roles = [\"admin\"]\n[roles.admin]\nadmin = true\n",
            password(PASSWORD)?
        );
        let table =
            "[tables.t]\ntopic = \"t\"\ntime = \"at\"\n[tables.t.columns]\nat = \"timestamptz\"\n";
        let mut otus = Setup::tables(format!("{tls}{user}{table}")).folder(&folder).prepare()?;
        otus.spawn(&[])?;
        let port = otus.postgres_port();
        until("the server listens", PATIENCE, || {
            anyhow::ensure!(listens(port), "nobody listens");
            Ok(())
        })?;
        Ok(otus)
    };
    serve().map_err(|e| format!("{e:#}"))
}

/// `probe` is one that the client has.
fn signs_in(client: &str, probe: &str) -> Result<()> {
    need!(program(client));
    let otus = need!(served());
    let run = |password: &str, tls: &str| -> Result<(String, bool)> {
        let environment = [("PGPASSWORD", password), ("PGSSLMODE", tls), ("PROBE", probe)];
        printed(
            program(client).map_err(anyhow::Error::msg)?,
            otus.postgres_port(),
            WITHIN,
            &environment,
        )
    };
    let (words, ended) = run(PASSWORD, "require")?;
    anyhow::ensure!(ended, "{client} does not sign in:\n{}", last(&words));
    let answers = probes(&words)?;
    let answer =
        answers.get(probe).with_context(|| format!("{client} has no probe {probe}: {words}"))?;
    anyhow::ensure!(!answer.contains_key("error"), "{client} signs in, but {answer:?}");
    // connectorx tries again for half a minute before it says so.
    if client == "connectorx" {
        return Ok(());
    }
    for (password, tls, why) in [
        ("pencil", "require", "password authentication failed"),
        (PASSWORD, "disable", "not encrypted"),
    ] {
        let (words, _) = run(password, tls)?;
        let answered = probes(&words)?.get(probe) == Some(answer);
        anyhow::ensure!(!answered, "{client} is let in with {password:?}, TLS {tls}");
        anyhow::ensure!(words.contains(why), "{client} does not say {why:?}:\n{}", last(&words));
    }
    Ok(())
}

#[test]
fn psql_signs_in() -> Result<()> {
    signs_in("psql", "one")
}

#[test]
fn pgcli_signs_in() -> Result<()> {
    signs_in("pgcli", "one")
}

#[test]
fn psycopg2_signs_in() -> Result<()> {
    signs_in("psycopg2", "one")
}

#[test]
fn psycopg_signs_in() -> Result<()> {
    signs_in("psycopg", "one")
}

/// Whoever asks for it is bound to the certificate that the server shows, and not let in where none is shown.
#[test]
fn psycopg_binds_its_password_to_the_certificate() -> Result<()> {
    for client in ["psycopg", "psycopg2"] {
        need!(program(client));
        let otus = need!(served());
        let run = |binding: &str, tls: &str| -> Result<String> {
            let environment = [
                ("PGPASSWORD", PASSWORD),
                ("PGSSLMODE", tls),
                ("PGCHANNELBINDING", binding),
                ("PROBE", "one"),
            ];
            let program = program(client).map_err(anyhow::Error::msg)?;
            Ok(printed(program, otus.postgres_port(), WITHIN, &environment)?.0)
        };
        let bound = run("require", "require")?;
        let answer = probes(&bound)?.remove("one").context("no answer")?;
        anyhow::ensure!(!answer.contains_key("error"), "{client}, bound: {answer:?}");
        let plain = run("require", "disable")?;
        let answered = probes(&plain)?.get("one") == Some(&answer);
        let refused = plain.contains("channel binding") || plain.contains("not encrypted");
        anyhow::ensure!(!answered && refused, "{client}:\n{}", last(&plain));
    }
    Ok(())
}

#[test]
fn asyncpg_signs_in() -> Result<()> {
    signs_in("asyncpg", "one")
}

#[test]
fn sqlalchemy_signs_in() -> Result<()> {
    signs_in("SQLAlchemy", "one")
}

#[test]
fn pandas_signs_in() -> Result<()> {
    signs_in("pandas", "one")
}

#[test]
fn adbc_signs_in() -> Result<()> {
    signs_in("ADBC", "one")
}

#[test]
fn connectorx_signs_in() -> Result<()> {
    signs_in("connectorx", "one, binary")
}

#[test]
fn psqlodbc_signs_in() -> Result<()> {
    signs_in("psqlodbc", "one")
}

#[test]
fn pgjdbc_signs_in() -> Result<()> {
    signs_in("pgjdbc", "one")
}

#[test]
fn node_postgres_signs_in() -> Result<()> {
    signs_in("node-postgres", "one")
}

#[test]
fn pgx_signs_in() -> Result<()> {
    signs_in("pgx", "one")
}
