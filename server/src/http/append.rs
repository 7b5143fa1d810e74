//! `POST /api/append/<topic>`: records into a topic of a configured table. 200 means that all are durable; any
//! other answer says of each record whether it is, or that none is. The shape is in `docs/append.md`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use otus_engine::compiled::CompiledTable;
use otus_ingest::{AppendError, AppendFault, AppendRecord, AppendResult};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::asked::{Path, Query};
use super::caller::Caller;
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
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let content_type = guard::content_type(&headers, &[NDJSON, JSON])?;
    check_topic(&shared, &caller, &topic)?;
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
    let results = shared.otus.append_each(&topic, records).await.map_err(refused)?;
    let durable = results.iter().filter(|result| result.is_ok()).count();
    RecordsAppended { topic: &topic, records: durable }.emit();
    Ok(answer(&topic, &results))
}

/// What is said of each record, in their order; beside it an error if one of them is not durable.
fn answer(topic: &str, results: &[AppendResult]) -> Response {
    let told = |result: &AppendResult| match result {
        Ok((partition, offset)) => json!({ "partition": partition, "offset": offset }),
        Err(e) => json!({ "error": { "code": meaning(e.fault).1, "message": e.message } }),
    };
    let mut body = json!({ "topic": topic });
    let mut status = StatusCode::OK;
    // What nobody knows matters most: it must not simply be repeated.
    let failed = || results.iter().enumerate().filter_map(|(at, r)| Some((at, r.as_ref().err()?)));
    let unknown = failed().find(|(_, e)| e.fault == AppendFault::Unknown);
    if let Some((at, error)) = unknown.or_else(|| failed().next()) {
        let code;
        (status, code) = meaning(error.fault);
        let (all, unknown) = (results.len(), failed().filter(|(_, e)| is_unknown(e)).count());
        let refused = failed().count() - unknown;
        body["error"] = json!({
            "code": code,
            "message": format!("record {at}: {error}"),
            "hint": error.hint.as_deref().unwrap_or(
                "records with an offset are durable; repeat only those that were not written"
            ),
            "durable": all - refused - unknown,
            "not_written": refused,
            "unknown": unknown,
        });
    }
    body["records"] = results.iter().map(told).collect::<Value>();
    (status, axum::Json(body)).into_response()
}

fn is_unknown(error: &AppendError) -> bool {
    error.fault == AppendFault::Unknown
}

/// Status and code of what became of a record.
fn meaning(fault: AppendFault) -> (StatusCode, &'static str) {
    match fault {
        AppendFault::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        AppendFault::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
        AppendFault::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        AppendFault::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
        AppendFault::Busy => (StatusCode::CONFLICT, "busy"),
        AppendFault::Full => (StatusCode::INSUFFICIENT_STORAGE, "full"),
        AppendFault::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        AppendFault::Unknown => (StatusCode::GATEWAY_TIMEOUT, "unknown_outcome"),
    }
}

/// An append of which no record is known to be durable.
fn refused(error: AppendError) -> HttpError {
    let (status, code) = meaning(error.fault);
    let message = match error.fault {
        AppendFault::Unknown => {
            format!("whether the records were written is not known: {error}")
        }
        _ => format!("nothing was written: {error}"),
    };
    let answer = HttpError::new(status, code, message);
    match error.hint {
        Some(hint) => answer.with("hint", hint),
        None => answer,
    }
}

/// A topic is open to writing if a served table reads it and says so.
fn check_topic(shared: &Shared, caller: &Caller, topic: &str) -> Result<(), HttpError> {
    let snapshot = shared.otus.dataset().snapshot();
    let mut readers = snapshot.tables().filter(|t| reads(&t.def, topic)).peekable();
    let mut allowing = snapshot.tables().filter(|t| reads(&t.def, topic));
    // Said first and of topics that do not exist too: whoever may not write learns no names.
    if caller.identity.is_some() && !allowing.any(|t| caller.may_insert(&t.def)) {
        return Err(caller.denied(&format!("topic {topic:?}")));
    }
    // A record could take the place of a row that the caller does not see.
    let seen = shared.otus.sql().seen_by(Arc::clone(&snapshot), caller.identity.as_ref());
    let is_part = |t: &CompiledTable| {
        t.def.keyed().is_some() && seen.table_by_id(t.id).is_some_and(|seen| seen.guard().is_some())
    };
    if snapshot.tables().any(|t| reads(&t.def, topic) && is_part(t)) {
        let hint = "only a part of the rows of its table is granted: none can be written";
        return Err(caller.denied(&format!("topic {topic:?}")).with("hint", hint));
    }
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
