//! Measures: aggregate calls are taken out of each expression and shared; what is left, the finish, is an
//! expression over their results. Inside a call a name is a column, outside one a measure.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr as LogicalExpr;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName,
};
use otus_engine::catalog::MeasureDef;
use otus_engine::expr::{AggregateCall, AggregateFunction, CompiledMeasure, CompiledMeasures};
use otus_engine::{Error, Result};
use std::sync::Arc;

use super::{scalar, wrong, wrong_sql};
use crate::aggregate::{AVERAGE, DIVIDE};
use crate::error::{SqlResult, near};
use crate::statement;

const CALL: &str = "__call";
/// What can be kept as a state and merged.
const AGGREGATES: [&str; 13] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "var_pop",
    "var_samp",
    "stddev_pop",
    "stddev_samp",
    "first",
    "last",
    "approx_distinct",
    "approx_quantile",
];

/// Compiles the measures of a table.
pub(super) fn compile(
    state: &SessionState,
    schema: &SchemaRef,
    time: &str,
    measures: &[MeasureDef],
) -> Result<CompiledMeasures> {
    let mut work = Work { state, schema, time, measures, calls: Vec::new(), done: BTreeMap::new() };
    for (i, measure) in measures.iter().enumerate() {
        if measures.iter().take(i).any(|m| m.name == measure.name) {
            return Err(Error::invalid(format!("measure {:?} is declared twice", measure.name)));
        }
        work.measure(&measure.name, &mut Vec::new())?;
    }
    let compiled = measures.iter().map(|m| work.finished(&m.name)).collect::<Result<Vec<_>>>()?;
    Ok(CompiledMeasures { calls: work.calls, measures: compiled })
}

/// The finish of a measure as a logical expression over columns `__call0`, `__call1` ….
pub(crate) fn finish_expr(
    state: &SessionState,
    finish_sql: &str,
    calls: &Schema,
) -> SqlResult<LogicalExpr> {
    let parsed = statement::expression(finish_sql, &|_| false)?;
    scalar::logical(state, calls, &parsed)
}

struct Work<'a> {
    state: &'a SessionState,
    schema: &'a SchemaRef,
    time: &'a str,
    measures: &'a [MeasureDef],
    calls: Vec<AggregateCall>,
    done: BTreeMap<String, Expr>,
}

