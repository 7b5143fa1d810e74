//! Functions that have one answer: facts of the server or of a session.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};
use otus_engine::types::PG_TYPE_KEY;

/// A function whose answer is the same for all arguments.
#[derive(Debug)]
struct Constant {
    name: &'static str,
    aliases: Vec<String>,
    value: ScalarValue,
    /// The type that its text is of; none = a plain text, or no text.
    mark: Option<&'static str>,
    signature: Signature,
}

impl PartialEq for Constant {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value
    }
}
impl Eq for Constant {}
impl std::hash::Hash for Constant {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.value.data_type())
    }
    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DfResult<FieldRef> {
        let field = Field::new(self.name, self.value.data_type(), true);
        let mark = self.mark.map(|mark| (PG_TYPE_KEY.to_owned(), mark.to_owned()));
        Ok(Arc::new(field.with_metadata(mark.into_iter().collect())))
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// A function that answers `value`, whatever it is given.
pub(super) fn constant(
    name: &'static str,
    aliases: &[&str],
    signature: TypeSignature,
    value: ScalarValue,
) -> ScalarUDF {
    let aliases = aliases.iter().map(|a| (*a).to_string()).collect();
    let signature = Signature::new(signature, Volatility::Stable);
    ScalarUDF::from(Constant { name, aliases, value, mark: None, signature })
}

/// A function without arguments that answers a `name`.
pub(super) fn constant_name(
    name: &'static str,
    aliases: &[&str],
    value: Option<&str>,
) -> ScalarUDF {
    let aliases = aliases.iter().map(|a| (*a).to_string()).collect();
    let signature = Signature::nullary(Volatility::Stable);
    let value = ScalarValue::Utf8(value.map(str::to_owned));
    ScalarUDF::from(Constant { name, aliases, value, mark: Some("name"), signature })
}
