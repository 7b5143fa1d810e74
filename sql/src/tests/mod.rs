//! Sessions over a dataset in memory.

mod arithmetic;
mod catalog;
mod queries;
mod sessions;
pub(crate) mod world;
