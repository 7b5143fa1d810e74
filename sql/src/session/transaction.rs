//! Transactions. A transaction is what it holds: settings to put back, cursors without HOLD, under REPEATABLE READ
//! one snapshot for all its statements, and the records that are written at its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use otus_engine::snapshot::Snapshot;

use super::settings::Settings;
use super::show::tell_changes;
use super::{Session, tagged};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::outcome::{Outcome, Report};
use crate::statement::Modes;

/// Most savepoints of a transaction: each keeps the settings of its moment.
const SAVEPOINTS_MAX: usize = 1_000;

/// An open transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// Whether all statements see one snapshot.
    pub(super) repeatable: bool,
    /// Its isolation, as SHOW tells it.
    pub(super) isolation: String,
    /// Whether it must not write.
    pub(super) read_only: bool,
    /// Whether a statement has looked at data: its modes are fixed from then on.
    pub(super) queried: bool,
    /// That snapshot, once a statement has taken it.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// When it began, microseconds since 1970: what `now()` says in all its statements.
    pub(super) started_us: i64,
    /// Settings at the beginning, for ROLLBACK.
    before: Settings,
    /// Values to put back at COMMIT (SET LOCAL).
    locals: BTreeMap<String, String>,
    /// Name, settings and number of pending appends of each.
    savepoints: Vec<(String, Settings, usize)>,
}

impl Transaction {
    /// Remembers the value of a setting before SET LOCAL changed it first.
    pub(super) fn note_local(&mut self, name: &str, before: &Settings) {
        self.locals.entry(name.to_string()).or_insert_with(|| before.value(name));
    }

    /// Why these modes cannot be taken on any more.
    fn too_late(&self, modes: Modes) -> Option<&'static str> {
        let nested = !self.savepoints.is_empty();
        if modes.isolation.is_some_and(|level| level != self.isolation) {
            if self.queried {
                return Some("SET TRANSACTION ISOLATION LEVEL must be called before any query");
            }
            if nested {
                return Some(
                    "SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction",
                );
            }
        }
        if modes.read_only == Some(false) && self.read_only {
            if nested {
                return Some(
                    "cannot set transaction read-write mode inside a read-only transaction",
                );
            }
            if self.queried {
                return Some("transaction read-write mode must be set before any query");
            }
        }
        None
    }

    /// As what a transaction chained to it begins.
    fn modes(&self) -> Modes {
        let known = ["read uncommitted", "read committed", "repeatable read", "serializable"];
        let isolation = known.into_iter().find(|level| *level == self.isolation);
        Modes { isolation, read_only: Some(self.read_only) }
    }

    fn position(&self, name: &str) -> SqlResult<usize> {
        self.savepoints.iter().rposition(|(n, ..)| n == name).ok_or_else(|| {
            SqlError::new(sqlstate::NO_SAVEPOINT, format!("savepoint \"{name}\" does not exist"))
        })
    }
}

fn none(what: &str) -> SqlError {
    SqlError::new(
        sqlstate::NO_TRANSACTION,
        format!("{what} can only be used in transaction blocks"),
    )
}

impl Session {
    pub(super) fn begin(&self, modes: Modes) -> SqlResult<Outcome> {
        let started_us = self.engine.dataset().clock().now_us();
        let mut inner = self.inner.lock();
        if inner.transaction.is_some() {
            inner.reports.push(Report::Notice {
                severity: "WARNING",
                sqlstate: sqlstate::IN_TRANSACTION,
                message: "there is already a transaction in progress".into(),
            });
            return Ok(tagged("BEGIN"));
        }
        let before = inner.settings.clone();
        let isolation = before.value("default_transaction_isolation");
        let repeatable = matches!(isolation.as_str(), "repeatable read" | "serializable");
        let read_only = before.value("default_transaction_read_only") == "on";
        let transaction = Transaction {
            repeatable,
            isolation,
            read_only,
            started_us,
            before,
            ..Transaction::default()
        };
        inner.transaction = Some(transaction);
        inner.failed = false;
        drop(inner);
        self.set_transaction(modes)?;
        Ok(tagged("BEGIN"))
    }

