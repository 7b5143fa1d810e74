//! Python with duckdb and pyarrow: the reader that shares no code with Otus.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths;

/// The interpreter of the test environment, or why it is not there.
pub fn interpreter() -> Result<PathBuf, String> {
    let path = paths::cache().join("venv/bin/python");
    if path.is_file() {
        Ok(path)
    } else {
        Err("the Python environment is not installed (tests/run --install)".into())
    }
}

/// Runs `tests/python/<script>` and gives its output as JSON.
pub fn run(
    python: &std::path::Path,
    script: &str,
    arguments: &[&str],
) -> Result<serde_json::Value> {
    let path = paths::checkout().join("tests/python").join(script);
    let mut command = Command::new(python);
    // A script may import another: nothing is to be left in the checkout.
    command.arg("-B").arg(&path).args(arguments);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(
        output.status.success(),
        "{script} failed: {}\n{text}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&text).with_context(|| format!("{script} printed {text:?}"))
}
