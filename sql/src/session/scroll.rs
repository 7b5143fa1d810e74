//! Where a cursor stands in its rows, and how it moves. One that may go back keeps the rows that have come, within the
//! memory of queries; one that only goes forward keeps nothing.

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;

use crate::error::{SqlError, sqlstate};
use crate::statement::Travel;

/// Most rows that go back in one batch.
const BACK_ROWS: usize = 8192;

/// The rows of a cursor.
pub(super) struct Rest {
    /// None at its end.
    stream: Option<SendableRecordBatchStream>,
    /// Rows of the last batch that are still to come; of a cursor that may go back always none.
    left: Option<RecordBatch>,
    kept: Option<Kept>,
    /// The row on which a cursor stands that only goes forward.
    here: Option<RecordBatch>,
    /// Number of the row on which the cursor stands, 0 = before the first. After the last: that of the last.
    at: usize,
    is_after: bool,
    name: String,
    /// Whether rows of it are lost.
    failed: bool,
}

/// Rows that have come, and room for them.
struct Kept {
    /// Each with the number of rows before it.
    batches: Vec<(usize, RecordBatch)>,
    rows: usize,
    room: MemoryReservation,
    bytes_max: usize,
}

impl Kept {
    fn push(&mut self, batch: RecordBatch) -> DfResult<()> {
        let bytes = batch.get_array_memory_size();
        if self.room.size().saturating_add(bytes) > self.bytes_max {
            return Err(too_large(self.bytes_max).into());
        }
        self.room.try_grow(bytes)?;
        let rows = batch.num_rows();
        self.batches.push((self.rows, batch));
        self.rows += rows;
        Ok(())
    }

    /// The batch with row `number`, counted from 0, and the row's place in it.
    fn find(&self, number: usize) -> Option<(&RecordBatch, usize)> {
        let after = self.batches.partition_point(|(before, _)| *before <= number);
        let (before, batch) = self.batches.get(after.checked_sub(1)?)?;
        Some((batch, number - before)).filter(|(batch, place)| *place < batch.num_rows())
    }
}

fn too_large(bytes_max: usize) -> SqlError {
    let mib = bytes_max >> 20;
    let message = format!("the rows of a SCROLL cursor take more than {mib} MiB");
    SqlError::new(sqlstate::OUT_OF_MEMORY, message).with_hint(
        "fetch forward only, without SCROLL, or raise `memory` in the section [query] of the configuration: a cursor \
         may take a quarter of it",
    )
}

fn forward_only() -> DataFusionError {
    SqlError::new(sqlstate::NOT_READY, "cursor can only scan forward")
        .with_hint("Declare it with SCROLL option to enable backward scan.")
        .into()
}

impl Rest {
    /// Rows that only come once.
    pub(super) fn forward_only(name: &str, stream: SendableRecordBatchStream) -> Self {
        let (stream, name) = (Some(stream), name.to_owned());
        Self {
            stream,
            left: None,
            kept: None,
            here: None,
            at: 0,
            is_after: false,
            name,
            failed: false,
        }
    }

    /// Rows that are kept, in at most `bytes_max`.
    pub(super) fn scrolled(
        name: &str,
        stream: SendableRecordBatchStream,
        room: MemoryReservation,
        bytes_max: usize,
    ) -> Self {
        let kept = Kept { batches: Vec::new(), rows: 0, room, bytes_max };
        Self { kept: Some(kept), ..Self::forward_only(name, stream) }
    }

