//! `format_type(id, modifier)`: the library's, but for precision and scale, which it drops where the scale is
//! zero and in arrays, and for arrays of intervals.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion_pg_catalog::pg_catalog::format_type::create_format_type_udf;

use super::argument;
use crate::catalog::{NUMERIC, precision_and_scale};

/// Id of `interval[]`.
const INTERVAL_ARRAY: i32 = 1187;

#[derive(Debug, PartialEq, Eq, Hash)]
struct FormatType(ScalarUDF);

/// The function.
pub(super) fn format_type() -> ScalarUDF {
    ScalarUDF::from(FormatType(create_format_type_udf()))
}

impl ScalarUDFImpl for FormatType {
    fn name(&self) -> &'static str {
        "format_type"
    }
    fn signature(&self) -> &Signature {
        self.0.signature()
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let ids = cast(&argument(&args, 0)?, &DataType::Int32)?;
        let modifiers = cast(&argument(&args, 1)?, &DataType::Int32)?;
        let (ids, modifiers) = (
            ids.as_primitive::<Int32Type>().clone(),
            modifiers.as_primitive::<Int32Type>().clone(),
        );
        let rows = ids.len();
        let named = self.0.invoke_with_args(args)?.into_array(rows)?;
        let names = named.as_string::<i32>().iter();
        let names = names.zip(ids.iter().zip(modifiers.iter())).map(|(name, (id, modifier))| {
            name.map(|name| better(id, modifier).unwrap_or_else(|| name.to_string()))
        });
        Ok(ColumnarValue::Array(Arc::new(names.collect::<StringArray>())))
    }
}

fn better(id: Option<i32>, modifier: Option<i32>) -> Option<String> {
    let id = id?;
    if id == INTERVAL_ARRAY {
        return Some("interval[]".into());
    }
    let (precision, scale) = precision_and_scale(modifier?)?;
    let end = match NUMERIC.iter().position(|n| *n == id)? {
        0 => "",
        _ => "[]",
    };
    Some(format!("numeric({precision},{scale}){end}"))
}

#[cfg(test)]
mod tests {
    use super::better;

    #[test]
    fn precision_and_scale_are_shown() {
        assert_eq!(better(Some(1700), Some(786_438)).unwrap(), "numeric(12,2)");
        assert_eq!(better(Some(1231), Some((10 << 16) + 4)).unwrap(), "numeric(10,0)[]");
        assert_eq!(better(Some(1700), Some(-1)), None);
        assert_eq!(better(Some(25), Some(-1)), None);
    }
}
