//! Aggregate calls of a query from the states and dimensions of one rollup: each becomes an expression over
//! calls that merge states. Nothing is matched by name alone: arguments and filters must be equal too.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, binary_expr, cast, lit, when};
use datafusion::scalar::ScalarValue;
use otus_engine::compiled::{CompiledRollup, CompiledTable};
use otus_engine::expr::AggregateFunction as Stored;
use otus_engine::snapshot::Snapshot;

use super::branch::{Branch, branches, zero_for_null};
use super::facts::{RollupForms, TableFacts};
use super::needs::{Examiner, Needs};
use super::report::Refusal;
use crate::aggregate;
use crate::error::SqlError;

/// Digits of an integer in an exact product with a count.
const INTEGER_DIGITS: u8 = 19;

pub(super) type Matched<T> = Result<T, Refusal>;

/// A column without a table.
pub(super) fn column(name: impl Into<String>) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// Matches the calls of one aggregate against one rollup. What it collects is the shape of the united
/// rows: atoms (keys and conditions, computed on either side) and states.
pub(super) struct Matcher<'a> {
    pub(super) table: &'a CompiledTable,
    pub(super) snapshot: &'a Snapshot,
    pub(super) rollup: &'a CompiledRollup,
    pub(super) facts: &'a TableFacts,
    pub(super) examiner: Examiner<'a>,
    pub(super) schema: &'a datafusion::common::DFSchema,
    pub(super) needs: Needs,
    /// What the rollup filters and computes.
    pub(super) forms: &'a RollupForms,
    /// Conditions on states.
    pub(super) rest: Vec<Expr>,
    /// Column `__a<i>` of the united rows.
    pub(super) atoms: Vec<Atom>,
    /// Calls whose state columns the united rows have, by index into the table's calls.
    pub(super) states: Vec<usize>,
    /// Calls above the united rows; column `__u<i>` of their aggregate.
    pub(super) calls: Vec<Expr>,
}

/// An expression on either side of the union.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Atom {
    /// Over raw columns.
    pub(super) raw: Expr,
    /// Over bucket and dimensions, under the names of the raw columns.
    pub(super) state: Expr,
}

/// Name of an atom's column.
pub(super) fn atom_name(i: usize) -> String {
    format!("__a{i}")
}

/// Name of a state's column: call and place in its state.
pub(super) fn state_name(call: usize, place: usize) -> String {
    format!("__s{call}_{place}")
}

fn call_name(i: usize) -> String {
    format!("__u{i}")
}