    pub(super) fn set_transaction(&self, modes: Modes) -> SqlResult<Outcome> {
        let mut inner = self.inner.lock();
        let Some(t) = &mut inner.transaction else {
            inner.reports.push(warning("SET TRANSACTION can only be used in transaction blocks"));
            return Ok(tagged("SET"));
        };
        if let Some(message) = t.too_late(modes) {
            return Err(SqlError::new(sqlstate::IN_TRANSACTION, message));
        }
        t.repeatable = modes.repeatable().unwrap_or(t.repeatable);
        if let Some(isolation) = modes.isolation {
            t.isolation = isolation.to_owned();
        }
        t.read_only = modes.read_only.unwrap_or(t.read_only);
        Ok(tagged("SET"))
    }

    /// Modes of the transactions to come.
    pub(super) fn set_characteristics(&self, modes: Modes) -> SqlResult<Outcome> {
        if let Some(isolation) = modes.isolation {
            self.set("default_transaction_isolation", Some(isolation), false)?;
        }
        if let Some(read_only) = modes.read_only {
            let value = if read_only { "on" } else { "off" };
            self.set("default_transaction_read_only", Some(value), false)?;
        }
        Ok(tagged("SET"))
    }

    /// Ends a transaction and writes what it put aside. If that cannot be written, the transaction has failed and
    /// is over.
    pub(super) async fn commit(&self, chain: bool) -> SqlResult<Outcome> {
        if self.inner.lock().failed {
            return self.rollback(chain);
        }
        let modes = self.end()?;
        self.write_pending().await?;
        if let (true, Some(modes)) = (chain, modes) {
            self.begin(modes)?;
        }
        Ok(tagged("COMMIT"))
    }

    /// Ends a transaction but for what it put aside; gives its modes.
    fn end(&self) -> SqlResult<Option<Modes>> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(transaction) = inner.transaction.take() else {
            inner.reports.push(warning("there is no transaction in progress"));
            return Ok(None);
        };
        let before = inner.settings.clone();
        for (name, value) in &transaction.locals {
            inner.settings.set(name, Some(value))?;
        }
        inner.cursors.retain(|_, c| c.hold);
        tell_changes(&before, inner);
        Ok(Some(transaction.modes()))
    }

    pub(super) fn rollback(&self, chain: bool) -> SqlResult<Outcome> {
        let modes = {
            let mut guard = self.inner.lock();
            let inner = &mut *guard;
            inner.failed = false;
            inner.pending.clear();
            let Some(transaction) = inner.transaction.take() else {
                inner.reports.push(warning("there is no transaction in progress"));
                return Ok(tagged("ROLLBACK"));
            };
            let modes = transaction.modes();
            let before = std::mem::replace(&mut inner.settings, transaction.before);
            inner.cursors.retain(|_, c| c.hold && !c.in_transaction);
            tell_changes(&before, inner);
            modes
        };
        if chain {
            self.begin(modes)?;
        }
        Ok(tagged("ROLLBACK"))
    }

    pub(super) fn savepoint(&self, name: &str) -> SqlResult<Outcome> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let (settings, pending) = (inner.settings.clone(), inner.pending.len());
        let transaction = inner.transaction.as_mut().ok_or_else(|| none("SAVEPOINT"))?;
        if transaction.savepoints.len() >= SAVEPOINTS_MAX {
            return Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, "too many savepoints"));
        }
        transaction.savepoints.push((name.to_string(), settings, pending));
        Ok(tagged("SAVEPOINT"))
    }

    pub(super) fn release(&self, name: &str) -> SqlResult<Outcome> {
        let mut inner = self.inner.lock();
        let transaction = inner.transaction.as_mut().ok_or_else(|| none("RELEASE SAVEPOINT"))?;
        let at = transaction.position(name)?;
        transaction.savepoints.truncate(at);
        Ok(tagged("RELEASE"))
    }

    pub(super) fn rollback_to(&self, name: &str) -> SqlResult<Outcome> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let transaction =
            inner.transaction.as_mut().ok_or_else(|| none("ROLLBACK TO SAVEPOINT"))?;
        let at = transaction.position(name)?;
        transaction.savepoints.truncate(at + 1);
        let (restored, pending) =
            transaction.savepoints.last().map(|(_, s, p)| (s.clone(), *p)).unwrap_or_default();
        inner.pending.truncate(pending);
        let before = std::mem::replace(&mut inner.settings, restored);
        inner.failed = false;
        tell_changes(&before, inner);
        Ok(tagged("ROLLBACK"))
    }
}

fn warning(message: &str) -> Report {
    Report::Notice {
        severity: "WARNING",
        sqlstate: sqlstate::NO_TRANSACTION,
        message: message.to_string(),
    }
}
