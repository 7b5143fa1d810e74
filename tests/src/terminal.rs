//! A command on a terminal of its own, by `script` of util-linux: what a person would see.

use std::process::Command;

use anyhow::{Context, Result};

/// Columns of the terminal.
const COLUMNS: u32 = 120;

/// The program with its arguments, to be started on a terminal; or why that cannot be. What the terminal
/// shows goes to standard output.
pub fn command(program: &str, arguments: &[&str]) -> Result<Command, String> {
    let known = Command::new("script").arg("--version").output();
    known.map_err(|_| "script is not installed (util-linux)".to_owned())?;
    let words = std::iter::once(program).chain(arguments.iter().copied());
    let words: Vec<String> = words.map(|w| format!("'{}'", w.replace('\'', "'\\''"))).collect();
    let line = format!("stty cols {COLUMNS}; exec {}", words.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
    Ok(script)
}

/// The process that `script` (by its id) runs.
pub fn inner(script: u32) -> Result<u32> {
    let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children"))?;
    let child = children.split_whitespace().next().context("nothing runs on the terminal")?;
    Ok(child.parse()?)
}

/// Whether a text holds what only a terminal understands.
pub fn has_controls(text: &str) -> bool {
    text.contains('\u{1b}') || text.replace("\r\n", "\n").contains('\r')
}
