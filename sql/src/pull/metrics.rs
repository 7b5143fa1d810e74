//! The query map of `:metrics` with its row pattern, checked against a table: what to group by, compute, keep
//! and fill. A decision, not an act: the plan module carries it out.

use std::sync::Arc;

use otus_engine::catalog::BUCKET_COLUMN;
use otus_engine::compiled::CompiledTable;

use super::compare::{self, Compare, Facet};
use super::cursor;
use super::filter::{Decoder, FieldType, Filter};
use super::pattern::{Entry, Pattern, RowsPattern, Target};
use super::problem::{Path, Problem, join};
use super::query::{Interval, Moment, Page, ROWS_MAX, Reader, instant, period_of};
use super::table::{faceted, is_dimension, measure_index, metrics_field};
use super::top::{self, Top};
use super::value::Value;
use crate::calendar::{BUCKETS_MAX, Period, Step};

const KEYS: [&str; 16] = [
    "granularity",
    "from",
    "to",
    "window",
    "tz",
    "dims",
    "filters",
    "having",
    "order",
    "limit",
    "offset",
    "after",
    "top",
    "fill",
    "compare",
    "totals",
];

/// What stands in a column of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Start of the bucket.
    Bucket,
    /// A dimension, by its place in [`MetricsQuery::dims`].
    Dimension(usize),
    /// A measure, by its place in [`MetricsQuery::measures`], or how it compares.
    Measure(usize, Facet),
}

/// How buckets without rows are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Not at all.
    None,
    /// Zero for what counts and sums, nil for the rest.
    Zero,
    /// Nil.
    Null,
    /// The values of the bucket before.
    Previous,
}

/// A checked query of `:metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsQuery {
    /// Interval and zone.
    pub interval: Interval,
    /// Starts of the buckets; one, the interval's own start, for `:all`.
    pub starts: Vec<i64>,
    /// Whether the whole interval is one bucket.
    pub all: bool,
    /// Whether the last bucket ends where the interval does.
    pub ends_whole: bool,
    /// Group keys, by column name.
    pub dims: Vec<String>,
    /// Computed measures, by index into the table's.
    pub measures: Vec<usize>,
    /// Marked columns of an answer's row.
    pub columns: Vec<(String, Column)>,
    /// Filters below the aggregate.
    pub filters: Vec<Filter>,
    /// Filters above the aggregate.
    pub having: Vec<Filter>,
    /// Order of rows, each with whether it falls. Dimensions break ties.
    pub order: Vec<(Column, bool)>,
    /// Page.
    pub page: Page,
    /// Gaps.
    pub fill: Fill,
    /// What it is compared with.
    pub compare: Option<Compare>,
    /// The values of one dimension that are told apart.
    pub top: Option<Top>,
    /// Group keys of each of the totals.
    pub totals: Vec<Totals>,
    /// Which query a cursor belongs to.
    pub digest: u64,
}

/// The keys by which totals are grouped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Whether by bucket.
    pub bucket: bool,
    /// Dimensions, by their places in [`MetricsQuery::dims`].
    pub dims: Vec<usize>,
}

impl MetricsQuery {
    /// Whether gaps are filled or others added, before order and page.
    pub fn is_finished_in_memory(&self) -> bool {
        self.fill != Fill::None || self.top.is_some()
    }

    /// The facets that an answer may have.
    pub fn facets(&self) -> &'static [Facet] {
        match self.compare {
            Some(_) => &Facet::ALL,
            None => &Facet::ALL[..1],
        }
    }

    /// The same over the whole interval at once, grouped by other dimensions of its own: nothing else of it.
    pub fn regrouped(&self, dims: Vec<String>) -> Self {
        let whole = |starts: &[i64], interval: Interval| match starts {
            [] => Vec::new(),
            _ => vec![interval.from_us],
        };
        let compare = self
            .compare
            .as_ref()
            .map(|other| Compare { starts: whole(&other.starts, other.interval), ..other.clone() });
        Self {
            starts: whole(&self.starts, self.interval),
            all: true,
            compare,
            dims,
            columns: Vec::new(),
            having: Vec::new(),
            order: Vec::new(),
            page: Page { offset: 0, limit: GROUPS_MAX },
            fill: Fill::None,
            top: None,
            totals: Vec::new(),
            ..self.clone()
        }
    }
}

