//! The text of a jsonb out of another, without its value: parts are copied as they are met, and members put in order where
//! they are not. What is rare (escapes to be changed, exponents) is left to the value, which takes longer.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use super::value::{Json, Style};
use crate::error::SqlResult;

/// Most levels; deeper ones are left to the value.
const DEPTH_MAX: usize = 100;

/// The text of a jsonb as Postgres shows it.
pub(super) fn normal(json: &str) -> SqlResult<String> {
    let out = String::with_capacity(json.len() + json.len() / 4);
    let mut writer =
        Writer { json, at: 0, depth: 0, out, members: Vec::new(), spare: String::new() };
    let done = writer.value().is_some() && writer.peek().is_none();
    if done { Ok(writer.out) } else { Ok(Json::parse(json)?.text(Style::Jsonb)) }
}

/// The same, and what is no JSON as it is.
pub fn jsonb_text(json: &str) -> Cow<'_, str> {
    normal(json).map_or(Cow::Borrowed(json), Cow::Owned)
}

/// A member as it was written: where its key is, without quotes, and where all of it is.
#[derive(Clone)]
struct Member {
    key: Range<usize>,
    whole: Range<usize>,
}

struct Writer<'a> {
    json: &'a str,
    at: usize,
    depth: usize,
    out: String,
    /// Of the objects that are open, one behind the other.
    members: Vec<Member>,
    spare: String,
}

impl Writer<'_> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.json.as_bytes().get(self.at..)?;
        let space = rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'))?;
        self.at += space;
        rest.get(space).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is.then_some(())
    }

    fn copy(&mut self, to: usize) -> Option<()> {
        self.out.push_str(self.json.get(self.at..to)?);
        self.at = to;
        Some(())
    }

    fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'{' | b'[' if self.depth == DEPTH_MAX => None,
            b'{' => {
                self.depth += 1;
                self.object()?;
                self.depth -= 1;
                Some(())
            }
            b'[' => {
                self.depth += 1;
                self.array()?;
                self.depth -= 1;
                Some(())
            }
            b'"' => self.string(false),
            b'0'..=b'9' | b'-' => self.number(),
            _ => {
                let rest = self.json.get(self.at..)?;
                let word = ["null", "true", "false"].into_iter().find(|w| rest.starts_with(w))?;
                self.copy(self.at + word.len())
            }
        }
    }

    fn array(&mut self) -> Option<()> {
        self.take(b'[')?;
        self.out.push('[');
        if self.peek()? != b']' {
            self.value()?;
            while self.peek()? == b',' {
                self.at += 1;
                self.out.push_str(", ");
                self.value()?;
            }
        }
        self.take(b']')?;
        self.out.push(']');
        Some(())
    }

    fn object(&mut self) -> Option<()> {
        self.take(b'{')?;
        let first = self.members.len();
        self.out.push('{');
        let start = self.out.len();
        if self.peek()? != b'}' {
            self.member()?;
            while self.peek()? == b',' {
                self.at += 1;
                self.out.push_str(", ");
                self.member()?;
            }
        }
        self.take(b'}')?;
        self.ordered(first, start);
        self.out.push('}');
        Some(())
    }

    fn member(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.out.len();
        self.string(true)?;
        let key = start + 1..self.out.len() - 1;
        self.take(b':')?;
        self.out.push_str(": ");
        self.value()?;
        self.members.push(Member { key, whole: start..self.out.len() });
        Some(())
    }

    /// Puts the members from `first` on, which were written from `start` on, in order.
    fn ordered(&mut self, first: usize, start: usize) {
        let out = self.out.as_bytes();
        let compared = |a: &Member, b: &Member| {
            let key = |m: &Member| out.get(m.key.clone()).unwrap_or_default();
            a.key.len().cmp(&b.key.len()).then_with(|| key(a).cmp(key(b)))
        };
        let members = self.members.get_mut(first..).unwrap_or_default();
        if !members.is_sorted_by(|a, b| compared(a, b) == Ordering::Less) {
            members.sort_by(compared);
            self.spare.clear();
            for (i, member) in members.iter().enumerate() {
                // Of equal keys the last one counts.
                if members.get(i + 1).is_some_and(|next| compared(member, next).is_eq()) {
                    continue;
                }
                self.spare.push_str(if self.spare.is_empty() { "" } else { ", " });
                self.spare.push_str(self.out.get(member.whole.clone()).unwrap_or_default());
            }
            self.out.truncate(start);
            self.out.push_str(&self.spare);
        }
        self.members.truncate(first);
    }

    fn string(&mut self, is_key: bool) -> Option<()> {
        let bytes = self.json.as_bytes();
        let mut at = self.at + 1;
        loop {
            match bytes.get(at)? {
                b'"' => return self.copy(at + 1),
                // These are written as they are read; a key is measured without them.
                b'\\'
                    if !is_key
                        && matches!(
                            bytes.get(at + 1)?,
                            b'"' | b'\\' | b'n' | b'r' | b't' | b'b' | b'f'
                        ) =>
                {
                    at += 2;
                }
                b'\\' | 0..0x20 => return None,
                _ => at += 1,
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        let bytes = self.json.as_bytes();
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let negative = bytes.get(self.at) == Some(&b'-');
        let from = self.at + usize::from(negative);
        let mut end = digits(from);
        let starts_with_zero = bytes.get(from) == Some(&b'0');
        // Zero may have a sign to lose.
        if end == from || (starts_with_zero && (negative || end > from + 1)) {
            return None;
        }
        if bytes.get(end) == Some(&b'.') {
            let fraction = end + 1;
            end = digits(fraction);
            if end == fraction {
                return None;
            }
        }
        match bytes.get(end) {
            Some(b'e' | b'E' | b'.') => None,
            _ => self.copy(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_value() {
        for json in [
            r#" {"b":1, "a" : 2,"a":3} "#,
            r#"{"long key":1,"b":[1,{"z":2,"y":3},{}],"a":{},"c":"x\"y\\"}"#,
            r#"{"\u0061":1,"a":2,"\n":3}"#,
            r#"["\u00e9","\/","\n",1e2,-0,-0.0,0,0.10,-1.5,12,[],[[]],true,false,null]"#,
            r#"{"a":{"a":{"b":1,"a":2},"a":1},"":0}"#,
            "\"é ü\"",
            "1",
        ] {
            let expected = Json::parse(json).unwrap().text(Style::Jsonb);
            assert_eq!(normal(json).unwrap(), expected, "{json}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(normal(&deep).unwrap(), deep);
        for wrong in [
            "",
            "{",
            "[1,]",
            "[,1]",
            "01",
            "1.",
            "{\"a\"}",
            "tru",
            "truefalse",
            "1 2",
            "-",
            "{a:1}",
            "1x",
            "{\"a\":1,}",
        ] {
            assert!(normal(wrong).is_err(), "{wrong}");
            assert_eq!(jsonb_text(wrong), wrong);
        }
    }
}
