//! A random declaration: columns of every type, measures of every kind, one to three rollups.

use otus_engine::catalog::{
    Accept, ColumnDef, ColumnSource, DimensionDef, MeasureDef, Origin, Presentation, Retention,
    RollupDef, Source, Start, TableDef, TableKind,
};
use otus_engine::time::{DAY_US, Granularity, SECOND_US};

use super::chance::Chance;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Time,
    Text,
    Bool,
    Int,
    Big,
    Date,
    Uuid,
    Numeric,
    Double,
}

/// A column, with its name as SQL writes it.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) sql: String,
    pub(super) kind: Kind,
    pub(super) sql_type: &'static str,
    /// Whether values are few enough for a dimension.
    pub(super) few: bool,
}

/// How exactly a value must be the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Nature {
    /// The same value.
    Exact,
    /// Within the tolerance of floats.
    Float,
    /// A quantile of a sketch: the same while the sketch is exact, else within its rank error.
    Quantile,
    /// A quantile of rows that a join repeats. Few values then come many times: the sketch is not exact, and values
    /// of neighbouring ranks may be anything.
    Repeated,
}

/// A measure: as declared, and the aggregate calls of a query that have the same state.
#[derive(Debug, Clone)]
pub(super) struct Measure {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) calls: Vec<(String, Nature)>,
}

/// In what order rows come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arrival {
    /// By event time.
    Sorted,
    /// By event time, some late.
    Late,
    /// Anyhow.
    Shuffled,
}

/// A random table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) def: TableDef,
    /// The event-time column first.
    pub(super) columns: Vec<Column>,
    pub(super) measures: Vec<Measure>,
    /// The last rollup is declared only when half of the rows are in.
    pub(super) late_rollup: bool,
    pub(super) base_us: i64,
    pub(super) span_us: i64,
    pub(super) rows: usize,
    pub(super) arrival: Arrival,
    /// Doubles include NaN, infinities and -0.
    pub(super) wild: bool,
}

/// Moments around which calendars are odd.
const BASES: [&str; 12] = [
    "2026-03-28T20:00:00Z",
    "2026-10-24T21:30:00Z",
    "2025-03-09T01:00:00Z",
    "2025-11-02T00:10:00Z",
    "2010-11-06T23:40:00Z",
    "2024-02-28T12:00:00Z",
    "2020-12-30T15:00:00Z",
    "1970-01-01T00:00:00Z",
    "1970-01-01T05:58:20Z",
    "2096-10-02T00:06:40Z",
    "2001-09-09T01:46:40Z",
    "2024-03-31T00:17:00Z",
];

pub(super) fn instant(text: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}

