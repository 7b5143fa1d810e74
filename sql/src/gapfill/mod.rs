//! `time_bucket_gapfill` with `locf` and `interpolate`: a group of a query gets a row for every bucket of a
//! range of time.
//!
//! ```text
//!  Projection: bucket, key, locf(avg(x))          Projection: bucket, key, __fill0
//!    Aggregate: time_bucket_gapfill(…), key   ─►    GapFill: range, __fill0 carries on
//!      Filter: ts >= a AND ts < b                     Projection: …, avg(x) AS __fill0
//!                                                       Aggregate: time_bucket(…), key
//!                                                         Filter: ts >= a AND ts < b
//! ```
//!
//! The functions are names only: a rule takes them out of the plan before anything runs. What fills which
//! gap is decided in [`slots`], which pull shares.

mod exec;
mod function;
mod node;
mod range;
mod rule;
mod series;
mod slots;

pub(crate) use function::all;
pub(crate) use node::GapFillPlanner;
pub(crate) use rule::GapFillRule;
pub(crate) use slots::{Slot, slots};

/// Most buckets of one series: a year of half minutes.
const BUCKETS_MAX: usize = 1_100_000;
