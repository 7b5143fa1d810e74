//! `generate_series` and `range` over integers and times, in FROM and, as lists, in expressions. Steps of days
//! and months follow the calendar of a zone: the last argument, or else the session's.

mod list;
mod steps;
mod table;

use std::sync::Arc;

use datafusion::catalog::TableFunction;
use datafusion::logical_expr::ScalarUDF;

/// Names, and whether the end belongs to the series.
const NAMES: [(&str, bool); 2] = [("generate_series", true), ("range", false)];

/// The forms that give a list.
pub(super) fn lists() -> impl Iterator<Item = ScalarUDF> {
    NAMES.into_iter().map(|(name, closed)| list::list(name, closed))
}

/// The forms that stand in FROM.
pub(super) fn tables() -> impl Iterator<Item = TableFunction> {
    NAMES.into_iter().map(|(name, closed)| {
        let function = table::SeriesFunction { name, closed };
        TableFunction::new(name.to_string(), Arc::new(function))
    })
}
