//! What the README and the examples show a newcomer: the samples are checked, the sample table is run, and the
//! sample questions are asked.

use std::fs;

use anyhow::{Context, Result};
use otus_tests::otus::Setup;
use otus_tests::{leash, paths};

/// The first code block of this language in a document after this heading.
fn block(document: &str, heading: &str, language: &str) -> Result<String> {
    let text = fs::read_to_string(paths::checkout().join(document))?;
    let (_, below) = text.split_once(heading).with_context(|| format!("no {heading:?}"))?;
    let fence = format!("```{language}\n");
    let (_, code) = below.split_once(&fence).with_context(|| format!("no {language} block"))?;
    let (code, _) = code.split_once("```").context("no end of the block")?;
    Ok(code.to_owned())
}

/// The sample of a table of one's own, with a topic of the embedded log in place of a broker.
fn sample_table() -> Result<String> {
    let sample = block("README.md", "## A table for a topic of yours", "toml")?;
    let (_, tables) = sample.split_once("[tables.").context("no table in the sample")?;
    Ok(format!("[tables.{tables}"))
}

#[test]
fn the_readme_sample_is_accepted_as_it_stands() -> Result<()> {
    let folder = leash::fresh_folder("sample")?;
    let sample = block("README.md", "## A table for a topic of yours", "toml")?;
    fs::write(folder.join("otus.toml"), sample)?;
    let otus = Setup::default().prepare()?;
    let file = folder.join("otus.toml").display().to_string();
    let said = otus.run(&["check", "-c", &file])?;
    anyhow::ensure!(said.contains("0 warnings"), "{said}");
    Ok(())
}

#[test]
fn the_readme_sample_runs_and_answers() -> Result<()> {
    let otus = Setup::tables(sample_table()?).start()?;
    let record = block("README.md", "## A table for a topic of yours", "json")?;
    let records: Vec<_> = record.lines().map(|line| line.as_bytes().to_vec()).collect();
    let (status, answer) = otus.append("orders", &records)?;
    anyhow::ensure!(status == 200, "append: {status} {answer}");
    otus.wait_number("select count(*) from orders", i64::try_from(records.len())?)?;
    otus.wait_number("select count(*) from otus.rejected", 0)?;
    let sql = block("README.md", "## A table for a topic of yours", "sql")?;
    for statement in sql.split(';').map(str::trim).filter(|s| !s.is_empty()) {
        let rows = otus.rows(statement).with_context(|| statement.to_owned())?;
        anyhow::ensure!(!rows.is_empty(), "no rows from {statement}");
    }
    Ok(())
}

#[test]
fn every_example_configuration_is_accepted() -> Result<()> {
    let mut seen = 0;
    for entry in fs::read_dir(paths::checkout().join("examples"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            // Checking looks at the storage; one that is far away is not there in a test.
            let text = fs::read_to_string(&path)?;
            let text = text.replace("\"s3://events/otus\"", "\"memory:\"");
            let text = text.replace("region = \"eu-central-1\"\n", "");
            let setup = Setup::default().environment("KAFKA_PASSWORD", "secret");
            let otus = setup.prepare()?;
            let copy = otus.folder().join("example.toml");
            fs::write(&copy, text)?;
            let said = otus.run(&["check", "-c", &copy.display().to_string()])?;
            anyhow::ensure!(said.contains("0 warnings"), "{}: {said}", path.display());
            seen += 1;
        }
    }
    anyhow::ensure!(seen > 0, "no example configuration");
    Ok(())
}

#[test]
fn faulty_configurations_are_refused_with_every_problem() -> Result<()> {
    let otus = Setup::default().prepare()?;
    let bad = r#"
[server]
postgress = "127.0.0.1:1"

[kafka]
bootstrap.servers  = "127.0.0.1:9"
auto.offset.reset  = "latest"

[tables.orders]
topic = "orders"
time  = "at"

[tables.orders.columns]
at    = "timestamptz"
price = "float9"

[tables.orders.measures]
total = "sum(prize)"

[tables.orders.rollups.daily]
granularity = ["daily"]
dimensions  = ["nowhere"]
"#;
    let path = otus.folder().join("bad.toml");
    fs::write(&path, bad)?;
    let output = otus.command(&["check", "-c", &path.display().to_string()])?;
    anyhow::ensure!(!output.status.success(), "it was accepted");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    for word in ["postgress", "auto.offset.reset", "float9", "prize", "nowhere", "daily"] {
        anyhow::ensure!(said.contains(word), "{word} is not reported:\n{said}");
    }
    Ok(())
}
