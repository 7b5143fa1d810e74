//! Datasets written by earlier versions, which every later version must open. `tests/golden/v<n>` holds a
//! configuration, a dataset and the answers to it; from v2 on it is an archive, with the embedded log and with
//! answers that `tests/python/golden.py` worked out without Otus. A new one is made by
//!
//! ```text
//! OTUS_GOLDEN_MAKE=v3 cargo test --release -p otus-tests --test all a_golden_folder_can_be_made
//! ```
//!
//! and never made again once it is released.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use otus_tests::leash;
use otus_tests::otus::{Otus, PATIENCE, Setup};
use otus_tests::process::until;
use otus_tests::{need, paths, python};
use serde_json::Value;

const STORAGE: &str = "[storage]\nurl = \"file:./data\"\n";
const TOPIC: &str = "readings";
const SCRIPT: &str = "golden.py";

/// Rejected records outlive the test's clock; rows are written when the test says so.
fn setup(tables: String, folder: &Path) -> Setup {
    Setup::tables(tables)
        .folder(folder)
        .storage(STORAGE.to_owned())
        .limit("rejected_age", "\"100y\"")
        .limit("flush_age", "\"1h\"")
        .limit("flush_small_age", "\"1h\"")
        .limit("collect_grace", "\"1s\"")
}

/// Copies a folder without the lock, which is no part of a dataset.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let from = entry?.path();
        let to = to.join(from.file_name().context("a name")?);
        if from.is_dir() {
            copy(&from, &to)?;
        } else if !from.ends_with("_lock") {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

fn tar(arguments: &[&str], folder: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    let status = tar.args(arguments).arg("-f").arg(archive).current_dir(folder).status()?;
    anyhow::ensure!(status.success(), "tar of {} ended with {status}", archive.display());
    Ok(())
}

fn goldens() -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(paths::checkout().join("tests/golden"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    found.sort();
    Ok(found)
}

/// The questions of a file and what is to be answered.
fn answers(folder: &Path, name: &str) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&fs::read_to_string(folder.join(name))?)?)
}

/// Asks everything; `hot` leaves out what is told of committed rows only.
fn check(otus: &Otus, wanted: &[Value], hot: bool) -> Result<()> {
    anyhow::ensure!(!wanted.is_empty(), "no questions");
    for answer in wanted.iter().filter(|answer| !hot || answer["committed"] != true) {
        let sql = answer["sql"].as_str().context("sql")?;
        let rows = answer["rows"].as_array().context("rows")?;
        let found = otus.rows(sql)?;
        anyhow::ensure!(found.len() == rows.len(), "{} of {} rows: {sql}", found.len(), rows.len());
        for (found, wanted) in found.iter().zip(rows) {
            let cells = wanted.as_array().context("a row")?;
            let same = found.len() == cells.len()
                && found.iter().zip(cells).all(|(found, wanted)| same(found.as_deref(), wanted));
            anyhow::ensure!(same, "{sql}\n{found:?}\n{wanted}");
        }
    }
    Ok(())
}

/// Whether a cell is as wanted: null, a text, `{"about": x}`, `{"from": x, "to": y}` or `{"json": …}`.
fn same(found: Option<&str>, wanted: &Value) -> bool {
    let Some(found) = found else { return wanted.is_null() };
    if let Some(wanted) = wanted.as_str() {
        return found == wanted;
    }
    if let Some(wanted) = wanted.get("json") {
        return serde_json::from_str::<Value>(found).is_ok_and(|found| found == *wanted);
    }
    let number = |key: &str| wanted[key].as_f64();
    match (found.parse::<f64>(), number("about"), number("from"), number("to")) {
        (Ok(found), Some(about), ..) => (found - about).abs() <= about.abs() * 1e-9,
        (Ok(found), None, Some(from), Some(to)) => (from..=to).contains(&found),
        _ => false,
    }
}

/// Appends the records of a text, and waits until all can be seen.
fn append(otus: &Otus, lines: &str) -> Result<()> {
    const SEEN: &str = "select coalesce(sum(visible_offset), 0) from otus.partitions";
    let lines: Vec<Vec<u8>> = lines.lines().map(|line| line.as_bytes().to_vec()).collect();
    let end = otus.number(SEEN)? + i64::try_from(lines.len())?;
    let (status, answer) = otus.append(TOPIC, &lines)?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    otus.wait_number(SEEN, end)
}

