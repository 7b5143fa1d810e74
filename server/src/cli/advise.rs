//! `otus advise`: what the latest queries read raw rows for, and the rollups that would have answered them, with
//! what they would save. It asks a running server, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use otus_engine::catalog::DimensionDef;
use otus_engine::time::Granularity;
use otus_engine::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::output;
use super::remote::Remote;
use crate::ddl::{Item, Section};

/// Rows from which the size of a rollup is estimated, about.
const SAMPLED_ROWS: i64 = 1_000_000;
/// Names of rollups are cut to this, characters.
const NAME_CHARS: usize = 40;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "It reads otus.queries: the latest 1,000 queries of the running server. Rows of a rollup are
estimated from the newest rows of its table; what is saved is an upper bound, as if the time of
a query went with the rows it reads. Nothing is changed: put a section into the configuration
file, or run the statement where [ddl] allows it."
)]
pub(crate) struct AdviseArgs {
    /// Most rollups that are proposed
    #[arg(long, value_name = "N", default_value_t = 5)]
    limit: usize,
    #[command(flatten)]
    remote: Remote,
}

/// What a query wished for, as `otus.queries` has it.
#[derive(Debug, Clone, Deserialize)]
struct Wish {
    table: String,
    granularity: Granularity,
    dimensions: BTreeSet<String>,
    /// Expressions to group by.
    computed: BTreeSet<String>,
    measures: BTreeSet<String>,
    /// Raw rows that it read.
    rows: u64,
}

/// A rollup that several queries wish for.
#[derive(Debug, Clone)]
struct Proposal {
    table: String,
    granularity: Granularity,
    dimensions: BTreeSet<String>,
    computed: BTreeSet<String>,
    measures: BTreeSet<String>,
    queries: usize,
    rows: u64,
    spent_us: i64,
    /// The dearest of the queries.
    example: (i64, String),
}

/// How large a rollup would be.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Estimate {
    /// Rows of the table.
    rows: i64,
    /// Rows that were looked at.
    sampled: i64,
    /// Rows that the rollup would have of those.
    rolled: i64,
}

impl Estimate {
    /// Rows of the rollup for each row of the table.
    #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
    fn share(self) -> f64 {
        if self.sampled == 0 { 1.0 } else { self.rolled as f64 / self.sampled as f64 }
    }
}

