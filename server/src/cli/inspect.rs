//! `otus inspect`: what the storage holds, read without a lock, also beside a running server.

use std::process::ExitCode;
use std::sync::Arc;

use otus_engine::dataset::Dataset;
use otus_engine::log::manifest::Manifest;
use otus_engine::log::op::{FileEntry, Target};
use otus_engine::{Error, Result};
use serde_json::{Value, json};

use super::ConfigArgs;
use super::output::{self, count, moment};
use crate::config::{Config, human_bytes};
use crate::otus::open_read_only;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without a flag it lists the tables. All of it is what has been committed: rows that a
running server has not yet written are not among them."
)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// List the live files; a glob over the folder would also find replaced ones
    #[arg(long, group = "subject")]
    files: bool,
    /// List how far each topic partition has been read
    #[arg(long, group = "subject")]
    positions: bool,
    /// Show where the commit log stands
    #[arg(long, group = "subject")]
    log: bool,
    /// Read everything and check counts, tiling, uniqueness and that rollups equal their raw rows
    #[arg(long, group = "subject")]
    verify: bool,
    /// How it is printed: as a table, for people, or as a json array
    #[arg(long, value_enum, default_value_t = Format::Table, hide_possible_values = true)]
    format: Format,
}

/// How lists are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// A JSON array
    Json,
}

