//! The integration tests, in one binary: real Kafka, the real `otus`, real clients. Each module is one promise.

mod arrows;
mod bad_records;
mod buckets;
mod demo;
mod disk_full;
mod exactly_once;
mod faces;
mod functions;
mod golden;
mod kafka_append;
mod kafka_faults;
mod kafka_secured;
mod keyed;
mod operator;
mod peer;
mod power_cut;
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
