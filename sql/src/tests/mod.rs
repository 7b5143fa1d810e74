//! Sessions over a dataset in memory.

mod arithmetic;
mod catalog;
mod memory;
mod queries;
mod sessions;
pub(crate) mod world;
