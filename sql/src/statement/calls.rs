//! Calls that the planner does not know, or knows otherwise, in words that it knows.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, CastKind, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query,
    SelectItem, SetExpr,
};

use super::rewrite::{OPERATOR, SIMILAR_PART, call};
use super::{patterns, rows};
use crate::function::{ALIKE, AS_BPCHAR, AS_JSON, AS_JSONB, AS_UUID, AS_VARCHAR, FROM_TEXT};
use crate::strict::OF_TEXT;

/// Writes calls that the planner does not know, or knows otherwise, in words that it knows: `localtimestamp` is the
/// instant without its zone.
pub(crate) fn spelled_for_planner(query: &mut Query) {
    let _flow = ast::visit_expressions_mut(query, |expr| {
        if let Expr::Function(function) = expr
            && function.name.to_string().eq_ignore_ascii_case("localtimestamp")
        {
            function.name = ast::ObjectName::from(vec![Ident::new("now")]);
            let now = Expr::Function(function.clone());
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(now),
                data_type: ast::DataType::Timestamp(None, ast::TimezoneInfo::None),
                array: false,
                format: None,
            };
            // What stands inside is done.
        }
        if let Expr::Function(function) = expr {
            named_otherwise(function);
            without_constant_keys(function);
            patterns::in_call(function);
        }
        patterns::in_operator(expr);
        if let Some(filled) = filled_array(expr).or_else(|| narrowed(expr)) {
            *expr = filled;
        }
        if let Some(remainder) = as_remainder(expr) {
            *expr = remainder;
        }
        if let Some(value) = lone_value(expr) {
            *expr = value;
        }
        if let Some(date) = as_date(expr) {
            *expr = date;
        }
        if let Some(call) = normalized(expr) {
            *expr = call;
        }
        without_blanks(expr);
        if let Some(read) = read_as(expr) {
            *expr = read;
        }
        ControlFlow::<()>::Continue(())
    });
}

/// An aggregate's rows are not ordered by a constant: the planner would take a number for the place of a column.
fn without_constant_keys(function: &mut ast::Function) {
    for key in &mut function.within_group {
        if let Expr::Value(value) = &key.expr
            && matches!(&value.value, ast::Value::Number(number, _) if number.parse::<i32>().is_ok())
        {
            key.expr = rows::cast(key.expr.clone(), ast::DataType::Int(None));
        }
    }
    let FunctionArguments::List(list) = &mut function.args else { return };
    for clause in &mut list.clauses {
        if let ast::FunctionArgumentClause::OrderBy(keys) = clause {
            keys.retain(|key| !matches!(key.expr, Expr::Value(_)));
        }
    }
    list.clauses
        .retain(|c| !matches!(c, ast::FunctionArgumentClause::OrderBy(keys) if keys.is_empty()));
}

/// Calls of our own functions by the names that they have in Postgres.
fn named_otherwise(function: &mut ast::Function) {
    let is_pair = matches!(&function.args, FunctionArguments::List(list) if list.args.len() == 2);
    let name = function.name.to_string().to_ascii_lowercase();
    let all_of = match name.as_str() {
        "array_remove" => Some("array_remove_all"),
        "array_replace" => Some("array_replace_all"),
        "ceiling" => Some("ceil"),
        _ => None,
    };
    if let Some(all_of) = all_of {
        function.name = ast::ObjectName::from(vec![Ident::new(all_of)]);
    }
    if let [part] = function.name.0.as_slice()
        && let Some(own) = part.as_ident().map(|name| name.value.clone())
    {
        let called = match own.strip_prefix(OPERATOR) {
            _ if own == SIMILAR_PART => Some("otus_substring"),
            called => called,
        };
        if let Some(called) = called {
            function.name = ast::ObjectName::from(vec![Ident::new(called)]);
        }
    }
    if name == "regexp_replace"
        && let FunctionArguments::List(list) = &mut function.args
        && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(by)))) =
            list.args.get_mut(2)
        && let ast::Value::SingleQuotedString(text) = &mut by.value
    {
        *text = whole_matches(text);
    }
    if name == "format"
        && let FunctionArguments::List(list) = &mut function.args
    {
        // Each value is put in as its text.
        for arg in list.args.iter_mut().skip(1) {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = arg
                && !is_text(value)
            {
                let plain = std::mem::replace(value, Expr::Value(ast::Value::Null.into()));
                *value = rows::cast(plain, ast::DataType::Text);
            }
        }
    }
    if name == "pg_typeof"
        && let FunctionArguments::List(list) = &mut function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] = list.args.as_mut_slice()
        && is_text(value)
    {
        // A literal has no type of its own.
        *value = Expr::Value(ast::Value::Null.into());
    }
    if let Some((_, own)) = ALIKE.iter().find(|(known, _)| *known == name)
        && let FunctionArguments::List(list) = &function.args
    {
        let is_written = |arg: &FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if is_text(expr));
        let written = list.args.iter().filter(|arg| is_written(arg)).count();
        if written > 0 && written < list.args.len() {
            function.name = ast::ObjectName::from(vec![Ident::new(*own)]);
        }
    }
    if name == "every" {
        function.name = ast::ObjectName::from(vec![Ident::new("bool_and")]);
    }
    if let Some((_, own)) = FROM_TEXT.iter().find(|(known, _)| is_pair && *known == name) {
        function.name = ast::ObjectName::from(vec![Ident::new(*own)]);
    }
}

