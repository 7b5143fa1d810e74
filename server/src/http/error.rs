//! Errors as HTTP answers: the one place that maps an error's kind to a status.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use otus_engine::{Error, ErrorKind};
use otus_sql::SqlError;
use serde_json::{Map, Value};

/// An error that becomes an answer: `{"error": {"message", "code", "hint", …}}`.
#[derive(Debug)]
pub(crate) struct HttpError {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Map<String, Value>,
}

impl HttpError {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let mut body = Map::new();
        body.insert("code".into(), Value::String(code.to_string()));
        body.insert("message".into(), Value::String(message.into()));
        Self { status, headers: Vec::new(), body }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.body.insert(key.to_string(), value.into());
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let body =
            Value::Object([("error".to_string(), Value::Object(self.body))].into_iter().collect());
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        let (status, code) = match error.kind() {
            ErrorKind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            ErrorKind::Busy => (StatusCode::CONFLICT, "busy"),
            ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            ErrorKind::Full => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            ErrorKind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, "corrupt"),
            ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(%error, "a request failed");
        }
        let answer = Self::new(status, code, error.to_string());
        match error.hint() {
            Some(hint) => answer.with("hint", hint),
            None => answer,
        }
    }
}

impl From<SqlError> for HttpError {
    fn from(error: SqlError) -> Self {
        let class = error.sqlstate.get(..2).unwrap_or_default();
        let status = match (class, error.sqlstate) {
            (_, "57014") => StatusCode::GATEWAY_TIMEOUT,
            ("42", "42501") => StatusCode::FORBIDDEN,
            ("53", _) => StatusCode::SERVICE_UNAVAILABLE,
            ("55", _) => StatusCode::CONFLICT,
            ("58", _) => StatusCode::SERVICE_UNAVAILABLE,
            ("XX", _) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(%error, sqlstate = error.sqlstate, "a query failed");
        }
        let mut answer = Self::new(status, error.sqlstate, error.message);
        if let Some(detail) = error.detail {
            answer = answer.with("detail", detail);
        }
        if let Some(hint) = error.hint {
            answer = answer.with("hint", hint);
        }
        if let Some(position) = error.position {
            answer = answer.with("position", position);
        }
        answer
    }
}