/// What a query is read from.
#[derive(Debug)]
pub struct Call<'a> {
    /// The table.
    pub table: &'a Arc<CompiledTable>,
    /// The query map.
    pub argument: &'a super::value::Map,
    /// The row pattern; its literals become filters.
    pub rows: Option<&'a RowsPattern>,
    /// A `:seq` that follows the call.
    pub seq: Option<(usize, Option<usize>)>,
    /// Path of the entry.
    pub path: &'a Path,
    /// Path of the query map.
    pub argument_path: Path,
    /// Now, and the newest event.
    pub moment: Moment,
}

/// The entries of the pattern of a row.
pub(super) fn row_entries(rows: Option<&RowsPattern>) -> &[Entry] {
    match rows.map(|rows| &rows.element) {
        Some(Pattern::Map(map)) => &map.entries,
        _ => &[],
    }
}

/// Removes the entries that have become filters.
pub(super) fn strip_filters(rows: &mut RowsPattern) {
    if let Pattern::Map(map) = &mut rows.element {
        map.entries.retain(|e| !(matches!(e.target, Target::Equal(_)) && e.options.is_empty()));
    }
}

/// Checks a call; `None` if something is wrong, all of it in `problems`.
pub fn check(call: Call<'_>, problems: &mut Vec<Problem>) -> Option<MetricsQuery> {
    let before = problems.len();
    let table = call.table;
    let path = call.argument_path.clone();
    let mut reader = Reader::new(call.argument, &KEYS, &[], path, problems);
    let zone = reader.zone();
    let interval = reader.interval(zone, call.moment);
    let step = granularity(&mut reader, zone);
    let digest = cursor::digest(call.argument);
    let page = cursor::after(&mut reader, digest, call.seq);
    let order = reader.order();
    let named = reader.names("dims");
    let fill = fill(&mut reader);
    let mut work = Work { table, dims: Vec::new(), measures: Vec::new(), columns: Vec::new() };
    work.dimensions(named.as_deref(), &mut reader);
    let (mut filters, mut having) = work.filters(&mut reader, zone);
    let entries = row_entries(call.rows);
    work.row(
        entries,
        named.is_some(),
        zone,
        &mut filters,
        &mut having,
        (call.path, reader.problems()),
    );
    let starts = starts(&mut reader, interval, step.as_ref());
    let all = matches!(step, Some(None));
    let buckets = starts.as_ref().map_or(0, Vec::len);
    let compare =
        compare::read(&mut reader, interval, step.as_ref().and_then(Option::as_ref), buckets);
    let order = work.order(order, all, &mut reader);
    let top = top::read(&mut reader, &mut work);
    let totals = work.totals(&mut reader);
    if reader.get("compare").is_none() {
        work.refuse_facets(&order, top.as_ref(), call.path, reader.problems());
    }
    work.refuse_differences(compare.is_some(), call.path, reader.problems());
    let fill = filled(&mut reader, fill, &work.dims, &having);
    if top.is_some() && !having.is_empty() {
        reader.fail::<()>("top", "cannot stand beside a filter on measures");
    }
    if problems.len() > before {
        return None;
    }
    let interval = interval?;
    let ends_whole = step.flatten().is_none_or(|step| step.floor(interval.to_us) == interval.to_us);
    Some(MetricsQuery {
        interval,
        ends_whole,
        starts: starts?,
        all,
        dims: work.dims,
        measures: work.measures,
        columns: work.columns,
        filters,
        having,
        order,
        page: page?,
        fill,
        compare,
        top,
        totals,
        digest,
    })
}

