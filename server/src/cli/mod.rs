//! The command line. Each verb is a module; what they do lies in the other modules of this crate.

mod advise;
mod append;
mod check;
mod infer;
mod inspect;
pub(crate) mod output;
pub(crate) mod password;
mod pull;
mod remote;
mod reset;
pub(crate) mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use otus_engine::Result;
use otus_sql::SqlCompiler;

use crate::client;
use crate::config::Config;
use crate::demo;
use crate::telemetry::{self, LogFormat};

/// Stack of the threads that serve sockets, bytes.
const STACK_BYTES: usize = 4 << 20;

/// Otus: an embedded OLAP engine for event streams
///
/// Reads Kafka topics (or its own embedded log), keeps every event and rollups by time as Parquet files, and
/// answers SQL over the Postgres wire and pull patterns over HTTP, where its page is, too.
///
/// New here? `otus demo` starts everything with a month of made-up data and says what to try.
#[derive(Debug, Parser)]
#[command(name = "otus", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// How log lines are written to standard error: text, for people, or json
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    #[arg(hide_possible_values = true, help_heading = "Logs")]
    log_format: LogFormat,
    /// What is logged: a level (error, warn, info, debug, trace), or a list such as info,otus_ingest=debug
    #[arg(long, global = true, env = "OTUS_LOG", value_name = "FILTER", help_heading = "Logs")]
    log_level: Option<String>,
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "otus.toml", env = "OTUS_CONFIG")]
    pub(crate) config: PathBuf,
}

impl ConfigArgs {
    /// Reads it; warnings are printed.
    pub(crate) fn load(&self) -> Result<Config> {
        let config = load(&self.config)?;
        for warning in &config.warnings {
            output::note(&format!("{}:{warning}", self.config.display()));
        }
        Ok(config)
    }
}

fn load(path: &Path) -> Result<Config> {
    Config::load(path, SqlCompiler::new().as_ref())
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start everything with a month of made-up data, and go on live
    Demo(demo::DemoArgs),
    /// Serve what the configuration declares
    Serve(serve::ServeArgs),
    /// Check the configuration and compare it with what the storage holds
    Check(check::CheckArgs),
    /// Sample a file or topic and print a table section for it
    Infer(infer::InferArgs),
    /// Ask a running server in SQL
    Sql(client::SqlArgs),
    /// Ask a running server with a pull pattern, or pull from a document
    Pull(pull::PullArgs),
    /// Append records to a topic through a running server
    Append(append::AppendArgs),
    /// Show what the storage holds: tables, files, positions, log; or audit it
    Inspect(inspect::InspectArgs),
    /// Propose rollups for what the latest queries read raw rows for
    Advise(advise::AdviseArgs),
    /// Make what the configuration keeps of a password, or a bearer token
    Password(password::PasswordArgs),
    /// Set the position of a table in a topic, over a gap or back
    Reset(reset::ResetArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let quiet = !matches!(cli.verb, Verb::Serve(_));
    let usual = if quiet { "warn" } else { "info,fjall=warn,lsm_tree=warn" };
    telemetry::start_logs(cli.log_format, cli.log_level.as_deref().unwrap_or(usual));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("otus-io")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            output::note(&format!("error: threads cannot be started: {e}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(cli.verb));
    runtime.shutdown_background();
    code
}

async fn run(verb: Verb) -> ExitCode {
    let result = match verb {
        Verb::Demo(args) => Box::pin(demo::run(args)).await,
        Verb::Serve(args) => Box::pin(serve::run(args)).await,
        Verb::Check(args) => check::run(args).await,
        Verb::Infer(args) => infer::run(args).await,
        Verb::Sql(args) => return Box::pin(client::run(args)).await,
        Verb::Pull(args) => pull::run(args).await,
        Verb::Append(args) => append::run(args).await,
        Verb::Inspect(args) => Box::pin(inspect::run(args)).await,
        Verb::Advise(args) => Box::pin(advise::run(args)).await,
        Verb::Password(args) => password::run(&args),
        Verb::Reset(args) => Box::pin(reset::run(args)).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            output::note(&format!("error: {error}"));
            if let Some(hint) = error.hint() {
                output::note(&format!("hint: {hint}"));
            }
            ExitCode::FAILURE
        }
    }
}
