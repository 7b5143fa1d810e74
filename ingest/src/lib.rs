//! Ingestion: event logs (Kafka, local, file), decoders, and the pipeline from bytes to appended batches.

pub mod decode;
pub mod log;
pub mod record;
