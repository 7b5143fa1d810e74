//! `coalesce(ts, '2000-01-01')`: a text that is written out among the arguments has their type. The planner would bring both
//! together as text, or refuse them; while it plans, a function of our own stands for the call.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::functions::core;
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};
use otus_engine::types::PG_TYPE_KEY;

use super::is_text;
use super::marked::{UUID, as_uuid_literal, known_uuid};
use crate::analyze::map_expressions;
use crate::error::{SqlError, sqlstate};

/// The functions, by their names and by those while texts among their arguments have no type yet.
pub(crate) const ALIKE: [(&str, &str); 4] = [
    ("coalesce", "otus_coalesce"),
    ("greatest", "otus_greatest"),
    ("least", "otus_least"),
    ("nullif", "otus_nullif"),
];

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    let plain = [core::coalesce(), core::greatest(), core::least(), core::nullif()];
    let pairs = ALIKE.into_iter().zip(plain);
    let signature = || Signature::variadic_any(Volatility::Immutable);
    pairs
        .map(|((_, name), plain)| ScalarUDF::from(Alike { name, plain, signature: signature() }))
        .collect()
}

/// Puts the functions themselves in the place of those that stood for them.
pub(crate) fn resolved(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let stands =
        |e: &Expr| matches!(e, Expr::ScalarFunction(call) if call.func.inner().is::<Alike>());
    let mut any = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            any |= datafusion::common::tree_node::TreeNode::exists(expr, |e| Ok(stands(e)))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    if any { map_expressions(plan, &typed) } else { Ok(plan) }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Alike {
    name: &'static str,
    plain: Arc<ScalarUDF>,
    signature: Signature,
}

/// A text that is written out.
fn is_written(value: &ScalarValue) -> bool {
    is_text(&value.data_type()) && !value.is_null()
}

/// The type that the known arguments have together; none if they are texts, or there are none.
fn common(known: &[&FieldRef]) -> Option<DataType> {
    let types: Vec<DataType> = known
        .iter()
        .map(|field| field.data_type().clone())
        .filter(|known| !known.is_null())
        .collect();
    let first = types.first()?;
    let common = match types.iter().all(|other| other == first) {
        true => first.clone(),
        false => type_union_resolution(&types)?,
    };
    Some(common)
}

fn is_uuid(field: &FieldRef) -> bool {
    field.metadata().get(PG_TYPE_KEY).is_some_and(|mark| mark == UUID)
}

/// The call with its texts read.
fn typed(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let Expr::ScalarFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
    let Some(alike) = call.func.inner().downcast_ref::<Alike>() else {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    };
    let written = |arg: &Expr| matches!(arg, Expr::Literal(value, _) if is_written(value));
    let mut known = Vec::new();
    for arg in call.args.iter().filter(|arg| !written(arg)) {
        let (_, field) = arg.to_field(schema)?;
        if !field.data_type().is_null() {
            known.push(field);
        }
    }
    let known: Vec<&FieldRef> = known.iter().collect();
    let plain = Arc::clone(&alike.plain);
    if !known.is_empty() && known.iter().all(|field| is_uuid(field)) {
        for arg in call.args.iter_mut().filter(|arg| written(arg)) {
            *arg = as_uuid_literal(std::mem::take(arg))?;
        }
        return Ok(Transformed::yes(known_uuid().call(vec![plain.call(call.args)])));
    }
    if let Some(of) = common(&known).filter(|of| !is_text(of)) {
        for arg in call.args.iter_mut().filter(|arg| written(arg)) {
            *arg = cast(std::mem::take(arg), of.clone());
        }
    }
    Ok(Transformed::yes(plain.call(call.args)))
}

impl ScalarUDFImpl for Alike {
    fn name(&self) -> &str {
        self.name
    }

    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        self.plain.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        types.first().cloned().ok_or_else(|| crate::aggregate::no_such_function(self.name, types))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let written =
            |at: usize| args.scalar_arguments.get(at).copied().flatten().is_some_and(is_written);
        let known: Vec<&FieldRef> = args
            .arg_fields
            .iter()
            .enumerate()
            .filter(|(at, _)| !written(*at))
            .map(|(_, field)| field)
            .collect();
        let of = match common(&known) {
            Some(of) => of,
            None if known.iter().all(|field| field.data_type().is_null()) => DataType::Utf8View,
            None => {
                let message =
                    format!("{} types cannot be matched", self.plain.name().to_uppercase());
                return Err(SqlError::new(sqlstate::DATATYPE_MISMATCH, message).into());
            }
        };
        let field = arrow::datatypes::Field::new(self.name, of, true);
        let is_uuid = !known.is_empty() && known.iter().all(|field| is_uuid(field));
        let mark = is_uuid.then(|| (PG_TYPE_KEY.to_owned(), UUID.to_owned()));
        Ok(Arc::new(field.with_metadata(mark.into_iter().collect())))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(SqlError::internal("a function was not put in its place").into())
    }
}
