//! `:after`: where the next page begins. A cursor is opaque to clients; it names the query that it belongs to, so that
//! one of another query is refused instead of skipping rows.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::query::{Page, Reader};
use super::value::{Map, Value};

/// What makes a query the same but for its page.
pub(super) fn digest(argument: &Map) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut entries: Vec<String> = argument
        .iter()
        .filter(|(key, _)| !["after", "limit", "offset"].contains(&key.as_name().unwrap_or("")))
        .map(|(key, value)| format!("{} {}", super::edn::write(key), super::edn::write(value)))
        .collect();
    entries.sort();
    entries.hash(&mut hasher);
    hasher.finish()
}

/// The text of a cursor.
pub(super) fn write(digest: u64, place: &[Option<String>]) -> String {
    let text = serde_json::json!([format!("{digest:x}"), place]).to_string();
    URL_SAFE_NO_PAD.encode(text)
}

/// The place that `:after` names; `None` if it is not given or wrong.
pub(super) fn place(reader: &mut Reader<'_>, digest: u64) -> Option<Vec<Option<String>>> {
    let given = reader.get("after")?;
    if reader.get("offset").is_some() {
        return reader.fail("after", "stands beside :offset; give one of them");
    }
    let bytes = given.as_name().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let read: Option<(String, Vec<Option<String>>)> =
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match read {
        Some((of, place)) if of == format!("{digest:x}") => Some(place),
        Some(_) => reader.fail("after", "belongs to another query: begin again without it"),
        None => reader.fail("after", "is no cursor: take :next of the meta of the page before"),
    }
}

/// The page of a query whose cursors count rows; `None` if something about it is wrong.
pub(super) fn after(
    reader: &mut Reader<'_>,
    digest: u64,
    seq: Option<(usize, Option<usize>)>,
) -> Option<Page> {
    let before = reader.problems().len();
    let page = reader.page(seq);
    let place = place(reader, digest);
    if reader.problems().len() > before {
        return None;
    }
    let skipped = match place.as_deref() {
        None => 0,
        Some([Some(rows)]) => match rows.parse::<usize>() {
            Ok(rows) => rows,
            Err(_) => return reader.fail("after", "is no cursor of this query"),
        },
        Some(_) => return reader.fail("after", "is no cursor of this query"),
    };
    Some(Page { offset: page.offset.saturating_add(skipped), ..page })
}

/// The cursor of the page after one that was cut, as meta tells it.
pub(super) fn next(digest: u64, page: Page, truncated: bool) -> Value {
    match truncated {
        true => {
            let rows = page.offset.saturating_add(page.limit).to_string();
            Value::text(write(digest, &[Some(rows)]))
        }
        false => Value::Nil,
    }
}
