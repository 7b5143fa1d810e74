//! Arrays and records, in text with Postgres' quoting and in binary with the types of their elements.

use arrow::array::ListArray;
use bytes::{BufMut, BytesMut};

use super::{Encoder, Values, Zone, with_length};
use crate::pgwire::error::WireError;
use crate::pgwire::frame::Format;

/// Rows of the items that belong to list `row`.
fn items_of(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let at = |offset: i32| usize::try_from(offset).unwrap_or(0);
    at(list.value_offsets()[row])..at(list.value_offsets()[row + 1])
}

/// `{a,"b c",NULL}`
pub(super) fn put_array_text(
    list: &ListArray,
    items: &Encoder,
    row: usize,
    zone: &Zone,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let mut text = BytesMut::new();
    out.put_u8(b'{');
    for (count, item) in items_of(list, row).enumerate() {
        if count > 0 {
            out.put_u8(b',');
        }
        if items.is_null(item) {
            out.put_slice(b"NULL");
        } else if matches!(items.values, Values::List(..)) {
            items.put_text(item, zone, out)?;
        } else {
            text.clear();
            items.put_text(item, zone, &mut text)?;
            put_item(&text, out);
        }
    }
    out.put_u8(b'}');
    Ok(())
}

/// `1 2 3`
pub(super) fn put_vector_text(
    list: &ListArray,
    items: &Encoder,
    row: usize,
    zone: &Zone,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    for (count, item) in items_of(list, row).enumerate() {
        if count > 0 {
            out.put_u8(b' ');
        }
        items.put_text(item, zone, out)?;
    }
    Ok(())
}

/// An element, quoted where it could be misread.
fn put_item(text: &[u8], out: &mut BytesMut) {
    let special = |b: &u8| matches!(b, b'{' | b'}' | b',' | b'"' | b'\\' | b' ' | b'\t'..=b'\r');
    if text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(special) {
        out.put_u8(b'"');
        for byte in text {
            if matches!(byte, b'"' | b'\\') {
                out.put_u8(b'\\');
            }
            out.put_u8(*byte);
        }
        out.put_u8(b'"');
    } else {
        out.put_slice(text);
    }
}

/// Dimensions, whether there are nulls, the element's type, then the elements; `first` is the first subscript.
pub(super) fn put_array_binary(
    list: &ListArray,
    items: &Encoder,
    row: usize,
    first: i32,
    zone: &Zone,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    if matches!(items.values, Values::List(..)) {
        return Err(WireError::error("0A000", "arrays of arrays have no binary form here")
            .with_hint("ask for the text format, or unnest the array"));
    }
    let range = items_of(list, row);
    let has_nulls = range.clone().any(|item| items.is_null(item));
    let length = i32::try_from(range.len())
        .map_err(|_| WireError::error("54000", "an array has too many elements"))?;
    out.put_i32(i32::from(length > 0));
    out.put_i32(i32::from(has_nulls));
    out.put_u32(items.pg.oid());
    if length > 0 {
        out.put_i32(length);
        out.put_i32(first);
    }
    for item in range {
        items.put(item, Format::Binary, zone, out)?;
    }
    Ok(())
}

/// `(1,"a b",)`
pub(super) fn put_record_text(
    fields: &[Encoder],
    row: usize,
    zone: &Zone,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let mut text = BytesMut::new();
    out.put_u8(b'(');
    for (count, field) in fields.iter().enumerate() {
        if count > 0 {
            out.put_u8(b',');
        }
        if field.is_null(row) {
            continue;
        }
        text.clear();
        field.put_text(row, zone, &mut text)?;
        let special =
            |b: &u8| matches!(b, b'(' | b')' | b',' | b'"' | b'\\' | b' ' | b'\t'..=b'\r');
        if text.is_empty() || text.iter().any(special) {
            out.put_u8(b'"');
            for byte in &text {
                if matches!(byte, b'"' | b'\\') {
                    out.put_u8(*byte);
                }
                out.put_u8(*byte);
            }
            out.put_u8(b'"');
        } else {
            out.put_slice(&text);
        }
    }
    out.put_u8(b')');
    Ok(())
}

/// Number of fields, then type, length and value of each.
pub(super) fn put_record_binary(
    fields: &[Encoder],
    row: usize,
    zone: &Zone,
    out: &mut BytesMut,
) -> Result<(), WireError> {
    let count = i32::try_from(fields.len())
        .map_err(|_| WireError::error("54000", "a record has too many fields"))?;
    out.put_i32(count);
    for field in fields {
        out.put_u32(field.pg.oid());
        if field.is_null(row) {
            out.put_i32(-1);
        } else {
            with_length(out, |out| field.put_binary(row, zone, out))?;
        }
    }
    Ok(())
}
