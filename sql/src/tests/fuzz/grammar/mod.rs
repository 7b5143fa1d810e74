//! The grammar: random queries over a random table, most of them such that one of its rollups, the target,
//! could answer.

mod aggregate;
mod dimension;
mod time;

use otus_engine::catalog::RollupDef;
use otus_engine::time::Granularity;

use super::chance::Chance;
use super::query::{Core, Frag, Grouping, Item, Order, Query, Shape};
use super::table::{Column, FILTERS, Nature, Table};

/// Zones of sessions.
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"];

/// Draws the parts of one query.
pub(super) struct Grammar<'a> {
    table: &'a Table,
    target: &'a RollupDef,
    /// Columns of the target's dimensions.
    dimensions: Vec<Column>,
    zone: String,
    chance: Chance,
}

/// The query of a seed.
pub(super) fn query(table: &Table, seed: u64) -> Query {
    let mut chance = Chance::new(seed, 4);
    let target = &table.def.rollups[chance.below(table.def.rollups.len())];
    let dimensions = target.dimensions.iter().map(|d| table.dimension(d)).collect();
    // Days of UTC are days of no other zone.
    let other = if target.finest() < Granularity::Day { [20, 6, 6] } else { [4, 1, 1] };
    let zone = ZONES[chance.weighted(&[64, other[0], other[1], other[2]])].to_string();
    Grammar { table, target, dimensions, zone, chance }.query()
}

