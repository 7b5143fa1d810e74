//! Queries over the table, over queries, and over joins of both.

use std::collections::BTreeSet;

use super::{Column, Grammar, Kind};

/// Nesting of a query.
const DEPTH_MAX: usize = 2;
/// Kinds of columns that a query makes.
const MADE: [Kind; 9] = [
    Kind::Int,
    Kind::Int,
    Kind::Text,
    Kind::Text,
    Kind::Num,
    Kind::Big,
    Kind::Time,
    Kind::Date,
    Kind::Bool,
];

/// What stands behind FROM, and what can be named then.
type Source = (String, Vec<Column>);

impl Grammar {
    /// A query and its columns; their names are those that it shows.
    pub(super) fn query(&mut self, depth: usize) -> Source {
        let form = self.number(0..20);
        let source = match form {
            0..=5 => self.grouped(depth),
            6..=8 => self.windowed(depth),
            9 | 10 => self.windows_over_groups(depth),
            11 | 12 if depth < DEPTH_MAX => self.of_two(depth),
            13 => self.first_of_each(depth),
            14 if depth < DEPTH_MAX => self.with(depth),
            _ => self.rows(depth),
        };
        if !matches!(form, 0..=5 | 9 | 10) {
            self.identified = 0;
        }
        source
    }

    /// The query with an order that leaves nothing open, sometimes cut; or as it is.
    pub(super) fn ordered(&mut self, sql: String, columns: &[Column]) -> (String, bool) {
        if self.chance(25) || columns.iter().any(|c| c.kind == Kind::Json) {
            return (sql, false);
        }
        let few = self.identified > 0 && self.chance(60);
        let keys = if few { self.identified } else { columns.len() };
        let order: Vec<String> = self
            .shuffled(keys)
            .iter()
            .map(|n| {
                let way = self.one_of(&["", " desc", " nulls first", " desc nulls last"]);
                format!("{}{way}", n + 1)
            })
            .collect();
        let mut sql = format!("{sql} order by {}", order.join(", "));
        if self.chance(60) {
            let rows = self.number(1..15);
            let rows = self.amount(rows);
            sql += &format!(" limit {rows}");
        }
        if self.chance(25) {
            let rows = self.number(0..5);
            let rows = self.amount(rows);
            sql += &format!(" offset {rows}");
        }
        (sql, true)
    }

    fn amount(&mut self, rows: i64) -> String {
        if self.parameters.is_some() && self.chance(50) {
            self.parameter(rows.to_string())
        } else {
            rows.to_string()
        }
    }

    fn rows(&mut self, depth: usize) -> Source {
        let (from, scope) = self.source(depth);
        let mut made = Vec::new();
        for _ in 0..self.number(1..4) {
            let kind = if self.chance(15) {
                self.one_of(&[Kind::Json, Kind::Texts])
            } else {
                self.one_of(&MADE)
            };
            let value = if self.chance(8) {
                self.looked_up(&scope, kind)
            } else {
                self.value(&scope, kind, 0)
            };
            made.push((value, kind));
        }
        let distinct = if self.chance(15) { "distinct " } else { "" };
        let filter = self.filter(&scope, 60);
        self.selected(distinct, made, &format!("{from}{filter}"))
    }

    /// `SELECT` of values, each with a name.
    fn selected(&mut self, distinct: &str, made: Vec<(String, Kind)>, rest: &str) -> Source {
        let columns: Vec<Column> =
            made.iter().map(|(_, kind)| Column::new(self.name("c"), *kind)).collect();
        let values: Vec<String> = made
            .iter()
            .zip(&columns)
            .map(|((value, _), column)| format!("{value} as {}", column.name))
            .collect();
        (format!("select {distinct}{} from {rest}", values.join(", ")), columns)
    }

    fn filter(&mut self, scope: &[Column], percent: u32) -> String {
        if !self.chance(percent) {
            return String::new();
        }
        let condition = match self.number(0..8) {
            0 => self.exists(scope),
            1 => self.in_query(scope),
            _ => self.condition(scope, 0),
        };
        format!(" where {condition}")
    }

    fn exists(&mut self, scope: &[Column]) -> String {
        let (inner, alias) = self.small_table();
        let (outer, same) = self.met(scope, &alias);
        let word = self.one_of(&["exists", "not exists"]);
        let mut sight = inner;
        sight.truncate(6);
        let more = self.condition(&sight, 2);
        format!("{word} (select 1 from {} {alias} where {same} = {outer} and {more})", self.few())
    }

