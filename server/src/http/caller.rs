//! Who asks: found out before a request reaches its handler, and what somebody needs for what.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use otus_engine::catalog::TableDef;
use otus_sql::access::Identity;
use otus_sql::{Session, SessionOptions};
use serde_json::json;

use super::door::Peer;
use super::error::HttpError;
use super::{Shared, guard, page};
use crate::auth::{Origin, micros};

/// Name of the cookie that holds the id of a session.
pub(super) const COOKIE: &str = "otus_session";
/// Whoever is not known shall not hold a connection.
const CLOSE: HeaderValue = HeaderValue::from_static("close");
/// The user where none are declared.
const NOBODY: &str = "otus";

/// Who sends a request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// None where no users are declared, and where nobody has to say who it is.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) origin: Origin,
    pub(super) is_encrypted: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        // Without one there is no guard before the handler, which would be a bug.
        parts.extensions.get().cloned().ok_or_else(unknown)
    }
}

impl Caller {
    /// Its name.
    pub(super) fn user(&self) -> &str {
        self.identity.as_ref().map_or(NOBODY, |identity| &identity.user)
    }

    /// A session for one request.
    pub(super) fn session(&self, shared: &Shared) -> Session {
        let accounts = shared.otus.accounts();
        shared.otus.sql().session(SessionOptions {
            user: self.user().to_owned(),
            is_local: crate::is_local(self.origin.address),
            identity: self.identity.clone(),
            client: self.origin.address,
            observer: accounts.observer(self.user(), self.identity.as_ref(), self.origin),
            ..SessionOptions::default()
        })
    }

    /// Whether it may append to a table's topic, or write its rows.
    pub(super) fn may_insert(&self, table: &TableDef) -> bool {
        let of = |identity: &Arc<Identity>| identity.may_insert(&table.schema, &table.name);
        self.identity.as_ref().is_none_or(of)
    }

    /// Whether it may see all of a table.
    pub(super) fn sees_whole(&self, table: &TableDef) -> bool {
        let of = |identity: &Arc<Identity>| identity.sees_whole(&table.schema, &table.name);
        self.identity.as_ref().is_none_or(of)
    }

    /// What it is told where it has not the right.
    pub(super) fn denied(&self, what: &str) -> HttpError {
        HttpError::new(StatusCode::FORBIDDEN, "42501", format!("permission denied for {what}"))
    }

    /// Whether it is told what the server knows of itself.
    pub(super) fn may_monitor(&self, shared: &Shared) -> bool {
        match &self.identity {
            Some(identity) => identity.may_monitor(),
            None => shared.otus.accounts().is_open(),
        }
    }

    fn is_admin(&self) -> bool {
        self.identity.as_ref().is_none_or(|identity| identity.is_admin())
    }
}

/// What a caller showed to be let in; it may end while an answer is still under way.
// Has no `Debug`: it holds secrets.
#[derive(Clone)]
pub(super) enum Key {
    /// Nobody has to show anything.
    Open,
    Token(String),
    Session(String),
}

impl Key {
    /// That of a caller who was let in with these headers.
    pub(super) fn of(caller: &Caller, headers: &HeaderMap) -> Self {
        let token = bearer(headers).map(|token| Self::Token(token.to_owned()));
        let session = || cookie(headers).map(|id| Self::Session(id.to_owned()));
        match caller.identity {
            None => Self::Open,
            Some(_) => token.or_else(session).unwrap_or(Self::Open),
        }
    }

    /// Whether it still lets in. To look is not to use it: a session that nobody uses ends.
    pub(super) fn fits(&self, shared: &Shared) -> bool {
        let accounts = shared.otus.accounts();
        match self {
            Self::Open => true,
            Self::Token(token) => accounts.token_lives(token),
            Self::Session(id) => accounts.session_lives(id),
        }
    }
}

