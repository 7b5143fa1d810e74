//! `:top`: of one dimension the first values by a measure are told apart, the others taken together. Others are
//! aggregated from rows or states like everything else, never as a difference of totals: distinct counts stay true.

use super::compare::Facet;
use super::metrics::Work;
use super::problem::{Problem, join};
use super::query::Reader;
use super::table::faceted;
use super::value::Value;

/// Most values that are told apart.
const VALUES_MAX: i64 = 1_000;

/// A checked `:top`.
#[derive(Debug, Clone, PartialEq)]
pub struct Top {
    /// How many values.
    pub n: usize,
    /// The measure that orders them, by its place among those computed.
    pub by: (usize, Facet),
    /// Whether the greatest come first.
    pub falls: bool,
    /// The dimension, by its place.
    pub dim: usize,
    /// Whether there are rows for the others.
    pub others: bool,
}

/// Reads `:top`.
pub(super) fn read(reader: &mut Reader<'_>, work: &mut Work<'_>) -> Option<Top> {
    let form = reader.get("top")?;
    let Value::Map(map) = form else {
        return reader.fail("top", "must be {:n 10 :by :plays :dim :game :others true}");
    };
    for (key, _) in map.iter() {
        if !key.as_name().is_some_and(|k| ["n", "by", "dim", "others", "order"].contains(&k)) {
            let path = join(&reader.path_of("top"), key);
            let reason = "unknown key; there is n, by, dim, others, order";
            reader.problems().push(Problem::bad_argument(reason, &path));
        }
    }
    let n = match map.get_keyword("n") {
        Some(Value::Int(n)) if (1..=VALUES_MAX).contains(n) => usize::try_from(*n).ok()?,
        _ => return reader.fail("top", format!("needs :n, from 1 to {VALUES_MAX}")),
    };
    let dim = match (map.get_keyword("dim").map(Value::as_name), work.dims.as_slice()) {
        (None, [_]) => 0,
        (Some(Some(name)), dims) => match dims.iter().position(|dim| dim == name) {
            Some(place) => place,
            None => return reader.fail("top", format!("the query does not group by {name:?}")),
        },
        _ => return reader.fail("top", "needs :dim, a dimension that the query groups by"),
    };
    let by = match map.get_keyword("by").map(Value::as_name) {
        Some(Some(name)) => match faceted(work.table, name) {
            Some((index, facet)) => (work.measure(index), facet),
            None => return reader.fail("top", format!("{name:?} is no measure")),
        },
        None if !work.measures.is_empty() => (0, Facet::Now),
        _ => return reader.fail("top", "needs :by, a measure"),
    };
    let falls = match map.get_keyword("order").map(Value::as_name) {
        None | Some(Some("desc")) => true,
        Some(Some("asc")) => false,
        Some(_) => return reader.fail("top", ":order is :desc or :asc"),
    };
    let others = match map.get_keyword("others") {
        None | Some(Value::Nil | Value::Bool(false)) => false,
        Some(Value::Bool(true)) => true,
        Some(_) => return reader.fail("top", ":others is true or false"),
    };
    Some(Top { n, by, falls, dim, others })
}
