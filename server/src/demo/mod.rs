//! `otus demo`: a whole Otus with made-up data. A generator lays down a month of a game platform's events in
//! the embedded log and goes on live; ingestion, rollups and both endpoints run as they do for `otus serve`.

mod budget;
mod event;
mod generator;
mod producer;
mod rhythm;
mod tables;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use otus_engine::store::lock::FolderLock;
use otus_engine::{Error, Result};
use otus_sql::SqlCompiler;
use tokio_util::sync::CancellationToken;

use crate::cli::output::{self, count, moment};
use crate::cli::serve::{Faces, Serving, open, stop, stop_signal};
use crate::config::{Config, SystemEnvironment, human_bytes, parse_size_bytes};
use crate::otus::Otus;
use crate::telemetry;
use generator::NATURAL_RATE;
use producer::{Producer, Progress};

/// History that a new demo begins with.
const HISTORY_MS: i64 = 30 * 86_400_000;
/// Seed of the made-up platform: everybody sees the same one.
const SEED: u64 = 20_240_101;
/// Between two status lines on a terminal.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Between two status lines where nobody watches.
const STATUS_LOGGED_EVERY: Duration = Duration::from_secs(30);
/// Between two looks at the disk.
const BUDGET_EVERY: Duration = Duration::from_secs(20);
/// Least budget, bytes: less would let most raw events go at once.
const BUDGET_LEAST: u64 = 512 << 20;
/// Time for the last flush.
const DEADLINE: Duration = Duration::from_secs(30);
/// Folder of the data below the demo's own.
const DATA: &str = "data";

/// Arguments of `otus demo`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Stop it with Ctrl-C; started again it goes on where it was. Everything it writes lies in
its folder, which can simply be deleted."
)]
pub struct DemoArgs {
    /// Folder of the demo
    #[arg(long, value_name = "FOLDER", default_value = "otus-demo")]
    dir: PathBuf,
    /// Live events per second on average; the history keeps its natural rate
    #[arg(long, value_name = "N", default_value_t = NATURAL_RATE, value_parser = parse_rate)]
    rate: f64,
    /// Disk to use at most, 512MiB or more: the oldest days of raw events go, and a line says so; rollups
    /// and the last day stay, and files that were replaced for some minutes
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = parse_budget)]
    budget: u64,
    /// Forget an earlier demo in this folder and start anew
    #[arg(long)]
    fresh: bool,
    /// Port of the Postgres endpoint, or the next free one
    #[arg(long, value_name = "PORT", default_value_t = 5433)]
    postgres_port: u16,
    /// Port of the HTTP endpoint, or the next free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http_port: u16,
}

fn parse_rate(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.01..=100_000.0).contains(&rate) => Ok(rate),
        _ => Err("a number between 0.01 and 100000".to_string()),
    }
}

fn parse_budget(text: &str) -> std::result::Result<u64, String> {
    match parse_size_bytes(text) {
        Ok(bytes) if bytes >= BUDGET_LEAST => Ok(bytes),
        Ok(_) => Err(
            "at least 512MiB: a month of events with its rollups, and the log of what has just \
                      been made, take about 450 MiB"
                .to_string(),
        ),
        Err(e) => Err(e.to_string()),
    }
}

