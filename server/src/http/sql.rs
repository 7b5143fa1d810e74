//! `POST /api/sql`: one statement, answered as JSON or CSV, streamed as its rows come.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use otus_sql::placeholders::{self, Bound};
use otus_sql::{Outcome, Report, Session, SqlError};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::asked::Query;
use super::caller::Caller;
use super::error::HttpError;
use super::param;
use super::{QUERY_BYTES_MAX, Shared, again, body_bytes, guard, render};

/// Bytes gathered before they are sent.
const PIECE_BYTES: usize = 64 << 10;
/// Notices of an answer in CSV, as JSON.
const NOTICES: &str = "x-otus-notices";

/// A request's body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    query: String,
    /// Values of `$1`, `$2` … as a list, or of `$name` as a map; as they stand in the text, so that numbers keep every
    /// digit.
    params: Option<Box<RawValue>>,
    /// The condition that `$filters` stands for.
    filters: Option<serde_json::Value>,
    /// Settings for this request: `TimeZone`, `statement_timeout` …
    #[serde(default)]
    settings: BTreeMap<String, serde_json::Value>,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }
}

/// Query string of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlQuery {
    format: Option<String>,
}

pub(super) async fn sql(
    State(shared): State<Shared>,
    caller: Caller,
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
    let session = Arc::new(caller.session(&shared));
    for (name, value) in &request.settings {
        assign(&session, name, value)?;
    }
    again::allow(&session, &headers, request.settings.keys().any(|name| again::is_max_age(name)))?;
    again::ask_tags(&session, &headers, format.name());
    let Bound { sql, params } = bound(request)?;
    let statements = session.parse(&sql)?;
    let [statement] = statements.as_slice() else {
        let message = format!("one statement is expected, not {}", statements.len());
        return Err(HttpError::new(StatusCode::BAD_REQUEST, "invalid", message));
    };
    match session.execute(statement, params).await? {
        Outcome::Rows { schema, stream, .. } | Outcome::CopyOut { schema, stream, .. } => {
            let came = session.provenance();
            let tag = came.tag.as_deref().map(|tag| (tag, format.name()));
            if came.unchanged {
                let mut response = StatusCode::NOT_MODIFIED.into_response();
                again::tell(&mut response, tag, came.age);
                return Ok(response);
            }
            let head = match format {
                Format::Json => render::json_head(&schema),
                Format::Csv => render::csv_head(&schema),
            };
            // CSV has no place for them after the rows.
            let notices = match format {
                Format::Json => Vec::new(),
                Format::Csv => notices(&session),
            };
            let (rows, is_first, is_done) = (0, true, false);
            let mut rows = Rows { format, stream, out: head, is_first, rows, is_done, session };
            // What fails before it has given a row is refused like what cannot be planned.
            while rows.rows == 0 && !rows.is_done {
                rows.next().await?;
            }
            let mut response = answer(format, &notices, Body::from_stream(pieces(rows)));
            again::tell(&mut response, tag, came.age);
            Ok(response)
        }
        Outcome::CopyIn(_) => {
            let message = "COPY FROM STDIN is for the Postgres wire".to_owned();
            Err(HttpError::new(StatusCode::BAD_REQUEST, "invalid", message)
                .with("hint", "send records to POST /api/append/<topic>"))
        }
        Outcome::Command { tag } => {
            let mut body = serde_json::json!({ "command": tag });
            let notices = notices(&session);
            if !notices.is_empty() {
                body["notices"] = notices.into();
            }
            Ok(axum::Json(body).into_response())
        }
        Outcome::Empty => {
            Err(HttpError::new(StatusCode::BAD_REQUEST, "invalid", "the query is empty"))
        }
    }
}

