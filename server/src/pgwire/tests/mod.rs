//! Clients against a server in this process, over an empty dataset in memory: one that knows Postgres, and one that
//! sends bytes.

mod driver;
mod raw;

use std::net::SocketAddr;

use tokio::task::{AbortHandle, JoinHandle};
use tokio_postgres::{Client, NoTls};

use super::*;
use crate::Otus;

/// A query that never ends, and never sends a row.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) AS t(v)";
/// A query that sends rows for ever.
const FLOOD: &str = "SELECT v FROM generate_series(1, 1000000000000) AS t(v)";

/// A server on a free port.
struct Serving {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    otus: Otus,
}

impl Serving {
    async fn start(connections_max: usize) -> Self {
        Self::open(Otus::builder().in_memory(), connections_max).await
    }

    /// One whose clock stands at `clock`.
    async fn start_at(clock: Arc<dyn otus_engine::clock::Clock>) -> Self {
        Self::open(Otus::builder().in_memory().clock(clock), 4).await
    }

    async fn open(builder: crate::OtusBuilder, connections_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let grace = Duration::from_millis(300);
        let options = WireOptions { connections_max, grace, tls: None };
        let otus = builder.open().await.unwrap();
        let engine = Arc::clone(otus.sql());
        let accounts = Arc::clone(otus.accounts());
        let task = tokio::spawn(serve(listener, engine, accounts, options, shutdown.clone()));
        Self { address, shutdown, task, otus }
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        self.connect_with("").await
    }

    async fn connect_with(&self, settings: &str) -> Result<Client, tokio_postgres::Error> {
        self.connect_apart(settings).await.map(|(client, _)| client)
    }

    /// A client, and the task that holds its socket.
    async fn connect_apart(
        &self,
        settings: &str,
    ) -> Result<(Client, AbortHandle), tokio_postgres::Error> {
        let port = self.address.port();
        let text = format!("host=127.0.0.1 port={port} user=ann dbname=otus {settings}");
        let (client, connection) = tokio_postgres::connect(&text, NoTls).await?;
        Ok((client, tokio::spawn(connection).abort_handle()))
    }

    /// Ends it; it must come to an end by itself.
    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap();
        self.otus.close(Duration::from_secs(5)).await;
    }
}

/// The SQLSTATE of an error.
#[track_caller]
fn code<T: std::fmt::Debug>(result: Result<T, tokio_postgres::Error>) -> String {
    let e = result.unwrap_err();
    e.code().unwrap_or_else(|| panic!("not an error of the server: {e:?}")).code().to_owned()
}
