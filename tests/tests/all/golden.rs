//! Data folders written by earlier versions, which every later version must open. `tests/golden/v<n>` holds a
//! configuration, a dataset and the answers it gave when it was made; the newest is made by this file with
//! `OTUS_GOLDEN_MAKE=v<n>`, and never made again once it is released.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use otus_tests::events;
use otus_tests::leash;
use otus_tests::otus::{Otus, Setup};
use otus_tests::paths;
use serde_json::{Value, json};

/// What is asked of the folder when it is made and ever after.
const QUESTIONS: [&str; 9] = [
    "select count(*), sum(id), sum(amount), count(distinct id) from events",
    "select kind, country, count(*), min(at), max(at) from events group by 1, 2 order by 1, 2",
    "select bucket, kind, country, events, amounts, ids, people from by_kind_minute order by 1, 2, 3",
    "select bucket, kind, country, events, amounts, ids, people from by_kind_hour order by 1, 2, 3",
    "select bucket, kind, country, events, amounts, ids, people from by_kind_day order by 1, 2, 3",
    "select bucket, country, events, amounts, ids from by_country_hour order by 1, 2",
    "select partition, \"offset\", reason, encode(payload, 'hex') from otus.rejected order by 1, 2",
    "select path, json_type, count, first_offset from otus.fields order by 1, 2",
    "select id, at, kind, country, amount, _partition, _offset from events order by id limit 50",
];

const EVENTS: u64 = 600;

fn ask(otus: &Otus) -> Result<Vec<Value>> {
    QUESTIONS.iter().map(|sql| Ok(json!({"sql": sql, "rows": otus.rows(sql)?}))).collect()
}

/// Copies a folder without what is no part of a dataset: the lock and the embedded log.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (from, to) = (entry?.path(), to.to_owned());
        if from.ends_with("_lock") || from.ends_with("local-log") {
            continue;
        }
        let to = to.join(from.file_name().context("a name")?);
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

fn folders() -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(paths::checkout().join("tests/golden"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    found.retain(|path| path.is_dir());
    found.sort();
    Ok(found)
}

/// A server over a copy of the folder, its tables declared as they were.
fn open(golden: &Path) -> Result<Otus> {
    let folder = leash::fresh_folder("golden")?;
    copy(golden, &folder)?;
    let tables = fs::read_to_string(golden.join("tables.toml"))?;
    let otus = Setup::tables(tables).folder(&folder).storage(STORAGE.to_owned()).start()?;
    Ok(otus)
}

const STORAGE: &str = "[storage]\nurl = \"file:./data\"\n";

#[test]
fn every_golden_folder_opens_and_answers_as_it_did() -> Result<()> {
    let folders = folders()?;
    anyhow::ensure!(!folders.is_empty(), "no golden folder");
    for golden in folders {
        let name = golden.display().to_string();
        let text = fs::read_to_string(golden.join("answers.json"))?;
        let wanted: Vec<Value> = serde_json::from_str(&text)?;
        let mut otus = open(&golden).with_context(|| name.clone())?;
        for life in ["opened", "compacted", "opened again"] {
            if life == "compacted" {
                otus.maintain()?;
            } else if life == "opened again" {
                otus.stop()?;
                otus.launch()?;
            }
            for answer in &wanted {
                let sql = answer["sql"].as_str().context("sql")?;
                let found = json!(otus.rows(sql).with_context(|| format!("{name}: {sql}"))?);
                anyhow::ensure!(
                    found == answer["rows"],
                    "{name}, {life}: {sql}\n{found}\n{answer}"
                );
            }
        }
        otus.run(&["inspect", "--verify"]).with_context(|| name)?;
    }
    Ok(())
}

/// Makes the folder that `OTUS_GOLDEN_MAKE` names; without it, makes one that is thrown away, so that the
/// making works whenever a format changes.
#[test]
fn a_golden_folder_can_be_made() -> Result<()> {
    let made = match std::env::var("OTUS_GOLDEN_MAKE") {
        Ok(name) => paths::checkout().join("tests/golden").join(name),
        Err(_) => leash::fresh_folder("golden-made")?.join("v0"),
    };
    let folder = leash::fresh_folder("golden-making")?;
    let lines: Vec<Vec<u8>> = (0..EVENTS)
        .map(|id| match id % 50 {
            7 => format!("{{\"id\":{id},\"at\":{},\"new\":{{}}}}", events::BEGIN_US).into_bytes(),
            _ => events::payload(id),
        })
        .collect();
    fs::write(folder.join("events.ndjson"), lines.join(&b'\n'))?;
    let tables = events::table_section("TOPIC");
    let tables = tables.replace("topic  = \"TOPIC\"", "file   = \"events.ndjson\"");
    let setup = Setup::tables(tables.as_str()).folder(&folder).storage(STORAGE.to_owned());
    let mut otus = setup.start()?;
    let bad = events::bad(EVENTS);
    otus.wait_number("select count(*) from otus.rejected", bad)?;
    otus.wait_number("select count(*) from events", i64::try_from(EVENTS)? - bad)?;
    otus.flush()?;
    otus.maintain()?;
    let answers = ask(&otus)?;
    otus.stop()?;
    anyhow::ensure!(!made.exists(), "{} is there already", made.display());
    fs::create_dir_all(&made)?;
    for name in ["data", "events.ndjson"] {
        let from = folder.join(name);
        if from.is_dir() {
            copy(&from, &made.join(name))?;
        } else {
            fs::copy(from, made.join(name))?;
        }
    }
    fs::write(made.join("tables.toml"), tables)?;
    fs::write(made.join("answers.json"), serde_json::to_string_pretty(&answers)? + "\n")?;
    anyhow::ensure!(answers.len() == QUESTIONS.len(), "answers are missing");
    Ok(())
}
