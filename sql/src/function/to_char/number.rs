//! Patterns of numbers. A number is first written as digits with as many decimals as the pattern has; the
//! pattern then lets them out one place at a time, as Postgres does.

use super::pattern::{Piece, ordinal, pieces};
use super::wrong;
use crate::error::SqlResult;

/// Most places of a pattern before and after the point together.
const PLACES_MAX: usize = 1_000;
/// Letters of the longest Roman number.
const ROMAN_WIDTH: usize = 15;
/// Digits that a double precision number tells for certain.
const DOUBLE_DIGITS: usize = 15;

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Nine,
    Zero,
    Point,
    Comma,
    Minus,
    Plus,
    Sign,
    Ordinal {
        upper: bool,
    },
    /// The symbol of a currency, a blank here.
    Currency,
    Roman {
        upper: bool,
    },
    /// Has done its work when the pattern was read: `FM`, `S`, `PR`.
    Done,
}

/// Where the sign goes that a pattern asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    /// Before the first digit.
    First,
    /// Behind the last one.
    Last,
}

/// A pattern of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    pattern: Vec<Piece<Key>>,
    /// Places before and after the point.
    before: usize,
    after: usize,
    point: bool,
    /// First place with a 0 before the point.
    first_zero: Option<usize>,
    /// One past the last place with a 0.
    zero_end: usize,
    fill: bool,
    sign: Option<Anchor>,
    plus: bool,
    minus: bool,
    angles: bool,
    /// Places behind a `V`, by which numbers are multiplied.
    shift: Option<usize>,
    exponent: bool,
    roman: bool,
}

fn keyword(text: &str) -> Option<(&'static str, usize)> {
    const NAMES: [&str; 20] = [
        "EEEE", "FM", "MI", "PL", "PR", "RN", "SG", "SP", "TH", "B", "D", "G", "L", "S", "V", ",",
        ".", "0", "9", "th",
    ];
    let found = NAMES.into_iter().find(|name| {
        let same = |t: &str| t == *name || t == name.to_lowercase();
        text.get(..name.len()).is_some_and(same)
    })?;
    // `th` and `TH` differ in what they give.
    let found = if found == "TH" && text.starts_with("th") { "th" } else { found };
    Some((found, found.len()))
}

impl Format {
    /// Reads a pattern.
    pub(super) fn new(pattern: &str) -> SqlResult<Self> {
        let mut format = Self {
            pattern: Vec::new(),
            before: 0,
            after: 0,
            point: false,
            first_zero: None,
            zero_end: 0,
            fill: false,
            sign: None,
            plus: false,
            minus: false,
            angles: false,
            shift: None,
            exponent: false,
            roman: false,
        };
        let mut sign_at = None;
        let mut read = |text: &str| {
            let Some((name, length)) = keyword(text) else { return Ok(None) };
            if name == "S" && !format.point && sign_at.is_none() {
                sign_at = Some(format.before);
            }
            if name == "RN" {
                format.roman = true;
                return Ok(Some((Key::Roman { upper: text.starts_with('R') }, length)));
            }
            format.take(name).map(|key| Some((key, length))).map_err(|why| wrong(pattern, why))
        };
        let list = pieces(pattern, &mut read)?;
        if format.before + format.after > PLACES_MAX {
            return Err(wrong(pattern, format!("it has more than {PLACES_MAX} places")));
        }
        // A sign behind all places before the point comes last.
        if format.sign == Some(Anchor::First) && sign_at == Some(format.before) {
            format.sign = Some(Anchor::Last);
        }
        format.pattern = list;
        Ok(format)
    }

