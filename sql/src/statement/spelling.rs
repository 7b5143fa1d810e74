//! Spellings that the planner does not read, or reads otherwise: times and intervals, the patterns of `SIMILAR TO`, and
//! `float`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType, ExactNumberInfo, Expr, UnaryOperator, Value,
};

use super::rewrite::call;
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
                    let name = match op {
                        UnaryOperator::PGSquareRoot => "sqrt",
                        UnaryOperator::PGCubeRoot => "cbrt",
                        UnaryOperator::PGAbs => "abs",
                        _ => return ControlFlow::Continue(()),
                    };
                    *expr = call(name, [of.as_ref().clone()]);
                }
                Expr::BinaryOp { left, op: BinaryOperator::PGStartsWith, right } => {
                    *expr = call("starts_with", [left.as_ref().clone(), right.as_ref().clone()]);
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
                Expr::Cast { data_type: data_type @ DataType::Float(_), .. } => {
                    *data_type = float(data_type);
                }
                Expr::SimilarTo { pattern, escape_char: None, .. } => {
                    respell(pattern, |text| Some(similar_as_regex(text)));
                }
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let _flow = node.visit(&mut Spelling);
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

/// A pattern of `SIMILAR TO`: `%` and `_` as in LIKE, `|*+?{}()[]` as in regular expressions, and it has to
/// fit the whole text.
fn similar_as_regex(pattern: &str) -> String {
    let mut regex = String::from("^(?:");
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                regex.push('\\');
                regex.extend(chars.next());
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
            '.' | '^' | '$' => {
                regex.push('\\');
                regex.push(c);
            }
            other => regex.push(other),
        }
    }
    regex.push_str(")$");
    regex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_similar_to() {
        assert_eq!(similar_as_regex("%b%"), "^(?:(?s:.*)b(?s:.*))$");
        assert_eq!(similar_as_regex("(a|b.)_[%_]"), "^(?:(a|b\\.)(?s:.)[%_])$");
    }
}