pub(crate) async fn run(args: AdviseArgs) -> Result<ExitCode> {
    let asked = "SELECT wanted_rollup, duration_us, query FROM otus.queries WHERE wanted_rollup IS NOT \
                 NULL AND sqlstate IS NULL";
    let mut wishes = Vec::new();
    for row in rows(&args.remote, asked).await? {
        let [wish, spent, text] = row.as_slice() else { continue };
        let (spent, text) = (integer(spent), text.as_str());
        let all: Vec<Wish> = serde_json::from_str(wish.as_str().unwrap_or_default())
            .map_err(|e| Error::internal("a query's wish cannot be read").with_source(e))?;
        // What a query took is shared among the aggregates that raw rows answered.
        let each = spent / i64::try_from(all.len().max(1)).unwrap_or(1);
        let text = text.unwrap_or_default();
        wishes.extend(all.into_iter().map(|wish| (wish, each, text.to_string())));
    }
    let proposals = proposals(wishes);
    if proposals.is_empty() {
        output::line("no query of late read raw rows that a rollup could have answered")?;
        return Ok(ExitCode::SUCCESS);
    }
    let schema: Value = serde_json::from_str(&args.remote.get("/api/schema").await?)
        .map_err(|e| Error::internal("the schema cannot be read").with_source(e))?;
    for proposal in proposals.into_iter().take(args.limit) {
        let tables = schema["tables"].as_array().into_iter().flatten();
        let mut tables = tables.filter(|t| named(t) == proposal.table);
        // It may have been dropped since.
        let Some(table) = tables.next() else { continue };
        let estimate = estimate(&args.remote, table, &proposal).await?;
        output::line(&told(&proposal, table, estimate))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Wishes for the same table and dimensions are one proposal; those that cost most come first.
fn proposals(wishes: Vec<(Wish, i64, String)>) -> Vec<Proposal> {
    let mut all: BTreeMap<_, Proposal> = BTreeMap::new();
    for (wish, spent_us, text) in wishes {
        let Wish { table, granularity, dimensions, computed, measures, rows } = wish;
        let key = (table.clone(), dimensions.clone(), computed.clone());
        let proposal = all.entry(key).or_insert_with(|| Proposal {
            table,
            granularity,
            dimensions,
            computed,
            measures: BTreeSet::new(),
            queries: 0,
            rows: 0,
            spent_us: 0,
            example: (-1, String::new()),
        });
        proposal.granularity = proposal.granularity.min(granularity);
        proposal.measures.extend(measures);
        proposal.queries += 1;
        proposal.rows = proposal.rows.saturating_add(rows);
        proposal.spent_us = proposal.spent_us.saturating_add(spent_us);
        if spent_us > proposal.example.0 {
            proposal.example = (spent_us, text);
        }
    }
    let mut list: Vec<_> = all.into_values().collect();
    list.sort_by_key(|p| std::cmp::Reverse(p.spent_us));
    list
}

/// Counts keys among the newest rows.
async fn estimate(remote: &Remote, table: &Value, proposal: &Proposal) -> Result<Estimate> {
    let time = quoted(table["time"].as_str().unwrap_or_default());
    let name = quoted_table(table);
    let count = format!(
        "SELECT count(*), (extract(epoch FROM min({time})) * 1e6)::bigint, \
         (extract(epoch FROM max({time})) * 1e6)::bigint FROM {name}"
    );
    let of = rows(remote, &count).await?;
    let Some([total, from, to]) = of.first().map(Vec::as_slice) else {
        return Err(Error::internal(format!("table {name} cannot be counted")));
    };
    let (total, from_us, to_us) = (integer(total), integer(from), integer(to));
    let since_us = newest_since(total, from_us, to_us);
    let since = format!("{time} >= to_timestamp({since_us} / 1e6)");
    let bucket = format!("date_trunc('{}', {time})", bucket_unit(proposal.granularity));
    let dimensions = proposal.dimensions.iter().map(|d| quoted(d));
    let keys: Vec<String> = std::iter::once(bucket)
        .chain(dimensions)
        .chain(proposal.computed.iter().cloned())
        .collect();
    let sample = format!(
        "SELECT (SELECT count(*) FROM {name} WHERE {since}), (SELECT count(*) FROM (SELECT DISTINCT {} \
         FROM {name} WHERE {since}) AS keys)",
        keys.join(", ")
    );
    let found = rows(remote, &sample).await?;
    let Some([sampled, rolled]) = found.first().map(Vec::as_slice) else {
        return Err(Error::internal(format!("rows of table {name} cannot be counted")));
    };
    Ok(Estimate { rows: total, sampled: integer(sampled), rolled: integer(rolled) })
}

/// From when on about [`SAMPLED_ROWS`] lie, if they are spread evenly.
fn newest_since(total: i64, from_us: i64, to_us: i64) -> i64 {
    if total <= SAMPLED_ROWS {
        return from_us;
    }
    let span = i128::from(to_us) - i128::from(from_us);
    let kept = span * i128::from(SAMPLED_ROWS) / i128::from(total);
    i64::try_from(i128::from(to_us) - kept).unwrap_or(from_us)
}

fn bucket_unit(granularity: Granularity) -> &'static str {
    match granularity {
        Granularity::Second => "second",
        Granularity::Minute | Granularity::FiveMinute | Granularity::FifteenMinute => "minute",
        Granularity::Hour => "hour",
        _ => "day",
    }
}

/// The proposal as it is printed.
fn told(proposal: &Proposal, table: &Value, estimate: Estimate) -> String {
    let Proposal { granularity, queries, spent_us, .. } = proposal;
    let name = table["name"].as_str().unwrap_or_default();
    let seconds = |us: i64| {
        format!("{:.1} s", std::time::Duration::from_micros(us.unsigned_abs()).as_secs_f64())
    };
    let share = estimate.share();
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "for people")]
    let (rolled, saved_rows, saved) = (
        (estimate.rows as f64 * share).ceil() as i64,
        (proposal.rows as f64 * (1.0 - share).max(0.0)) as i64,
        (*spent_us as f64 * (1.0 - share).max(0.0)) as i64,
    );
    let count = |n: i64| output::count(n.unsigned_abs());
    let mut names = Names::of(table);
    let measures = measures(proposal, table, &mut names);
    let dimensions = dimensions(proposal, &mut names);
    let rollup = rollup_name(&dimensions, name);
    let example: String = proposal.example.1.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = format!(
        "# {}: {queries} queries read raw rows for {}, about {} rows\n# the dearest took {}: {}\n# the rollup \
         would have about {} rows instead of {} (counted over the newest {}),\n# and save up to {} of the rows \
         read and {} of that time\n",
        proposal.table,
        seconds(*spent_us),
        output::count(proposal.rows),
        seconds(proposal.example.0),
        example.chars().take(200).collect::<String>(),
        count(rolled),
        count(estimate.rows),
        count(estimate.sampled),
        count(saved_rows),
        seconds(saved),
    );
    if share > 0.5 {
        out.push_str("# that is hardly less than the raw rows: it may not be worth its place\n");
    }
    let new: Vec<_> = measures.iter().filter(|m| m.is_new).collect();
    let names: Vec<String> = measures.iter().map(|m| m.name.clone()).collect();
    let mut section = Section::default();
    section.set("granularity", Item::texts(&[granularity.name().to_string()]));
    section.set("dimensions", Item::dimensions(&dimensions));
    section.set("measures", Item::texts(&names));
    if !new.is_empty() {
        let mut added = Section::default();
        new.iter().for_each(|m| added.set(&m.name, m.sql.as_str()));
        out.push_str("# add to the table's measures:\n");
        out.push_str(&added.toml(&["tables", name, "measures"]));
    }
    out.push_str(&section.toml(&["tables", name, "rollups", &rollup]));
    out.push_str("# or, if the table was made by a statement:\n");
    let table = quoted_table(table);
    for measure in new {
        let name = quoted(&measure.name);
        out.push_str(&format!("# ALTER TABLE {table} ADD MEASURE {name} AS ({});\n", measure.sql));
    }
    let dimensions: Vec<_> = dimensions.iter().map(declared).collect();
    let names: Vec<_> =
        names.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
    out.push_str(&format!(
        "# CREATE ROLLUP {} ON {table} ({}) WITH (granularity = '{}', measures = ({}));\n",
        quoted(&rollup),
        dimensions.join(", "),
        granularity.name(),
        names.join(", ")
    ));
    out
}