    fn in_query(&mut self, scope: &[Column]) -> String {
        let (inner, alias) = self.small_table();
        let kind = self.one_of(&[Kind::Int, Kind::Text]);
        let outer = self.value(scope, kind, 1);
        let value = self.value(&inner, kind, 2);
        let word = self.one_of(&["in", "not in"]);
        format!("{outer} {word} (select {value} from {} {alias})", self.few())
    }

    /// A value looked up by one of the row.
    fn looked_up(&mut self, scope: &[Column], kind: Kind) -> String {
        let (inner, alias) = self.small_table();
        let (outer, same) = self.met(scope, &alias);
        if kind == Kind::Big {
            return format!("(select count(*) from {} {alias} where {same} = {outer})", self.few());
        }
        let value = self.value(&inner, kind, 1);
        let from = self.few();
        format!(
            "(select {value} from {from} {alias} where {same} = {outer} order by {alias}.id limit 1)"
        )
    }

    /// A value of the row, and the column of the inner table that is compared with it.
    fn met(&mut self, scope: &[Column], alias: &str) -> (String, String) {
        let (kind, name) = self.one_of(&[(Kind::Text, "owner"), (Kind::Int, "qty")]);
        (self.value(scope, kind, 3), format!("{alias}.{name}"))
    }

    /// The columns of the table under a fresh name, and that name.
    fn small_table(&mut self) -> Aliased {
        let alias = self.name("s");
        let columns = self.columns.iter();
        let columns = columns.map(|c| Column::new(format!("{alias}.{}", c.name), c.kind)).collect();
        (columns, alias)
    }

    /// Some rows of the table.
    fn few(&mut self) -> String {
        let most = self.number(5..60);
        format!("(select * from {} where qty < {most})", self.table)
    }

    fn source(&mut self, depth: usize) -> Source {
        match self.number(0..14) {
            0..=4 => {
                let plain = self.columns.clone();
                (self.table.to_owned(), plain)
            }
            5 | 6 => {
                let (columns, alias) = self.small_table();
                (format!("{} {alias}", self.few()), columns)
            }
            7 | 8 if depth < DEPTH_MAX => self.derived(depth),
            9 | 10 if depth < DEPTH_MAX => self.joined(depth),
            11 => self.lateral(),
            12 => self.repeated(),
            _ => {
                let (columns, alias) = self.small_table();
                (format!("{} as {alias}", self.table), columns)
            }
        }
    }

    fn derived(&mut self, depth: usize) -> Source {
        let (sql, columns) = self.query(depth + 1);
        let sql = if self.chance(40) { self.ordered(sql, &columns).0 } else { sql };
        let alias = self.name("d");
        let name = |c: &Column| Column::new(format!("{alias}.{}", c.name), c.kind);
        let columns = columns.iter().map(name).collect();
        (format!("({sql}) {alias}"), columns)
    }

    fn joined(&mut self, depth: usize) -> Source {
        let (left, left_scope) = if self.chance(50) {
            self.derived(depth)
        } else {
            let (columns, alias) = self.small_table();
            (format!("{} {alias}", self.few()), columns)
        };
        let (right_scope, alias) = self.small_table();
        let right = format!("{} {alias}", self.few());
        let kind = self.one_of(&[Kind::Int, Kind::Text]);
        let (a, b) = (self.value(&left_scope, kind, 2), self.value(&right_scope, kind, 2));
        let way = self.one_of(&["join", "left join", "right join", "full join"]);
        let mut on = format!("{a} = {b}");
        let both: Vec<Column> = left_scope.into_iter().chain(right_scope).collect();
        if way != "full join" && self.chance(30) {
            on = format!("{on} and {}", self.condition(&both, 2));
        }
        (format!("{left} {way} {right} on {on}"), both)
    }

    fn lateral(&mut self) -> Source {
        let (mut scope, outer) = self.small_table();
        let (inner_scope, inner) = self.small_table();
        let from = format!("{} {outer}", self.few());
        let value = self.value(&inner_scope, Kind::Int, 1);
        let (alias, name) = (self.name("l"), self.name("c"));
        let (few, rows) = (self.few(), self.number(1..4));
        let same = self.one_of(&["owner", "team"]);
        let body = format!(
            "select {value} as {name} from {few} {inner} where {inner}.{same} = {outer}.{same} \
             order by {inner}.id desc limit {rows}"
        );
        scope.push(Column::new(format!("{alias}.{name}"), Kind::Int));
        let way = self.one_of(&["cross join lateral", "left join lateral"]);
        let on = if way.starts_with("left") { " on true" } else { "" };
        (format!("{from} {way} ({body}) {alias}{on}"), scope)
    }

