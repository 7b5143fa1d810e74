//! Made-up events with ids, for tests that count each one. Deterministic by id.

use serde_json::json;

/// 2024-01-01T00:00:00Z, where made-up events begin, in microseconds.
pub const BEGIN_US: i64 = 1_704_067_200_000_000;

/// Whether the event of this id is malformed: one of a hundred.
pub fn is_bad(id: u64) -> bool {
    id % 100 == 37
}

/// The payload of the event of this id.
pub fn payload(id: u64) -> Vec<u8> {
    if is_bad(id) {
        // A truncated record that still tells its id.
        return format!("{{\"id\":{id},\"at\":").into_bytes();
    }
    let at_us = BEGIN_US + i64::try_from(id % 2_000_000).unwrap_or(0) * 250_000;
    let kind = ["start", "move", "buy"].get(index(id, 1, 4)).unwrap_or(&"end");
    let country = ["sg", "de", "br", "jp"].get(index(id, 7, 5));
    json!({"id": id, "at": at_us, "kind": kind, "country": country, "amount": amount(id)})
        .to_string()
        .into_bytes()
}

/// The amount in the event of this id.
pub fn amount(id: u64) -> i64 {
    i64::try_from(mix(id) % 1_000).unwrap_or(0)
}

/// Sums over the good ids of `[0, end)`: events, ids, amounts.
pub fn sums(end: u64) -> (i64, i64, i64) {
    (0..end).filter(|id| !is_bad(*id)).fold((0, 0, 0), |(n, ids, amounts), id| {
        (n + 1, ids + i64::try_from(id).unwrap_or(0), amounts + amount(id))
    })
}

/// Malformed ids of `[0, end)`.
pub fn bad(end: u64) -> i64 {
    i64::try_from((0..end).filter(|id| is_bad(*id)).count()).unwrap_or(0)
}

fn index(id: u64, shift: u64, of: u64) -> usize {
    usize::try_from(mix(id) / shift % of).unwrap_or(0)
}

fn mix(id: u64) -> u64 {
    let x = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 17
}

/// The table of made-up events that reads `topic`.
pub fn table_section(topic: &str) -> String {
    format!(
        r#"
[tables.events]
topic  = "{topic}"
format = "json"
time   = "at"

[tables.events.columns]
id      = "bigint"
at      = {{ type = "timestamptz", unit = "us" }}
kind    = "text"
country = "text"
amount  = "bigint"

[tables.events.measures]
events  = "count(*)"
amounts = "sum(amount)"
ids     = "sum(id)"
people  = "approx_distinct(id)"

[tables.events.rollups.by_kind]
granularity = ["minute", "hour", "day"]
dimensions  = ["kind", "country"]

[tables.events.rollups.by_country]
granularity = ["hour"]
dimensions  = ["country"]
measures    = ["events", "amounts", "ids"]
"#
    )
}
