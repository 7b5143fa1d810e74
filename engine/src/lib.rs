//! The Otus engine: catalogue, commit log, hot rows, segments, rollups, maintenance and snapshots.
//!
//! ```text
//!  appended batches ─► hot rows ─► flush ─► segments + rollups + rejected + positions ─► ONE commit
//!                         │                                                               │
//!                         └──────────────► Version (one pointer) ◄────────────────────────┘
//! ```
//!
//! The engine knows nothing of SQL text, sessions, Kafka, sockets or the wall clock: expressions come
//! compiled through [`expr::ExpressionCompiler`], time comes through [`clock::Clock`].

pub mod catalog;
pub mod clock;
pub mod compiled;
pub mod coverage;
pub mod dataset;
pub mod error;
pub mod expr;
pub mod failpoint;
pub mod hot;
pub mod keyed;
pub mod limits;
pub mod log;
pub mod maintain;
pub mod order;
pub mod position;
pub mod reading;
pub mod restriction;
pub mod rollup;
pub mod segment;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod time;
pub mod types;
pub mod verify;

pub use error::{Error, ErrorKind, Result};
