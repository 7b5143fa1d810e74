//! Texts of a length: `x::varchar(3)` has at most three characters, `x::char(3)` three, with blanks at its end.

use std::sync::Arc;

use arrow::array::{AsArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::DFSchema;
use datafusion::error::Result as DfResult;
use datafusion::functions::string::expr_fn::rtrim;
use datafusion::logical_expr::planner::RawBinaryExpr;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use otus_engine::types::PG_TYPE_KEY;

use super::{answer, argument};
use crate::error::SqlError;

/// Name of the function that reads a `varchar(n)`.
pub(crate) const AS_VARCHAR: &str = "otus_varchar";
/// Name of the function that reads a `char(n)`.
pub(crate) const AS_BPCHAR: &str = "otus_bpchar";

/// Both of them.
pub(super) fn all() -> [ScalarUDF; 2] {
    [(AS_VARCHAR, false), (AS_BPCHAR, true)].map(|(name, is_padded)| {
        let signature = Signature::any(2, Volatility::Immutable);
        ScalarUDF::from(OfLength { name, is_padded, signature })
    })
}

/// What is compared with a `char(n)`, or put to one, is so without the blanks at its end.
pub(super) fn without_blanks(mut expr: RawBinaryExpr, schema: &DFSchema) -> RawBinaryExpr {
    use BinaryOperator as B;
    let takes =
        matches!(expr.op, B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq | B::StringConcat);
    let is_padded = |e: &Expr| {
        let field = e.to_field(schema).ok().map(|(_, field)| field);
        let mark = field.as_ref().and_then(|field| field.metadata().get(PG_TYPE_KEY));
        mark.is_some_and(|mark| mark.starts_with("bpchar("))
    };
    if takes {
        for side in [&mut expr.left, &mut expr.right] {
            if is_padded(side) {
                *side = rtrim(vec![std::mem::take(side), lit(" ")]);
            }
        }
    }
    expr
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfLength {
    name: &'static str,
    is_padded: bool,
    signature: Signature,
}

impl OfLength {
    fn read(&self, text: &str, length: usize) -> String {
        let mut read: String = text.chars().take(length).collect();
        if self.is_padded {
            let short = length.saturating_sub(read.chars().count());
            read.extend(std::iter::repeat_n(' ', short));
        }
        read
    }
}

impl ScalarUDFImpl for OfLength {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        let length = args.scalar_arguments.get(1).copied().flatten().map(ToString::to_string);
        let name = if self.is_padded { "bpchar" } else { "varchar" };
        let mark = format!("{name}({})", length.unwrap_or_default());
        let field = Field::new(self.name, DataType::Utf8View, nullable);
        Ok(Arc::new(field.with_metadata([(PG_TYPE_KEY.to_owned(), mark)].into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let texts = cast(&argument(&args, 0)?, &DataType::Utf8View)?;
        let lengths = cast(&argument(&args, 1)?, &DataType::Int64)?;
        let lengths = lengths.as_primitive_opt::<Int64Type>();
        let lengths = lengths.ok_or_else(|| SqlError::internal("a length is no number"))?;
        let read = texts.as_string_view().iter().zip(lengths.iter()).map(|pair| match pair {
            (Some(text), Some(length)) => {
                Some(self.read(text, usize::try_from(length).unwrap_or(0)))
            }
            _ => None,
        });
        answer(&args, Arc::new(read.collect::<StringViewArray>()))
    }
}
