//! `otus append`: records from a file or standard input into a topic, through a running server. Each request
//! is durable before the next one is sent.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::ProgressBar;
use otus_engine::{Error, Result};
use serde_json::Value;

use super::output;
use super::remote::Remote;

/// Records and bytes of one request.
const BATCH_RECORDS: usize = 10_000;
const BATCH_BYTES: usize = 4 << 20;
/// Records that are named when an append fails.
const COMPLAINTS_MAX: usize = 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  echo '{\"time\":\"2026-11-01T12:00:00Z\",\"event\":\"login\"}' | otus append events
  otus append events history.ndjson")]
pub(crate) struct AppendArgs {
    /// The topic; a table must read it and have append = true
    topic: String,
    /// A file with one record a line; standard input if none or -
    file: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) async fn run(args: AppendArgs) -> Result<ExitCode> {
    let (mut reader, progress): (Box<dyn BufRead>, ProgressBar) = match &args.file {
        Some(file) if file.as_os_str() != "-" => {
            let (open, bytes) = open(file).map_err(|e| {
                Error::not_found(format!("file {file:?} cannot be read")).with_source(e)
            })?;
            (Box::new(BufReader::new(open)), output::bytes_bar(Some(bytes), "0 records"))
        }
        _ => (Box::new(BufReader::new(std::io::stdin())), output::bytes_bar(None, "0 records")),
    };
    let path = format!("/api/append/{}", args.topic);
    let mut total = 0;
    loop {
        let (batch, records) = next_batch(&mut reader)?;
        if records == 0 {
            break;
        }
        let bytes = batch.len() as u64;
        let answer = args.remote.post(&path, "application/x-ndjson", batch).await;
        let answer = answer.inspect_err(|_| {
            progress.finish_and_clear();
            output::note(&format!("{total} records are durable"));
        })?;
        if !answer.is_success {
            progress.finish_and_clear();
            for line in complaint(total, &answer.body) {
                output::note(&line);
            }
            return Ok(ExitCode::FAILURE);
        }
        total += records;
        progress.inc(bytes);
        progress.set_message(format!("{} records", output::count(total as u64)));
    }
    progress.finish_and_clear();
    output::line(&format!("{total} records appended to {:?}", args.topic))?;
    Ok(ExitCode::SUCCESS)
}

/// What is known after a request that failed, `before` records being durable before it: how many are, what the
/// server said, and which records it was about, counted from 1.
fn complaint(before: usize, body: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let records = answer["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    let durable = records.iter().filter(|record| record["error"].is_null()).count();
    let said = answer["error"]["message"].as_str().unwrap_or(body);
    let mut lines =
        vec![format!("{} records are durable; the server said: {said}", before + durable)];
    lines.extend(answer["error"]["hint"].as_str().map(|hint| format!("hint: {hint}")));
    let failed = records.iter().enumerate().filter(|(_, record)| !record["error"].is_null());
    for (at, record) in failed.clone().take(COMPLAINTS_MAX) {
        let message = record["error"]["message"].as_str().unwrap_or_default();
        lines.push(format!("record {} is not durable: {message}", before + at + 1));
    }
    let more = failed.count().saturating_sub(COMPLAINTS_MAX);
    if more > 0 {
        lines.push(format!("… and {more} more"));
    }
    lines
}

/// A file and its size in bytes.
fn open(path: &Path) -> std::io::Result<(File, u64)> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn next_batch(reader: &mut dyn BufRead) -> Result<(Vec<u8>, usize)> {
    let mut batch = Vec::new();
    let mut records = 0;
    while records < BATCH_RECORDS && batch.len() < BATCH_BYTES {
        let before = batch.len();
        let read = reader
            .read_until(b'\n', &mut batch)
            .map_err(|e| Error::invalid("the records cannot be read").with_source(e))?;
        if read == 0 {
            break;
        }
        let is_blank = batch.iter().skip(before).all(u8::is_ascii_whitespace);
        if is_blank {
            batch.truncate(before);
        } else {
            records += 1;
        }
    }
    Ok((batch, records))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_append_names_its_records() {
        let body = r#"{"topic":"t","error":{"code":"too_large","message":"record 1: too large","hint":"h"},
            "records":[{"partition":0,"offset":7},{"error":{"code":"too_large","message":"too large"}}]}"#;
        assert_eq!(
            complaint(10, body),
            [
                "11 records are durable; the server said: record 1: too large",
                "hint: h",
                "record 12 is not durable: too large",
            ]
        );
        let body = r#"{"error":{"code":"not_found","message":"no table reads topic \"x\""}}"#;
        assert_eq!(
            complaint(0, body),
            ["0 records are durable; the server said: no table reads topic \"x\""]
        );
        assert_eq!(complaint(3, "?"), ["3 records are durable; the server said: ?"]);
    }
}
