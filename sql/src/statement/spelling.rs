//! Spellings that the planner does not read, or reads otherwise: times and intervals, the patterns of `SIMILAR TO`, and
//! `float`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType, ExactNumberInfo, Expr, FunctionArg, FunctionArgExpr, Ident,
    UnaryOperator, Value,
};

use super::rewrite::{SIMILAR_PART, call, unnamed};
use super::times;

/// Spells intervals with words, and `SIMILAR TO` as a regular expression.
pub(crate) fn spell_out(node: &mut impl ast::VisitMut) {
    struct Spelling;
    impl ast::VisitorMut for Spelling {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            times::spell(expr);
            match expr {
                Expr::UnaryOp { op, expr: of } => {
                    let mut of = of.as_ref().clone();
                    let name = match op {
                        // Roots by their operators are double precision, as is what they are taken of.
                        UnaryOperator::PGSquareRoot => {
                            of = super::rows::cast(of, DataType::DoublePrecision);
                            "sqrt"
                        }
                        UnaryOperator::PGCubeRoot => "cbrt",
                        UnaryOperator::PGAbs => "abs",
                        UnaryOperator::BitwiseNot => {
                            *expr = all_other_bits(&of);
                            return ControlFlow::Continue(());
                        }
                        _ => return ControlFlow::Continue(()),
                    };
                    *expr = call(&unnamed(name), [of]);
                }
                Expr::BinaryOp { left, op: BinaryOperator::PGStartsWith, right } => {
                    let sides = [left.as_ref().clone(), right.as_ref().clone()];
                    *expr = call(&unnamed("starts_with"), sides);
                }
                Expr::Collate { expr: of, collation } if by_bytes(collation) => {
                    *expr = of.as_ref().clone();
                }
                Expr::Like { pattern, escape_char, .. }
                | Expr::ILike { pattern, escape_char, .. } => {
                    escaped_by_backslash(pattern, escape_char);
                }
                Expr::Value(value) => {
                    if let Value::UnicodeStringLiteral(text) = &value.value {
                        value.value = Value::SingleQuotedString(text.clone());
                    }
                }
                Expr::Cast {
                    expr: of,
                    data_type: DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_),
                    ..
                } => respell(of, without_exponent),
                Expr::Cast { data_type: data_type @ DataType::Float(_), .. } => {
                    *data_type = float(data_type);
                }
                Expr::SimilarTo { pattern, escape_char, .. } => {
                    if let Some(escape) = escape_of(escape_char.as_ref()) {
                        respell(pattern, |text| Some(similar_as_regex(text, escape)));
                        *escape_char = None;
                    }
                }
                Expr::Function(function) if function.name.to_string() == similar_part() => {
                    part_as_regex(function);
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let _flow = node.visit(&mut Spelling);
}

/// Most digits of a number that is spelled out: more than a numeric has here.
const DIGITS_MAX: usize = 100;

/// `1.5e3` is `1500`; none if a text is no number with an exponent, or one that has too many digits.
fn without_exponent(text: &str) -> Option<String> {
    let text = text.trim();
    let (sign, bare) = match text.strip_prefix('-') {
        Some(bare) => ("-", bare),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = bare.split_once(['e', 'E'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let exponent: i64 = exponent.parse().ok()?;
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let length = i64::try_from(digits.len()).ok()?;
    let zeros =
        |count: i64| Some("0".repeat(usize::try_from(count).ok().filter(|n| *n <= DIGITS_MAX)?));
    Some(match usize::try_from(point) {
        Ok(at) if point > 0 && point < length => {
            format!("{sign}{}.{}", digits.get(..at)?, digits.get(at..)?)
        }
        Ok(_) if point > 0 => format!("{sign}{digits}{}", zeros(point - length)?),
        _ => format!("{sign}0.{}{digits}", zeros(-point)?),
    })
}

/// `~x` is `x # -1`.
fn all_other_bits(of: &Expr) -> Expr {
    let one = Expr::Value(Value::Number("1".into(), false).into());
    let ones = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(one) };
    Expr::Nested(Box::new(Expr::BinaryOp {
        left: Box::new(of.clone()),
        op: BinaryOperator::PGBitwiseXor,
        right: Box::new(ones),
    }))
}

/// `'a!_b' ESCAPE '!'` is `'a\_b'`.
fn escaped_by_backslash(pattern: &mut Expr, escape: &mut Option<ast::ValueWithSpan>) {
    let by = match escape.as_ref().map(|value| &value.value) {
        Some(Value::SingleQuotedString(by)) => by.chars().next(),
        _ => return,
    };
    if is_written(pattern) {
        respell_pattern(pattern, by);
        *escape = None;
    }
}

/// Whether a pattern is a text, or texts put together.
fn is_written(pattern: &Expr) -> bool {
    match pattern {
        Expr::Nested(inner) => is_written(inner),
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
            is_written(left) && is_written(right)
        }
        Expr::Value(value) => matches!(value.value, Value::SingleQuotedString(_)),
        _ => false,
    }
}

fn respell_pattern(pattern: &mut Expr, by: Option<char>) {
    let text = match pattern {
        Expr::Nested(inner) => return respell_pattern(inner, by),
        Expr::BinaryOp { left, right, .. } => {
            respell_pattern(left, by);
            return respell_pattern(right, by);
        }
        Expr::Value(value) => match &mut value.value {
            Value::SingleQuotedString(text) => text,
            _ => return,
        },
        _ => return,
    };
    let mut spelled = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if Some(c) == by {
            spelled.push('\\');
            spelled.extend(chars.next());
        } else {
            if c == '\\' {
                spelled.push('\\');
            }
            spelled.push(c);
        }
    }
    *text = spelled;
}

/// Text sorts by its bytes: a collation that says so says nothing.
fn by_bytes(collation: &ast::ObjectName) -> bool {
    let name = collation.0.last().and_then(|part| part.as_ident());
    name.is_some_and(|name| matches!(name.value.as_str(), "C" | "POSIX" | "ucs_basic" | "default"))
}

/// `float` is double precision; with up to 24 binary digits it is real.
fn float(named: &DataType) -> DataType {
    match named {
        DataType::Float(ExactNumberInfo::Precision(digits)) if *digits <= 24 => DataType::Real,
        _ => DataType::DoublePrecision,
    }
}

fn respell(expr: &mut Expr, spelled: impl Fn(&str) -> Option<String>) {
    let Expr::Value(value) = expr else { return };
    if let Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) = &mut value.value
        && let Some(spelled) = spelled(text)
    {
        *text = spelled;
    }
}

/// The name of `substring(x SIMILAR pattern ESCAPE e)` as a call is shown.
fn similar_part() -> String {
    Ident::with_quote('"', SIMILAR_PART).to_string()
}

/// The character that takes the meaning from the next one, a backslash if none is said; the inner none is that of
/// `ESCAPE ''`. None if it is not written out.
fn escape_of(escape: Option<&ast::ValueWithSpan>) -> Option<Option<char>> {
    match escape.map(|value| &value.value) {
        None => Some(Some('\\')),
        Some(Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text)) => {
            let mut chars = text.chars();
            let first = chars.next();
            chars.next().is_none().then_some(first)
        }
        Some(_) => None,
    }
}

