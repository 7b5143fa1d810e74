//! What the benchmarks share: facts about the machine, processor time of a process, percentiles, and one file of
//! results per benchmark in `benches/results/`. Each benchmark runs its control in the same run and says the
//! ratio; `--smoke` runs it small, to show that it still works, and writes no results.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use otus_tests::skip::nothing_may_be_missing;
use serde_json::{Value, json};

/// The one that the server has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whether this is a smoke run: tiny sizes, nothing written.
pub fn is_smoke() -> bool {
    std::env::args().any(|argument| argument == "--smoke")
}

/// `full`, or `small` in a smoke run.
pub fn sized<T>(full: T, small: T) -> T {
    if is_smoke() { small } else { full }
}

/// Facts about the machine, without which no figure means anything.
pub fn machine() -> Value {
    let field = |file: &str, key: &str| -> Option<String> {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    json!({
        "processor": field("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": first_line("uname", &["-sr"]),
        "compiler": first_line("rustc", &["--version"]),
        "commit": first_line("git", &["rev-parse", "--short", "HEAD"]),
        "day": first_line("date", &["-u", "+%Y-%m-%d"]),
        "load_before": load.split_whitespace().next(),
    })
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Seconds of processor time that a process has used, its threads included.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold spaces; the fields after it do not. Ticks are hundredths of a second.
    let fields: Vec<&str> = text.rsplit_once(") ").context("stat")?.1.split(' ').collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("stat")?.parse::<f64>()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// Greatest resident memory of a process so far, MiB.
pub fn memory_peak_mib(pid: u32) -> Result<f64> {
    memory_mib(pid, "VmHWM:")
}

/// Resident memory of a process, MiB.
pub fn memory_now_mib(pid: u32) -> Result<f64> {
    memory_mib(pid, "VmRSS:")
}

fn memory_mib(pid: u32, key: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with(key)).context("no such field")?;
    let kib = line.split_whitespace().nth(1).context("no value")?.parse::<f64>()?;
    Ok(kib / 1024.0)
}

/// The value below which `share` of the values lie; the values are sorted by this.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a list of measurements"
    )]
    let at = (share * last as f64).round() as usize;
    values.get(at.min(last)).copied().unwrap_or(f64::NAN)
}

/// The middle value.
pub fn median(values: &mut [f64]) -> f64 {
    percentile(values, 0.5)
}

/// Rounded to three decimals, for reports.
pub fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A count as a float, for rates.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// Prints the results and, unless this is a smoke run, keeps them in `benches/results/<name>.json`.
#[expect(clippy::print_stdout, reason = "the output of a benchmark")]
pub fn report(name: &str, machine: &Value, aim: &str, results: &Value) -> Result<()> {
    let report = json!({"benchmark": name, "aim": aim, "machine": machine, "results": results});
    let text = serde_json::to_string_pretty(&report)?;
    println!("{text}");
    if !is_smoke() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{name}.json")), text + "\n")?;
    }
    Ok(())
}

/// Says that the benchmark cannot run here for want of a component, and why. An error where nothing may be missing.
pub fn missing(name: &str, reason: &str) -> Result<()> {
    anyhow::ensure!(!nothing_may_be_missing(), "nothing may be missing with CI=true, but {reason}");
    skipped(name, reason);
    Ok(())
}

/// Says that the benchmark cannot run here for want of something that no installer brings. That is no failure.
#[expect(clippy::print_stdout, reason = "the output of a benchmark")]
pub fn skipped(name: &str, reason: &str) {
    println!("SKIP {name}: {reason}");
}
