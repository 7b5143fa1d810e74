//! `POST /api/pull`: a pattern in EDN or JSON, answered in the same spelling.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otus_sql::pull::{self, Encoding};
use otus_sql::{Ended, StatementObserver};

use super::caller::Caller;
use super::error::HttpError;
use super::{QUERY_BYTES_MAX, Shared, again, body_bytes, guard};

pub(super) async fn pull(
    State(shared): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let (encoding, accept) = spellings(&headers)?;
    let body = body_bytes(body, QUERY_BYTES_MAX).await?;
    let session = caller.session(&shared);
    again::allow(&session, &headers, false)?;
    let noted = Noted::begin(&shared, &caller, &body);
    let answer = pull::run_as(&session, &body, encoding, accept).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(noted) = noted {
        noted.end(status);
    }
    let content_type = [(header::CONTENT_TYPE, answer.content_type)];
    let mut response = (status, content_type, answer.body).into_response();
    again::tell(&mut response, None, answer.age);
    Ok(response)
}

/// In which spelling a pattern is written, and in which it is answered: the same, if nothing is said.
pub(super) fn spellings(headers: &HeaderMap) -> Result<(Encoding, Encoding), HttpError> {
    let known = [Encoding::Edn, Encoding::Json];
    let names = known.map(Encoding::content_type);
    let given = guard::content_type(headers, &names)?;
    let named = |name: &str| known.into_iter().find(|e| e.content_type() == name);
    let encoding = named(given).unwrap_or(Encoding::Json);
    let accept = guard::text(headers, &header::ACCEPT).unwrap_or_default();
    let accept =
        accept.split(',').find_map(|a| named(a.split(';').next().unwrap_or_default().trim()));
    Ok((encoding, accept.unwrap_or(encoding)))
}

/// A pattern for the audit log.
pub(super) struct Noted {
    observer: Arc<dyn StatementObserver>,
    text: Bytes,
    begun: Instant,
    status: Option<StatusCode>,
}

impl Noted {
    /// None where there is no audit log.
    pub(super) fn begin(shared: &Shared, caller: &Caller, text: &Bytes) -> Option<Self> {
        let accounts = shared.otus.accounts();
        let observer = accounts.observer(caller.user(), caller.identity.as_ref(), caller.origin)?;
        Some(Self { observer, text: text.clone(), begun: Instant::now(), status: None })
    }

    pub(super) fn end(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Noted {
    /// Also where the client goes away before the answer.
    fn drop(&mut self) {
        let failed = match self.status {
            Some(status) if status.is_success() => None,
            Some(status) if status.is_client_error() => Some("42000"),
            Some(_) => Some("XX000"),
            None => Some("57014"),
        };
        let text = String::from_utf8_lossy(&self.text);
        let duration = self.begun.elapsed();
        self.observer.ended(&Ended { text: &text, duration, rows: 0, sqlstate: failed });
    }
}
