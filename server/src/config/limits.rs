//! The `[limits]` section: when hot rows are written, when reading waits, and how long what nobody needs is kept.

use std::path::PathBuf;

use otus_engine::dataset::FlushLimits;

use super::QueryConfig;
use super::tree::{Node, Section};

/// Reads the section over the defaults.
pub(super) fn limits(section: &Section<'_>, limits: &mut FlushLimits, query: &mut QueryConfig) {
    duration(section, "flush_age", &mut limits.age_us);
    duration(section, "flush_small_age", &mut limits.age_small_us);
    count(section, "flush_small_rows", &mut limits.small_rows);
    memory(section, "flush_table", &mut limits.table_bytes);
    memory(section, "flush_all", &mut limits.all_bytes);
    count(section, "compact_files", &mut limits.compact_files);
    count(section, "pause_files", &mut limits.pause_files);
    count(section, "backfill_rows", &mut limits.backfill_rows);
    size(section, "disk_reserve", &mut limits.disk_reserve_bytes);
    size(section, "rejected", &mut limits.rejected_bytes);
    duration(section, "rejected_age", &mut limits.rejected_age_us);
    duration(section, "collect_grace", &mut limits.collect_grace_us);
    memory(section, "keyed_memory", &mut limits.keyed_bytes);
    limits.keyed_folder = section.take("keyed_folder").and_then(|n| n.text()).map(PathBuf::from);
    duration(section, "keyed_deletions", &mut limits.keyed_delete_us);
    query.result_cache_bytes = section.take("result_cache").as_ref().and_then(Node::size_bytes);
    query.rows_cache_bytes = section.take("rows_cache").as_ref().and_then(Node::size_bytes);
    query.states_cache_bytes = section.take("states_cache").as_ref().and_then(Node::size_bytes);
    if limits.compact_files < 2 {
        section.error_hint("compact_files is less than 2", "a file is merged with another one");
    }
    if limits.pause_files <= limits.compact_files {
        let hint = "reading waits for compaction, so compaction must begin earlier";
        section.error_hint("pause_files is not more than compact_files", hint);
    }
    if limits.backfill_rows == 0 {
        section
            .error_hint("backfill_rows is 0", "a rollup is filled by at least one row at a time");
    }
    if limits.all_bytes < limits.table_bytes {
        section.error_hint("flush_all is less than flush_table", "give all tables more than one");
    }
    section.finish();
}

fn duration(section: &Section<'_>, key: &'static str, target: &mut i64) {
    if let Some(us) = section.take(key).as_ref().and_then(Node::duration_us) {
        *target = us;
    }
}

fn size(section: &Section<'_>, key: &'static str, target: &mut u64) {
    if let Some(bytes) = section.take(key).as_ref().and_then(Node::size_bytes) {
        *target = bytes;
    }
}

fn memory(section: &Section<'_>, key: &'static str, target: &mut usize) {
    let bytes = section.take(key).as_ref().and_then(Node::size_bytes);
    if let Some(bytes) = bytes.and_then(|b| usize::try_from(b).ok()) {
        *target = bytes;
    }
}

fn count(section: &Section<'_>, key: &'static str, target: &mut usize) {
    let Some(node) = section.take(key) else { return };
    match node.integer().and_then(|n| usize::try_from(n).ok()) {
        Some(n) => *target = n,
        None => node.error(format!("{key} must be a whole number, 0 or more")),
    }
}