    /// What a keyword does to the whole.
    fn take(&mut self, name: &str) -> Result<Key, String> {
        if let Some(key) = self.take_rare(name)? {
            return Ok(key);
        }
        let key = match name {
            "9" | "0" if self.angles => return Err("PR comes after all digits".into()),
            "9" | "0" => {
                let zero = name == "0";
                if zero && !self.point && self.first_zero.is_none() {
                    self.first_zero = Some(self.before);
                }
                match self.point {
                    true => self.after += 1,
                    false => self.before += 1,
                }
                if let Some(shift) = &mut self.shift {
                    *shift += 1;
                }
                if !zero {
                    return Ok(Key::Nine);
                }
                self.zero_end = self.before + self.after;
                Key::Zero
            }
            "." | "D" if self.point => return Err("it has more than one decimal point".into()),
            "." | "D" => {
                self.point = true;
                Key::Point
            }
            "," | "G" => Key::Comma,
            "FM" => {
                self.fill = true;
                Key::Done
            }
            "S" if self.sign.is_some() => return Err("it has more than one S".into()),
            "S" if self.plus || self.minus || self.angles => {
                return Err("S does not go with PL, MI, SG or PR".into());
            }
            "S" => {
                self.sign = Some(if self.point { Anchor::Last } else { Anchor::First });
                Key::Done
            }
            "MI" | "PL" | "SG" | "PR" if self.sign.is_some() => {
                return Err(format!("S does not go with {name}"));
            }
            "MI" => {
                self.minus = true;
                Key::Minus
            }
            "PL" => {
                self.plus = true;
                Key::Plus
            }
            "SG" => {
                (self.plus, self.minus) = (true, true);
                Key::Sign
            }
            "PR" if self.plus || self.minus => {
                return Err("PR does not go with PL, MI or SG".into());
            }
            "PR" => {
                self.angles = true;
                Key::Done
            }
            "TH" | "th" => Key::Ordinal { upper: name == "TH" },
            "SP" => Key::Done,
            other => return Err(format!("{other} is not supported")),
        };
        Ok(key)
    }

    /// Keywords that change what number is shown; none if `name` is none of them.
    fn take_rare(&mut self, name: &str) -> Result<Option<Key>, String> {
        let key = match name {
            "." | "D" if self.shift.is_some() => return Err("V does not go with a point".into()),
            "V" if self.point => return Err("V does not go with a point".into()),
            "V" => {
                self.shift = Some(0);
                Key::Done
            }
            "L" => Key::Currency,
            "EEEE" if self.fill || self.sign.is_some() || self.shift.is_some() => {
                return Err("EEEE goes with digits and a point alone".into());
            }
            "EEEE" => {
                self.exponent = true;
                Key::Done
            }
            _ => return Ok(None),
        };
        Ok(Some(key))
    }

    /// The text of `unscaled / 10^scale`.
    pub(super) fn decimal(&self, unscaled: i128, scale: i8) -> String {
        if self.exponent {
            #[expect(clippy::cast_precision_loss, reason = "shown with fewer digits")]
            let value = unscaled as f64 / 10_f64.powi(scale.into());
            return self.scientific(value);
        }
        let shift = self.shift.and_then(|shift| i8::try_from(shift).ok()).unwrap_or(0);
        let digits = decimal_digits(unscaled.unsigned_abs(), scale - shift, self.after);
        let zero = digits.chars().all(|c| matches!(c, '0' | '.'));
        self.text(&digits, unscaled < 0 && !zero)
    }

    /// The text of a double precision number: digits that it does not hold are not shown.
    pub(super) fn float(&self, value: f64) -> String {
        if self.exponent {
            return self.scientific(value);
        }
        if !value.is_finite() {
            let word = if value.is_nan() { "NaN" } else { "Infinity" };
            return self.text(word, value < 0.0);
        }
        let shift = self.shift.and_then(|shift| i32::try_from(shift).ok()).unwrap_or(0);
        let value = value * 10_f64.powi(shift);
        let whole = format!("{:.0}", value.abs()).len();
        let after = self.after.min(DOUBLE_DIGITS.saturating_sub(whole));
        let digits = format!("{:.after$}", value.abs());
        let shorter = Self { after, ..self.clone() };
        shorter.text(&digits, value < 0.0)
    }

    /// ` 4.86e-04`.
    fn scientific(&self, value: f64) -> String {
        let after = self.after;
        if !value.is_finite() {
            let point = if after > 0 { "." } else { "" };
            return format!(" {}{point}{}", "#".repeat(self.before), "#".repeat(after + 4));
        }
        let text = format!("{:.after$e}", value.abs());
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let sign = if value < 0.0 { '-' } else { ' ' };
        match exponent.strip_prefix('-') {
            Some(exponent) => format!("{sign}{digits}e-{exponent:0>2}"),
            None => format!("{sign}{digits}e+{exponent:0>2}"),
        }
    }

    fn text(&self, digits: &str, negative: bool) -> String {
        if self.roman {
            return self.with_roman(digits, negative);
        }
        let whole = digits.split('.').next().map_or(0, str::len);
        // A number with too many digits is shown as none.
        let digits: Vec<char> = if whole > self.before {
            let hashes = |n: usize| std::iter::repeat_n('#', n);
            hashes(self.before).chain(['.']).chain(hashes(self.after)).collect()
        } else {
            digits.chars().collect()
        };
        let blanks = self.before.saturating_sub(whole);
        Writer::new(self, digits, blanks, negative).write()
    }
}

