//! Small functions of Postgres that tools call and that have one answer here.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use super::argument;
use super::constant::constant;

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    let done = ScalarValue::Utf8(Some(String::new()));
    let unlocked = constant("pg_advisory_unlock_all", &[], TypeSignature::Nullary, done);
    vec![unlocked, ScalarUDF::from(PrettySize::default())]
}

/// `pg_size_pretty(bytes)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PrettySize(Signature);

impl Default for PrettySize {
    fn default() -> Self {
        Self(Signature::exact(vec![DataType::Int64], Volatility::Immutable))
    }
}

impl ScalarUDFImpl for PrettySize {
    fn name(&self) -> &'static str {
        "pg_size_pretty"
    }
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let sizes = cast(&argument(&args, 0)?, &DataType::Int64)?;
        let pretty: StringArray =
            sizes.as_primitive::<Int64Type>().iter().map(|size| size.map(pretty)).collect();
        Ok(ColumnarValue::Array(Arc::new(pretty)))
    }
}

fn pretty(bytes: i64) -> String {
    let mut size = bytes;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if size.unsigned_abs() < 10 * 1024 {
            return format!("{size} {unit}");
        }
        size = (size + 512) / 1024;
    }
    format!("{size} TB")
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn sizes_read_as_in_postgres() {
        assert_eq!(pretty(10_239), "10239 bytes");
        assert_eq!(pretty(10_240), "10 kB");
        assert_eq!(pretty(123_456_789), "118 MB");
    }
}
