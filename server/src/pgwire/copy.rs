//! `COPY (query) TO STDOUT`: rows as Postgres' text, CSV or binary format, one message a row.

use std::sync::Arc;

use arrow::datatypes::Schema;
use bytes::{BufMut, BytesMut};
use otus_sql::{CopyFormat, CopyKind};
use pgwire::messages::copy::{CopyDone, CopyOutResponse};

use super::encode::{Encoder, Zone};
use super::error::WireError;
use super::frame::Format;
use super::io::Outbox;
use super::rows::{Cursor, column_count, message};

/// Sends everything; returns the number of rows.
pub(super) async fn send(
    mut cursor: Cursor,
    format: &CopyFormat,
    zone: &Zone,
    out: &mut Outbox,
) -> Result<usize, WireError> {
    let columns = column_count(cursor.schema().fields().len())?;
    let code = i16::from(format.kind == CopyKind::Binary);
    let codes = vec![code; cursor.schema().fields().len()];
    out.put(&CopyOutResponse::new(i8::from(code == 1), columns, codes))?;
    let fields = cursor.schema().fields().iter();
    let forced = fields.map(|field| format.force_quote.has(field.name())).collect();
    let writer = Writer { format, zone, forced };
    if writer.has_header_line() {
        message(b'd', out.buffer(), |out| {
            writer.head(cursor.schema(), out);
            Ok(())
        })?;
    }
    // The signature stands in the message of the first row, or of the end, where clients look for it.
    let mut signature = format.kind == CopyKind::Binary;
    let mut text = BytesMut::new();
    let schema = Arc::clone(cursor.schema());
    let sent = cursor
        .send(out, usize::MAX, |columns, row, out| {
            message(b'd', out, |out| {
                if std::mem::take(&mut signature) {
                    writer.head(&schema, out);
                }
                writer.row(columns, row, &mut text, out)
            })
        })
        .await?;
    if format.kind == CopyKind::Binary {
        message(b'd', out.buffer(), |out| {
            if signature {
                writer.head(&schema, out);
            }
            out.put_i16(-1);
            Ok(())
        })?;
    }
    out.put(&CopyDone::new())?;
    Ok(sent.rows)
}

struct Writer<'a> {
    format: &'a CopyFormat,
    zone: &'a Zone,
    /// Which columns are always quoted.
    forced: Vec<bool>,
}

