//! The Postgres wire: connections, the simple and the extended protocol, COPY, cancel requests.
//!
//! ```text
//!  socket ─► inbox ─► frame ─► connection ─┬─ simple ──► answer ─► Session::execute ─► batches ─┐
//!                       (watch: cancel,    └─ extended ─► portal ──────┘                        │
//!                        gone, shutdown)                                                        ▼
//!  socket ◄─ outbox ◄───────────────────────────────────────────────── encode, row by row ◄─ rows
//! ```
//!
//! One session per connection, one batch in memory per running statement. The only home of pgwire and
//! arrow-pg; it knows nothing of SQL text. The messages a client sends are read here, with every length
//! checked; pgwire's reader trusts lengths and would panic.

mod answer;
mod cancel;
mod connection;
mod copy;
mod copy_in;
mod encode;
mod entrance;
mod error;
mod extended;
mod frame;
mod io;
mod limits;
mod login;
mod params;
mod places;
mod rows;
mod startup;
mod types;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use otus_sql::{SessionOptions, SqlEngine};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::cancel::CancelRegistry;
use self::connection::{Connection, Stop};
use self::entrance::Entered;
use self::error::WireError;
use self::places::Places;
use self::startup::Hello;
use crate::auth::{Accounts, Pending, Tls};

/// Settings of the Postgres wire.
#[derive(Debug, Clone)]
pub struct WireOptions {
    /// Most sessions at a time; further clients are refused with 53300.
    pub connections_max: usize,
    /// Time that running statements have to end when the server stops.
    pub grace: Duration,
    /// With what connections are encrypted; none = they are not.
    pub tls: Option<Arc<Tls>>,
}

impl Default for WireOptions {
    fn default() -> Self {
        Self { connections_max: 100, grace: Duration::from_secs(5), tls: None }
    }
}

/// What all connections share.
struct Server {
    engine: Arc<SqlEngine>,
    registry: Arc<CancelRegistry>,
    places: Arc<Places>,
    pending: Arc<Pending>,
    accounts: Arc<Accounts>,
    tls: Option<Arc<Tls>>,
    stop: Stop,
}

/// Serves clients until `shutdown` is cancelled: then takes no more, ends idle sessions at once and
/// running statements after a grace. Where no users are declared everybody is let in: the caller decides on which
/// address that is acceptable.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<SqlEngine>,
    accounts: Arc<Accounts>,
    options: WireOptions,
    shutdown: CancellationToken,
) {
    let server = Arc::new(Server {
        engine,
        registry: Arc::default(),
        places: Places::new(options.connections_max),
        pending: Pending::new(limits::PENDING_MAX),
        accounts,
        tls: options.tls,
        stop: Stop { graceful: shutdown.clone(), forced: CancellationToken::new() },
    });
    let sockets_max = options.connections_max + limits::EXTRA_CONNECTIONS;
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = tasks.join_next() => report(ended),
            accepted = listener.accept(), if tasks.len() < sockets_max => match accepted {
                Ok((socket, _)) => {
                    tasks.spawn(Arc::clone(&server).connection(socket));
                }
                Err(e) => {
                    tracing::warn!(error = %e, "postgres connection could not be accepted");
                    // Out of file handles, most likely: some must be given back first.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let drained = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(options.grace, drained).await.is_err() {
        server.stop.forced.cancel();
        let told = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(1), told).await.is_err() {
            tasks.shutdown().await;
        }
    }
}

/// A bug in one connection ends that connection; it must be seen, not felt by others.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(e) = ended
        && e.is_panic()
    {
        tracing::error!(error = %e, "postgres connection ended by a bug");
    }
}

impl Server {
    async fn connection(self: Arc<Self>, socket: TcpStream) {
        let peer = socket.peer_addr().ok();
        if let Err(e) = self.converse(socket, peer).await {
            tracing::debug!(?peer, sqlstate = %e.sqlstate, error = %e.message, "postgres connection ended");
        }
    }

    async fn converse(&self, socket: TcpStream, peer: Option<SocketAddr>) -> Result<(), WireError> {
        let waiting = self.pending.enter();
        let entered = tokio::select! {
            biased;
            // Many wait: whoever has kept silent longest is told nothing, which would take time too.
            () = waiting.evicted().cancelled() => return Ok(()),
            entered = tokio::time::timeout(limits::STARTUP_TIMEOUT, self.enter(socket, peer)) => entered,
        };
        drop(waiting);
        let Some(entered) = entered.unwrap_or(Ok(None))? else { return Ok(()) };
        let Entered { inbox, mut outbox, hello, identity, origin } = entered;
        let _place = match self.places.enter(&hello.user, identity.as_deref()) {
            Ok(place) => place,
            Err(e) => return outbox.farewell(e).await,
        };
        let registered = self.registry.register(hello.secret_bytes);
        let observer = self.accounts.observer(&hello.user, identity.as_ref(), origin);
        let session = self.engine.session(SessionOptions {
            user: hello.user,
            database: hello.database,
            backend_pid: registered.pid(),
            settings: hello.settings,
            is_local: crate::is_local(peer),
            identity,
            observer,
            client: peer,
            stopper: Some(registered.stopper()),
        });
        Connection::new(inbox, outbox, session, registered).run(&self.stop).await
    }

    /// There is one database. Clients that name none send the user's name, which is taken for it, and tools begin with
    /// `postgres`, which every server of PostgreSQL has.
    fn database(&self, hello: &Hello) -> Result<String, WireError> {
        let only = &self.engine.config().database;
        let known = ["", only, "postgres", &hello.user];
        if known.contains(&hello.database.as_str()) {
            return Ok(only.clone());
        }
        Err(WireError::fatal("3D000", format!("database \"{}\" does not exist", hello.database))
            .with_hint(format!("the database is \"{only}\"")))
    }
}

#[cfg(test)]
mod tests;