impl Table {
    pub(super) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 1);
        let columns = columns(&mut chance);
        let measures = measures(&mut chance, &columns);
        let finest = *chance.of(&[
            Granularity::Second,
            Granularity::Minute,
            Granularity::Minute,
            Granularity::FiveMinute,
            Granularity::FifteenMinute,
            Granularity::Hour,
            Granularity::Hour,
            Granularity::Day,
        ]);
        let mut rollups = rollups(&mut chance, &columns, &measures, finest);
        let mut chance_of_expressions = Chance::new(seed, 6);
        for rollup in &mut rollups {
            expressions(&mut chance_of_expressions, &columns, rollup);
        }
        let width = finest.fixed_us().unwrap_or(DAY_US);
        let base_us = match chance.percent(80) {
            true => instant(chance.word(&BASES)),
            false => chance.between(0, 220 * 365 * DAY_US),
        };
        let late_rollup = rollups.len() > 1 && chance.percent(30);
        let buckets = if finest < Granularity::Day { (3, 36) } else { (12, 60) };
        let span_us = (width * chance.between(buckets.0, buckets.1)).max(20 * SECOND_US);
        let rows = 2_500 + chance.below(2_500);
        let arrival = *chance.of(&[
            Arrival::Sorted,
            Arrival::Late,
            Arrival::Late,
            Arrival::Shuffled,
            Arrival::Shuffled,
        ]);
        let wild = chance.percent(10);
        let def = definition(&columns, &measures, rollups);
        Self { def, columns, measures, late_rollup, base_us, span_us, rows, arrival, wild }
    }

    pub(super) fn time(&self) -> &Column {
        &self.columns[0]
    }

    pub(super) fn column(&self, name: &str) -> &Column {
        self.columns.iter().find(|c| c.name == name).unwrap()
    }

    /// A dimension as a column, with its expression in the place of a name.
    pub(super) fn dimension(&self, def: &DimensionDef) -> Column {
        match &def.sql {
            None => self.column(&def.name).clone(),
            Some(_) => computed(&self.columns).into_iter().find(|c| c.name == def.name).unwrap(),
        }
    }

    /// Measures that a rollup stores.
    pub(super) fn stored(&self, rollup: &RollupDef) -> Vec<&Measure> {
        let stored = |m: &&Measure| rollup.measures.is_empty() || rollup.measures.contains(&m.name);
        self.measures.iter().filter(stored).collect()
    }

    /// The definition without the rollup that comes late.
    pub(super) fn early(&self) -> TableDef {
        let mut def = self.def.clone();
        if self.late_rollup {
            def.rollups.pop();
        }
        def
    }

    /// The declaration for people.
    pub(super) fn describe(&self) -> String {
        let mut out = format!(
            "from {} for {} s, {} rows, {:?}{}{}\n",
            chrono::DateTime::from_timestamp_micros(self.base_us).unwrap().to_rfc3339(),
            self.span_us / SECOND_US,
            self.rows,
            self.arrival,
            if self.wild { ", wild doubles" } else { "" },
            if self.late_rollup { ", last rollup declared late" } else { "" },
        );
        for column in &self.columns {
            out += &format!("  {} {}\n", column.sql, column.sql_type);
        }
        for measure in &self.measures {
            out += &format!("  measure {} = {}\n", measure.name, measure.declared);
        }
        for rollup in &self.def.rollups {
            let names: Vec<_> = rollup.granularities.iter().map(|g| g.name()).collect();
            let dimensions: Vec<_> = rollup.dimensions.iter().map(ToString::to_string).collect();
            out += &format!(
                "  rollup {} {names:?} by {dimensions:?} where {:?} measures {:?}\n",
                rollup.name, rollup.filter, rollup.measures
            );
        }
        out
    }
}

fn column(name: &str, kind: Kind, sql_type: &'static str, few: bool) -> Column {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let sql = if plain { name.to_string() } else { format!("\"{name}\"") };
    Column { name: name.into(), sql, kind, sql_type, few }
}

fn columns(chance: &mut Chance) -> Vec<Column> {
    let time = chance.word(&["ts", "ts", "at"]);
    let time_type = if chance.percent(12) { "timestamp" } else { "timestamptz" };
    let mut columns = vec![
        column(time, Kind::Time, time_type, false),
        column(chance.word(&["kind", "Kind"]), Kind::Text, "text", true),
        column("note", Kind::Text, "text", true),
        column("ok", Kind::Bool, "boolean", true),
        column("n", Kind::Int, "integer", true),
        column("big", Kind::Big, "bigint", true),
        column("day", Kind::Date, "date", true),
        column("uid", Kind::Uuid, "uuid", true),
        column("amount", Kind::Big, "bigint", false),
        column("score", Kind::Double, "double precision", false),
        column(
            "cost",
            Kind::Numeric,
            chance.word(&["numeric(9,2)", "numeric(18,4)", "numeric(30,10)"]),
            false,
        ),
        column("label", Kind::Text, "text", false),
    ];
    chance.shuffle(&mut columns[1..]);
    columns
}

fn measures(chance: &mut Chance, columns: &[Column]) -> Vec<Measure> {
    let good = "count(*) FILTER (WHERE ok)";
    let mut chosen = vec![same("edits", "count(*)", Nature::Exact)];
    chosen.extend(chance.some(&possible_measures(columns), 60));
    if chosen.iter().any(|m| m.name == "share") && !chosen.iter().any(|m| m.name == "good") {
        chosen.push(same("good", good, Nature::Exact));
    }
    chosen
}

/// A measure that a query spells as it is declared.
fn same(name: &str, sql: &str, nature: Nature) -> Measure {
    Measure { name: name.into(), declared: sql.into(), calls: vec![(sql.into(), nature)] }
}