#[derive(Debug, PartialEq)]
struct Measure {
    name: String,
    sql: String,
    is_new: bool,
}

/// Names that are taken in a table.
struct Names(BTreeSet<String>);

impl Names {
    fn of(table: &Value) -> Self {
        let named = |key: &str| table[key].as_array().cloned().unwrap_or_default();
        let entries = named("measures").into_iter().chain(named("columns"));
        Self(entries.filter_map(|entry| Some(entry["name"].as_str()?.to_string())).collect())
    }

    /// A name made of an expression's words.
    fn of_text(&mut self, sql: &str) -> String {
        let words = sql.replace("(*)", " all").to_lowercase();
        let words: Vec<_> =
            words.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        let base: String = words.join("_").chars().take(NAME_CHARS).collect();
        let base = match base.trim_matches('_') {
            base if base.starts_with(|c: char| c.is_alphabetic()) => base.to_string(),
            base => format!("x_{base}"),
        };
        let mut name = base.clone();
        let mut n = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{base}_{n}");
            n += 1;
        }
        name
    }
}

/// The measures to store: those of the table that are the wished aggregates, and new ones.
fn measures(proposal: &Proposal, table: &Value, names: &mut Names) -> Vec<Measure> {
    let plain = |sql: &str| -> String {
        let kept = sql.chars().filter(|c| !c.is_whitespace() && *c != '"');
        kept.collect::<String>().to_lowercase()
    };
    let known = table["measures"].as_array().cloned().unwrap_or_default();
    let measure = |sql: &String| {
        let same = |m: &&Value| m["sql"].as_str().is_some_and(|known| plain(known) == plain(sql));
        if let Some(name) = known.iter().find(same).and_then(|m| m["name"].as_str()) {
            return Measure { name: name.to_string(), sql: sql.clone(), is_new: false };
        }
        Measure { name: names.of_text(sql), sql: sql.clone(), is_new: true }
    };
    proposal.measures.iter().map(measure).collect()
}

