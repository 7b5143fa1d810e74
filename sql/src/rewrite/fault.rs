//! Ways for the rewriting to be wrong, for the tests that must notice them. A session of a test asks for one
//! by `SET fuzz.fault`; only tests compile any of this.

use std::cell::Cell;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Alias};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast, lit};
use datafusion::scalar::ScalarValue;
use otus_engine::compiled::{CompiledRollup, CompiledTable};
use otus_engine::expr::AggregateFunction as Stored;

use super::calls::{Atom, column};
use super::design::Design;
use super::needs::Needs;
use crate::aggregate;

/// One way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The last bucket of a range is taken whole.
    EndRoundedUp,
    /// The first bucket of a range is taken whole.
    StartRoundedDown,
    /// Raw rows at an edge include the first moment behind it.
    EdgeEndIncluded,
    /// Raw rows of cut buckets are forgotten.
    EdgeDropped,
    /// Raw rows of cut buckets come twice.
    EdgeDoubled,
    /// Raw rows of the open chunk are forgotten.
    OpenDropped,
    /// States of sealed chunks and latest flushes come twice.
    FreshDoubled,
    /// States of sealed chunks and latest flushes are forgotten.
    FreshDropped,
    /// Raw rows from before the rollup was declared are forgotten.
    UncoveredDropped,
    /// Buckets are taken to fit every zone.
    ZoneIgnored,
    /// Weeks are taken to make up months.
    WeeksInMonths,
    /// Buckets are taken to fit every stride.
    StrideIgnored,
    /// Comparisons with the time inside an aggregate cut no bucket.
    CutIgnored,
    /// A null dimension is an empty text.
    NullIsEmpty,
    /// Conditions over dimensions are not asked of states.
    ConditionDropped,
    /// FILTER is not asked of states.
    FilterDropped,
    /// A state of the same function over something else serves.
    WrongMeasure,
    /// Averages of states are averaged.
    AverageOfAverages,
    /// Of sums the least is taken.
    MinOfSums,
    /// Rows of states are counted.
    CountOfStates,
    /// HAVING is forgotten.
    HavingDropped,
    /// Rows that an outer join makes up count as states.
    NullableSide,
    /// A rollup with a filter serves whatever the query asks for.
    FilterIgnored,
    /// A computed dimension serves for another expression over the same columns.
    ComputedByColumns,
}

impl Fault {
    pub(crate) const ALL: [Self; 24] = [
        Self::EndRoundedUp,
        Self::StartRoundedDown,
        Self::EdgeEndIncluded,
        Self::EdgeDropped,
        Self::EdgeDoubled,
        Self::OpenDropped,
        Self::FreshDoubled,
        Self::FreshDropped,
        Self::UncoveredDropped,
        Self::ZoneIgnored,
        Self::WeeksInMonths,
        Self::StrideIgnored,
        Self::CutIgnored,
        Self::NullIsEmpty,
        Self::ConditionDropped,
        Self::FilterDropped,
        Self::WrongMeasure,
        Self::AverageOfAverages,
        Self::MinOfSums,
        Self::CountOfStates,
        Self::HavingDropped,
        Self::NullableSide,
        Self::FilterIgnored,
        Self::ComputedByColumns,
    ];

    /// The fault that a setting names.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| format!("{fault:?}") == name)
    }
}