/// Runs the demo until it is told to stop.
pub async fn run(args: DemoArgs) -> Result<ExitCode> {
    if telemetry::metrics().is_none() {
        tracing::warn!("metrics are not available");
    }
    let data = args.dir.join(DATA);
    if args.fresh {
        forget(&data)?;
    }
    let is_new = !data.join("_log").exists();
    let faces = Faces::bind_near(args.postgres_port, args.http_port)?;
    let otus = open(config(&data)?, &faces, true).await?;
    let shutdown = CancellationToken::new();
    let serving = faces.serve(&otus, &shutdown);
    let log = otus.ingest().local_log();
    let log = log.ok_or_else(|| Error::internal("the demo has no embedded log"))?;
    let clock = Arc::clone(otus.dataset().clock());
    let producer = Producer::new(log, clock, SEED, args.rate, HISTORY_MS)?;
    let (progress, from_ms) = (producer.progress(), producer.begins_at_ms());
    greet(&args, &serving, is_new, from_ms);
    let (stop_producer, stopped) = sync_channel::<()>(0);
    let thread = std::thread::Builder::new()
        .name("otus-demo".into())
        .spawn(move || producer.run(&stopped))
        .map_err(|e| Error::unavailable("a thread cannot be started").with_source(e))?;
    tokio::select! {
        () = stop_signal() => {}
        result = watch(&otus, &args, &serving, &progress, from_ms) => result?,
    }
    output::note("\nstopping: writing what is in memory");
    drop(stop_producer);
    let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
    if !matches!(joined, Ok(true)) {
        tracing::warn!("the generator ended with a bug");
    }
    let is_flushed = stop(otus, serving, &shutdown, DEADLINE).await;
    output::note("stopped; `otus demo` goes on from here");
    Ok(if is_flushed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn config(data: &Path) -> Result<Config> {
    let compiler = SqlCompiler::new();
    let mut config =
        Config::parse("demo", tables::TABLES, &SystemEnvironment, Some(compiler.as_ref()))?;
    config.storage.url = format!("file:{}", data.display());
    Ok(config)
}

/// Deletes an earlier demo's data, unless somebody is at it.
fn forget(data: &Path) -> Result<()> {
    if !data.exists() {
        return Ok(());
    }
    if !data.join("_lock").exists() {
        return Err(Error::invalid(format!("folder {data:?} is no demo of Otus"))
            .with_hint("--dir names another folder"));
    }
    let lock = FolderLock::take(data, "otus demo --fresh")?;
    std::fs::remove_dir_all(data)
        .map_err(|e| Error::unavailable(format!("cannot delete {data:?}")).with_source(e))?;
    drop(lock);
    Ok(())
}

fn greet(args: &DemoArgs, serving: &Serving, is_new: bool, from_ms: i64) {
    let at = moment(from_ms * 1_000);
    let folder = args.dir.display();
    let says = if is_new { "a new month of events from" } else { "going on from" };
    output::note(&format!("otus demo in {folder}: {says} {at} UTC"));
    for (face, wanted, got) in [
        ("postgres", args.postgres_port, serving.postgres.port()),
        ("http", args.http_port, serving.http.port()),
    ] {
        if wanted != got {
            output::note(&format!("port {wanted} is taken: {face} is on {got}"));
        }
    }
}

/// Shows progress, then how to connect, then one status line; keeps to the budget and tends the log.
async fn watch(
    otus: &Otus,
    args: &DemoArgs,
    serving: &Serving,
    progress: &Progress,
    from_ms: i64,
) -> Result<()> {
    lay_down(otus, progress, from_ms).await;
    explain(serving)?;
    let is_watched = std::io::stderr().is_terminal();
    let every = if is_watched { STATUS_EVERY } else { STATUS_LOGGED_EVERY };
    let line = output::status_line();
    let mut ticks = tokio::time::interval(every);
    let mut looked: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let text = status(otus, progress);
        if is_watched {
            line.set_message(text);
        } else {
            output::note(&text);
        }
        if looked.is_none_or(|at| at.elapsed() > BUDGET_EVERY) {
            looked = Some(Instant::now());
            if let Err(error) = keep_budget(otus, args).await {
                tracing::warn!(%error, "the budget could not be kept");
            }
        }
    }
}

/// Shows how history is made and read.
async fn lay_down(otus: &Otus, progress: &Progress, from_ms: i64) {
    let started = Instant::now();
    let now_ms = otus.dataset().clock().now_us() / 1_000;
    let seconds = |ms: i64| u64::try_from(ms / 1_000).unwrap_or(0);
    let bar = output::bar(seconds(now_ms - from_ms), "making history");
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    while !(progress.is_live.load(Ordering::Relaxed) && is_level(otus)) {
        ticks.tick().await;
        show(otus, progress, from_ms, &bar);
    }
    bar.finish_and_clear();
    let rows = rows(otus);
    let took = started.elapsed().as_secs_f32();
    output::note(&format!("{} events are there after {took:.1} s", count(rows)));
}

fn show(otus: &Otus, progress: &Progress, from_ms: i64, bar: &ProgressBar) {
    let at_ms = progress.at_ms.load(Ordering::Relaxed);
    bar.set_position(u64::try_from((at_ms - from_ms) / 1_000).unwrap_or(0));
    let made = progress.records.load(Ordering::Relaxed);
    bar.set_message(format!("{} records made, {} rows read", count(made), count(rows(otus))));
    if let Some(trouble) = progress.trouble.lock().as_ref() {
        bar.set_message(trouble.clone());
    }
}

/// Whether ingestion has read all there is.
fn is_level(otus: &Otus) -> bool {
    let statuses = otus.ingest().status();
    !statuses.is_empty() && statuses.iter().all(|p| p.lag.is_some_and(|lag| lag < 1_000))
}

fn explain(serving: &Serving) -> Result<()> {
    let (postgres, http) = (serving.postgres.port(), serving.http.port());
    let program =
        std::env::current_exe().map_or_else(|_| "otus".into(), |p| p.display().to_string());
    let mut text = format!(
        "\nAsk it in SQL:\n\n  psql -h 127.0.0.1 -p {postgres} -U otus otus\n  \
         {program} sql -p {postgres}        (without psql)\n\nWorth trying:\n"
    );
    for (what, sql) in tables::QUERIES {
        text.push_str(&format!("\n  -- {what}\n  {sql}\n"));
    }
    text.push_str(&format!(
        "\nIn a browser: http://127.0.0.1:{http}/ explores it, keeps dashboards and asks SQL.\n\
         Over HTTP: http://127.0.0.1:{http}/api/schema says what there is; see also `otus pull --help`.\n\
         Ctrl-C stops; started again it goes on.\n"
    ));
    output::line(&text)
}

fn rows(otus: &Otus) -> u64 {
    let snapshot = otus.dataset().snapshot();
    let table = |id| {
        let files: u64 = snapshot.raw_files(id).iter().map(|f| f.rows).sum();
        let hot: u64 = snapshot.hot(id).iter().map(|c| c.rows() as u64).sum();
        files + hot
    };
    snapshot.tables().filter(|t| t.def.keyed().is_none()).map(|t| table(t.id)).sum()
}

fn status(otus: &Otus, progress: &Progress) -> String {
    let snapshot = otus.dataset().snapshot();
    let statuses = otus.ingest().status();
    let rate: f64 = statuses.iter().map(|p| p.rate).sum();
    let lag: i64 = statuses.iter().filter_map(|p| p.lag).sum();
    let files = snapshot.manifest().live_files().count();
    let bytes: u64 = snapshot.manifest().live_files().map(|f| f.bytes).sum();
    let now = moment(otus.dataset().clock().now_us());
    let rows = count(rows(otus));
    let lag = count(u64::try_from(lag).unwrap_or(0));
    let mut text = format!(
        "{now}  {rate:.1} events/s  lag {lag}  {rows} rows  {files} files  {}",
        human_bytes(bytes)
    );
    let reasons = statuses.iter().filter(|p| p.state.name() != "running");
    for trouble in reasons.filter_map(|p| p.state.reason()) {
        text.push_str(&format!("  ({trouble})"));
    }
    if let Some(trouble) = progress.trouble.lock().as_ref() {
        text.push_str(&format!("  (generator: {trouble})"));
    }
    text
}

/// Drops the oldest raw days when the demo uses more disk than it may.
async fn keep_budget(otus: &Otus, args: &DemoArgs) -> Result<()> {
    let snapshot = otus.dataset().snapshot();
    let manifest = Arc::clone(snapshot.manifest());
    let live: u64 = manifest.live_files().map(|f| f.bytes).sum();
    let log = args.dir.join(DATA).join(crate::otus::LOCAL_LOG);
    let log = tokio::task::spawn_blocking(move || budget::folder_bytes(&log)).await.unwrap_or(0);
    let Some(table) = snapshot.table("public", tables::EVENTS_TABLE) else { return Ok(()) };
    let raw = snapshot.raw_files(table.id).iter().map(AsRef::as_ref);
    let Some(horizon_us) = budget::horizon(raw, live + log, args.budget) else { return Ok(()) };
    otus.dataset().advance_horizon(table.id, horizon_us).await?;
    output::note(&format!(
        "raw events of before {} UTC are dropped to keep within {}; rollups stay",
        moment(horizon_us),
        human_bytes(args.budget)
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_holds_a_month() {
        assert_eq!(parse_budget("512MiB"), Ok(512 << 20));
        let refused = parse_budget("511MiB").unwrap_err();
        assert!(refused.starts_with("at least 512MiB: a month"), "{refused}");
        assert!(parse_budget("much").is_err());
    }
}
