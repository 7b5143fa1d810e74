//! What a rollup would have to have to answer an aggregate that raw rows answered: for `otus.queries`, from which
//! rollups are proposed. A guess for people, never a plan: an aggregate of a kind that no rollup could answer
//! has no wish.

use std::collections::BTreeSet;

use datafusion::common::Column;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::AggregateFunction;
use otus_engine::compiled::CompiledTable;
use otus_engine::time::Granularity;
use otus_engine::types::ColumnType;

use super::needs::Needs;
use super::{Case, examiner};

/// Granularities that are proposed, from coarse to fine.
const PROPOSED: [Granularity; 4] =
    [Granularity::Day, Granularity::Hour, Granularity::Minute, Granularity::Second];

/// A rollup that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The table, with its schema.
    pub(crate) table: String,
    /// The coarsest granularity that would do.
    pub(crate) granularity: Granularity,
    /// Columns that conditions and keys read, by name.
    pub(crate) dimensions: BTreeSet<String>,
    /// Aggregates to store, as measures are declared.
    pub(crate) measures: BTreeSet<String>,
}

impl Wish {
    /// As JSON with the keys `table`, `granularity`, `dimensions` and `measures`.
    pub(crate) fn json(&self) -> String {
        serde_json::json!({
            "table": self.table,
            "granularity": self.granularity.name(),
            "dimensions": self.dimensions,
            "measures": self.measures,
        })
        .to_string()
    }
}

/// What would answer an aggregate; none if nothing could.
pub(super) fn wish(case: &Case<'_>) -> Option<Wish> {
    let table = case.raw.table();
    let possible: Vec<String> = possible_dimensions(table).collect();
    let examiner = examiner(table, &possible, "");
    let mut needs = Needs::default();
    let mut dimensions = BTreeSet::new();
    let mut measures = BTreeSet::new();
    let mut read = |expr: &Expr| {
        examiner.examine(expr, &mut needs).ok()?;
        dimensions.extend(columns(expr).filter(|name| *name != table.def.time));
        Some(())
    };
    for expr in case.split.rest.iter().chain(case.keys.iter().map(|(_, key)| key)) {
        read(expr)?;
    }
    for call in &case.calls {
        let Expr::AggregateFunction(call) = call else { return None };
        if let Some(filter) = &call.params.filter {
            read(filter)?;
        }
        match measure(call)? {
            Stored::As(measure) => {
                measures.insert(measure);
            }
            Stored::ByDimension(name) => read(&Expr::Column(Column::from_name(name)))?,
        }
    }
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
    Some(Wish { table: table.def.qualified_name(), granularity, dimensions, measures })
}

/// How a rollup could know an aggregate.
enum Stored {
    As(String),
    ByDimension(String),
}

fn measure(call: &AggregateFunction) -> Option<Stored> {
    let params = &call.params;
    if !params.order_by.is_empty() || params.null_treatment.is_some() {
        return None;
    }
    let name = call.func.name();
    let [arg] = params.args.as_slice() else { return None };
    if matches!(arg, Expr::Literal(value, _) if !value.is_null()) && name == "count" {
        return Some(Stored::As("count(*)".into()));
    }
    let column = plain_column(arg)?;
    if params.distinct && !matches!(name, "min" | "max") {
        return (name == "count").then_some(Stored::ByDimension(column));
    }
    let quoted = datafusion::common::utils::quote_identifier(&column).into_owned();
    matches!(name, "count" | "sum" | "avg" | "min" | "max" | "approx_distinct")
        .then(|| Stored::As(format!("{name}({quoted})")))
}

/// The column, if an expression is one but for casts.
fn plain_column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Column(column) => Some(column.name.clone()),
        Expr::Cast(cast) => plain_column(&cast.expr),
        _ => None,
    }
}

fn columns(expr: &Expr) -> impl Iterator<Item = String> {
    let names: Vec<String> = expr.column_refs().into_iter().map(|c| c.name.clone()).collect();
    names.into_iter()
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
