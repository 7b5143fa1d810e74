//! Tests that cannot run here. Rust's harness knows no skip at run time, so a line on the error output says it
//! and `tests/run` counts those lines. It must pass by the harness's capture, hence not a print macro.
//!
//! What `tests/run --install` brings is a component: [`need!`](crate::need). Where `CI=true` it must be there, and
//! work. What no installer brings is given or not: the data of `OTUS_TEST_DATA`, the right to mount. Without it
//! a test is skipped everywhere: [`given!`](crate::given).

use std::io::Write;

/// Whether a missing component is a failure (`CI=true` or `CI=1`).
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

/// Says that the running test is skipped for something that no installer brings, and why.
pub fn unavailable(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test").to_owned();
    let line = format!("SKIP {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).ok();
}

/// Gives something that no installer brings, or skips the running test (returns `Ok(())` from it) with the reason.
#[macro_export]
macro_rules! given {
    ($thing:expr) => {
        match $thing {
            Ok(value) => value,
            Err(reason) => {
                $crate::skip::unavailable(&reason);
                return Ok(());
            }
        }
    };
}

/// Gives a component, or skips the running test (returns `Ok(())` from it) with the reason; where `CI=true` the
/// test fails.
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