    async fn pull(&mut self) -> DfResult<Option<RecordBatch>> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(None) };
            match stream.next().await {
                Some(Ok(batch)) if batch.num_rows() == 0 => {}
                Some(Ok(batch)) => return Ok(Some(batch)),
                end => {
                    self.stream = None;
                    self.failed = end.is_some();
                    return end.transpose();
                }
            }
        }
    }

    fn usable(&self) -> DfResult<()> {
        if self.failed {
            let message = format!("portal \"{}\" cannot be run", self.name);
            return Err(SqlError::new(sqlstate::NOT_READY, message).into());
        }
        Ok(())
    }

    /// The next rows, at most `most`; none = the cursor now stands after the last.
    pub(super) async fn forward(&mut self, most: usize) -> DfResult<Option<RecordBatch>> {
        self.usable()?;
        if self.is_after {
            return Ok(None);
        }
        if self.kept.is_some() {
            return self.forward_kept(most).await;
        }
        let batch = match self.left.take() {
            Some(batch) => Some(batch),
            None => self.pull().await?,
        };
        let Some(batch) = batch else {
            (self.is_after, self.here) = (true, None);
            return Ok(None);
        };
        let rows = batch.num_rows().min(most);
        if batch.num_rows() > rows {
            self.left = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        self.at += rows;
        self.here = rows.checked_sub(1).map(|last| batch.slice(last, 1));
        Ok(Some(batch.slice(0, rows)))
    }

    async fn forward_kept(&mut self, most: usize) -> DfResult<Option<RecordBatch>> {
        if self.kept.as_ref().is_some_and(|kept| kept.rows <= self.at) {
            let pulled = self.pull().await?;
            if let (Some(kept), Some(batch)) = (&mut self.kept, pulled) {
                let added = kept.push(batch);
                if added.is_err() {
                    // What is kept is of no use without these.
                    (self.failed, self.stream, self.kept) = (true, None, None);
                }
                added?;
            }
        }
        let found = self.kept.as_ref().and_then(|kept| kept.find(self.at));
        let Some((batch, place)) = found else {
            self.is_after = true;
            return Ok(None);
        };
        let rows = (batch.num_rows() - place).min(most);
        let batch = batch.slice(place, rows);
        self.at += rows;
        Ok(Some(batch))
    }

    /// The rows before, the nearest first, at most `most`; none = the cursor now stands before the first.
    pub(super) fn backward(&mut self, most: usize) -> DfResult<Option<RecordBatch>> {
        self.usable()?;
        let kept = self.kept.as_ref().ok_or_else(forward_only)?;
        // After the last row, that one is before.
        let below = if self.is_after { self.at } else { self.at.saturating_sub(1) };
        self.is_after = false;
        let Some((batch, place)) = below.checked_sub(1).and_then(|number| kept.find(number)) else {
            self.at = 0;
            return Ok(None);
        };
        let rows = (place + 1).min(most).min(BACK_ROWS);
        let places = (0..rows).filter_map(|back| u32::try_from(place - back).ok());
        let batch = take_record_batch(batch, &UInt32Array::from_iter_values(places))?;
        self.at = below + 1 - rows;
        Ok(Some(batch))
    }

    async fn skip(&mut self, rows: usize) -> DfResult<()> {
        let mut left = rows;
        while left > 0 {
            match self.forward(left).await? {
                Some(batch) => left -= batch.num_rows(),
                None => break,
            }
        }
        Ok(())
    }

    /// Back to before the first row.
    fn rewind(&mut self) -> DfResult<()> {
        if self.kept.is_none() && (self.at > 0 || self.is_after) {
            return Err(forward_only());
        }
        (self.at, self.is_after) = (0, false);
        Ok(())
    }

    /// Goes to row `number`, counted from 1, and gives it if there is one.
    async fn reach(&mut self, number: usize) -> DfResult<Option<RecordBatch>> {
        if number <= self.at {
            self.rewind()?;
        }
        self.skip(number - 1 - self.at).await?;
        self.forward(1).await
    }

    /// Goes to one row, and gives it if there is one.
    pub(super) async fn go(&mut self, travel: Travel) -> DfResult<Option<RecordBatch>> {
        self.usable()?;
        match travel {
            Travel::Absolute(0) => self.rewind().map(|()| None),
            Travel::Absolute(number) if number > 0 => self.reach(size(number)).await,
            Travel::Absolute(number) => {
                self.skip(usize::MAX).await?;
                if self.kept.is_none() {
                    return Err(forward_only());
                }
                match (self.at + 1).checked_sub(size(number)) {
                    Some(row) if row > 0 => self.reach(row).await,
                    _ => self.rewind().map(|()| None),
                }
            }
            Travel::Relative(0) if self.is_after || self.at == 0 => Ok(None),
            Travel::Relative(0) if self.kept.is_none() => Ok(self.here.clone()),
            Travel::Relative(0) => self.reach(self.at).await,
            Travel::Relative(rows) if rows > 0 => {
                self.skip(size(rows) - 1).await?;
                self.forward(1).await
            }
            Travel::Relative(rows) => {
                let below = if self.is_after { self.at + 1 } else { self.at };
                if self.kept.is_none() {
                    return Err(forward_only());
                }
                match below.checked_sub(size(rows)) {
                    Some(row) if row > 0 => self.reach(row).await,
                    _ => self.rewind().map(|()| None),
                }
            }
            Travel::Forward(_) | Travel::Backward(_) => Ok(None),
        }
    }
}

fn size(rows: i64) -> usize {
    usize::try_from(rows.unsigned_abs()).unwrap_or(usize::MAX)
}
