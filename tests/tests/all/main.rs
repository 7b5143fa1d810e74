//! The integration tests, in one binary: real Kafka, the real `otus`, real clients. Each module is one promise.

mod arrows;
mod bad_records;
mod disk_full;
mod exactly_once;
mod faces;
mod golden;
mod kafka_append;
mod kafka_faults;
mod kafka_secured;
mod keyed;
mod operator;
mod pull_page;
mod retention;
mod robust;
mod samples;
mod shutdown;
mod slt;
mod snapshots;
mod tidy;
mod types;
mod wikiticker;
