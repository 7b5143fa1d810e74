//! `:after`: where the next page begins. A cursor is opaque to clients; it names the query that it belongs to, so that
//! one of another query is refused instead of skipping rows.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{hmac, rand};

use super::query::{Page, Reader};
use super::value::{Map, Value};
use crate::error::{SqlError, SqlResult};

/// The length of what is sealed is a multiple of this.
const SEALED_STEP: usize = 64;

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
pub(super) fn write(digest: u64, place: &[Option<String>], kind: Cursor) -> SqlResult<String> {
    let text = text_of(digest, place);
    Ok(match kind {
        Cursor::Plain => URL_SAFE_NO_PAD.encode(text),
        Cursor::Sealed => URL_SAFE_NO_PAD.encode(seal(text)?),
    })
}

fn text_of(digest: u64, place: &[Option<String>]) -> String {
    serde_json::json!([format!("{digest:x}"), place]).to_string()
}

/// A cursor is readable by whoever may see all that it holds; else it is sealed, and ends with the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// Base64 of its text.
    Plain,
    /// The same, encrypted and signed.
    Sealed,
}

/// The keys of sealed cursors: made when the first is, and never written down.
struct Keys {
    text: LessSafeKey,
    nonce: hmac::Key,
}

fn keys() -> SqlResult<&'static Keys> {
    static KEYS: OnceLock<Option<Keys>> = OnceLock::new();
    let made = KEYS.get_or_init(|| {
        let random = rand::SystemRandom::new();
        let bytes: [u8; 32] = rand::generate(&random).ok()?.expose();
        let text = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &bytes).ok()?);
        Some(Keys { text, nonce: hmac::Key::generate(hmac::HMAC_SHA256, &random).ok()? })
    });
    made.as_ref().ok_or_else(|| SqlError::internal("there is no key for cursors"))
}

fn seal(mut text: String) -> SqlResult<Vec<u8>> {
    // How long it is tells how long numbers are.
    let length = text.len().next_multiple_of(SEALED_STEP);
    text.extend(std::iter::repeat_n(' ', length - text.len()));
    let (keys, mut sealed) = (keys()?, text.into_bytes());
    // The same place has the same cursor, so that answers which are the same look so; another has another nonce.
    let mut nonce = [0; NONCE_LEN];
    let signed = hmac::sign(&keys.nonce, &sealed);
    nonce.iter_mut().zip(signed.as_ref()).for_each(|(to, from)| *to = *from);
    let sealing = Nonce::assume_unique_for_key(nonce);
    let done = keys.text.seal_in_place_append_tag(sealing, Aad::empty(), &mut sealed);
    done.map_err(|_| SqlError::internal("a cursor cannot be sealed"))?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn open(bytes: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut sealed = sealed.to_vec();
    let text = keys().ok()?.text.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
    Some(text.to_vec())
}

/// The place that `:after` names; `None` if it is not given or wrong.
pub(super) fn place(
    reader: &mut Reader<'_>,
    digest: u64,
    kind: Cursor,
) -> Option<Vec<Option<String>>> {
    let given = reader.get("after")?;
    if reader.get("offset").is_some() {
        return reader.fail("after", "stands beside :offset; give one of them");
    }
    let bytes = given.as_name().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let bytes = match kind {
        Cursor::Plain => bytes,
        Cursor::Sealed => bytes.and_then(|bytes| open(&bytes)),
    };
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
    let place = place(reader, digest, Cursor::Plain);
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
            Value::text(URL_SAFE_NO_PAD.encode(text_of(digest, &[Some(rows)])))
        }
        false => Value::Nil,
    }
}
