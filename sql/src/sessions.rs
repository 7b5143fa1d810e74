//! The sessions of an engine as the others see them: who they are and what they do, and how they are asked to stop.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{SqlError, SqlResult, sqlstate};
use crate::outcome::Report;
use crate::session::CancelHandle;

/// Length of a statement as others see it, bytes: as PostgreSQL's `track_activity_query_size`.
const TEXT_BYTES_MAX: usize = 1024;
/// Warnings that wait for a client to be told of.
const WARNINGS_MAX: usize = 100;

/// How whoever serves a session stops it.
pub trait Stopper: fmt::Debug + Send + Sync {
    /// Stops the statement that runs, if one does.
    fn cancel(&self);
    /// Ends the session.
    fn terminate(&self);
}

/// One session as the others see it.
#[derive(Debug)]
pub(crate) struct Presence {
    pub(crate) pid: i32,
    pub(crate) user: String,
    /// Whether it may see and do everything.
    pub(crate) is_admin: bool,
    pub(crate) client: Option<SocketAddr>,
    /// When it began, microseconds since 1970.
    pub(crate) begun_us: i64,
    pub(crate) cancel: CancelHandle,
    pub(crate) stopper: Option<Arc<dyn Stopper>>,
    doing: Mutex<Doing>,
    warnings: Mutex<Vec<Report>>,
}

/// What a session does now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doing {
    /// As `pg_stat_activity` calls it; empty before the first statement.
    pub(crate) state: &'static str,
    pub(crate) application: String,
    /// The statement that runs or has run last.
    pub(crate) query: String,
    pub(crate) query_us: Option<i64>,
    pub(crate) transaction_us: Option<i64>,
    pub(crate) changed_us: i64,
}

/// Which of the two is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Signal {
    /// The end of its statement.
    Cancel,
    /// The end of the session.
    Terminate,
}

impl Presence {
    pub(crate) fn new(
        pid: i32,
        user: &str,
        is_admin: bool,
        client: Option<SocketAddr>,
        begun_us: i64,
        application: String,
        cancel: CancelHandle,
        stopper: Option<Arc<dyn Stopper>>,
    ) -> Self {
        let doing = Doing { state: "idle", application, changed_us: begun_us, ..Doing::default() };
        let (user, doing) = (user.to_owned(), Mutex::new(doing));
        let warnings = Mutex::default();
        Self { pid, user, is_admin, client, begun_us, cancel, stopper, doing, warnings }
    }

    /// What it does now.
    pub(crate) fn doing(&self) -> Doing {
        self.doing.lock().clone()
    }

    /// A statement begins.
    pub(crate) fn begin(&self, text: &str, now_us: i64, transaction_us: Option<i64>) {
        let text = text.trim();
        let shown = text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default();
        let mut doing = self.doing.lock();
        doing.state = "active";
        doing.query.clear();
        doing.query.push_str(shown);
        doing.query_us = Some(now_us);
        doing.transaction_us = Some(transaction_us.unwrap_or(now_us));
        doing.changed_us = now_us;
    }

    /// It waits for its client.
    pub(crate) fn rest(
        &self,
        state: &'static str,
        application: &str,
        now_us: i64,
        transaction_us: Option<i64>,
    ) {
        let mut doing = self.doing.lock();
        if doing.application != application {
            application.clone_into(&mut doing.application);
        }
        doing.state = state;
        doing.transaction_us = transaction_us;
        doing.changed_us = now_us;
    }

    /// Whether it may see what another session does.
    pub(crate) fn may_see(&self, other: &Self) -> bool {
        self.is_admin || self.user == other.user
    }

    fn warn(&self, message: String) {
        let mut warnings = self.warnings.lock();
        if warnings.len() < WARNINGS_MAX {
            warnings.push(Report::Notice {
                severity: "WARNING",
                sqlstate: sqlstate::WARNING,
                message,
            });
        }
    }

    /// Takes what its client is to be warned of.
    pub(crate) fn take_warnings(&self) -> Vec<Report> {
        std::mem::take(&mut self.warnings.lock())
    }

    fn stop(&self, signal: Signal) {
        match (&self.stopper, signal) {
            (Some(stopper), Signal::Cancel) => stopper.cancel(),
            (Some(stopper), Signal::Terminate) => stopper.terminate(),
            // A session that is one request ends with its statement.
            (None, _) => self.cancel.cancel(),
        }
    }
}

/// All sessions of an engine.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Live>);

#[derive(Debug, Default)]
struct Live {
    next: u64,
    sessions: BTreeMap<u64, Arc<Presence>>,
}

/// A session's place among the others; given back when dropped.
#[derive(Debug)]
pub(crate) struct Present {
    sessions: Arc<Sessions>,
    number: u64,
    pub(crate) presence: Arc<Presence>,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.sessions.0.lock().sessions.remove(&self.number);
    }
}

impl Sessions {
    /// Adds a session.
    pub(crate) fn enter(self: &Arc<Self>, presence: Presence) -> Present {
        let presence = Arc::new(presence);
        let mut live = self.0.lock();
        let number = live.next;
        live.next += 1;
        live.sessions.insert(number, Arc::clone(&presence));
        Present { sessions: Arc::clone(self), number, presence }
    }

    /// All of them, the oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Presence>> {
        self.0.lock().sessions.values().map(Arc::clone).collect()
    }

    /// Whether a session has this number.
    pub(crate) fn has(&self, pid: i32) -> bool {
        self.find(pid).is_some()
    }

    fn find(&self, pid: i32) -> Option<Arc<Presence>> {
        self.0.lock().sessions.values().find(|s| s.pid == pid).map(Arc::clone)
    }

    /// Stops session `pid` or its statement for `asker`; whether there is one.
    pub(crate) fn signal(&self, asker: &Presence, pid: i64, signal: Signal) -> SqlResult<bool> {
        let Some(found) = i32::try_from(pid).ok().and_then(|pid| self.find(pid)) else {
            asker.warn(format!("PID {pid} is not a PostgreSQL backend process"));
            return Ok(false);
        };
        if !asker.may_see(&found) {
            return Err(SqlError::new(sqlstate::NOT_ALLOWED, denied(signal, found.is_admin)));
        }
        found.stop(signal);
        Ok(true)
    }
}

fn denied(signal: Signal, of_admin: bool) -> &'static str {
    match (signal, of_admin) {
        (Signal::Cancel, true) => "must be a superuser to cancel superuser query",
        (Signal::Cancel, false) => {
            "must be a member of the role whose query is being canceled or member of \
             pg_signal_backend"
        }
        (Signal::Terminate, true) => "must be a superuser to terminate superuser process",
        (Signal::Terminate, false) => {
            "must be a member of the role whose process is being terminated or member of \
             pg_signal_backend"
        }
    }
}
