//! The web page, which is part of the binary: its one document for every place of it, and the files that it names.
//!
//! Files are named by their content and never change; the document is asked for anew each time.

use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::HttpError;
use super::guard;

/// A file of the built page, as it is and compressed.
#[derive(Debug)]
pub(super) struct File {
    name: &'static str,
    plain: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// The one document.
const DOCUMENT: &str = "index.html";
/// What a document may run and load: what this server sends, and nothing else.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'";
/// Places that the document shows by itself.
const PLACES: [&str; 5] = ["explore", "dashboards", "sql", "data", "sign-in"];

/// Whether a path belongs to the page, so that nobody has to be signed in to see it. It holds no data.
pub(super) fn is_part(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    first.is_empty() || first == "assets" || PLACES.contains(&first) || root_file(path).is_some()
}

/// A file beside the document, such as its icon.
fn root_file(path: &str) -> Option<&'static File> {
    let name = path.strip_prefix('/')?;
    FILES.iter().find(|file| file.name == name && !name.contains('/'))
}

/// `GET` of a place: the document.
pub(super) async fn document() -> Response {
    match FILES.iter().find(|file| file.name == DOCUMENT) {
        Some(file) => shown(file.plain),
        None => missing(),
    }
}

/// `GET` of anything else: a file beside the document, a place, or nothing that there is.
pub(super) async fn other(request: Request) -> Option<Response> {
    let path = request.uri().path();
    if !request.method().is_safe() || !is_part(path) {
        return None;
    }
    match root_file(path) {
        Some(file) if file.name != DOCUMENT => {
            Some(sent(file, request.headers(), "public, max-age=3600"))
        }
        _ => Some(document().await),
    }
}

/// `GET /assets/…`
pub(super) async fn asset(
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let name = format!("assets/{name}");
    let file = FILES.iter().find(|file| file.name == name).ok_or_else(|| {
        let message = "the page has no such file; load the page again";
        HttpError::new(StatusCode::NOT_FOUND, "not_found", message)
    })?;
    Ok(sent(file, &headers, "public, max-age=31536000, immutable"))
}

/// A file in the smallest form that the client reads.
fn sent(file: &'static File, headers: &HeaderMap, keep: &'static str) -> Response {
    let accepted = guard::text(headers, &header::ACCEPT_ENCODING).unwrap_or_default();
    let accepts = |coding: &str| {
        accepted.split(',').any(|part| {
            let mut parts = part.split(';').map(str::trim);
            let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
            let refused = |weight: &str| {
                let weight = weight.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
                weight == Some(0.0)
            };
            is_named && !parts.any(refused)
        })
    };
    let (body, coding) = match (file.brotli, file.gzip) {
        (Some(brotli), _) if accepts("br") => (brotli, Some("br")),
        (_, Some(gzip)) if accepts("gzip") => (gzip, Some("gzip")),
        _ => (file.plain, None),
    };
    let fixed = [
        (header::CONTENT_TYPE, content_type(file.name)),
        (header::CACHE_CONTROL, keep),
        (header::VARY, "accept-encoding"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let mut response = (fixed, body).into_response();
    if let Some(coding) = coding {
        let coding = HeaderValue::from_static(coding);
        response.headers_mut().insert(header::CONTENT_ENCODING, coding);
    }
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn shown(body: impl IntoResponse) -> Response {
    let fixed = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    (fixed, body).into_response()
}

/// What a binary without the page shows.
fn missing() -> Response {
    let problem = PROBLEM.unwrap_or("it has no document");
    let escaped = problem.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let text = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Otus</title><main><h1>Otus is running, without its page</h1>\
         <p>This binary was built without the web page: {escaped}.</p>\
         <p>Install Node.js 20 or newer with npm and build again: <code>cargo build --release</code>. \
         SQL is answered at the Postgres port and at <code>POST /api/sql</code>, pull patterns at <code>POST /api/pull</code>.</p>\
         </main></html>"
    );
    let mut response = shown(text);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}
