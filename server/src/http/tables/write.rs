//! `PUT`, `DELETE` and `POST` of rows.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otus_engine::catalog::ColumnSource;
use otus_engine::compiled::CompiledTable;
use otus_engine::keyed::Key;
use otus_engine::types::ColumnType;
use otus_ingest::log::condition::Condition;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{DEFAULT_SCHEMA, find, invalid, key, tag};
use crate::http::asked::{Path, Query};
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::{APPEND_BYTES_MAX, Shared, body_bytes, guard};
use crate::keyed::{self, RowPlace, RowWrite, WriteError};

const JSON: &str = "application/json";

/// Query string of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct WriteQuery {
    wait: Option<String>,
}

impl WriteQuery {
    fn waits(&self) -> Result<bool, HttpError> {
        match self.wait.as_deref() {
            None => Ok(false),
            Some("visible") => Ok(true),
            Some(other) => Err(invalid(format!("unknown wait {other:?}")).with("hint", "visible")),
        }
    }
}

pub(in crate::http) async fn put(
    State(shared): State<Shared>,
    Path((name, text)): Path<(String, String)>,
    Query(query): Query<WriteQuery>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let wait = query.waits()?;
    let table = open(&shared, &caller, &name)?;
    let key = key(&table, &text)?;
    let condition = condition(&shared, &table, &key, &headers)?;
    let value = value(&shared, &table, &key, &headers, body).await?;
    let write = RowWrite { key, value: Some(value), condition, wait };
    answer(StatusCode::OK, &shared, &table, write).await
}

pub(in crate::http) async fn remove(
    State(shared): State<Shared>,
    Path((name, text)): Path<(String, String)>,
    Query(query): Query<WriteQuery>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let wait = query.waits()?;
    let table = open(&shared, &caller, &name)?;
    let key = key(&table, &text)?;
    let condition = condition(&shared, &table, &key, &headers)?;
    let write = RowWrite { key, value: None, condition, wait };
    answer(StatusCode::OK, &shared, &table, write).await
}

/// A row with a key that no other has.
pub(in crate::http) async fn create(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(query): Query<WriteQuery>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let wait = query.waits()?;
    let table = open(&shared, &caller, &name)?;
    let column = table.def.keyed().and_then(|keyed| table.def.column(&keyed.key));
    if !column.is_some_and(|c| matches!(c.column_type, ColumnType::Text | ColumnType::Uuid)) {
        let hint = format!("PUT /api/tables/{name}/<key> with a key of your own");
        let message = format!("keys of table {name:?} cannot be generated");
        return Err(invalid(message).with("hint", hint));
    }
    let now_us = shared.otus.dataset().clock().now_us();
    let seconds = u64::try_from(now_us / 1_000_000).unwrap_or(0);
    let nanos = u32::try_from(now_us % 1_000_000 * 1_000).unwrap_or(0);
    let at = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos);
    let key = Key::Text(uuid::Uuid::new_v7(at).to_string());
    let value = value(&shared, &table, &key, &headers, body).await?;
    let location = format!("/api/tables/{name}/{key}");
    // The key is new; no condition is needed, and none has to be waited for.
    let write = RowWrite { key, value: Some(value), condition: None, wait };
    let mut response = answer(StatusCode::CREATED, &shared, &table, write).await?;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The table, if it may be written.
fn open(
    shared: &Shared,
    caller: &Caller,
    name: &str,
) -> Result<std::sync::Arc<CompiledTable>, HttpError> {
    let (schema, own) = name.split_once('.').unwrap_or((DEFAULT_SCHEMA, name));
    // Said first and of tables that do not exist too: whoever may not write learns no names.
    if caller.identity.as_ref().is_some_and(|identity| !identity.may_insert(schema, own)) {
        return Err(caller.denied(&format!("table {name:?}")));
    }
    let snapshot = shared.otus.dataset().snapshot();
    let table = find(&snapshot, name)?;
    let sql = shared.otus.sql();
    let may = |identity| sql.may_write_rows(snapshot, identity, &table);
    if !caller.identity.as_ref().is_none_or(may) {
        let hint = "only a part of its rows is granted: they cannot be written one by one";
        return Err(caller.denied(&format!("table {name:?}")).with("hint", hint));
    }
    if table.def.append {
        return Ok(table);
    }
    let message = format!("table {name:?} is not open to writing");
    let hint = format!("set append = true in {}", table.def.qualified_name());
    Err(HttpError::new(StatusCode::FORBIDDEN, "forbidden", message).with("hint", hint))
}

