//! `COPY table FROM STDIN`: the data of a client, in whatever pieces they come, as rows. Nothing is kept but the
//! row that is not yet whole.

mod binary;
mod lines;

use bytes::{Bytes, BytesMut};
use datafusion::common::ScalarValue;
use otus_sql::append::CopyColumn;
use otus_sql::{CopyFormat, CopyIn, CopyKind, Session, SqlError};
use pgwire::messages::copy::CopyInResponse;
use tokio_postgres::types::Type;

use self::lines::{Lines, Splitter};
use super::encode::Zone;
use super::error::WireError;
use super::frame::Format;
use super::params;
use super::rows::column_count;
use super::types::pg_type;

/// Bytes of one row.
const ROW_BYTES_MAX: usize = 64 << 20;

/// A COPY that takes data.
pub(super) struct Receiving {
    copy: Box<CopyIn>,
    columns: Vec<CopyColumn>,
    types: Vec<Type>,
    format: CopyFormat,
    zone: Zone,
    reader: Reader,
    /// What of the data is no whole row yet.
    buffer: BytesMut,
    /// Rows taken; of texts lines, the heading included.
    line: u64,
    /// Behind the end of the data, more may come and counts for nothing.
    ended: bool,
}

enum Reader {
    Lines(Splitter),
    Binary { begun: bool },
}

impl Receiving {
    pub(super) fn new(copy: Box<CopyIn>, zone: Zone) -> Self {
        let (columns, format) = (copy.columns(), copy.format().clone());
        let types = columns.iter().map(|c| pg_type(&c.field)).collect();
        let reader = match format.kind {
            CopyKind::Binary => Reader::Binary { begun: false },
            CopyKind::Text | CopyKind::Csv => Reader::Lines(Splitter::new(&format)),
        };
        let buffer = BytesMut::new();
        Self { copy, columns, types, format, zone, reader, buffer, line: 0, ended: false }
    }

    /// The message that asks for the data.
    pub(super) fn response(&self) -> Result<CopyInResponse, WireError> {
        let code = i16::from(self.format.kind == CopyKind::Binary);
        let columns = column_count(self.columns.len())?;
        Ok(CopyInResponse::new(i8::from(code == 1), columns, vec![code; self.columns.len()]))
    }

    /// Takes a piece of the data.
    pub(super) async fn data(&mut self, session: &Session, data: &Bytes) -> Result<(), WireError> {
        if self.ended {
            return Ok(());
        }
        self.buffer.extend_from_slice(data);
        self.rows(session, false).await?;
        if self.buffer.len() > ROW_BYTES_MAX {
            let message = format!("a row of COPY is longer than {ROW_BYTES_MAX} bytes");
            return Err(self.at_line(WireError::error("54000", message)));
        }
        Ok(())
    }

    /// The end of the data; gives the command tag.
    pub(super) async fn finish(mut self, session: &Session) -> Result<String, WireError> {
        if !self.ended
            && let Err(e) = self.rows(session, true).await
        {
            self.copy.ends_with(&e.sqlstate);
            return Err(e);
        }
        let place = self.place();
        session.copy_end(*self.copy).await.map_err(|(row, e)| in_row(&place, row, e))
    }

    /// An error in the middle, with what was written before it.
    pub(super) fn failed(&mut self, session: &Session, e: WireError) -> WireError {
        self.copy.ends_with(&e.sqlstate);
        let told = session.copy_failed(&self.copy, SqlError::internal(""));
        WireError { detail: e.detail.or(told.detail.map(Box::from)), ..e }
    }

    async fn rows(&mut self, session: &Session, is_last: bool) -> Result<(), WireError> {
        while let Some(values) = self.next(is_last)? {
            let enough = session
                .copy_row(&mut self.copy, &values)
                .map_err(|e| self.at_line(WireError::from(e)))?;
            if enough {
                let place = self.place();
                session
                    .copy_piece(&mut self.copy)
                    .await
                    .map_err(|(row, e)| in_row(&place, row, e))?;
            }
        }
        Ok(())
    }

