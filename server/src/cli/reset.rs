//! `otus reset`: an operator's word over a gap, a cut or re-created topic, through the running server.

use std::process::ExitCode;

use otus_engine::Result;

use super::output;
use super::remote::Remote;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  otus reset orders --topic orders --to earliest
  otus reset orders --topic orders --partition 3 --to 12000

Rows already stored stay. Going back reads records again: they count twice, and the new
position says so in the log.")]
pub(crate) struct ResetArgs {
    /// The table
    table: String,
    /// The topic
    #[arg(long)]
    topic: String,
    /// The partition; all of them if not given
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// earliest, latest or an offset
    #[arg(long, value_name = "OFFSET")]
    to: String,
    #[command(flatten)]
    remote: Remote,
}

pub(crate) async fn run(args: ResetArgs) -> Result<ExitCode> {
    let to = match args.to.parse::<i64>() {
        Ok(offset) => serde_json::Value::from(offset),
        Err(_) => serde_json::Value::from(args.to),
    };
    let request = serde_json::json!({
        "table": args.table,
        "topic": args.topic,
        "partition": args.partition,
        "to": to,
    });
    let body = request.to_string().into_bytes();
    let answer = args.remote.post("/api/ingest/reset", "application/json", body).await?;
    if answer.is_success {
        output::line(&answer.body)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::note(&answer.body);
    Ok(ExitCode::FAILURE)
}
