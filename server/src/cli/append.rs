//! `otus append`: records from a file or standard input into a topic, through a running server. Each request
//! is durable before the next one is sent.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use otus_engine::{Error, Result};

use super::output;
use super::remote::Remote;

/// Records and bytes of one request.
const BATCH_RECORDS: usize = 10_000;
const BATCH_BYTES: usize = 4 << 20;

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
    let mut reader: Box<dyn BufRead> = match &args.file {
        Some(file) if file.as_os_str() != "-" => {
            let open = std::fs::File::open(file);
            let open = open.map_err(|e| {
                Error::not_found(format!("file {file:?} cannot be read")).with_source(e)
            })?;
            Box::new(BufReader::new(open))
        }
        _ => Box::new(BufReader::new(std::io::stdin())),
    };
    let progress = output::spinner("records");
    let path = format!("/api/append/{}", args.topic);
    let mut total = 0;
    loop {
        let (batch, records) = next_batch(&mut reader)?;
        if records == 0 {
            break;
        }
        let answer = args.remote.post(&path, "application/x-ndjson", batch).await?;
        if !answer.is_success {
            progress.finish_and_clear();
            output::note(&format!("{total} records are durable; then the server said:"));
            output::note(&answer.body);
            return Ok(ExitCode::FAILURE);
        }
        total += records;
        progress.set_position(total as u64);
    }
    progress.finish_and_clear();
    output::line(&format!("{total} records appended to {:?}", args.topic))?;
    Ok(ExitCode::SUCCESS)
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
