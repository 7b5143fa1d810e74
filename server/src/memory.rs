//! Memory after a large query: what is freed stays with the thread that first had it until that thread
//! allocates again, and the threads of queries may wait for hours. So they are asked to give it back.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use otus_sql::SqlEngine;
use tokio::sync::watch;

/// How often the process looks at itself.
const LOOK: Duration = Duration::from_secs(1);
/// What the process may have grown by, kB: giving back less is not worth asking for it again.
const GROWN_KB: u64 = 64 << 10;

/// Looks after which memory is asked for once more: threads of planning end in the meantime.
const AGAIN: u32 = 15;

static GIVE_BACK: OnceLock<fn()> = OnceLock::new();

/// Says how a thread gives its freed memory back to the system: the program knows, as it chose the
/// allocator. Only the first word counts; without one nothing is given back early.
pub fn given_back_by(give_back: fn()) {
    GIVE_BACK.get_or_init(|| give_back);
}

/// Asks the threads of queries for their freed memory once the queries are over.
pub(crate) async fn trim(sql: Arc<SqlEngine>, mut stopped: watch::Receiver<bool>) {
    let (Some(give_back), Some(mut least)) = (GIVE_BACK.get(), resident_kb()) else { return };
    let mut again = 0_u32;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            changed = stopped.changed() => {
                if changed.is_err() || *stopped.borrow() {
                    return;
                }
                continue;
            }
        }
        let Some(now) = resident_kb() else { return };
        least = least.min(now);
        let (has_grown, is_due) = (now >= least + GROWN_KB, again == 1);
        if sql.memory_reserved() > 0 || !has_grown && !is_due {
            again = again.saturating_sub(u32::from(!is_due));
            continue;
        }
        again = if has_grown { AGAIN } else { 0 };
        sql.on_free_threads(*give_back).await;
        give_back();
        let Some(left) = resident_kb() else { return };
        tracing::debug!(before_kb = now, after_kb = left, "freed memory was given back");
        least = left;
    }
}

/// Memory of this process, kB; none where the system does not tell.
fn resident_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