impl Matcher<'_> {
    fn upper(&mut self, call: Expr) -> Expr {
        let place = self.calls.iter().position(|known| *known == call).unwrap_or_else(|| {
            self.calls.push(call);
            self.calls.len() - 1
        });
        column(call_name(place))
    }

    /// The calls above the united rows, named.
    pub(super) fn named_calls(&self) -> Vec<Expr> {
        self.calls.iter().enumerate().map(|(i, c)| c.clone().alias(call_name(i))).collect()
    }

    /// What stands for an aggregate call of the query.
    pub(super) fn aggregate(&mut self, f: &AggregateFunction) -> Matched<Expr> {
        let found = self.untyped(f)?;
        let wanted = self.type_of(&Expr::AggregateFunction(f.clone()))?;
        // States are of the types of declarations, which may be wider.
        let of_value = matches!(f.func.name(), "sum" | "avg" | "min" | "max" | "first" | "last")
            || moments(f.func.name()).is_some();
        Ok(if of_value && wanted.is_numeric() { cast(found, wanted) } else { found })
    }

    /// The same, of the type that states give.
    fn untyped(&mut self, f: &AggregateFunction) -> Matched<Expr> {
        let params = &f.params;
        let name = f.func.name();
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return Err(Refusal::new(format!("{name}() has a clause that states do not know")));
        }
        let filter = params.filter.as_deref();
        if params.distinct && !matches!(name, "min" | "max") {
            return self.distinct(f, filter);
        }
        match (name, params.args.as_slice()) {
            ("count", [arg]) => self.count(arg, filter),
            ("sum", [arg]) => self.sum(arg, filter),
            ("avg", [arg]) => self.average(arg, filter),
            ("bool_and" | "bool_or", [arg]) => self.over_dimensions(f, arg, filter),
            _ => self.other(f, filter),
        }
    }

    fn average(&mut self, arg: &Expr, filter: Option<&Expr>) -> Matched<Expr> {
        if !self.type_of(arg)?.is_numeric() {
            return Err(Refusal::new("avg() of something else than numbers"));
        }
        let double = |e: Expr| cast(e, DataType::Float64);
        let of = self.type_of(arg)?;
        let (sum, count) = (self.sum(arg, filter)?, self.count(arg, filter)?);
        if let exact @ DataType::Decimal128(..) = sum_type(&of)? {
            return Ok(aggregate::mean(&of).1.call(vec![cast(sum, exact), count]));
        }
        Ok(aggregate::average().call(vec![double(sum), double(count)]))
    }

    /// `count(DISTINCT d)` and its like, where the values are those of dimensions.
    fn distinct(&mut self, f: &AggregateFunction, filter: Option<&Expr>) -> Matched<Expr> {
        let name = f.func.name();
        if !matches!(name, "count" | "sum" | "avg" | "approx_distinct") {
            return Err(Refusal::new(format!("{name}(DISTINCT …) has no stored state")));
        }
        let args = f.params.args.iter().map(|arg| self.atom(arg));
        let args = args.collect::<Matched<Vec<_>>>().map_err(|e| {
            Refusal::new(format!("{name}(DISTINCT …) is exact over dimensions only: {}", e.reason))
        })?;
        self.called(f, args, filter, name != "approx_distinct")
    }

    /// The call itself over united rows.
    fn called(
        &mut self,
        f: &AggregateFunction,
        args: Vec<Expr>,
        filter: Option<&Expr>,
        distinct: bool,
    ) -> Matched<Expr> {
        let filter = filter.map(|e| self.atom(e)).transpose()?;
        let mut call = f.clone();
        call.params.args = args;
        call.params.distinct = distinct;
        call.params.filter = filter.map(Box::new);
        Ok(self.upper(Expr::AggregateFunction(call)))
    }

    /// A function that does not mind how often a value comes, over an expression of dimensions.
    fn over_dimensions(
        &mut self,
        f: &AggregateFunction,
        arg: &Expr,
        filter: Option<&Expr>,
    ) -> Matched<Expr> {
        let arg = self.atom(arg)?;
        self.called(f, vec![arg], filter, false)
    }

    /// A function with a stored state, of one value and perhaps a constant or the time.
    fn other(&mut self, f: &AggregateFunction, filter: Option<&Expr>) -> Matched<Expr> {
        let name = f.func.name();
        let Some(arg) = f.params.args.first() else {
            return Err(Refusal::new(format!("{name}() has no stored state")));
        };
        let mut wanted = f.clone();
        wanted.params.distinct = false;
        match self.stored(&wanted, filter) {
            Ok(found) => Ok(found),
            Err(refusal) => {
                // Null values are ignored: a CASE without another value is a filter.
                if let Some([Branch { condition, value: Some(value) }, rest @ ..]) =
                    branches(arg, self.schema).as_deref()
                    && rest.iter().all(|branch| branch.value.is_none())
                    && matches!(
                        name,
                        "min"
                            | "max"
                            | "approx_distinct"
                            | "approx_quantile"
                            | "first"
                            | "last"
                            | "var_pop"
                            | "var_samp"
                            | "stddev_pop"
                            | "stddev_samp"
                    )
                {
                    let both = and(filter, condition);
                    if let Some(slot) = wanted.params.args.first_mut() {
                        *slot = value.clone();
                    }
                    return self.other(&wanted, Some(&both));
                }
                if matches!(name, "min" | "max" | "approx_distinct")
                    && f.params.args.len() == 1
                    && let Ok(found) = self.over_dimensions(&wanted, arg, filter)
                {
                    return Ok(found);
                }
                Err(refusal)
            }
        }
    }

    /// Merges the stored states of a call.
    fn stored(&mut self, f: &AggregateFunction, filter: Option<&Expr>) -> Matched<Expr> {
        let wanted = f.params.args.as_slice();
        let p = match (f.func.name(), wanted.get(1)) {
            ("approx_quantile" | "top_k", Some(Expr::Literal(p, _))) => Some(p.clone()),
            _ => None,
        };
        let same = |call: usize| {
            let (Some(form), Some(stored)) =
                (self.facts.calls.get(call).and_then(Option::as_ref), self.stored_function(call))
            else {
                return None;
            };
            let (name, args) = (f.func.name(), form.params.args.as_slice());
            let matches = match stored {
                // All four come from the same moments, all quantiles from the same sketch.
                Stored::VarPop | Stored::VarSamp | Stored::StddevPop | Stored::StddevSamp => {
                    moments(name).is_some() && args == wanted
                }
                Stored::ApproxQuantile { .. } | Stored::TopK { .. } => {
                    let is_same = name == form.func.name() && args.first() == wanted.first();
                    is_same && p.is_some() && wanted.len() == 2
                }
                // Counting all rows is counting whatever is never null.
                Stored::CountAll => name == "count" && self.never_null(wanted),
                _ => name == form.func.name() && args == wanted,
            };
            #[cfg(test)]
            let matches = matches || super::fault::takes_another(f, form);
            matches.then_some(form)
        };
        let calls: Vec<(usize, &AggregateFunction)> =
            self.rollup.plan.calls().iter().filter_map(|c| Some((*c, same(*c)?))).collect();
        let filtered = |form: &AggregateFunction| form.params.filter.as_deref().cloned();
        // A state with the very filter, then one without, to be filtered by dimensions.
        let exact = calls.iter().find(|(_, form)| filtered(form).as_ref() == filter);
        let plain = calls.iter().find(|(_, form)| form.params.filter.is_none());
        let (call, upper) = match (exact, plain, filter) {
            (Some((call, _)), _, _) => (*call, None),
            (None, Some((call, _)), Some(filter)) => {
                let call = *call;
                (call, Some(self.atom(filter)?))
            }
            _ => {
                let args: Vec<String> = wanted.iter().map(ToString::to_string).collect();
                let filter = if filter.is_some() { " with this filter" } else { "" };
                return Err(Refusal::new(format!(
                    "rollup {} stores no state of {}({}){filter}",
                    self.rollup.def.name,
                    f.func.name(),
                    args.join(", ")
                )));
            }
        };
        self.check_fits(call, f)?;
        let stored = self.stored_function(call).unwrap_or(Stored::CountAll);
        Ok(self.merged(call, moments(f.func.name()).unwrap_or(stored), p, upper))
    }

    /// Refuses a call whose arithmetic fails over raw rows, and not in states.
    fn check_fits(&self, call: usize, wanted: &AggregateFunction) -> Matched<()> {
        let form = self.facts.calls.get(call).and_then(Option::as_ref);
        if form.is_some_and(|form| self.values().fit(form)) {
            return Ok(());
        }
        let args: Vec<String> = wanted.params.args.iter().map(ToString::to_string).collect();
        Err(Refusal::new(format!(
            "arithmetic in {}({}) may fail on some row, which states do not tell",
            wanted.func.name(),
            args.join(", ")
        )))
    }

    fn stored_function(&self, call: usize) -> Option<Stored> {
        self.table.measures.calls.get(call).map(|c| c.function)
    }

    fn never_null(&self, args: &[Expr]) -> bool {
        match args {
            [Expr::Literal(value, _)] => !value.is_null(),
            [Expr::Column(c)] => c.name == self.examiner.time,
            _ => false,
        }
    }

    fn merged(
        &mut self,
        call: usize,
        function: Stored,
        p: Option<ScalarValue>,
        filter: Option<Expr>,
    ) -> Expr {
        if !self.states.contains(&call) {
            self.states.push(call);
        }
        let places = self.rollup.plan.state_columns(call).len();
        let mut args: Vec<Expr> = (0..places).map(|i| column(state_name(call, i))).collect();
        args.extend(p.map(lit));
        let merging = aggregate::merging(function).call(args);
        let merging = match filter {
            None => merging,
            Some(filter) => with_filter(merging, filter),
        };
        self.upper(merging)
    }

    /// Rows for which `filter` holds.
    fn rows(&mut self, filter: Option<&Expr>) -> Matched<Expr> {
        self.stored(&count_of(lit(1_i64)), filter)
    }

    fn count(&mut self, arg: &Expr, filter: Option<&Expr>) -> Matched<Expr> {
        let refusal = match self.stored(&count_of(arg.clone()), filter) {
            Ok(found) => return Ok(found),
            Err(refusal) => refusal,
        };
        if self.is_known(arg) {
            let known = arg.clone().is_not_null();
            return self.rows(Some(&and(filter, &known)));
        }
        if let Some(branches) = branches(arg, self.schema) {
            let mut total: Option<Expr> = None;
            for Branch { condition, value } in branches {
                let Some(value) = value else { continue };
                let part = self.count(&value, Some(&and(filter, &condition)))?;
                total = Some(match total {
                    None => part,
                    Some(sum) => binary_expr(sum, Operator::Plus, part),
                });
            }
            return Ok(total.unwrap_or_else(|| lit(0_i64)));
        }
        Err(refusal)
    }

    fn sum(&mut self, arg: &Expr, filter: Option<&Expr>) -> Matched<Expr> {
        let refusal = match self.stored(&sum_of(arg.clone()), filter) {
            Ok(found) => return Ok(found),
            Err(refusal) => refusal,
        };
        let inner = widened(arg, self.schema);
        if let (false, Ok(found)) = (inner == arg, self.stored(&sum_of(inner.clone()), filter)) {
            return Ok(found);
        }
        let output = sum_type(&self.type_of(arg)?)?;
        if self.is_known(arg) {
            return self.sum_of_dimensions(arg, filter, &output);
        }
        if let Some((value, zero)) = zero_for_null(arg) {
            let sum = cast(self.sum(value, filter)?, output.clone());
            let zero = zero.cast_to(&output).map_err(|e| Refusal::new(e.to_string()))?;
            let known = when(sum.clone().is_not_null(), sum);
            let known = known.clone().otherwise(lit(zero)).map_err(unbuilt)?;
            let any = binary_expr(self.rows(filter)?, Operator::Gt, lit(0_i64));
            return when(any, known).otherwise(null_of(&output)?).map_err(unbuilt);
        }
        if let Some(branches) = branches(arg, self.schema) {
            return self.sum_of_branches(branches, filter, &output);
        }
        Err(refusal)
    }

    fn sum_of_branches(
        &mut self,
        branches: Vec<Branch>,
        filter: Option<&Expr>,
        output: &DataType,
    ) -> Matched<Expr> {
        let mut parts = Vec::new();
        for Branch { condition, value } in branches {
            let Some(value) = value else { continue };
            let part = self.sum(&value, Some(&and(filter, &condition)))?;
            parts.push(cast(part, output.clone()));
        }
        let Some(nothing) = parts.iter().map(|part| part.clone().is_null()).reduce(Expr::and)
        else {
            return null_of(output);
        };
        if let [only] = parts.as_slice() {
            return Ok(only.clone());
        }
        let zero = ScalarValue::new_zero(output).map_err(|e| Refusal::new(e.to_string()))?;
        let known = parts.into_iter().map(|part| {
            datafusion::functions::core::expr_fn::coalesce(vec![part, lit(zero.clone())])
        });
        let Some(total) = known.reduce(|a, b| binary_expr(a, Operator::Plus, b)) else {
            return null_of(output);
        };
        when(nothing, null_of(output)?).otherwise(cast(total, output.clone())).map_err(unbuilt)
    }

    /// Σ value × rows, exact for integers and decimals.
    fn sum_of_dimensions(
        &mut self,
        arg: &Expr,
        filter: Option<&Expr>,
        output: &DataType,
    ) -> Matched<Expr> {
        let integer = DataType::Decimal128(INTEGER_DIGITS, 0);
        let narrow = narrowed(arg);
        let arg = narrow.as_ref().unwrap_or(arg);
        let (value_type, count_type) = match self.type_of(arg)? {
            t if t.is_integer() && t != DataType::UInt64 => (integer.clone(), integer),
            DataType::Decimal128(p, s) if p < INTEGER_DIGITS => {
                (DataType::Decimal128(p, s), integer)
            }
            t if t.is_floating() => (DataType::Float64, DataType::Float64),
            other => return Err(Refusal::new(format!("a sum over dimensions of type {other}"))),
        };
        let value = self.atom(arg)?;
        let filter = filter.map(|e| self.atom(e)).transpose()?;
        let rows = self.plain_count()?;
        let product =
            binary_expr(cast(value, value_type), Operator::Multiply, cast(rows, count_type));
        let sum = aggregate::sum().call(vec![product]);
        let sum = match filter {
            None => sum,
            Some(filter) => with_filter(sum, filter),
        };
        Ok(cast(self.upper(sum), output.clone()))
    }

    /// The state column of `count(*)`.
    fn plain_count(&mut self) -> Matched<Expr> {
        let found = self.rollup.plan.calls().iter().copied().find(|call| {
            self.table
                .measures
                .calls
                .get(*call)
                .is_some_and(|c| c.function == Stored::CountAll && c.filter.is_none())
        });
        let Some(call) = found else {
            let name = &self.rollup.def.name;
            return Err(Refusal::new(format!("rollup {name} stores no state of count(*)")));
        };
        if !self.states.contains(&call) {
            self.states.push(call);
        }
        Ok(column(state_name(call, 0)))
    }

    fn type_of(&self, expr: &Expr) -> Matched<DataType> {
        expr.get_type(self.schema).map_err(|e| Refusal::new(SqlError::from(e).message))
    }
}