/// Functions of texts besides those of [`OF_TEXT`].
const OF_MORE_TEXTS: [&str; 7] =
    ["bit_length", "md5", "regexp_replace", "replace", "strpos", "substr", "translate"];

/// Whether a function is given a `char(n)` without the blanks at its end.
fn takes_text(name: &ast::ObjectName) -> bool {
    let name = name.to_string().to_ascii_lowercase();
    let name = name.as_str();
    name != "octet_length" && (OF_TEXT.contains(&name) || OF_MORE_TEXTS.contains(&name))
}

/// A `char(n)` that becomes a text loses the blanks at its end.
fn without_blanks(expr: &mut Expr) {
    fn is_padded(expr: &Expr) -> bool {
        match expr {
            Expr::Nested(inner) => is_padded(inner),
            Expr::Function(function) => function.name.to_string() == AS_BPCHAR,
            _ => false,
        }
    }
    let trim = |value: &mut Expr| {
        if is_padded(value) {
            let blank = Expr::Value(ast::Value::SingleQuotedString(" ".into()).into());
            *value = call("rtrim", [value.clone(), blank]);
        }
    };
    match expr {
        Expr::Function(function) if takes_text(&function.name) => {
            if let FunctionArguments::List(list) = &mut function.args {
                for arg in &mut list.args {
                    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = arg {
                        trim(value);
                    }
                }
            }
        }
        Expr::Cast {
            expr,
            data_type:
                ast::DataType::Text | ast::DataType::Varchar(_) | ast::DataType::CharacterVarying(_),
            ..
        } => trim(expr),
        Expr::Substring { expr, .. } | Expr::Trim { expr, .. } => trim(expr),
        _ => {}
    }
}

/// `normalize(x, NFD)` names its form without quotes; `x IS NFD NORMALIZED` is a call too.
fn normalized(expr: &mut Expr) -> Option<Expr> {
    let text = |name: String| Expr::Value(ast::Value::SingleQuotedString(name).into());
    match expr {
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("normalize") => {
            if let FunctionArguments::List(list) = &mut function.args
                && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(form))) =
                    list.args.get_mut(1)
                && let Expr::Identifier(name) = form
                && name.quote_style.is_none()
            {
                *form = text(name.value.clone());
            }
            None
        }
        Expr::IsNormalized { expr, form, negated } => {
            let form = form.as_ref().map_or_else(|| "NFC".to_owned(), ToString::to_string);
            let is = call("otus_is_normalized", [expr.as_ref().clone(), text(form)]);
            Some(match negated {
                true => {
                    let not = ast::UnaryOperator::Not;
                    Expr::Nested(Box::new(Expr::UnaryOp { op: not, expr: Box::new(is) }))
                }
                false => is,
            })
        }
        _ => None,
    }
}

/// `array_fill(x, ARRAY[n, m])` repeats x m times, and that n times.
fn filled_array(expr: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else { return None };
    if !function.name.to_string().eq_ignore_ascii_case("array_fill") {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let [
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Array(lengths))),
    ] = list.args.as_slice()
    else {
        return None;
    };
    let repeated = |inner: Expr, length: &Expr| call("array_repeat", [inner, length.clone()]);
    let mut lengths = lengths.elem.iter().rev();
    let first = repeated(value.clone(), lengths.next()?);
    Some(lengths.fold(first, repeated))
}

/// Places and counts are integers in Postgres; the planner has them wider.
fn narrowed(expr: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else { return None };
    match function.name.to_string().to_ascii_lowercase().as_str() {
        "array_position" | "regexp_count" | "regexp_instr" => {
            Some(rows::cast(expr.clone(), ast::DataType::Int(None)))
        }
        "array_positions" => {
            let item = Box::new(ast::DataType::Int(None));
            let list = ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(item, None));
            Some(rows::cast(expr.clone(), list))
        }
        _ => None,
    }
}

/// `\&` stands for the whole match, which is the group 0.
fn whole_matches(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        out.push(c);
        if c == '\\' {
            out.extend(chars.next().map(|next| if next == '&' { '0' } else { next }));
        }
    }
    out
}

/// `mod(a, b)` is `a % b`.
fn as_remainder(expr: &mut Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else { return None };
    if !function.name.to_string().eq_ignore_ascii_case("mod") {
        return None;
    }
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let is_expr = |arg: &FunctionArg| matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(_)));
    if list.args.len() != 2 || !list.args.iter().all(is_expr) {
        return None;
    }
    let mut sides = list.args.drain(..).filter_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(side)) => {
            Some(Box::new(Expr::Nested(Box::new(side))))
        }
        _ => None,
    });
    let (left, right) = (sides.next()?, sides.next()?);
    Some(Expr::Nested(Box::new(Expr::BinaryOp { left, op: ast::BinaryOperator::Modulo, right })))
}

