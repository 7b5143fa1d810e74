//! Rows that are large: a batch of them is given on in pieces, and a row beyond any use is refused before it is written
//! out. Columns of a batch may share what they point to, so that it takes little memory until then.

use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;

use crate::error::{SqlError, SqlResult, sqlstate};

/// Most bytes of the values of a row.
const ROW_BYTES_MAX: usize = 128 << 20;
/// Bytes of values from which a batch is cut.
const PIECE_BYTES: usize = 16 << 20;
/// What a value takes that has no length of its own.
const FIXED_BYTES: usize = 16;

/// A batch in pieces of few bytes, or of one row. A row that is too large is an error behind what comes before it.
pub(super) fn pieces(batch: RecordBatch) -> VecDeque<SqlResult<RecordBatch>> {
    let all = |from: usize, to: usize| -> usize {
        batch.columns().iter().map(|column| bytes(column, from, to)).fold(0, usize::saturating_add)
    };
    let mut pieces = VecDeque::new();
    if all(0, batch.num_rows()) <= PIECE_BYTES {
        pieces.push_back(Ok(batch));
        return pieces;
    }
    let (mut begun, mut held) = (0, 0_usize);
    for row in 0..batch.num_rows() {
        let size = all(row, row + 1);
        if held > 0 && held.saturating_add(size) > PIECE_BYTES {
            pieces.push_back(Ok(batch.slice(begun, row - begun)));
            (begun, held) = (row, 0);
        }
        if size > ROW_BYTES_MAX {
            let (mib, most) = (size.div_ceil(1 << 20), ROW_BYTES_MAX >> 20);
            let message = format!("a row has {mib} MiB; the limit is {most} MiB");
            let e = SqlError::new(sqlstate::LIMIT_EXCEEDED, message);
            pieces.push_back(Err(e.with_hint("ask for fewer or shorter columns")));
            return pieces;
        }
        held = held.saturating_add(size);
    }
    pieces.push_back(Ok(batch.slice(begun, batch.num_rows() - begun)));
    pieces
}

/// Bytes of some rows of a column, whoever shares them.
fn bytes(array: &ArrayRef, from: usize, to: usize) -> usize {
    let rows = to.saturating_sub(from);
    let offsets = |ends: Option<(usize, usize)>| ends.map_or(0, |(a, b)| b.saturating_sub(a));
    let narrow = |list: &[i32]| {
        let at = |i: usize| list.get(i).and_then(|end| usize::try_from(*end).ok());
        at(from).zip(at(to))
    };
    let large = |list: &[i64]| {
        let at = |i: usize| list.get(i).and_then(|end| usize::try_from(*end).ok());
        at(from).zip(at(to))
    };
    // The length of a view is its lower half.
    let views = |views: &[u128]| -> usize {
        let some = views.get(from..to).unwrap_or_default();
        some.iter().map(|view| usize::try_from(*view & 0xffff_ffff).unwrap_or(0)).sum()
    };
    match array.data_type() {
        DataType::Utf8 => offsets(narrow(array.as_string::<i32>().value_offsets())),
        DataType::Binary => offsets(narrow(array.as_binary::<i32>().value_offsets())),
        DataType::LargeUtf8 => offsets(large(array.as_string::<i64>().value_offsets())),
        DataType::LargeBinary => offsets(large(array.as_binary::<i64>().value_offsets())),
        DataType::Utf8View => views(array.as_string_view().views()),
        DataType::BinaryView => views(array.as_binary_view().views()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let ends = narrow(list.value_offsets());
            ends.map_or(0, |(first, last)| bytes(list.values(), first, last))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let ends = large(list.value_offsets());
            ends.map_or(0, |(first, last)| bytes(list.values(), first, last))
        }
        DataType::Struct(_) => {
            let fields = array.as_struct().columns().iter();
            fields.map(|field| bytes(field, from, to)).fold(0, usize::saturating_add)
        }
        _ => rows.saturating_mul(FIXED_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ListArray, StringArray, StringViewArray};
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        let fields: Vec<_> = columns
            .iter()
            .enumerate()
            .map(|(i, c)| Field::new(i.to_string(), c.data_type().clone(), true))
            .collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    #[test]
    fn lengths_are_those_of_the_rows() {
        let texts = ["a", "bcd", "a text that is longer than a view holds"];
        let wide = 4 + texts[2].len();
        for column in [
            Arc::new(StringArray::from(texts.to_vec())) as ArrayRef,
            Arc::new(StringViewArray::from(texts.to_vec())),
        ] {
            assert_eq!(bytes(&column, 0, 3), wide);
            assert_eq!(bytes(&column, 1, 2), 3);
            assert_eq!(bytes(&column.slice(1, 2), 0, 1), 3);
        }
        let lists = vec![Some(vec![Some(1), Some(2)]), None, Some(vec![Some(3)])];
        let lists = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)) as ArrayRef;
        assert_eq!(bytes(&lists, 0, 3), 3 * FIXED_BYTES);
        assert_eq!(bytes(&lists, 2, 3), FIXED_BYTES);
    }

    #[test]
    fn large_rows_come_alone_and_too_large_ones_not_at_all() {
        let text = "x".repeat(5 << 20);
        let rows = StringViewArray::from(vec![text.as_str(); 8]);
        let one = Arc::new(rows) as ArrayRef;
        let cut = pieces(batch(vec![Arc::clone(&one)]));
        let sizes: Vec<usize> =
            cut.iter().map(|piece| piece.as_ref().unwrap().num_rows()).collect();
        assert_eq!(sizes, [3, 3, 2]);
        let cut = pieces(batch(vec![Arc::clone(&one); 4]));
        assert_eq!(cut.len(), 8);
        let cut = pieces(batch(vec![one; 26]));
        assert_eq!(cut.len(), 1);
        let e = cut[0].as_ref().unwrap_err();
        assert_eq!(
            (e.sqlstate, e.message.as_str()),
            ("54000", "a row has 130 MiB; the limit is 128 MiB")
        );
        let small = batch(vec![Arc::new(StringViewArray::from(vec!["a"; 3]))]);
        assert_eq!(pieces(small)[0].as_ref().unwrap().num_rows(), 3);
    }
}
