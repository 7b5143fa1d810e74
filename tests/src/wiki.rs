//! The wikiticker events and their known answers.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::paths;

/// The file of events, which no installer brings; or that it is not there.
pub fn file() -> Result<PathBuf, String> {
    let path = paths::data().join("wikiticker-2015-09-12-sampled.json.gz");
    let missing = || format!("there is no {} (set OTUS_TEST_DATA)", path.display());
    if path.is_file() { Ok(path) } else { Err(missing()) }
}

/// Its lines.
pub fn lines(path: &Path) -> Result<Vec<String>> {
    let mut gzip = Command::new("gzip").args(["-dc"]).arg(path).stdout(Stdio::piped()).spawn()?;
    let mut text = String::new();
    gzip.stdout.take().context("no output")?.read_to_string(&mut text)?;
    anyhow::ensure!(gzip.wait()?.success(), "gzip failed");
    Ok(text.lines().map(str::to_owned).collect())
}

/// The known answers.
pub fn answers() -> Result<Value> {
    let text = std::fs::read_to_string(paths::data().join("wikiticker-answers.json"))?;
    Ok(serde_json::from_str(&text)?)
}

/// The table of the wikiticker topic: snake_case columns by path, measures and one rollup of three
/// granularities. `source` is its `topic = …` or `file = …` line.
pub fn table_section(source: &str) -> String {
    format!("\n{}", include_str!("wikipedia.toml").replace("{source}", source))
}
