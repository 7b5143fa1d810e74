//! The types that messages of the libraries name, by the names of Postgres: `List(Utf8View)` is `text[]`.

/// Types without arguments, and those of which the arguments do not matter.
const NAMES: [(&str, &str); 32] = [
    ("Null", "unknown"),
    ("Boolean", "boolean"),
    ("Int8", "smallint"),
    ("Int16", "smallint"),
    ("Int32", "integer"),
    ("Int64", "bigint"),
    ("UInt8", "smallint"),
    ("UInt16", "integer"),
    ("UInt32", "oid"),
    ("UInt64", "numeric"),
    ("Float16", "real"),
    ("Float32", "real"),
    ("Float64", "double precision"),
    ("Utf8", "text"),
    ("Utf8View", "text"),
    ("LargeUtf8", "text"),
    ("Binary", "bytea"),
    ("BinaryView", "bytea"),
    ("LargeBinary", "bytea"),
    ("FixedSizeBinary", "bytea"),
    ("Date32", "date"),
    ("Date64", "date"),
    ("Time32", "time without time zone"),
    ("Time64", "time without time zone"),
    ("Decimal32", "numeric"),
    ("Decimal64", "numeric"),
    ("Decimal128", "numeric"),
    ("Decimal256", "numeric"),
    ("Interval", "interval"),
    ("Duration", "interval"),
    ("Struct", "record"),
    ("Map", "record"),
];

/// Types whose arguments say what they are.
const WITH_ARGUMENTS: [&str; 7] =
    ["Timestamp", "List", "LargeList", "ListView", "FixedSizeList", "Dictionary", "RunEndEncoded"];

/// Types whose arguments do not matter. Of the others, what stands in brackets is a value: `Int64(5)`.
const PARAMETERIZED: [&str; 11] = [
    "Decimal32",
    "Decimal64",
    "Decimal128",
    "Decimal256",
    "Duration",
    "FixedSizeBinary",
    "Interval",
    "Map",
    "Struct",
    "Time32",
    "Time64",
];

/// Types that are words too, and are types only with their arguments.
const WORDS: [&str; 13] = [
    "Interval",
    "Duration",
    "Struct",
    "Map",
    "Timestamp",
    "List",
    "LargeList",
    "ListView",
    "FixedSizeList",
    "Dictionary",
    "RunEndEncoded",
    "Time32",
    "Time64",
];

/// Words that are types only where no other word follows.
const ALONE: [&str; 3] = ["Null", "Binary", "Boolean"];

/// A message with the names that Postgres has for the types in it. What stands in quotes is the user's, and stays.
pub(super) fn in_postgres(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        if first == '"'
            && let Some((text, after)) = quoted(rest)
        {
            out.push_str(text);
            rest = after;
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            match named(word, after) {
                Some((name, after)) => {
                    out.push_str(&name);
                    rest = after;
                }
                None => {
                    out.push_str(word);
                    rest = after;
                }
            }
        } else {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    out
}

/// What stands in quotes, with them, and what comes after.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let end = text.get(1..)?.find('"')? + 2;
    text.split_at_checked(end)
}

/// The name of a type that begins with a word, and what comes after it.
fn named<'a>(word: &str, after: &'a str) -> Option<(String, &'a str)> {
    let arguments = in_brackets(after);
    if WORDS.contains(&word) && arguments.is_none() {
        return None;
    }
    if ALONE.contains(&word) && after.trim_start_matches(' ').starts_with(char::is_alphabetic) {
        return None;
    }
    if WITH_ARGUMENTS.contains(&word) {
        let (arguments, after) = arguments?;
        return Some((with_arguments(word, arguments), after));
    }
    let (_, name) = NAMES.iter().find(|(arrow, _)| *arrow == word)?;
    match arguments {
        Some((value, after)) if !PARAMETERIZED.contains(&word) => Some((value.to_string(), after)),
        Some((_, after)) => Some(((*name).to_string(), after)),
        None => Some(((*name).to_string(), after)),
    }
}

fn with_arguments(word: &str, arguments: &str) -> String {
    let parts = at_commas(arguments);
    let part = |at: usize| {
        let part = parts.get(at).map_or("", |part| part.trim());
        in_postgres(part.trim_start_matches("non-null ").trim_start_matches("nullable "))
    };
    match word {
        "Timestamp" if parts.get(1).is_some_and(|zone| zone.trim() != "None") => {
            "timestamp with time zone".to_string()
        }
        "Timestamp" => "timestamp without time zone".to_string(),
        "Dictionary" | "RunEndEncoded" => part(1),
        // Fixed sizes come first: `FixedSizeList(3 x Int32)`.
        _ => {
            let item = part(0);
            let item = item.rsplit_once(" x ").map_or(item.as_str(), |(_, item)| item);
            format!("{}[]", item.trim_end_matches("[]"))
        }
    }
}

/// What stands in the brackets with which a text begins, and what comes after them.
fn in_brackets(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('(')?;
    let mut depth = 1_usize;
    for (at, c) in inner.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((inner.get(..at)?, inner.get(at + 1..)?));
        }
    }
    None
}

/// The parts between commas that stand in no brackets.
fn at_commas(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_of_postgres() {
        for (message, shown) in [
            ("List(Utf8View) + Int64", "text[] + bigint"),
            (
                "Timestamp(µs, \"UTC\") + Timestamp(µs)",
                "timestamp with time zone + timestamp without time zone",
            ),
            ("Timestamp(Microsecond, None)", "timestamp without time zone"),
            ("Struct(\"c0\": Int64, \"c1\": List(Int32)) to Int32", "record to integer"),
            ("Decimal128(20, 5) to Date32", "numeric to date"),
            ("Interval(MonthDayNano)", "interval"),
            ("List(non-null Decimal128(5, 1), field: 'x')", "numeric[]"),
            ("List(List(Int64))", "bigint[]"),
            ("Dictionary(Int32, Utf8)", "text"),
            (
                "column \"Int64\" is a List of Null values",
                "column \"Int64\" is a List of Null values",
            ),
            ("CASE Int64(5) = Utf8(\"x\")", "CASE 5 = \"x\""),
            ("Int64View Interval", "Int64View Interval"),
            ("an open bracket List(Int64", "an open bracket List(bigint"),
            ("an open quote \"Int64", "an open quote \"bigint"),
        ] {
            assert_eq!(in_postgres(message), shown);
        }
    }
}
