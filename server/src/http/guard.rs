//! Who may ask: no foreign host names (a page that rebinds its DNS name to this address), no foreign
//! origins (a page elsewhere that posts here), no content types that a browser sends without asking first.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::error::HttpError;

/// Where a browser says how the asking page and this server are related.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Middleware: refuses foreign hosts and origins.
pub(super) async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    match check(request.headers(), &shared.hosts).and_then(|()| check_site(&request)) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check(headers: &HeaderMap, hosts: &[String]) -> Result<(), HttpError> {
    let forbidden = |what: String| Err(HttpError::new(StatusCode::FORBIDDEN, "forbidden", what));
    let Some(host) = text(headers, &header::HOST) else {
        return Err(HttpError::new(StatusCode::BAD_REQUEST, "invalid", "no host is named"));
    };
    if !is_ours(host, hosts) {
        return forbidden(format!("host {host:?} is not served; [server] hosts can name it"));
    }
    if let Some(origin) = text(headers, &header::ORIGIN) {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if authority != Some(host) {
            return forbidden(format!("origin {origin:?} is foreign"));
        }
    }
    Ok(())
}

/// A browser says where a request comes from; one that changes something must not come from another site.
fn check_site(request: &Request) -> Result<(), HttpError> {
    let site = text(request.headers(), &SITE);
    if request.method().is_safe() || matches!(site, None | Some("same-origin" | "none")) {
        return Ok(());
    }
    let message = format!("a {} request of another site", request.method());
    Err(HttpError::new(StatusCode::FORBIDDEN, "forbidden", message))
}

/// A browser sends cookies along by itself: what changes something by them must say that it comes from a page of
/// this server. That what is said is true has been checked.
pub(super) fn check_own_page(method: &Method, headers: &HeaderMap) -> Result<(), HttpError> {
    let says = headers.contains_key(header::ORIGIN) || headers.contains_key(SITE);
    if method.is_safe() || says {
        return Ok(());
    }
    let message = format!("a {method} request by cookie says not from which page it comes");
    Err(HttpError::new(StatusCode::FORBIDDEN, "forbidden", message)
        .with("hint", "send the header Origin, or use a token instead of the cookie"))
}

/// Loopback, any address written as numbers, and the configured names.
fn is_ours(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || hosts.iter().any(|h| h.eq_ignore_ascii_case(name))
}

/// The body's content type without its parameters, which must be one of `accepted`.
pub(super) fn content_type<'a>(
    headers: &HeaderMap,
    accepted: &[&'a str],
) -> Result<&'a str, HttpError> {
    let given = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    accepted.iter().find(|a| a.eq_ignore_ascii_case(essence)).copied().ok_or_else(|| {
        let message = format!("content type {given:?} is not expected here");
        HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
            .with("hint", format!("one of {}", accepted.join(", ")))
    })
}

/// A header as text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_hosts_and_origins_are_refused() {
        let hosts = ["otus.example.org".to_string()];
        let status = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            check(&headers, &hosts).map_or_else(|e| e.status().as_u16(), |()| 200)
        };
        for host in ["localhost:8080", "127.0.0.1:1", "[::1]:8080", "10.0.0.7", "otus.example.org"]
        {
            assert_eq!(status(host, None), 200, "{host}");
        }
        assert_eq!(status("evil.example.com:8080", None), 403);
        assert_eq!(status("localhost:8080", Some("http://localhost:8080")), 200);
        assert_eq!(status("localhost:8080", Some("http://localhost:3000")), 403);
        assert_eq!(status("localhost:8080", Some("https://evil.example.com")), 403);
        assert_eq!(status("localhost:8080", Some("null")), 403);
    }
}
