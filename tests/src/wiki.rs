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
    format!(
        r#"
[tables.wikipedia]
description = "Wikipedia edits of one day"
{source}
format = "json"
time = "time"

[tables.wikipedia.columns]
time             = "timestamptz"
channel          = "text"
city_name        = {{ type = "text", path = "cityName" }}
comment          = "text"
country_iso_code = {{ type = "text", path = "countryIsoCode" }}
country_name     = {{ type = "text", path = "countryName" }}
is_anonymous     = {{ type = "boolean", path = "isAnonymous" }}
is_minor         = {{ type = "boolean", path = "isMinor" }}
is_new           = {{ type = "boolean", path = "isNew" }}
is_robot         = {{ type = "boolean", path = "isRobot" }}
is_unpatrolled   = {{ type = "boolean", path = "isUnpatrolled" }}
metro_code       = {{ type = "integer", path = "metroCode" }}
namespace        = "text"
page             = "text"
region_iso_code  = {{ type = "text", path = "regionIsoCode" }}
region_name      = {{ type = "text", path = "regionName" }}
editor           = {{ type = "text", path = "user" }}
delta            = "bigint"
added            = "bigint"
deleted          = "bigint"

[tables.wikipedia.measures]
edits   = "count(*)"
added   = "sum(added)"
deleted = "sum(deleted)"
delta   = "sum(delta)"
editors = "approx_distinct(editor)"

[tables.wikipedia.rollups.edits]
granularity = ["minute", "hour", "day"]
dimensions  = ["channel", "namespace", "country_name", "is_robot", "is_anonymous", "is_new", "is_minor"]
"#
    )
}
