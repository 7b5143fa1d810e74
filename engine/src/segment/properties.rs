//! How columns are encoded: fast at level 0, small from level 1 on.

use arrow::datatypes::{DataType, Field, Schema};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::SegmentOptions;
use crate::catalog::{BUCKET_COLUMN, INGESTED_AT_COLUMN, OFFSET_COLUMN};
use crate::error::Result;
use crate::limits::ROW_GROUP_ROWS;

/// zstd level of compacted segments.
const ZSTD_LEVEL: i32 = 1;
/// Chance that a bloom filter says yes wrongly.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;
/// Bytes of a text bound that are kept.
pub(super) const TEXT_BOUND_BYTES: usize = 64;
/// Values that an encoder takes at once.
const WRITE_BATCH_ROWS: usize = 4096;

/// The writer's properties for rows of this schema.
pub(super) fn writer_properties(
    schema: &Schema,
    options: &SegmentOptions,
) -> Result<WriterProperties> {
    let compacted = options.level > 0;
    let compression = match compacted {
        true => Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?),
        false => Compression::LZ4_RAW,
    };
    let statistics = if compacted { EnabledStatistics::Page } else { EnabledStatistics::Chunk };
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("otus ", env!("CARGO_PKG_VERSION")).to_string())
        .set_compression(compression)
        .set_statistics_enabled(statistics)
        .set_statistics_truncate_length(Some(TEXT_BOUND_BYTES))
        .set_column_index_truncate_length(Some(TEXT_BOUND_BYTES))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_write_batch_size(WRITE_BATCH_ROWS)
        .set_sorting_columns(Some(sorting_columns(schema, options)));
    for field in schema.fields() {
        builder = column_properties(builder, field, options);
    }
    Ok(builder.build())
}

fn column_properties(
    builder: WriterPropertiesBuilder,
    field: &Field,
    options: &SegmentOptions,
) -> WriterPropertiesBuilder {
    let name = field.name().as_str();
    let path = ColumnPath::from(name);
    let rising = name == options.time_column
        || [OFFSET_COLUMN, INGESTED_AT_COLUMN, BUCKET_COLUMN].contains(&name);
    let long = matches!(field.data_type(), DataType::Int64 | DataType::Timestamp(_, _));
    let mut builder = builder;
    if rising && long {
        builder = builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
    }
    if name == options.time_column {
        // Fresh rows, too, are mostly asked for by a range of time.
        builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page);
    }
    if is_opaque(field.data_type()) {
        builder = builder.set_column_dictionary_enabled(path.clone(), false);
    }
    if !writer_has_statistics(field, options) {
        builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
    }
    if options.bloom.iter().any(|b| b == name) {
        builder = builder
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path, BLOOM_FALSE_POSITIVES);
    }
    builder
}

/// Whether the Parquet file itself holds bounds of this column: not of sketches and other bytes, and of text
/// only where the order makes them narrow, since gathering them is a good part of writing.
pub(super) fn writer_has_statistics(field: &Field, options: &SegmentOptions) -> bool {
    match field.data_type() {
        DataType::Utf8 | DataType::Utf8View => options.sorted_by.first() == Some(field.name()),
        other => !is_opaque(other),
    }
}

fn is_opaque(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::BinaryView)
}

/// Sorting columns are told by leaf; a sort key behind a nested column cannot be told, nor those after it.
fn sorting_columns(schema: &Schema, options: &SegmentOptions) -> Vec<SortingColumn> {
    let mut sorting = Vec::new();
    for name in &options.sorted_by {
        let Ok(index) = schema.index_of(name) else { break };
        if schema.fields()[..=index].iter().any(|f| has_many_leaves(f.data_type())) {
            break;
        }
        let Ok(column_idx) = i32::try_from(index) else { break };
        sorting.push(SortingColumn { column_idx, descending: false, nulls_first: true });
    }
    sorting
}

/// Lists of scalars have one leaf, so leaf and field numbers still agree behind them.
fn has_many_leaves(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => item.data_type().is_nested(),
        other => other.is_nested(),
    }
}