    /// Rows that are repeated by a list or a series of their own.
    fn repeated(&mut self) -> Source {
        let (mut scope, outer) = self.small_table();
        let (few, alias, name) = (self.few(), self.name("u"), self.name("c"));
        if self.chance(50) {
            scope.push(Column::new(format!("{alias}.{name}"), Kind::Text));
            (format!("{few} {outer}, unnest({outer}.tags) {alias}({name})"), scope)
        } else {
            scope.push(Column::new(format!("{alias}.{name}"), Kind::Int));
            let series = format!("generate_series(1, {outer}.qty % 4)");
            (format!("{few} {outer} cross join {series} {alias}({name})"), scope)
        }
    }

    /// An aggregate function over the rows in sight.
    fn aggregate(&mut self, scope: &[Column]) -> (String, Kind) {
        let (mut text, kind) = match self.number(0..18) {
            0 | 1 => ("count(*)".to_owned(), Kind::Big),
            2 => {
                let kind = self.one_of(&MADE);
                (format!("count({})", self.value(scope, kind, 1)), Kind::Big)
            }
            3 => {
                let kind = self.one_of(&MADE);
                (format!("count(distinct {})", self.value(scope, kind, 1)), Kind::Big)
            }
            4 | 5 => (format!("sum({})", self.value(scope, Kind::Int, 1)), Kind::Big),
            6 => (format!("sum({})", self.value(scope, Kind::Num, 1)), Kind::Num),
            7 => (format!("sum({})", self.value(scope, Kind::Big, 1)), Kind::Num),
            8..=10 => {
                let kinds = [Kind::Int, Kind::Text, Kind::Num, Kind::Time, Kind::Date, Kind::Big];
                let (kind, name) = (self.one_of(&kinds), self.one_of(&["min", "max"]));
                (format!("{name}({})", self.value(scope, kind, 1)), kind)
            }
            11 => {
                let name = self.one_of(&["bool_and", "bool_or", "every"]);
                (format!("{name}({})", self.condition(scope, 2)), Kind::Bool)
            }
            12 => {
                let value = self.value(scope, Kind::Text, 2);
                (format!("string_agg({value}, ',' order by {value})"), Kind::Text)
            }
            13 => {
                let value = self.value(scope, Kind::Text, 2);
                (format!("array_agg(distinct {value})"), Kind::Texts)
            }
            14 => {
                let value = self.value(scope, Kind::Int, 2);
                (format!("jsonb_agg({value} order by {value} desc)"), Kind::Json)
            }
            15 => {
                let value = self.value(scope, Kind::Int, 2);
                (format!("percentile_disc(0.25) within group (order by {value})"), Kind::Int)
            }
            16 => (format!("sum(distinct {})", self.value(scope, Kind::Int, 1)), Kind::Big),
            _ => {
                let kind = self.one_of(&[Kind::Int, Kind::Num]);
                return (format!("round(avg({}), 4)", self.value(scope, kind, 1)), Kind::Num);
            }
        };
        if self.chance(25) {
            text += &format!(" filter (where {})", self.condition(scope, 2));
        }
        (text, kind)
    }

    fn grouped(&mut self, depth: usize) -> Source {
        let (from, scope) = self.source(depth);
        let several = self.chance(25);
        let (mut made, by) = if several {
            self.many_groupings(&scope)
        } else {
            let mut keys = Vec::new();
            for _ in 0..self.number(0..3) {
                let kind = self.one_of(&MADE);
                keys.push((self.value(&scope, kind, 0), kind));
            }
            let by: Vec<String> = (1..=keys.len()).map(|n| n.to_string()).collect();
            (keys, by.join(", "))
        };
        for _ in 0..self.number(if made.is_empty() { 1 } else { 0 }..4) {
            made.push(self.aggregate(&scope));
        }
        let mut rest = format!("{from}{}", self.filter(&scope, 50));
        if !by.is_empty() {
            rest += &format!(" group by {by}");
        }
        if self.chance(20) {
            let (aggregate, rows) = (self.one_of(&["count(*)", "max(qty)"]), self.number(0..9));
            let named = scope.iter().any(|c| c.name == "qty");
            let aggregate = if named { aggregate } else { "count(*)" };
            rest += &format!(" having {aggregate} > {rows}");
        }
        let (sql, columns) = self.selected("", made, &rest);
        self.identified =
            if several { 0 } else { by.split(", ").filter(|n| !n.is_empty()).count() };
        if !several {
            return (sql, columns);
        }
        // PostgreSQL 15 takes a key that a condition makes constant for constant in sets without it too, and does not sort
        // by it.
        let named: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let sql = format!("select {} from ({sql} offset 0) {}", named.join(", "), self.name("g"));
        (sql, columns)
    }

