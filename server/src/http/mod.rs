//! http
pub(crate) mod render;