/// What the request expects of the row.
fn condition(
    shared: &Shared,
    table: &CompiledTable,
    key: &Key,
    headers: &HeaderMap,
) -> Result<Option<Condition>, HttpError> {
    let (matches, none) = (header::IF_MATCH, header::IF_NONE_MATCH);
    match (guard::text(headers, &matches), guard::text(headers, &none)) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(invalid("If-Match and If-None-Match exclude each other")),
        (None, Some("*")) => Ok(Some(Condition::Absent)),
        (None, Some(_)) => Err(invalid("If-None-Match of a write is *: only if there is no row")),
        (Some("*"), None) => {
            let snapshot = shared.otus.dataset().snapshot();
            let place = keyed::place(keyed::rows(&snapshot, table)?, key);
            let RowPlace { partition, offset } = place.ok_or_else(|| conflict(None))?;
            Ok(Some(Condition::At { partition, offset }))
        }
        (Some(text), None) => {
            let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
            let parsed = inner.and_then(Condition::parse).filter(|c| *c != Condition::Absent);
            parsed.map(Some).ok_or_else(|| {
                invalid(format!("If-Match {text:?} is not the tag of a row"))
                    .with("hint", "give the ETag of a GET or PUT, for example \"0:57\"")
            })
        }
    }
}

/// The body as the record's value: it must become a row of this key.
async fn value(
    shared: &Shared,
    table: &CompiledTable,
    key: &Key,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, HttpError> {
    guard::content_type(headers, &[JSON])?;
    let bytes = body_bytes(body, APPEND_BYTES_MAX).await?;
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(&bytes)
        .map_err(|e| invalid(format!("the body is not a JSON object: {e}")))?;
    let bytes = with_key(table, key, &fields, &bytes)?;
    let compiler = shared.otus.dataset().compiler();
    let text = key.to_string();
    let found =
        otus_ingest::decode::key_of_record(&table.def, text.as_bytes(), &bytes, compiler.as_ref())?;
    if found != *key {
        return Err(invalid(format!("the body is of key {:?}, not {text:?}", found.to_string())));
    }
    Ok(bytes)
}

/// Adds the key where it is a field of the value and the body leaves it out.
fn with_key(
    table: &CompiledTable,
    key: &Key,
    fields: &BTreeMap<String, &RawValue>,
    bytes: &Bytes,
) -> Result<Bytes, HttpError> {
    let column = table.def.keyed().and_then(|keyed| table.def.column(&keyed.key));
    let field = match column.map(|c| (&c.source, &c.column_type)) {
        Some((ColumnSource::Path(path), column_type)) if path.len() == 1 => {
            Some((path[0].as_str(), column_type))
        }
        _ => None,
    };
    let Some((name, column_type)) = field.filter(|(name, _)| !fields.contains_key(*name)) else {
        return Ok(bytes.clone());
    };
    let quoted = |text: &str| {
        serde_json::to_string(text).map_err(|e| invalid(format!("a key is no JSON text: {e}")))
    };
    let own = match key {
        Key::Text(text) if *column_type != ColumnType::Jsonb => quoted(text)?,
        other => other.to_string(),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| invalid("the body is not UTF-8"))?;
    let rest = text.trim_start().strip_prefix('{').unwrap_or_default();
    let comma = if fields.is_empty() { "" } else { "," };
    Ok(Bytes::from(format!("{{{}:{own}{comma}{rest}", quoted(name)?)))
}

async fn answer(
    status: StatusCode,
    shared: &Shared,
    table: &std::sync::Arc<CompiledTable>,
    write: RowWrite,
) -> Result<Response, HttpError> {
    let key = write.key.to_string();
    let place = shared.otus.write_row(table, write).await.map_err(|error| match error {
        WriteError::Conflict(current) => conflict(current),
        WriteError::Failed(error) => error.into(),
        WriteError::Unsure(error) => {
            let message = format!("the outcome of the write is not known: {error}");
            HttpError::new(StatusCode::GATEWAY_TIMEOUT, "unknown_outcome", message)
        }
    })?;
    let body = serde_json::json!({
        "key": key,
        "partition": place.partition,
        "offset": place.offset,
    });
    Ok((status, [(header::ETAG, tag(place))], axum::Json(body)).into_response())
}

fn conflict(current: Option<RowPlace>) -> HttpError {
    let message = match current {
        Some(place) => format!("the row is another by now: its tag is \"{place}\""),
        None => "there is no such row by now".to_string(),
    };
    let current = current.map(|place| format!("\"{place}\""));
    HttpError::new(StatusCode::CONFLICT, "conflict", message).with("current", current)
}