impl Grammar<'_> {
    fn query(mut self) -> Query {
        let mut core = self.core();
        let mut refused = false;
        if self.chance.percent(1) {
            refused = true;
            self.spoil(&mut core);
        }
        let shape = self.shape(&mut core);
        let simple = core.grouping == Grouping::Plain && !core.distinct;
        let order = match self.chance.weighted(&[40, 45, 15]) {
            0 => Order::None,
            2 if simple && matches!(shape, Shape::Plain | Shape::Outer(_)) => {
                let exact = core.aggregates.iter().position(|a| a.nature == Nature::Exact);
                exact.map_or(Order::Total, Order::Top)
            }
            _ => Order::Total,
        };
        let mut query = Query { zone: self.zone.clone(), core, shape, order, limit: None, refused };
        let one = simple && !matches!(query.shape, Shape::Union(_) | Shape::Scalar);
        if query.is_ordered() && one && self.chance.percent(40) {
            let offset = if self.chance.percent(20) { self.chance.below(3) } else { 0 };
            query.limit = Some((self.chance.below(8), offset));
        }
        query
    }

    fn core(&mut self) -> Core {
        let mut keys = Vec::new();
        if self.chance.percent(50) {
            keys.push(self.time_key());
        }
        let dimensions = self.dimensions.clone();
        let wanted = self.chance.weighted(&[30, 35, 20, 15]);
        for _ in 0..wanted.min(dimensions.len()) {
            let column = self.chance.of(&dimensions).clone();
            let key = self.key(&column);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        self.chance.shuffle(&mut keys);
        let aggregates = 0..1 + self.chance.weighted(&[35, 30, 20, 15]);
        let mut aggregates: Vec<Item> = aggregates.map(|_| self.aggregate()).collect();
        aggregates.dedup();
        let mut conditions = self.base_conditions();
        if !dimensions.is_empty() && self.chance.percent(45) {
            conditions.push(self.conditions_of(&dimensions));
            if self.chance.percent(25) {
                conditions.push(self.conditions_of(&dimensions));
            }
        }
        self.chance.shuffle(&mut conditions);
        let having = self.chance.percent(15).then(|| self.having(&aggregates));
        let grouping = self.grouping(keys.len());
        Core {
            source: Frag::new(self.chance.word(&["events", "events", "public.events"])),
            keys,
            aggregates,
            conditions,
            having,
            grouping,
            aliased: true,
            ordinals: self.chance.percent(50),
            distinct: false,
        }
    }

    /// A range of time, and what the target's filter asks for.
    fn base_conditions(&mut self) -> Vec<Frag> {
        let mut conditions = self.time_conditions();
        let filter = self.target.filter.as_deref();
        if let Some((_, said)) = FILTERS.iter().find(|(declared, _)| Some(*declared) == filter)
            && self.chance.percent(90)
        {
            let said = said[self.chance.weighted(&[70, 15, 15])];
            conditions.push(Frag::new(said));
        }
        conditions
    }

    fn grouping(&mut self, keys: usize) -> Grouping {
        if keys == 0 || !self.chance.percent(12) {
            return Grouping::Plain;
        }
        match self.chance.below(3) {
            0 => Grouping::Rollup,
            1 => Grouping::Cube,
            _ => {
                let all: Vec<usize> = (0..keys).collect();
                let last = self.chance.below(keys);
                Grouping::Sets(vec![all, vec![last], vec![]])
            }
        }
    }

    fn having(&mut self, aggregates: &[Item]) -> Frag {
        let exact: Vec<&Item> = aggregates.iter().filter(|a| a.nature == Nature::Exact).collect();
        match self.chance.below(4) {
            0 => Frag::new("count(*) > 2"),
            1 if !exact.is_empty() => {
                Frag::of("{} IS NOT NULL", &[self.chance.of(&exact).sql.clone()])
            }
            2 => Frag::new("count(*) BETWEEN 1 AND 40"),
            _ => Frag::new("count(*) % 2 = 1 OR count(*) > 10"),
        }
    }

    /// Something that no rollup, or not the target, can answer.
    fn spoil(&mut self, core: &mut Core) {
        let time = self.time();
        let others: Vec<Column> = self
            .table
            .columns
            .iter()
            .skip(1)
            .filter(|c| {
                let rollups = &self.table.def.rollups;
                !rollups.iter().any(|r| r.dimension_names().any(|name| *name == c.name))
            })
            .cloned()
            .collect();
        match self.chance.below(5) {
            0 => core.conditions.push(self.conditions_of(&others)),
            1 => core.keys.push(Item { sql: time, nature: Nature::Exact }),
            2 => core.aggregates.push(self.stranger()),
            3 => {
                let column = self.table.column("label").clone();
                core.keys.push(self.key(&column));
            }
            _ => {
                let order =
                    format!("ORDER BY {}, _partition, _offset LIMIT 40", self.table.time().sql);
                core.source = Frag::new(format!("(SELECT * FROM events {order}) e"));
            }
        }
    }

    fn shape(&mut self, core: &mut Core) -> Shape {
        let n = core.keys.len();
        let first_is_exact = core.aggregates[0].nature == Nature::Exact;
        match self.chance.weighted(&[46, 8, 6, 6, 8, 6, 8, 4, 10]) {
            1 => Shape::Outer(self.chance.percent(60).then(|| Frag::new("a0 IS NOT NULL"))),
            2 => Shape::Again,
            3 => Shape::Twice,
            4 => {
                let mut other = core.clone();
                other.conditions = self.base_conditions();
                Shape::Union(Box::new(other))
            }
            5 => {
                let mut other = core.clone();
                other.conditions = self.base_conditions();
                other.having = None;
                Shape::Join(Box::new(other))
            }
            6 => {
                let by = (0..n).map(|i| format!("k{i}")).collect::<Vec<_>>().join(", ");
                Shape::Window(match (n, self.chance.below(3)) {
                    (0, _) | (_, 0) => "count(*) OVER ()".into(),
                    (_, 1) if first_is_exact => format!("rank() OVER (ORDER BY a0 DESC, {by})"),
                    _ => format!("count(*) OVER (PARTITION BY k0 ORDER BY {by})"),
                })
            }
            7 if core.grouping == Grouping::Plain => {
                core.keys.clear();
                core.aggregates.truncate(1);
                Shape::Scalar
            }
            8 => {
                self.source(core);
                Shape::Plain
            }
            _ => {
                core.aliased = self.chance.percent(50);
                if n > 0 && core.grouping == Grouping::Plain && self.chance.percent(8) {
                    core.distinct = true;
                    core.aggregates.clear();
                    core.having = None;
                }
                Shape::Plain
            }
        }
    }

    /// Reads from something over the table that renames nothing, or filters first.
    fn source(&mut self, core: &mut Core) {
        let dimensions = self.dimensions.clone();
        if dimensions.is_empty() || self.chance.percent(40) {
            let conditions = std::mem::take(&mut core.conditions);
            let filter = match conditions.is_empty() {
                true => Frag::new("true"),
                false => Frag::joined(&conditions, " AND "),
            };
            core.source = Frag::of("(SELECT * FROM events WHERE {}) e", &[filter]);
            return;
        }
        let column = self.chance.of(&dimensions).clone();
        let c = &column.sql;
        let conditions = self.base_conditions();
        let filter = match conditions.is_empty() {
            true => Frag::new("true"),
            false => Frag::joined(&conditions, " AND "),
        };
        if self.chance.percent(60) {
            return self.join(core, c, &filter);
        }
        let top = Frag::of(
            &format!(
                "{c} IN (SELECT {c} FROM events WHERE {{}} GROUP BY {c} ORDER BY count(*) DESC, {c} LIMIT 3)"
            ),
            &[filter],
        );
        core.conditions.push(top);
    }

    /// Joins rows by a dimension to what has it several times, with a key of the other side at times.
    fn join(&mut self, core: &mut Core, column: &str, filter: &Frag) {
        let kind = match self.chance.weighted(&[50, 28, 22]) {
            0 => "JOIN",
            1 => "LEFT JOIN",
            _ => "RIGHT JOIN",
        };
        let time = self.time();
        let equal = self.chance.word(&["=", "=", "IS NOT DISTINCT FROM"]);
        let more = self.chance.word(&["", "", " AND dw < 12", " AND dw % 2 = 0"]);
        let template = format!(
            "events {kind} (SELECT DISTINCT {{}} AS dk, extract(hour FROM {{}}) AS dw FROM events \
             WHERE {{}}) d ON d.dk {equal} {{}}{more}"
        );
        let column = Frag::new(column);
        let parts = [column.clone(), time, filter.clone(), column];
        core.source = Frag::of(&template, &parts);
        match self.chance.below(4) {
            0 => core.conditions.push(Frag::new("(dw IS NULL OR dw >= 3)")),
            1 if core.grouping == Grouping::Plain => {
                core.keys.push(Item::new("dw", Nature::Exact));
            }
            _ => {}
        }
    }
}
