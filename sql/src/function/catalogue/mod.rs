//! Functions that tell of the catalogue: names by id and ids by name, definitions, comments, sizes, rights. Each
//! is a plain function of values; the catalogue is that of the statement.

mod define;
mod format;
mod lists;
mod names;
mod rights;
mod status;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};

use otus_engine::types::PG_TYPE_KEY;

use crate::catalog::{Catalogue, KEYWORDS, Value, array, field_of, library, values};
use crate::error::{SqlError, sqlstate};

pub(crate) use lists::VectorItems;
pub(crate) use names::{NAME_OF, SHOWN_NAME, name_of, reg_call};

/// What a function does with the values of one row.
type Call = fn(&Catalogue, &[Value]) -> DfResult<Value>;

/// A function of the catalogue.
struct Def {
    name: &'static str,
    /// Fewest and most arguments.
    takes: (usize, usize),
    /// Internal name of the type of its values.
    gives: &'static str,
    /// Whether a null argument makes the answer null.
    strict: bool,
    call: Call,
}

const fn def(name: &'static str, takes: (usize, usize), gives: &'static str, call: Call) -> Def {
    Def { name, takes, gives, strict: true, call }
}

/// A function that is called with nulls too.
const fn lax(name: &'static str, takes: (usize, usize), gives: &'static str, call: Call) -> Def {
    Def { name, takes, gives, strict: false, call }
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = ScalarUDF> {
    let groups = [names::ALL, define::ALL, rights::ALL, status::ALL, format::ALL];
    let defs = groups.into_iter().flatten().map(|def| {
        let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        let signature = Signature::one_of(any, Volatility::Stable);
        ScalarUDF::from(Function { def, signature })
    });
    defs.chain(lists::lists())
}

struct Function {
    def: &'static Def,
    signature: Signature,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.def.name)
    }
}
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.def.name == other.def.name
    }
}
impl Eq for Function {}
impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.def.name.hash(state);
    }
}

impl Function {
    fn field(&self, name: &str) -> Field {
        field_of(name, self.def.gives, true)
    }

    fn check(&self, given: usize) -> DfResult<()> {
        let (least, most) = self.def.takes;
        if (least..=most).contains(&given) {
            return Ok(());
        }
        let message = format!("function {}() with {given} arguments does not exist", self.def.name);
        Err(SqlError::new(sqlstate::UNDEFINED_FUNCTION, message).into())
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.def.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.check(types.len())?;
        Ok(self.field(self.def.name).data_type().clone())
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        self.check(args.arg_fields.len())?;
        let field = self.field(self.def.name);
        let kind = args.scalar_arguments.first().copied().flatten();
        Ok(Arc::new(match kind.and_then(|kind| kind.try_as_str().flatten()) {
            Some(kind) if self.def.name == SHOWN_NAME => {
                let mark = [(PG_TYPE_KEY.to_owned(), kind.to_owned())];
                field.with_metadata(mark.into_iter().collect())
            }
            _ => field,
        }))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let catalogue = of_statement(&args)?;
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|arg| values(&arg.to_array(rows)?));
        let columns = columns.collect::<DfResult<Vec<_>>>()?;
        let mut answers = Vec::with_capacity(rows);
        for row in 0..rows {
            let of_row = |column: &Vec<Value>| column.get(row).cloned().unwrap_or(Value::Null);
            let given: Vec<Value> = columns.iter().map(of_row).collect();
            let is_null = self.def.strict && given.contains(&Value::Null);
            answers.push(if is_null { Value::Null } else { (self.def.call)(catalogue, &given)? });
        }
        let array = array(&self.field(self.def.name), &answers)?;
        match is_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

/// `pg_get_keywords()`.
#[derive(Debug)]
pub(super) struct Keywords;

impl TableFunctionImpl for Keywords {
    fn call_with_args(&self, _: TableFunctionArgs) -> DfResult<Arc<dyn TableProvider>> {
        match library()?.rows(KEYWORDS) {
            Some(words) => crate::provider::memory(words.clone()),
            None => internal_err!("the words of SQL are missing"),
        }
    }
}

/// Whether a function tells of the catalogue.
pub(crate) fn is_of_catalogue(udf: &ScalarUDF) -> bool {
    udf.inner().is::<Function>()
}

/// The catalogue of the statement that calls.
fn of_statement(args: &ScalarFunctionArgs) -> DfResult<&Catalogue> {
    match args.config_options.extensions.get::<Catalogue>() {
        Some(catalogue) => Ok(catalogue),
        None => {
            let message = "functions of the catalogue can stand in statements only";
            Err(DataFusionError::from(SqlError::unsupported(message)))
        }
    }
}

/// An argument, null if it is not given.
fn at(given: &[Value], index: usize) -> &Value {
    given.get(index).unwrap_or(&Value::Null)
}

/// Nothing, whatever is asked.
fn nothing(_: &Catalogue, _: &[Value]) -> DfResult<Value> {
    Ok(Value::Null)
}

fn no(_: &Catalogue, _: &[Value]) -> DfResult<Value> {
    Ok(Value::Bool(false))
}

fn yes(_: &Catalogue, _: &[Value]) -> DfResult<Value> {
    Ok(Value::Bool(true))
}

fn zero(_: &Catalogue, _: &[Value]) -> DfResult<Value> {
    Ok(Value::Int(0))
}

/// An object that a name should stand for.
fn missing<T>(state: &'static str, what: &str, name: &str) -> DfResult<T> {
    Err(SqlError::new(state, format!("{what} \"{name}\" does not exist")).into())
}

fn lost<T>() -> DfResult<T> {
    internal_err!("a function of the catalogue lacks an argument")
}