impl Format {
    /// The number between 1 and 3999 in Roman letters, 15 of them unless `FM` is said.
    fn with_roman(&self, digits: &str, negative: bool) -> String {
        let number = digits.split('.').next().and_then(|whole| whole.parse::<u32>().ok());
        let roman = number.filter(|n| !negative && (1..4_000).contains(n)).map(roman);
        let mut out = String::new();
        for piece in &self.pattern {
            match (piece, &roman) {
                (Piece::Text(c), _) => out.push(*c),
                (Piece::Key(Key::Roman { .. }), None) => out.push_str(&"#".repeat(ROMAN_WIDTH)),
                (Piece::Key(Key::Roman { upper }), Some(letters)) => {
                    let letters =
                        if *upper { letters.clone() } else { letters.to_ascii_lowercase() };
                    let width = if self.fill { 0 } else { ROMAN_WIDTH };
                    out.push_str(&format!("{letters:>width$}"));
                }
                _ => {}
            }
        }
        out
    }
}

fn roman(number: u32) -> String {
    const LETTERS: [(u32, &str); 13] = [
        (1_000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let (mut rest, mut out) = (number, String::new());
    for (value, letters) in LETTERS {
        while rest >= value {
            out.push_str(letters);
            rest -= value;
        }
    }
    out
}

/// The digits of a decimal, rounded half away from zero to `after` decimals.
fn decimal_digits(value: u128, scale: i8, after: usize) -> String {
    let scale = i32::from(scale);
    let kept = i32::try_from(after).unwrap_or(i32::MAX);
    let cut = u32::try_from(scale.saturating_sub(kept)).unwrap_or(0);
    let (value, scale) = match 10_u128.checked_pow(cut) {
        Some(unit) => {
            let up = u128::from(value % unit >= unit.div_ceil(2) && cut > 0);
            (value / unit + up, scale - i32::try_from(cut).unwrap_or(0))
        }
        None => (0, kept),
    };
    let mut digits = value.to_string();
    match usize::try_from(scale) {
        Ok(decimals) => {
            let width = decimals + 1;
            digits = format!("{digits:0>width$}");
            let point = digits.len() - decimals;
            if after > 0 {
                digits.insert(point, '.');
                digits.extend(std::iter::repeat_n('0', after.saturating_sub(decimals)));
            }
        }
        Err(_) => {
            digits.extend(std::iter::repeat_n(
                '0',
                usize::try_from(scale.unsigned_abs()).unwrap_or(0),
            ));
            if after > 0 {
                digits.push('.');
                digits.extend(std::iter::repeat_n('0', after));
            }
        }
    }
    digits
}

/// One number on its way through a pattern.
struct Writer<'a> {
    format: &'a Format,
    digits: Vec<char>,
    /// The next digit.
    next: usize,
    /// Places before the point that the number does not reach.
    blanks: usize,
    negative: bool,
    signed: bool,
    angles: bool,
    /// With `FM`: the last digit after the point that matters, or the point itself.
    last: Option<usize>,
    /// Places seen.
    place: usize,
    /// Place after which a sign at the end goes.
    end: usize,
    inside: bool,
    /// Where the text ends early.
    cut: Option<usize>,
    out: String,
}

impl<'a> Writer<'a> {
    fn new(format: &'a Format, digits: Vec<char>, blanks: usize, negative: bool) -> Self {
        // `MI` and `SG` write the sign themselves; `PL` alone leaves a minus to us.
        let signed = match format.plus || format.minus {
            true => format.minus,
            false => !negative && format.fill && format.sign.is_none(),
        };
        let angles = format.angles && (negative || !format.fill);
        let shortens = format.fill && format.point;
        let last = shortens.then(|| last_relevant(format, &digits, blanks)).flatten();
        let unsigned = !signed && blanks == 0;
        let more = [unsigned, blanks > 0, format.point].map(usize::from);
        let end = (format.before + format.after + more.iter().sum::<usize>()).saturating_sub(1);
        Self {
            format,
            digits,
            next: 0,
            blanks,
            negative,
            signed,
            angles,
            last,
            place: 0,
            end,
            inside: false,
            cut: None,
            out: String::new(),
        }
    }

    fn write(mut self) -> String {
        for piece in &self.format.pattern {
            match piece {
                Piece::Text(c) => self.out.push(*c),
                Piece::Key(Key::Nine | Key::Point) => self.digit(false),
                Piece::Key(Key::Zero) => self.digit(true),
                Piece::Key(Key::Comma) if self.inside => self.out.push(','),
                Piece::Key(Key::Minus) if self.negative => self.out.push('-'),
                Piece::Key(Key::Plus) if !self.negative => self.out.push('+'),
                Piece::Key(Key::Comma | Key::Minus | Key::Plus) => self.blank(),
                Piece::Key(Key::Sign) => self.out.push(if self.negative { '-' } else { '+' }),
                Piece::Key(Key::Ordinal { upper }) => self.ordinal(*upper),
                Piece::Key(Key::Currency) => self.out.push(' '),
                Piece::Key(Key::Done | Key::Roman { .. }) => {}
            }
        }
        if let Some(cut) = self.cut {
            self.out.truncate(cut);
        }
        self.out
    }

    fn blank(&mut self) {
        if !self.format.fill {
            self.out.push(' ');
        }
    }

    fn ordinal(&mut self, upper: bool) {
        if self.negative || self.format.point || self.digits.first() == Some(&'#') {
            return;
        }
        let digits: String = self.digits.iter().collect();
        let ending = ordinal(&digits);
        self.out.push_str(&if upper { ending.to_uppercase() } else { ending.to_string() });
    }

    fn at(&self, index: usize) -> Option<char> {
        self.digits.get(index).copied()
    }

    /// A lone zero before the point is not shown where the pattern does not ask for it.
    fn is_silent_zero(&self) -> bool {
        let leads = self.next == 0 && self.at(0) == Some('0');
        leads && self.format.first_zero.is_none() && self.format.after > 0
    }

    fn ends_at_point(&self) -> bool {
        self.last.and_then(|last| self.at(last)) == Some('.')
    }

    fn sign(&mut self) {
        let starts = self.place >= self.blanks || self.format.first_zero == Some(self.place);
        if self.signed || !starts || (self.is_silent_zero() && !self.ends_at_point()) {
            return;
        }
        match self.format.sign {
            Some(Anchor::First) => {
                self.out.push(if self.negative { '-' } else { '+' });
                self.signed = true;
            }
            Some(Anchor::Last) => {}
            None => {
                match (self.angles, self.negative) {
                    (true, true) => self.out.push('<'),
                    (false, true) => self.out.push('-'),
                    (true, false) => self.out.push(' '),
                    (false, false) => self.blank(),
                }
                self.signed = true;
            }
        }
    }

    fn digit(&mut self, zero: bool) {
        self.inside = false;
        self.sign();
        let first_zero = self.format.first_zero;
        if self.place < self.blanks && first_zero.is_none_or(|first| first > self.place) {
            self.blank();
        } else if self.place < self.blanks {
            self.out.push('0');
            self.inside = true;
        } else {
            self.let_out(zero);
            self.next = (self.next + 1).min(self.digits.len());
        }
        let mut end = self.end;
        if self.last.is_some() && self.last == Some(self.next) {
            end = self.place;
        }
        if self.place + 1 == end {
            if self.signed && self.angles {
                self.out.push(if self.negative { '>' } else { ' ' });
            } else if self.format.sign == Some(Anchor::Last) {
                self.out.push(if self.negative { '-' } else { '+' });
            }
        }
        self.place += 1;
    }

    fn let_out(&mut self, zero: bool) {
        let Some(digit) = self.at(self.next) else {
            // A point without digits behind it: for Postgres the text ends here, whatever follows.
            self.cut = self.cut.or(Some(self.out.len()));
            return;
        };
        if digit == '.' {
            self.out.push('.');
        } else if self.last.is_some_and(|last| self.next > last) && !zero {
            // Nothing that matters follows.
        } else if self.is_silent_zero() {
            if !self.format.fill {
                self.out.push(' ');
            } else if self.ends_at_point() {
                self.out.push('0');
            }
        } else {
            self.out.push(digit);
            self.inside = true;
        }
    }
}

/// Index of the last digit after the point that is no zero, or of the point; zeros that the pattern asks for
/// matter too.
fn last_relevant(format: &Format, digits: &[char], blanks: usize) -> Option<usize> {
    let point = digits.iter().position(|c| *c == '.')?;
    let last = digits.iter().rposition(|c| *c != '0').unwrap_or(point).max(point);
    match format.zero_end.checked_sub(blanks) {
        Some(asked) if asked > 0 => Some(last.max(asked.min(digits.len().saturating_sub(1)))),
        _ => Some(last),
    }
}
