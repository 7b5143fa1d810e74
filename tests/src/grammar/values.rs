//! Values and conditions over the columns that are in sight.

use super::{Column, Grammar, Kind};

/// Nesting of a value.
const DEPTH_MAX: usize = 3;

impl Grammar {
    /// A value of this kind; a constant where no column leads to one.
    pub(super) fn value(&mut self, scope: &[Column], kind: Kind, depth: usize) -> String {
        let named: Vec<String> =
            scope.iter().filter(|c| c.kind == kind).map(|c| c.name.clone()).collect();
        if !named.is_empty() && (depth >= DEPTH_MAX || self.chance(50)) {
            return self.one_of(&named);
        }
        if depth >= DEPTH_MAX {
            return self.constant(kind);
        }
        if self.chance(12) {
            return self.any_kind(scope, kind, depth);
        }
        match kind {
            Kind::Int => self.int(scope, depth),
            Kind::Big => self.big(scope, depth),
            Kind::Num => self.num(scope, depth),
            Kind::Text => self.text(scope, depth),
            Kind::Bool => format!("({})", self.condition(scope, depth)),
            Kind::Time => self.time(scope, depth),
            Kind::Date => self.date(scope, depth),
            Kind::Json => self.json(scope, depth),
            Kind::Texts => self.texts(scope, depth),
        }
    }

    /// A constant that says its kind, or a parameter that is cast to it.
    pub(super) fn constant(&mut self, kind: Kind) -> String {
        let value = match kind {
            Kind::Int => self.number(-3..60).to_string(),
            Kind::Big => self.one_of(&["0", "7", "3000000000", "-40"]).to_owned(),
            Kind::Num => self.one_of(&["0.5", "12.25", "-3.10", "1000"]).to_owned(),
            Kind::Text => self.one_of(&["x", "ann", "", "a1", "SECRET", "ö'b"]).to_owned(),
            Kind::Bool => self.one_of(&["true", "false"]).to_owned(),
            Kind::Time => {
                self.one_of(&["2026-01-03 04:05:06+00", "2026-01-09 00:00:00+00"]).to_owned()
            }
            Kind::Date => self.one_of(&["2026-01-03", "2026-01-10"]).to_owned(),
            Kind::Json => self.one_of(&["{\"k\": 4}", "[1, \"b\", null]", "\"s\""]).to_owned(),
            Kind::Texts => self.one_of(&["{a,b}", "{}", "{t1,NULL}"]).to_owned(),
        };
        if self.parameters.is_some() && self.chance(50) {
            return format!("{}::{}", self.parameter(value), kind.sql());
        }
        match kind {
            Kind::Int => value,
            _ => format!("{}::{}", quoted(&value), kind.sql()),
        }
    }

    /// A constant where its place says what it is.
    pub(super) fn bare(&mut self, kind: Kind) -> String {
        let value = match kind {
            Kind::Text => self.one_of(&["ann", "bob", "x", "secret5"]).to_owned(),
            _ => self.number(-2..90).to_string(),
        };
        match (self.parameters.is_some() && self.chance(60), kind) {
            (true, _) => self.parameter(value),
            (false, Kind::Text) => quoted(&value),
            (false, _) => value,
        }
    }

    pub(super) fn parameter(&mut self, value: String) -> String {
        let Some(parameters) = &mut self.parameters else {
            return quoted(&value);
        };
        parameters.push(value);
        format!("${}", parameters.len())
    }

    /// What can be of every kind.
    fn any_kind(&mut self, scope: &[Column], kind: Kind, depth: usize) -> String {
        let first = self.value(scope, kind, depth + 1);
        let other = self.value(scope, kind, depth + 1);
        match self.number(0..4) {
            0 => format!("coalesce({first}, {other})"),
            1 => {
                let condition = self.condition(scope, depth + 1);
                format!("case when {condition} then {first} else {other} end")
            }
            2 => {
                let condition = self.condition(scope, depth + 1);
                format!("case when {condition} then {first} end")
            }
            _ => format!("nullif({first}, {other})"),
        }
    }

    fn int(&mut self, scope: &[Column], depth: usize) -> String {
        let int = |this: &mut Self| this.value(scope, Kind::Int, depth + 1);
        match self.number(0..14) {
            0 => format!("({} + {})", int(self), self.number(1..9)),
            1 => format!("-({})", int(self)),
            2 => format!("({} % 7)", int(self)),
            3 => format!("abs({})", int(self)),
            4 => format!("length({})", self.value(scope, Kind::Text, depth + 1)),
            5 => format!("strpos({}, 'n')", self.value(scope, Kind::Text, depth + 1)),
            6 => format!("cardinality({})", self.value(scope, Kind::Texts, depth + 1)),
            7 => format!("extract(day from {})::int", self.value(scope, Kind::Time, depth + 1)),
            8 => format!("({} ->> 'k')::int", self.value(scope, Kind::Json, DEPTH_MAX)),
            9 => format!("greatest({}, {})", int(self), int(self)),
            10 => format!("({} / 3)", int(self)),
            11 => format!("({} - {})", int(self), int(self)),
            12 => format!("({} - date '2026-01-02')", self.value(scope, Kind::Date, depth + 1)),
            _ => self.constant(Kind::Int),
        }
    }

