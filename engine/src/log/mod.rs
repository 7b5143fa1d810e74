//! The commit log: what a dataset consists of, moved in atomic steps.
//! `op` names the steps, `manifest` is the state they add up to and `apply` how one follows another;
//! `format` is their bytes, `replay` reads the log, `commit` writes it.
//!
//! ```text
//!  _log/00000000000000000064.checkpoint ─► manifest 64 ─┐
//!  _log/00000000000000000065.json ──────────────────────┴► manifest 65 ─► …
//! ```

mod apply;
mod commit;
pub mod format;
pub mod manifest;
pub mod op;
mod replay;

pub use apply::named_at_ms;
pub use commit::{CommitLog, Committed, LogSettings};
pub use replay::{LOG_FOLDER, checkpoint_path, entry_path, read_entries, read_manifest};

#[cfg(test)]
mod tests;
