//! A chunk: some thousand hot rows of one table with the offsets they came from. Immutable; an append to
//! the open chunk makes a new one that shares its batches.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use parking_lot::Mutex;

use crate::catalog::RollupId;
use crate::compiled::{CompiledRollup, CompiledTable};
use crate::error::{Error, Result};
use crate::log::op::FieldSeen;
use crate::position::{LogIdentity, OffsetRange, ReadCounts, TopicPartition};

/// A batch of this many rows is large enough to stand alone.
const MERGE_ROWS: usize = 4096;

/// What one append said of one partition.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Offsets read.
    pub range: OffsetRange,
    /// Claim epoch of the reader.
    pub epoch: u64,
    /// How the records ended.
    pub counts: ReadCounts,
    /// Identity of the log at the end of the range.
    pub identity: LogIdentity,
    /// Rejected records, [`crate::dataset::rejected_schema`].
    pub rejected: RecordBatch,
    /// Undeclared fields seen.
    pub fields: Vec<FieldSeen>,
}

/// Some hot rows of one table.
#[derive(Debug)]
pub struct Chunk {
    id: u64,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// Least and greatest event time of each batch; none where no row has one, as in keyed tables.
    times: Vec<Option<(i64, i64)>>,
    pieces: Vec<Piece>,
    rows: usize,
    bytes: usize,
    time: Option<(i64, i64)>,
    born_us: i64,
    states: Mutex<HashMap<RollupId, RecordBatch>>,
}

impl Chunk {
    /// An empty chunk. `born_us` is when its first row came, by the engine's clock.
    pub(crate) fn new(id: u64, schema: SchemaRef, born_us: i64) -> Self {
        Self {
            id,
            schema,
            batches: Vec::new(),
            times: Vec::new(),
            pieces: Vec::new(),
            rows: 0,
            bytes: 0,
            time: None,
            born_us,
            states: Mutex::default(),
        }
    }

    /// This chunk with one more append. Small batches are merged geometrically, so that a chunk has few.
    pub(crate) fn with(
        &self,
        table: &CompiledTable,
        batch: RecordBatch,
        piece: Piece,
    ) -> Result<Self> {
        let (mut batches, mut times) = (self.batches.clone(), self.times.clone());
        if batch.num_rows() > 0 {
            times.push(time_bounds(batch.column(table.time_index))?);
            batches.push(batch);
            merge_small(&self.schema, &mut batches, &mut times)?;
        }
        let mut pieces = self.pieces.clone();
        match pieces.iter_mut().find(|p| p.follows(&piece)) {
            Some(last) => last.extend(piece)?,
            None => pieces.push(piece),
        }
        Ok(self.assemble(self.id, batches, times, pieces))
    }

    fn assemble(
        &self,
        id: u64,
        batches: Vec<RecordBatch>,
        times: Vec<Option<(i64, i64)>>,
        pieces: Vec<Piece>,
    ) -> Self {
        let (schema, born_us) = (Arc::clone(&self.schema), self.born_us);
        let time = times.iter().copied().fold(None, merge_time);
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let bytes = batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>()
            + pieces.iter().map(|p| p.rejected.get_array_memory_size()).sum::<usize>();
        let states = Mutex::default();
        Self { id, schema, batches, times, pieces, rows, bytes, time, born_us, states }
    }

    /// This chunk without the rows, pieces and rejected records of the partitions for which `lost` is true.
    pub(crate) fn without(
        &self,
        table: &CompiledTable,
        id: u64,
        lost: &dyn Fn(&TopicPartition) -> bool,
    ) -> Result<Self> {
        let pieces: Vec<Piece> =
            self.pieces.iter().filter(|p| !lost(&p.range.tp)).cloned().collect();
        let (mut batches, mut times) = (Vec::new(), Vec::new());
        for batch in &self.batches {
            let keep = super::partition::keep_rows(table, batch, lost)?;
            let kept = arrow::compute::filter_record_batch(batch, &keep)?;
            if kept.num_rows() > 0 {
                times.push(time_bounds(kept.column(table.time_index))?);
                batches.push(kept);
            }
        }
        Ok(self.assemble(id, batches, times, pieces))
    }

    /// Number of the chunk in its table.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// Raw rows.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }
    /// Least and greatest event time of each of [`Self::batches`], microseconds, inclusive; none where no row has one.
    pub fn batch_times(&self) -> &[Option<(i64, i64)>] {
        &self.times
    }
    /// What the appends said.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Bytes in memory, states not counted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// Least and greatest event time, microseconds, inclusive; none without rows.
    pub fn time_range(&self) -> Option<(i64, i64)> {
        self.time
    }
    /// When its first row came, microseconds.
    pub fn born_us(&self) -> i64 {
        self.born_us
    }

    /// Partial states of its rows at the rollup's finest granularity; computed once.
    pub fn states(&self, rollup: &CompiledRollup) -> Result<RecordBatch> {
        if let Some(batch) = self.states.lock().get(&rollup.id) {
            return Ok(batch.clone());
        }
        // Two threads may compute the same; the first to finish is kept.
        let batch = rollup.plan.from_raw(rollup.def.finest(), &self.batches)?;
        Ok(self.states.lock().entry(rollup.id).or_insert(batch).clone())
    }
}

impl Piece {
    fn follows(&self, next: &Self) -> bool {
        self.range.tp == next.range.tp
            && self.range.to == next.range.from
            && self.epoch == next.epoch
    }

    fn extend(&mut self, next: Self) -> Result<()> {
        self.range.to = next.range.to;
        self.counts.add(&next.counts);
        self.identity = next.identity;
        if next.rejected.num_rows() > 0 {
            let schema = next.rejected.schema();
            self.rejected = concat_batches(&schema, [&self.rejected, &next.rejected])?;
        }
        for field in next.fields {
            match self
                .fields
                .iter_mut()
                .find(|f| f.path == field.path && f.json_type == field.json_type)
            {
                Some(known) => known.count += field.count,
                None => self.fields.push(field),
            }
        }
        Ok(())
    }
}

fn merge_small(
    schema: &SchemaRef,
    batches: &mut Vec<RecordBatch>,
    times: &mut Vec<Option<(i64, i64)>>,
) -> Result<()> {
    while let [.., before, last] = batches.as_slice() {
        if last.num_rows() >= MERGE_ROWS || before.num_rows() > 2 * last.num_rows() {
            break;
        }
        let merged = compact_views(&concat_batches(schema, [before, last])?)?;
        batches.truncate(batches.len() - 2);
        batches.push(merged);
        if let (Some(last), Some(before)) = (times.pop(), times.last_mut()) {
            *before = merge_time(*before, last);
        }
    }
    Ok(())
}

/// Copies the values of view columns into buffers of their own, so that a small batch does not keep large
/// buffers alive and a merged one has few.
pub(crate) fn compact_views(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .map(|column| match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()) as ArrayRef,
            _ => Arc::clone(column),
        })
        .collect();
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// Least and greatest event time of a batch; none where no row has one.
fn time_bounds(column: &ArrayRef) -> Result<Option<(i64, i64)>> {
    let times = column
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| Error::internal(format!("event time has type {}", column.data_type())))?;
    Ok(arrow::compute::min(times).zip(arrow::compute::max(times)))
}

fn merge_time(a: Option<(i64, i64)>, b: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}