/// The statement with its parameters by number.
fn bound(request: SqlRequest) -> Result<Bound, HttpError> {
    let wrong = |message: String| HttpError::new(StatusCode::BAD_REQUEST, "invalid", message);
    let given = request.params.as_ref().map_or("[]", |params| params.get());
    if given.starts_with('{')
        || (given == "null" || request.params.is_none()) && request.filters.is_some()
    {
        let given = if given.starts_with('{') { given } else { "{}" };
        let values: BTreeMap<String, Box<RawValue>> = serde_json::from_str(given)
            .map_err(|e| wrong(format!("params cannot be read: {e}")))?;
        let values = values.into_iter().map(|(name, value)| Ok((name, param::scalar(&value)?)));
        let values = values.collect::<Result<BTreeMap<_, _>, HttpError>>()?;
        return Ok(placeholders::bind(&request.query, &values, request.filters.as_ref())?);
    }
    if request.filters.is_some() {
        let message = "filters go with params by name: {\"from\": …}, not with a list".to_owned();
        return Err(wrong(message));
    }
    let values: Option<Vec<Box<RawValue>>> = serde_json::from_str(given)
        .map_err(|e| wrong(format!("params are a list, or a map by name: {e}")))?;
    let params = values.iter().flatten().map(|value| param::scalar(value));
    Ok(Bound { sql: request.query, params: params.collect::<Result<Vec<_>, _>>()? })
}

fn answer(format: Format, notices: &[serde_json::Value], body: Body) -> Response {
    let content_type = match format {
        Format::Json => "application/json",
        Format::Csv => "text/csv; charset=utf-8",
    };
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    if !notices.is_empty() {
        let text = serde_json::Value::from(notices.to_vec()).to_string();
        // A header is ASCII.
        let text: String = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(NOTICES, value);
        }
    }
    response
}

/// Gives the request's session a setting; a name or value that is none is the request's fault.
fn assign(session: &Session, name: &str, value: &serde_json::Value) -> Result<(), HttpError> {
    let wrong = |code: &str, message: String| {
        HttpError::new(StatusCode::BAD_REQUEST, code, format!("settings: {message}"))
    };
    let value = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::Bool(flag) => flag.to_string(),
        other => return Err(wrong("invalid", format!("{name:?} cannot be {other}"))),
    };
    session.assign(name, &value).map_err(|e| {
        let error = wrong(e.sqlstate, e.message);
        match e.hint {
            Some(hint) => error.with("hint", hint),
            None => error,
        }
    })
}

/// What the session has to tell beside the answer.
fn notices(session: &Session) -> Vec<serde_json::Value> {
    let told = session.take_reports().into_iter().filter_map(|report| match report {
        Report::Notice { severity, sqlstate, message } => {
            Some(serde_json::json!({ "severity": severity, "code": sqlstate, "message": message }))
        }
        Report::Parameter { .. } => None,
    });
    told.collect()
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

/// Where a streamed answer stands.
struct Rows {
    format: Format,
    stream: SendableRecordBatchStream,
    out: String,
    is_first: bool,
    rows: usize,
    is_done: bool,
    /// Lives as long as its statement.
    session: Arc<Session>,
}

/// The answer piece by piece. An error on the way ends JSON with an `error` entry; CSV has no place for
/// one, so the connection is cut and the reader sees an incomplete body.
fn pieces(rows: Rows) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
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
    /// Writes the next batch, or the end.
    async fn next(&mut self) -> Result<(), SqlError> {
        let Some(batch) = self.stream.next().await else {
            self.is_done = true;
            if self.format == Format::Json {
                self.out.push_str(&format!("],\"row_count\":{}", self.rows));
                let notices = notices(&self.session);
                if !notices.is_empty() {
                    let notices = serde_json::Value::from(notices);
                    self.out.push_str(&format!(",\"notices\":{notices}"));
                }
                self.out.push('}');
            }
            return Ok(());
        };
        let batch = batch?;
        match self.format {
            Format::Json => render::json_rows(&batch, &mut self.is_first, &mut self.out)?,
            Format::Csv => render::csv_rows(&batch, &mut self.out)?,
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    /// The same where the answer has begun.
    async fn advance(&mut self) -> Result<(), std::io::Error> {
        let Err(error) = self.next().await else { return Ok(()) };
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
