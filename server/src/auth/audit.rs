//! The audit log: who signed in, and who ran what, as one JSON object a line. Lines are written by a thread of
//! their own, so that a slow disk delays no statement; what does not fit into its queue is counted and told.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use otus_engine::clock::Clock;
use otus_engine::{Error, Result};
use otus_sql::access::Identity;
use otus_sql::{Ended, StatementObserver};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Lines that may wait to be written.
const QUEUE_LINES: usize = 10_000;
/// Bytes of a statement's text that are kept.
const TEXT_BYTES: usize = 64 << 10;

/// Where somebody comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// `postgres` or `http`.
    pub(crate) face: &'static str,
    /// The client's address, if it is known.
    pub(crate) address: Option<SocketAddr>,
}

/// The log of a process.
#[derive(Debug)]
pub(crate) struct Audit {
    clock: Arc<dyn Clock>,
    queue: Mutex<Option<SyncSender<String>>>,
    lost: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// Begins to write to `stderr`, or to the end of a file.
    pub(crate) fn start(target: &str, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let cannot = |e: io::Error| {
            Error::unavailable(format!("the audit log {target:?} cannot be written")).with_source(e)
        };
        let out: Box<dyn Write + Send> = match target {
            "stderr" => Box::new(io::stderr()),
            path => Box::new(BufWriter::new(open(Path::new(path)).map_err(cannot)?)),
        };
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&lost);
        let writer = std::thread::Builder::new().name("otus-audit".into());
        let writer = writer.spawn(move || write(out, &lines, &told)).map_err(cannot)?;
        let (queue, writer) = (Mutex::new(Some(queue)), Mutex::new(Some(writer)));
        Ok(Arc::new(Self { clock, queue, lost, writer }))
    }

    /// Notes that something happened.
    pub(crate) fn note(
        &self,
        event: &str,
        who: (&str, Option<&Identity>),
        origin: Origin,
        facts: Value,
    ) {
        let now = chrono::DateTime::from_timestamp_micros(self.clock.now_us()).unwrap_or_default();
        let (user, identity) = who;
        let roles: Vec<&str> =
            identity.iter().flat_map(|i| i.roles.iter().map(|r| r.name.as_str())).collect();
        let mut line = json!({
            "time": now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            "event": event,
            "user": user,
            "roles": roles,
            "address": origin.address.map(|a| a.ip().to_canonical().to_string()),
            "face": origin.face,
        });
        if let (Value::Object(line), Value::Object(facts)) = (&mut line, facts) {
            line.extend(facts);
        }
        let queue = self.queue.lock();
        if queue.as_ref().is_none_or(|queue| queue.try_send(line.to_string()).is_err()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("otus_audit_lines_lost_total").increment(1);
        }
    }

    /// Writes what waits.
    pub(crate) fn close(&self) {
        drop(self.queue.lock().take());
        let writer = self.writer.lock().take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the audit log ended with a bug");
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.close();
    }
}

/// Opens a file for its owner only: statements may hold what not everybody may read.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn write(mut out: Box<dyn Write + Send>, lines: &Receiver<String>, lost: &AtomicU64) {
    let mut put = |line: &str| writeln!(out, "{line}").and_then(|()| out.flush());
    for line in lines {
        let mut result = put(&line);
        let missing = lost.swap(0, Ordering::Relaxed);
        if result.is_ok() && missing > 0 {
            result = put(&json!({ "event": "lost", "lines": missing }).to_string());
        }
        if let Err(error) = result {
            metrics::counter!("otus_audit_lines_lost_total").increment(1);
            lost.fetch_add(missing.saturating_add(1), Ordering::Relaxed);
            tracing::error!(%error, "the audit log cannot be written");
        }
    }
}

/// Notes the statements of one session.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) audit: Arc<Audit>,
    pub(crate) user: String,
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) origin: Origin,
}

impl StatementObserver for Watched {
    fn ended(&self, statement: &Ended<'_>) {
        let facts = json!({
            "statement": cut(statement.text),
            "duration_us": micros(statement.duration),
            "rows": statement.rows,
            "ok": statement.sqlstate.is_none(),
            "sqlstate": statement.sqlstate,
        });
        self.audit.note("statement", (&self.user, self.identity.as_deref()), self.origin, facts);
    }
}

/// A duration as the log writes it.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The beginning of a text that is too long.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use otus_engine::clock::SystemClock;

    use super::*;

    #[test]
    fn a_line_says_who_ran_what_from_where() {
        let path = std::env::temp_dir().join(format!("otus-audit-{}.log", std::process::id()));
        let audit = Audit::start(path.to_str().unwrap(), Arc::new(SystemClock)).unwrap();
        let address = Some("[::ffff:10.0.0.7]:4711".parse().unwrap());
        let origin = Origin { face: "postgres", address };
        let watched =
            Watched { audit: Arc::clone(&audit), user: "ann".into(), identity: None, origin };
        let ended = Ended {
            text: "SELECT 'a\nb'",
            duration: Duration::from_millis(3),
            rows: 2,
            sqlstate: Some("57014"),
        };
        watched.ended(&ended);
        audit.close();
        watched.ended(&ended);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let [line] = text.lines().collect::<Vec<_>>()[..] else { panic!("one line: {text}") };
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["user"], &line["address"]), (&json!("ann"), &json!("10.0.0.7")));
        assert_eq!((&line["statement"], &line["rows"]), (&json!("SELECT 'a\nb'"), &json!(2)));
        assert_eq!((&line["ok"], &line["sqlstate"]), (&json!(false), &json!("57014")));
        assert_eq!(line["duration_us"], json!(3_000));
        assert_eq!(audit.lost.load(Ordering::Relaxed), 1, "after the end nothing is written");
        assert!(Audit::start("/nowhere/audit.log", Arc::new(SystemClock)).is_err());
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(cut(&"ä".repeat(TEXT_BYTES)).len(), TEXT_BYTES);
        assert_eq!(cut("SELECT 1"), "SELECT 1");
    }
}
