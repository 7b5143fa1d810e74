//! Arrays that are null, as of `CASE`, may have elements behind them, which the planner's functions over arrays take for real
//! ones. Here such elements are gone before they run.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

/// The functions.
const FUNCTIONS: [&str; 3] = ["array_append", "array_concat", "array_prepend"];

/// Puts them in the place of the planner's own.
pub(super) fn register(state: &mut SessionState) -> DfResult<()> {
    for name in FUNCTIONS {
        let inner = state.udf(name)?;
        state.register_udf(Arc::new(ScalarUDF::from(Emptied(inner))))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Emptied(Arc<ScalarUDF>);

impl ScalarUDFImpl for Emptied {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }
    fn signature(&self) -> &Signature {
        self.0.signature()
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.0.return_type(types)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        self.0.return_field_from_args(args)
    }
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.0.coerce_types(types)
    }
    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        for arg in &mut args.args {
            if let ColumnarValue::Array(array) = arg
                && let Some(emptied) = emptied(array)?
            {
                *array = emptied;
            }
        }
        self.0.invoke_with_args(args)
    }
}

/// The arrays without elements behind nulls; none if there are none.
fn emptied(array: &ArrayRef) -> DfResult<Option<ArrayRef>> {
    let Some(lists) = array.as_list_opt::<i32>().filter(|lists| lists.null_count() > 0) else {
        return Ok(None);
    };
    if (0..lists.len()).all(|row| lists.is_valid(row) || lists.value_length(row) == 0) {
        return Ok(None);
    }
    let rows = (0..lists.len()).map(|row| lists.is_valid(row).then_some(row));
    let rows = rows.map(|row| row.and_then(|row| u64::try_from(row).ok()));
    Ok(Some(take(array, &rows.collect::<UInt64Array>(), None)?))
}

#[cfg(test)]
mod tests {
    use arrow::array::ListBuilder;
    use arrow::array::builder::Int32Builder;
    use arrow::buffer::NullBuffer;

    use super::*;

    #[test]
    fn elements_behind_nulls_go() {
        let mut lists = ListBuilder::new(Int32Builder::new());
        lists.append_value([Some(1), Some(2)]);
        lists.append_value([Some(3)]);
        let (field, offsets, values, _) = lists.finish().into_parts();
        let nulls = Some(NullBuffer::from(vec![false, true]));
        let lists = arrow::array::ListArray::new(field, offsets, values, nulls);
        let whole = emptied(&(Arc::new(lists) as ArrayRef)).unwrap().unwrap();
        let whole = whole.as_list::<i32>();
        assert_eq!((whole.value_length(0), whole.value_length(1)), (0, 1));
        assert!(
            whole.is_null(0) && emptied(&(Arc::new(whole.clone()) as ArrayRef)).unwrap().is_none()
        );
    }
}