fn possible_measures(columns: &[Column]) -> Vec<Measure> {
    use Nature::{Exact, Float, Quantile};
    let time = &columns[0].sql;
    let kind = &columns.iter().find(|c| c.name.eq_ignore_ascii_case("kind")).unwrap().sql;
    let several = |name: &str, declared: &str, calls: &[(&str, Nature)]| Measure {
        name: name.into(),
        declared: declared.into(),
        calls: calls.iter().map(|(sql, nature)| ((*sql).to_string(), *nature)).collect(),
    };
    let ends = |name: &str, f: &str, x: &str| Measure {
        name: name.into(),
        declared: format!("{f}({x})"),
        calls: vec![(format!("{f}({x}, {time})"), Exact)],
    };
    vec![
        same("non_null", "count(amount)", Exact),
        same("amount", "sum(amount)", Exact),
        several(
            "mean",
            "avg(amount)",
            &[("avg(amount)", Float), ("sum(amount)", Exact), ("count(amount)", Exact)],
        ),
        same("least", "min(amount)", Exact),
        same("most", "max(cost)", Exact),
        same("cost", "sum(cost)", Exact),
        several(
            "mean_cost",
            "avg(cost)",
            &[("avg(cost)", Float), ("sum(cost)", Exact), ("count(cost)", Exact)],
        ),
        same("score", "sum(score)", Float),
        same("low", "min(score)", Exact),
        same("high", "max(score)", Exact),
        several(
            "spread",
            "stddev(score)",
            &[
                ("stddev(score)", Float),
                ("var_pop(score)", Float),
                ("variance(score)", Float),
                ("stddev_pop(score)", Float),
            ],
        ),
        same("spread_pop", "var_pop(amount / 1000)", Float),
        ends("first_amount", "first", "amount"),
        ends("last_label", "last", "label"),
        same("labels", "approx_distinct(label)", Exact),
        same("amounts", "approx_distinct(amount)", Exact),
        same("p_ninety", "approx_quantile(score, 0.9)", Quantile),
        same("good", "count(*) FILTER (WHERE ok)", Exact),
        same("good_amount", "sum(amount) FILTER (WHERE amount > 0)", Exact),
        several(
            "share",
            "good / edits",
            &[("count(*) FILTER (WHERE ok)", Exact), ("count(*)", Exact)],
        ),
        same("twice", "sum(n * 2)", Exact),
        same("product", "sum(n::bigint * n - 7)", Exact),
        same("whole", "sum(cost::bigint)", Exact),
        same("min_label", "min(label)", Exact),
        same("max_kind", &format!("max({kind})"), Exact),
        same("earliest", &format!("min({time})"), Exact),
        same("latest", &format!("max({time})"), Exact),
    ]
}

fn rollups(
    chance: &mut Chance,
    columns: &[Column],
    measures: &[Measure],
    finest: Granularity,
) -> Vec<RollupDef> {
    let few: Vec<&Column> = columns.iter().filter(|c| c.few).collect();
    let n = 1 + chance.weighted(&[40, 40, 20]);
    (0..n)
        .map(|i| {
            let start = if i == 0 || chance.percent(60) { finest } else { Granularity::Hour };
            let wanted = chance.weighted(&[20, 52, 22, 4, 2]);
            let mut dimensions: Vec<String> = few.iter().map(|c| c.name.clone()).collect();
            chance.shuffle(&mut dimensions);
            dimensions.truncate(wanted);
            let mut stored = Vec::new();
            if chance.percent(50) {
                stored = measures.iter().map(|m| m.name.clone()).collect();
                stored = chance.some(&stored, 65);
                if !stored.iter().any(|m| m == "edits") && chance.percent(80) {
                    stored.insert(0, "edits".into());
                }
            }
            RollupDef {
                name: format!("by_{}", ["one", "two", "three"][i]),
                granularities: chain(chance, start),
                dimensions: dimensions.into_iter().map(Into::into).collect(),
                filter: None,
                measures: stored,
            }
        })
        .collect()
}

