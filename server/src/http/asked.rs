//! The parts of a request's address, refused in the one shape of errors where they cannot be read.

use axum::extract::{FromRequestParts, Path as AnyPath, Query as AnyQuery, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::error::HttpError;

/// A query string of which every name is known.
pub(super) struct Query<T>(pub(super) T);

/// What stands in the path.
pub(super) struct Path<T>(pub(super) T);

fn invalid(message: String) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, "invalid", message)
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        let text = parts.uri.query().unwrap_or_default();
        if percent_decode_str(text).decode_utf8().is_err() {
            return Err(invalid("the query string is not of UTF-8".into()));
        }
        match AnyQuery::try_from_uri(&parts.uri) {
            Ok(AnyQuery(value)) => Ok(Self(value)),
            Err(e) => Err(invalid(format!("the query string cannot be read: {}", e.body_text()))),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        match AnyPath::from_request_parts(parts, state).await {
            Ok(AnyPath(value)) => Ok(Self(value)),
            Err(e) => Err(invalid(format!("the path cannot be read: {}", e.body_text()))),
        }
    }
}

/// Middleware of routes that know no query string.
pub(super) async fn without_query(request: Request, next: Next) -> Response {
    match request.uri().query().filter(|query| !query.is_empty()) {
        None => next.run(request).await,
        Some(query) => {
            let path = request.uri().path();
            invalid(format!("{path} takes no parameters, but was asked with {query:?}"))
                .into_response()
        }
    }
}
