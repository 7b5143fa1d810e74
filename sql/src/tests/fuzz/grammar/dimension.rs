//! Conditions over columns and keys made of them.

use datafusion::scalar::ScalarValue;
use otus_engine::time::DAY_US;

use super::Grammar;
use crate::tests::fuzz::data::{BIGS, UUIDS, WORDS};
use crate::tests::fuzz::query::{Frag, Item};
use crate::tests::fuzz::table::{Column, Kind, Nature};

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Grammar<'_> {
    fn value(&mut self, column: &Column) -> Frag {
        let text = match column.kind {
            Kind::Text => {
                let word = self.chance.word(&WORDS);
                if self.chance.percent(15) {
                    return Frag::param(ScalarValue::Utf8View(Some(word.into())));
                }
                quoted(word)
            }
            Kind::Uuid => quoted(self.chance.word(&UUIDS)),
            Kind::Bool => self.chance.word(&["true", "false"]).into(),
            Kind::Int => {
                let n = self.chance.between(-3, 6);
                if self.chance.percent(15) {
                    return Frag::param(ScalarValue::Int32(i32::try_from(n).ok()));
                }
                n.to_string()
            }
            Kind::Big => {
                let n = *self.chance.of(&BIGS);
                if self.chance.percent(15) {
                    return Frag::param(ScalarValue::Int64(Some(n)));
                }
                n.to_string()
            }
            Kind::Date | Kind::Time => {
                let day = self.table.base_us.div_euclid(DAY_US) + self.chance.between(-1, 6);
                let date = chrono::DateTime::from_timestamp(day * 86_400, 0).unwrap();
                format!("DATE '{}'", date.format("%Y-%m-%d"))
            }
            Kind::Numeric | Kind::Double => self.chance.between(-500, 1_000).to_string(),
        };
        Frag::new(text)
    }

    /// A condition over one column.
    pub(super) fn condition(&mut self, column: &Column) -> Frag {
        let c = Frag::new(column.sql.clone());
        let (a, b) = (self.value(column), self.value(column));
        let form = self.chance.weighted(&[24, 10, 6, 6, 8, 8, 8, 6, 6, 18]);
        match form {
            0 => Frag::of("{} = {}", &[c, a]),
            1 => Frag::of("{} IN ({}, {})", &[c, a, b]),
            2 => Frag::of("{} NOT IN ({}, {})", &[c, a, b]),
            3 => Frag::of("NOT ({} = {})", &[c, a]),
            4 => Frag::of("{} IS NULL", &[c]),
            5 => Frag::of("{} IS NOT NULL", &[c]),
            6 if column.kind != Kind::Bool => Frag::of("{} BETWEEN {} AND {}", &[c, a, b]),
            7 => Frag::of("{} <> {}", &[c, a]),
            // In brackets: the parser would take what follows as part of the right side.
            8 => Frag::of("({} IS DISTINCT FROM {})", &[c, a]),
            _ => self.typical(column),
        }
    }

    /// A condition that one writes for columns of this kind.
    fn typical(&mut self, column: &Column) -> Frag {
        let c = &column.sql;
        let value = self.value(column);
        let text = match column.kind {
            Kind::Text => match self.chance.below(6) {
                0 => format!("{c} LIKE '%a%'"),
                1 => format!("{c} ILIKE 'a%'"),
                2 => format!("{c} NOT LIKE '%e%'"),
                3 => format!("upper({c}) = 'A'"),
                4 => format!("length({c}) > 1"),
                _ => format!("coalesce({c}, '') = ''"),
            },
            Kind::Bool => match self.chance.below(4) {
                0 => c.clone(),
                1 => format!("NOT {c}"),
                2 => format!("{c} IS TRUE"),
                _ => format!("{c} IS NOT FALSE"),
            },
            Kind::Int => match self.chance.below(3) {
                0 => format!("{c} % 2 = 0"),
                1 => format!("abs({c}) > 1"),
                _ => format!("{c} + 1 >= 0"),
            },
            Kind::Uuid => format!("{c} LIKE '6f%'"),
            _ => return Frag::of(&format!("{c} > {{}}"), &[value]),
        };
        Frag::new(text)
    }

    /// A condition over one or two of these columns.
    pub(super) fn conditions_of(&mut self, columns: &[Column]) -> Frag {
        let column = self.chance.of(columns).clone();
        let first = self.condition(&column);
        if !self.chance.percent(25) {
            return first;
        }
        let column = self.chance.of(columns).clone();
        let second = self.condition(&column);
        let form = self.chance.word(&["({} OR {})", "({} AND NOT ({}))", "({}) = ({})"]);
        Frag::of(form, &[first, second])
    }

    /// A group key made of one column.
    pub(super) fn key(&mut self, column: &Column) -> Item {
        let c = &column.sql;
        let exact = |sql: String| Item::new(sql, Nature::Exact);
        if self.chance.percent(65) {
            return exact(c.clone());
        }
        exact(match column.kind {
            Kind::Text => match self.chance.below(6) {
                0 => format!("upper({c})"),
                1 => format!("coalesce({c}, '-')"),
                2 => format!("length({c})"),
                3 => format!("{c} || '!'"),
                4 => format!(
                    "CASE WHEN {c} = 'a' THEN 'first' WHEN {c} IS NULL THEN 'none' ELSE {c} END"
                ),
                _ => format!("{c} IS NULL"),
            },
            Kind::Bool => match self.chance.below(3) {
                0 => format!("CASE WHEN {c} THEN 'yes' ELSE 'no' END"),
                1 => format!("NOT {c}"),
                _ => format!("coalesce({c}, false)"),
            },
            Kind::Int => match self.chance.below(3) {
                0 => format!("{c} % 3"),
                1 => format!("{c} > 0"),
                _ => format!("{c} * 2 + 1"),
            },
            Kind::Big => match self.chance.below(2) {
                0 => format!("{c} / 2"),
                _ => format!("{c}::text"),
            },
            Kind::Date => match self.chance.below(3) {
                0 => format!("date_trunc('month', {c})"),
                1 => format!("{c} + INTERVAL '1 day'"),
                _ => format!("extract(dow FROM {c})"),
            },
            Kind::Uuid => format!("substr({c}, 1, 2)"),
            _ => c.clone(),
        })
    }
}
