//! Types that are text here: what is cast to `uuid` or `jsonb` is read as one, and known as one from there on.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::planner::RawBinaryExpr;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use otus_engine::types::PG_TYPE_KEY;

use super::{answer, argument, is_text};
use crate::error::{SqlError, SqlResult, sqlstate};

/// Name of the function that reads a `uuid`.
pub(crate) const AS_UUID: &str = "otus_uuid";
/// Name of the function that reads a `jsonb`.
pub(crate) const AS_JSONB: &str = "otus_jsonb";
/// Name of the function that reads a `json`.
pub(crate) const AS_JSON: &str = "otus_json";
/// Name of the function whose text is known to be a `jsonb`.
pub(crate) const KNOWN_JSONB: &str = "otus_known_jsonb";
/// Name of the function whose text is known to be a `json`.
pub(crate) const KNOWN_JSON: &str = "otus_known_json";
/// Name of the function whose text is known to be a `uuid`.
const KNOWN_UUID: &str = "otus_known_uuid";
/// Name of the function behind `gen_random_uuid`, which gives one for each row.
const RANDOM: &str = "gen_random_uuid";

/// The mark of a `uuid`.
pub(super) const UUID: &str = "uuid";

/// A function whose text is marked with the type that it is of.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Marked {
    name: &'static str,
    mark: &'static str,
    signature: Signature,
}

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    let one = || Signature::any(1, Volatility::Immutable);
    let list = [
        Marked { name: AS_UUID, mark: UUID, signature: one() },
        Marked { name: AS_JSONB, mark: "jsonb", signature: one() },
        Marked { name: AS_JSON, mark: "json", signature: one() },
        Marked { name: KNOWN_JSONB, mark: "jsonb", signature: one() },
        Marked { name: KNOWN_JSON, mark: "json", signature: one() },
        Marked { name: KNOWN_UUID, mark: UUID, signature: one() },
        Marked { name: RANDOM, mark: UUID, signature: Signature::nullary(Volatility::Volatile) },
    ];
    list.into_iter().map(ScalarUDF::from).collect()
}

/// The type as which a function reads its text.
pub(crate) fn read_as(function: &str) -> Option<FieldRef> {
    let mark = match function {
        AS_UUID => UUID,
        AS_JSONB => "jsonb",
        AS_JSON => "json",
        "oid" => return Some(Arc::new(Field::new("", DataType::UInt32, true))),
        _ => return None,
    };
    let metadata = [(PG_TYPE_KEY.to_owned(), mark.to_owned())].into();
    Some(Arc::new(Field::new("", DataType::Utf8, true).with_metadata(metadata)))
}

/// The function whose text is known to be a `jsonb`.
pub(super) fn known_jsonb() -> ScalarUDF {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(Marked { name: KNOWN_JSONB, mark: "jsonb", signature })
}

/// The function whose text is known to be a `uuid`.
pub(super) fn known_uuid() -> ScalarUDF {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(Marked { name: KNOWN_UUID, mark: UUID, signature })
}

impl ScalarUDFImpl for Marked {
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
        let mark = [(PG_TYPE_KEY.to_string(), self.mark.to_string())];
        let field = Field::new(self.name, DataType::Utf8View, nullable);
        Ok(Arc::new(field.with_metadata(mark.into())))
    }
    #[expect(clippy::disallowed_methods, reason = "a random uuid is what was asked for")]
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let mut read = StringViewBuilder::new();
        if self.name == RANDOM {
            for _ in 0..args.number_rows {
                read.append_value(uuid::Uuid::new_v4().to_string());
            }
            return Ok(ColumnarValue::Array(Arc::new(read.finish())));
        }
        let texts: ArrayRef = cast(&argument(&args, 0)?, &DataType::Utf8View)?;
        if matches!(self.name, KNOWN_JSON | KNOWN_JSONB | KNOWN_UUID) {
            return answer(&args, texts);
        }
        for text in texts.as_string_view() {
            match text {
                Some(text) if self.mark == UUID => read.append_value(as_uuid(text)?),
                Some(text) => {
                    is_json(text)?;
                    read.append_value(text);
                }
                None => read.append_null(),
            }
        }
        answer(&args, Arc::new(read.finish()))
    }
}

/// A uuid in lower case with hyphens. It is read with braces too, and with hyphens behind any four digits.
fn as_uuid(text: &str) -> SqlResult<String> {
    let trimmed = text.trim();
    let bare = trimmed.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(trimmed);
    let mut digits = String::with_capacity(32);
    let fits = bare.chars().all(|c| match c {
        '-' => !digits.is_empty() && digits.len() < 32 && digits.len().is_multiple_of(4),
        c => {
            digits.push(c);
            c.is_ascii_hexdigit()
        }
    });
    let read = uuid::Uuid::try_parse(if fits { &digits } else { trimmed });
    read.map(|id| id.to_string()).map_err(|_| {
        let message = format!("invalid input syntax for type uuid: \"{text}\"");
        SqlError::new(sqlstate::INVALID_TEXT, message)
    })
}

fn is_json(text: &str) -> SqlResult<()> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(e) => Err(SqlError::new(sqlstate::INVALID_TEXT, "invalid input syntax for type json")
            .with_detail(e.to_string())),
    }
}

/// A text beside a uuid is read as one.
pub(super) fn beside_uuid(mut expr: RawBinaryExpr, schema: &DFSchema) -> DfResult<RawBinaryExpr> {
    use BinaryOperator as B;
    if !matches!(expr.op, B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq) {
        return Ok(expr);
    }
    let is_uuid = |e: &Expr| {
        let field = e.to_field(schema).ok().map(|(_, field)| field);
        field.is_some_and(|f| f.metadata().get(PG_TYPE_KEY).is_some_and(|mark| mark == UUID))
    };
    if is_uuid(&expr.left) {
        expr.right = as_uuid_literal(expr.right)?;
    } else if is_uuid(&expr.right) {
        expr.left = as_uuid_literal(expr.left)?;
    }
    Ok(expr)
}

/// A text that is written out as a uuid, as it is kept.
pub(super) fn as_uuid_literal(expr: Expr) -> DfResult<Expr> {
    match expr {
        Expr::Literal(value, metadata) if is_text(&value.data_type()) => {
            let text = match value.try_as_str().flatten() {
                Some(text) => Some(as_uuid(text)?),
                None => None,
            };
            Ok(Expr::Literal(ScalarValue::Utf8(text), metadata))
        }
        other => Ok(other),
    }
}
