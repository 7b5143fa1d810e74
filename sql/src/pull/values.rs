//! The query map of `:values`: the values of one dimension, for a list to choose from, with a measure beside each and
//! a search in their text.

use super::filter::{Decoder, Filter};
use super::metrics::{Call, Fill, GROUPS_MAX, MetricsQuery, row_entries};
use super::pattern::Target;
use super::problem::{Problem, join};
use super::query::{Interval, Page, Reader};
use super::table::{is_dimension, measure_index, metrics_field};
use super::value::Value;

const KEYS: [&str; 10] =
    ["dim", "search", "filters", "by", "limit", "offset", "from", "to", "window", "tz"];

/// The column of the values.
pub(super) const VALUE: &str = "value";

/// Values of an answer when no limit is given.
const VALUES_DEFAULT: usize = 100;

/// A checked query of `:values`.
#[derive(Debug, Clone, PartialEq)]
pub struct ValuesQuery {
    /// What to group by and compute, as a query of `:metrics` over one bucket.
    pub groups: MetricsQuery,
    /// Whether the interval of the groups was given: else all rows count.
    pub bounded: bool,
    /// A pattern of `ILIKE` for the text of a value.
    pub search: Option<String>,
    /// The measure that orders the values, by its place.
    pub by: Option<usize>,
    /// Columns of an answer's row: name, and the place of a measure or none for the value.
    pub columns: Vec<(String, Option<usize>)>,
}

impl ValuesQuery {
    /// Name of the dimension.
    pub fn dim(&self) -> &str {
        self.groups.dims.first().map_or("", String::as_str)
    }
}

/// Checks a call; `None` if something is wrong, all of it in `problems`.
pub fn check(call: Call<'_>, problems: &mut Vec<Problem>) -> Option<ValuesQuery> {
    let before = problems.len();
    let table = call.table;
    let path = call.argument_path.clone();
    let mut reader = Reader::new(call.argument, &KEYS, &[], path, problems);
    let zone = reader.zone();
    let bounded = ["from", "to", "window"].iter().any(|name| reader.get(name).is_some());
    let interval = match bounded {
        true => reader.interval(zone, call.moment),
        false => {
            let known_to_us = call.moment.now_us;
            Some(Interval { from_us: i64::MIN, to_us: i64::MAX, zone, known_to_us })
        }
    };
    let page = page(&mut reader, call.seq);
    let dim = match reader.get("dim").map(Value::as_name) {
        Some(Some(name)) if is_dimension(table, name) => Some(name.to_string()),
        Some(Some(name)) => reader.fail("dim", format!("{name:?} is no dimension of the table")),
        _ => reader.fail("dim", "is required: the name of a dimension"),
    };
    let search = match reader.get("search") {
        None => None,
        Some(Value::String(text)) => (!text.is_empty()).then(|| containing(text)),
        Some(_) => reader.fail("search", "must be text"),
    };
    let mut filters: Vec<Filter> = Vec::new();
    if let Some(form) = reader.get("filters") {
        let path = reader.path_of("filters");
        let field = |name: &str| metrics_field(table, name);
        filters.extend(Decoder::new(&field, zone, reader.problems()).filter(form, &path));
    }
    let mut measures: Vec<usize> = Vec::new();
    let mut by = match reader.get("by").map(Value::as_name) {
        None => None,
        Some(name) => match name.and_then(|name| measure_index(table, name)) {
            Some(index) => Some(place_of(&mut measures, index)),
            None => reader.fail("by", "must be the name of a measure"),
        },
    };
    let columns = columns(&call, &mut measures, problems);
    by = by.or_else(|| columns.iter().find_map(|(_, place)| *place));
    if problems.len() > before {
        return None;
    }
    let groups = MetricsQuery {
        interval: interval?,
        starts: vec![i64::MIN],
        all: true,
        ends_whole: true,
        dims: vec![dim?],
        measures,
        columns: Vec::new(),
        filters,
        having: Vec::new(),
        order: Vec::new(),
        page,
        fill: Fill::None,
        compare: None,
        top: None,
        totals: Vec::new(),
        digest: 0,
    };
    Some(ValuesQuery { groups, bounded, search, by, columns })
}

/// A page of values: fewer than of rows if nothing is said.
fn page(reader: &mut Reader<'_>, seq: Option<(usize, Option<usize>)>) -> Page {
    let given = reader.get("limit").is_some() || seq.is_some();
    let page = reader.page(seq);
    Page { limit: if given { page.limit } else { VALUES_DEFAULT.min(GROUPS_MAX) }, ..page }
}

fn columns(
    call: &Call<'_>,
    measures: &mut Vec<usize>,
    problems: &mut Vec<Problem>,
) -> Vec<(String, Option<usize>)> {
    let mut columns: Vec<(String, Option<usize>)> = Vec::new();
    for entry in row_entries(call.rows) {
        let Value::Keyword(name) = &entry.key else { continue };
        if matches!(entry.target, Target::Equal(_)) && entry.options.is_empty() {
            let reason = "rows of :values have no filters; give :search or :filters";
            problems.push(Problem::bad_pattern(reason, &join(call.path, &entry.key)));
        }
        let place = match measure_index(call.table, name) {
            _ if &**name == VALUE => None,
            Some(index) => Some(place_of(measures, index)),
            // The shape has refused it already.
            None => continue,
        };
        if !columns.iter().any(|(known, _)| **known == **name) {
            columns.push((name.to_string(), place));
        }
    }
    columns
}

fn place_of(measures: &mut Vec<usize>, index: usize) -> usize {
    measures.iter().position(|known| *known == index).unwrap_or_else(|| {
        measures.push(index);
        measures.len() - 1
    })
}

/// The pattern of `ILIKE` for texts that hold another.
fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
