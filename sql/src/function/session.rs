//! Functions that answer for one session: who, where, which settings.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use otus_engine::clock::Clock;
use otus_engine::types::PG_TYPE_KEY;

use super::argument;
use super::constant::{constant, constant_name};
use super::moments::clock_timestamp;
use crate::catalog::PG_SCHEMA;
use crate::error::{SqlError, SqlResult, sqlstate};
use crate::session::SERVER_VERSION;
use crate::sessions::{Presence, Sessions};

/// Gives a setting of the session a value; the last argument is whether for the transaction alone.
pub(crate) type Assign = dyn Fn(&str, &str, bool) -> SqlResult<String> + Send + Sync;

/// Tells what the session holds.
pub(crate) type Holds = dyn Fn() -> Held + Send + Sync;

/// What a session holds between two statements.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) statements: Vec<HeldStatement>,
    pub(crate) cursors: Vec<HeldCursor>,
}

/// A statement made by PREPARE.
#[derive(Debug)]
pub(crate) struct HeldStatement {
    pub(crate) name: String,
    pub(crate) text: Arc<str>,
    pub(crate) made_us: i64,
    pub(crate) takes: Vec<FieldRef>,
    pub(crate) gives: Option<SchemaRef>,
}

/// A declared cursor.
#[derive(Debug)]
pub(crate) struct HeldCursor {
    pub(crate) name: String,
    pub(crate) text: Arc<str>,
    pub(crate) made_us: i64,
    pub(crate) hold: bool,
    pub(crate) scroll: bool,
}

/// What functions may tell of a session.
#[derive(Default)]
pub(crate) struct SessionFacts {
    /// Changes a setting; none = that cannot be done here.
    pub(crate) assign: Option<Box<Assign>>,
    /// The statements and cursors of the session as they are when that is asked; none = it has none.
    pub(crate) holds: Option<Box<Holds>>,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) backend_pid: i32,
    /// The sessions of the engine, and this one among them.
    pub(crate) sessions: Option<(Arc<Sessions>, Arc<Presence>)>,
    pub(crate) search_path: Vec<String>,
    /// When the transaction began, microseconds since 1970.
    pub(crate) transaction_us: i64,
    /// When the statement began, microseconds since 1970.
    pub(crate) statement_us: i64,
    /// The time right now; none = of that of the statement there is no later one.
    pub(crate) clock: Option<Arc<dyn Clock>>,
    /// Values by lower-case name.
    pub(crate) settings: BTreeMap<String, String>,
}

impl fmt::Debug for SessionFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFacts").field("user", &self.user).finish_non_exhaustive()
    }
}

fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

/// Names of the functions of a session.
pub(super) const NAMES: [&str; 10] = [
    "now",
    "clock_timestamp",
    "statement_timestamp",
    "version",
    "current_database",
    "current_schema",
    "current_schemas",
    "pg_backend_pid",
    "current_setting",
    "set_config",
];

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
    let instant = |us| ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
    let now = instant(facts.transaction_us);
    let right_now = match &facts.clock {
        Some(clock) => clock_timestamp(Arc::clone(clock)),
        None => constant("clock_timestamp", &[], none(), instant(facts.statement_us)),
    };
    vec![
        right_now,
        constant("now", &["current_timestamp", "transaction_timestamp"], none(), now),
        constant("statement_timestamp", &[], none(), instant(facts.statement_us)),
        constant("version", &[], none(), text(version)),
        constant_name("current_user", &["user", "session_user", "current_role"], Some(&facts.user)),
        constant_name("current_database", &["current_catalog"], Some(&facts.database)),
        constant_name("current_schema", &[], schema.as_deref()),
        constant("pg_backend_pid", &[], none(), ScalarValue::Int32(Some(facts.backend_pid))),
        ScalarUDF::from(Schemas::new(path)),
        ScalarUDF::from(Setting::new(facts)),
        ScalarUDF::from(SetConfig::new(facts)),
    ]
}

/// `current_schemas(implicit)`: the search path, with Postgres's own schema first if asked for.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Schemas {
    path: Vec<String>,
    signature: Signature,
}

impl Schemas {
    fn new(path: Vec<String>) -> Self {
        let signature = Signature::exact(vec![DataType::Boolean], Volatility::Stable);
        Self { path, signature }
    }
}

impl ScalarUDFImpl for Schemas {
    fn name(&self) -> &'static str {
        "current_schemas"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(list(Vec::new()).data_type())
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let implicit = matches!(
            args.args.first(),
            Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
        );
        let own = implicit && !self.path.iter().any(|schema| schema == PG_SCHEMA);
        let own = own.then(|| PG_SCHEMA.to_string());
        let path = own.into_iter().chain(self.path.iter().cloned());
        Ok(ColumnarValue::Scalar(list(path.collect())))
    }
}

fn list(items: Vec<String>) -> ScalarValue {
    let items: ArrayRef = Arc::new(StringArray::from(items));
    let mark = [(PG_TYPE_KEY.to_owned(), "name".to_owned())];
    let field = Field::new_list_field(DataType::Utf8, true).with_metadata(mark.into());
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

/// `set_config(name, value, local)`: sets as SET does, and gives the value.
#[derive(Debug)]
struct SetConfig {
    facts: Arc<SessionFacts>,
    signature: Signature,
}

impl SetConfig {
    fn new(facts: &Arc<SessionFacts>) -> Self {
        let types = vec![DataType::Utf8, DataType::Utf8, DataType::Boolean];
        Self { facts: Arc::clone(facts), signature: Signature::exact(types, Volatility::Volatile) }
    }
}

impl PartialEq for SetConfig {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.facts, &other.facts)
    }
}
impl Eq for SetConfig {}
impl std::hash::Hash for SetConfig {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.facts).hash(state);
    }
}

impl ScalarUDFImpl for SetConfig {
    fn name(&self) -> &'static str {
        "set_config"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let Some(assign) = &self.facts.assign else {
            let e = SqlError::unsupported("set_config() is not supported here");
            return Err(e.with_hint("use SET").into());
        };
        let (names, values) = (argument(&args, 0)?, argument(&args, 1)?);
        let local = args.args.get(2).map(|v| v.to_array(args.number_rows)).transpose()?;
        let is_local = |row: usize| {
            local.as_ref().is_some_and(|local| local.is_valid(row) && local.as_boolean().value(row))
        };
        let pairs = names.as_string::<i32>().iter().zip(values.as_string::<i32>().iter());
        let set = pairs.enumerate().map(|(row, (name, value))| match (name, value) {
            (Some(name), Some(value)) => assign(name, value, is_local(row)).map(Some),
            (Some(_), None) | (None, _) => Ok(None),
        });
        let set: StringArray = set.collect::<SqlResult<Vec<_>>>()?.into();
        Ok(ColumnarValue::Array(Arc::new(set)))
    }
}
