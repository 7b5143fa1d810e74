//! Tables as the planner sees them, over one pinned snapshot: raw rows, rollup states and their finished
//! views, system tables. Files are pruned here on what the log knows of them, without opening one.

mod blocks;
mod bounds;
mod guarded;
mod hot;
mod indexed;
mod keyed;
mod keyed_source;
mod prune;
mod raw;
mod rollup;
mod scan;
mod system;

pub(crate) use blocks::{Found, Span, has_times};
pub(crate) use guarded::GuardedExec;
pub(crate) use keyed::{KeyedRows, LOOKUP_KEYS};
pub(crate) use raw::RawTable;
pub(crate) use rollup::{StatesTable, view};
pub(crate) use system::{SYSTEM_SCHEMA, SYSTEM_TABLES, memory, system_table};