/// Expressions that rollups have as dimensions.
fn computed(columns: &[Column]) -> Vec<Column> {
    let of = |name: &str| columns.iter().find(|c| c.name.eq_ignore_ascii_case(name)).unwrap();
    let (kind, time) = (&of("kind").sql, &columns[0].sql);
    let one = |name: &str, sql: &str, kind: Kind, sql_type: &'static str| Column {
        name: name.into(),
        sql: sql.into(),
        kind,
        sql_type,
        few: true,
    };
    vec![
        one("x_lower", &format!("lower({kind})"), Kind::Text, "text"),
        one("x_odd", "(n % 2)", Kind::Int, "integer"),
        one("x_next", "(n + 1)", Kind::Int, "integer"),
        one("x_positive", "(n > 0)", Kind::Bool, "boolean"),
        one("x_first", "left(label, 1)", Kind::Text, "text"),
        one("x_known", "(amount IS NOT NULL)", Kind::Bool, "boolean"),
        one("x_rich", "(amount > 100)", Kind::Bool, "boolean"),
        one("x_high", "(score > 10)", Kind::Bool, "boolean"),
        one("x_or", &format!("coalesce({kind}, '?')"), Kind::Text, "text"),
        one(
            "x_sign",
            "CASE WHEN amount > 0 THEN 'a' WHEN amount < 0 THEN 'b' ELSE '' END",
            Kind::Text,
            "text",
        ),
        one("x_hour", &format!("extract(hour FROM {time})"), Kind::Int, "integer"),
    ]
}

/// Filters of rollups, and how a query says the same or more.
pub(super) const FILTERS: [(&str, [&str; 3]); 9] = [
    ("ok", ["ok", "ok = true", "ok IS TRUE"]),
    ("NOT ok", ["NOT ok", "ok = false", "ok IS FALSE"]),
    ("n > 0", ["n > 0", "0 < n", "n > 0 AND n > -2"]),
    ("n IS NOT NULL", ["n IS NOT NULL", "NOT (n IS NULL)", "n IS NOT NULL AND n IS NOT NULL"]),
    ("amount > 0", ["amount > 0", "NOT (amount <= 0)", "amount > 0 AND amount IS NOT NULL"]),
    ("label IS NOT NULL", ["label IS NOT NULL", "NOT (label IS NULL)", "label IS NOT NULL"]),
    ("score >= 0", ["score >= 0", "0 <= score", "score >= 0"]),
    ("ok AND n < 4", ["n < 4 AND ok", "ok AND n < 4 AND n <> 5", "NOT (n >= 4) AND ok"]),
    ("day IS NOT NULL OR ok", ["(day IS NOT NULL OR ok)", "ok", "(ok OR day IS NOT NULL)"]),
];

/// Lets some rollups filter and compute.
fn expressions(chance: &mut Chance, columns: &[Column], rollup: &mut RollupDef) {
    if chance.percent(15) {
        rollup.filter = Some(chance.of(&FILTERS).0.to_string());
    }
    if chance.percent(35) {
        let mut all = computed(columns);
        chance.shuffle(&mut all);
        for column in all.into_iter().take(1 + chance.below(2)) {
            let at = chance.below(rollup.dimensions.len() + 1);
            rollup.dimensions.insert(at, DimensionDef::computed(column.name, column.sql));
            rollup.dimensions.truncate(4);
        }
    }
}

/// Granularities from `start` on, each dividing the next.
fn chain(chance: &mut Chance, start: Granularity) -> Vec<Granularity> {
    let mut list = vec![start];
    for next in Granularity::ALL {
        let last = list[list.len() - 1];
        if next > last && last.divides(next) && chance.percent(35) {
            list.push(next);
        }
    }
    list
}

fn definition(columns: &[Column], measures: &[Measure], rollups: Vec<RollupDef>) -> TableDef {
    let columns = columns.iter().map(|c| ColumnDef {
        name: c.name.clone(),
        column_type: c.sql_type.parse().unwrap(),
        source: ColumnSource::Path(vec![c.name.clone()]),
        epoch: None,
        default: None,
        presentation: Presentation::default(),
    });
    let measures = measures.iter().map(|m| MeasureDef {
        name: m.name.clone(),
        sql: m.declared.clone(),
        presentation: Presentation::default(),
    });
    let columns: Vec<ColumnDef> = columns.collect();
    TableDef {
        schema: "public".into(),
        name: "events".into(),
        kind: TableKind::Events,
        description: None,
        source: Source::Topics(vec!["events".into()]),
        start: Start::Earliest,
        format: "json".into(),
        time: columns[0].name.clone(),
        columns,
        filter: None,
        measures: measures.collect(),
        rollups,
        accept: Accept::default(),
        retention: Retention::default(),
        append: false,
        record_bytes_max: 1 << 20,
        origin: Origin::File,
    }
}
