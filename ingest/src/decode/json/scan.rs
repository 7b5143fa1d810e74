//! The JSON scanner: walks the text of one record, checks its grammar and hands out spans. Numbers stay text
//! until a column's type is known. Depth is bounded, so no input can exhaust the stack.

/// Deepest nesting of arrays and objects.
pub(crate) const DEPTH_MAX: usize = 128;

/// What a value is. As wide as its neighbours in [`Token`]: tokens are moved a lot, and padding makes that slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Kind {
    Missing,
    Null,
    False,
    True,
    Number,
    /// A string without escapes; the span excludes the quotes.
    Text,
    /// A string with escapes; the span excludes the quotes.
    EscapedText,
    Array,
    Object,
}

/// A value's kind and its place in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Token {
    pub(crate) const MISSING: Self = Self { kind: Kind::Missing, start: 0, end: 0 };
}

/// Why a text is not acceptable JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) what: &'static str,
    pub(crate) at: usize,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bad JSON: {} at byte {}", self.what, self.at)
    }
}

type Scan<T> = Result<T, Malformed>;

/// A place in a text that is known to be UTF-8.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), at: 0 }
    }

    /// A cursor over `text` that stands at `at`.
    pub(crate) fn starting(text: &'a str, at: usize) -> Self {
        Self { bytes: text.as_bytes(), at }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn fail<T>(&self, what: &'static str) -> Scan<T> {
        let what = if self.at >= self.bytes.len() { "unexpected end" } else { what };
        Err(Malformed { what, at: self.at.min(self.bytes.len()) })
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(crate) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Steps over `byte` if it is next.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Steps over `key"` if exactly that is next (the opening quote has been taken).
    #[inline]
    pub(crate) fn take_key(&mut self, key: &[u8]) -> bool {
        let end = self.at + key.len();
        let found = self.bytes.get(self.at..end) == Some(key) && self.bytes.get(end) == Some(&b'"');
        if found {
            self.at = end + 1;
        }
        found
    }

    /// The end of the text, but for white space.
    pub(crate) fn finish(&mut self) -> Scan<()> {
        self.skip_space();
        if self.at == self.bytes.len() { Ok(()) } else { self.fail("trailing bytes") }
    }

    /// Scans one value, whose first byte is next. `depth` is the number of open brackets around it.
    #[inline]
    pub(crate) fn value(&mut self, depth: usize) -> Scan<Token> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'"') => {
                self.at += 1;
                return self.string();
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Kind::Number
            }
            Some(b't') => self.literal(b"true", Kind::True)?,
            Some(b'f') => self.literal(b"false", Kind::False)?,
            Some(b'n') => self.literal(b"null", Kind::Null)?,
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            _ => return self.fail("value expected"),
        };
        Ok(Token { kind, start, end: self.at })
    }

    /// Scans the rest of a string whose opening quote has been taken.
    #[inline]
    pub(crate) fn string(&mut self) -> Scan<Token> {
        let start = self.at;
        let mut kind = Kind::Text;
        loop {
            self.at += plain_run(self.bytes.get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Token { kind, start, end: self.at - 1 });
                }
                Some(b'\\') => {
                    kind = Kind::EscapedText;
                    self.escape()?;
                }
                Some(_) => return self.fail("control character in a string"),
                None => return self.fail("unexpected end"),
            }
        }
    }

    /// Steps over one escape sequence and gives its character. The backslash is next.
    pub(crate) fn escape(&mut self) -> Scan<char> {
        let start = self.at;
        let Some(code) = self.bytes.get(self.at + 1).copied() else {
            self.at = self.bytes.len();
            return self.fail("unexpected end");
        };
        self.at += 2;
        Ok(match code {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(start),
            _ => {
                self.at = start;
                return self.fail("unknown escape");
            }
        })
    }

    fn unicode(&mut self, start: usize) -> Scan<char> {
        let first = self.four_hex()?;
        let code = match first {
            0xD800..=0xDBFF => {
                let mut second = 0;
                if self.take(b'\\') && self.take(b'u') {
                    second = self.four_hex()?;
                }
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(Malformed { what: "lone surrogate", at: start });
                }
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            _ => first,
        };
        char::from_u32(code).ok_or(Malformed { what: "lone surrogate", at: start })
    }

    fn four_hex(&mut self) -> Scan<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            let Some(digit) = digit else { return self.fail("four hex digits expected") };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    /// Steps over a number, by the grammar of RFC 8259.
    #[inline]
    pub(crate) fn number(&mut self) -> Scan<()> {
        self.take(b'-');
        if self.take(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return self.fail("leading zero in a number");
            }
        } else if self.digits() == 0 {
            return self.fail("digit expected");
        }
        if self.take(b'.') && self.digits() == 0 {
            return self.fail("digit expected");
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.fail("digit expected");
            }
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at - start
    }

    #[inline]
    fn literal(&mut self, word: &[u8], kind: Kind) -> Scan<Kind> {
        if self.bytes.get(self.at..).unwrap_or_default().starts_with(word) {
            self.at += word.len();
            Ok(kind)
        } else {
            self.fail("value expected")
        }
    }

    fn object(&mut self, depth: usize) -> Scan<Kind> {
        let mut first = true;
        let mut entries = self.open(depth)?;
        while let Some(_key) = self.next_key(&mut first, &mut entries)? {
            self.value(depth + 1)?;
        }
        Ok(Kind::Object)
    }

    fn array(&mut self, depth: usize) -> Scan<Kind> {
        let mut first = true;
        self.open(depth)?;
        while self.next_item(&mut first)? {
            self.value(depth + 1)?;
        }
        Ok(Kind::Array)
    }

    /// Steps over an opening bracket. Gives the count of keys so far, 0.
    pub(crate) fn open(&mut self, depth: usize) -> Scan<usize> {
        if depth >= DEPTH_MAX {
            return Err(Malformed { what: "nested too deeply", at: self.at });
        }
        self.at += 1;
        Ok(0)
    }

    /// After an opening brace or a value in an object: the next key, with the cursor at its value, or none
    /// after the closing brace.
    pub(crate) fn next_key(
        &mut self,
        first: &mut bool,
        entries: &mut usize,
    ) -> Scan<Option<Token>> {
        if !self.seek_key(first)? {
            return Ok(None);
        }
        *entries += 1;
        let key = self.string()?;
        self.seek_value()?;
        Ok(Some(key))
    }

    /// After an opening brace or a value in an object: steps to behind the opening quote of the next key;
    /// false after the closing brace.
    #[inline]
    pub(crate) fn seek_key(&mut self, first: &mut bool) -> Scan<bool> {
        self.skip_space();
        if self.take(b'}') {
            return Ok(false);
        }
        if !*first {
            if !self.take(b',') {
                return self.fail("comma or closing brace expected");
            }
            self.skip_space();
        }
        *first = false;
        if self.take(b'"') { Ok(true) } else { self.fail("key expected") }
    }

    /// After a key: steps to its value.
    #[inline]
    pub(crate) fn seek_value(&mut self) -> Scan<()> {
        self.skip_space();
        if !self.take(b':') {
            return self.fail("colon expected");
        }
        self.skip_space();
        Ok(())
    }

    /// After an opening bracket or an item of an array: true with the cursor at the next item.
    pub(crate) fn next_item(&mut self, first: &mut bool) -> Scan<bool> {
        self.skip_space();
        if *first {
            *first = false;
            return Ok(!self.take(b']'));
        }
        if self.take(b']') {
            return Ok(false);
        }
        if !self.take(b',') {
            return self.fail("comma or closing bracket expected");
        }
        self.skip_space();
        Ok(true)
    }
}