    /// Columns as keys, by sets of them.
    fn many_groupings(&mut self, scope: &[Column]) -> (Vec<(String, Kind)>, String) {
        let able: Vec<&Column> = scope.iter().filter(|c| c.kind.ordered()).collect();
        let mut taken = BTreeSet::new();
        let mut keys = Vec::new();
        for n in self.shuffled(able.len()).into_iter().take(2) {
            if taken.insert(able[n].name.clone()) {
                keys.push((able[n].name.clone(), able[n].kind));
            }
        }
        let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
        let by = match (self.number(0..3), names.as_slice()) {
            (_, []) => String::new(),
            (0, names) => format!("rollup({})", names.join(", ")),
            (1, names) => format!("cube({})", names.join(", ")),
            (_, [one]) => format!("grouping sets (({one}), ())"),
            (_, [one, other, ..]) => format!("grouping sets (({one}, {other}), ({other}))"),
        };
        (keys, by)
    }

    fn windowed(&mut self, depth: usize) -> Source {
        let (from, scope) = self.source(depth);
        let scope: Vec<Column> = scope.into_iter().filter(|c| c.kind.ordered()).collect();
        let kind = self.one_of(&[Kind::Int, Kind::Text]);
        let mut made = vec![(self.value(&scope, kind, 0), kind)];
        made.push(self.window(&scope));
        if self.chance(40) {
            // Rows that are alike in all columns are peers: only the first may tell them apart, or their pairs would differ.
            let call = self.one_of(&["rank()", "dense_rank()", "count(*)"]);
            made.push((format!("{call} over ({})", self.over(&scope, false)), Kind::Big));
        }
        let filter = self.filter(&scope, 50);
        self.selected("", made, &format!("{from}{filter}"))
    }

    fn window(&mut self, scope: &[Column]) -> (String, Kind) {
        let kind = self.one_of(&[Kind::Int, Kind::Text, Kind::Num, Kind::Date]);
        let value = self.value(scope, kind, 1);
        let (call, kind, framed) = match self.number(0..13) {
            0 => ("row_number()".to_owned(), Kind::Big, false),
            1 => ("rank()".to_owned(), Kind::Big, false),
            2 => ("dense_rank()".to_owned(), Kind::Big, false),
            3 => (format!("lag({value})"), kind, false),
            4 => (format!("lead({value}, 2)"), kind, false),
            5 => (format!("ntile({})", self.number(1..5)), Kind::Int, false),
            6 => (format!("first_value({value})"), kind, true),
            7 => (format!("last_value({value})"), kind, true),
            8 => (format!("nth_value({value}, 2)"), kind, true),
            9 => (format!("min({value})"), kind, true),
            10 => (format!("count({value})"), Kind::Big, true),
            _ => {
                let value = self.value(scope, Kind::Int, 1);
                (format!("sum({value})"), Kind::Big, true)
            }
        };
        (format!("{call} over ({})", self.over(scope, framed)), kind)
    }

    /// A window whose order leaves nothing open.
    fn over(&mut self, scope: &[Column], framed: bool) -> String {
        const FRAMES: [&str; 7] = [
            "",
            " rows between 1 preceding and 1 following",
            " rows between unbounded preceding and unbounded following",
            " rows between current row and unbounded following",
            " rows 2 preceding",
            " groups between 1 preceding and 1 following",
            " rows between 3 preceding and 1 preceding",
        ];
        let mut text = String::new();
        if self.chance(50) {
            let kind = self.one_of(&[Kind::Int, Kind::Text]);
            text = format!("partition by {} ", self.value(scope, kind, 2));
        }
        let kind = self.one_of(&[Kind::Int, Kind::Text, Kind::Num, Kind::Time]);
        let way = self.one_of(&["", " desc", " nulls first"]);
        let names: Vec<&str> = scope.iter().map(|c| c.name.as_str()).collect();
        text += &format!("order by {}{way}", self.value(scope, kind, 2));
        for name in names {
            text += &format!(", {name}");
        }
        if framed {
            text += self.one_of(&FRAMES);
        }
        text
    }

