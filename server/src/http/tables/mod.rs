//! `/api/tables/<table>`: keyed tables as resources. Reads come from memory; writes are records of the table's
//! topic. The entity tag of a row is `"<partition>:<offset>"` of its record.

mod pages;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otus_engine::compiled::CompiledTable;
use otus_engine::keyed::Key;
use otus_engine::snapshot::Snapshot;

use super::asked::Path;
use super::caller::Caller;
use super::error::HttpError;
use super::{Shared, guard, render};
use crate::keyed::{self, RowPlace};

pub(super) use pages::{Pages, list};
pub(super) use write::{create, put, remove};

/// Schema of tables that are named without one.
const DEFAULT_SCHEMA: &str = "public";

fn invalid(message: impl Into<String>) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, "invalid", message)
}

/// The keyed table of this name, with its schema or in `public`.
fn find(snapshot: &Snapshot, name: &str) -> Result<Arc<CompiledTable>, HttpError> {
    let (schema, own) = name.split_once('.').unwrap_or((DEFAULT_SCHEMA, name));
    let Some(table) = snapshot.table(schema, own) else {
        let message = format!("there is no table {name:?}");
        return Err(HttpError::new(StatusCode::NOT_FOUND, "not_found", message));
    };
    if table.def.keyed().is_none() {
        let message = format!("table {name:?} is not keyed");
        return Err(invalid(message).with("hint", "ask it with POST /api/sql or /api/pull"));
    }
    Ok(Arc::clone(table))
}

/// The same table, if the caller may see all of it: these pages know nothing of conditions.
fn readable(
    shared: &Shared,
    caller: &Caller,
    snapshot: &Snapshot,
    name: &str,
) -> Result<Arc<CompiledTable>, HttpError> {
    if caller.identity.is_none() {
        return find(snapshot, name);
    }
    // What the caller does not see at all does not exist for it.
    let session = caller.session(shared);
    let seen = find(session.pinned_state()?.snapshot(), name)?;
    if caller.sees_whole(&seen.def) {
        return find(snapshot, name);
    }
    let hint = "only a part of it is granted: ask with POST /api/sql or /api/pull";
    Err(caller.denied(&format!("table {name:?}")).with("hint", hint))
}

/// The key that a path names.
fn key(table: &CompiledTable, text: &str) -> Result<Key, HttpError> {
    let name = table.def.keyed().map_or("", |keyed| keyed.key.as_str());
    let column = table.def.column(name);
    let column = column.ok_or_else(|| invalid(format!("there is no key column {name:?}")))?;
    Ok(otus_ingest::decode::key(&column.column_type, text.as_bytes())?)
}

/// The entity tag of a version.
fn tag(place: RowPlace) -> HeaderValue {
    // Digits and a colon are always a header's value.
    HeaderValue::from_str(&format!("\"{place}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Columns of the stored schema that are shown.
fn shown(table: &CompiledTable) -> Vec<usize> {
    (0..table.schema.fields().len()).collect()
}

/// Runs what may wait for a disk where no other request waits for it.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> otus_engine::Result<T> + Send + 'static,
) -> otus_engine::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| otus_engine::Error::internal("reading rows ended with a bug").with_source(e))?
}

/// `GET /api/tables/<table>/<key>`.
pub(super) async fn row(
    State(shared): State<Shared>,
    Path((name, text)): Path<(String, String)>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let snapshot = shared.otus.dataset().snapshot();
    let table = readable(&shared, &caller, &snapshot, &name)?;
    let key = key(&table, &text)?;
    let Some(row) = keyed::rows(&snapshot, &table)?.get(&key) else {
        let message = format!("table {name:?} has no row {text:?}");
        return Err(HttpError::new(StatusCode::NOT_FOUND, "not_found", message));
    };
    let tag = tag(RowPlace { partition: row.partition(), offset: row.offset() });
    let known = guard::text(&headers, &header::IF_NONE_MATCH);
    if known.is_some_and(|known| known.split(',').any(|k| k.trim().as_bytes() == tag.as_bytes())) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let columns = shown(&table);
    let batch = match row.needs_disk(&columns) {
        true => aside(move || row.batch(&columns)).await?,
        false => row.batch(&columns)?,
    };
    let body = render::json_objects(&batch)?.pop().unwrap_or_default();
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json), (header::ETAG, tag)], body).into_response())
}
