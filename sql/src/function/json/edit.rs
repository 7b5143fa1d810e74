//! What changes a jsonb: `||`, `-`, `#-`, `jsonb_set`, `jsonb_insert`, `jsonb_strip_nulls`.

use std::borrow::Cow;

use super::value::{Json, sort_members};
use crate::error::{SqlError, SqlResult, sqlstate};

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(sqlstate::INVALID_PARAMETER, message.into())
}

/// `a || b`
pub(super) fn concatenated<'a>(a: Json<'a>, b: Json<'a>) -> Json<'a> {
    let items = |json| match json {
        Json::Array(items) => items,
        other => vec![other],
    };
    match (a, b) {
        (Json::Object(mut members), Json::Object(more)) => {
            members.extend(more);
            sort_members(&mut members);
            Json::Object(members)
        }
        (a, b) => {
            let mut all = items(a);
            all.extend(items(b));
            Json::Array(all)
        }
    }
}

/// `json - keys`
pub(super) fn without_keys<'a>(mut json: Json<'a>, keys: &[Cow<'_, str>]) -> SqlResult<Json<'a>> {
    match &mut json {
        Json::Object(members) => members.retain(|(key, _)| !keys.contains(key)),
        Json::Array(items) => {
            items.retain(|item| !matches!(item, Json::String(text) if keys.contains(text)));
        }
        _ => return Err(invalid("cannot delete from scalar")),
    }
    Ok(json)
}

/// The place of an index, of which negative ones count from the end.
fn place(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index).filter(|i| *i < length),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX)),
    }
}

/// `json - index`
pub(super) fn without_index(mut json: Json<'_>, index: i64) -> SqlResult<Json<'_>> {
    match &mut json {
        Json::Array(items) => {
            if let Some(at) = place(index, items.len()) {
                items.remove(at);
            }
        }
        Json::Object(_) => return Err(invalid("cannot delete from object using integer index")),
        _ => return Err(invalid("cannot delete from scalar")),
    }
    Ok(json)
}

/// What is done at the end of a path.
#[derive(Debug, Clone)]
pub(super) enum Change<'a> {
    Delete,
    /// The new value, and whether it is put where there is none.
    Set(Json<'a>, bool),
    /// The new value, and whether it comes after the element.
    Insert(Json<'a>, bool),
}

/// A value, changed at the end of a path of keys and indexes.
pub(super) fn changed<'a>(
    mut json: Json<'a>,
    path: &[Cow<'a, str>],
    change: Change<'a>,
) -> SqlResult<Json<'a>> {
    if json.is_scalar() {
        return Err(invalid(match change {
            Change::Delete => "cannot delete path in scalar",
            _ => "cannot set path in scalar",
        }));
    }
    change_at(&mut json, path, 0, change)?;
    Ok(json)
}

fn change_at<'a>(
    json: &mut Json<'a>,
    path: &[Cow<'a, str>],
    level: usize,
    change: Change<'a>,
) -> SqlResult<()> {
    let Some(step) = path.get(level) else { return Ok(()) };
    let is_last = level + 1 == path.len();
    match json {
        Json::Object(members) => {
            let at = members.iter().position(|(key, _)| key == step);
            match (at, is_last) {
                (Some(at), false) => match members.get_mut(at) {
                    Some((_, inner)) => change_at(inner, path, level + 1, change),
                    None => Ok(()),
                },
                (at, true) => change_member(members, at, step, change),
                (None, false) => Ok(()),
            }
        }
        Json::Array(items) => {
            let index = step.trim().parse::<i64>().map_err(|_| {
                let message =
                    format!("path element at position {} is not an integer: \"{step}\"", level + 1);
                SqlError::new(sqlstate::INVALID_TEXT, message)
            })?;
            let at = place(index, items.len());
            match (at, is_last) {
                (Some(at), false) => match items.get_mut(at) {
                    Some(inner) => change_at(inner, path, level + 1, change),
                    None => Ok(()),
                },
                (at, true) => {
                    change_element(items, at, index, change);
                    Ok(())
                }
                (None, false) => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn change_member<'a>(
    members: &mut Vec<(Cow<'a, str>, Json<'a>)>,
    at: Option<usize>,
    key: &str,
    change: Change<'a>,
) -> SqlResult<()> {
    match (at, change) {
        (Some(at), Change::Delete) => {
            members.remove(at);
        }
        (Some(at), Change::Set(value, _)) => {
            if let Some((_, old)) = members.get_mut(at) {
                *old = value;
            }
        }
        (Some(_), Change::Insert(..)) => {
            return Err(invalid("cannot replace existing key")
                .with_hint("jsonb_set() replaces the value of a key"));
        }
        (None, Change::Set(value, true) | Change::Insert(value, _)) => {
            members.push((Cow::Owned(key.to_owned()), value));
            sort_members(members);
        }
        (None, Change::Delete | Change::Set(_, false)) => {}
    }
    Ok(())
}

fn change_element<'a>(
    items: &mut Vec<Json<'a>>,
    at: Option<usize>,
    index: i64,
    change: Change<'a>,
) {
    match (at, change) {
        (Some(at), Change::Delete) => {
            items.remove(at);
        }
        (Some(at), Change::Set(value, _)) => {
            if let Some(old) = items.get_mut(at) {
                *old = value;
            }
        }
        (Some(at), Change::Insert(value, after)) => items.insert(at + usize::from(after), value),
        // What lies outside comes to the nearer end.
        (None, Change::Set(value, true) | Change::Insert(value, _)) => {
            let end = if index < 0 { 0 } else { items.len() };
            items.insert(end, value);
        }
        (None, Change::Delete | Change::Set(_, false)) => {}
    }
}

/// Without members that are null, at any depth.
pub(super) fn without_nulls(json: &mut Json<'_>) {
    match json {
        Json::Array(items) => items.iter_mut().for_each(without_nulls),
        Json::Object(members) => {
            members.retain(|(_, value)| *value != Json::Null);
            members.iter_mut().for_each(|(_, value)| without_nulls(value));
        }
        _ => {}
    }
}