/// Columns, then expressions under names of their own.
fn dimensions(proposal: &Proposal, names: &mut Names) -> Vec<DimensionDef> {
    let columns = proposal.dimensions.iter().map(|name| name.as_str().into());
    let computed = proposal.computed.iter();
    let computed = computed.map(|sql| DimensionDef::computed(names.of_text(sql), sql));
    columns.chain(computed).collect()
}

/// A dimension as a statement declares it.
fn declared(dimension: &DimensionDef) -> String {
    match &dimension.sql {
        None => quoted(&dimension.name),
        Some(sql) => format!("{sql} AS {}", quoted(&dimension.name)),
    }
}

fn rollup_name(dimensions: &[DimensionDef], table: &str) -> String {
    let by: Vec<&str> = dimensions.iter().map(|d| d.name.as_str()).collect();
    let name = match by.as_slice() {
        [] => format!("{table}_totals"),
        by => format!("{table}_by_{}", by.join("_")),
    };
    name.chars().take(NAME_CHARS).collect()
}

fn named(table: &Value) -> String {
    let part = |key: &str| table[key].as_str().unwrap_or_default().to_string();
    format!("{}.{}", part("schema"), part("name"))
}

fn quoted_table(table: &Value) -> String {
    let part = |key: &str| quoted(table[key].as_str().unwrap_or_default());
    format!("{}.{}", part("schema"), part("name"))
}

/// A name as SQL must have it.
fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && !crate::config::is_awkward_name(name);
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn integer(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or(0)
}

