//! Durations and sizes with their units, moments, and the nearest known word to a misspelt one.

use otus_engine::{Error, Result};

const DURATION_UNITS: [(&str, i64); 12] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("sec", 1_000_000),
    ("m", 60_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
    ("w", 7 * 86_400_000_000),
    ("y", 365 * 86_400_000_000),
    ("day", 86_400_000_000),
    ("days", 86_400_000_000),
];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A duration such as `90s`, `1h 30m` or `30d`, in microseconds. A year is 365 days.
pub fn parse_duration_us(text: &str) -> Result<i64> {
    let wrong = || {
        Error::invalid(format!("{text:?} is not a duration"))
            .with_hint("a number with a unit: us, ms, s, m, h, d, w or y, for example \"30d\"")
    };
    let mut total: i64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let number: i64 = number.parse().map_err(|_| wrong())?;
        let scale = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        total = number.checked_mul(scale).and_then(|us| total.checked_add(us)).ok_or_else(wrong)?;
        rest = next.trim_start();
    }
    Ok(total)
}

/// A size such as `64MiB` or `2 GB`, in bytes.
pub fn parse_size_bytes(text: &str) -> Result<u64> {
    let wrong = || {
        Error::invalid(format!("{text:?} is not a size"))
            .with_hint("a number with a unit: B, KiB, MiB, GiB, TiB, kB, MB, GB or TB")
    };
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim();
    let scale = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    number.checked_mul(scale.ok_or_else(wrong)?.1).ok_or_else(wrong)
}

/// A moment with a zone (`2024-08-20T09:00:00+08:00`), or a date (midnight UTC), in microseconds.
pub fn parse_moment_us(text: &str) -> Result<i64> {
    if let Ok(moment) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(moment.timestamp_micros());
    }
    if let Some(midnight) =
        text.parse::<chrono::NaiveDate>().ok().and_then(|date| date.and_hms_opt(0, 0, 0))
    {
        return Ok(midnight.and_utc().timestamp_micros());
    }
    Err(Error::invalid(format!("{text:?} is not a moment"))
        .with_hint("a date, or a date and time with its zone: \"2024-08-20T09:00:00Z\""))
}

/// Bytes for people: `1.5 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// The known word that a misspelt one is nearest to, if it is near at all.
pub(crate) fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let limit = (word.chars().count() / 3).min(2);
    let scored = known.into_iter().map(|k| (distance(word, k), k));
    scored.filter(|(d, _)| (1..=limit).contains(d)).min().map(|(_, k)| k)
}

/// Levenshtein distance of two short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_a_unit() {
        assert_eq!(parse_duration_us("30d").unwrap(), 30 * 86_400_000_000);
        assert_eq!(parse_duration_us("1h 30m").unwrap(), 5_400_000_000);
        assert_eq!(parse_duration_us("250ms").unwrap(), 250_000);
        assert_eq!(parse_size_bytes("64MiB").unwrap(), 64 << 20);
        assert_eq!(parse_size_bytes("2 gb").unwrap(), 2_000_000_000);
        for bad in ["", "5", "d", "5 fortnights", "-1s", "9999999999999999d"] {
            assert!(parse_duration_us(bad).is_err(), "{bad}");
        }
        for bad in ["", "5", "MiB", "5XB", "99999999999TiB"] {
            assert!(parse_size_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_have_a_zone() {
        assert_eq!(parse_moment_us("1970-01-02").unwrap(), 86_400_000_000);
        assert_eq!(parse_moment_us("1970-01-01T08:00:00+08:00").unwrap(), 0);
        assert!(parse_moment_us("1970-01-01T08:00:00").is_err());
    }

    #[test]
    fn misspelt_words_find_their_neighbour() {
        assert_eq!(nearest("desciption", ["description", "time"]), Some("description"));
        assert_eq!(nearest("zebra", ["description", "time"]), None);
        assert_eq!(nearest("m", ["n"]), None);
    }
}
