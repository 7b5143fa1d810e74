//! The arguments of a JSON function by row, constant or not.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use crate::error::{SqlError, SqlResult, sqlstate};
use crate::statement::{Item, parsed_array};

pub(super) struct Arguments {
    /// A constant has one row.
    arrays: Vec<ArrayRef>,
    rows: usize,
    constant: bool,
}

impl Arguments {
    pub(super) fn of(args: &ScalarFunctionArgs) -> DfResult<Self> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let arrays = args.args.iter().map(|value| match value {
            ColumnarValue::Scalar(value) => value.to_array(),
            ColumnarValue::Array(array) => Ok(ArrayRef::clone(array)),
        });
        let arrays = arrays.collect::<DfResult<Vec<_>>>()?;
        Ok(Self { arrays, rows: if constant { 1 } else { args.number_rows }, constant })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// One value if all arguments are constant.
    pub(super) fn answer(&self, array: ArrayRef) -> DfResult<ColumnarValue> {
        if self.constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }

    /// The argument and the place in it, unless it is null there.
    fn at(&self, argument: usize, row: usize) -> Option<(&ArrayRef, usize)> {
        let array = self.arrays.get(argument)?;
        let row = if array.len() == 1 { 0 } else { row };
        (row < array.len() && array.is_valid(row)).then_some((array, row))
    }

    pub(super) fn text(&self, argument: usize, row: usize) -> Option<&str> {
        let (array, row) = self.at(argument, row)?;
        Some(array.as_string_view_opt()?.value(row))
    }

    pub(super) fn flag(&self, argument: usize, row: usize) -> Option<bool> {
        let (array, row) = self.at(argument, row)?;
        Some(array.as_boolean_opt()?.value(row))
    }

    /// Whether any argument is null.
    pub(super) fn has_null(&self, row: usize) -> bool {
        (0..self.arrays.len()).any(|argument| self.at(argument, row).is_none())
    }

    /// All arguments as lists of texts: arrays, their elements if they are pairs, or what the text of one says.
    pub(super) fn text_lists(&self, row: usize) -> SqlResult<Vec<Vec<Option<String>>>> {
        let lists = (0..self.arrays.len()).map(|argument| match self.text(argument, row) {
            Some(text) => flat(&parsed_array(text)?),
            None => {
                let Some((array, row)) = self.at(argument, row) else { return Ok(Vec::new()) };
                let Some(list) = array.as_list_opt::<i32>() else { return Ok(Vec::new()) };
                let items = list.value(row);
                let Some(texts) = items.as_string_view_opt() else {
                    return Err(SqlError::internal("a list is no array of texts"));
                };
                Ok(texts.iter().map(|text| text.map(str::to_owned)).collect())
            }
        });
        lists.collect()
    }

    pub(super) fn index(&self, argument: usize, row: usize) -> Option<i64> {
        let (array, row) = self.at(argument, row)?;
        Some(array.as_primitive_opt::<Int64Type>()?.value(row))
    }

    /// The texts of an array, or all texts from this argument on; `None` if the array, or any of them in
    /// place of an array, is null.
    pub(super) fn path(&self, from: usize, row: usize) -> SqlResult<Option<Vec<Cow<'_, str>>>> {
        let list =
            self.arrays.get(from).is_some_and(|a| matches!(a.data_type(), DataType::List(_)));
        if !list {
            let texts = (from..self.arrays.len()).map(|i| self.text(i, row).map(Cow::Borrowed));
            return Ok(texts.collect());
        }
        let Some((array, row)) = self.at(from, row) else { return Ok(None) };
        let texts = array.as_list::<i32>().value(row);
        let Some(texts) = texts.as_string_view_opt() else {
            return Err(SqlError::internal("a path is no array of texts"));
        };
        Ok(texts.iter().map(|text| text.map(|t| Cow::Owned(t.to_string()))).collect())
    }
}

/// The texts of an array, in whatever dimensions.
fn flat(items: &[Item]) -> SqlResult<Vec<Option<String>>> {
    let mut texts = Vec::new();
    for item in items {
        match item {
            Item::Null => texts.push(None),
            Item::Text(text) => texts.push(Some(text.clone())),
            Item::List(inner) => texts.extend(flat(inner)?),
        }
    }
    Ok(texts)
}

/// The texts of an array in the notation of Postgres, `{a,"b c",0}`.
pub(super) fn array_literal(text: &str) -> SqlResult<Vec<String>> {
    let wrong = || {
        SqlError::new(sqlstate::INVALID_TEXT, format!("malformed array literal: \"{text}\""))
            .with_hint("a path is written '{key,0,other}' or ARRAY['key', '0', 'other']")
    };
    let body = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(wrong)?;
    let mut items = Vec::new();
    let mut chars = body.chars().peekable();
    if body.trim().is_empty() {
        return Ok(items);
    }
    loop {
        let (mut item, mut quoted) = (String::new(), false);
        while let Some(c) = chars.next_if(|c| *c != ',') {
            match c {
                '\\' => item.push(chars.next().ok_or_else(wrong)?),
                '"' => {
                    quoted = true;
                    loop {
                        match chars.next().ok_or_else(wrong)? {
                            '"' => break,
                            '\\' => item.push(chars.next().ok_or_else(wrong)?),
                            c => item.push(c),
                        }
                    }
                }
                '{' | '}' => return Err(wrong()),
                c => item.push(c),
            }
        }
        let item = if quoted { item } else { item.trim().to_string() };
        if item.is_empty() && !quoted {
            return Err(wrong());
        }
        items.push(item);
        if chars.next().is_none() {
            return Ok(items);
        }
    }
}
