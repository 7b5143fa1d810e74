//! demo
mod event;
pub(crate) mod generator;
mod rhythm;
