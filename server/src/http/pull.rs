//! `POST /api/pull`: a pattern in EDN or JSON, answered in the same spelling.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otus_sql::SessionOptions;
use otus_sql::pull::{self, Encoding};

use super::error::HttpError;
use super::{QUERY_BYTES_MAX, Shared, again, body_bytes, guard};

pub(super) async fn pull(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let known = [Encoding::Edn, Encoding::Json];
    let names = known.map(Encoding::content_type);
    let given = guard::content_type(&headers, &names)?;
    let named = |name: &str| known.into_iter().find(|e| e.content_type() == name);
    let encoding = named(given).unwrap_or(Encoding::Json);
    let accept = guard::text(&headers, &header::ACCEPT).unwrap_or_default();
    let accept =
        accept.split(',').find_map(|a| named(a.split(';').next().unwrap_or_default().trim()));
    let body = body_bytes(body, QUERY_BYTES_MAX).await?;
    let options = SessionOptions { user: "otus".into(), ..SessionOptions::default() };
    let session = shared.otus.sql().session(options);
    again::allow(&session, &headers, false)?;
    let answer = pull::run_as(&session, &body, encoding, accept.unwrap_or(encoding)).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = [(header::CONTENT_TYPE, answer.content_type)];
    let mut response = (status, content_type, answer.body).into_response();
    again::tell(&mut response, None, answer.age);
    Ok(response)
}
