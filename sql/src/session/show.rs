//! SET, SHOW, RESET and DISCARD.

use std::sync::{Arc, Weak};

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use parking_lot::Mutex;

use super::settings::{ISOLATION, Settings, shown_name};
use super::{Inner, Session, tagged};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::outcome::{Outcome, Report, RowTag};
use crate::statement::Modes;

fn on_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_string()
}

/// The modes of the running transaction that a SET of this name means, if it is about them.
fn modes(name: &str, value: Option<&str>) -> SqlResult<Option<Modes>> {
    let mut checked = Settings::default();
    let mut known = |name: &str| {
        checked.set(name, value)?;
        Ok::<_, SqlError>(checked.value(name))
    };
    Ok(match name.to_ascii_lowercase().as_str() {
        "transaction_isolation" => {
            let level = known("default_transaction_isolation")?;
            let isolation = ISOLATION.iter().copied().find(|known| *known == level);
            Some(Modes { isolation, read_only: None })
        }
        "transaction_read_only" => {
            let read_only = known("default_transaction_read_only")? == "on";
            Some(Modes { isolation: None, read_only: Some(read_only) })
        }
        _ => None,
    })
}

fn set(inner: &mut Inner, name: &str, value: Option<&str>, local: bool) -> SqlResult<String> {
    if local && inner.transaction.is_none() {
        inner.settings.tried(name, value)?;
        inner.reports.push(Report::Notice {
            severity: "WARNING",
            sqlstate: sqlstate::NO_TRANSACTION,
            message: "SET LOCAL can only be used in transaction blocks".into(),
        });
        return Ok(name.to_owned());
    }
    let before = inner.settings.clone();
    let name = inner.settings.set(name, value)?;
    if local && let Some(t) = &mut inner.transaction {
        t.note_local(&name, &before);
    }
    tell_changes(&before, inner);
    Ok(name)
}

/// Sets as a function of a query does, for the session whose state this is; gives the value.
pub(super) fn assign(
    inner: &Weak<Mutex<Inner>>,
    name: &str,
    value: &str,
    local: bool,
) -> SqlResult<String> {
    let Some(inner) = inner.upgrade() else { return Err(SqlError::canceled()) };
    if modes(name, Some(value))?.is_some() {
        let message = format!("set_config() does not change \"{name}\"");
        return Err(SqlError::unsupported(message).with_hint("use SET TRANSACTION"));
    }
    let mut inner = inner.lock();
    if local && inner.transaction.is_none() {
        // The statement is a transaction of its own: the value ends with it.
        return inner.settings.tried(name, Some(value));
    }
    let name = set(&mut inner, name, Some(value), local)?;
    Ok(inner.settings.value(&name))
}

/// Puts reported settings that differ from `before` among the reports.
pub(super) fn tell_changes(before: &Settings, inner: &mut Inner) {
    let old = before.reported();
    for ((name, value), (_, was)) in inner.settings.reported().into_iter().zip(old) {
        if value != was {
            inner.reports.push(Report::Parameter { name, value });
        }
    }
}

/// Columns of a SHOW.
pub(super) fn schema(name: &str) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(match name {
        "all" => Schema::new(vec![text("name"), text("setting"), text("description")]),
        _ => Schema::new(vec![text(shown_name(name))]),
    })
}

impl Session {
    pub(super) fn show(&self, name: &str) -> SqlResult<Outcome> {
        let inner = self.inner.lock();
        let schema = schema(name);
        let columns: Vec<ArrayRef> = if name == "all" {
            let all = inner.settings.all();
            let column = |f: fn(&(String, String, String)) -> &String| {
                Arc::new(StringArray::from_iter_values(all.iter().map(f))) as ArrayRef
            };
            vec![column(|r| &r.0), column(|r| &r.1), column(|r| &r.2)]
        } else {
            let value = match (name, &inner.transaction) {
                ("transaction_isolation", Some(t)) => t.isolation.clone(),
                ("transaction_isolation", None) => {
                    inner.settings.value("default_transaction_isolation")
                }
                ("transaction_read_only", Some(t)) => on_off(t.read_only),
                ("transaction_read_only", None) => {
                    inner.settings.value("default_transaction_read_only")
                }
                _ => inner.settings.get(name)?.1,
            };
            vec![Arc::new(StringArray::from(vec![value]))]
        };
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
            .map_err(|e| SqlError::internal(e.to_string()))?;
        let rows = futures::stream::iter([Ok(batch)]);
        let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
        Ok(Outcome::Rows { schema, stream, tag: RowTag::Show, snapshot: None })
    }

    pub(super) fn set(&self, name: &str, value: Option<&str>, local: bool) -> SqlResult<Outcome> {
        let tag = if value.is_some() { "SET" } else { "RESET" };
        if let Some(modes) = modes(name, value)? {
            self.set_transaction(modes)?;
            return Ok(tagged(tag));
        }
        set(&mut self.inner.lock(), name, value, local)?;
        Ok(tagged(tag))
    }

    pub(super) fn reset_all(&self) -> SqlResult<Outcome> {
        let mut guard = self.inner.lock();
        let before = guard.settings.clone();
        guard.settings.reset_all();
        tell_changes(&before, &mut guard);
        Ok(tagged("RESET"))
    }

    pub(super) fn discard_all(&self) -> SqlResult<Outcome> {
        let mut guard = self.inner.lock();
        if guard.transaction.is_some() {
            return Err(SqlError::new(
                "25001",
                "DISCARD ALL cannot run inside a transaction block",
            ));
        }
        let before = guard.settings.clone();
        guard.settings.reset_all();
        guard.cursors.clear();
        guard.prepared.clear();
        tell_changes(&before, &mut guard);
        Ok(tagged("DISCARD ALL"))
    }
}
