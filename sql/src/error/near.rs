//! The name that was perhaps meant.

/// Most changes between a name and the one it is taken for.
const CHANGES_MAX: usize = 2;

/// The nearest of some names, if one is near enough.
pub(crate) fn near<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let name = name.to_lowercase();
    let changes = |other: &str| if is_swap(other, &name) { 1 } else { distance(other, &name) };
    let away = names.into_iter().map(|other| (changes(&other.to_lowercase()), other));
    let near = away.filter(|(changes, _)| *changes <= CHANGES_MAX && *changes < length.max(1));
    near.min_by_key(|(changes, _)| *changes).map(|(_, other)| other)
}

/// Whether two neighbouring characters change places: the commonest slip.
fn is_swap(a: &str, b: &str) -> bool {
    let pairs = a.chars().zip(b.chars()).enumerate().filter(|(_, (a, b))| a != b);
    let differ: Vec<_> = pairs.collect();
    match differ.as_slice() {
        [(i, (a1, b1)), (j, (a2, b2))] => a.len() == b.len() && *j == i + 1 && a1 == b2 && a2 == b1,
        _ => false,
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cb, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = *above;
            left = change.min(*above + 1).min(left + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted() {
        for (a, b, changes) in [
            ("", "", 0),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("added", "aded", 1),
            ("ab", "ba", 2),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (changes, changes), "{a} {b}");
        }
    }

    #[test]
    fn only_near_names_are_meant() {
        let names = ["events", "by_kind_hour", "by_kind_day"];
        assert_eq!(near("event", names), Some("events"));
        assert_eq!(near("by_kind_hours", names), Some("by_kind_hour"));
        assert_eq!(near("zzz", names), None);
        assert_eq!(near("coutn", ["cot", "count"]), Some("count"));
        assert_eq!(near("e", ["a"]), None);
    }
}