    fn windows_over_groups(&mut self, depth: usize) -> Source {
        let (from, scope) = self.source(depth);
        let kind = self.one_of(&[Kind::Int, Kind::Text]);
        let key = {
            // A parameter in a key would be another one where the key is repeated.
            let parameters = self.parameters.take();
            let key = self.value(&scope, kind, 2);
            self.parameters = parameters;
            key
        };
        let constant = !scope.iter().any(|c| key.contains(c.name.as_str()));
        let (aggregate, result) = self.aggregate(&scope);
        let mut made = vec![(key.clone(), kind), (aggregate, result)];
        if !constant {
            for _ in 0..self.number(1..3) {
                made.push(match self.number(0..5) {
                    0 => (format!("row_number() over (order by {key} desc)"), Kind::Big),
                    1 => (format!("rank() over (order by count(*), {key})"), Kind::Big),
                    2 => (format!("lag({key}) over (order by {key})"), kind),
                    3 => (format!("sum(count(*)) over (order by {key})"), Kind::Num),
                    _ => ("max(count(*)) over ()".to_owned(), Kind::Big),
                });
            }
        }
        let filter = self.filter(&scope, 40);
        let source = self.selected("", made, &format!("{from}{filter} group by 1"));
        self.identified = 1;
        source
    }

    /// A union and its like.
    fn of_two(&mut self, depth: usize) -> Source {
        let kinds: Vec<Kind> = (0..self.number(1..3)).map(|_| self.one_of(&MADE)).collect();
        let (first, columns) = self.of_kinds(depth, &kinds);
        let (other, _) = self.of_kinds(depth, &kinds);
        let ways = ["union", "union all", "intersect", "except", "intersect all", "except all"];
        let way = self.one_of(&ways);
        (format!("({first}) {way} ({other})"), columns)
    }

    fn of_kinds(&mut self, depth: usize, kinds: &[Kind]) -> Source {
        let (from, scope) = self.source(depth + 1);
        let made = kinds.iter().map(|kind| (self.value(&scope, *kind, 1), *kind)).collect();
        let filter = self.filter(&scope, 60);
        self.selected("", made, &format!("{from}{filter}"))
    }

    fn first_of_each(&mut self, depth: usize) -> Source {
        let (sql, columns) = self.derived(depth);
        if columns.iter().any(|c| !c.kind.ordered()) {
            return self.rows(depth);
        }
        let made: Vec<(String, Kind)> = columns.iter().map(|c| (c.name.clone(), c.kind)).collect();
        let keys: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let way = self.one_of(&["", " desc"]);
        let rest = format!("{sql} order by {}{way}", keys.join(", "));
        let first = keys.first().copied().unwrap_or("1");
        let (sql, columns) = self.selected(&format!("distinct on ({first}) "), made, &rest);
        let alias = self.name("o");
        let named = columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>().join(", ");
        (format!("select {named} from ({sql}) {alias}"), columns)
    }

    fn with(&mut self, depth: usize) -> Source {
        let (sql, columns) = self.query(depth + 1);
        let table = self.name("w");
        let (a, b) = (self.name("s"), self.name("s"));
        let how = self.one_of(&["", "materialized ", "not materialized "]);
        let of = |alias: &str| -> Vec<Column> {
            let name = |c: &Column| Column::new(format!("{alias}.{}", c.name), c.kind);
            columns.iter().map(name).collect()
        };
        let (mut scope, mut from) = (of(&a), format!("{table} {a}"));
        if self.chance(50) {
            let key = self.one_of(&columns);
            if key.kind != Kind::Json {
                from = format!("{table} {a} left join {table} {b} on {a}.{0} = {b}.{0}", key.name);
                scope.extend(of(&b));
            }
        }
        let mut made = Vec::new();
        for _ in 0..self.number(1..3) {
            made.push(self.aggregate(&scope));
        }
        let rest = format!("{from}{}", self.filter(&scope, 40));
        let (body, columns) = self.selected("", made, &rest);
        (format!("with {table} as {how}({sql}) {body}"), columns)
    }
}

/// Columns and the name that they stand under.
type Aliased = (Vec<Column>, String);
