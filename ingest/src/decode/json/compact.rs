//! Compact JSON text: no white space, escapes only where needed, and of equal keys the last wins. This is what
//! a jsonb column holds.

use std::collections::HashMap;

use super::scan::{Cursor, Kind, Malformed, Token, unescape};
use super::tree::{NodeId, Tree};
use crate::decode::reason::Reason;

type Scan<T> = Result<T, Malformed>;

/// Why a jsonb column cannot hold a value.
pub(crate) fn refusal(malformed: Malformed) -> Reason {
    Reason::at_byte(format!("jsonb cannot hold {}", malformed.what), malformed.at)
}

/// Appends the compact form of a scanned value.
pub(crate) fn value(text: &str, token: Token, out: &mut String) -> Scan<()> {
    let span = text.get(token.start..token.end).unwrap_or_default();
    match token.kind {
        Kind::Missing => {}
        Kind::Text => quote_plain(span, out),
        Kind::EscapedText => quote_escaped(span, token.start, out)?,
        Kind::Array => array(text, token, out)?,
        Kind::Object => object(text, token, None, out)?,
        _ => out.push_str(span),
    }
    Ok(())
}

/// Appends the record's object without the fields that declared columns take; `tree` tells which those are.
pub(crate) fn rest(text: &str, token: Token, tree: &Tree, out: &mut String) -> Scan<()> {
    object(text, token, Some((tree, Tree::ROOT)), out)
}

fn array(text: &str, token: Token, out: &mut String) -> Scan<()> {
    let mut cursor = Cursor::starting(text, token.start + 1);
    let mut first = true;
    out.push('[');
    let mut separator = "";
    while cursor.next_item(&mut first)? {
        out.push_str(separator);
        separator = ",";
        let item = cursor.value(1)?;
        value(text, item, out)?;
    }
    out.push(']');
    Ok(())
}

fn object(text: &str, token: Token, taken: Option<(&Tree, NodeId)>, out: &mut String) -> Scan<()> {
    let mut cursor = Cursor::starting(text, token.start + 1);
    let (mut first, mut count) = (true, 0);
    // Last value per key, in order of first appearance.
    let mut entries: Vec<(String, Token)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    while let Some(key) = cursor.next_key(&mut first, &mut count)? {
        let mut name = String::new();
        let span = text.get(key.start..key.end).unwrap_or_default();
        if key.kind == Kind::EscapedText {
            unescape(span, &mut name);
        } else {
            name.push_str(span);
        }
        let item = cursor.value(1)?;
        match places.get(&name).and_then(|at| entries.get_mut(*at)) {
            Some(entry) => entry.1 = item,
            None => {
                places.insert(name.clone(), entries.len());
                entries.push((name, item));
            }
        }
    }
    out.push('{');
    let mut separator = "";
    for (name, item) in &entries {
        let below = taken.and_then(|(tree, node)| {
            tree.child(node, name.as_bytes())
                .filter(|child| tree.is_declared(*child))
                .map(|c| (tree, c))
        });
        let before = out.len();
        out.push_str(separator);
        quote(name, token.start, out)?;
        out.push(':');
        let start = out.len();
        match below {
            None => value(text, *item, out)?,
            Some((tree, child)) if item.kind == Kind::Object && !tree.takes_all(child) => {
                object(text, *item, Some((tree, child)), out)?;
                if out.get(start..) == Some("{}") {
                    out.truncate(before);
                    continue;
                }
            }
            Some(_) => {
                out.truncate(before);
                continue;
            }
        }
        separator = ",";
    }
    out.push('}');
    Ok(())
}

fn quote_plain(span: &str, out: &mut String) {
    out.push('"');
    out.push_str(span);
    out.push('"');
}

fn quote_escaped(span: &str, at: usize, out: &mut String) -> Scan<()> {
    let mut plain = String::with_capacity(span.len());
    unescape(span, &mut plain);
    quote(&plain, at, out)
}

/// Writes `text` as a JSON string. Postgres' jsonb cannot hold U+0000, nor can ours.
fn quote(text: &str, at: usize, out: &mut String) -> Scan<()> {
    out.push('"');
    for c in text.chars() {
        match c {
            '\0' => return Err(Malformed { what: "the character U+0000", at }),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => {
                let code = u32::from(c);
                out.push_str("\\u00");
                for digit in [code >> 4, code & 15] {
                    out.push(char::from_digit(digit, 16).unwrap_or('0'));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_text() {
        for (text, expected) in [
            (r#"{ "a" : [ 1 , 2.50, true ], "b" : null }"#, Ok(r#"{"a":[1,2.50,true],"b":null}"#)),
            (r#"{"a":1,"b":2,"a":{"x":1,"x":2}}"#, Ok(r#"{"a":{"x":2},"b":2}"#)),
            (r#"{"\u0061":1,"a":2}"#, Ok(r#"{"a":2}"#)),
            (r#""\u00e9\u0001\n\/""#, Ok("\"é\\u0001\\n/\"")),
            (r#""\u0000""#, Err("the character U+0000")),
            ("[]", Ok("[]")),
        ] {
            let token = Cursor::new(text).value(0).unwrap();
            let mut out = String::new();
            let result = value(text, token, &mut out).map(|()| out.as_str()).map_err(|e| e.what);
            assert_eq!(result, expected, "{text}");
        }
    }
}
