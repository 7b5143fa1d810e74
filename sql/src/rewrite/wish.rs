//! What a rollup would have to have to answer an aggregate that raw rows answered: for `otus.queries`, from which
//! rollups are proposed. A guess for people, never a plan: an aggregate of a kind that no rollup could answer
//! has no wish. Texts of expressions are read again, and wished for only if they mean the same.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNode;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, Volatility};
use otus_engine::compiled::CompiledTable;
use otus_engine::time::Granularity;
use otus_engine::types::ColumnType;

use super::facts::FactsCache;
use super::needs::{Examiner, Needs};
use super::spelled::spelled;
use super::{Case, examiner};

/// Granularities that are proposed, from coarse to fine.
const PROPOSED: [Granularity; 4] =
    [Granularity::Day, Granularity::Hour, Granularity::Minute, Granularity::Second];
/// Expressions of one aggregate whose texts are read again.
const READ_MAX: usize = 16;

/// A rollup that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The table, with its schema.
    pub(crate) table: String,
    /// The coarsest granularity that would do.
    pub(crate) granularity: Granularity,
    /// Columns that conditions and keys read, by name.
    pub(crate) dimensions: BTreeSet<String>,
    /// Expressions that conditions and keys read.
    pub(crate) computed: BTreeSet<String>,
    /// Aggregates to store, as measures are declared.
    pub(crate) measures: BTreeSet<String>,
    /// Raw rows within the times that were asked for, about.
    pub(crate) rows: u64,
}

impl Wish {
    /// As JSON with the keys `table`, `granularity`, `dimensions`, `computed`, `measures` and `rows`.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "table": self.table,
            "granularity": self.granularity.name(),
            "dimensions": self.dimensions,
            "computed": self.computed,
            "measures": self.measures,
            "rows": self.rows,
        })
    }
}

/// What would answer an aggregate; none if nothing could.
pub(super) fn wish(case: &Case<'_>, state: &SessionState, facts: &FactsCache) -> Option<Wish> {
    let table = case.raw.table();
    let possible: Vec<String> = possible_dimensions(table).collect();
    let mut work = Wishing {
        case,
        state,
        facts,
        table,
        examiner: examiner(table, &possible, ""),
        needs: Needs::default(),
        dimensions: BTreeSet::new(),
        computed: BTreeSet::new(),
        measures: BTreeSet::new(),
        read: 0,
    };
    let keys = || case.keys.iter().map(|(_, key)| key);
    // What is made of columns that are dimensions anyway needs nothing more.
    for key in keys().filter(|key| matches!(key, Expr::Column(_))) {
        work.value(key)?;
    }
    for key in keys() {
        work.value(key)?;
    }
    for condition in &case.split.rest {
        work.condition(condition)?;
    }
    for call in &case.calls {
        let Expr::AggregateFunction(call) = call else { return None };
        work.call(call)?;
    }
    let Wishing { needs, dimensions, computed, mut measures, .. } = work;
    let (from_us, to_us) = case.raw_facts.widened((case.split.from_us, case.split.to_us));
    let fits = |granularity: Granularity| {
        let on_grid = |us: &i64| granularity.floor_us(*us) == *us;
        needs.served_by(granularity, from_us, to_us) && needs.cuts.iter().all(on_grid)
    };
    let served = |granularity: &Granularity| needs.served_by(*granularity, from_us, to_us);
    let exact = PROPOSED.into_iter().find(|granularity| fits(*granularity));
    // Raw rows fill in where a condition cuts buckets: buckets of an hour lose little by that.
    let granularity = exact
        .filter(|granularity| *granularity >= Granularity::Minute)
        .or_else(|| PROPOSED.into_iter().filter(|g| *g <= Granularity::Hour).find(|g| served(g)))?;
    if measures.is_empty() {
        measures.insert("count(*)".to_string());
    }
    let rows = case.raw_facts.rows((case.split.from_us, case.split.to_us));
    let table = table.def.qualified_name();
    Some(Wish { table, granularity, dimensions, computed, measures, rows })
}

/// The parts of a wish, as they come together.
struct Wishing<'a> {
    case: &'a Case<'a>,
    state: &'a SessionState,
    facts: &'a FactsCache,
    table: &'a CompiledTable,
    /// Of all columns that could be dimensions.
    examiner: Examiner<'a>,
    needs: Needs,
    dimensions: BTreeSet<String>,
    computed: BTreeSet<String>,
    measures: BTreeSet<String>,
    read: usize,
}

