//! `otus serve`: opens the storage, answers on both addresses, and on SIGTERM or SIGINT makes everything
//! durable before it goes.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use otus_engine::store::lock::{FolderLock, LOCK_FILE};
use otus_engine::{Error, ErrorKind, Result};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use super::ConfigArgs;
use crate::auth::Tls;
use crate::config::Config;
use crate::otus::Otus;
use crate::pgwire::{self, WireOptions};
use crate::telemetry::{ServerStarted, ServerStopped};
use crate::{http, telemetry};

/// Time that requests under way have to end.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Ctrl-C or SIGTERM stops it: what is in memory is written first, within the time that `shutdown` in
[server] gives. What could not be written is read again at the next start."
)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Bring the stored definitions to those of the file where they differ (see `otus check`)
    #[arg(long)]
    apply: bool,
    /// Listen on other addresses than loopback although no users are declared
    #[arg(long)]
    trust_network: bool,
}

pub(crate) async fn run(args: ServeArgs) -> Result<ExitCode> {
    let config = args.config.load()?;
    if telemetry::metrics().is_none() {
        tracing::warn!("metrics are not available");
    }
    let tls = config.server.tls.as_ref().map(Tls::load).transpose()?;
    let has_users = !config.access.users.is_empty();
    let is_trusted = args.trust_network || has_users;
    let faces = Faces::bind(&config.server.postgres, &config.server.http, is_trusted).await;
    let faces = faces.map_err(|e| name_holder(e, &config))?.with_tls(tls.clone());
    if has_users && tls.is_none() && faces.leave_this_machine() {
        tracing::warn!(
            "passwords and rows cross the network in clear text; [server.tls] encrypts them"
        );
    }
    let otus = open(config, &faces, args.apply).await?;
    for change in otus.changes() {
        tracing::info!(change = change.what, "definition applied");
    }
    let shutdown = CancellationToken::new();
    let serving = faces.serve(&otus, &shutdown);
    let tables = otus.dataset().snapshot().tables().count();
    let (postgres, http) = (serving.postgres.to_string(), serving.http.to_string());
    ServerStarted { postgres: &postgres, http: &http, tables }.emit();
    let renewing = tls.map(|tls| tokio::spawn(renew(tls)));
    stop_signal().await;
    tracing::info!("stopping");
    renewing.iter().for_each(tokio::task::JoinHandle::abort);
    let deadline = otus.config().server.shutdown;
    let is_flushed = stop(otus, serving, &shutdown, deadline).await;
    Ok(if is_flushed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A taken address is most often that of a server already running on the same storage: say so.
fn name_holder(error: Error, config: &Config) -> Error {
    let folder = config.storage.url.strip_prefix("file:");
    let folder = folder.map(|path| path.strip_prefix("//").unwrap_or(path));
    let in_use = folder.map(Path::new).filter(|folder| folder.join(LOCK_FILE).exists());
    match in_use.map(|folder| FolderLock::take(folder, "otus serve, looking")) {
        Some(Err(held)) if held.kind() == ErrorKind::Busy => error.with_hint(held.to_string()),
        _ => error,
    }
}

/// Opens with a holder's text that says where this process answers.
pub(crate) async fn open(config: Config, faces: &Faces, apply: bool) -> Result<Otus> {
    let pid = std::process::id();
    let holder = format!("otus process {pid}, http://{}", faces.http_address()?);
    Otus::builder().config(config).holder(holder).apply(apply).open().await
}

/// Bound sockets that nobody answers on yet.
#[derive(Debug)]
pub(crate) struct Faces {
    postgres: TcpListener,
    http: TcpListener,
    tls: Option<Arc<Tls>>,
}

/// Faces that answer.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) postgres: SocketAddr,
    pub(crate) http: SocketAddr,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Faces {
    /// Binds both addresses. Where `is_trusted`, on any network; otherwise only on this machine.
    pub(crate) async fn bind(postgres: &str, http: &str, is_trusted: bool) -> Result<Self> {
        Ok(Self {
            postgres: bind(postgres, "postgres", is_trusted).await?,
            http: bind(http, "http", is_trusted).await?,
            tls: None,
        })
    }

    /// Offers encryption, or requires it.
    pub(crate) fn with_tls(mut self, tls: Option<Arc<Tls>>) -> Self {
        self.tls = tls;
        self
    }

    /// Binds both ports on loopback, or the next free ones.
    pub(crate) fn bind_near(postgres: u16, http: u16) -> Result<Self> {
        let (postgres, http) = (bind_near(postgres)?, bind_near(http)?);
        Ok(Self { postgres, http, tls: None })
    }

    pub(crate) fn http_address(&self) -> Result<SocketAddr> {
        address(&self.http)
    }

    /// Whether others than this machine can reach them.
    fn leave_this_machine(&self) -> bool {
        [&self.postgres, &self.http]
            .iter()
            .any(|listener| listener.local_addr().is_ok_and(|a| !a.ip().is_loopback()))
    }

    /// Begins to answer, until `shutdown` is cancelled.
    pub(crate) fn serve(self, otus: &Otus, shutdown: &CancellationToken) -> Serving {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let postgres = self.postgres.local_addr().unwrap_or(unknown);
        let http = self.http.local_addr().unwrap_or(unknown);
        let (tls, connections_max) = (self.tls.clone(), otus.config().server.connections);
        let options = WireOptions { grace: GRACE, tls: tls.clone(), connections_max };
        let (engine, accounts) = (Arc::clone(otus.sql()), Arc::clone(otus.accounts()));
        let wire = pgwire::serve(self.postgres, engine, accounts, options, shutdown.child_token());
        let web = http::serve(self.http, otus.clone(), tls, shutdown.child_token());
        let web = async move {
            if let Err(error) = web.await {
                tracing::error!(%error, "http ended");
            }
        };
        Serving { postgres, http, tasks: vec![tokio::spawn(wire), tokio::spawn(web)] }
    }
}

/// Ends the faces, then the engine. Whether everything was durable within the deadline.
pub(crate) async fn stop(
    otus: Otus,
    serving: Serving,
    shutdown: &CancellationToken,
    deadline: Duration,
) -> bool {
    let started = Instant::now();
    shutdown.cancel();
    let aborts: Vec<_> = serving.tasks.iter().map(|t| t.abort_handle()).collect();
    let ended = futures::future::join_all(serving.tasks);
    if tokio::time::timeout(GRACE + Duration::from_secs(2), ended).await.is_err() {
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
    }
    let left = deadline.saturating_sub(started.elapsed()).max(Duration::from_secs(1));
    let flushed = otus.close(left).await;
    ServerStopped { elapsed: started.elapsed(), flushed }.emit();
    flushed
}

/// Reads the certificate again whenever SIGHUP says that it was renewed.
async fn renew(tls: Arc<Tls>) {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
        while hangups.recv().await.is_some() {
            match tls.reload() {
                Ok(()) => tracing::info!("the certificate was read again"),
                Err(error) => tracing::error!(%error, "the certificate was not renewed"),
            }
        }
    }
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "signals cannot be heard");
        std::future::pending::<()>().await;
    }
}

