//! Cuts text, line by line, into statements at semicolons that stand outside of quotes and comments.

/// Collects lines until a statement is whole.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    text: String,
    inside: Inside,
}

/// What an unfinished statement is in the middle of.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Inside {
    #[default]
    Plain,
    /// `'…'`, and whether a backslash escapes.
    Quote { escapes: bool },
    /// `"…"`
    Name,
    /// `/* … */`, nested.
    Comment(usize),
    /// `$tag$ … $tag$`
    Dollar(String),
}

impl Splitter {
    /// Whether nothing is waiting to be finished.
    pub(super) fn is_empty(&self) -> bool {
        self.text.trim().is_empty() && self.inside == Inside::Plain
    }

    /// Forgets what was begun.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a line and returns the statements that are whole now, without their semicolons.
    pub(super) fn push(&mut self, line: &str) -> Vec<String> {
        let mut statements = Vec::new();
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let length = match std::mem::take(&mut self.inside) {
                Inside::Plain if c == ';' => {
                    let text = std::mem::take(&mut self.text);
                    statements.extend((!text.trim().is_empty()).then(|| text.trim().to_owned()));
                    rest = rest.strip_prefix(';').unwrap_or_default();
                    continue;
                }
                // A comment to the end of the line is of no use to the server.
                Inside::Plain if rest.starts_with("--") => break,
                Inside::Plain => self.plain(rest, c),
                inside => self.within(inside, rest, c),
            };
            let (taken, left) = rest.split_at_checked(length).unwrap_or((rest, ""));
            self.text.push_str(taken);
            rest = left;
        }
        self.text.push('\n');
        statements
    }

    /// The statement without a semicolon at the end of the input.
    pub(super) fn finish(&mut self) -> Option<String> {
        let text = std::mem::take(&mut self.text);
        self.clear();
        (!text.trim().is_empty()).then(|| text.trim().to_owned())
    }

    /// Length of the next piece outside of quotes.
    fn plain(&mut self, rest: &str, c: char) -> usize {
        match c {
            '\'' => {
                let mut before = self.text.chars().rev();
                let letter = before.next().is_some_and(|e| e == 'e' || e == 'E');
                let word = before.next().is_some_and(|b| b.is_alphanumeric() || b == '_');
                self.inside = Inside::Quote { escapes: letter && !word };
                1
            }
            '"' => {
                self.inside = Inside::Name;
                1
            }
            '/' if rest.starts_with("/*") => {
                self.inside = Inside::Comment(1);
                2
            }
            '$' => match dollar_tag(rest) {
                Some(tag) if !self.text.ends_with(|b: char| b.is_alphanumeric() || b == '_') => {
                    self.inside = Inside::Dollar(tag.to_owned());
                    tag.len()
                }
                _ => 1,
            },
            _ => c.len_utf8(),
        }
    }

    /// Length of the next piece inside of something, and whether that goes on.
    fn within(&mut self, inside: Inside, rest: &str, c: char) -> usize {
        let (inside, length) = match inside {
            Inside::Quote { escapes: true } if c == '\\' => {
                let next = rest.chars().nth(1).map_or(0, char::len_utf8);
                (inside, 1 + next)
            }
            Inside::Quote { .. } if rest.starts_with("''") => (inside, 2),
            Inside::Name if rest.starts_with("\"\"") => (inside, 2),
            Inside::Quote { .. } if c == '\'' => (Inside::Plain, 1),
            Inside::Name if c == '"' => (Inside::Plain, 1),
            Inside::Comment(depth) if rest.starts_with("/*") => (Inside::Comment(depth + 1), 2),
            Inside::Comment(1) if rest.starts_with("*/") => (Inside::Plain, 2),
            Inside::Comment(depth) if rest.starts_with("*/") => (Inside::Comment(depth - 1), 2),
            Inside::Dollar(tag) if rest.starts_with(&tag) => (Inside::Plain, tag.len()),
            inside => (inside, c.len_utf8()),
        };
        self.inside = inside;
        length
    }
}

/// `$$` or `$tag$` at the start of a text.
fn dollar_tag(rest: &str) -> Option<&str> {
    let (tag, _) = rest.strip_prefix('$')?.split_once('$')?;
    let name = tag.chars().all(|c| c.is_alphanumeric() || c == '_');
    let digit = tag.starts_with(|c: char| c.is_ascii_digit());
    (name && !digit).then(|| rest.get(..tag.len() + 2)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        let mut splitter = Splitter::default();
        let mut all: Vec<String> = text.lines().flat_map(|line| splitter.push(line)).collect();
        all.extend(splitter.finish());
        all
    }

    #[test]
    fn semicolons_split_only_outside_of_quotes_and_comments() {
        assert_eq!(
            split("select 1; select 2;\n;;\nselect\n3"),
            ["select 1", "select 2", "select\n3"]
        );
        assert_eq!(split("select ';', \"a;b\" -- c;\n;"), ["select ';', \"a;b\""]);
        assert_eq!(
            split("select 'it''s;' /* a; /* b; */ c; */;"),
            ["select 'it''s;' /* a; /* b; */ c; */"]
        );
        assert_eq!(split(r"select e'\';', 'a\'; select 2"), [r"select e'\';', 'a\'", "select 2"]);
        assert_eq!(split("select $x$;$$;$x$, $1; x"), ["select $x$;$$;$x$, $1", "x"]);
        assert_eq!(split("select 'ä;ö'; é"), ["select 'ä;ö'", "é"]);
    }

    #[test]
    fn an_open_quote_is_unfinished() {
        let mut splitter = Splitter::default();
        assert!(splitter.is_empty());
        assert!(splitter.push("select '").is_empty());
        assert!(!splitter.is_empty());
        assert_eq!(splitter.push("';"), ["select '\n'"]);
        assert!(splitter.is_empty());
    }
}
