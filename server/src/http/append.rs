//! `POST /api/append/<topic>`: records into a topic of a configured table. An answer means durable.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use otus_engine::ErrorKind;
use otus_ingest::AppendRecord;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::asked::{Path, Query};
use super::error::HttpError;
use super::{APPEND_BYTES_MAX, Shared, body_bytes, guard};
use crate::otus::reads;
use crate::telemetry::RecordsAppended;

/// Records of one request.
const RECORDS_MAX: usize = 100_000;
const NDJSON: &str = "application/x-ndjson";
const JSON: &str = "application/json";

/// Query string of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppendQuery {
    /// Key of every record.
    key: Option<String>,
    /// Partition of every record.
    partition: Option<i32>,
}

pub(super) async fn append(
    State(shared): State<Shared>,
    Path(topic): Path<String>,
    Query(query): Query<AppendQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let content_type = guard::content_type(&headers, &[NDJSON, JSON])?;
    check_topic(&shared, &topic)?;
    let bytes = body_bytes(body, APPEND_BYTES_MAX).await?;
    let values = if content_type == NDJSON { lines(&bytes) } else { elements(&bytes)? };
    if values.len() > RECORDS_MAX {
        let message = format!("{} records are more than {RECORDS_MAX}", values.len());
        return Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message));
    }
    let key = query.key.map(Bytes::from);
    let record = |value: Bytes| AppendRecord {
        key: key.clone(),
        partition: query.partition,
        ..AppendRecord::value(value)
    };
    let records: Vec<AppendRecord> = values.into_iter().map(record).collect();
    let count = records.len();
    let places = shared.otus.append(&topic, records).await.map_err(unsure)?;
    RecordsAppended { topic: &topic, records: count }.emit();
    let places: Vec<_> = places
        .into_iter()
        .map(|(partition, offset)| serde_json::json!({ "partition": partition, "offset": offset }))
        .collect();
    Ok(axum::Json(serde_json::json!({ "topic": topic, "records": places })).into_response())
}

/// A topic is open to writing if a served table reads it and says so.
fn check_topic(shared: &Shared, topic: &str) -> Result<(), HttpError> {
    let snapshot = shared.otus.dataset().snapshot();
    let mut readers = snapshot.tables().filter(|t| reads(&t.def, topic)).peekable();
    if readers.peek().is_none() {
        let message = format!("no table reads topic {topic:?}");
        return Err(HttpError::new(StatusCode::NOT_FOUND, "not_found", message));
    }
    let closed: Vec<String> =
        readers.filter(|t| !t.def.append).map(|t| t.def.qualified_name()).collect();
    if closed.is_empty() {
        return Ok(());
    }
    let message = format!("topic {topic:?} is not open to appending");
    let hint = format!("set append = true in {}", closed.join(", "));
    Err(HttpError::new(StatusCode::FORBIDDEN, "forbidden", message).with("hint", hint))
}

/// When it is not known whether the records were written, 504 says so; the caller must not simply repeat.
fn unsure(error: otus_engine::Error) -> HttpError {
    if error.kind() != ErrorKind::Unavailable {
        return error.into();
    }
    let message = format!("whether the records were written is not known: {error}");
    HttpError::new(StatusCode::GATEWAY_TIMEOUT, "unknown_outcome", message)
}

fn lines(bytes: &Bytes) -> Vec<Bytes> {
    let trimmed = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).len();
    let mut values = Vec::new();
    let mut from = 0;
    for line in bytes.split(|b| *b == b'\n') {
        let length = trimmed(line);
        if length > 0 {
            values.push(bytes.slice(from..from + length));
        }
        from += line.len() + 1;
    }
    values
}

fn elements(bytes: &Bytes) -> Result<Vec<Bytes>, HttpError> {
    let values: Vec<&RawValue> = serde_json::from_slice(bytes).map_err(|e| {
        let message = format!("the body is not an array of records: {e}");
        HttpError::new(StatusCode::BAD_REQUEST, "invalid", message)
            .with("hint", format!("send an array as {JSON}, or one record a line as {NDJSON}"))
    })?;
    Ok(values.into_iter().map(|v| Bytes::copy_from_slice(v.get().as_bytes())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_cut_into_records() {
        let body = Bytes::from_static(b"{\"a\":1}\r\n\n{\"a\":2}\nbroken");
        assert_eq!(lines(&body), ["{\"a\":1}", "{\"a\":2}", "broken"]);
        let body = Bytes::from_static(b" [ {\"a\": 1} , 1e999, null ] ");
        assert_eq!(elements(&body).unwrap(), ["{\"a\": 1}", "1e999", "null"]);
        assert!(elements(&Bytes::from_static(b"{\"a\":1}")).is_err());
    }
}