impl Work<'_> {
    /// The finish of the measure `name`, compiled if it is not yet. `path` = measures being compiled.
    fn measure(&mut self, name: &str, path: &mut Vec<String>) -> Result<Expr> {
        if let Some(done) = self.done.get(name) {
            return Ok(done.clone());
        }
        if path.iter().any(|p| p == name) {
            path.push(name.to_string());
            return Err(Error::invalid(format!(
                "measure {name:?} is defined by itself: {}",
                path.join(" → ")
            )));
        }
        let Some(measure) = self.measures.iter().find(|m| m.name == name) else {
            return Err(Error::not_found(format!("measure {name:?} is not declared")));
        };
        let is_name = |word: &str| {
            self.schema.index_of(word).is_ok() || self.measures.iter().any(|m| m.name == word)
        };
        let mut expr = statement::expression(&measure.sql, &is_name)
            .map_err(|e| wrong_sql(&measure.sql, &e))?;
        path.push(name.to_string());
        let mut split = Split { work: self, sql: &measure.sql, path };
        if let ControlFlow::Break(e) = ast::VisitMut::visit(&mut expr, &mut split) {
            return Err(match e.hint() {
                Some(hint) => Error::new(e.kind(), format!("measure {name:?}: {}", e.message()))
                    .with_hint(hint.to_string()),
                None => Error::new(e.kind(), format!("measure {name:?}: {}", e.message())),
            });
        }
        path.pop();
        self.done.insert(name.to_string(), expr.clone());
        Ok(expr)
    }

    /// Index of the call, added if it is new.
    fn call(
        &mut self,
        function: AggregateFunction,
        args: &[Expr],
        filter: Option<&Expr>,
        sql: &str,
    ) -> Result<usize> {
        let args_sql: Vec<String> = args.iter().map(ToString::to_string).collect();
        let filter_sql = filter.map(ToString::to_string);
        let mut key = format!("{}({})", function.sql_name(), args_sql.join(", "));
        if let AggregateFunction::ApproxQuantile { p } = function {
            key = format!("approx_quantile({}, {p})", args_sql.join(", "));
        }
        if let Some(filter) = &filter_sql {
            key = format!("{key} FILTER (WHERE {filter})");
        }
        if let Some(known) = self.calls.iter().position(|c| c.key == key) {
            return Ok(known);
        }
        let compile = |e: &Expr| scalar::compile_ast(self.state, self.schema, e, sql);
        let compiled = args.iter().map(compile).collect::<Result<Vec<_>>>()?;
        let filter = filter.map(compile).transpose()?;
        if filter.as_ref().is_some_and(|f| *f.data_type() != DataType::Boolean) {
            return Err(wrong(sql, "the condition of FILTER is not boolean"));
        }
        let types: Vec<_> = compiled.iter().map(|c| c.data_type().clone()).collect();
        function.output_type(&types)?;
        let prefix = self.prefix(function, args, filter_sql.is_some(), &key);
        self.calls.push(AggregateCall {
            key,
            prefix,
            function,
            args: compiled,
            args_sql,
            filter,
            filter_sql,
        });
        Ok(self.calls.len() - 1)
    }

    /// Name of the state columns. It depends on the call alone, as it stays on disk.
    fn prefix(
        &self,
        function: AggregateFunction,
        args: &[Expr],
        filtered: bool,
        key: &str,
    ) -> String {
        let name = match function {
            AggregateFunction::ApproxQuantile { p } => {
                format!("approx_quantile_{}", p.to_string().replace(['.', '-'], "_"))
            }
            other => other.sql_name().to_string(),
        };
        let plain = match args.first() {
            None => Some(name.clone()),
            Some(Expr::Identifier(ident)) => Some(format!("{name}_{}", ident.value)),
            Some(_) => None,
        };
        match plain.filter(|p| !filtered && !self.calls.iter().any(|c| c.prefix == *p)) {
            Some(plain) => plain,
            None => format!("{name}_{:08x}", fnv(key) >> 32),
        }
    }

    fn finished(&self, name: &str) -> Result<CompiledMeasure> {
        let Some(expr) = self.done.get(name) else {
            return Err(Error::internal(format!("measure {name:?} was not compiled")));
        };
        let mut calls = Vec::new();
        let _flow = ast::visit_expressions(expr, |e| {
            if let Expr::Identifier(ident) = e
                && let Some(i) = call_index(&ident.value)
                && !calls.contains(&i)
            {
                calls.push(i);
            }
            ControlFlow::<()>::Continue(())
        });
        if calls.is_empty() {
            return Err(Error::invalid(format!("measure {name:?} aggregates nothing"))
                .with_hint("such as count(*) or sum(x)"));
        }
        let fields = self.calls.iter().enumerate().map(|(i, call)| {
            let types: Vec<_> = call.args.iter().map(|a| a.data_type().clone()).collect();
            Ok(Field::new(format!("{CALL}{i}"), call.function.output_type(&types)?, true))
        });
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        let data_type = scalar::compile_ast(self.state, &schema, expr, name)?.data_type().clone();
        let of = |i: &usize| self.calls.get(*i).map(|c| c.function);
        let single = matches!(unnested(expr), Expr::Identifier(_));
        let additive = single
            && calls.iter().filter_map(of).all(|f| {
                use AggregateFunction as F;
                matches!(f, F::CountAll | F::Count | F::Sum)
            });
        let approximate = calls.iter().filter_map(of).any(|f| {
            use AggregateFunction as F;
            matches!(f, F::ApproxDistinct | F::ApproxQuantile { .. })
        });
        Ok(CompiledMeasure {
            name: name.to_string(),
            data_type,
            finish_sql: expr.to_string(),
            calls,
            additive,
            approximate,
        })
    }
}

