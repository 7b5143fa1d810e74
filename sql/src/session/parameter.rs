//! Types of parameters, from the client's word or from where they stand: beside a column, under a cast, in
//! LIMIT, in `= ANY($1)`, as an argument. Text where nothing tells, as in Postgres.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{AggregateFunction, Case, ScalarFunction, WindowFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::type_coercion::functions::{UDFCoercionExt, fields_with_udf};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, WindowFunctionDefinition};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::error::{SqlError, SqlResult, sqlstate};
use crate::function::read_as;

/// Most parameters of a statement, as in Postgres.
const PARAMETERS_MAX: usize = 65_535;

/// One type per parameter, `$1` first, with the Postgres name where Arrow's type does not tell it.
/// `written`: types of casts that stand around parameters in the text.
pub(crate) fn infer(
    plan: &LogicalPlan,
    given: &[Option<FieldRef>],
    written: &BTreeMap<usize, FieldRef>,
) -> SqlResult<Vec<FieldRef>> {
    let mut found = Found::default();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Union(union) = node {
            found.columns(&union.inputs);
        }
        let empty = DFSchema::empty();
        let inputs = node.inputs();
        let schema = inputs.first().map_or(&empty, |i| i.schema().as_ref());
        let whole = matches!(node, LogicalPlan::Limit(_));
        node.apply_expressions(|expr| {
            if whole {
                found.note(expr, || Some(plain(DataType::Int64)));
            }
            expr.apply(|e| {
                found.look(e, schema);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.map_err(SqlError::from)?;
    let mut found = found.finished()?;
    for (i, field) in written {
        found.insert(*i, Some(Arc::clone(field)));
    }
    for (i, field) in given.iter().enumerate() {
        if let Some(field) = field {
            found.insert(i, Some(Arc::clone(field)));
        }
    }
    let count = found.last_key_value().map_or(0, |(last, _)| last + 1);
    if count > PARAMETERS_MAX {
        return Err(SqlError::new(sqlstate::LIMIT_EXCEEDED, "too many parameters"));
    }
    let text = || plain(DataType::Utf8);
    Ok((0..count).map(|i| found.remove(&i).flatten().map_or_else(text, |f| told(&f))).collect())
}

/// Number of a parameter from 0, by its name in the text.
pub(crate) fn number(name: &str) -> SqlResult<usize> {
    let parsed = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
    parsed.filter(|n| *n <= PARAMETERS_MAX).and_then(|n| n.checked_sub(1)).ok_or_else(|| {
        SqlError::new(sqlstate::UNDEFINED_PARAMETER, format!("there is no parameter {name}"))
    })
}

fn plain(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("", data_type, true))
}

/// Views are a matter of memory; clients are told of text.
fn told(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        // Marks that are for the planner alone are no types.
        other => other.clone(),
    };
    Arc::new(Field::new("", data_type, true).with_metadata(field.metadata().clone()))
}

/// An array of values of this type.
fn array_of(item: &FieldRef) -> FieldRef {
    let item = told(item).as_ref().clone().with_name("item");
    plain(DataType::List(Arc::new(item)))
}

/// The type of an array's items.
fn item_of(array: &Field) -> Option<FieldRef> {
    match array.data_type() {
        DataType::List(item) => Some(told(item)),
        _ => None,
    }
}

/// What is known of each parameter; the first word counts.
#[derive(Default)]
struct Found {
    types: BTreeMap<usize, Option<FieldRef>>,
    wrong: Option<SqlError>,
}

/// The parameter that an expression is, whatever name it bears.
fn parameter(expr: &Expr) -> Option<(&str, Option<&FieldRef>)> {
    match expr {
        Expr::Placeholder(p) => Some((&p.id, p.field.as_ref())),
        Expr::Alias(alias) => parameter(&alias.expr),
        _ => None,
    }
}

fn is_open(expr: &Expr) -> bool {
    matches!(parameter(expr), Some((_, None)))
}

/// The type of an expression that is no parameter.
fn typed(expr: &Expr, schema: &DFSchema) -> Option<FieldRef> {
    if is_open(expr) {
        return None;
    }
    let (_, field) = expr.to_field(schema).ok()?;
    (*field.data_type() != DataType::Null).then_some(field)
}

impl Found {
    fn finished(self) -> SqlResult<BTreeMap<usize, Option<FieldRef>>> {
        self.wrong.map_or(Ok(self.types), Err)
    }

    /// Notes a type for `expr` if it is a parameter of which none is known.
    fn note(&mut self, expr: &Expr, field: impl FnOnce() -> Option<FieldRef>) {
        let Some((id, own)) = parameter(expr) else { return };
        match number(id) {
            Ok(i) => {
                let slot = self.types.entry(i).or_default();
                if slot.is_none() {
                    *slot = own.cloned().or_else(field);
                }
            }
            Err(e) => self.wrong = Some(e),
        }
    }

    /// Notes what a cast says of a parameter, whatever its neighbours have said.
    fn say(&mut self, expr: &Expr, field: Option<FieldRef>) {
        let Some(field) = field else { return };
        if let Some((id, None)) = parameter(expr)
            && let Ok(at) = number(id)
        {
            self.types.insert(at, Some(field));
        }
    }

    fn look(&mut self, expr: &Expr, schema: &DFSchema) {
        match expr {
            Expr::Placeholder(p) => self.note(expr, || p.field.clone()),
            Expr::Cast(cast) => self.note(&cast.expr, || Some(Arc::clone(&cast.field))),
            Expr::TryCast(cast) => self.note(&cast.expr, || Some(Arc::clone(&cast.field))),
            Expr::BinaryExpr(binary) => {
                self.note(&binary.left, || typed(&binary.right, schema));
                self.note(&binary.right, || typed(&binary.left, schema));
            }
            Expr::Between(between) => {
                let (low, high) = (between.low.as_ref(), between.high.as_ref());
                self.note(&between.expr, || typed(low, schema).or_else(|| typed(high, schema)));
            }
            Expr::InList(list) => {
                self.note(&list.expr, || list.list.iter().find_map(|item| typed(item, schema)));
            }
            Expr::Case(case) => self.case(case, schema),
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                match (func.name(), args.as_slice()) {
                    ("array_has", [list, item]) => {
                        self.note(list, || typed(item, schema).as_ref().map(array_of));
                        self.note(item, || typed(list, schema).as_deref().and_then(item_of));
                    }
                    (name, [text, ..]) => self.say(text, read_as(name)),
                    _ => {}
                }
                self.arguments(func.as_ref(), func.name(), args, schema);
            }
            Expr::AggregateFunction(AggregateFunction { func, params }) => {
                self.arguments(func.as_ref(), func.name(), &params.args, schema);
            }
            Expr::WindowFunction(window) => {
                let WindowFunction { fun, params } = window.as_ref();
                match fun {
                    WindowFunctionDefinition::AggregateUDF(f) => {
                        self.arguments(f.as_ref(), f.name(), &params.args, schema);
                    }
                    WindowFunctionDefinition::WindowUDF(f) => {
                        self.arguments(f.as_ref(), f.name(), &params.args, schema);
                    }
                }
            }
            _ => {}
        }
    }

    fn case(&mut self, case: &Case, schema: &DFSchema) {
        let whens = || case.when_then_expr.iter().map(|(when, _)| when.as_ref());
        let results = || {
            let thens = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            thens.chain(case.else_expr.as_deref())
        };
        if let Some(operand) = case.expr.as_deref() {
            for when in whens() {
                self.note(when, || typed(operand, schema));
            }
            self.note(operand, || whens().find_map(|when| typed(when, schema)));
        }
        for result in results() {
            self.note(result, || results().find_map(|other| typed(other, schema)));
        }
    }

    /// Parameters among arguments: of the type that the function takes there.
    fn arguments<F: UDFCoercionExt>(
        &mut self,
        function: &F,
        name: &str,
        args: &[Expr],
        schema: &DFSchema,
    ) {
        if !args.iter().any(is_open) {
            return;
        }
        let fields: Vec<FieldRef> = args
            .iter()
            .map(|arg| typed(arg, schema).unwrap_or_else(|| plain(DataType::Null)))
            .collect();
        let taken = fields_with_udf(&fields, function).unwrap_or_default();
        for (at, arg) in args.iter().enumerate() {
            self.note(arg, || {
                let of_function = || {
                    let field = taken.get(at)?;
                    (*field.data_type() != DataType::Null).then(|| Arc::clone(field))
                };
                by_name(name, at).or_else(of_function).or_else(|| alike(name, args, schema))
            });
        }
    }

    /// Parameters that are columns of one input of a union: of the type of that column in another.
    fn columns(&mut self, inputs: &[Arc<LogicalPlan>]) {
        for input in inputs {
            let mut top = input.as_ref();
            // The planner may have brought the inputs to one type already.
            while let LogicalPlan::SubqueryAlias(alias) = top {
                top = alias.input.as_ref();
            }
            let LogicalPlan::Projection(projection) = top else { continue };
            for (at, expr) in projection.expr.iter().enumerate() {
                let mut expr = expr;
                while let Expr::Alias(alias) = expr {
                    expr = &alias.expr;
                }
                self.note(expr, || {
                    inputs.iter().find_map(|other| {
                        let field = other.schema().fields().get(at)?;
                        (*field.data_type() != DataType::Null).then(|| Arc::clone(field))
                    })
                });
            }
        }
    }
}

/// Arguments whose type Postgres has, and the planner's signature leaves open.
fn by_name(function: &str, at: usize) -> Option<FieldRef> {
    let data_type = match (function, at) {
        ("repeat" | "left" | "right" | "lpad" | "rpad" | "round" | "trunc", 1)
        | ("substr" | "substring", 1 | 2)
        | ("split_part", 2)
        | ("chr", 0)
        | ("array_element", 1)
        | ("overlay", 2 | 3) => DataType::Int32,
        ("date_bin", 0) => DataType::Interval(IntervalUnit::MonthDayNano),
        ("date_trunc" | "date_part", 0)
        | ("to_char", 1)
        | ("strpos" | "starts_with" | "concat", _) => DataType::Utf8,
        _ => return None,
    };
    Some(plain(data_type))
}

/// Functions whose arguments are of one type.
fn alike(function: &str, args: &[Expr], schema: &DFSchema) -> Option<FieldRef> {
    let one_type =
        ["generate_series", "range", "coalesce", "greatest", "least", "nullif", "make_array"];
    let other = || args.iter().find_map(|arg| typed(arg, schema));
    one_type.contains(&function).then(other).flatten()
}

/// Gives parameters beside times, spans and arrays the type that Postgres takes there: the planner would take
/// that of the other operand.
#[derive(Debug)]
pub(crate) struct Operands;

impl ExprPlanner for Operands {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> DfResult<PlannerResult<RawBinaryExpr>> {
        let right = beside(&expr.op, &expr.left, &expr.right, false, schema);
        let left = beside(&expr.op, &expr.right, &expr.left, true, schema);
        for (operand, found) in [(&mut expr.right, right), (&mut expr.left, left)] {
            if let (Expr::Placeholder(p), Some(data_type)) = (operand, found) {
                p.field = Some(plain(data_type));
            }
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// The type of the open parameter `operand` beside `other`; none = that of `other`.
fn beside(
    op: &BinaryOperator,
    other: &Expr,
    operand: &Expr,
    is_left: bool,
    schema: &DFSchema,
) -> Option<DataType> {
    if !matches!(operand, Expr::Placeholder(p) if p.field.is_none()) {
        return None;
    }
    let field = typed(other, schema)?;
    let span = DataType::Interval(IntervalUnit::MonthDayNano);
    match (op, field.data_type()) {
        (BinaryOperator::Plus, DataType::Timestamp(..)) => Some(span),
        (BinaryOperator::Plus, DataType::Date32) => Some(DataType::Int32),
        (BinaryOperator::Multiply, DataType::Interval(_)) => Some(DataType::Float64),
        (BinaryOperator::Divide, DataType::Interval(_)) if !is_left => Some(DataType::Float64),
        (BinaryOperator::StringConcat, list @ DataType::List(_)) => Some(list.clone()),
        _ => None,
    }
}