/// Functions that a lone value may call: of one row each, and of that row alone.
const PLAIN: [&str; 16] = [
    "abs",
    "coalesce",
    "current_date",
    "current_timestamp",
    "date",
    "date_bin",
    "date_trunc",
    "greatest",
    "least",
    "localtimestamp",
    "make_date",
    "now",
    "time_bucket",
    "timezone",
    "to_date",
    "to_timestamp",
];

/// `(SELECT now() - interval '1 day')`, as tools write bounds of time: the value itself, so that it is known when files
/// and rollups are chosen.
fn lone_value(expr: &Expr) -> Option<Expr> {
    let Expr::Subquery(query) = expr else { return None };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] =
        select.projection.as_slice()
    else {
        return None;
    };
    let bare = format!("SELECT {}", select.projection.first()?);
    if query.to_string() != bare {
        return None;
    }
    let mut is_plain = true;
    let _flow = ast::visit_expressions(value, |inner| {
        is_plain &= match inner {
            Expr::Function(f) => {
                f.over.is_none()
                    && PLAIN.contains(&f.name.to_string().to_ascii_lowercase().as_str())
            }
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => false,
            _ => true,
        };
        ControlFlow::<()>::Continue(())
    });
    is_plain.then(|| Expr::Nested(Box::new(value.clone())))
}

/// What is read from text by a function of our own: `x::uuid`, `x::jsonb`. And names that stand for calls.
fn read_as(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Cast {
            kind: CastKind::Cast | CastKind::DoubleColon,
            expr,
            data_type,
            array: false,
            format: None,
        } => {
            let value = expr.as_ref().clone();
            if let Some((name, length)) = of_length(data_type) {
                let length = ast::Value::Number(length.to_string(), false);
                return Some(call(name, [value, Expr::Value(length.into())]));
            }
            Some(call(reader(data_type)?, [value]))
        }
        Expr::TypedString(ast::TypedString { data_type, value, .. }) => {
            Some(call(reader(data_type)?, [Expr::Value(value.clone())]))
        }
        Expr::Substring { expr, substring_from: Some(from), substring_for: None, .. }
            if is_text(from) =>
        {
            Some(call("otus_substring", [expr.as_ref().clone(), from.as_ref().clone()]))
        }
        Expr::Identifier(name) => value_named(name).map(|function| call(function, [])),
        _ => None,
    }
}

/// The function behind a word that stands for a value.
fn value_named(name: &Ident) -> Option<&'static str> {
    match name.value.to_ascii_lowercase().as_str() {
        _ if name.quote_style.is_some() => None,
        "current_schema" => Some("current_schema"),
        "current_role" => Some("current_user"),
        "current_catalog" => Some("current_database"),
        _ => None,
    }
}

/// Whether a word stands for a value rather than for a column.
pub(super) fn is_value(name: &Ident) -> bool {
    value_named(name).is_some()
}

/// The function that reads values of a type.
fn reader(data_type: &ast::DataType) -> Option<&'static str> {
    match data_type {
        ast::DataType::Uuid => Some(AS_UUID),
        ast::DataType::JSON => Some(AS_JSON),
        ast::DataType::JSONB => Some(AS_JSONB),
        _ => None,
    }
}

/// The function that reads texts up to a length, and the length.
fn of_length(data_type: &ast::DataType) -> Option<(&'static str, u64)> {
    use ast::DataType as D;
    let known = |length: &ast::CharacterLength| match length {
        ast::CharacterLength::IntegerLength { length, .. } => Some(*length),
        ast::CharacterLength::Max => None,
    };
    match data_type {
        D::Varchar(Some(length)) | D::CharacterVarying(Some(length)) => {
            Some((AS_VARCHAR, known(length)?))
        }
        D::Char(None) | D::Character(None) => Some((AS_BPCHAR, 1)),
        D::Char(Some(length)) | D::Character(Some(length)) => Some((AS_BPCHAR, known(length)?)),
        _ => None,
    }
}

/// The type whose name a function of one argument has.
fn type_named(name: &str) -> Option<ast::DataType> {
    use ast::DataType as D;
    Some(match name.strip_prefix("pg_catalog.").unwrap_or(name) {
        "bool" => D::Boolean,
        "date" => D::Date,
        "float4" => D::Real,
        "float8" => D::DoublePrecision,
        "int2" => D::SmallInt(None),
        "int4" => D::Int(None),
        "int8" => D::BigInt(None),
        "numeric" => D::Numeric(ast::ExactNumberInfo::None),
        "text" => D::Text,
        "timestamptz" => D::Timestamp(None, ast::TimezoneInfo::Tz),
        _ => return None,
    })
}

/// `date(x)` is `x::date`, and so with other types.
fn as_date(expr: &mut Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else { return None };
    let data_type = type_named(&function.name.to_string().to_ascii_lowercase())?;
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(_))] = list.args.as_slice() else {
        return None;
    };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(value))) = list.args.pop() else {
        return None;
    };
    Some(Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(value),
        data_type,
        array: false,
        format: None,
    })
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(v) if matches!(v.value, ast::Value::SingleQuotedString(_)))
}