    fn big(&mut self, scope: &[Column], depth: usize) -> String {
        let big = |this: &mut Self| this.value(scope, Kind::Big, depth + 1);
        match self.number(0..7) {
            0 => format!("({} / 1000000007)", big(self)),
            1 => format!("({} + {})", big(self), self.value(scope, Kind::Int, depth + 1)),
            2 => format!("{}::bigint", self.value(scope, Kind::Int, depth + 1)),
            3 => format!("least({}, {})", big(self), big(self)),
            4 => format!("({} % 1000)", big(self)),
            5 => format!("(-({}))", big(self)),
            _ => self.constant(Kind::Big),
        }
    }

    fn num(&mut self, scope: &[Column], depth: usize) -> String {
        let num = |this: &mut Self| this.value(scope, Kind::Num, depth + 1);
        match self.number(0..9) {
            0 => format!("round({}, 1)", num(self)),
            1 => format!("({} + {})", num(self), self.value(scope, Kind::Int, depth + 1)),
            2 => format!("({} * 2)", num(self)),
            3 => format!("floor({})", num(self)),
            4 => format!("({} - 0.25)", num(self)),
            5 => format!("round({} / 3, 3)", num(self)),
            6 => format!("{}::numeric", self.value(scope, Kind::Int, depth + 1)),
            7 => format!("-({})", num(self)),
            _ => self.constant(Kind::Num),
        }
    }

    fn text(&mut self, scope: &[Column], depth: usize) -> String {
        let text = |this: &mut Self| this.value(scope, Kind::Text, depth + 1);
        match self.number(0..18) {
            0 => format!("upper({})", text(self)),
            1 => format!("left({}, {})", text(self), self.number(-2..4)),
            2 => format!("substr({}, {}, 3)", text(self), self.number(-1..4)),
            3 => format!("({} || {})", text(self), text(self)),
            4 => format!("replace({}, 'n', {})", text(self), self.bare(Kind::Text)),
            5 => format!("lpad({}, {}, '-')", text(self), self.number(0..9)),
            6 => format!("{}::text", self.value(scope, Kind::Int, depth + 1)),
            7 => format!("split_part({}, 'r', {})", text(self), self.number(1..3)),
            8 => format!("({} ->> 's')", self.value(scope, Kind::Json, DEPTH_MAX)),
            9 => {
                let pattern = self.one_of(&["YYYY-MM-DD", "Dy HH24:MI", "IYYY-IW", "FMMonth DDth"]);
                format!("to_char({}, '{pattern}')", self.value(scope, Kind::Time, depth + 1))
            }
            10 => format!("concat_ws('/', {}, {})", text(self), text(self)),
            11 => format!("regexp_replace({}, '[aeiou]', '.', 'g')", text(self)),
            12 => format!("array_to_string({}, ',')", self.value(scope, Kind::Texts, depth + 1)),
            13 => format!("reverse({})", text(self)),
            14 => format!("initcap({})", text(self)),
            15 => format!("({})[1]", self.value(scope, Kind::Texts, depth + 1)),
            16 => format!("round({}, 2)::text", self.value(scope, Kind::Num, depth + 1)),
            _ => self.constant(Kind::Text),
        }
    }

    fn time(&mut self, scope: &[Column], depth: usize) -> String {
        let time = |this: &mut Self| this.value(scope, Kind::Time, depth + 1);
        match self.number(0..6) {
            0 => {
                let span = self.one_of(&["1 day", "90 minutes", "-1 month", "1 week 2 hours"]);
                format!("({} + interval '{span}')", time(self))
            }
            1 => {
                let unit = self.one_of(&["hour", "day", "week", "month"]);
                format!("date_trunc('{unit}', {})", time(self))
            }
            2 => format!("date_bin('15 minutes', {}, '2026-01-01')", time(self)),
            3 => format!("{}::timestamptz", self.value(scope, Kind::Date, depth + 1)),
            4 => format!("greatest({}, {})", time(self), time(self)),
            _ => self.constant(Kind::Time),
        }
    }

    fn date(&mut self, scope: &[Column], depth: usize) -> String {
        match self.number(0..4) {
            0 => format!("{}::date", self.value(scope, Kind::Time, depth + 1)),
            1 => format!("({} + 3)", self.value(scope, Kind::Date, depth + 1)),
            2 => format!("date_trunc('week', {})::date", self.value(scope, Kind::Time, depth + 1)),
            _ => self.constant(Kind::Date),
        }
    }

