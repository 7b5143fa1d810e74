//! The commit log: what a dataset consists of, moved in atomic steps.
//! `op` names the steps, `manifest` is the state they add up to.

pub mod manifest;
pub mod op;
