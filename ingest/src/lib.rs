//! Ingestion: event logs (Kafka, local, file), decoders, and the pipeline from bytes to appended batches.
//!
//! ```text
//!  kafka ─┐
//!  local ─┼─► log::EventLog ─► pipeline ─► decode ─► batches, rejected records, positions ─► Dataset::append
//!  file ──┘
//! ```
//!
//! Knows nothing of queries. The Kafka client has its one home in [`log::kafka`], the embedded store in
//! [`log::local`].

pub mod decode;
pub mod log;
pub mod pipeline;
pub mod record;
#[cfg(test)]
pub(crate) mod testing;

pub use log::append::{AppendError, AppendFault, AppendRecord, AppendResult, Appended};
pub use log::memory::MemoryLog;
pub use pipeline::{
    Ingest, IngestConfig, IngestCounters, PartitionState, PartitionStatus, ResetTo,
};