/// A list with named columns.
struct List {
    head: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

pub(crate) async fn run(args: InspectArgs) -> Result<ExitCode> {
    let config = args.config.load()?;
    let dataset = open_read_only(&config).await?;
    if args.verify {
        return verify(&dataset).await;
    }
    let manifest = Arc::clone(dataset.snapshot().manifest());
    let list = if args.files {
        files(&manifest, &config, &dataset)
    } else if args.positions {
        positions(&manifest)
    } else if args.log {
        log(&manifest)
    } else {
        tables(&manifest)
    };
    list.print(args.format)?;
    Ok(ExitCode::SUCCESS)
}

impl List {
    fn print(&self, format: Format) -> Result<()> {
        match format {
            Format::Json => {
                let object = |row: &Vec<Value>| -> Value {
                    let pairs = self.head.iter().map(ToString::to_string).zip(row.iter().cloned());
                    Value::Object(pairs.collect())
                };
                let rows: Vec<Value> = self.rows.iter().map(object).collect();
                let text = serde_json::to_string_pretty(&rows)
                    .map_err(|e| Error::internal("the list cannot be written").with_source(e))?;
                output::line(&text)
            }
            Format::Table => {
                let cell = |(name, value): (&&str, &Value)| match value {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    Value::Number(n) if *name == "bytes" => {
                        n.as_u64().map_or_else(|| n.to_string(), human_bytes)
                    }
                    Value::Number(n) => n.as_u64().map_or_else(|| n.to_string(), count),
                    other => other.to_string(),
                };
                let rows: Vec<Vec<String>> = self
                    .rows
                    .iter()
                    .map(|row| self.head.iter().zip(row).map(cell).collect())
                    .collect();
                output::table(&self.head, &rows)
            }
        }
    }
}

fn tables(manifest: &Manifest) -> List {
    let mut rows = Vec::new();
    for table in manifest.tables.values() {
        let name = table.def.qualified_name();
        let span = |files: &[Arc<FileEntry>]| {
            let from = files.iter().filter_map(|f| f.time).map(|t| t.0).min();
            let to = files.iter().filter_map(|f| f.time).map(|t| t.1).max();
            (from.map(moment), to.map(moment))
        };
        let (from, to) = span(&table.files);
        let kind = if table.attached { "table" } else { "detached table" };
        rows.push(row(&name, kind, &table.files, from, to));
        for rollup in manifest.rollups.values().filter(|r| r.table == table.id) {
            let (from, to) = span(&rollup.files);
            let name = format!("  {}", rollup.def.name);
            rows.push(row(&name, "rollup", &rollup.files, from, to));
        }
    }
    rows.push(row("otus.rejected", "system", &manifest.rejected, None, None));
    List { head: vec!["name", "kind", "files", "rows", "bytes", "from", "to"], rows }
}

fn row(
    name: &str,
    kind: &str,
    files: &[Arc<FileEntry>],
    from: Option<String>,
    to: Option<String>,
) -> Vec<Value> {
    let rows: u64 = files.iter().map(|f| f.rows).sum();
    let bytes: u64 = files.iter().map(|f| f.bytes).sum();
    vec![
        json!(name),
        json!(kind),
        json!(files.len()),
        json!(rows),
        json!(bytes),
        json!(from),
        json!(to),
    ]
}

fn files(manifest: &Manifest, config: &Config, dataset: &Dataset) -> List {
    let base = match dataset.storage().local_dir() {
        Some(folder) => {
            let absolute = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
            format!("file://{}", absolute.display())
        }
        None => config.storage.url.trim_end_matches('/').to_string(),
    };
    let mut rows = Vec::new();
    for table in manifest.tables.values() {
        let name = table.def.qualified_name();
        rows.extend(table.files.iter().map(|f| file(f, &base, &name, None)));
        for rollup in manifest.rollups.values().filter(|r| r.table == table.id) {
            let rollup_name = Some(rollup.def.name.as_str());
            rows.extend(rollup.files.iter().map(|f| file(f, &base, &name, rollup_name)));
        }
    }
    rows.extend(manifest.rejected.iter().map(|f| file(f, &base, "otus.rejected", None)));
    let head = vec![
        "kind",
        "table",
        "rollup",
        "granularity",
        "level",
        "rows",
        "bytes",
        "from",
        "to",
        "commit",
        "url",
    ];
    List { head, rows }
}

fn file(file: &FileEntry, base: &str, table: &str, rollup: Option<&str>) -> Vec<Value> {
    let (kind, granularity) = match file.target {
        Target::Raw(_) => ("raw", None),
        Target::Rollup { granularity, .. } => ("rollup", Some(granularity.to_string())),
        Target::Rejected => ("rejected", None),
    };
    vec![
        json!(kind),
        json!(table),
        json!(rollup),
        json!(granularity),
        json!(file.level),
        json!(file.rows),
        json!(file.bytes),
        json!(file.time.map(|t| moment(t.0))),
        json!(file.time.map(|t| moment(t.1))),
        json!(file.commit.map(|n| n.to_string())),
        json!(format!("{base}/{}", file.path)),
    ]
}

fn positions(manifest: &Manifest) -> List {
    let mut rows = Vec::new();
    for table in manifest.tables.values() {
        for (tp, position) in &table.positions {
            let claim = manifest.claims.get(tp);
            rows.push(vec![
                json!(table.def.qualified_name()),
                json!(*tp.topic),
                json!(tp.partition.to_string()),
                json!(position.start.to_string()),
                json!(position.offset.to_string()),
                json!(position.counts.kept),
                json!(position.counts.filtered),
                json!(position.counts.rejected),
                json!(claim.map(|c| c.epoch)),
                json!(claim.map(|c| c.member.as_str())),
            ]);
        }
    }
    let head = vec![
        "table",
        "topic",
        "partition",
        "start",
        "offset",
        "kept",
        "filtered",
        "rejected",
        "epoch",
        "member",
    ];
    List { head, rows }
}

fn log(manifest: &Manifest) -> List {
    let swept = moment(manifest.sweep_before_ms.saturating_mul(1_000));
    let lease = manifest.lease.as_ref();
    let rows = vec![
        vec![json!("last commit"), json!(manifest.number.to_string())],
        vec![json!("live files"), json!(manifest.live_files().count().to_string())],
        vec![json!("swept before"), json!(swept)],
        vec![json!("maintained by"), json!(lease.map(|l| l.0.as_str()))],
        vec![json!("until"), json!(lease.map(|l| moment(l.1)))],
    ];
    List { head: vec!["what", "value"], rows }
}

/// Audits; a problem makes the command fail.
async fn verify(dataset: &Dataset) -> Result<ExitCode> {
    let manifest = Arc::clone(dataset.snapshot().manifest());
    let bar = output::bar(manifest.live_files().count() as u64, "reading files");
    let audits = dataset.verify(&|_path| bar.inc(1)).await?;
    bar.finish_and_clear();
    let mut is_sound = true;
    for audit in &audits {
        let verdict = if audit.problems.is_empty() { "sound" } else { "NOT SOUND" };
        output::line(&format!(
            "{}: {verdict}, {} rows in {} files",
            audit.table,
            count(audit.rows),
            audit.files
        ))?;
        for problem in &audit.problems {
            is_sound = false;
            output::line(&format!("  {problem}"))?;
        }
    }
    if audits.is_empty() {
        output::line("there are no tables")?;
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
