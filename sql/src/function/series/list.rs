//! `generate_series(…)` as a list, row by row.

use std::sync::Arc;

use arrow::array::{Array, ListArray, new_empty_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::steps::{Series, argument_types};
use crate::error::{SqlError, sqlstate};

/// Most values of one batch of lists: they are all in memory at once.
const VALUES_MAX: usize = 10_000_000;

/// The scalar function `name`; `closed` = the end belongs to the series.
pub(super) fn list(name: &'static str, closed: bool) -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Stable);
    ScalarUDF::from(SeriesList { name, closed, signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SeriesList {
    name: &'static str,
    closed: bool,
    signature: Signature,
}

fn too_many(name: &str) -> DataFusionError {
    DataFusionError::from(
        SqlError::new(
            sqlstate::LIMIT_EXCEEDED,
            format!("{name}() would give more than {VALUES_MAX} values at once"),
        )
        .with_hint("in FROM, a series of integers that are written out has no such limit"),
    )
}

impl ScalarUDFImpl for SeriesList {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        argument_types(types).ok_or_else(|| crate::aggregate::no_such_function(self.name, types))
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        let item = types.first().cloned().unwrap_or(DataType::Int64);
        Ok(DataType::List(Arc::new(Field::new_list_field(item, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|a| a.to_array(rows)).collect::<DfResult<Vec<_>>>()?;
        let zone = args.config_options.execution.time_zone.as_deref();
        let item = arrays.first().map_or(DataType::Int64, |a| a.data_type().clone());
        let (mut lists, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
        let mut total = 0_usize;
        for row in 0..rows {
            let values = arrays.iter().map(|a| ScalarValue::try_from_array(a, row));
            let values = values.collect::<DfResult<Vec<_>>>()?;
            let series = Series::of(self.name, &values, self.closed, zone)?;
            valid.push(series.is_some());
            let mut length = 0;
            if let Some(series) = series {
                let left = VALUES_MAX.saturating_sub(total);
                let values: Vec<i64> = series.clone().take(left + 1).collect();
                if values.len() > left {
                    return Err(too_many(self.name));
                }
                length = values.len();
                total += length;
                lists.push(series.array(values));
            }
            lengths.push(length);
        }
        let pieces: Vec<&dyn Array> = lists.iter().map(AsRef::as_ref).collect();
        let values = if pieces.is_empty() { new_empty_array(&item) } else { concat(&pieces)? };
        let field = Arc::new(Field::new_list_field(item, true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let lists = ListArray::try_new(field, offsets, values, Some(NullBuffer::from(valid)))?;
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::List(Arc::new(lists))));
        }
        Ok(ColumnarValue::Array(Arc::new(lists)))
    }
}