/// `:granularity`: `Some(None)` for `:all`, `None` if wrong.
fn granularity(reader: &mut Reader<'_>, zone: chrono_tz::Tz) -> Option<Option<Step>> {
    let wrong = "must be :all, a granularity such as :hour, or an ISO period such as \"PT15M\"";
    let period = |name: &str| -> Option<Period> { period_of(name) };
    match reader.get("granularity") {
        None => Some(None),
        Some(Value::Map(map)) => {
            let length = map.get_keyword("period").and_then(Value::as_name).and_then(period);
            let origin = map.get_keyword("origin").map(|origin| instant(origin, zone));
            match (length, origin) {
                (Some(length), None) => Some(Some(Step::new(length, zone, None))),
                (Some(length), Some(Some(origin))) if map.len() == 2 => {
                    Some(Some(Step::new(length, zone, Some(origin))))
                }
                _ => reader.fail("granularity", "must be {:period \"P7D\", :origin <instant>}"),
            }
        }
        Some(value) => match value.as_name() {
            Some("all") => Some(None),
            Some(name) => match period(name) {
                Some(length) => Some(Some(Step::new(length, zone, None))),
                None => reader.fail("granularity", wrong),
            },
            None => reader.fail("granularity", wrong),
        },
    }
}

fn starts(
    reader: &mut Reader<'_>,
    interval: Option<Interval>,
    step: Option<&Option<Step>>,
) -> Option<Vec<i64>> {
    let interval = interval?;
    match step? {
        None if interval.from_us == interval.to_us => Some(Vec::new()),
        None => Some(vec![interval.from_us]),
        Some(step) => match step.starts(interval.from_us, interval.to_us) {
            Some(starts) => Some(starts),
            None => {
                let path = reader.path_of("granularity");
                let reason =
                    format!("the interval has more than {BUCKETS_MAX} buckets of this size");
                reader.problems().push(Problem::new("too-large", reason, &path));
                None
            }
        },
    }
}

/// How gaps are filled, said or not.
fn filled(
    reader: &mut Reader<'_>,
    given: Option<Fill>,
    dims: &[String],
    having: &[Filter],
) -> Fill {
    match given {
        Some(fill) => {
            if fill != Fill::None && !having.is_empty() {
                reader.fail::<()>("fill", "cannot stand beside a filter on measures");
            }
            fill
        }
        None if dims.is_empty() && having.is_empty() => Fill::Zero,
        None => Fill::None,
    }
}

fn fill(reader: &mut Reader<'_>) -> Option<Fill> {
    match reader.get("fill").map(Value::as_name)? {
        Some("zero") => Some(Fill::Zero),
        Some("null" | "nil") => Some(Fill::Null),
        Some("previous") => Some(Fill::Previous),
        Some("none") => Some(Fill::None),
        _ => reader.fail("fill", "must be :zero, :null, :previous or :none"),
    }
}

/// What has been read of a query.
pub(super) struct Work<'a> {
    pub(super) table: &'a CompiledTable,
    pub(super) dims: Vec<String>,
    pub(super) measures: Vec<usize>,
    columns: Vec<(String, Column)>,
}

