//! `x = ANY (list)`, which is null where `x` is not in the list but a null is. The planner's own knows no such nulls.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::{answer, argument};

/// The function, of a list and a value.
pub(crate) const HAS: &str = "array_has";

/// Puts it in the place of the planner's own.
pub(super) fn register(state: &mut SessionState) -> DfResult<()> {
    let inner = state.udf(HAS)?;
    state.register_udf(Arc::new(ScalarUDF::from(Has(inner))))?;
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Has(Arc<ScalarUDF>);

impl ScalarUDFImpl for Has {
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
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        self.0.simplify(args, info)
    }
    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let mut args = args;
        if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) {
            args.number_rows = 1;
        }
        let lists = argument(&args, 0)?;
        let found = self.0.invoke_with_args(args.clone())?.into_array(args.number_rows)?;
        answer(&args, unknown_beside_nulls(&lists, &found))
    }
}

/// What was not found in a list with a null may be there.
fn unknown_beside_nulls(lists: &ArrayRef, found: &ArrayRef) -> ArrayRef {
    let Some(lists) = lists.as_list_opt::<i32>().filter(|l| l.values().null_count() > 0) else {
        return Arc::clone(found);
    };
    let rows = found.as_boolean().iter().enumerate();
    let known = rows.map(|(row, found)| {
        let has_null = lists.is_valid(row) && lists.value(row).null_count() > 0;
        found.filter(|found| *found || !has_null)
    });
    Arc::new(known.collect::<BooleanArray>())
}
