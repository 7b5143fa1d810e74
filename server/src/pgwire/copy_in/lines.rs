//! Lines and fields of COPY's text and CSV formats.

use bytes::{Buf, BytesMut};
use otus_sql::{CopyFormat, CopyKind};

use crate::pgwire::error::WireError;

/// A field of a line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Field {
    /// None for a null.
    pub(super) text: Option<String>,
    /// The unquoted text that means null, where that stood there.
    pub(super) null_text: Option<String>,
}

/// Finds the ends of lines, in CSV those outside quotes. Looks at no byte twice.
pub(super) struct Splitter {
    csv: Option<(u8, u8)>,
    seen: usize,
    quoted: bool,
    escaped: bool,
}

impl Splitter {
    pub(super) fn new(format: &CopyFormat) -> Self {
        let byte = |c: char| u8::try_from(c).unwrap_or(b'"');
        let csv = (format.kind == CopyKind::Csv).then(|| (byte(format.quote), byte(format.escape)));
        Self { csv, seen: 0, quoted: false, escaped: false }
    }

    /// Takes the next line, without its end; the last one may have none.
    pub(super) fn line(&mut self, buffer: &mut BytesMut, is_last: bool) -> Option<BytesMut> {
        while let Some(byte) = buffer.get(self.seen).copied() {
            let at = self.seen;
            self.seen += 1;
            match self.csv {
                Some((quote, escape)) if self.quoted => {
                    if std::mem::take(&mut self.escaped) {
                        continue;
                    }
                    if byte == escape && escape != quote {
                        self.escaped = true;
                    } else if byte == quote {
                        self.quoted = false;
                    }
                    continue;
                }
                Some((quote, _)) if byte == quote => {
                    self.quoted = true;
                    continue;
                }
                None if std::mem::take(&mut self.escaped) => continue,
                None if byte == b'\\' => {
                    self.escaped = true;
                    continue;
                }
                _ => {}
            }
            if byte == b'\n' {
                let mut line = buffer.split_to(at);
                buffer.advance(1);
                self.begin();
                cut_return(&mut line);
                return Some(line);
            }
        }
        if is_last && !buffer.is_empty() {
            let mut line = buffer.split();
            self.begin();
            cut_return(&mut line);
            return Some(line);
        }
        None
    }

    fn begin(&mut self) {
        (self.seen, self.quoted, self.escaped) = (0, false, false);
    }
}

fn cut_return(line: &mut BytesMut) {
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
}

/// Takes lines apart.
pub(super) struct Lines<'a> {
    format: &'a CopyFormat,
}

impl<'a> Lines<'a> {
    pub(super) fn new(format: &'a CopyFormat) -> Self {
        Self { format }
    }

    /// The fields of a line; none for the mark of the end.
    pub(super) fn fields(&self, line: &[u8]) -> Result<Option<Vec<Field>>, WireError> {
        let text = std::str::from_utf8(line).map_err(|_| {
            WireError::error("22021", "invalid byte sequence for encoding \"UTF8\"")
        })?;
        if text == "\\." {
            return Ok(None);
        }
        if text.contains('\0') {
            return Err(WireError::error(
                "22021",
                "invalid byte sequence for encoding \"UTF8\": 0x00",
            ));
        }
        match self.format.kind {
            CopyKind::Csv => self.csv(text).map(Some),
            _ => self.plain(text).map(Some),
        }
    }

    fn plain(&self, line: &str) -> Result<Vec<Field>, WireError> {
        let mut fields = Vec::new();
        let mut rest = line.chars().peekable();
        loop {
            let (mut raw, mut bytes) = (String::new(), Vec::new());
            let mut more = false;
            while let Some(c) = rest.next() {
                if c == self.format.delimiter {
                    more = true;
                    break;
                }
                raw.push(c);
                let mut utf8 = [0; 4];
                if c != '\\' {
                    bytes.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
                    continue;
                }
                let Some(next) = rest.next() else {
                    bytes.push(b'\\');
                    break;
                };
                raw.push(next);
                unescape(next, &mut rest, &mut raw, &mut bytes);
            }
            let field = match raw == self.format.null {
                true => Field { text: None, null_text: Some(raw) },
                false => {
                    let text = String::from_utf8(bytes).map_err(|_| {
                        WireError::error("22021", "invalid byte sequence for encoding \"UTF8\"")
                    })?;
                    Field { text: Some(text), null_text: None }
                }
            };
            fields.push(field);
            if !more {
                return Ok(fields);
            }
        }
    }