impl Wishing<'_> {
    /// A value that states must tell: a column, an expression, or what an expression is made of.
    fn value(&mut self, expr: &Expr) -> Option<()> {
        if matches!(expr, Expr::Literal(..)) || self.is_told(expr) {
            return Some(());
        }
        if !matches!(expr, Expr::Column(_))
            && let Some(text) = self.dimension(expr)
        {
            self.computed.insert(text);
            return Some(());
        }
        self.columns(expr)
    }

    /// All columns of an expression.
    fn columns(&mut self, expr: &Expr) -> Option<()> {
        self.examiner.examine(expr, &mut self.needs).ok()?;
        let time = &self.table.def.time;
        let names = expr.column_refs().into_iter().map(|c| c.name.clone());
        self.dimensions.extend(names.filter(|name| name != time));
        Some(())
    }

    /// Whether columns that are dimensions already tell an expression.
    fn is_told(&self, expr: &Expr) -> bool {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|c| self.dimensions.contains(&c.name))
    }

    /// A condition: what it compares with constants; else the whole of it.
    fn condition(&mut self, expr: &Expr) -> Option<()> {
        let subject = match expr {
            Expr::BinaryExpr(b) if matches!(b.op, Operator::And | Operator::Or) => {
                self.condition(&b.left)?;
                return self.condition(&b.right);
            }
            Expr::Not(inner) => return self.condition(inner),
            Expr::BinaryExpr(b) => match (b.left.as_ref(), b.right.as_ref()) {
                (value, Expr::Literal(..)) | (Expr::Literal(..), value) => value,
                _ => expr,
            },
            Expr::InList(list) if list.list.iter().all(|e| matches!(e, Expr::Literal(..))) => {
                list.expr.as_ref()
            }
            Expr::Like(like) => like.expr.as_ref(),
            Expr::IsNull(value) | Expr::IsNotNull(value) => value.as_ref(),
            _ => expr,
        };
        // Comparisons of the event time are told by their buckets, not by a value.
        let is_timed = expr.column_refs().iter().any(|c| c.name == self.table.def.time);
        if is_timed {
            return self.columns(expr);
        }
        self.value(subject).or_else(|| {
            let text = self.dimension(expr)?;
            self.computed.insert(text);
            Some(())
        })
    }

    fn call(&mut self, call: &AggregateFunction) -> Option<()> {
        let params = &call.params;
        let name = call.func.name();
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return None;
        }
        let by_dimension = match name {
            "bool_and" | "bool_or" => true,
            "count" => params.distinct,
            _ => false,
        };
        let filter = params.filter.as_deref();
        if let (true, [value]) = (by_dimension, params.args.as_slice()) {
            filter.map_or(Some(()), |filter| self.condition(filter))?;
            return self.value(value);
        }
        if params.distinct && !matches!(name, "min" | "max") {
            return None;
        }
        // A condition over dimensions is asked of their states; any other belongs to the measure.
        if let Some(filter) = filter
            && self.is_told(filter)
        {
            let mut plain = call.clone();
            plain.params.filter = None;
            return self.measure(&plain);
        }
        self.measure(call).or_else(|| {
            let mut plain = call.clone();
            let filter = plain.params.filter.take()?;
            self.condition(&filter)?;
            self.measure(&plain)
        })
    }

    fn measure(&mut self, call: &AggregateFunction) -> Option<()> {
        let args = call.params.args.as_slice();
        let name = match call.func.name() {
            "stddev" => "stddev_samp",
            "var" => "var_samp",
            name => name,
        };
        let filter = call.params.filter.as_deref();
        if let ("count", [Expr::Literal(value, _)], None) = (name, args, filter)
            && !value.is_null()
        {
            self.measures.insert("count(*)".into());
            return Some(());
        }
        for casts in [false, true] {
            let text = |e: &Expr| spelled(e, casts);
            let (asked, declared) = match (name, args) {
                (
                    "count" | "sum" | "avg" | "min" | "max" | "approx_distinct" | "approx_set"
                    | "var_pop" | "var_samp" | "stddev_pop" | "stddev_samp",
                    [value],
                ) => {
                    let value = match value {
                        Expr::Literal(..) if name == "count" => "*".to_string(),
                        value => text(value)?,
                    };
                    (value.clone(), value)
                }
                ("approx_quantile" | "top_k", [value, Expr::Literal(parameter, _)]) => {
                    let both = format!("{}, {parameter}", text(value)?);
                    (both.clone(), both)
                }
                ("first" | "last", [value, time @ Expr::Column(_)]) => {
                    let value = text(value)?;
                    (format!("{value}, {}", text(time)?), value)
                }
                _ => return None,
            };
            let filter = match filter {
                None => String::new(),
                Some(filter) => format!(" FILTER (WHERE {})", text(filter)?),
            };
            let asked = format!("{name}({asked}){filter}");
            let plain = args.iter().all(|a| matches!(a, Expr::Column(_))) && filter.is_empty();
            if plain || self.means(&asked, call) {
                self.measures.insert(format!("{name}({declared}){filter}"));
                return Some(());
            }
        }
        None
    }

    /// Whether the text of a call is that call.
    fn means(&mut self, text: &str, call: &AggregateFunction) -> bool {
        self.read += 1;
        self.read <= READ_MAX
            && self.facts.call(self.state, self.table, text).is_some_and(|form| form == *call)
    }

    /// The text of a computed dimension.
    fn dimension(&mut self, expr: &Expr) -> Option<String> {
        let columns = expr.column_refs();
        let is_timed = columns.iter().any(|c| c.name == self.table.def.time);
        if columns.is_empty() || is_timed || !is_immutable(expr) {
            return None;
        }
        match expr.get_type(&self.case.schema).ok()? {
            t if t.is_floating() || t.is_nested() => return None,
            DataType::Interval(_) | DataType::Duration(_) => return None,
            _ => {}
        }
        for casts in [false, true] {
            let text = spelled(expr, casts)?;
            self.read += 1;
            if self.read > READ_MAX {
                return None;
            }
            if self.facts.row(self.state, self.table, &text).is_some_and(|form| form == *expr) {
                return Some(text);
            }
        }
        None
    }
}

fn is_immutable(expr: &Expr) -> bool {
    let changes = expr.exists(|e| {
        let immutable = |f: &ScalarFunction| f.func.signature().volatility == Volatility::Immutable;
        Ok(matches!(e, Expr::ScalarFunction(f) if !immutable(f)))
    });
    !changes.unwrap_or(true)
}

fn possible_dimensions(table: &CompiledTable) -> impl Iterator<Item = String> {
    let def = &table.def;
    let possible = def.columns.iter().filter(|column| {
        column.name != def.time
            && !column.column_type.is_float()
            && !matches!(column.column_type, ColumnType::Array(_) | ColumnType::Jsonb)
    });
    possible.map(|column| column.name.clone())
}
