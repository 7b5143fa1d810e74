//! Transactions. Everything only reads, so a transaction is what it holds: settings to put back, cursors
//! without HOLD, and under REPEATABLE READ one snapshot for all its statements.

use std::collections::BTreeMap;
use std::sync::Arc;

use otus_engine::snapshot::Snapshot;

use super::settings::Settings;
use super::{Session, tagged};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::outcome::{Outcome, Report};

/// An open transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// Whether all statements see one snapshot.
    pub(super) repeatable: bool,
    /// That snapshot, once a statement has taken it.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// When it began, microseconds since 1970: what `now()` says in all its statements.
    pub(super) started_us: i64,
    /// Settings at the beginning, for ROLLBACK.
    before: Settings,
    /// Values to put back at COMMIT (SET LOCAL).
    locals: BTreeMap<String, String>,
    savepoints: Vec<(String, Settings)>,
}

impl Transaction {
    /// Remembers the value of a setting before SET LOCAL changed it first.
    pub(super) fn note_local(&mut self, name: &str, before: &Settings) {
        self.locals.entry(name.to_string()).or_insert_with(|| before.value(name));
    }

    fn position(&self, name: &str) -> SqlResult<usize> {
        self.savepoints.iter().rposition(|(n, _)| n == name).ok_or_else(|| {
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
    pub(super) fn begin(&self, repeatable: bool) -> SqlResult<Outcome> {
        let started_us = self.engine.dataset().clock().now_us();
        let mut inner = self.inner.lock();
        if inner.transaction.is_some() {
            inner.reports.push(warning("there is already a transaction in progress"));
            return Ok(tagged("BEGIN"));
        }
        let default = inner.settings.value("default_transaction_isolation");
        let repeatable =
            repeatable || default.starts_with("repeatable") || default == "serializable";
        let before = inner.settings.clone();
        let transaction = Transaction { repeatable, started_us, before, ..Transaction::default() };
        inner.transaction = Some(transaction);
        inner.failed = false;
        Ok(tagged("BEGIN"))
    }

    pub(super) fn set_transaction(&self, repeatable: bool) -> SqlResult<Outcome> {
        let mut inner = self.inner.lock();
        match &mut inner.transaction {
            Some(t) => t.repeatable |= repeatable,
            None => inner
                .reports
                .push(warning("SET TRANSACTION can only be used in transaction blocks")),
        }
        Ok(tagged("SET"))
    }

    pub(super) fn commit(&self, chain: bool) -> SqlResult<Outcome> {
        if self.inner.lock().failed {
            return self.rollback(chain);
        }
        let repeatable = {
            let mut guard = self.inner.lock();
            let inner = &mut *guard;
            let Some(transaction) = inner.transaction.take() else {
                inner.reports.push(warning("there is no transaction in progress"));
                return Ok(tagged("COMMIT"));
            };
            let before = inner.settings.clone();
            for (name, value) in &transaction.locals {
                inner.settings.set(name, Some(value))?;
            }
            inner.cursors.retain(|_, c| c.hold);
            self.tell_changes(&before, inner);
            transaction.repeatable
        };
        if chain {
            self.begin(repeatable)?;
        }
        Ok(tagged("COMMIT"))
    }

    pub(super) fn rollback(&self, chain: bool) -> SqlResult<Outcome> {
        let repeatable = {
            let mut guard = self.inner.lock();
            let inner = &mut *guard;
            inner.failed = false;
            let Some(transaction) = inner.transaction.take() else {
                inner.reports.push(warning("there is no transaction in progress"));
                return Ok(tagged("ROLLBACK"));
            };
            let before = std::mem::replace(&mut inner.settings, transaction.before);
            inner.cursors.retain(|_, c| c.hold && !c.in_transaction);
            self.tell_changes(&before, inner);
            transaction.repeatable
        };
        if chain {
            self.begin(repeatable)?;
        }
        Ok(tagged("ROLLBACK"))
    }

    pub(super) fn savepoint(&self, name: &str) -> SqlResult<Outcome> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let settings = inner.settings.clone();
        let transaction = inner.transaction.as_mut().ok_or_else(|| none("SAVEPOINT"))?;
        transaction.savepoints.push((name.to_string(), settings));
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
        let restored = transaction.savepoints.last().map(|(_, s)| s.clone()).unwrap_or_default();
        let before = std::mem::replace(&mut inner.settings, restored);
        inner.failed = false;
        self.tell_changes(&before, inner);
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
