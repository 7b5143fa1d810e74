//! Sessions over a dataset in memory.

mod access;
mod arithmetic;
mod cache;
mod catalog;
mod conditions;
mod cursors;
mod filtered;
mod functions;
mod fuzz;
mod grouping;
mod kept;
mod lanes;
mod memory;
mod named;
mod postgres;
mod promised;
mod queries;
mod quick;
mod rollups;
mod sessions;
mod wishes;
pub(crate) mod world;
mod zones;
