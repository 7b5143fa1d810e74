//! `/api/ingest`: what is being read, and the levers to pause, resume and flush.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use otus_engine::catalog::TableId;
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

/// Does all maintenance that is due or could wait: compaction, retention, backfill, collection.
pub(super) async fn maintain(State(shared): State<Shared>) -> Result<Response, HttpError> {
    let report = shared.otus.dataset().maintain(true).await?;
    let body = json!({
        "compactions": report.compactions,
        "backfills": report.backfills,
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
    /// All that the topic has if none.
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
    let set = shared.otus.ingest().reset(table, &request.topic, request.partition, to).await?;
    let place = |(partition, offset)| json!({ "partition": partition, "offset": offset });
    let places: Vec<_> = set.into_iter().map(place).collect();
    Ok(axum::Json(json!({ "topic": request.topic, "positions": places })).into_response())
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
