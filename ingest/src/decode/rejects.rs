//! Rejected records: kept with topic, partition, offset, bytes and reason, in the commit of their positions.

use std::sync::Arc;

use arrow::array::{
    BinaryViewBuilder, Int32Builder, Int64Builder, RecordBatch, StringViewBuilder,
    TimestampMicrosecondBuilder,
};
use otus_engine::Result;
use otus_engine::limits::REJECTED_RECORD_BYTES;

use super::reason::Reason;
use crate::record::Record;
use otus_engine::dataset::rejected_schema;

/// Longest reason, and longest detail, bytes.
const REASON_BYTES: usize = 1_000;

/// A growing batch of rejected records.
#[derive(Debug)]
pub(crate) struct Rejects {
    table: String,
    tables: StringViewBuilder,
    topics: StringViewBuilder,
    partitions: Int32Builder,
    offsets: Int64Builder,
    timestamps: TimestampMicrosecondBuilder,
    keys: BinaryViewBuilder,
    payloads: BinaryViewBuilder,
    sizes: Int64Builder,
    reasons: StringViewBuilder,
    details: StringViewBuilder,
    ingested: TimestampMicrosecondBuilder,
    bytes: usize,
}

impl Rejects {
    pub(crate) fn new(table: String) -> Self {
        Self {
            table,
            tables: StringViewBuilder::new(),
            topics: StringViewBuilder::new(),
            partitions: Int32Builder::new(),
            offsets: Int64Builder::new(),
            timestamps: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            keys: BinaryViewBuilder::new(),
            payloads: BinaryViewBuilder::new(),
            sizes: Int64Builder::new(),
            reasons: StringViewBuilder::new(),
            details: StringViewBuilder::new(),
            ingested: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            bytes: 0,
        }
    }

    /// Bytes of keys and payloads held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps `record`; what is longer than the bound is cut, its size is kept.
    pub(crate) fn push(&mut self, record: &Record<'_>, reason: &Reason, ingested_at_us: i64) {
        let cut = |bytes: &[u8]| bytes.len().min(REJECTED_RECORD_BYTES);
        self.tables.append_value(&self.table);
        self.topics.append_value(record.topic);
        self.partitions.append_value(record.partition);
        self.offsets.append_value(record.offset);
        self.timestamps.append_option(record.timestamp_us);
        for (builder, bytes) in [(&mut self.keys, record.key), (&mut self.payloads, record.value)] {
            let kept = bytes.and_then(|b| b.get(..cut(b)));
            self.bytes += kept.map_or(0, <[u8]>::len);
            builder.append_option(kept);
        }
        let size = record.value.map_or(0, <[u8]>::len);
        self.sizes.append_value(i64::try_from(size).unwrap_or(i64::MAX));
        self.reasons.append_value(short(&reason.cause));
        self.details.append_option(reason.detail.as_deref().map(short));
        self.ingested.append_value(ingested_at_us);
    }

    /// The batch so far; empty again afterwards.
    pub(crate) fn take(&mut self) -> Result<RecordBatch> {
        self.bytes = 0;
        Ok(RecordBatch::try_new(
            rejected_schema(),
            vec![
                Arc::new(self.tables.finish()),
                Arc::new(self.topics.finish()),
                Arc::new(self.partitions.finish()),
                Arc::new(self.offsets.finish()),
                Arc::new(self.timestamps.finish()),
                Arc::new(self.keys.finish()),
                Arc::new(self.payloads.finish()),
                Arc::new(self.sizes.finish()),
                Arc::new(self.reasons.finish()),
                Arc::new(self.details.finish()),
                Arc::new(self.ingested.finish()),
            ],
        )?)
    }
}

fn short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(REASON_BYTES)).unwrap_or(text)
}
