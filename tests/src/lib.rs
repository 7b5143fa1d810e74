//! What the integration tests stand on: one Kafka broker per run, a local S3 server, `otus` processes that are
//! killed and started again, psql, and an independent reader of Parquet files.
//!
//! ```text
//!   test ──► Broker (java)      Objects (moto)      Otus (release binary)      Python (duckdb, pyarrow)
//!                └──────────────────┴─────────────────────┴── ids held by Leash: all end with the test run
//! ```
//!
//! Everything runs on loopback, on free ports and in temporary folders. A component that is not there makes a
//! test [`skip`], with a reason; with `CI=true` it makes it fail. What no installer brings is skipped everywhere.

pub mod broker;
pub mod clients;
pub mod events;
pub mod grammar;
pub mod leash;
pub mod objects;
pub mod otus;
pub mod paths;
pub mod postgres;
pub mod process;
pub mod python;
pub mod reference;
pub mod secured;
pub mod skip;
pub mod terminal;
pub mod wiki;
