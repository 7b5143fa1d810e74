//! SET, SHOW, RESET and DISCARD.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use super::{Session, tagged};
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::outcome::{Outcome, Report, RowTag};

/// Columns of a SHOW.
pub(super) fn schema(name: &str) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(match name {
        "all" => Schema::new(vec![text("name"), text("setting"), text("description")]),
        _ => Schema::new(vec![text(name)]),
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
                ("transaction_isolation", Some(t)) if t.repeatable => "repeatable read".into(),
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
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if name.eq_ignore_ascii_case("transaction_isolation") {
            let repeatable =
                matches!(value, Some(v) if v.starts_with("repeatable") || v == "serializable");
            drop(guard);
            return self.set_transaction(repeatable);
        }
        if matches!(name, "default_transaction_read_only" | "transaction_read_only")
            && matches!(value, Some(v) if matches!(v.to_ascii_lowercase().as_str(), "off" | "false" | "0"))
        {
            return Err(SqlError::new(
                sqlstate::READ_ONLY,
                "transactions cannot be set to read-write: tables are written by ingestion only",
            ));
        }
        if local && inner.transaction.is_none() {
            inner.reports.push(Report::Notice {
                severity: "WARNING",
                sqlstate: sqlstate::NO_TRANSACTION,
                message: "SET LOCAL can only be used in transaction blocks".into(),
            });
            return Ok(tagged(tag));
        }
        let before = inner.settings.clone();
        let name = inner.settings.set(name, value)?;
        if local && let Some(t) = &mut inner.transaction {
            t.note_local(&name, &before);
        }
        self.tell_changes(&before, inner);
        Ok(tagged(tag))
    }

    pub(super) fn reset_all(&self) -> SqlResult<Outcome> {
        let mut guard = self.inner.lock();
        let before = guard.settings.clone();
        guard.settings.reset_all();
        self.tell_changes(&before, &mut guard);
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
        self.tell_changes(&before, &mut guard);
        Ok(tagged("DISCARD ALL"))
    }

    /// Puts reported settings that differ from `before` among the reports.
    #[expect(clippy::unused_self, reason = "reads as what it is: a session telling its client")]
    pub(super) fn tell_changes(&self, before: &super::Settings, inner: &mut super::Inner) {
        let old = before.reported();
        for ((name, value), (_, was)) in inner.settings.reported().into_iter().zip(old) {
            if value != was {
                inner.reports.push(Report::Parameter { name, value });
            }
        }
    }
}
