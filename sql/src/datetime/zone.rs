//! Zones by their names, abbreviations and offsets.

use std::str::FromStr;

use chrono_tz::Tz;

/// Abbreviations that Postgres knows without further setting, and their offsets in minutes.
const ABBREVIATIONS: [(&str, i32); 48] = [
    ("acdt", 630),
    ("acst", 570),
    ("adt", -180),
    ("aedt", 660),
    ("aest", 600),
    ("akdt", -480),
    ("akst", -540),
    ("ast", -240),
    ("awst", 480),
    ("bst", 60),
    ("cdt", -300),
    ("cest", 120),
    ("cet", 60),
    ("cst", -360),
    ("eat", 180),
    ("edt", -240),
    ("eest", 180),
    ("eet", 120),
    ("est", -300),
    ("gmt", 0),
    ("hkt", 480),
    ("hst", -600),
    ("idt", 180),
    ("ist", 120),
    ("jst", 540),
    ("kst", 540),
    ("mdt", -360),
    ("mest", 120),
    ("met", 60),
    ("msd", 240),
    ("msk", 180),
    ("mst", -420),
    ("ndt", -150),
    ("npt", 345),
    ("nst", -210),
    ("nzdt", 780),
    ("nzst", 720),
    ("pdt", -420),
    ("pht", 480),
    ("pkt", 300),
    ("pst", -480),
    ("sast", 120),
    ("sgt", 480),
    ("ut", 0),
    ("utc", 0),
    ("wet", 0),
    ("z", 0),
    ("zulu", 0),
];

/// A zone of the database, or so many seconds east of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FixedOrNamed {
    Fixed(i32),
    Named(Tz),
}

/// The zone that a name or abbreviation in a time stands for.
pub(super) fn named(name: &str) -> Option<FixedOrNamed> {
    let lower = name.to_ascii_lowercase();
    if let Some((_, minutes)) = ABBREVIATIONS.iter().find(|(known, _)| *known == lower) {
        return Some(FixedOrNamed::Fixed(minutes * 60));
    }
    let alike = || chrono_tz::TZ_VARIANTS.iter().find(|z| z.name().eq_ignore_ascii_case(name));
    Tz::from_str(name).ok().or_else(|| alike().copied()).map(FixedOrNamed::Named)
}

/// Seconds of `+02`, `-0800`, `+05:30`, `-04:56:02`.
pub(super) fn offset(text: &str) -> Option<i32> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+')?),
    };
    let parts: Vec<&str> = match digits.contains(':') {
        true => digits.split(':').collect(),
        false if digits.len() > 2 => {
            let (hours, minutes) = digits.split_at_checked(digits.len() - 2)?;
            vec![hours, minutes]
        }
        false => vec![digits],
    };
    let mut numbers = [0_i32; 3];
    if parts.len() > numbers.len() {
        return None;
    }
    for (number, part) in numbers.iter_mut().zip(parts) {
        if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    let [hours, minutes, seconds] = numbers;
    (hours < 16 && minutes < 60 && seconds < 60)
        .then_some(sign * (hours * 3_600 + minutes * 60 + seconds))
}

/// The zone that `AT TIME ZONE` names. Offsets count westwards there, as in POSIX: `+02:00` lies in the Atlantic.
pub(crate) fn zone_of(name: &str) -> Option<FixedOrNamed> {
    let trimmed = name.trim();
    if let Some(found) = named(trimmed) {
        return Some(found);
    }
    let at = trimmed.find(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-'))?;
    let (letters, digits) = trimmed.split_at_checked(at)?;
    if !letters.bytes().all(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    let signed = match digits.starts_with(['+', '-']) {
        true => digits.to_owned(),
        false => format!("+{digits}"),
    };
    offset(&signed).map(|seconds| FixedOrNamed::Fixed(-seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_names_and_offsets() {
        for (name, seconds) in [
            ("EST", -5 * 3_600),
            ("utc", 0),
            ("+02:00", -7_200),
            ("-05:30", 19_800),
            ("UTC+3", -10_800),
            ("5", -18_000),
        ] {
            assert_eq!(zone_of(name), Some(FixedOrNamed::Fixed(seconds)), "{name}");
        }
        assert_eq!(zone_of("europe/berlin"), Some(FixedOrNamed::Named(Tz::Europe__Berlin)));
        for name in ["", "nowhere", "+25:00", "+1:2:3:4", "Mars/Base-1"] {
            assert_eq!(zone_of(name), None, "{name}");
        }
        for (text, seconds) in
            [("+02", 7_200), ("-0800", -28_800), ("+05:30", 19_800), ("-04:56:02", -17_762)]
        {
            assert_eq!(offset(text), Some(seconds), "{text}");
        }
    }
}