/// Length of the run that holds neither quote nor backslash nor control character.
#[inline]
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut run = 0;
    for chunk in words {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * 0x22);
        let slash = word ^ (ONES * 0x5C);
        // The lowest marked byte is exact: borrows only spread upwards from a true mark.
        let marks = ((quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (word.wrapping_sub(ONES * 0x20) & !word))
            & HIGH;
        if marks != 0 {
            return run + (marks.trailing_zeros() / 8) as usize;
        }
        run += 8;
    }
    run + rest.iter().position(|&b| b == b'"' || b == b'\\' || b < 0x20).unwrap_or(rest.len())
}

/// Appends the characters of an escaped string (its text between the quotes, already scanned).
pub(crate) fn unescape(text: &str, out: &mut String) {
    let mut cursor = Cursor::new(text);
    let mut plain = 0;
    while let Some(byte) = cursor.peek() {
        if byte != b'\\' {
            cursor.at += 1;
            continue;
        }
        out.push_str(text.get(plain..cursor.at).unwrap_or_default());
        match cursor.escape() {
            Ok(c) => out.push(c),
            Err(_) => return,
        }
        plain = cursor.at;
    }
    out.push_str(text.get(plain..).unwrap_or_default());
}

/// Whether `text` is one JSON number and nothing else.
pub(crate) fn is_number(text: &str) -> bool {
    let mut cursor = Cursor::new(text);
    cursor.number().is_ok() && cursor.at == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Kind, &'static str> {
        let mut cursor = Cursor::new(text);
        cursor.skip_space();
        let token = cursor.value(0).map_err(|e| e.what)?;
        cursor.finish().map_err(|e| e.what)?;
        Ok(token.kind)
    }

    #[test]
    fn grammar() {
        for (text, expected) in [
            (" {\"a\" : [1, -0.5e+3, {}], \"b\":\"x\"} ", Ok(Kind::Object)),
            ("[]", Ok(Kind::Array)),
            ("\"plain text of some length\"", Ok(Kind::Text)),
            (r#""a\u00e9\ud83d\ude00""#, Ok(Kind::EscapedText)),
            ("-0", Ok(Kind::Number)),
            ("01", Err("leading zero in a number")),
            ("1.", Err("unexpected end")),
            ("1.x", Err("digit expected")),
            ("+1", Err("value expected")),
            ("nul", Err("value expected")),
            ("[1,]", Err("value expected")),
            ("{\"a\":1,}", Err("key expected")),
            ("{\"a\" 1}", Err("colon expected")),
            ("{\"a\":1", Err("unexpected end")),
            ("\"a", Err("unexpected end")),
            ("\"a\nb\"", Err("control character in a string")),
            (r#""\ud800""#, Err("lone surrogate")),
            (r#""\ud800\u0041""#, Err("lone surrogate")),
            (r#""\udc00""#, Err("lone surrogate")),
            (r#""\x""#, Err("unknown escape")),
            (r#""\u12g4""#, Err("four hex digits expected")),
            ("{} {}", Err("trailing bytes")),
        ] {
            assert_eq!(check(text), expected, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(check(&deep), Err("nested too deeply"));
        let deep = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert_eq!(check(&deep), Ok(Kind::Array));
    }

    #[test]
    fn runs_stop_at_the_first_special_byte() {
        for length in 0..40 {
            for special in ["\"", "\\", "\u{1}", "\u{1f}"] {
                let text = format!("{}{special}\u{e9}\"\\", "é ~x".repeat(length));
                let expected = "é ~x".len() * length;
                assert_eq!(plain_run(text.as_bytes()), expected, "{text:?}");
            }
        }
    }

    #[test]
    fn escapes_become_characters() {
        let mut out = String::new();
        unescape(r#"a\n\"é\ud83d\ude00\/"#, &mut out);
        assert_eq!(out, "a\n\"é😀/");
    }
}
