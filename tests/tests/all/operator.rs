//! What an operator meets: secrets that never show, a store that fails and comes back, files that grow or are
//! cut, the example program, `otus sql` in a script.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, PATIENCE, Setup, get, post};
use otus_tests::process::until;
use otus_tests::{events, paths};

const SECRET: &str = "hunter2-5EcReT";

const TABLE: &str = r#"
[tables.visits]
file = "visits.ndjson"
time = "at"
[tables.visits.columns]
at = "timestamptz"
n  = "bigint"
"#;

fn words(otus: &Otus, arguments: &[&str]) -> Result<String> {
    let output = otus.command(arguments)?;
    anyhow::ensure!(!output.status.success(), "{arguments:?} must fail");
    let both = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&both).into_owned())
}

#[test]
fn secrets_never_show() -> Result<()> {
    let kafka = |line: &str| format!("[kafka]\nbootstrap.servers = \"127.0.0.1:1\"\n{line}\n");
    for (section, told) in [
        (kafka(&format!("sasl.pasword = \"{SECRET}\"")), "sasl.pasword"),
        (kafka(&format!("socket.timeout.ms = \"{SECRET}\"")), "socket.timeout.ms"),
    ] {
        let otus = Setup::tables(format!("{section}{}", events::table_section("t"))).prepare()?;
        for verb in ["check", "serve"] {
            let said = words(&otus, &[verb, "-c", "otus.toml"])?;
            anyhow::ensure!(said.contains(told), "{verb} does not name {told}: {said}");
            anyhow::ensure!(!said.contains(SECRET), "{verb} shows the secret: {said}");
        }
    }
    let storage = format!("[storage]\nurl = \"s3://key:{SECRET}@bucket/x\"\n");
    let otus = Setup::tables(events::table_section("t")).storage(storage).prepare()?;
    let said = words(&otus, &["serve", "-c", "otus.toml"])?;
    anyhow::ensure!(said.contains('@') && !said.contains(SECRET), "{said}");
    Ok(())
}

#[test]
fn a_store_that_fails_is_told_and_recovers() -> Result<()> {
    let tables =
        events::table_section("t").replace("[tables.events]", "[tables.events]\nappend = true");
    let otus = Setup::tables(tables).start()?;
    otus.wait_ready()?;
    let event = String::from_utf8(events::payload(1))?;
    let append = || post(&otus.url("/api/append/t"), "application/x-ndjson", &event);
    let (log, away) = (otus.folder().join("data/_log"), otus.folder().join("data/_log.away"));
    std::fs::rename(&log, &away)?;
    std::fs::write(&log, "no folder")?;
    anyhow::ensure!(append()?.0 == 200, "the event log is another one and still works");
    otus.wait_number("select count(*) from events", 1)?;
    let (status, _) = post(&otus.url("/api/ingest/flush"), "application/json", "{}")?;
    anyhow::ensure!(status >= 500, "a flush without a store: {status}");
    until("/readyz tells the trouble", PATIENCE, || {
        let (status, body) = get(&otus.url("/readyz"))?;
        anyhow::ensure!(status == 503 && body.contains("cannot be written"), "{status} {body}");
        Ok(())
    })?;
    otus.wait_number("select count(*) from otus.partitions where state = 'waiting'", 1)?;
    until("the gauge tells it too", PATIENCE, || {
        let (_, metrics) = get(&otus.url("/metrics"))?;
        let gauge = metrics.lines().find(|l| l.starts_with("otus_ingest_healthy"));
        let healthy = gauge.context("no gauge")?;
        anyhow::ensure!(healthy.ends_with(" 0"), "{healthy}");
        Ok(())
    })?;
    std::fs::remove_file(&log)?;
    std::fs::rename(&away, &log)?;
    // Nobody asks for a flush again: the process tries by itself.
    otus.wait_ready()?;
    otus.wait_number("select count(*) from otus.segments", 3)?;
    otus.wait_number("select count(*) from events", 1)
}

