//! Parameters that are arrays, of one dimension.

use std::sync::Arc;

use arrow::array::{Array, new_empty_array};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use tokio_postgres::types::Type;

use super::{binary, null};
use crate::pgwire::encode::Zone;
use crate::pgwire::error::WireError;
use crate::pgwire::types::{parameter_field, parameter_type};

/// Elements of `{a,"b c",NULL}`; none for anything else, arrays of arrays included.
pub(super) fn items(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    if inner.trim().is_empty() {
        return Some(items);
    }
    let mut chars = inner.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'"').is_some();
        let mut item = String::new();
        let more = loop {
            match chars.next() {
                Some('\\') => item.push(chars.next()?),
                Some('"') if quoted => {
                    while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                    match chars.next() {
                        Some(',') => break true,
                        None => break false,
                        Some(_) => return None,
                    }
                }
                None if quoted => return None,
                Some(',') if !quoted => break true,
                None => break false,
                Some('{' | '}' | '"') if !quoted => return None,
                Some(c) => item.push(c),
            }
        };
        let item = if quoted { item } else { item.trim_end().to_owned() };
        items.push((quoted || !item.eq_ignore_ascii_case("null")).then_some(item));
        if !more {
            return Some(items);
        }
    }
}

/// An array of one dimension.
pub(super) fn from_binary(
    item: &Type,
    bytes: &[u8],
    zone: &Zone,
) -> Result<ScalarValue, WireError> {
    let bad = || WireError::error("22P03", "incorrect binary data format in bind parameter");
    let mut rest = bytes;
    let mut word = || -> Result<i32, WireError> {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        rest = tail;
        Ok(i32::from_be_bytes(*head))
    };
    let dimensions = word()?;
    word()?;
    let sent = Type::from_oid(word()?.cast_unsigned());
    let item = sent.as_ref().unwrap_or(item);
    let count = match dimensions {
        0 => 0,
        1 => {
            let count = usize::try_from(word()?).map_err(|_| bad())?;
            word()?;
            count
        }
        _ => return Err(WireError::error("0A000", "arrays of arrays are not supported")),
    };
    let mut items = Vec::new();
    for _ in 0..count {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(bad)?;
        let length = i32::from_be_bytes(*head);
        rest = tail;
        items.push(match usize::try_from(length) {
            Ok(length) => {
                let (value, tail) = rest.split_at_checked(length).ok_or_else(bad)?;
                rest = tail;
                binary::from_binary(item, value, zone)?
            }
            Err(_) => null(item)?,
        });
    }
    list(item, items)
}

/// The values as one scalar.
pub(super) fn list(item: &Type, items: Vec<ScalarValue>) -> Result<ScalarValue, WireError> {
    let data_type = items
        .first()
        .map(ScalarValue::data_type)
        .or_else(|| parameter_type(item))
        .unwrap_or(DataType::Utf8View);
    // Numerics come each with their own scale; one array has one.
    let data_type = match data_type {
        DataType::Decimal128(..) => widest(&items),
        other => other,
    };
    let failed = |e: datafusion::error::DataFusionError| WireError::error("22P02", e.to_string());
    let items: Vec<ScalarValue> = items
        .into_iter()
        .map(|value| value.cast_to(&data_type).map_err(failed))
        .collect::<Result<_, _>>()?;
    let values = if items.is_empty() {
        new_empty_array(&data_type)
    } else {
        ScalarValue::iter_to_array(items).map_err(failed)?
    };
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([values.len()]);
    let known = parameter_field(item).map(|field| field.metadata().clone()).unwrap_or_default();
    let field = Arc::new(Field::new("item", data_type, true).with_metadata(known));
    let array = arrow::array::ListArray::try_new(field, offsets, values, None)?;
    Ok(ScalarValue::List(Arc::new(array)))
}

fn widest(items: &[ScalarValue]) -> DataType {
    let scale = items.iter().filter_map(|value| match value {
        ScalarValue::Decimal128(Some(_), _, scale) => Some(*scale),
        _ => None,
    });
    DataType::Decimal128(38, scale.max().unwrap_or(0))
}
