//! Rows as a table for people, as records one below the other, or as CSV. Widths are those of the first rows; later
//! ones go out as they come, so that a long result needs no memory.

use std::io::{self, Write};

/// Rows that are looked at before the widths are fixed.
const LOOK_ROWS: usize = 1_000;

/// How rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Aligned columns.
    Table,
    /// One line per value.
    Expanded,
    /// Comma-separated, for programs.
    Csv,
}

/// One result on its way to `out`.
#[derive(Debug)]
pub(super) struct Table<W> {
    out: W,
    style: Style,
    names: Vec<String>,
    held: Vec<Vec<Option<String>>>,
    columns: Option<Vec<Column>>,
    rows: u64,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    width: usize,
    number: bool,
}

impl<W: Write> Table<W> {
    pub(super) fn new(out: W, style: Style, names: Vec<String>) -> io::Result<Self> {
        let mut table = Self { out, style, names, held: Vec::new(), columns: None, rows: 0 };
        if style == Style::Csv {
            let names: Vec<_> = table.names.iter().cloned().map(Some).collect();
            table.csv(&names)?;
        }
        Ok(table)
    }

    pub(super) fn row(&mut self, row: Vec<Option<String>>) -> io::Result<()> {
        self.rows += 1;
        match self.style {
            Style::Csv => self.csv(&row),
            Style::Expanded => self.expanded(&row),
            Style::Table => {
                if self.columns.is_some() {
                    return self.line(&row);
                }
                self.held.push(row);
                if self.held.len() >= LOOK_ROWS { self.begin() } else { Ok(()) }
            }
        }
    }

    /// Writes what is held back and the number of rows.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.style == Style::Table && self.columns.is_none() {
            self.begin()?;
        }
        if self.style != Style::Csv {
            let rows = if self.rows == 1 { "row" } else { "rows" };
            writeln!(self.out, "({} {rows})\n", self.rows)?;
        }
        self.out.flush()
    }

    fn begin(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        let column = |index: usize, name: &String| {
            let values = || held.iter().filter_map(|row| row.get(index)?.as_deref());
            let widest = values().map(width).max().unwrap_or(0);
            Column { width: widest.max(width(name)), number: values().all(is_number) }
        };
        let columns: Vec<Column> =
            self.names.iter().enumerate().map(|(index, name)| column(index, name)).collect();
        let heads: Vec<String> = self
            .names
            .iter()
            .zip(&columns)
            .map(|(name, c)| {
                let pad = c.width - width(name);
                format!(" {}{}{} ", " ".repeat(pad / 2), name, " ".repeat(pad - pad / 2))
            })
            .collect();
        writeln!(self.out, "{}", heads.join("|").trim_end())?;
        let rules: Vec<String> = columns.iter().map(|c| "-".repeat(c.width + 2)).collect();
        writeln!(self.out, "{}", rules.join("+"))?;
        self.columns = Some(columns);
        held.iter().try_for_each(|row| self.line(row))
    }

    fn line(&mut self, row: &[Option<String>]) -> io::Result<()> {
        let columns = self.columns.as_deref().unwrap_or_default();
        let cells: Vec<String> = row
            .iter()
            .zip(columns)
            .map(|(value, c)| {
                let text = shown(value.as_deref().unwrap_or_default());
                let pad = " ".repeat(c.width.saturating_sub(width(&text)));
                if c.number { format!(" {pad}{text} ") } else { format!(" {text}{pad} ") }
            })
            .collect();
        writeln!(self.out, "{}", cells.join("|").trim_end())
    }

    fn expanded(&mut self, row: &[Option<String>]) -> io::Result<()> {
        writeln!(self.out, "-[ record {} ]", self.rows)?;
        let widest = self.names.iter().map(|name| width(name)).max().unwrap_or(0);
        for (name, value) in self.names.iter().zip(row) {
            let pad = " ".repeat(widest - width(name));
            writeln!(self.out, "{name}{pad} | {}", shown(value.as_deref().unwrap_or_default()))?;
        }
        Ok(())
    }

    fn csv(&mut self, row: &[Option<String>]) -> io::Result<()> {
        let cells: Vec<String> = row
            .iter()
            .map(|value| match value {
                None => String::new(),
                Some(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
                    format!("\"{}\"", text.replace('"', "\"\""))
                }
                Some(text) => text.clone(),
            })
            .collect();
        writeln!(self.out, "{}", cells.join(","))
    }
}

/// Characters, which is near enough to cells of a terminal for most scripts.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// A value on one line, without what would move a terminal's cursor.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => '\u{21b5}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | '+' | '-'))
        && digits.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(style: Style, names: &[&str], rows: &[&[Option<&str>]]) -> String {
        let mut out = Vec::new();
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        let mut table = Table::new(&mut out, style, names).unwrap();
        for row in rows {
            table.row(row.iter().map(|v| v.map(str::to_owned)).collect()).unwrap();
        }
        table.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let rows: &[&[Option<&str>]] =
            &[&[Some("a"), Some("10")], &[None, Some("-2.5")], &[Some("x\ty"), None]];
        assert_eq!(
            printed(Style::Table, &["name", "n"], rows),
            " name |  n\n------+------\n a    |   10\n      | -2.5\n x\u{fffd}y  |\n(3 rows)\n\n"
        );
    }

    #[test]
    fn an_empty_result_has_its_head() {
        assert_eq!(printed(Style::Table, &["a"], &[]), " a\n---\n(0 rows)\n\n");
    }

    #[test]
    fn csv_tells_null_from_empty() {
        assert_eq!(
            printed(Style::Csv, &["a", "b"], &[&[None, Some("")], &[Some("1,\"2"), Some("x")]]),
            "a,b\n,\"\"\n\"1,\"\"2\",x\n"
        );
    }

    #[test]
    fn long_results_go_out_as_they_come() {
        let names = vec!["n".to_owned()];
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, Style::Table, names).unwrap();
        for n in 0..5_000 {
            table.row(vec![Some(n.to_string())]).unwrap();
            assert!(table.held.len() <= LOOK_ROWS);
        }
        table.finish().unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 5_004);
    }
}