/// Middleware: nobody comes further whom the users of the configuration do not allow to.
pub(super) async fn identify(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer);
    if let Some(peer) = peer {
        peer.has_asked();
    }
    let address = peer.map(|peer| peer.address);
    let is_encrypted = peer.is_some_and(|peer| peer.is_encrypted);
    let origin = Origin { face: "http", address };
    let found = find(&shared, &request, origin).and_then(|identity| {
        let caller = Caller { identity, origin, is_encrypted };
        if needs_admin(request.uri().path()) && !caller.is_admin() {
            let message = format!("user {:?} is no administrator", caller.user());
            let hint = "a role with admin = true is needed";
            return Err(HttpError::new(StatusCode::FORBIDDEN, "42501", message).with("hint", hint));
        }
        if request.uri().path() == "/metrics" && !caller.may_monitor(&shared) {
            let message = format!("user {:?} may not see the metrics", caller.user());
            let hint = "a role with monitor = true is needed";
            return Err(HttpError::new(StatusCode::FORBIDDEN, "42501", message).with("hint", hint));
        }
        Ok(caller)
    });
    match found {
        Ok(caller) => {
            let watch = Watch::begin(&shared, &caller, &request);
            let is_stranger = caller.identity.is_none() && !shared.otus.accounts().is_open();
            request.extensions_mut().insert(caller);
            let mut response = next.run(request).await;
            if is_stranger {
                response.headers_mut().insert(header::CONNECTION, CLOSE);
            }
            if let Some(watch) = watch {
                watch.end(response.status());
            }
            response
        }
        Err(error) => error.into_response(),
    }
}

fn needs_admin(path: &str) -> bool {
    path == "/api/ingest" || path.starts_with("/api/ingest/")
}

/// Who sends the request; none where nobody has to say.
fn find(
    shared: &Shared,
    request: &Request,
    origin: Origin,
) -> Result<Option<Arc<Identity>>, HttpError> {
    let accounts = shared.otus.accounts();
    let path = request.uri().path();
    if accounts.is_open() || path == "/healthz" {
        return Ok(None);
    }
    if path == "/api/session" && request.method() != Method::GET {
        return Ok(None);
    }
    let headers = request.headers();
    if let Some(token) = bearer(headers) {
        return accounts.bearer(token, origin).map(Some).ok_or_else(|| {
            let message = "the token is unknown or has ended";
            refused(StatusCode::UNAUTHORIZED, "invalid_token", message)
        });
    }
    if let Some(identity) = cookie(headers).and_then(|id| accounts.session(id)) {
        guard::check_own_page(request.method(), headers)?;
        return Ok(Some(identity));
    }
    if request.method().is_safe() && page::is_part(path) {
        return Ok(None);
    }
    // Not `/metrics`: behind a proxy of the same machine everybody would be told every table and its rows.
    if path == "/readyz" && crate::is_local(origin.address) {
        return Ok(None);
    }
    Err(unknown())
}

fn unknown() -> HttpError {
    refused(StatusCode::UNAUTHORIZED, "28000", "nobody is signed in")
        .with("hint", "send Authorization: Bearer and a token, or sign in with POST /api/session")
}

fn refused(status: StatusCode, code: &str, message: &str) -> HttpError {
    let challenge = match code {
        "invalid_token" => HeaderValue::from_static("Bearer error=\"invalid_token\""),
        _ => HeaderValue::from_static("Bearer"),
    };
    HttpError::new(status, code, message)
        .with_header(header::WWW_AUTHENTICATE, challenge)
        .with_header(header::CONNECTION, CLOSE)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = guard::text(headers, &header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The id in the session's cookie.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|text| text.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| name.trim() == COOKIE).map(|(_, id)| id.trim())
}

/// Notes a request that changes something in the audit log. Statements and patterns are noted where they run.
struct Watch {
    shared: Shared,
    caller: Caller,
    begun: Instant,
    what: String,
    status: Option<StatusCode>,
}

impl Watch {
    fn begin(shared: &Shared, caller: &Caller, request: &Request) -> Option<Self> {
        let path = request.uri().path();
        let noted_elsewhere =
            matches!(path, "/api/sql" | "/api/pull" | "/api/live" | "/api/session");
        let is_noted = shared.otus.accounts().is_audited();
        if !is_noted || request.method().is_safe() || noted_elsewhere {
            return None;
        }
        Some(Self {
            shared: Arc::clone(shared),
            caller: caller.clone(),
            begun: Instant::now(),
            what: format!("{} {}", request.method(), request.uri()),
            status: None,
        })
    }

    fn end(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Watch {
    /// Also where the client goes away before the answer.
    fn drop(&mut self) {
        let facts = json!({
            "request": crate::auth::cut(&self.what),
            "duration_us": micros(self.begun.elapsed()),
            "status": self.status.map(|status| status.as_u16()),
            "ok": self.status.is_some_and(|status| status.is_success()),
        });
        let Caller { identity, origin, .. } = &self.caller;
        let accounts = self.shared.otus.accounts();
        accounts.note("request", self.caller.user(), identity.as_deref(), *origin, facts);
    }
}