#[test]
fn a_file_may_grow_but_not_shrink_or_change() -> Result<()> {
    let line =
        |n: usize| format!("{{\"at\":\"2026-01-01T00:00:00Z\",\"n\":{n},\"pad\":\"{n:>70}\"}}\n");
    // Below and above what the identity of a file is made from.
    for lines in [3, 2_000] {
        let mut otus = Setup::tables(TABLE).prepare()?;
        let file = otus.folder().join("visits.ndjson");
        let text: String = (0..lines).map(line).collect();
        std::fs::write(&file, &text)?;
        let read = |otus: &mut Otus, wanted: usize| -> Result<()> {
            otus.launch()?;
            otus.wait_number("select count(*) from visits", i64::try_from(wanted)?)?;
            otus.wait_ready()?;
            otus.stop()
        };
        read(&mut otus, lines)?;
        std::fs::write(&file, format!("{text}{}", line(lines)))?;
        read(&mut otus, lines + 1)?;
        read(&mut otus, lines + 1)?;
        let cut: String = (0..lines - 1).map(line).collect();
        for (now, cause) in [(cut, "cut"), (text.replacen("2026", "2025", 1), "not the one")] {
            std::fs::write(&file, now)?;
            otus.launch()?;
            let told = "select count(*) from otus.partitions where state = 'stopped'";
            otus.wait_number(told, 1)?;
            let error = otus.value("select error from otus.partitions")?;
            // A short file that was cut has another beginning as well.
            let expected = error.contains(cause) || (lines == 3 && error.contains("not the one"));
            anyhow::ensure!(expected, "{lines} lines, {cause}: {error}");
            anyhow::ensure!(get(&otus.url("/readyz"))?.0 == 503, "ready with a stopped file");
            otus.stop()?;
        }
    }
    Ok(())
}

#[test]
fn the_example_program_answers() -> Result<()> {
    let example = paths::binary()?.with_file_name("examples").join("embed");
    let output = Command::new(&example).current_dir(paths::checkout()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for row in ["| /0   | 20     |", "| /1   | 20     |", "| /2   | 20     |"] {
        anyhow::ensure!(said.contains(row), "no {row} in\n{said}");
    }
    let source = std::fs::read_to_string(paths::checkout().join("examples/embed.rs"))?;
    anyhow::ensure!(source.lines().count() < 40, "the example is to be short");
    Ok(())
}

/// Runs `otus sql` over a script; gives its exit code, output and errors.
fn sql(otus: &Otus, script: &str, more: &[&str]) -> Result<(Option<i32>, String, String)> {
    let port = otus.postgres_port().to_string();
    let mut child = Command::new(paths::binary()?)
        .args(["sql", "--port", &port])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("stdin")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

#[test]
fn otus_sql_runs_a_script() -> Result<()> {
    let otus = Setup::tables(events::table_section("t")).start()?;
    otus.wait_ready()?;
    let (code, said, errors) =
        sql(&otus, "select 1 + 1 as two;\n\\d\nselect 'a;b' as text;\n", &[])?;
    anyhow::ensure!(code == Some(0) && errors.is_empty(), "{code:?} {errors}");
    for word in ["two", "2", "events", "by_kind_minute", "a;b"] {
        anyhow::ensure!(said.contains(word), "no {word} in {said}");
    }
    let (code, said, errors) = sql(&otus, "select nonsense;\nselect 7 as seven;\n", &[])?;
    anyhow::ensure!(code != Some(0), "an error must show in the exit code: {said} {errors}");
    anyhow::ensure!(errors.contains("nonsense"), "{errors}");
    Ok(())
}

#[test]
fn infer_says_that_no_broker_answers() -> Result<()> {
    let otus = Setup::tables(events::table_section("t")).prepare()?;
    let began = std::time::Instant::now();
    let said =
        words(&otus, &["infer", "--topic", "x", "--kafka", "bootstrap.servers=127.0.0.1:1"])?;
    anyhow::ensure!(said.contains("127.0.0.1:1"), "{said}");
    anyhow::ensure!(said.lines().count() < 10, "a flood of {} lines", said.lines().count());
    anyhow::ensure!(began.elapsed() < Duration::from_secs(120), "it must give up");
    Ok(())
}
