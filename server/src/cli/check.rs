//! `otus check`: the configuration alone, then against what the storage holds. Nothing is changed.

use std::process::ExitCode;

use otus_engine::{ErrorKind, Result};

use super::{ConfigArgs, output};
use crate::auth::Tls;
use crate::otus::open_read_only;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "It lists all mistakes at once, each with its line, and says what starting with the file would
change in the storage; nothing is changed. It ends with 1 if the file would be refused."
)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) async fn run(args: CheckArgs) -> Result<ExitCode> {
    let config = args.config.load()?;
    config.server.tls.as_ref().map(Tls::load).transpose()?;
    let rollups: usize = config.tables.iter().map(|t| t.rollups.len()).sum();
    output::line(&format!(
        "{}: {}, {}, {}",
        args.config.config.display(),
        number(config.tables.len(), "table"),
        number(rollups, "rollup"),
        number(config.warnings.len(), "warning")
    ))?;
    let dataset = match open_read_only(&config).await {
        Ok(dataset) => dataset,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            output::line(&format!(
                "storage {:?} is new: everything will be created",
                config.storage.url
            ))?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(e) => return Err(e),
    };
    let changes = dataset.compare_tables(&config.tables)?;
    if changes.is_empty() {
        output::line("the storage holds these definitions already")?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_new = dataset.snapshot().manifest().tables.is_empty();
    output::line("starting with this file would change:")?;
    for change in &changes {
        output::line(&change.to_string())?;
    }
    if changes.iter().any(|c| c.destructive) {
        output::line("a line with ! lets stored data go")?;
    }
    if !is_new {
        output::line("`otus serve --apply` does it")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn number(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
