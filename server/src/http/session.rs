//! `/api/session`: signing in with user and password, who it is, and signing out.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otus_sql::access::Identity;
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::{COOKIE, Caller, cookie};
use super::error::HttpError;
use super::{Shared, body_bytes, guard};
use crate::auth::SignInError;

/// Longest request to sign in, bytes.
const SIGN_IN_BYTES_MAX: usize = 8 << 10;

/// Longest time that a request to sign in may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// Body of the request to sign in. Has no `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    user: String,
    password: String,
}

/// `POST`: begins a session, with a new id each time, and ends the one that the client had.
pub(super) async fn sign_in(
    State(shared): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    guard::content_type(&headers, &["application/json"])?;
    // Anybody may ask this, so that it must not take for ever.
    let read = tokio::time::timeout(PATIENCE, body_bytes(body, SIGN_IN_BYTES_MAX)).await;
    let bytes = read.map_err(|_| {
        let message = "the request to sign in took too long";
        HttpError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
    })??;
    // What the parser says of the text may hold parts of it.
    let request: SignIn = serde_json::from_slice(&bytes).map_err(|_| {
        let hint = "{\"user\": \"…\", \"password\": \"…\"}";
        HttpError::new(StatusCode::BAD_REQUEST, "invalid", "the body is not a request to sign in")
            .with("hint", hint)
    })?;
    let accounts = shared.otus.accounts();
    if accounts.is_open() {
        let message = "no users are declared: nobody has to sign in";
        return Err(HttpError::new(StatusCode::NOT_FOUND, "not_found", message));
    }
    let signed_in = accounts.sign_in(&request.user, request.password, caller.origin).await;
    let (id, identity) = signed_in.map_err(refused)?;
    if let Some(old) = cookie(&headers) {
        accounts.sign_out(old, caller.origin);
    }
    let seconds = accounts.session_lifetime().as_secs();
    let mut response = axum::Json(who(Some(&identity))).into_response();
    set_cookie(&mut response, &id, seconds, caller.is_encrypted);
    Ok(response)
}

/// `GET`: who it is.
pub(super) async fn show(caller: Caller) -> Response {
    axum::Json(who(caller.identity.as_deref())).into_response()
}

/// `DELETE`: ends the session, if there is one.
pub(super) async fn sign_out(
    State(shared): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    if let Some(id) = cookie(&headers) {
        guard::check_own_page(&axum::http::Method::DELETE, &headers)?;
        shared.otus.accounts().sign_out(id, caller.origin);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, "", 0, caller.is_encrypted);
    Ok(response)
}

fn who(identity: Option<&Identity>) -> Value {
    let roles = identity.map(|i| i.roles.iter().map(|r| r.name.as_str()).collect::<Vec<_>>());
    json!({
        "user": identity.map(|identity| &identity.user),
        "roles": roles.unwrap_or_default(),
        "admin": identity.is_none_or(Identity::is_admin),
    })
}

fn set_cookie(response: &mut Response, id: &str, seconds: u64, is_encrypted: bool) {
    let secure = if is_encrypted { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={id}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, never);
}

fn refused(e: SignInError) -> HttpError {
    let (status, code) = match e {
        SignInError::Denied => (StatusCode::UNAUTHORIZED, "28P01"),
        SignInError::Refused(_) => (StatusCode::TOO_MANY_REQUESTS, "53300"),
        SignInError::NoRandomness(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let error = HttpError::new(status, code, e.to_string());
    match e.wait() {
        Some(wait) => error
            .with_header(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().saturating_add(1))),
        None if status == StatusCode::UNAUTHORIZED => {
            error.with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
        }
        None => error,
    }
}
