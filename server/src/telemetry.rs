//! Logs and metrics. Each happening is one struct whose `emit` writes the log line and moves the metric, so
//! that the two never tell different stories. The only module that knows the metrics exporter.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::cli::output;

/// Bounds of the latency histograms, seconds.
const LATENCY_BUCKETS: [f64; 12] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends logs to standard error. `filter` is a level or a list such as `info,otus_engine=debug`. A second
/// call in one process changes nothing.
pub fn start_logs(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(output::LogWriter::default)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logs are already being written");
    }
}

/// The registry of this process's metrics; installed at the first call.
pub fn metrics() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let builder = PrometheusBuilder::new().set_buckets(&LATENCY_BUCKETS).ok()?;
        builder.install_recorder().ok()
    };
    HANDLE.get_or_init(install).as_ref()
}

/// A request over HTTP was answered.
#[derive(Debug)]
pub(crate) struct RequestAnswered {
    pub(crate) route: String,
    pub(crate) method: String,
    pub(crate) status: u16,
    pub(crate) elapsed: Duration,
}

impl RequestAnswered {
    pub(crate) fn emit(self) {
        let Self { route, method, status, elapsed } = self;
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(route, method, status, millis, "request answered");
        let code = status.to_string();
        let labels = [("route", route), ("method", method), ("status", code)];
        metrics::counter!("otus_http_requests_total", &labels).increment(1);
        let [route, ..] = labels;
        metrics::histogram!("otus_http_request_seconds", &[route]).record(elapsed.as_secs_f64());
    }
}

/// Records were written through HTTP.
#[derive(Debug)]
pub(crate) struct RecordsAppended<'a> {
    pub(crate) topic: &'a str,
    pub(crate) records: usize,
}

impl RecordsAppended<'_> {
    pub(crate) fn emit(&self) {
        tracing::debug!(topic = self.topic, records = self.records, "records appended");
        let records = u64::try_from(self.records).unwrap_or(u64::MAX);
        metrics::counter!("otus_append_records_total", "topic" => self.topic.to_string())
            .increment(records);
    }
}

/// The server answers on its addresses.
#[derive(Debug)]
pub(crate) struct ServerStarted<'a> {
    pub(crate) postgres: &'a str,
    pub(crate) http: &'a str,
    pub(crate) tables: usize,
}

impl ServerStarted<'_> {
    pub(crate) fn emit(&self) {
        let Self { postgres, http, tables } = self;
        tracing::info!(postgres, http, tables, version = env!("CARGO_PKG_VERSION"), "otus serves");
        metrics::gauge!("otus_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    }
}

/// The server has stopped.
#[derive(Debug)]
pub(crate) struct ServerStopped {
    pub(crate) elapsed: Duration,
    pub(crate) flushed: bool,
}

impl ServerStopped {
    pub(crate) fn emit(&self) {
        let millis = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX);
        if self.flushed {
            tracing::info!(millis, "otus stopped, everything is on disk");
        } else {
            tracing::warn!(
                millis,
                "otus stopped before everything was on disk; it will be read again"
            );
        }
    }
}

/// How a sign-in ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignInResult {
    /// The user is in.
    Ok,
    /// The password, proof or token was wrong.
    Failed,
    /// Nothing was looked at: too much was wrong before.
    Refused,
}

impl SignInResult {
    /// As logs and metrics name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// Somebody tried to sign in.
#[derive(Debug)]
pub(crate) struct SignIn<'a> {
    /// The user, as the client says; empty where it says none.
    pub(crate) user: &'a str,
    pub(crate) face: &'static str,
    pub(crate) address: Option<std::net::IpAddr>,
    pub(crate) result: SignInResult,
}

impl SignIn<'_> {
    pub(crate) fn emit(self) {
        let Self { user, face, address, result } = self;
        let outcome = result.name();
        match result {
            SignInResult::Failed if !user.is_empty() => {
                tracing::info!(user, face, ?address, "sign-in failed");
            }
            // Whoever is refused, or tries tokens, may come as often as they like.
            _ => tracing::debug!(user, face, ?address, outcome, "sign-in"),
        }
        let labels = [("face", face), ("result", outcome)];
        metrics::counter!("otus_sign_ins_total", &labels).increment(1);
    }
}
