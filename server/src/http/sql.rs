//! `POST /api/sql`: one statement, answered as JSON or CSV, streamed as its rows come.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use otus_sql::{Outcome, Session, SessionOptions, SqlError};
use serde::Deserialize;

use super::error::HttpError;
use super::{QUERY_BYTES_MAX, Shared, body_bytes, guard, render};

/// Bytes gathered before they are sent.
const PIECE_BYTES: usize = 64 << 10;

/// A request's body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    query: String,
    /// Values of `$1`, `$2` …
    #[serde(default)]
    params: Vec<serde_json::Value>,
    /// Settings for this request: `TimeZone`, `statement_timeout` …
    #[serde(default)]
    settings: std::collections::BTreeMap<String, String>,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

/// Query string of the request.
#[derive(Debug, Deserialize)]
pub(super) struct SqlQuery {
    format: Option<String>,
}

pub(super) async fn sql(
    State(shared): State<Shared>,
    Query(query): Query<SqlQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    guard::content_type(&headers, &["application/json"])?;
    let format = format(&query, &headers)?;
    let bytes = body_bytes(body, QUERY_BYTES_MAX).await?;
    let request: SqlRequest = serde_json::from_slice(&bytes).map_err(|e| {
        HttpError::new(
            StatusCode::BAD_REQUEST,
            "invalid",
            format!("the body is not a request: {e}"),
        )
        .with("hint", "for example {\"query\": \"SELECT 1\", \"params\": []}")
    })?;
    let options = SessionOptions {
        user: "otus".into(),
        settings: request.settings,
        ..SessionOptions::default()
    };
    let session = Arc::new(shared.otus.sql().session(options));
    let params = request.params.iter().map(scalar).collect::<Result<Vec<_>, _>>()?;
    let statements = session.parse(&request.query)?;
    let [statement] = statements.as_slice() else {
        let message = format!("one statement is expected, not {}", statements.len());
        return Err(HttpError::new(StatusCode::BAD_REQUEST, "invalid", message));
    };
    match session.execute(statement, params).await? {
        Outcome::Rows { schema, stream, .. } | Outcome::CopyOut { schema, stream, .. } => {
            let head = match format {
                Format::Json => render::json_head(&schema),
                Format::Csv => render::csv_head(&schema),
            };
            Ok(answer(format, Body::from_stream(rows(format, head, stream, session))))
        }
        Outcome::Command { tag } => {
            Ok(axum::Json(serde_json::json!({ "command": tag })).into_response())
        }
        Outcome::Empty => {
            Err(HttpError::new(StatusCode::BAD_REQUEST, "invalid", "the query is empty"))
        }
    }
}

fn answer(format: Format, body: Body) -> Response {
    let content_type = match format {
        Format::Json => "application/json",
        Format::Csv => "text/csv; charset=utf-8",
    };
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

fn format(query: &SqlQuery, headers: &HeaderMap) -> Result<Format, HttpError> {
    let accept = guard::text(headers, &header::ACCEPT).unwrap_or_default();
    match query.format.as_deref() {
        Some("json") => Ok(Format::Json),
        Some("csv") => Ok(Format::Csv),
        Some(other) => {
            let message = format!("unknown format {other:?}");
            Err(HttpError::new(StatusCode::BAD_REQUEST, "invalid", message)
                .with("hint", "json or csv"))
        }
        None if accept.contains("text/csv") => Ok(Format::Csv),
        None => Ok(Format::Json),
    }
}

/// A JSON value as a parameter. Numbers keep every digit.
fn scalar(value: &serde_json::Value) -> Result<ScalarValue, HttpError> {
    Ok(match value {
        serde_json::Value::Null => ScalarValue::Null,
        serde_json::Value::Bool(b) => ScalarValue::Boolean(Some(*b)),
        serde_json::Value::String(s) => ScalarValue::Utf8(Some(s.clone())),
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => ScalarValue::Int64(Some(n)),
            (None, Some(n)) => ScalarValue::Float64(Some(n)),
            (None, None) => ScalarValue::Utf8(Some(n.to_string())),
        },
        other => {
            let message = format!("parameter {other} is not a scalar");
            return Err(HttpError::new(StatusCode::BAD_REQUEST, "invalid", message));
        }
    })
}

/// Where a streamed answer stands.
struct Rows {
    format: Format,
    stream: SendableRecordBatchStream,
    out: String,
    is_first: bool,
    rows: usize,
    is_done: bool,
    /// Lives as long as its statement.
    _session: Arc<Session>,
}

/// The answer piece by piece. An error on the way ends JSON with an `error` entry; CSV has no place for
/// one, so the connection is cut and the reader sees an incomplete body.
fn rows(
    format: Format,
    head: String,
    stream: SendableRecordBatchStream,
    session: Arc<Session>,
) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    let rows = Rows {
        format,
        stream,
        out: head,
        is_first: true,
        rows: 0,
        is_done: false,
        _session: session,
    };
    futures::stream::try_unfold(rows, |mut rows| async move {
        while !rows.is_done && rows.out.len() < PIECE_BYTES {
            rows.advance().await?;
        }
        if rows.out.is_empty() {
            return Ok(None);
        }
        let piece = Bytes::from(std::mem::take(&mut rows.out));
        Ok(Some((piece, rows)))
    })
}

impl Rows {
    async fn advance(&mut self) -> Result<(), std::io::Error> {
        let failed = match self.stream.next().await {
            Some(Ok(batch)) => {
                self.rows += batch.num_rows();
                let written = match self.format {
                    Format::Json => render::json_rows(&batch, &mut self.is_first, &mut self.out),
                    Format::Csv => render::csv_rows(&batch, &mut self.out),
                };
                written.err().map(SqlError::from)
            }
            Some(Err(error)) => Some(SqlError::from(error)),
            None => {
                self.is_done = true;
                if self.format == Format::Json {
                    self.out.push_str(&format!("],\"row_count\":{}}}", self.rows));
                }
                None
            }
        };
        let Some(error) = failed else { return Ok(()) };
        self.is_done = true;
        match self.format {
            Format::Json => {
                let error = serde_json::json!({ "code": error.sqlstate, "message": error.message });
                self.out.push_str(&format!("],\"row_count\":{},\"error\":{error}}}", self.rows));
                Ok(())
            }
            Format::Csv => Err(std::io::Error::other(error.message)),
        }
    }
}
