//! Tests that cannot run here. Rust's harness knows no skip at run time, so a line on the error output says it
//! and `tests/run` counts those lines. It must pass by the harness's capture, hence not a print macro.

use std::io::Write;

/// Whether a missing component is a failure (`CI=true`).
pub fn nothing_may_be_missing() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true" || v == "1")
}

/// Says that the running test is skipped, and why.
///
/// # Panics
/// With `CI=true`: there every component is installed, and its absence is a fault.
#[expect(clippy::panic, reason = "called by tests only; a panic is how a test fails")]
pub fn missing(reason: &str) {
    if nothing_may_be_missing() {
        panic!("nothing may be missing with CI=true, but {reason}");
    }
    unavailable(reason);
}

/// Says that the running test is skipped for something that no installer brings (data, rights), and why.
pub fn unavailable(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test").to_owned();
    let line = format!("SKIP {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).ok();
}

/// Gives the value, or skips the running test (returns `Ok(())` from it) with the reason.
#[macro_export]
macro_rules! need {
    ($component:expr) => {
        match $component {
            Ok(value) => value,
            Err(reason) => {
                $crate::skip::missing(&reason);
                return Ok(());
            }
        }
    };
}
