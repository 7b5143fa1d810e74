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
pub mod data;
pub mod edn;
pub mod eval;
pub mod json;
pub mod params;
pub mod pattern;
pub mod problem;
pub mod shape;
pub mod spelling;
pub mod step;
pub mod text;
pub mod value;

#[cfg(test)]
mod tests;

pub use answer::Encoding;
pub use data::pull_data;
pub use value::Value;
