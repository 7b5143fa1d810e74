//! `otus pull`: a pattern against a running server, or against a document without one.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use otus_engine::{Error, Result};
use otus_sql::pull::{Encoding, pull_data};

use super::output;
use super::remote::Remote;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  otus pull '{:pattern {:metrics {(:game_events :with [{:granularity :day, :from \"2026-11-01\", :to \"2026-11-08\"}])
                                  [{:bucket ?, :events ?} ?rows]}}}'
  otus pull @pattern.json
  otus pull --data document.edn '{:plays ?}'")]
pub(crate) struct PullArgs {
    /// The request (with --data: the bare pattern) in EDN or JSON; @FILE reads a file, - standard input
    request: String,
    /// Pull from this EDN or JSON document instead of a server
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) async fn run(args: PullArgs) -> Result<ExitCode> {
    let request = text(&args.request)?;
    if let Some(file) = &args.data {
        let document = read(file)?;
        let encoding = match file.extension().and_then(|e| e.to_str()) {
            Some("edn") => Some(Encoding::Edn),
            Some("json") => Some(Encoding::Json),
            _ => None,
        };
        output::line(&pull_data(&document, encoding, &request)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&request).is_ok();
    let encoding = if is_json { Encoding::Json } else { Encoding::Edn };
    let answer = args.remote.post("/api/pull", encoding.content_type(), request.into()).await?;
    output::line(&answer.body)?;
    Ok(if answer.is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An argument as it stands, from a file or from standard input.
pub(super) fn text(argument: &str) -> Result<String> {
    if argument == "-" {
        if std::io::stdin().is_terminal() {
            output::note("reading from the terminal; end with Ctrl-D");
        }
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|e| Error::invalid("standard input cannot be read").with_source(e))?;
        return Ok(text);
    }
    match argument.strip_prefix('@') {
        Some(file) => read(Path::new(file)),
        None => Ok(argument.to_string()),
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file)
        .map_err(|e| Error::not_found(format!("file {file:?} cannot be read")).with_source(e))
}