    fn csv(&self, line: &str) -> Result<Vec<Field>, WireError> {
        let f = self.format;
        let mut fields = Vec::new();
        let mut rest = line.chars().peekable();
        loop {
            let (mut text, mut was_quoted, mut quoted, mut more) =
                (String::new(), false, false, false);
            while let Some(c) = rest.next() {
                if quoted {
                    if c == f.escape && rest.peek().is_some_and(|n| *n == f.quote || *n == f.escape)
                    {
                        text.extend(rest.next());
                    } else if c == f.quote {
                        quoted = false;
                    } else {
                        text.push(c);
                    }
                } else if c == f.quote {
                    (quoted, was_quoted) = (true, true);
                } else if c == f.delimiter {
                    more = true;
                    break;
                } else {
                    text.push(c);
                }
            }
            if quoted {
                return Err(WireError::error("22P04", "unterminated CSV quoted field"));
            }
            fields.push(match !was_quoted && text == f.null {
                true => Field { text: None, null_text: Some(text) },
                false => Field { text: Some(text), null_text: None },
            });
            if !more {
                return Ok(fields);
            }
        }
    }
}

/// What a backslash and the character behind it stand for.
fn unescape(
    next: char,
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    raw: &mut String,
    bytes: &mut Vec<u8>,
) {
    let mut number = |radix: u32, most: usize, first: Option<char>| {
        let mut value = first.and_then(|c| c.to_digit(radix)).unwrap_or(0);
        let mut digits = usize::from(first.is_some());
        while digits < most
            && let Some(digit) = rest.peek().and_then(|c| c.to_digit(radix))
        {
            raw.extend(rest.next());
            value = value * radix + digit;
            digits += 1;
        }
        (digits > 0).then(|| u8::try_from(value & 0xff).unwrap_or(0))
    };
    match next {
        'b' => bytes.push(8),
        'f' => bytes.push(12),
        'n' => bytes.push(b'\n'),
        'r' => bytes.push(b'\r'),
        't' => bytes.push(b'\t'),
        'v' => bytes.push(11),
        '0'..='7' => bytes.extend(number(8, 3, Some(next))),
        'x' => bytes.push(number(16, 2, None).unwrap_or(b'x')),
        other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(format: &CopyFormat, data: &str) -> Vec<Vec<Option<String>>> {
        let mut all = Vec::new();
        let mut first = None;
        // However the data are cut, the rows are the same.
        for cut in (0..=data.len()).filter(|cut| data.is_char_boundary(*cut)) {
            let (mut splitter, mut buffer) = (Splitter::new(format), BytesMut::new());
            let mut found = Vec::new();
            let (first_half, second_half) = data.split_at(cut);
            for (piece, is_last) in [(first_half, false), (second_half, true)] {
                buffer.extend_from_slice(piece.as_bytes());
                while let Some(line) = splitter.line(&mut buffer, is_last) {
                    let Some(fields) = Lines::new(format).fields(&line).unwrap() else { break };
                    found.push(fields.into_iter().map(|f| f.text).collect::<Vec<_>>());
                }
            }
            assert_eq!(*first.get_or_insert_with(|| found.clone()), found, "cut at {cut}");
            all = found;
        }
        all
    }

    fn some(texts: &[&str]) -> Vec<Option<String>> {
        texts.iter().map(|t| (*t != "NULL").then(|| (*t).to_owned())).collect()
    }

    #[test]
    fn text_format() {
        let format = CopyFormat::new(CopyKind::Text);
        assert_eq!(
            rows(&format, "1\t\\N\ta\\tb\r\n2\t\té\\\\\\x41\\101\\q"),
            [some(&["1", "NULL", "a\tb"]), some(&["2", "", "é\\AAq"])]
        );
        assert_eq!(rows(&format, "a\n\\.\n"), [some(&["a"])]);
        assert_eq!(rows(&format, "a\\\nb\n"), [some(&["a\nb"])]);
    }

    #[test]
    fn csv_format() {
        let format = CopyFormat::new(CopyKind::Csv);
        assert_eq!(
            rows(&format, "1,,\"\",\"a \"\"b\"\"\"\n\"x\ny\",z\r\n,\n"),
            [some(&["1", "NULL", "", "a \"b\""]), some(&["x\ny", "z"]), some(&["NULL", "NULL"])]
        );
        let (mut buffer, mut splitter) = (BytesMut::from(&b"\"open\n"[..]), Splitter::new(&format));
        assert!(splitter.line(&mut buffer, false).is_none());
        let line = splitter.line(&mut buffer, true).unwrap();
        assert_eq!(Lines::new(&format).fields(&line).unwrap_err().sqlstate, "22P04");
    }
}
