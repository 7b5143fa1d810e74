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

pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod http;
mod infer;
mod keyed;
pub mod memory;
mod otus;
pub mod pgwire;
pub mod telemetry;

pub use keyed::{RowPlace, RowWrite, WriteError};
pub use otus::{Otus, OtusBuilder, open_read_only};