/// Connections that may wait to be accepted; the system may have a lower bound (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;

async fn bind(text: &str, face: &str, is_trusted: bool) -> Result<TcpListener> {
    let cannot = |e| Error::unavailable(format!("{face}: cannot listen on {text}")).with_source(e);
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(text).await.map_err(cannot)?.collect();
    if !is_trusted && addresses.iter().any(|a| !a.ip().is_loopback()) {
        return Err(Error::invalid(format!("{face}: {text} is not a loopback address")).with_hint(
            "without [users] everybody who can reach it may do everything: declare users, or say \
                 --trust-network to listen there all the same",
        ));
    }
    let mut failed = None;
    for address in addresses {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(e) => failed = Some(e),
        }
    }
    let failed = failed.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into());
    Err(cannot(failed)
        .with_hint("another process may listen there; choose another port in [server]"))
}

/// Listens with room for many clients at once: those for whom there is none would try again after a second.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As a server that was stopped leaves connections behind.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind_near(port: u16) -> Result<TcpListener> {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let mut last = None;
    for port in (port..=port.saturating_add(99)).chain([0]) {
        match listen((loopback, port).into()) {
            Ok(listener) => return Ok(listener),
            Err(e) => last = Some(e),
        }
    }
    let error = Error::unavailable(format!("no port near {port} is free"));
    Err(match last {
        Some(e) => error.with_source(e),
        None => error,
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|e| Error::unavailable("a socket has no address").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_gives_the_next_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let faces = Faces::bind_near(port, port).unwrap();
        let (postgres, http) =
            (faces.postgres.local_addr().unwrap(), faces.http.local_addr().unwrap());
        assert!(postgres.port() != port && http.port() != port && postgres != http);
        let error =
            Faces::bind(&format!("127.0.0.1:{port}"), "127.0.0.1:0", false).await.unwrap_err();
        assert!(error.to_string().contains("postgres: cannot listen on 127.0.0.1"), "{error}");
        let error = Faces::bind("0.0.0.0:0", "127.0.0.1:0", false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}
