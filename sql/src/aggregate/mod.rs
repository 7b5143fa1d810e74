//! Aggregate functions of SQL as thin adapters over the states of `engine`, so that raw rows and rollups
//! give the same answer. Each has a twin `otus_merge_<name>` over state columns, used by
//! rollup views, and one `otus_state_<name>` that gives the state of raw rows.

mod adapter;
mod average;
mod between;
mod counted;
mod extremes;
mod kept;
mod real;
mod spans;
mod sum;
mod udaf;

use std::sync::Arc;

use datafusion::error::Result as DfResult;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionState;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::string_agg::string_agg_udaf;
use datafusion::logical_expr::{AggregateUDF, Expr, lit};
use otus_engine::expr::AggregateFunction;

pub(crate) use average::{AVERAGE, DIVIDE, average, divide, mean};
pub(crate) use extremes::ordered_floats;
pub(crate) use spans::spans;
pub(crate) use udaf::no_such_function;
use udaf::{Kind, StateUdaf};

/// Prefix of the merging twins.
pub(crate) const MERGE_PREFIX: &str = "otus_merge_";
/// Prefix of the twins that give their state.
pub(crate) const STATE_PREFIX: &str = "otus_state_";

/// Puts the functions of Otus in the place of DataFusion's.
pub(crate) fn register(state: &mut SessionState) -> DfResult<()> {
    let mut list = vec![
        AggregateUDF::from(sum::Sum::default()),
        AggregateUDF::from(average::Average::default()),
        AggregateUDF::from(spans::PercentileCont::default()),
    ];
    for plain in [array_agg_udaf(), string_agg_udaf()] {
        list.push(counted::counted(plain));
    }
    for kind in Kind::SQL {
        list.push(AggregateUDF::from(StateUdaf::raw(kind)));
    }
    for kind in Kind::ALL {
        list.push(AggregateUDF::from(StateUdaf::merging(kind)));
    }
    for kind in Kind::STATES {
        list.push(AggregateUDF::from(StateUdaf::state(kind)));
        list.push(AggregateUDF::from(StateUdaf::kept(kind)));
    }
    list.push(AggregateUDF::from(StateUdaf::kept(Kind::ApproxSet)));
    for kind in Kind::SQL {
        list.push(AggregateUDF::from(StateUdaf::columns(kind)));
    }
    for udaf in list {
        state.register_udaf(Arc::new(udaf))?;
    }
    Ok(())
}

/// The constant that `function` takes behind its value or states, if any.
pub(crate) fn parameter(function: AggregateFunction) -> Option<Expr> {
    match function {
        AggregateFunction::ApproxQuantile { p } => Some(lit(p)),
        AggregateFunction::TopK { k } => Some(lit(i64::from(k))),
        _ => None,
    }
}

/// The function that merges the states of `function`.
pub(crate) fn merging(function: AggregateFunction) -> AggregateUDF {
    AggregateUDF::from(StateUdaf::merging(Kind::of(function)))
}

/// The function from raw values to the state of `function`; none where the value itself is the state.
pub(crate) fn stating(function: AggregateFunction) -> Option<AggregateUDF> {
    let kind = Kind::of(function);
    Kind::SQL.contains(&kind).then(|| AggregateUDF::from(StateUdaf::columns(kind)))
}

/// `sum`.
pub(crate) fn sum() -> AggregateUDF {
    AggregateUDF::from(sum::Sum::default())
}