fn null_of(data_type: &DataType) -> Matched<Expr> {
    ScalarValue::try_from(data_type).map(lit).map_err(|e| Refusal::new(e.to_string()))
}

fn and(filter: Option<&Expr>, condition: &Expr) -> Expr {
    match filter {
        _ if *condition == lit(true) => filter.cloned().unwrap_or_else(|| lit(true)),
        Some(filter) => filter.clone().and(condition.clone()),
        None => condition.clone(),
    }
}

fn with_filter(call: Expr, filter: Expr) -> Expr {
    match call {
        Expr::AggregateFunction(mut f) => {
            f.params.filter = Some(Box::new(filter));
            Expr::AggregateFunction(f)
        }
        other => other,
    }
}

fn moments(name: &str) -> Option<Stored> {
    Some(match name {
        "var_pop" => Stored::VarPop,
        "var_samp" => Stored::VarSamp,
        "stddev_pop" => Stored::StddevPop,
        "stddev_samp" => Stored::StddevSamp,
        _ => return None,
    })
}

fn count_of(arg: Expr) -> AggregateFunction {
    let function = datafusion::functions_aggregate::count::count_udaf();
    AggregateFunction::new_udf(function, vec![arg], false, None, vec![], None)
}

fn sum_of(arg: Expr) -> AggregateFunction {
    AggregateFunction::new_udf(Arc::new(aggregate::sum()), vec![arg], false, None, vec![], None)
}

