//! `/api/ingest`: what is being read, and the levers to pause, resume and flush.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use otus_engine::catalog::TableId;
use otus_engine::position::TopicPartition;
use otus_ingest::ResetTo;
use serde::Deserialize;
use serde_json::json;

use super::asked::Path;
use super::error::HttpError;
use super::{QUERY_BYTES_MAX, Shared, body_bytes, guard};

pub(super) async fn status(State(shared): State<Shared>) -> Response {
    let partitions: Vec<_> = shared
        .otus
        .ingest()
        .status()
        .into_iter()
        .map(|p| {
            json!({
                "table": p.table_name,
                "topic": p.topic,
                "partition": p.partition,
                "state": p.state.name(),
                "reason": p.state.reason(),
                "position": p.position,
                "end": p.end,
                "lag": p.lag,
                "rate": p.rate,
            })
        })
        .collect();
    axum::Json(json!({ "partitions": partitions })).into_response()
}

pub(super) async fn flush(State(shared): State<Shared>) -> Result<Response, HttpError> {
    let commit = shared.otus.dataset().flush().await?;
    Ok(axum::Json(json!({ "commit": commit })).into_response())
}

/// Does all maintenance that is due or could wait: compaction, retention, collection.
pub(super) async fn maintain(State(shared): State<Shared>) -> Result<Response, HttpError> {
    let report = shared.otus.dataset().maintain(true).await?;
    let body = json!({
        "compactions": report.compactions,
        "expired": report.expired,
        "deleted": report.deleted,
    });
    Ok(axum::Json(body).into_response())
}

/// Where a position is to be set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResetRequest {
    table: String,
    topic: String,
    /// All partitions if none.
    partition: Option<i32>,
    /// `earliest`, `latest` or an offset.
    to: serde_json::Value,
}

/// Sets positions, as an operator's word.
pub(super) async fn reset(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    guard::content_type(&headers, &["application/json"])?;
    let invalid = |message| HttpError::new(StatusCode::BAD_REQUEST, "invalid", message);
    let bytes = body_bytes(body, QUERY_BYTES_MAX).await?;
    let request: ResetRequest = serde_json::from_slice(&bytes)
        .map_err(|e| invalid(format!("the body is not a reset: {e}")))?;
    let to = match (request.to.as_str(), request.to.as_i64()) {
        (Some("earliest"), _) => ResetTo::Earliest,
        (Some("latest"), _) => ResetTo::Latest,
        (_, Some(offset)) if offset >= 0 => ResetTo::Offset(offset),
        _ => return Err(invalid(format!("cannot reset to {}", request.to))),
    };
    let table = find(&shared, &request.table)?;
    let partitions = partitions(&shared, table, &request)?;
    let mut places = Vec::new();
    for partition in partitions {
        let tp = TopicPartition::new(request.topic.as_str(), partition);
        let offset = shared.otus.ingest().reset(table, tp, to).await?;
        places.push(json!({ "partition": partition, "offset": offset }));
    }
    Ok(axum::Json(json!({ "topic": request.topic, "positions": places })).into_response())
}

/// The named partition, or all that the table is known to have of the topic.
fn partitions(
    shared: &Shared,
    table: TableId,
    request: &ResetRequest,
) -> Result<Vec<i32>, HttpError> {
    if let Some(partition) = request.partition {
        return Ok(vec![partition]);
    }
    let snapshot = shared.otus.dataset().snapshot();
    let committed = snapshot.positions(table).into_keys();
    let committed = committed.filter(|tp| *tp.topic == *request.topic).map(|tp| tp.partition);
    let read = shared.otus.ingest().status().into_iter();
    let read = read.filter(|p| p.table == table && p.topic == request.topic);
    let found: BTreeSet<i32> = committed.chain(read.filter_map(|p| p.partition)).collect();
    if found.is_empty() {
        let message =
            format!("table {:?} reads nothing of topic {:?}", request.table, request.topic);
        return Err(HttpError::new(StatusCode::NOT_FOUND, "not_found", message));
    }
    Ok(found.into_iter().collect())
}

pub(super) async fn pause(
    State(shared): State<Shared>,
    Path(table): Path<String>,
) -> Result<Response, HttpError> {
    shared.otus.ingest().pause(find(&shared, &table)?)?;
    Ok(axum::Json(json!({ "table": table, "paused": true })).into_response())
}

pub(super) async fn resume(
    State(shared): State<Shared>,
    Path(table): Path<String>,
) -> Result<Response, HttpError> {
    shared.otus.ingest().resume(find(&shared, &table)?)?;
    Ok(axum::Json(json!({ "table": table, "paused": false })).into_response())
}

/// A table by `name` or `schema.name`.
fn find(shared: &Shared, name: &str) -> Result<TableId, HttpError> {
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    let snapshot = shared.otus.dataset().snapshot();
    snapshot.table(schema, table).map(|t| t.id).ok_or_else(|| {
        let message = format!("table {name:?} does not exist");
        HttpError::new(StatusCode::NOT_FOUND, "not_found", message)
    })
}
