//! `/metrics`: what the engine and ingestion know of themselves, read at the moment of asking, and what the
//! faces have counted.

use std::sync::atomic::{AtomicU64, Ordering};

use ::metrics::{counter, gauge};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use otus_engine::compiled::CompiledTable;
use otus_engine::log::manifest::Manifest;

use super::Shared;
use super::error::HttpError;
use crate::otus::Otus;
use crate::telemetry;

pub(super) async fn metrics(State(shared): State<Shared>) -> Result<Response, HttpError> {
    let Some(handle) = telemetry::metrics() else {
        let message = "metrics are not available in this process";
        return Err(HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message));
    };
    observe(&shared.otus);
    handle.run_upkeep();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], handle.render()).into_response())
}

/// Brings the registry up to date.
fn observe(otus: &Otus) {
    let dataset = otus.dataset();
    let counters = dataset.counters();
    let total = |name: &'static str, value: &AtomicU64| {
        counter!(name).absolute(value.load(Ordering::Relaxed));
    };
    total("otus_rows_appended_total", &counters.rows_appended);
    total("otus_flushes_total", &counters.flushes);
    total("otus_rows_flushed_total", &counters.rows_flushed);
    total("otus_bytes_flushed_total", &counters.bytes_flushed);
    total("otus_flush_failures_total", &counters.flush_failures);
    total("otus_compactions_total", &counters.compactions);
    total("otus_backfill_steps_total", &counters.backfills);
    total("otus_rows_backfilled_total", &counters.rows_backfilled);
    total("otus_files_deleted_total", &counters.files_deleted);
    let counters = otus.ingest().counters();
    total("otus_records_read_total", &counters.records_read);
    total("otus_record_bytes_read_total", &counters.bytes_read);
    total("otus_rows_kept_total", &counters.rows_kept);
    total("otus_records_filtered_total", &counters.records_filtered);
    total("otus_records_rejected_total", &counters.records_rejected);
    total("otus_batches_published_total", &counters.batches_published);
    total("otus_partitions_reopened_total", &counters.partitions_reopened);
    let snapshot = dataset.snapshot();
    gauge!("otus_commit_number").set(float(snapshot.manifest().number));
    gauge!("otus_hot_rows").set(float(snapshot.hot_set().rows() as u64));
    gauge!("otus_hot_bytes").set(float(snapshot.hot_set().bytes() as u64));
    gauge!("otus_keyed_memory_limit_bytes").set(float(dataset.flush_limits().keyed_bytes as u64));
    gauge!("otus_query_memory_bytes").set(float(otus.sql().memory_reserved() as u64));
    let cache = otus.sql().cache_figures();
    counter!("otus_result_cache_hits_total").absolute(cache.hits);
    counter!("otus_result_cache_misses_total").absolute(cache.misses);
    gauge!("otus_result_cache_bytes").set(float(cache.bytes as u64));
    gauge!("otus_states_cache_bytes").set(float(cache.states_bytes as u64));
    gauge!("otus_rows_cache_bytes").set(float(cache.rows_bytes as u64));
    gauge!("otus_result_cache_answers").set(float(cache.answers as u64));
    if let Some(free) = snapshot.storage().free_bytes() {
        gauge!("otus_disk_free_bytes").set(float(free));
    }
    for table in snapshot.tables() {
        let name = table.def.qualified_name();
        let files = snapshot.raw_files(table.id);
        let hot: u64 = snapshot.hot(table.id).iter().map(|c| c.rows() as u64).sum();
        let mut rows: u64 = files.iter().map(|f| f.rows).sum::<u64>() + hot;
        if let Some(keyed) = snapshot.keyed(table.id) {
            rows = keyed.rows() as u64;
            let tombstones = float(keyed.tombstones() as u64);
            gauge!("otus_keyed_deletions", "table" => name.clone()).set(tombstones);
            let bytes = float(keyed.bytes() as u64);
            gauge!("otus_keyed_memory_bytes", "table" => name.clone()).set(bytes);
            let spilled = float(keyed.spilled_bytes());
            gauge!("otus_keyed_spilled_bytes", "table" => name.clone()).set(spilled);
        }
        observe_rollups(snapshot.manifest(), table);
        let bytes: u64 = files.iter().map(|f| f.bytes).sum();
        gauge!("otus_table_rows", "table" => name.clone()).set(float(rows));
        gauge!("otus_table_files", "table" => name.clone()).set(float(files.len() as u64));
        gauge!("otus_table_bytes", "table" => name).set(float(bytes));
    }
    let trouble = otus.dataset().trouble();
    for partition in otus.ingest().status() {
        let number = partition.partition.map(|p| p.to_string()).unwrap_or_default();
        let labels =
            [("table", partition.table_name), ("topic", partition.topic), ("partition", number)];
        gauge!("otus_ingest_lag_records", &labels).set(signed(partition.lag.unwrap_or(0)));
        gauge!("otus_ingest_position", &labels).set(signed(partition.position.unwrap_or(0)));
        gauge!("otus_ingest_records_per_second", &labels).set(partition.rate);
        let is_healthy =
            trouble.is_none() && matches!(partition.state.name(), "running" | "finished");
        gauge!("otus_ingest_healthy", &labels).set(f64::from(u8::from(is_healthy)));
    }
}

/// How much of its table each rollup holds, 0 to 1; nothing where that cannot be told.
fn observe_rollups(manifest: &Manifest, table: &CompiledTable) {
    let Some(state) = manifest.tables.get(&table.id) else { return };
    for rollup in &table.rollups {
        let progress = manifest.rollups.get(&rollup.id).map(|r| r.progress(state));
        if let Some(covered) = progress.and_then(|p| p.fraction()) {
            let labels =
                [("table", table.def.qualified_name()), ("rollup", rollup.def.name.clone())];
            gauge!("otus_rollup_covered_ratio", &labels).set(covered);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a double; 2^53 is far")]
fn float(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a double; 2^53 is far")]
fn signed(n: i64) -> f64 {
    n as f64
}
