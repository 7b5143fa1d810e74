//! Small functions of Postgres that tools call and that have one answer here.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use super::argument;
use super::constant::constant;

fn same(name: &'static str, value: ScalarValue) -> ScalarUDF {
    let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
    constant(name, &[], TypeSignature::OneOf(any), value)
}

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    let yes = ScalarValue::Boolean(Some(true));
    let no = ScalarValue::Boolean(Some(false));
    let no_text = ScalarValue::Utf8(None);
    let mut list: Vec<ScalarUDF> = [
        "pg_function_is_visible",
        "pg_type_is_visible",
        "pg_opclass_is_visible",
        "pg_operator_is_visible",
        "pg_collation_is_visible",
        "has_column_privilege",
        "has_function_privilege",
        "has_database_privilege",
        "has_sequence_privilege",
    ]
    .into_iter()
    .map(|name| same(name, yes.clone()))
    .collect();
    list.extend(
        [
            "obj_description",
            "col_description",
            "shobj_description",
            "pg_get_viewdef",
            "pg_get_indexdef",
            "pg_get_ruledef",
            "pg_get_triggerdef",
            "pg_get_function_arguments",
            "pg_get_function_result",
            "pg_get_functiondef",
            "pg_get_serial_sequence",
            "pg_tablespace_location",
            "inet_server_addr",
            "inet_client_addr",
        ]
        .into_iter()
        .map(|name| same(name, no_text.clone())),
    );
    // Accounts are the server's; what there is belongs to the one role of the catalogue.
    list.push(same("pg_get_userbyid", ScalarValue::Utf8(Some("otus".into()))));
    list.push(same("pg_encoding_to_char", ScalarValue::Utf8(Some("UTF8".into()))));
    list.push(same("pg_is_in_recovery", no.clone()));
    list.push(same("pg_advisory_unlock_all", ScalarValue::Utf8(Some(String::new()))));
    list.push(same("txid_current", ScalarValue::Int64(Some(1))));
    list.push(same("inet_server_port", ScalarValue::Int32(None)));
    // Sizes stand in otus.segments; nothing is better than a wrong number.
    list.push(same("pg_table_size", ScalarValue::Int64(None)));
    list.push(same("pg_database_size", ScalarValue::Int64(None)));
    list.push(ScalarUDF::from(PrettySize::default()));
    list
}

/// `pg_table_is_visible(oid)` over the ids that the search path reaches.
pub(super) fn visible(oids: HashSet<i32>) -> ScalarUDF {
    let signature = Signature::any(1, Volatility::Stable);
    ScalarUDF::from(Visible { oids: Arc::new(oids), signature })
}

#[derive(Debug)]
struct Visible {
    oids: Arc<HashSet<i32>>,
    signature: Signature,
}

impl PartialEq for Visible {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.oids, &other.oids)
    }
}
impl Eq for Visible {}
impl std::hash::Hash for Visible {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.oids).hash(state);
    }
}

impl ScalarUDFImpl for Visible {
    fn name(&self) -> &'static str {
        "pg_table_is_visible"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let ids = cast(&argument(&args, 0)?, &DataType::Int32)?;
        let seen = ids.as_primitive::<Int32Type>().iter();
        let seen: BooleanArray = seen.map(|id| id.map(|id| self.oids.contains(&id))).collect();
        Ok(ColumnarValue::Array(Arc::new(seen)))
    }
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