pub(super) fn unbuilt(e: datafusion::error::DataFusionError) -> Refusal {
    Refusal::new(SqlError::from(e).message)
}

/// The type of a sum, as `sum()` has it.
fn sum_type(data_type: &DataType) -> Matched<DataType> {
    Stored::Sum
        .output_type(std::slice::from_ref(data_type))
        .map_err(|e| Refusal::new(SqlError::from(e).message))
}

/// The value below casts that change no sum: of integers to wider ones.
fn widened<'a>(expr: &'a Expr, schema: &datafusion::common::DFSchema) -> &'a Expr {
    if let Expr::Cast(outer) = expr
        && let Ok(from) = outer.expr.get_type(schema)
        && widens(&from, outer.field.data_type())
    {
        return widened(&outer.expr, schema);
    }
    expr
}

/// A decimal constant with no more digits than it needs room for.
fn narrowed(expr: &Expr) -> Option<Expr> {
    let Expr::Literal(ScalarValue::Decimal128(Some(v), p, s), _) = expr else { return None };
    let digits = INTEGER_DIGITS - 1;
    let fits = *p > digits && v.unsigned_abs() < 10_u128.pow(u32::from(digits));
    fits.then(|| lit(ScalarValue::Decimal128(Some(*v), digits, *s)))
}

pub(super) fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Int16, Int32, Int64};
    match (from, to) {
        (from, to) if from == to => true,
        (Int16, Int32 | Int64) | (Int32, Int64) => true,
        (Decimal128(p, s), Decimal128(wider, same)) => s == same && wider >= p,
        _ => false,
    }
}
