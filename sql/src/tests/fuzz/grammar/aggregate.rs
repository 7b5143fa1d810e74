//! Aggregates: those a rollup stores, in several spellings, with conditions over dimensions, and some that
//! no rollup can answer.

use super::Grammar;
use crate::tests::fuzz::query::{Frag, Item};
use crate::tests::fuzz::table::{Kind, Nature};

impl Grammar<'_> {
    /// An aggregate that the target can answer, most times.
    pub(super) fn aggregate(&mut self) -> Item {
        match self.chance.weighted(&[58, 20, 10, 5, 7]) {
            0 => self.stored(),
            1 => self.conditional(),
            2 => self.expression(),
            4 => self.sum_of_cases(),
            _ => self.over_dimension(),
        }
    }

    /// One of the target's calls as it is.
    fn stored(&mut self) -> Item {
        let measures = self.table.stored(self.target);
        if measures.is_empty() {
            return Item::new("count(*)", Nature::Exact);
        }
        let calls = &self.chance.of(&measures).calls;
        let (sql, nature) = self.chance.of(calls).clone();
        let sql = match (sql.as_str(), self.chance.below(6)) {
            ("count(*)", 0) => "count(1)".into(),
            ("count(*)", 1) => "COUNT( * )".into(),
            (_, 2) => sql.to_uppercase().replace("KIND", "kind"),
            _ => sql,
        };
        let quoted = sql.contains('"');
        if quoted || !sql.contains("kind") {
            return Item::new(sql, nature);
        }
        // Upper case and a quoted name do not go together.
        Item::new(calls[0].0.clone(), calls[0].1)
    }

    /// With FILTER or CASE over dimensions.
    fn conditional(&mut self) -> Item {
        let condition = self.filter();
        let measures = self.table.stored(self.target);
        let plain: Vec<(String, Nature)> = measures
            .iter()
            .flat_map(|m| m.calls.iter())
            .filter(|(sql, _)| !sql.contains("FILTER"))
            .cloned()
            .collect();
        if plain.is_empty() {
            return Item::new("count(*)", Nature::Exact);
        }
        let (sql, nature) = self.chance.of(&plain).clone();
        if self.chance.percent(55) {
            let sql = Frag::of(&format!("{sql} FILTER (WHERE {{}})"), &[condition]);
            return Item { sql, nature };
        }
        let otherwise = self.chance.word(&["", " ELSE NULL"]);
        let inner = sql.strip_suffix(')').and_then(|sql| sql.split_once('('));
        let (template, nature) = match inner {
            Some(("count", "*")) => match self.chance.below(2) {
                0 => ("sum(CASE WHEN {} THEN 1 ELSE 0 END)".to_string(), nature),
                _ => (format!("count(CASE WHEN {{}} THEN 1{otherwise} END)"), nature),
            },
            Some((f @ ("sum" | "count" | "min" | "max" | "avg"), x)) => {
                let zero =
                    if f == "sum" && self.chance.percent(40) { " ELSE 0" } else { otherwise };
                (format!("{f}(CASE WHEN {{}} THEN {x}{zero} END)"), nature)
            }
            _ => (format!("{sql} FILTER (WHERE {{}})"), nature),
        };
        Item { sql: Frag::of(&template, &[condition]), nature }
    }

    /// A condition within an aggregate: over dimensions, sometimes over the time.
    fn filter(&mut self) -> Frag {
        if self.dimensions.is_empty() || self.chance.percent(15) {
            let conditions = self.time_conditions();
            return match conditions.is_empty() {
                true => Frag::new("true"),
                false => Frag::joined(&conditions, " AND "),
            };
        }
        self.conditions_of(&self.dimensions.clone())
    }

    /// A sum of more than one thing.
    fn sum_of_cases(&mut self) -> Item {
        let (a, b) = (self.filter(), self.filter());
        let form = self.chance.word(&[
            "sum(CASE WHEN {} THEN amount WHEN {} THEN 3 ELSE 0 END)",
            "sum(CASE WHEN {} THEN 1 WHEN {} THEN 2 END)",
            "sum(CASE WHEN {} THEN 0.5 WHEN {} THEN NULL ELSE 2 END)",
            "avg(CASE WHEN {} THEN amount WHEN {} THEN 0 END)",
            "count(CASE WHEN {} THEN amount WHEN {} THEN 1 END)",
            "sum(CASE WHEN {} THEN coalesce(amount, 0) WHEN {} THEN -amount END)",
            "count(CASE WHEN {} THEN 'x' END) + count(*) FILTER (WHERE {})",
        ]);
        let nature = if form.starts_with("avg") { Nature::Float } else { Nature::Exact };
        Item { sql: Frag::of(form, &[a, b]), nature }
    }

    /// An expression over calls.
    fn expression(&mut self) -> Item {
        let has = |name: &str| self.table.stored(self.target).iter().any(|m| m.name == name);
        let (sql, nature) = match self.chance.below(9) {
            5 if has("amount") => ("sum(coalesce(amount, 0))", Nature::Exact),
            6 if has("cost") => ("sum(coalesce(cost, 0))", Nature::Exact),
            7 => ("sum(1)", Nature::Exact),
            8 => ("sum(2.5)", Nature::Exact),
            0 if has("amount") => ("sum(amount) / count(*)", Nature::Exact),
            1 if has("amount") => ("coalesce(sum(amount), 0) + 1", Nature::Exact),
            2 if has("good") => {
                ("100.0 * count(*) FILTER (WHERE ok) / nullif(count(*), 0)", Nature::Float)
            }
            3 if has("least") => ("min(amount) IS NULL", Nature::Exact),
            4 if has("mean") => ("round(avg(amount))", Nature::Float),
            _ => ("count(*) * 2", Nature::Exact),
        };
        Item::new(sql, nature)
    }

    /// Over a dimension itself: it may be answered from the rollup's keys, or not.
    fn over_dimension(&mut self) -> Item {
        let dimensions = self.dimensions.clone();
        if dimensions.is_empty() {
            return Item::new("count(*)", Nature::Exact);
        }
        let column = self.chance.of(&dimensions);
        let c = &column.sql;
        let sql = match (column.kind, self.chance.below(4)) {
            (_, 0) => format!("count(DISTINCT {c})"),
            (Kind::Bool, 1) => format!("bool_or({c})"),
            (Kind::Int | Kind::Big, 1) => format!("sum({c})"),
            (Kind::Int, 3) => format!("sum({c} + 1) FILTER (WHERE {c} <> 0)"),
            (Kind::Text, 1) => format!("approx_distinct({c})"),
            (_, 2) => format!("max({c})"),
            (Kind::Bool, _) => format!("count({c})"),
            _ => format!("min({c})"),
        };
        Item::new(sql, Nature::Exact)
    }

    /// One that no rollup holds.
    pub(super) fn stranger(&mut self) -> Item {
        let column = self.table.column("label").sql.clone();
        match self.chance.below(6) {
            0 => Item::new(format!("count(DISTINCT {column})"), Nature::Exact),
            1 => Item::new("sum(amount * n)", Nature::Exact),
            2 => Item::new("max(amount + 1)", Nature::Exact),
            3 => Item::new("sum(DISTINCT n)", Nature::Exact),
            4 => Item::new("max(_offset)", Nature::Exact),
            _ => Item::new("count(*) FILTER (WHERE amount > 10)", Nature::Exact),
        }
    }
}
