//! Rows on their way to a client: a batch is encoded row by row into the outbox, which is written as soon
//! as it is full. Nothing holds more than one batch, in either protocol.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::{BufMut, BytesMut};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use otus_sql::SqlError;

use super::encode::{Encoder, Zone};
use super::error::WireError;
use super::frame::Format;
use super::io::Outbox;

/// A stream of batches read row by row.
pub(super) struct Cursor {
    schema: SchemaRef,
    stream: SendableRecordBatchStream,
    columns: Vec<Encoder>,
    batch_rows: usize,
    next_row: usize,
}

impl Cursor {
    /// Dropping it stops the work behind the stream.
    pub(super) fn new(schema: SchemaRef, stream: SendableRecordBatchStream) -> Self {
        Self { schema, stream, columns: Vec::new(), batch_rows: 0, next_row: 0 }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Moves to the next row; none at the end.
    async fn advance(&mut self) -> Result<Option<usize>, WireError> {
        while self.next_row >= self.batch_rows {
            match self.stream.next().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(SqlError::from(e).into()),
                Some(Ok(batch)) => self.load(&batch)?,
            }
        }
        self.next_row += 1;
        Ok(Some(self.next_row - 1))
    }

    fn load(&mut self, batch: &RecordBatch) -> Result<(), WireError> {
        let fields = self.schema.fields();
        if batch.num_columns() != fields.len() {
            return Err(WireError::error("XX000", "a batch does not fit its description"));
        }
        self.columns = fields
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| Encoder::new(field, column))
            .collect::<Result<_, _>>()?;
        self.batch_rows = batch.num_rows();
        self.next_row = 0;
        Ok(())
    }

    /// Writes rows one message each, as `write` forms them, until the end or `rows_max`. Returns how
    /// many, and whether the limit stopped it.
    pub(super) async fn send(
        &mut self,
        out: &mut Outbox,
        rows_max: usize,
        mut write: impl FnMut(&[Encoder], usize, &mut BytesMut) -> Result<(), WireError>,
    ) -> Result<Sent, WireError> {
        let mut rows = 0;
        while rows < rows_max {
            let Some(row) = self.advance().await? else {
                return Ok(Sent { rows, suspended: false });
            };
            let buffer = out.buffer();
            let start = buffer.len();
            if let Err(e) = write(&self.columns, row, buffer) {
                // Half a message must never reach the client.
                buffer.truncate(start);
                return Err(e);
            }
            rows += 1;
            if out.is_full() {
                out.flush().await?;
            }
        }
        Ok(Sent { rows, suspended: true })
    }
}

/// What [`Cursor::send`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) rows: usize,
    pub(super) suspended: bool,
}

/// Appends the message `tag` whose body `put` writes.
pub(super) fn message(
    tag: u8,
    out: &mut BytesMut,
    put: impl FnOnce(&mut BytesMut) -> Result<(), WireError>,
) -> Result<(), WireError> {
    out.put_u8(tag);
    let start = out.len();
    out.put_i32(0);
    put(out)?;
    let length = i32::try_from(out.len() - start)
        .map_err(|_| WireError::error("54000", "a row is longer than 2 GiB"))?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Appends a DataRow.
pub(super) fn data_row(
    columns: &[Encoder],
    row: usize,
    formats: &[Format],
    zone: &Zone,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    message(b'D', out, |out| {
        out.put_i16(column_count(columns.len())?);
        for (index, column) in columns.iter().enumerate() {
            column.put(row, Format::of(formats, index), zone, out)?;
        }
        Ok(())
    })
}

/// The number of columns as messages carry it.
pub(super) fn column_count(columns: usize) -> Result<i16, WireError> {
    i16::try_from(columns)
        .map_err(|_| WireError::error("54011", "an answer can have at most 32767 columns"))
}
