//! What the verbs print: results to standard output, remarks to standard error, tables with aligned columns,
//! progress on a terminal. Whatever else is written there steps aside for progress.

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use otus_engine::{Error, Result};

/// All progress that this process shows: nothing unless a person watches.
static PROGRESS: LazyLock<MultiProgress> = LazyLock::new(|| {
    MultiProgress::with_draw_target(match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    })
});

/// Writes something to the terminal while progress is out of the way.
pub(crate) fn aside<T>(write: impl FnOnce() -> T) -> T {
    PROGRESS.suspend(write)
}

/// Prints a line of the result.
pub(crate) fn line(text: &str) -> Result<()> {
    aside(|| writeln!(std::io::stdout().lock(), "{text}"))
        .map_err(|e| Error::unavailable("cannot write the result").with_source(e))
}

/// Prints a remark. A reader that is gone does not matter.
#[expect(clippy::print_stderr, reason = "the command line's own voice")]
pub(crate) fn note(text: &str) {
    aside(|| eprintln!("{text}"));
}

/// Standard error for log lines, beside progress.
#[derive(Debug, Default)]
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        aside(|| std::io::stderr().write(bytes))
    }
    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Rows with aligned columns; numbers to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let is_number = cell.starts_with(|c: char| c.is_ascii_digit() || c == '-')
                && cell.chars().all(|c| c.is_ascii_digit() || "-.,".contains(c));
            if is_number { format!("{pad}{cell}") } else { format!("{cell}{pad}") }
        });
        let cells: Vec<String> = cells.collect();
        line(cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// A moment for people, UTC.
pub(crate) fn moment(us: i64) -> String {
    let at = chrono::DateTime::from_timestamp_micros(us);
    at.map_or_else(|| us.to_string(), |t| t.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// A number with thin groups of three digits.
pub(crate) fn count(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// A bar that knows where it ends; hidden unless a person watches.
pub(crate) fn bar(length: u64, what: &str) -> ProgressBar {
    let template = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
    styled(ProgressBar::new(length), template, what)
}

/// A bar over bytes, or a sign of life if nobody knows how many there will be.
pub(crate) fn bytes_bar(length: Option<u64>, what: &str) -> ProgressBar {
    match length {
        Some(length) => {
            let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            styled(ProgressBar::new(length), template, what)
        }
        None => styled(ProgressBar::new_spinner(), "{spinner} {msg} {bytes} {elapsed}", what),
    }
}

/// A sign of life for work without a known end.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    styled(ProgressBar::new_spinner(), "{spinner} {msg} {human_pos} {elapsed}", what)
}

/// One line that is written over again and again.
pub(crate) fn status_line() -> ProgressBar {
    styled(ProgressBar::new_spinner(), "{spinner} {wide_msg}", "")
}

fn styled(bar: ProgressBar, template: &str, what: &str) -> ProgressBar {
    let bar = PROGRESS.add(bar);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_string());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
