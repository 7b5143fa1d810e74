//! Kafka behind TLS and SASL: each way to log in reads and appends; a wrong password and a certificate that is not
//! trusted are named where an operator looks, while the server answers; and the password is seen nowhere.

use anyhow::{Context, Result};
use otus_tests::broker::Broker;
use otus_tests::otus::{Otus, PATIENCE, Setup, get};
use otus_tests::process::until;
use otus_tests::secured::{PASSWORD, Secured, USER};
use otus_tests::{events, leash, need};

use crate::exactly_once::audit;
use crate::kafka_faults::produce;

const WRONG: &str = "Sonnenuhr-0815";
/// The system tables, each of which might repeat what it should not.
const TABLES: [&str; 5] = ["partitions", "segments", "rollups", "rejected", "fields"];

/// Lines of the `[kafka]` section that log in.
fn login(secured: &Secured, mechanism: &str, password: &str) -> String {
    format!(
        "security.protocol = \"SASL_SSL\"\nsasl.mechanism = \"{mechanism}\"\n\
         sasl.username = \"{USER}\"\n{password}\nssl.ca.location = \"{}\"\n",
        secured.authority().display()
    )
}

/// A table of the topic, which may be appended to.
fn setup(topic: &str, address: &str, lines: &str) -> Setup {
    let table = events::table_section(topic).replace("time   =", "append = true\ntime   =");
    Setup::tables(table).kafka_with(address, lines)
}

/// Neither logs nor answers nor system tables show a password.
fn is_hidden(otus: &Otus, password: &str) -> Result<()> {
    let mut shown = vec![("output", otus.output())];
    for path in ["/readyz", "/metrics", "/api/ingest", "/api/schema"] {
        shown.push((path, get(&otus.url(path))?.1));
    }
    for table in TABLES {
        shown.push((table, format!("{:?}", otus.rows(&format!("select * from otus.{table}"))?)));
    }
    for verb in ["check", "inspect"] {
        let output = otus.command(&[verb])?;
        shown.push((verb, format!("{output:?}")));
    }
    for (place, text) in shown {
        anyhow::ensure!(!text.contains(password), "{place} shows the password");
    }
    Ok(())
}

/// Waits until every row of `otus.partitions` waits, and gives the one error of all.
fn wait_refused(otus: &Otus, rows: usize) -> Result<String> {
    until("the broker's refusal", PATIENCE, || {
        let found = otus.rows("select state, error, \"table\" from otus.partitions")?;
        anyhow::ensure!(found.len() == rows, "{found:?}");
        let mut errors: Vec<String> = Vec::new();
        for row in found {
            let [state, error, table] = row.as_slice() else { anyhow::bail!("{row:?}") };
            let (state, table) = (state.as_deref(), table.as_deref());
            anyhow::ensure!(state == Some("waiting") && table == Some("events"), "{row:?}");
            errors.push(error.clone().context("no error")?);
        }
        errors.dedup();
        let [error] = errors.as_slice() else { anyhow::bail!("{errors:?}") };
        anyhow::ensure!(!error.contains("brokers are down"), "the error does not say why: {error}");
        Ok(error.clone())
    })
}

/// Every way in reads what is there and takes appends.
#[test]
fn every_way_to_log_in_reads_and_appends() -> Result<()> {
    let (broker, secured) = need!(Broker::secured());
    let folder = leash::fresh_folder("secret")?;
    let file = folder.join("password");
    std::fs::write(&file, format!("{PASSWORD}\n"))?;
    let in_file = format!("sasl.password_file = \"{}\"", file.display());
    let from_environment = "sasl.password = \"${KAFKA_PASSWORD}\"";
    let tls = format!(
        "security.protocol = \"SSL\"\nssl.ca.location = \"{}\"\n",
        secured.authority().display()
    );
    for (way, address, lines) in [
        (
            "scram-environment",
            secured.sasl_address(),
            login(secured, "SCRAM-SHA-512", from_environment),
        ),
        ("scram-file", secured.sasl_address(), login(secured, "SCRAM-SHA-512", &in_file)),
        ("plain-file", secured.sasl_address(), login(secured, "PLAIN", &in_file)),
        ("tls", secured.tls_address(), tls),
    ] {
        let topic = broker.topic(way, 4, &[])?;
        produce(broker, &topic, 0, 1_000)?;
        let setup = setup(&topic, &address, &lines).environment("KAFKA_PASSWORD", PASSWORD);
        let otus = setup.start()?;
        audit(&otus, 1_000).with_context(|| way)?;
        let (status, answer) = otus.append(&topic, &[events::payload(1_000)])?;
        anyhow::ensure!(status == 200, "{way}: {status} {answer}");
        audit(&otus, 1_001).with_context(|| way)?;
        otus.wait_ready()?;
        is_hidden(&otus, PASSWORD).with_context(|| way)?;
    }
    Ok(())
}

