//! SIGTERM: everything in memory is written before the process goes, but within the deadline; what could not
//! be written then is read again by the next life.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use otus_tests::objects::Objects;
use otus_tests::otus::{Otus, Setup};
use otus_tests::{events, need};

const EVENTS: u64 = 500;

fn filled(setup: Setup) -> Result<Otus> {
    let otus = setup.start()?;
    let lines: Vec<_> = (0..EVENTS).map(events::payload).collect();
    let (status, answer) = otus.append("events", &lines)?;
    anyhow::ensure!(status == 200, "append: {status} {answer}");
    otus.wait_number("select count(*) from events", events::sums(EVENTS).0)?;
    Ok(otus)
}

#[test]
fn a_stopped_server_has_written_what_was_in_memory() -> Result<()> {
    let mut otus = filled(Setup::tables(events::table_section("events")))?;
    let files = "select count(*) from otus.segments where kind = 'raw'";
    anyhow::ensure!(otus.number(files)? == 0, "rows are on disk already");
    otus.stop()?;
    let listed = otus.run(&["inspect", "--format", "json"])?;
    let tables: serde_json::Value = serde_json::from_str(&listed)?;
    anyhow::ensure!(tables[0]["rows"] == events::sums(EVENTS).0, "{listed}");
    Ok(())
}

#[test]
fn a_store_that_hangs_does_not_keep_a_stopping_server() -> Result<()> {
    let objects = need!(Objects::own());
    let tables = format!("[local_log]\nfolder = \"log\"\n\n{}", events::table_section("events"));
    let setup = Setup::tables(tables).storage(objects.storage_section("hang"));
    let mut otus = filled(setup.server("shutdown", "\"3s\""))?;
    objects.signal("STOP")?;
    let asked = Instant::now();
    otus.signal("TERM")?;
    let ended = otus.wait_end(Duration::from_secs(25));
    objects.signal("CONT")?;
    let status = ended.with_context(|| format!("after {:?}", asked.elapsed()))?;
    anyhow::ensure!(status.code() == Some(1), "{status}: {}", otus.output());
    let said = otus.output();
    anyhow::ensure!(said.contains("it will be read again"), "{said}");
    otus.launch()?;
    otus.wait_number("select count(*) from events", events::sums(EVENTS).0)?;
    otus.stop()
}
