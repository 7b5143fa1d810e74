//! Named places at which a process can be told to die, for tests that kill it at every step of a commit.
//! `OTUS_FAILPOINT="flush.files_written:2,commit.ack_lost:1"` arms them: the second pass through the
//! first kills the process, the first pass through the second loses an acknowledgement. Unset: no cost.

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that arms failpoints.
pub const VARIABLE: &str = "OTUS_FAILPOINT";

#[derive(Debug)]
struct Armed {
    name: String,
    at: u64,
    passes: AtomicU64,
}

static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();

/// Kills this process with SIGKILL if the failpoint is armed and this is the pass it was armed for.
pub fn hit(name: &'static str) {
    if fires(name) {
        die();
    }
}

/// Whether the failpoint is armed and this is the pass it was armed for. The caller does the harm.
pub fn fires(name: &'static str) -> bool {
    let armed = ARMED.get_or_init(|| parse(&std::env::var(VARIABLE).unwrap_or_default()));
    if armed.is_empty() {
        return false;
    }
    let fires = armed.iter().filter(|a| a.name == name).any(Armed::pass);
    if fires {
        // Past the log, which may be off: whoever armed it must be able to tell this death from another.
        writeln!(std::io::stderr(), "{}", reached(name)).ok();
    }
    fires
}

/// Whether the failpoint is named at all: for those that say how things are, not when something happens.
pub fn is_armed(name: &'static str) -> bool {
    let armed = ARMED.get_or_init(|| parse(&std::env::var(VARIABLE).unwrap_or_default()));
    armed.iter().any(|a| a.name == name)
}

/// What a process says on its error output when a failpoint fires.
pub fn reached(name: &str) -> String {
    format!("failpoint {name:?} is reached")
}

impl Armed {
    fn pass(&self) -> bool {
        self.passes.fetch_add(1, Ordering::SeqCst) + 1 == self.at
    }
}

fn parse(text: &str) -> Vec<Armed> {
    text.split(',')
        .filter_map(|part| {
            let (name, at) = part.trim().split_once(':').unwrap_or((part.trim(), "1"));
            let at = at.parse().unwrap_or(1);
            (!name.is_empty()).then(|| Armed { name: name.into(), at, passes: AtomicU64::new(0) })
        })
        .collect()
}

/// No destructor runs. The signal comes from a child, since raising one takes unsafe code; should there
/// be no `kill` on this machine, an abort has the same effect on what is on disk.
fn die() {
    let id = std::process::id().to_string();
    let killed = std::process::Command::new("kill").args(["-KILL", &id]).status();
    if killed.is_ok_and(|status| status.success()) {
        std::thread::park_timeout(std::time::Duration::from_secs(5));
    }
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_once_at_the_pass_it_is_armed_for() {
        let armed = parse("commit.put_done:2, sweep.committed");
        assert_eq!(armed.len(), 2);
        assert_eq!([armed[0].pass(), armed[0].pass(), armed[0].pass()], [false, true, false]);
        assert!(armed[1].pass());
        assert!(parse("").is_empty());
    }
}