#[test]
fn a_wrong_password_is_named_and_the_server_answers() -> Result<()> {
    let (broker, secured) = need!(Broker::secured());
    let topic = broker.topic("refused", 4, &[])?;
    produce(broker, &topic, 0, 500)?;
    let folder = leash::fresh_folder("refused")?;
    let lines = login(secured, "SCRAM-SHA-512", "sasl.password = \"${KAFKA_PASSWORD}\"");
    let with = |password: &str| -> Result<Otus> {
        let setup = setup(&topic, &secured.sasl_address(), &lines);
        setup.environment("KAFKA_PASSWORD", password).folder(&folder).start()
    };
    // Before anything is known of the topic, and with positions from before.
    for (known, rows) in [(0, 1), (500, 4)] {
        let mut otus = with(WRONG)?;
        let error = wait_refused(&otus, rows)?;
        for part in ["uthentication", "SCRAM-SHA-512", "sasl.password"] {
            anyhow::ensure!(error.contains(part), "no {part:?} in the error: {error}");
        }
        let (count, ids, _) = events::sums(known);
        let seen = otus.connect()?.numbers("select count(*), coalesce(sum(id), 0) from events")?;
        anyhow::ensure!(seen == [count, ids], "{seen:?}");
        let (status, body) = get(&otus.url("/readyz"))?;
        let tells = body.contains("uthentication") && body.contains(&topic);
        anyhow::ensure!(status == 503 && tells, "{status} {body}");
        let (status, answer) = otus.append(&topic, &[events::payload(1)])?;
        anyhow::ensure!(
            status == 503 && answer.contains("nothing was written"),
            "{status} {answer}"
        );
        is_hidden(&otus, WRONG)?;
        otus.stop()?;
        let mut otus = with(PASSWORD)?;
        audit(&otus, 500)?;
        otus.stop()?;
    }
    Ok(())
}

#[test]
fn a_certificate_that_is_not_trusted_is_named() -> Result<()> {
    let (broker, secured) = need!(Broker::secured());
    let topic = broker.topic("untrusted", 1, &[])?;
    for (authority, expected) in [
        (format!("ssl.ca.location = \"{}\"\n", secured.stranger().display()), "certificate"),
        // Without a word on whom to trust: those of the system, who did not sign it either.
        (String::new(), "certificate"),
    ] {
        let lines = format!("security.protocol = \"SSL\"\n{authority}");
        let otus = setup(&topic, &secured.tls_address(), &lines).start()?;
        let error = wait_refused(&otus, 1)?;
        for part in [expected, "ssl.ca.location"] {
            anyhow::ensure!(error.contains(part), "no {part:?} in the error: {error}");
        }
        otus.wait_number("select count(*) from events", 0)?;
        let (status, body) = get(&otus.url("/readyz"))?;
        anyhow::ensure!(status == 503 && body.contains(expected), "{status} {body}");
    }
    // A client that speaks plainly to a listener with TLS is told so.
    let otus = setup(&topic, &secured.tls_address(), "").start()?;
    let error = wait_refused(&otus, 1)?;
    anyhow::ensure!(error.contains("security.protocol"), "{error}");
    Ok(())
}
