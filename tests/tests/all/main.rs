//! The integration tests, in one binary: real Kafka, the real `otus`, real clients. Each module is one promise.

mod arrows;
mod bad_records;
mod disk_full;
mod exactly_once;
mod faces;
mod golden;
mod kafka_faults;
mod keyed;
mod samples;
mod slt;
mod snapshots;
mod tidy;
mod types;
mod wikiticker;