    /// The next whole row.
    fn next(&mut self, is_last: bool) -> Result<Option<Vec<ScalarValue>>, WireError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let fields = match &mut self.reader {
                Reader::Binary { begun } => {
                    match binary::row(&mut self.buffer, begun, is_last, self.columns.len())
                        .map_err(|e| self.at_line(e))?
                    {
                        binary::Row::Values(values) => {
                            self.line += 1;
                            return self.binary_values(&values).map(Some);
                        }
                        binary::Row::Partial => return Ok(None),
                        binary::Row::End => {
                            self.ended = true;
                            return Ok(None);
                        }
                    }
                }
                Reader::Lines(splitter) => match splitter.line(&mut self.buffer, is_last) {
                    None => return Ok(None),
                    Some(line) => {
                        self.line += 1;
                        match Lines::new(&self.format).fields(&line) {
                            Ok(Some(fields)) => fields,
                            Ok(None) => {
                                self.ended = true;
                                return Ok(None);
                            }
                            Err(e) => return Err(self.at_line(e)),
                        }
                    }
                },
            };
            if self.line == 1 && self.format.header {
                self.heading(&fields)?;
                continue;
            }
            return self.text_values(&fields).map(Some);
        }
    }

    fn heading(&self, fields: &[lines::Field]) -> Result<(), WireError> {
        if !self.format.header_match {
            return Ok(());
        }
        let mut names = fields.iter().map(|f| f.text.as_deref().unwrap_or_default());
        let same = fields.len() == self.columns.len()
            && self.columns.iter().all(|c| names.next() == Some(c.name.as_str()));
        match same {
            true => Ok(()),
            false => {
                let names: Vec<_> = self.columns.iter().map(|c| c.name.as_str()).collect();
                let mut e = WireError::error("22P04", "the heading does not name the columns");
                e.detail = Some(format!("expected {}", names.join(", ")).into());
                Err(self.at_line(e))
            }
        }
    }

    fn text_values(&self, fields: &[lines::Field]) -> Result<Vec<ScalarValue>, WireError> {
        if fields.len() > self.columns.len() {
            return Err(
                self.at_line(WireError::error("22P04", "extra data after last expected column"))
            );
        }
        let mut values = Vec::with_capacity(self.columns.len());
        for (column, pg) in self.columns.iter().zip(&self.types) {
            let Some(field) = fields.get(values.len()) else {
                let message = format!("missing data for column \"{}\"", column.name);
                return Err(self.at_line(WireError::error("22P04", message)));
            };
            let text = self.nulled(field, &column.name);
            let bytes = text.map(str::as_bytes);
            let value = params::decode(pg, Format::Text, bytes, &self.zone);
            values.push(value.map_err(|e| self.at_column(e, &column.name, text))?);
        }
        Ok(values)
    }

    /// The text of a field, or none for a null.
    fn nulled<'a>(&self, field: &'a lines::Field, column: &str) -> Option<&'a str> {
        let text = field.text.as_deref();
        match (text, field.null_text.as_deref()) {
            // An unquoted null text.
            (None, Some(null)) if self.format.force_not_null.has(column) => Some(null),
            (Some(text), None)
                if text == self.format.null && self.format.force_null.has(column) =>
            {
                None
            }
            _ => text,
        }
    }

    fn binary_values(&self, fields: &[Option<Bytes>]) -> Result<Vec<ScalarValue>, WireError> {
        let columns = self.columns.iter().zip(&self.types).zip(fields);
        let value = |((column, pg), bytes): ((&CopyColumn, &Type), &Option<Bytes>)| {
            params::decode(pg, Format::Binary, bytes.as_deref(), &self.zone)
                .map_err(|e| self.at_column(e, &column.name, None))
        };
        columns.map(value).collect()
    }

    fn at_line(&self, e: WireError) -> WireError {
        let context = format!("COPY {}, line {}", self.copy.table(), self.line.max(1));
        WireError { context: Some(e.context.clone().unwrap_or_else(|| context.into())), ..e }
    }

    fn at_column(&self, e: WireError, column: &str, text: Option<&str>) -> WireError {
        let mut context =
            format!("COPY {}, line {}, column {column}", self.copy.table(), self.line);
        if let Some(text) = text {
            let short: String = text.chars().take(100).collect();
            context.push_str(&format!(": \"{short}\""));
        }
        WireError { context: Some(context.into()), ..e }
    }

    /// The table, and how many lines of the data are no rows.
    fn place(&self) -> (String, u64) {
        let heading = self.format.header && self.format.kind != CopyKind::Binary;
        (self.copy.table().to_owned(), u64::from(heading))
    }
}

fn in_row((table, before): &(String, u64), row: Option<u64>, e: SqlError) -> WireError {
    let context = row.map(|row| format!("COPY {table}, line {}", row + before));
    WireError { context: context.map(Box::from), ..WireError::from(e) }
}
