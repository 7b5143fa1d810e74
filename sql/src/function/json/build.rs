//! JSON out of values: `jsonb_build_object(key, value, …)` and `jsonb_build_array(value, …)`, also as `json_…`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};
use otus_engine::types::PG_TYPE_KEY;

use crate::error::{SqlError, sqlstate};
use crate::function::json_field;

/// Name, whether it makes an object, whether it makes jsonb.
const FUNCTIONS: [(&str, bool, bool); 4] = [
    ("json_build_array", false, false),
    ("json_build_object", true, false),
    ("jsonb_build_array", false, true),
    ("jsonb_build_object", true, true),
];

/// All of them.
pub(super) fn all() -> impl Iterator<Item = ScalarUDF> {
    FUNCTIONS.iter().map(|(name, is_object, is_binary)| {
        let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        let signature = Signature::one_of(any, Volatility::Stable);
        let (is_object, is_binary) = (*is_object, *is_binary);
        ScalarUDF::from(Build { name, is_object, is_binary, signature })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Build {
    name: &'static str,
    is_object: bool,
    is_binary: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Build {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DfResult<FieldRef> {
        let field = Field::new(self.name, DataType::Utf8View, false);
        Ok(if self.is_binary { json_field(field) } else { Arc::new(field) })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if self.is_object && !args.args.len().is_multiple_of(2) {
            let message = "argument list must have even number of elements";
            return Err(SqlError::new(sqlstate::INVALID_PARAMETER, message)
                .with_hint(format!("the arguments of {}() are keys and values by turns", self.name))
                .into());
        }
        let parts = args.args.iter().zip(&args.arg_fields);
        let parts = parts.map(|(value, field)| Part::new(value, field, args.number_rows));
        let parts = parts.collect::<DfResult<Vec<_>>>()?;
        let mut built = StringViewBuilder::new();
        for row in 0..args.number_rows {
            built.append_value(self.row(&parts, row)?);
        }
        Ok(ColumnarValue::Array(Arc::new(built.finish())))
    }
}

impl Build {
    fn row(&self, parts: &[Part], row: usize) -> DfResult<String> {
        // jsonb is compact here; json is spelled as Postgres does.
        let (comma, colon) = if self.is_binary { (",", ":") } else { (", ", " : ") };
        if !self.is_object {
            let values: Vec<_> = parts.iter().map(|part| part.value(row)).collect();
            return Ok(format!("[{}]", values.join(comma)));
        }
        let mut members = Vec::new();
        for pair in parts.chunks_exact(2) {
            let [key, value] = pair else { continue };
            let Some(key) = key.text(row) else {
                let message = "argument of a key must not be null";
                return Err(SqlError::new(sqlstate::INVALID_PARAMETER, message).into());
            };
            members.push(format!("{}{colon}{}", quoted(key), value.value(row)));
        }
        Ok(format!("{{{}}}", members.join(comma)))
    }
}

/// One argument, as texts.
struct Part {
    texts: ArrayRef,
    /// Whether its text is JSON as it stands.
    is_plain: bool,
}

impl Part {
    fn new(value: &ColumnarValue, field: &Field, rows: usize) -> DfResult<Self> {
        let data_type = field.data_type();
        if data_type.is_nested() {
            let message = "arrays cannot be put into JSON";
            return Err(SqlError::unsupported(message)
                .with_hint("array_to_string() makes a text of an array")
                .into());
        }
        let mark = field.metadata().get(PG_TYPE_KEY);
        let is_json = mark.is_some_and(|mark| mark == "jsonb" || mark == "json");
        let texts = cast(&value.to_array(rows)?, &DataType::Utf8)?;
        let is_plain = is_json || data_type.is_numeric() || *data_type == DataType::Boolean;
        Ok(Self { texts, is_plain })
    }

    fn text(&self, row: usize) -> Option<&str> {
        let texts = self.texts.as_string::<i32>();
        texts.is_valid(row).then(|| texts.value(row))
    }

    fn value(&self, row: usize) -> String {
        match self.text(row) {
            None => "null".to_owned(),
            // JSON has no such numbers.
            Some(text) if self.is_plain && !["NaN", "inf", "-inf"].contains(&text) => {
                text.to_owned()
            }
            Some(text) => quoted(text),
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
