//! The server: `Otus::open` wires storage, ingestion and SQL together; the binary `otus` is a thin shell
//! around it.
//!
//! ```text
//!  otus.toml ─► config ─► Otus (dataset + ingest + sql) ─┬─► pgwire   psql, drivers
//!                                                        └─► http     pull, sql, append, metrics
//!  cli ─► demo | serve | check | infer | inspect | …          client   otus sql
//! ```
//!
//! Nothing here decides what the other three crates could decide.

mod appends;
pub mod auth;
pub mod cli;
pub mod client;
pub mod config;
mod ddl;
pub mod demo;
pub mod http;
mod infer;
mod keyed;
pub mod memory;
mod otus;
pub mod pgwire;
pub mod telemetry;

/// Whether a client is on this machine: where no users are declared, only such may declare tables.
pub(crate) fn is_local(peer: Option<std::net::SocketAddr>) -> bool {
    peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
}

pub use keyed::{RowPlace, RowWrite, WriteError};
pub use otus::{Otus, OtusBuilder, open_read_only};
