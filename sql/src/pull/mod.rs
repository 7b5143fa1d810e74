//! The pull language: patterns that mirror the data wanted, over the same planner that answers SQL.
//!
//! ```text
//!  EDN text ──► Value ─────────────┐                        ┌─► document (`otus pull --data`)
//!  JSON text ─► Value ─► EDN form ─┴─► params ─► Pattern ───┤
//!                                                           └─► checked against the catalogue ─► branches ─► tree
//! ```
//!
//! Text, values, patterns and their evaluation know nothing of DataFusion: they stand alone and can be fuzzed.

pub mod answer;
mod branch;
pub mod compare;
mod convert;
mod cursor;
pub mod data;
pub mod edn;
pub mod eval;
mod fill;
pub mod filter;
pub mod json;
pub mod live;
pub mod metrics;
mod named;
pub mod params;
pub mod pattern;
mod plan;
pub mod problem;
pub mod query;
pub mod records;
mod request;
mod run;
pub mod shape;
mod source;
pub mod spelling;
pub mod table;
mod tag;
pub mod text;
pub mod top;
mod tree;
pub mod value;
pub mod values;

#[cfg(test)]
mod tests;

pub use answer::Encoding;
pub use data::pull_data;
pub use live::{Live, Update};
pub(crate) use plan::BucketIndex;
pub use request::{PullResponse, run, run_as};
pub use value::Value;
