//! The HTTP face: pull patterns, SQL, appending, health and metrics. The only home of the HTTP framework.
//!
//! ```text
//!  socket ─► guard (host, origin) ─► route ─► handler ─► otus_sql / otus_ingest ─► streamed answer
//!                                      └─► RequestAnswered (log and metric)
//! ```

mod again;
mod append;
mod asked;
mod caller;
mod door;
mod error;
mod guard;
mod ingest;
mod live;
mod metrics;
mod page;
mod param;
mod pull;
mod render;
mod schema;
mod session;
mod sql;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use otus_ingest::PartitionStatus;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::caller::Caller;
use crate::auth::Tls;
use crate::otus::Otus;
use crate::telemetry::{self, RequestAnswered};
use door::{Door, Peer};
use error::HttpError;

/// Largest query or pattern, bytes.
const QUERY_BYTES_MAX: usize = 1 << 20;
/// Largest body of an append, bytes.
const APPEND_BYTES_MAX: usize = 64 << 20;

/// What every handler has.
type Shared = Arc<Context>;

/// See [`Shared`].
#[derive(Debug)]
struct Context {
    otus: Otus,
    hosts: Vec<String>,
    pages: tables::Pages,
    feeds: live::Feeds,
}

/// Serves until `shutdown` is cancelled; answers under way are finished. Encrypted where `tls` is there and the
/// client begins so, or it is required.
pub async fn serve(
    listener: TcpListener,
    otus: Otus,
    tls: Option<Arc<Tls>>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let service = router(otus, shutdown.clone()).into_make_service_with_connect_info::<Peer>();
    axum::serve(Door::open(listener, tls)?, service)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// What somebody who is lost is told.
const PATHS: &str = "POST to /api/sql, /api/pull, /api/live, /api/append/<topic> and /api/tables/<table>; GET /api/schema, /healthz, /readyz \
                     and /metrics";

/// All routes. Live answers end when `closing` is cancelled; all others are given to their end.
pub fn router(otus: Otus, closing: CancellationToken) -> Router {
    let hosts = otus.config().server.hosts.clone();
    let pages = tables::Pages::default();
    let feeds = live::Feeds::new(closing);
    let shared: Shared = Arc::new(Context { otus, hosts, pages, feeds });
    // The recorder must be there before the first metric moves.
    if telemetry::metrics().is_none() {
        tracing::warn!("metrics are not available in this process");
    }
    let plain = Router::new()
        .route("/api/pull", post(pull::pull))
        .route("/api/live", post(live::live))
        .route("/api/schema", get(schema::schema))
        .route("/api/session", get(session::show).post(session::sign_in).delete(session::sign_out))
        .route("/api/ingest", get(ingest::status))
        .route("/api/ingest/flush", post(ingest::flush))
        .route("/api/ingest/maintain", post(ingest::maintain))
        .route("/api/ingest/reset", post(ingest::reset))
        .route("/api/ingest/pause/{table}", post(ingest::pause))
        .route("/api/ingest/resume/{table}", post(ingest::resume))
        .layer(middleware::from_fn(asked::without_query));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::metrics))
        .route("/api/sql", post(sql::sql))
        .route("/api/append/{topic}", post(append::append))
        .route("/api/tables/{table}", get(tables::list).post(tables::create))
        .route(
            "/api/tables/{table}/{key}",
            get(tables::row).put(tables::put).delete(tables::remove),
        )
        .route("/", get(page::document))
        .route("/assets/{*name}", get(page::asset))
        .merge(plain)
        .fallback(|request: Request| async {
            page::other(request).await.ok_or_else(|| {
                let message = "no such path";
                HttpError::new(StatusCode::NOT_FOUND, "not_found", message).with("hint", PATHS)
            })
        })
        .method_not_allowed_fallback(|request: Request| async move {
            let message = format!("{} is not for {}", request.method(), request.uri().path());
            HttpError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
                .with("hint", PATHS)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), caller::identify))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::guard))
        .layer(middleware::from_fn(measure))
        .with_state(shared)
}

async fn measure(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_string());
    let method = request.method().as_str().to_string();
    let response = next.run(request).await;
    let route = route.unwrap_or_else(|| "other".to_string());
    let status = response.status().as_u16();
    RequestAnswered { route, method, status, elapsed: started.elapsed() }.emit();
    response
}

/// 200 once everything that the logs held at the start was visible, unless a topic is mostly rejected, a
/// partition has stopped, or rows cannot be made durable.
async fn ready(State(shared): State<Shared>, caller: Caller) -> Response {
    let ingest = shared.otus.ingest();
    let trouble = shared.otus.dataset().trouble();
    let (is_ready, body) = readiness(&ingest.status(), ingest.caught_up_once(), trouble);
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Names of tables and their lag are for those who may know them.
    let body = match caller.may_monitor(&shared) {
        true => body,
        false => serde_json::json!({ "ready": is_ready }),
    };
    (status, axum::Json(body)).into_response()
}

/// Whether it is ready, and what there is to know of that. Where a log does not answer nobody knows the lag, nor
/// whether what it holds now has been read: null.
fn readiness(
    partitions: &[PartitionStatus],
    caught_up_once: bool,
    trouble: Option<String>,
) -> (bool, serde_json::Value) {
    let listed = |states: &[&str]| -> Vec<serde_json::Value> {
        let wanted = partitions.iter().filter(|p| states.contains(&p.state.name()));
        let told = |p: &PartitionStatus| {
            serde_json::json!({
                "table": p.table_name,
                "topic": p.topic,
                "partition": p.partition,
                "state": p.state.name(),
                "reason": p.state.reason(),
            })
        };
        wanted.map(told).collect()
    };
    // What needs an operator: a partition that has stopped, a topic that is mostly rejected.
    let ailing = listed(&["rejecting", "stopped"]);
    let is_ready = caught_up_once && ailing.is_empty() && trouble.is_none();
    let lag: Option<i64> = partitions.iter().map(|p| p.lag).sum();
    let caught_up = (!caught_up_once || lag.is_some()).then_some(caught_up_once);
    let body = serde_json::json!({
        "ready": is_ready,
        "caught_up": caught_up,
        "lag": lag,
        "ailing": ailing,
        "trouble": trouble,
        "waiting": listed(&["waiting"]),
    });
    (is_ready, body)
}

/// A whole body of at most `limit` bytes.
async fn body_bytes(body: Body, limit: usize) -> Result<Bytes, HttpError> {
    axum::body::to_bytes(body, limit).await.map_err(|e| {
        let message = format!("the body cannot be read, or has more than {limit} bytes: {e}");
        HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    })
}