fn unnested(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => unnested(inner),
        other => other,
    }
}

fn call_index(name: &str) -> Option<usize> {
    name.strip_prefix(CALL).and_then(|i| i.parse().ok())
}

fn call_name(i: usize) -> Expr {
    Expr::Identifier(Ident::new(format!("{CALL}{i}")))
}

/// Takes the calls out of one expression, puts measures in, and makes division safe.
struct Split<'a, 'b> {
    work: &'a mut Work<'b>,
    sql: &'a str,
    path: &'a mut Vec<String>,
}

impl ast::VisitorMut for Split<'_, '_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let result = match expr {
            Expr::Function(f) => match self.aggregate(f) {
                Ok(Some(replacement)) => {
                    *expr = replacement;
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(e) => Err(e),
            },
            Expr::CompoundIdentifier(_) => {
                Err(wrong(self.sql, format!("name {expr} is qualified; measures are named alone")))
            }
            _ => Ok(()),
        };
        result.map_or_else(ControlFlow::Break, ControlFlow::Continue)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Identifier(ident) if call_index(&ident.value).is_none() => {
                match self.measure(ident) {
                    Ok(inner) => *expr = inner,
                    Err(e) => return ControlFlow::Break(e),
                }
            }
            Expr::BinaryOp { left, op: BinaryOperator::Divide, right } => {
                let args = [take(left), take(right)];
                *expr = function(DIVIDE, args);
            }
            Expr::BinaryOp { op: BinaryOperator::Modulo, right, .. } => {
                let zero = Expr::Value(ast::Value::Number("0".into(), false).into());
                **right = function("nullif", [take(right), zero]);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::Identifier(Ident::new("")))
}