/// The pattern of `substring(x SIMILAR pattern ESCAPE e)` as a regular expression, whose group is the part between two
/// `e"`.
fn part_as_regex(call: &mut ast::Function) {
    let ast::FunctionArguments::List(list) = &mut call.args else { return };
    let value = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => Some(value.clone()),
        _ => None,
    };
    let [_, pattern, escape] = list.args.as_slice() else { return };
    let (Some(pattern), Some(escape)) = (value(pattern), value(escape)) else { return };
    let (Some(Some(escape)), Value::SingleQuotedString(text)) =
        (escape_of(Some(&escape)), &pattern.value)
    else {
        return;
    };
    let mark = format!("{escape}\"");
    let parts: Vec<&str> = text.split(mark.as_str()).collect();
    let inner = |part: &str| similar_inner(part, Some(escape)).replace("(?s:.*)", "(?s:.*?)");
    let greedy = |part: &str| similar_inner(part, Some(escape));
    let regex = match parts.as_slice() {
        [whole] => format!("^({})$", greedy(whole)),
        [before, part] => format!("^(?:{})({})$", inner(before), greedy(part)),
        [before, part, after] => {
            format!("^(?:{})({})(?:{})$", inner(before), greedy(part), greedy(after))
        }
        _ => return,
    };
    let regex = Expr::Value(Value::SingleQuotedString(regex).into());
    list.args.truncate(1);
    list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(regex)));
}

/// A pattern of `SIMILAR TO`: `%` and `_` as in LIKE, `|*+?{}()[]` as in regular expressions, and it has to
/// fit the whole text.
fn similar_as_regex(pattern: &str, escape: Option<char>) -> String {
    format!("^(?:{})$", similar_inner(pattern, escape))
}

fn similar_inner(pattern: &str, escape: Option<char>) -> String {
    let mut regex = String::new();
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            _ if Some(c) == escape => {
                regex.extend(chars.next().map(|c| regex::escape(c.encode_utf8(&mut [0; 4]))));
            }
            _ if in_class => {
                in_class = c != ']';
                regex.push(c);
            }
            '[' => {
                in_class = true;
                regex.push(c);
            }
            '%' => regex.push_str("(?s:.*)"),
            '_' => regex.push_str("(?s:.)"),
            '.' | '^' | '$' | '\\' => {
                regex.push('\\');
                regex.push(c);
            }
            '(' => regex.push_str("(?:"),
            other => regex.push(other),
        }
    }
    regex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_similar_to() {
        let backslash = Some('\\');
        assert_eq!(similar_as_regex("%b%", backslash), "^(?:(?s:.*)b(?s:.*))$");
        assert_eq!(similar_as_regex("(a|b.)_[%_]", backslash), "^(?:(?:a|b\\.)(?s:.)[%_])$");
        assert_eq!(similar_as_regex("a\\%_", backslash), "^(?:a%(?s:.))$");
        assert_eq!(similar_as_regex("!%\\", Some('!')), "^(?:%\\\\)$");
        assert_eq!(similar_as_regex("\\", None), "^(?:\\\\)$");
    }

    #[test]
    fn exponents_are_spelled_out() {
        for (text, expected) in [
            ("1e3", Some("1000")),
            (" -1.25E+1 ", Some("-12.5")),
            ("1.5e-3", Some("0.0015")),
            (".5e0", Some("0.5")),
            ("12e-2", Some("0.12")),
            ("+1.5e1", Some("15")),
            ("1", None),
            ("e3", None),
            ("1e", None),
            ("1e9999999999", None),
            ("1x5e3", None),
        ] {
            assert_eq!(without_exponent(text).as_deref(), expected, "{text}");
        }
    }
}