impl Work<'_> {
    fn dimensions(&mut self, named: Option<&[String]>, reader: &mut Reader<'_>) {
        for (i, name) in named.unwrap_or_default().iter().enumerate() {
            let path = join(&reader.path_of("dims"), i);
            if !is_dimension(self.table, name) {
                let reason = format!("{name:?} is no dimension of the table");
                reader.problems().push(Problem::new("unknown-key", reason, &path));
            } else if self.dims.contains(name) {
                reader.problems().push(Problem::bad_argument("stands twice", &path));
            } else {
                self.dims.push(name.clone());
            }
        }
    }

    fn filters(
        &mut self,
        reader: &mut Reader<'_>,
        zone: chrono_tz::Tz,
    ) -> (Vec<Filter>, Vec<Filter>) {
        let table = self.table;
        let mut filters = Vec::new();
        if let Some(form) = reader.get("filters") {
            let path = reader.path_of("filters");
            let field = |name: &str| metrics_field(table, name);
            filters.extend(Decoder::new(&field, zone, reader.problems()).filter(form, &path));
        }
        let mut having = Vec::new();
        if let Some(form) = reader.get("having") {
            let path = reader.path_of("having");
            let field = |name: &str| measure_field(table, name);
            having.extend(Decoder::new(&field, zone, reader.problems()).filter(form, &path));
        }
        let mut names = Vec::new();
        having.iter().for_each(|filter| filter.names(&mut names));
        for index in names.iter().filter_map(|name| measure_index(table, name)) {
            self.measure(index);
        }
        (filters, having)
    }

    /// Reads marks and literals of the row pattern.
    fn row(
        &mut self,
        entries: &[Entry],
        dims_given: bool,
        zone: chrono_tz::Tz,
        filters: &mut Vec<Filter>,
        having: &mut Vec<Filter>,
        (path, problems): (&Path, &mut Vec<Problem>),
    ) {
        let table = self.table;
        for entry in entries {
            let Value::Keyword(name) = &entry.key else { continue };
            let at = join(path, &entry.key);
            let measure = measure_index(table, name);
            if let Target::Equal(literal) = &entry.target
                && entry.options.is_empty()
            {
                if &**name == BUCKET_COLUMN {
                    let reason = "a bucket is chosen by :from and :to";
                    problems.push(Problem::bad_pattern(reason, &at));
                } else if let Some(index) = measure {
                    let field = |name: &str| measure_field(table, name);
                    let mut decoder = Decoder::new(&field, zone, problems);
                    having.extend(decoder.entry(name, literal, &at));
                    self.measure(index);
                } else if metrics_field(table, name).is_some() {
                    let field = |name: &str| metrics_field(table, name);
                    let mut decoder = Decoder::new(&field, zone, problems);
                    filters.extend(decoder.entry(name, literal, &at));
                }
                continue;
            }
            let column = match faceted(table, name) {
                _ if &**name == BUCKET_COLUMN => Column::Bucket,
                Some((index, facet)) => Column::Measure(self.measure(index), facet),
                None if is_dimension(table, name) => {
                    if let Some(place) = self.dims.iter().position(|dim| **dim == **name) {
                        Column::Dimension(place)
                    } else if dims_given {
                        let reason = "this dimension is not among :dims";
                        problems.push(Problem::bad_pattern(reason, &at));
                        continue;
                    } else {
                        self.dims.push(name.to_string());
                        Column::Dimension(self.dims.len() - 1)
                    }
                }
                // The shape has refused it already.
                None => continue,
            };
            if !self.columns.iter().any(|(known, _)| **known == **name) {
                self.columns.push((name.to_string(), column));
            }
        }
    }

    /// The place of a measure among those computed.
    pub(super) fn measure(&mut self, index: usize) -> usize {
        match self.measures.iter().position(|m| *m == index) {
            Some(place) => place,
            None => {
                self.measures.push(index);
                self.measures.len() - 1
            }
        }
    }

    fn order(
        &mut self,
        given: Option<Vec<(String, bool)>>,
        all: bool,
        reader: &mut Reader<'_>,
    ) -> Vec<(Column, bool)> {
        let mut order: Vec<(Column, bool)> = Vec::new();
        match given {
            Some(given) => {
                for (name, falls) in given {
                    let dimension = self.dims.iter().position(|dim| *dim == name);
                    let column = match (dimension, faceted(self.table, &name)) {
                        _ if name == BUCKET_COLUMN => Column::Bucket,
                        (Some(place), _) => Column::Dimension(place),
                        (None, Some((index, facet))) => Column::Measure(self.measure(index), facet),
                        (None, None) => {
                            let reason = format!("{name:?} is neither grouped by nor a measure");
                            reader.fail::<()>("order", reason);
                            continue;
                        }
                    };
                    order.push((column, falls));
                }
            }
            None if all => {
                let first = self.columns.iter().find(|(_, c)| matches!(c, Column::Measure(..)));
                order.extend(first.map(|(_, column)| (*column, true)));
            }
            None => order.push((Column::Bucket, false)),
        }
        let bucket = (!all).then_some(Column::Bucket);
        for column in bucket.into_iter().chain((0..self.dims.len()).map(Column::Dimension)) {
            if !order.iter().any(|(known, _)| *known == column) {
                order.push((column, false));
            }
        }
        order
    }
}

