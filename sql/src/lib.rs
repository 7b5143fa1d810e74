//! SQL over an Otus dataset: one planner with two faces, SQL sessions and pull patterns.
//!
//! ```text
//!  text ─► statement (allow-list, depth limit) ─► session (settings, pin) ─► plan ─► optimizer ─► rows
//!                                                     │
//!             provider (raw, rollup views, system) ◄──┴──► one Snapshot per statement
//! ```
//!
//! Besides, [`SqlCompiler`] brings the expressions of declarations to life for `engine` and `ingest`. This
//! crate knows nothing of the network and never writes table data.

pub mod access;
mod aggregate;
mod analyze;
mod apart;
pub mod append;
mod arithmetic;
mod bounded;
mod cache;
pub mod calendar;
mod catalog;
mod columnless;
mod compile;
mod correlated;
mod datetime;
pub mod ddl;
mod distinct;
mod engine;
pub mod error;
mod few;
mod fractions;
mod function;
mod gapfill;
mod grouping;
mod kept;
mod keys;
mod known;
mod lanes;
mod late;
mod lateral;
mod limited;
mod lists;
mod lossy;
mod merged;
mod named;
mod negation;
mod observer;
pub mod outcome;
mod physical;
pub mod placeholders;
mod plan;
mod planning;
mod provider;
pub mod pull;
mod queries;
mod quick;
mod rewrite;
mod session;
mod sessions;
mod single;
mod skipped;
mod sliding;
mod sorted;
mod spill;
mod star;
mod state;
mod statement;
mod strict;
mod whole;
mod wide;
mod windows;
mod zone;

pub use cache::CacheFigures;
pub use compile::SqlCompiler;
pub use engine::{SqlConfig, SqlEngine};
pub use error::{SqlError, SqlResult};
pub use function::{instant_from_text, jsonb_text};
pub use named::{
    NamedQueryDef, NamedQueryInfo, ParameterDef, QueryPlace, QueryProblem, check_queries,
};
pub use observer::{Ended, StatementObserver};
pub use outcome::{
    CopyColumns, CopyFormat, CopyKind, Description, Outcome, Parameter, Report, RowTag,
    TransactionStatus,
};
pub use session::{
    CancelHandle, CopyIn, PinnedState, Provenance, SERVER_VERSION, Session, SessionOptions,
};
pub use sessions::Stopper;
pub use statement::{Journey, Statement, Travel};

#[cfg(test)]
mod tests;
