//! What patterns of times and numbers share: keywords among plain text, quoted text, ordinal endings.

use crate::error::SqlResult;

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<K> {
    /// Text that stands for itself.
    Text(char),
    /// A keyword.
    Key(K),
}

/// Reads one keyword off the front of a text: the keyword and its length in bytes.
type Reader<'a, K> = &'a mut dyn FnMut(&str) -> SqlResult<Option<(K, usize)>>;

/// The pieces of a pattern. `"quoted"` text is plain text; outside of it a backslash counts only before a
/// quote.
pub(super) fn pieces<K>(pattern: &str, keyword: Reader<'_, K>) -> SqlResult<Vec<Piece<K>>> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if let Some((key, length)) = keyword(rest)? {
            pieces.push(Piece::Key(key));
            rest = rest.get(length..).unwrap_or_default();
            continue;
        }
        let mut chars = rest.chars();
        chars.next();
        if first == '"' {
            quoted(&mut chars, &mut pieces);
        } else if first == '\\' && chars.clone().next() == Some('"') {
            chars.next();
            pieces.push(Piece::Text('"'));
        } else {
            pieces.push(Piece::Text(first));
        }
        rest = chars.as_str();
    }
    Ok(pieces)
}

fn quoted<K>(chars: &mut std::str::Chars<'_>, pieces: &mut Vec<Piece<K>>) {
    while let Some(c) = chars.next() {
        match c {
            '"' => return,
            '\\' => pieces.push(Piece::Text(chars.next().unwrap_or('\\'))),
            c => pieces.push(Piece::Text(c)),
        }
    }
}

/// The ending of an ordinal number, in lower case.
pub(super) fn ordinal(digits: &str) -> &'static str {
    let mut last = digits.chars().rev();
    match (last.next(), last.next()) {
        (_, Some('1')) => "th",
        (Some('1'), _) => "st",
        (Some('2'), _) => "nd",
        (Some('3'), _) => "rd",
        _ => "th",
    }
}

#[cfg(test)]
mod tests {
    use super::ordinal;

    #[test]
    fn ordinals() {
        for (digits, ending) in [
            ("1", "st"),
            ("2", "nd"),
            ("3", "rd"),
            ("4", "th"),
            ("11", "th"),
            ("112", "th"),
            ("21", "st"),
        ] {
            assert_eq!(ordinal(digits), ending, "{digits}");
        }
    }
}
