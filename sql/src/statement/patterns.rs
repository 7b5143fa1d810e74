//! Regular expressions that are written in a statement, in words that the engine reads.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator,
    Value,
};

use super::rewrite::call;
use crate::function::{LOOKS_AROUND, Pattern};

/// Functions whose second argument is a pattern.
const OF_PATTERNS: [&str; 10] = [
    "otus_substring",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
    "regexp_matches",
    "regexp_replace",
    "regexp_split_to_array",
    "regexp_split_to_table",
    "regexp_substr",
];

fn written(expr: &mut Expr) -> Option<&mut String> {
    match expr {
        Expr::Nested(inner) => written(inner),
        Expr::Value(value) => match &mut value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// The pattern of a function's call.
pub(super) fn in_call(function: &mut Function) {
    let name = function.name.to_string().to_ascii_lowercase();
    if OF_PATTERNS.contains(&name.as_str())
        && let FunctionArguments::List(list) = &mut function.args
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(pattern))) = list.args.get_mut(1)
        && let Some(text) = written(pattern)
    {
        let plain = text.clone();
        *text = Pattern::of(text).text;
        if let Some((place, flags)) = flags(&name, &mut list.args) {
            // What is newline-sensitive, wholly, by its dots, or by its anchors.
            let (wholly, dots, anchors) =
                (flags.contains(['n', 'm']), flags.contains('p'), flags.contains('w'));
            let kept = flags.chars().filter(|flag| matches!(flag, 'g' | 'i' | 'x'));
            let lines = (wholly || anchors).then_some('m');
            *flags = kept.chain(lines).collect();
            if flags.is_empty() {
                list.args.truncate(place);
            }
            if (wholly || dots)
                && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(pattern))) =
                    list.args.get_mut(1)
                && let Some(text) = written(pattern)
            {
                *text = Pattern::of_lines(&plain).text;
            }
        }
    }
}

/// The flags of a call, if they say anything of lines: the engine knows other letters. `regexp_matches` is our own.
fn flags<'a>(name: &str, args: &'a mut [FunctionArg]) -> Option<(usize, &'a mut String)> {
    let place = match name {
        "regexp_replace" | "regexp_count" => 3,
        "regexp_like" | "regexp_match" => 2,
        _ => return None,
    };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(flags))) = args.get_mut(place) else {
        return None;
    };
    let flags = written(flags).filter(|text| {
        let known =
            |flag: char| matches!(flag, 'g' | 'i' | 'x' | 'n' | 'm' | 'p' | 'w' | 's' | 't' | 'c');
        text.chars().all(known) && text.contains(['n', 'm', 'p', 'w', 's', 't', 'c'])
    })?;
    Some((place, flags))
}

/// The pattern behind `~` and its like. One that looks around is matched by a function of our own.
pub(super) fn in_operator(expr: &mut Expr) {
    use BinaryOperator as B;
    let Expr::BinaryOp { left, op, right } = expr else { return };
    let (ignores_case, negated) = match op {
        B::PGRegexMatch => (false, false),
        B::PGRegexIMatch => (true, false),
        B::PGRegexNotMatch => (false, true),
        B::PGRegexNotIMatch => (true, true),
        _ => return,
    };
    let Some(text) = written(right) else { return };
    let pattern = Pattern::of(text);
    let looks_around = pattern.looks_around;
    *text = pattern.text;
    if looks_around {
        let ignores_case = Expr::Value(Value::Boolean(ignores_case).into());
        let matches =
            call(LOOKS_AROUND, [left.as_ref().clone(), right.as_ref().clone(), ignores_case]);
        *expr = match negated {
            true => {
                let matches = Box::new(matches);
                let not = Expr::UnaryOp { op: UnaryOperator::Not, expr: matches };
                Expr::Nested(Box::new(not))
            }
            false => matches,
        };
    }
}
