//! Functions that answer for one session: who, where, which settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, ListArray, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use super::argument;
use super::constant::constant;
use crate::error::{SqlError, sqlstate};
use crate::session::SERVER_VERSION;

/// What functions may tell of a session.
#[derive(Debug, Default)]
pub(crate) struct SessionFacts {
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) backend_pid: i32,
    pub(crate) search_path: Vec<String>,
    /// Values by lower-case name.
    pub(crate) settings: BTreeMap<String, String>,
}

fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

/// The functions of a session.
pub(super) fn all(facts: &Arc<SessionFacts>) -> Vec<ScalarUDF> {
    let none = || TypeSignature::Nullary;
    let path: Vec<_> = facts.search_path.iter().filter(|s| **s != facts.user).cloned().collect();
    let schema = path.first().cloned();
    let version = format!(
        "PostgreSQL {SERVER_VERSION} (Otus {}) on {}-{}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS
    );
    vec![
        constant("version", &[], none(), text(version)),
        constant(
            "current_user",
            &["user", "session_user", "current_role"],
            none(),
            text(&facts.user),
        ),
        constant("current_database", &["current_catalog"], none(), text(&facts.database)),
        constant("current_schema", &[], none(), ScalarValue::Utf8(schema)),
        constant("pg_backend_pid", &[], none(), ScalarValue::Int32(Some(facts.backend_pid))),
        constant("current_schemas", &[], TypeSignature::Exact(vec![DataType::Boolean]), list(path)),
        ScalarUDF::from(Setting::new(facts)),
        ScalarUDF::from(SetConfig::default()),
    ]
}

fn list(items: Vec<String>) -> ScalarValue {
    let items: ArrayRef = Arc::new(StringArray::from(items));
    let field = Field::new_list_field(DataType::Utf8, true);
    let list: ListArray =
        SingleRowListArrayBuilder::new(items).with_field(&field).build_list_array();
    ScalarValue::List(Arc::new(list))
}

/// `current_setting(name [, missing_ok])`.
#[derive(Debug)]
struct Setting {
    facts: Arc<SessionFacts>,
    signature: Signature,
}

impl Setting {
    fn new(facts: &Arc<SessionFacts>) -> Self {
        let one_of = vec![
            TypeSignature::Exact(vec![DataType::Utf8]),
            TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean]),
        ];
        Self { facts: Arc::clone(facts), signature: Signature::one_of(one_of, Volatility::Stable) }
    }
}

impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.facts, &other.facts)
    }
}
impl Eq for Setting {}
impl std::hash::Hash for Setting {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.facts).hash(state);
    }
}

impl ScalarUDFImpl for Setting {
    fn name(&self) -> &'static str {
        "current_setting"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let missing_ok = matches!(
            args.args.get(1),
            Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
        );
        let names = argument(&args, 0)?;
        let values = names.as_string::<i32>().iter().map(|name| {
            let Some(name) = name else { return Ok(None) };
            match self.facts.settings.get(&name.to_lowercase()) {
                Some(value) => Ok(Some(value.clone())),
                None if missing_ok => Ok(None),
                None => Err(DataFusionError::from(SqlError::new(
                    sqlstate::UNDEFINED_OBJECT,
                    format!("unrecognized configuration parameter \"{name}\""),
                ))),
            }
        });
        let values: StringArray = values.collect::<DfResult<Vec<_>>>()?.into();
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}

/// `set_config(name, value, local)`: refused, as a query must not change its session; SET does.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SetConfig(Signature);

impl Default for SetConfig {
    fn default() -> Self {
        let types = vec![DataType::Utf8, DataType::Utf8, DataType::Boolean];
        Self(Signature::exact(types, Volatility::Volatile))
    }
}

impl ScalarUDFImpl for SetConfig {
    fn name(&self) -> &'static str {
        "set_config"
    }
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        // The bytea_output and search_path that tools set here are the defaults; anything else is SET's.
        let e = SqlError::unsupported("set_config() is not supported").with_hint("use SET");
        match args.args.first() {
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))))
                if name == "bytea_output" =>
            {
                Ok(args
                    .args
                    .get(1)
                    .cloned()
                    .unwrap_or(ColumnarValue::Scalar(ScalarValue::Utf8(None))))
            }
            _ => Err(DataFusionError::from(e)),
        }
    }
}