impl Work<'_> {
    /// `:totals`: `true`, or vectors of dimensions and `:bucket`.
    fn totals(&self, reader: &mut Reader<'_>) -> Vec<Totals> {
        let wrong = "must be true, false, or vectors of dimensions such as [[] [:game]]";
        let whole = || Totals { bucket: false, dims: Vec::new() };
        let sets = match reader.get("totals") {
            None | Some(Value::Bool(false)) => return Vec::new(),
            Some(Value::Bool(true)) => return vec![whole()],
            Some(other) => match other.as_sequence() {
                Some(sets) if sets.len() <= TOTALS_MAX => sets,
                _ => {
                    reader.fail::<()>("totals", wrong);
                    return Vec::new();
                }
            },
        };
        let mut all = Vec::with_capacity(sets.len());
        for (i, set) in sets.iter().enumerate() {
            let path = join(&reader.path_of("totals"), i);
            let Some(names) = set.as_sequence() else {
                reader.problems().push(Problem::bad_argument(wrong, &path));
                continue;
            };
            let mut keys = whole();
            for name in names {
                match self.dims.iter().position(|dim| name.as_name() == Some(dim)) {
                    Some(place) if !keys.dims.contains(&place) => keys.dims.push(place),
                    None if name.as_name() == Some(BUCKET_COLUMN) => keys.bucket = true,
                    _ => {
                        let reason = "names what the query groups by, each once";
                        reader.problems().push(Problem::bad_argument(reason, &path));
                    }
                }
            }
            all.push(keys);
        }
        all
    }

    /// Without `:compare` there is nothing that a measure could be compared with.
    fn refuse_facets(
        &self,
        order: &[(Column, bool)],
        top: Option<&Top>,
        path: &Path,
        problems: &mut Vec<Problem>,
    ) {
        let compares =
            |column: &Column| matches!(column, Column::Measure(_, facet) if *facet != Facet::Now);
        let reason = "needs :compare in the query";
        for (name, _) in self.columns.iter().filter(|(_, column)| compares(column)) {
            problems.push(Problem::bad_pattern(reason, &join(path, &Value::keyword(name))));
        }
        let ordered = order.iter().any(|(column, _)| compares(column));
        if ordered || top.is_some_and(|top| top.by.1 != Facet::Now) {
            problems.push(Problem::bad_argument(format!("the order {reason}"), path));
        }
    }

    /// Only numbers differ by something.
    fn refuse_differences(&self, compares: bool, path: &Path, problems: &mut Vec<Problem>) {
        let measures = self.measures.iter().filter_map(|i| self.table.measures.measures.get(*i));
        for measure in measures.filter(|m| compares && !m.data_type.is_numeric()) {
            let reason = format!("{:?} is no number: it cannot be compared", measure.name);
            problems.push(Problem::bad_argument(reason, path));
        }
    }
}

fn measure_field(table: &CompiledTable, name: &str) -> Option<FieldType> {
    let measure = measure_index(table, name).and_then(|i| table.measures.measures.get(i))?;
    Some(FieldType::Measure(measure.data_type.clone()))
}

/// Most sets of totals of one query.
const TOTALS_MAX: usize = 16;

/// Rows that a query may produce before paging.
pub const GROUPS_MAX: usize = ROWS_MAX;
