//! What happens to rows after the query: gaps are filled bucket by bucket, rows ordered and paged. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::metrics::{Column, Fill, MetricsQuery};
use super::value::Value;
use crate::gapfill::{Slot, slots};

/// A row: index of its bucket, dimensions, measures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) bucket: usize,
    pub(super) dims: Vec<Value>,
    pub(super) measures: Vec<Value>,
}

/// Adds the missing buckets of every group of rows, or of the only group. `zero` holds what each measure is
/// over no rows. `None` if there would be more than `rows_max` rows.
pub(super) fn fill(
    query: &MetricsQuery,
    rows: Vec<Row>,
    zero: &[Value],
    rows_max: usize,
) -> Option<Vec<Row>> {
    if query.fill == Fill::None {
        return Some(rows);
    }
    let mut groups: BTreeMap<Vec<Value>, BTreeMap<usize, Vec<Value>>> = BTreeMap::new();
    if query.dims.is_empty() {
        groups.insert(Vec::new(), BTreeMap::new());
    }
    for row in rows {
        groups.entry(row.dims).or_default().insert(row.bucket, row.measures);
    }
    if groups.len().saturating_mul(query.starts.len()) > rows_max {
        return None;
    }
    let nothing = vec![Value::Nil; query.measures.len() * query.facets().len()];
    let mut filled = Vec::with_capacity(groups.len() * query.starts.len());
    for (dims, buckets) in groups {
        let (places, found): (Vec<usize>, Vec<Vec<Value>>) = buckets.into_iter().unzip();
        let known = |row: usize| found.get(row).cloned();
        for slot in slots(&places, 0..query.starts.len()) {
            let (bucket, measures) = match (slot, query.fill) {
                (Slot::Row(row), _) => (places.get(row).copied(), known(row)),
                (Slot::Gap { at, .. }, Fill::Zero) => (Some(at), Some(zero.to_vec())),
                (Slot::Gap { at, previous, .. }, Fill::Previous) => {
                    (Some(at), previous.and_then(known))
                }
                (Slot::Gap { at, .. }, _) => (Some(at), None),
            };
            let measures = measures.unwrap_or_else(|| nothing.clone());
            filled.push(Row { bucket: bucket.unwrap_or_default(), dims: dims.clone(), measures });
        }
    }
    Some(filled)
}

/// Orders rows as the query says; nil comes last either way, and others come last of all, or of their bucket where
/// buckets come first.
pub(super) fn sort(query: &MetricsQuery, rows: &mut [Row]) {
    let others = |row: &Row| {
        let dim = query.top.as_ref().and_then(|top| row.dims.get(top.dim));
        matches!(dim, Some(Value::Map(_)))
    };
    let width = query.measures.len();
    let by = |a: &Row, b: &Row, (column, falls): &(Column, bool)| match column {
        Column::Bucket => ordered(a.bucket.cmp(&b.bucket), *falls),
        Column::Dimension(i) => by_value(a.dims.get(*i), b.dims.get(*i), *falls),
        Column::Measure(i, facet) => {
            let facets = query.facets().iter();
            let place = facets.take_while(|known| *known != facet).count() * width + i;
            by_value(a.measures.get(place), b.measures.get(place), *falls)
        }
    };
    let buckets = query.order.iter().take_while(|(column, _)| *column == Column::Bucket).count();
    rows.sort_by(|a, b| {
        let compare = |terms: &[(Column, bool)]| {
            let orders = terms.iter().map(|term| by(a, b, term));
            orders.fold(Ordering::Equal, Ordering::then)
        };
        let (first, rest) = query.order.split_at(buckets);
        compare(first).then_with(|| others(a).cmp(&others(b))).then_with(|| compare(rest))
    });
}

fn ordered(order: Ordering, falls: bool) -> Ordering {
    if falls { order.reverse() } else { order }
}

fn by_value(a: Option<&Value>, b: Option<&Value>, falls: bool) -> Ordering {
    let is_nil = |value: Option<&Value>| value.is_none_or(Value::is_nil);
    match (is_nil(a), is_nil(b), a, b) {
        (true, true, _, _) => Ordering::Equal,
        (true, false, _, _) => Ordering::Greater,
        (false, true, _, _) => Ordering::Less,
        (_, _, Some(a), Some(b)) => {
            ordered(a.compare_numbers(b).unwrap_or_else(|| a.cmp(b)), falls)
        }
        _ => Ordering::Equal,
    }
}