impl Writer<'_> {
    fn has_header_line(&self) -> bool {
        self.format.header && self.format.kind != CopyKind::Binary
    }

    /// What stands before the rows: the binary signature or the line of column names.
    fn head(&self, schema: &Schema, out: &mut BytesMut) {
        match self.format.kind {
            CopyKind::Binary => {
                out.put_slice(b"PGCOPY\n\xff\r\n\0");
                out.put_i32(0);
                out.put_i32(0);
            }
            CopyKind::Text | CopyKind::Csv => {
                for (index, field) in schema.fields().iter().enumerate() {
                    self.separate(index, out);
                    self.value(field.name(), schema.fields().len(), false, out);
                }
                out.put_u8(b'\n');
            }
        }
    }

    fn row(
        &self,
        columns: &[Encoder],
        row: usize,
        text: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<(), WireError> {
        if self.format.kind == CopyKind::Binary {
            out.put_i16(column_count(columns.len())?);
            for column in columns {
                column.put(row, Format::Binary, self.zone, out)?;
            }
            return Ok(());
        }
        for (index, column) in columns.iter().enumerate() {
            self.separate(index, out);
            if column.is_null(row) {
                out.put_slice(self.format.null.as_bytes());
                continue;
            }
            text.clear();
            column.put_text(row, self.zone, text)?;
            let text = std::str::from_utf8(text)
                .map_err(|_| WireError::error("XX000", "a value has no text form"))?;
            let forced = self.forced.get(index).copied().unwrap_or(false);
            self.value(text, columns.len(), forced, out);
        }
        out.put_u8(b'\n');
        Ok(())
    }

    fn separate(&self, index: usize, out: &mut BytesMut) {
        if index > 0 {
            put_char(self.format.delimiter, out);
        }
    }

    fn value(&self, text: &str, columns: usize, forced: bool, out: &mut BytesMut) {
        match self.format.kind {
            CopyKind::Csv => self.csv(text, columns, forced, out),
            _ => self.escaped(text, out),
        }
    }

    /// Quoted where it could be misread, or taken for a null or the end of the data.
    fn csv(&self, text: &str, columns: usize, forced: bool, out: &mut BytesMut) {
        let f = self.format;
        let special = |c: char| c == f.delimiter || c == f.quote || c == '\n' || c == '\r';
        let quoted =
            forced || text == f.null || (columns == 1 && text == "\\.") || text.contains(special);
        if !quoted {
            return out.put_slice(text.as_bytes());
        }
        put_char(f.quote, out);
        for c in text.chars() {
            if c == f.quote || c == f.escape {
                put_char(f.escape, out);
            }
            put_char(c, out);
        }
        put_char(f.quote, out);
    }

    fn escaped(&self, text: &str, out: &mut BytesMut) {
        for c in text.chars() {
            match c {
                '\\' => out.put_slice(b"\\\\"),
                '\n' => out.put_slice(b"\\n"),
                '\r' => out.put_slice(b"\\r"),
                '\t' => out.put_slice(b"\\t"),
                '\u{8}' => out.put_slice(b"\\b"),
                '\u{b}' => out.put_slice(b"\\v"),
                '\u{c}' => out.put_slice(b"\\f"),
                c if c == self.format.delimiter => {
                    out.put_u8(b'\\');
                    put_char(c, out);
                }
                c => put_char(c, out),
            }
        }
    }
}

fn put_char(c: char, out: &mut BytesMut) {
    out.put_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Array, StringArray};
    use arrow::datatypes::{DataType, Field};

    use super::*;

    /// A header and two rows: one of odd text, one of nulls.
    fn copied(format: &CopyFormat, odd: &str) -> Vec<u8> {
        let schema = Schema::new(vec![
            Field::new("n", DataType::Int32, true),
            Field::new("a,b", DataType::Utf8, true),
        ]);
        let columns: [ArrayRef; 2] = [
            Arc::new(Int32Array::from(vec![Some(7), None])),
            Arc::new(StringArray::from(vec![Some(odd), None])),
        ];
        let encoders: Vec<Encoder> = schema
            .fields()
            .iter()
            .zip(&columns)
            .map(|(field, column)| Encoder::new(field, column).unwrap())
            .collect();
        let zone = Zone::new("UTC");
        let forced = schema.fields().iter().map(|f| format.force_quote.has(f.name())).collect();
        let writer = Writer { format, zone: &zone, forced };
        let (mut out, mut text) = (BytesMut::new(), BytesMut::new());
        if format.header || format.kind == CopyKind::Binary {
            writer.head(&schema, &mut out);
        }
        for row in 0..2 {
            writer.row(&encoders, row, &mut text, &mut out).unwrap();
        }
        out.to_vec()
    }

    #[test]
    fn formats_are_those_of_postgres() {
        let text = CopyFormat::new(CopyKind::Text);
        assert_eq!(copied(&text, "a\tb\\c\nd"), b"7\ta\\tb\\\\c\\nd\n\\N\t\\N\n");
        let csv = CopyFormat { header: true, ..CopyFormat::new(CopyKind::Csv) };
        assert_eq!(copied(&csv, "say \"x\", y"), b"n,\"a,b\"\n7,\"say \"\"x\"\", y\"\n,\n");
        assert_eq!(copied(&csv, ""), b"n,\"a,b\"\n7,\"\"\n,\n");
        let binary = CopyFormat::new(CopyKind::Binary);
        let expected = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\
            \0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x01x\0\x02\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(copied(&binary, "x"), expected);
    }
}
