//! What arrays are ordered by: as bytes they compare as in Postgres, where a null element is greater than every other one.
//! The planner takes it for the least in some places, and for what the nulls of the key are in others.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, BinaryArray};
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{answer, argument};

const NAME: &str = "otus_array_key";

/// The key of an array.
pub(crate) fn array_key(array: Expr) -> Expr {
    static KEY: OnceLock<Arc<ScalarUDF>> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let signature = Signature::any(1, Volatility::Immutable);
        Arc::new(ScalarUDF::from(ArrayKey { signature }))
    });
    key.call(vec![array])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayKey {
    signature: Signature,
}

impl ScalarUDFImpl for ArrayKey {
    fn name(&self) -> &'static str {
        NAME
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Binary)
    }
    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            args.number_rows = 1;
        }
        let arrays = argument(&args, 0)?;
        answer(&args, keys(arrays)?)
    }
}

fn keys(arrays: ArrayRef) -> DfResult<ArrayRef> {
    let order = SortOptions { descending: false, nulls_first: false };
    let field = SortField::new_with_options(arrays.data_type().clone(), order);
    let rows = RowConverter::new(vec![field])?.convert_columns(std::slice::from_ref(&arrays))?;
    let keys = rows.iter().enumerate().map(|(at, row)| arrays.is_valid(at).then_some(row));
    let keys: Vec<_> = keys.collect();
    let keys: BinaryArray = keys.iter().map(|key| key.as_ref().map(AsRef::as_ref)).collect();
    Ok(Arc::new(keys))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, ListBuilder, StringBuilder};

    use super::*;

    #[test]
    fn a_null_element_is_the_greatest() {
        let mut arrays = ListBuilder::new(StringBuilder::new());
        arrays.append_value([Some("b")]);
        arrays.append_value([None::<&str>]);
        arrays.append_value([Some("b"), Some("a")]);
        arrays.append_null();
        arrays.append_value(Vec::<Option<&str>>::new());
        let keys = keys(Arc::new(arrays.finish())).unwrap();
        let keys: Vec<_> = keys.as_binary::<i32>().iter().collect();
        assert!(keys[3].is_none());
        let mut order = [0, 1, 2, 4];
        order.sort_by_key(|at| keys[*at]);
        assert_eq!(order, [4, 0, 2, 1]);
    }
}