thread_local! {
    static ARMED: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Disarms at its end.
pub(super) struct Armed;

impl Drop for Armed {
    fn drop(&mut self) {
        ARMED.set(None);
    }
}

/// From now on wrong as the session asks; rewriting keeps to one thread.
pub(super) fn arm(state: &SessionState) -> Armed {
    ARMED.set(state.config().get_extension::<Option<Fault>>().and_then(|fault| *fault));
    Armed
}

/// Whether to be wrong in this way.
pub(super) fn has(fault: Fault) -> bool {
    ARMED.get() == Some(fault)
}

/// What an expression asks for, less what is overlooked.
pub(super) fn needs(needs: &mut Needs) {
    if has(Fault::CutIgnored) {
        needs.cuts.clear();
    }
}

/// Whether another state of the same function is taken.
pub(super) fn takes_another(wanted: &AggregateFunction, stored: &AggregateFunction) -> bool {
    has(Fault::WrongMeasure)
        && wanted.func.name() == stored.func.name()
        && wanted.params.args.len() == stored.params.args.len()
}

/// Whether a computed dimension is taken for another expression.
pub(super) fn takes_computed(known: &Expr, wanted: &Expr, schema: &DFSchema) -> bool {
    let same_type = || match (known.get_type(schema), wanted.get_type(schema)) {
        (Ok(known), Ok(wanted)) => known == wanted,
        _ => false,
    };
    has(Fault::ComputedByColumns)
        && !matches!(wanted, Expr::Column(_) | Expr::Literal(..))
        && known.column_refs() == wanted.column_refs()
        && same_type()
}

/// The last of some sources twice.
pub(super) fn doubled(plans: &mut Vec<LogicalPlan>) {
    if has(Fault::FreshDoubled) {
        plans.extend(plans.last().cloned());
    }
}

/// Sources, conditions on states, and atoms.
pub(super) fn sources(
    design: &Design,
    rest: &[Expr],
    atoms: &[Atom],
    table: &CompiledTable,
    rollup: &CompiledRollup,
) -> (Design, Vec<Expr>, Vec<Atom>) {
    let (mut design, mut rest, mut atoms) = (design.clone(), rest.to_vec(), atoms.to_vec());
    match ARMED.get() {
        Some(Fault::EndRoundedUp) => rounded(&mut design, rollup, false),
        Some(Fault::StartRoundedDown) => rounded(&mut design, rollup, true),
        Some(Fault::EdgeEndIncluded) => {
            design.edges.iter_mut().for_each(|edge| edge.1 = edge.1.saturating_add(1));
        }
        Some(Fault::EdgeDropped) => design.edges.clear(),
        Some(Fault::EdgeDoubled) => {
            let twice = |edge: &mut (i64, i64)| {
                let width = edge.1.saturating_sub(edge.0);
                *edge = (edge.0.saturating_sub(width), edge.1.saturating_add(width));
            };
            design.edges.iter_mut().for_each(twice);
        }
        Some(Fault::OpenDropped) => design.open = false,
        Some(Fault::FreshDropped) => design.fresh = false,
        Some(Fault::UncoveredDropped) => design.uncovered = None,
        Some(Fault::ConditionDropped) => rest.clear(),
        Some(Fault::NullIsEmpty) => {
            let empty = lit(ScalarValue::Utf8View(Some(String::new())));
            for atom in &mut atoms {
                if let Expr::Column(c) = &atom.raw
                    && let Ok(field) = table.schema.field_with_name(&c.name)
                    && *field.data_type() == DataType::Utf8View
                {
                    for side in [&mut atom.raw, &mut atom.state] {
                        *side = coalesce(vec![side.clone(), empty.clone()]);
                    }
                }
            }
        }
        _ => {}
    }
    (design, rest, atoms)
}

/// Takes the bucket in which the whole buckets end, or begin, as whole too.
fn rounded(design: &mut Design, rollup: &CompiledRollup, start: bool) {
    let finest = rollup.def.finest();
    let ranges = design.aligned.iter_mut().chain(design.compacted.iter_mut().map(|c| &mut c.1));
    let mut taken = Vec::new();
    for range in ranges {
        for edge in &design.edges {
            if start && edge.1 == range.0 {
                range.0 = finest.floor_us(edge.0);
                taken.push(*edge);
            } else if !start && edge.0 == range.1 {
                range.1 = finest.next_us(edge.1 - 1);
                taken.push(*edge);
            }
        }
    }
    design.edges.retain(|edge| !taken.contains(edge));
}

/// Merging calls, and the values made of them.
pub(super) fn merges(calls: Vec<Expr>, values: Vec<Expr>) -> DfResult<(Vec<Expr>, Vec<Expr>)> {
    let mut calls: Vec<Expr> = calls.into_iter().map(wrong_call).collect();
    let mut changed = Vec::new();
    for value in values {
        let done = value.transform_up(|e| {
            Ok(match averaged(&e, &calls) {
                Some(call) => {
                    let name = format!("__average{}", calls.len());
                    calls.push(call.alias(&name));
                    Transformed::yes(column(name))
                }
                None => Transformed::no(e),
            })
        });
        changed.push(done.data()?);
    }
    Ok((calls, changed))
}

fn wrong_call(call: Expr) -> Expr {
    let Expr::Alias(Alias { expr, name, .. }) = call else { return call };
    let Expr::AggregateFunction(mut f) = *expr else { return expr.alias(name) };
    match (ARMED.get(), f.func.name()) {
        (Some(Fault::FilterDropped), _) => f.params.filter = None,
        (Some(Fault::MinOfSums), "otus_merge_sum") => {
            f.func = std::sync::Arc::new(aggregate::merging(Stored::Min));
        }
        (Some(Fault::CountOfStates), "otus_merge_count") => {
            f.func = count_udaf();
            f.params.args = vec![lit(1_i64)];
        }
        _ => {}
    }
    Expr::AggregateFunction(f).alias(name)
}

/// The average of the averages of states, for the quotient of a sum and a count.
fn averaged(value: &Expr, calls: &[Expr]) -> Option<Expr> {
    let Expr::ScalarFunction(f) = value else { return None };
    let exact = aggregate::mean(&DataType::Int64).1;
    let is_average = f.func.name() == aggregate::AVERAGE || f.func.name() == exact.name();
    if !has(Fault::AverageOfAverages) || !is_average {
        return None;
    }
    let state = |e: &Expr| -> Option<(Expr, Option<Box<Expr>>)> {
        let bare = match e {
            Expr::Cast(cast) => cast.expr.as_ref(),
            other => other,
        };
        let Expr::Column(c) = bare else { return None };
        let call = calls.iter().find_map(|call| match call {
            Expr::Alias(alias) if alias.name == c.name => Some(alias.expr.as_ref()),
            _ => None,
        });
        match call? {
            Expr::AggregateFunction(f) => {
                Some((f.params.args.first()?.clone(), f.params.filter.clone()))
            }
            _ => None,
        }
    };
    let ((sum, filter), (count, _)) = (state(f.args.first()?)?, state(f.args.get(1)?)?);
    let double = |e: Expr| cast(e, DataType::Float64);
    let each = aggregate::average().call(vec![double(sum), double(count)]);
    let Expr::AggregateFunction(mut average) = avg_udaf().call(vec![each]) else { return None };
    average.params.filter = filter;
    Some(Expr::AggregateFunction(average))
}
