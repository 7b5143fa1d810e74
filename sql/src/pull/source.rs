//! What is known of a table's rows before a query runs.

use otus_engine::compiled::CompiledTable;
use otus_engine::snapshot::Snapshot;

/// Times of the oldest and the newest raw row.
pub(super) fn time_range(snapshot: &Snapshot, table: &CompiledTable) -> Option<(i64, i64)> {
    let files = snapshot.raw_files(table.id).iter().filter_map(|file| file.time);
    let hot = snapshot.hot(table.id).iter().filter_map(|chunk| chunk.time_range());
    files.chain(hot).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))
}