/// Opens a dataset, and asks it again and again while it goes on living.
fn lives(golden: &Path) -> Result<()> {
    let folder = leash::fresh_folder("golden")?;
    if golden.is_dir() {
        copy(golden, &folder)?;
    } else {
        tar(&["-xz"], &folder, golden)?;
    }
    let wanted = answers(&folder, "answers.json")?;
    let tables = fs::read_to_string(folder.join("tables.toml"))?;
    let mut otus = setup(tables, &folder).start()?;
    otus.wait_ready()?;
    check(&otus, &wanted, true).context("opened")?;
    otus.run(&["inspect", "--verify"]).context("opened")?;
    otus.flush()?;
    check(&otus, &wanted, false).context("flushed")?;
    otus.maintain()?;
    check(&otus, &wanted, false).context("compacted")?;
    otus.stop()?;
    otus.launch()?;
    otus.wait_ready()?;
    check(&otus, &wanted, false).context("opened again")?;
    if folder.join("more.ndjson").is_file() {
        let wanted = answers(&folder, "answers-more.json")?;
        append(&otus, &fs::read_to_string(folder.join("more.ndjson"))?)?;
        check(&otus, &wanted, true).context("with more records")?;
        otus.flush()?;
        otus.maintain()?;
        check(&otus, &wanted, false).context("with more records, compacted")?;
    }
    otus.run(&["inspect", "--verify"])?;
    Ok(())
}

#[test]
fn every_golden_folder_opens_and_answers_as_it_did() -> Result<()> {
    let goldens = goldens()?;
    anyhow::ensure!(goldens.len() >= 2, "golden folders are missing: {goldens:?}");
    goldens
        .iter()
        .try_for_each(|golden| lives(golden).with_context(|| golden.display().to_string()))
}

/// Data files in a folder and below.
fn data_files(folder: &Path) -> Result<i64> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            count += data_files(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            count += 1;
        }
    }
    Ok(count)
}

/// Makes the archive that `OTUS_GOLDEN_MAKE` names; without it, makes one that is thrown away, so that the
/// making works whenever a format changes.
#[test]
fn a_golden_folder_can_be_made() -> Result<()> {
    let interpreter = need!(python::interpreter());
    let made = match std::env::var("OTUS_GOLDEN_MAKE") {
        Ok(name) => paths::checkout().join("tests/golden").join(name + ".tar.gz"),
        Err(_) => leash::fresh_folder("golden-made")?.join("v0.tar.gz"),
    };
    anyhow::ensure!(!made.exists(), "{} is there already", made.display());
    let said = |arguments: &[&str]| python::run(&interpreter, SCRIPT, arguments);
    let folder = leash::fresh_folder("golden-making")?;
    fs::write(folder.join("answers.json"), said(&["answers", "4"])?.to_string())?;
    fs::write(folder.join("answers-more.json"), said(&["answers", "5"])?.to_string())?;
    let tables = said(&["tables"])?.as_str().context("tables")?.to_owned();
    fs::write(folder.join("tables.toml"), &tables)?;
    let steps = said(&["lines"])?;
    let steps = steps.as_array().context("steps")?;
    anyhow::ensure!(steps.len() == 5, "{} steps", steps.len());
    let mut otus = setup(tables, &folder).start()?;
    for (step, lines) in (0..).zip(steps) {
        let lines: Vec<&str> =
            lines.as_array().context("lines")?.iter().flat_map(Value::as_str).collect();
        let lines = lines.join("\n") + "\n";
        if step == 4 {
            fs::write(folder.join("more.ndjson"), lines)?;
            break;
        }
        append(&otus, &lines)?;
        // The records of the fourth step lie in the log alone.
        if step < 3 {
            otus.flush()?;
        }
        if step == 1 {
            until("files that were merged are gone", PATIENCE, || {
                otus.maintain()?;
                let live = otus
                    .number("select count(*) from otus.segments where kind in ('raw', 'rollup')")?;
                let found = data_files(&folder.join("data/t1"))?;
                anyhow::ensure!(found == live, "{found} files, {live} live");
                Ok(())
            })?;
        }
    }
    check(&otus, &answers(&folder, "answers.json")?, true).context("made")?;
    otus.kill()?;
    let parts = ["tables.toml", "answers.json", "answers-more.json", "more.ndjson", "data"];
    // The log's journal is mostly a hole.
    let arguments =
        [&["-cSz", "--sort=name", "--owner=0", "--group=0", "--exclude=_lock"], &parts[..]];
    tar(&arguments.concat(), &folder, &made)?;
    let bytes = fs::metadata(&made)?.len();
    anyhow::ensure!(bytes < 200_000, "{bytes} bytes");
    lives(&made)
}
