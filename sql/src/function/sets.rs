//! Sets of values as bytes, which `approx_set` makes: union, intersection, difference and size.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryViewBuilder, Int64Builder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use otus_engine::state::{SetOperation, combine_sets, count_set};
use otus_engine::{Error, ErrorKind};

use crate::error::{SqlError, sqlstate};

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    [
        ("approx_set_union", Does::Combines(SetOperation::Union)),
        ("approx_set_intersect", Does::Combines(SetOperation::Intersect)),
        ("approx_set_minus", Does::Combines(SetOperation::Minus)),
        ("approx_set_count", Does::Counts),
    ]
    .into_iter()
    .map(|(name, does)| {
        let signature = Signature::user_defined(Volatility::Immutable);
        ScalarUDF::from(SetFunction { name, does, signature })
    })
    .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Does {
    Combines(SetOperation),
    Counts,
}

impl Does {
    fn arguments(self) -> usize {
        match self {
            Self::Combines(_) => 2,
            Self::Counts => 1,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SetFunction {
    name: &'static str,
    does: Does,
    signature: Signature,
}

impl SetFunction {
    fn failed(&self, e: &Error) -> DataFusionError {
        DataFusionError::from(match e.kind() {
            ErrorKind::Corrupt => SqlError::new(
                sqlstate::INVALID_TEXT,
                format!("an argument of {}() is no set of approx_set()", self.name),
            ),
            _ => SqlError::internal(e.to_string()),
        })
    }
}

impl ScalarUDFImpl for SetFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let bytes = |t: &DataType| {
            matches!(
                t,
                DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::Null
            )
        };
        if types.len() != self.does.arguments() || !types.iter().all(bytes) {
            return Err(crate::aggregate::no_such_function(self.name, types));
        }
        Ok(vec![DataType::BinaryView; types.len()])
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(match self.does {
            Does::Combines(_) => DataType::BinaryView,
            Does::Counts => DataType::Int64,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(self.name, self.return_type(&[])?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let arrays = arrays.iter().map(|a| cast(a, &DataType::BinaryView));
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        match (self.does, arrays.as_slice()) {
            (Does::Combines(operation), [a, b]) => {
                let (a, b) = (a.as_binary_view(), b.as_binary_view());
                let mut sets = BinaryViewBuilder::with_capacity(a.len());
                for pair in a.iter().zip(b) {
                    let set = match pair {
                        (Some(a), Some(b)) => {
                            Some(combine_sets(operation, a, b).map_err(|e| self.failed(&e))?)
                        }
                        _ => None,
                    };
                    sets.append_option(set);
                }
                Ok(ColumnarValue::Array(Arc::new(sets.finish())))
            }
            (Does::Counts, [a]) => {
                let mut counts = Int64Builder::with_capacity(a.len());
                for set in a.as_binary_view() {
                    let count = set.map(count_set).transpose().map_err(|e| self.failed(&e))?;
                    counts.append_option(count);
                }
                Ok(ColumnarValue::Array(Arc::new(counts.finish())))
            }
            _ => Err(DataFusionError::from(SqlError::internal("a set function lacks arguments"))),
        }
    }
}