/// Rows of a statement, which reads raw rows and so wishes for nothing.
async fn rows(remote: &Remote, sql: &str) -> Result<Vec<Vec<Value>>> {
    let request = json!({ "query": sql, "settings": { "otus.rollups": "off" } });
    let answer =
        remote.post("/api/sql", "application/json", request.to_string().into_bytes()).await?;
    if !answer.is_success {
        return Err(answer.refusal());
    }
    let body: Value = serde_json::from_str(&answer.body)
        .map_err(|e| Error::internal("the server's answer cannot be read").with_source(e))?;
    let rows = body["rows"].as_array().cloned().unwrap_or_default();
    Ok(rows.into_iter().filter_map(|row| row.as_array().cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(dimensions: &[&str], granularity: Granularity, measures: &[&str]) -> Wish {
        let set = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Wish {
            table: "public.edits".into(),
            granularity,
            dimensions: set(dimensions),
            computed: BTreeSet::new(),
            measures: set(measures),
            rows: 1_000,
        }
    }

    #[test]
    fn wishes_of_the_same_dimensions_are_one_proposal() {
        let list = proposals(vec![
            (wish(&["page"], Granularity::Day, &["count(*)"]), 10, "a".into()),
            (wish(&["user"], Granularity::Hour, &["count(*)"]), 25, "b".into()),
            (wish(&["page"], Granularity::Minute, &["sum(added)"]), 20, "c".into()),
        ]);
        let [first, second] = list.as_slice() else { panic!("{list:?}") };
        assert_eq!((first.queries, first.spent_us, first.example.1.as_str()), (2, 30, "c"));
        assert_eq!(first.granularity, Granularity::Minute, "the finest serves both");
        assert_eq!(first.measures.len(), 2);
        assert_eq!(second.spent_us, 25);
    }

    #[test]
    fn a_proposal_is_told_as_section_and_statement() {
        let wishes = vec![(
            wish(&["page", "User"], Granularity::Hour, &["count(*)", "sum(added)", "max(added)"]),
            2_000_000,
            "select\n 1".into(),
        )];
        let proposal = proposals(wishes).remove(0);
        let table = json!({ "schema": "public", "name": "edits", "time": "at",
            "columns": [{ "name": "at" }, { "name": "max_added" }],
            "measures": [{ "name": "rows", "sql": "COUNT( * )" }, { "name": "added", "sql": "sum(added)" }] });
        let estimate = Estimate { rows: 4_000, sampled: 1_000, rolled: 100 };
        assert_eq!(
            told(&proposal, &table, estimate),
            r#"# public.edits: 1 queries read raw rows for 2.0 s, about 1,000 rows
# the dearest took 2.0 s: select 1
# the rollup would have about 400 rows instead of 4,000 (counted over the newest 1,000),
# and save up to 900 of the rows read and 1.8 s of that time
# add to the table's measures:
[tables.edits.measures]
max_added_2 = "max(added)"
[tables.edits.rollups.edits_by_User_page]
granularity = ["hour"]
dimensions = ["User", "page"]
measures = ["rows", "max_added_2", "added"]
# or, if the table was made by a statement:
# ALTER TABLE public.edits ADD MEASURE max_added_2 AS (max(added));
# CREATE ROLLUP "edits_by_User_page" ON public.edits ("User", page) WITH (granularity = 'hour', measures = ('rows', 'max_added_2', 'added'));
"#
        );
    }

    #[test]
    fn expressions_have_names_of_their_own() {
        let mut computed =
            wish(&["page"], Granularity::Day, &["sum(price * \"Qty\")", "sum(price * qty)"]);
        computed.computed = ["split_part(url, '/', 3)", "1 < n"].map(String::from).into();
        let proposal = proposals(vec![(computed, 10, "a".into())]).remove(0);
        let table = json!({ "schema": "public", "name": "edits", "time": "at",
            "columns": [{ "name": "at" }, { "name": "split_part_url_3" }], "measures": [] });
        let text = told(&proposal, &table, Estimate { rows: 10, sampled: 10, rolled: 1 });
        for part in [
            "sum_price_qty = \"sum(price * \\\"Qty\\\")\"",
            "sum_price_qty_2 = \"sum(price * qty)\"",
            "[tables.edits.rollups.edits_by_page_x_1_n_split_part_url_3_2]",
            "dimensions = [\"page\", { name = \"x_1_n\", sql = \"1 < n\" }, \
             { name = \"split_part_url_3_2\", sql = \"split_part(url, '/', 3)\" }]",
            "ON public.edits (page, 1 < n AS x_1_n, split_part(url, '/', 3) AS split_part_url_3_2) WITH",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
    }

    #[test]
    fn the_newest_rows_are_sampled() {
        assert_eq!(newest_since(10, 5, 100), 5);
        assert_eq!(newest_since(4 * SAMPLED_ROWS, 0, 4_000), 3_000);
        assert!(newest_since(i64::MAX, i64::MIN, i64::MAX) > 0, "no overflow");
    }
}
