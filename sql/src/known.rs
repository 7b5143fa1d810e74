//! Values whose type says otherwise of nulls than they do: what is planned above them has to know.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::error::SqlError;

static KNOWN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| same("otus_known", false));
static OPTIONAL: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| same("otus_optional", true));
static PERHAPS: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::from(Same {
        name: "otus_perhaps",
        nullable: true,
        marked: true,
        signature,
    }))
});

fn same(name: &'static str, nullable: bool) -> Arc<ScalarUDF> {
    let signature = Signature::any(1, Volatility::Immutable);
    Arc::new(ScalarUDF::from(Same { name, nullable, marked: false, signature }))
}

/// `value`, which is never null, by its type as well.
pub(crate) fn known(value: Expr) -> Expr {
    KNOWN.call(vec![value])
}

/// `value`, which may be null, by its type as well.
pub(crate) fn optional(value: Expr) -> Expr {
    OPTIONAL.call(vec![value])
}

/// The same, of the type that the value is marked with.
pub(crate) fn perhaps(value: Expr) -> Expr {
    PERHAPS.call(vec![value])
}

/// Gives its argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Same {
    name: &'static str,
    nullable: bool,
    marked: bool,
    signature: Signature,
}

fn lacking() -> DataFusionError {
    DataFusionError::from(SqlError::internal("a value that is passed on is missing"))
}

impl ScalarUDFImpl for Same {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        types.first().cloned().ok_or_else(lacking)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let value = args.arg_fields.first().ok_or_else(lacking)?;
        let field = Field::new(self.name, value.data_type().clone(), self.nullable);
        Ok(Arc::new(match self.marked {
            true => field.with_metadata(value.metadata().clone()),
            false => field,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        args.args.into_iter().next().ok_or_else(lacking)
    }
}