    fn json(&mut self, scope: &[Column], depth: usize) -> String {
        let json = |this: &mut Self| this.value(scope, Kind::Json, depth + 1);
        match self.number(0..6) {
            0 => format!("({} -> 'a')", json(self)),
            1 => format!("({} -> 'a' -> {})", json(self), self.number(-1..3)),
            2 => {
                let (int, text) = (
                    self.value(scope, Kind::Int, depth + 1),
                    self.value(scope, Kind::Text, depth + 1),
                );
                format!("jsonb_build_object('i', {int}, 't', {text})")
            }
            3 => format!("to_jsonb({})", self.value(scope, Kind::Int, depth + 1)),
            4 => format!("({} || '{{\"z\": 1}}')", json(self)),
            _ => self.constant(Kind::Json),
        }
    }

    fn texts(&mut self, scope: &[Column], depth: usize) -> String {
        let text = |this: &mut Self| this.value(scope, Kind::Text, depth + 1);
        match self.number(0..5) {
            0 => format!("array[{}, {}]", text(self), text(self)),
            1 => format!("string_to_array({}, 'r')", text(self)),
            2 => {
                let texts = self.value(scope, Kind::Texts, depth + 1);
                format!("array_append({texts}, {})", text(self))
            }
            3 => format!("({})[1:1]", self.value(scope, Kind::Texts, depth + 1)),
            _ => self.constant(Kind::Texts),
        }
    }

    /// A condition, without parentheses around it.
    pub(super) fn condition(&mut self, scope: &[Column], depth: usize) -> String {
        let deeper = depth < DEPTH_MAX;
        match self.number(0..16) {
            0..=2 => {
                let compared = self.one_of(&["<", ">", "<=", "=", "<>"]);
                let kind = self.one_of(&[Kind::Int, Kind::Big, Kind::Num]);
                format!("{} {compared} {}", self.value(scope, kind, depth + 1), self.bare(kind))
            }
            3 => {
                let like = self.one_of(&["like", "not like", "ilike"]);
                let letter = self.one_of(&["a", "n", "s", "1", "_e"]);
                format!("{} {like} '%{letter}%'", self.value(scope, Kind::Text, depth + 1))
            }
            4 => {
                let kind = self.one_of(&[Kind::Text, Kind::Int, Kind::Json, Kind::Texts]);
                let word = self.one_of(&["is null", "is not null"]);
                format!("{} {word}", self.value(scope, kind, depth + 1))
            }
            5 => {
                let (a, b) = (self.bare(Kind::Int), self.bare(Kind::Int));
                format!("{} in ({a}, {b}, 3)", self.value(scope, Kind::Int, depth + 1))
            }
            6 | 7 if deeper => {
                let joined = self.one_of(&["and", "or"]);
                let (a, b) = (self.condition(scope, depth + 1), self.condition(scope, depth + 1));
                format!("({a} {joined} {b})")
            }
            8 if deeper => format!("not ({})", self.condition(scope, depth + 1)),
            9 => {
                let int = self.value(scope, Kind::Int, depth + 1);
                format!("{int} between {} and {}", self.bare(Kind::Int), self.bare(Kind::Int))
            }
            10 => {
                let (text, word) =
                    (self.value(scope, Kind::Text, depth + 1), self.bare(Kind::Text));
                let distinct = self.one_of(&["is distinct from", "is not distinct from", "="]);
                format!("{text} {distinct} {word}")
            }
            11 => {
                let texts = self.value(scope, Kind::Texts, depth + 1);
                format!("{} = any({texts})", self.value(scope, Kind::Text, depth + 1))
            }
            12 => {
                let compared = self.one_of(&["<", ">=", "="]);
                let (time, other) =
                    (self.value(scope, Kind::Time, depth + 1), self.constant(Kind::Time));
                format!("{time} {compared} {other}")
            }
            13 => format!("{} @> '{{\"k\": 4}}'", self.value(scope, Kind::Json, depth + 1)),
            14 => format!("{} ~ '^[a-c].*[0-9n]$'", self.value(scope, Kind::Text, depth + 1)),
            _ => {
                let word = self.one_of(&["is true", "is not true", "is not false", "is unknown"]);
                format!("({}) {word}", self.comparison(scope, depth + 1))
            }
        }
    }

    fn comparison(&mut self, scope: &[Column], depth: usize) -> String {
        let kind = self.one_of(&[Kind::Int, Kind::Text, Kind::Num]);
        format!("{} > {}", self.value(scope, kind, depth), self.value(scope, kind, depth))
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