fn function(name: &str, args: impl IntoIterator<Item = Expr>) -> Expr {
    let args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

impl Split<'_, '_> {
    fn measure(&mut self, ident: &Ident) -> Result<Expr> {
        let name = statement::folded(ident);
        if !self.work.measures.iter().any(|m| m.name == name) {
            let column = self.work.schema.index_of(&name).is_ok();
            return Err(match column {
                true => wrong(self.sql, format!("column {name:?} stands outside an aggregate"))
                    .with_hint(format!("such as sum({name}) or max({name})")),
                false => wrong(self.sql, format!("there is no measure {name:?}")),
            });
        }
        let inner = self.work.measure(&name, self.path)?;
        Ok(match inner {
            simple @ Expr::Identifier(_) => simple,
            other => Expr::Nested(Box::new(other)),
        })
    }

    /// What stands in the place of an aggregate call; none if the function is no aggregate.
    fn aggregate(&mut self, f: &Function) -> Result<Option<Expr>> {
        use AggregateFunction as F;
        let [part] = f.name.0.as_slice() else { return Ok(None) };
        let Some(ident) = part.as_ident() else { return Ok(None) };
        let name = ident.value.to_ascii_lowercase();
        let simple = match name.as_str() {
            "count" | "avg" | "mean" | "first" | "last" | "approx_quantile" => None,
            "sum" => Some(F::Sum),
            "min" => Some(F::Min),
            "max" => Some(F::Max),
            "var_pop" => Some(F::VarPop),
            "var_samp" | "variance" | "var" => Some(F::VarSamp),
            "stddev_pop" => Some(F::StddevPop),
            "stddev_samp" | "stddev" => Some(F::StddevSamp),
            "approx_distinct" => Some(F::ApproxDistinct),
            _ => return self.not_ours(&name),
        };
        let args = self.arguments(f)?;
        let filter = f.filter.as_deref();
        let time = Expr::Identifier(Ident::with_quote('"', self.work.time));
        let lacks = |n: &str| wrong(self.sql, format!("{name}() takes {n}"));
        let call = match (simple, name.as_str(), args.as_slice()) {
            (Some(function), _, [Some(x)]) => {
                self.work.call(function, std::slice::from_ref(x), filter, self.sql)?
            }
            (None, "count", [None]) => self.work.call(F::CountAll, &[], filter, self.sql)?,
            (None, "count", [Some(x)]) => {
                self.work.call(F::Count, std::slice::from_ref(x), filter, self.sql)?
            }
            (None, "avg" | "mean", [Some(x)]) => {
                let x = std::slice::from_ref(x);
                let sum = self.work.call(F::Sum, x, filter, self.sql)?;
                let count = self.work.call(F::Count, x, filter, self.sql)?;
                return Ok(Some(function(AVERAGE, [call_name(sum), call_name(count)])));
            }
            (None, "first", [Some(x)]) => {
                self.work.call(F::First, &[x.clone(), time], filter, self.sql)?
            }
            (None, "last", [Some(x)]) => {
                self.work.call(F::Last, &[x.clone(), time], filter, self.sql)?
            }
            (None, "approx_quantile", [Some(x), Some(p)]) => {
                let p = p.to_string().parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p));
                let p =
                    p.ok_or_else(|| lacks("a number between 0 and 1 as its second argument"))?;
                let function = F::ApproxQuantile { p };
                self.work.call(function, std::slice::from_ref(x), filter, self.sql)?
            }
            (None, "approx_quantile", _) => return Err(lacks("two arguments: x and p")),
            _ => return Err(lacks("one argument")),
        };
        Ok(Some(call_name(call)))
    }

    /// None for a function over what is aggregated.
    fn not_ours(&self, name: &str) -> Result<Option<Expr>> {
        let error = if self.work.state.aggregate_functions().contains_key(name) {
            format!("aggregate function {name}() has no mergeable state")
        } else if self.exists(name) {
            return Ok(None);
        } else {
            format!("function {name}() does not exist")
        };
        let hint = match near(name, AGGREGATES) {
            Some(near) => format!("perhaps you meant {near}()"),
            None => format!("aggregates are {}", AGGREGATES.join(", ")),
        };
        Err(wrong(self.sql, error).with_hint(hint))
    }

    /// Whether there is a function of this name that is no aggregate. Some are known to the planner alone.
    fn exists(&self, name: &str) -> bool {
        if self.work.state.scalar_functions().contains_key(name)
            || self.work.state.window_functions().contains_key(name)
        {
            return true;
        }
        let planned = scalar::logical(self.work.state, &Schema::empty(), &function(name, []));
        planned.err().is_none_or(|e| e.message != format!("function {name}() does not exist"))
    }

    /// The arguments of a call; none stands for `*`.
    fn arguments(&self, f: &Function) -> Result<Vec<Option<Expr>>> {
        if f.over.is_some() {
            return Err(wrong(self.sql, "window functions are not allowed"));
        }
        let FunctionArguments::List(list) = &f.args else {
            return Err(wrong(self.sql, format!("{}() lacks its arguments", f.name)));
        };
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            return Err(wrong(self.sql, "DISTINCT aggregates cannot be merged")
                .with_hint("approx_distinct(x) counts distinct values within about 2%"));
        }
        if !list.clauses.is_empty() || !f.within_group.is_empty() || f.null_treatment.is_some() {
            return Err(wrong(self.sql, format!("clauses inside {}() are not supported", f.name)));
        }
        list.args
            .iter()
            .map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Ok(Some(e.clone())),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => Ok(None),
                _ => {
                    Err(wrong(self.sql, format!("argument {arg} of {}() is not supported", f.name)))
                }
            })
            .collect()
    }
}

/// FNV-1a: the same on every machine and in every version, as names on disk must be.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
