//! Errors of the planner and the executor as Postgres would raise them, and the Postgres names of types.

use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use otus_engine::types::PG_TYPE_KEY;

use super::near::near;
use super::operands::unmatched;
use super::types::in_postgres;
use super::{SqlError, sqlstate};

impl From<DataFusionError> for SqlError {
    fn from(e: DataFusionError) -> Self {
        of_planner(&e)
    }
}

/// An error of the planner or the executor, as Postgres would raise it.
pub(crate) fn of_planner(e: &DataFusionError) -> SqlError {
    let found = of_kind(e);
    // The same mistake comes from several libraries, as one kind of error or another.
    if found.sqlstate == sqlstate::CANCELED {
        return found;
    }
    regular_expression(&e.to_string()).unwrap_or_else(|| with_types(found))
}

/// An error that names types of the libraries, with those of Postgres.
fn with_types(e: SqlError) -> SqlError {
    let (message, detail) = (in_postgres(&e.message), e.detail.as_deref().map(in_postgres));
    SqlError { message, detail, ..e }
}

fn of_kind(e: &DataFusionError) -> SqlError {
    match e {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            of_planner(inner)
        }
        DataFusionError::Shared(inner) => of_planner(inner),
        DataFusionError::Collection(list) => match list.first() {
            Some(first) => of_planner(first),
            None => SqlError::internal(e.to_string()),
        },
        DataFusionError::External(inner) => external(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => arrow(inner),
        DataFusionError::ParquetError(inner) => {
            SqlError::new(sqlstate::DATA_CORRUPTED, format!("a segment cannot be read: {inner}"))
        }
        DataFusionError::ObjectStore(inner) => {
            SqlError::new(sqlstate::IO, format!("the store cannot be read: {inner}"))
        }
        DataFusionError::IoError(inner) => io(inner),
        DataFusionError::SQL(inner, _) => match inner.as_ref() {
            ParserError::RecursionLimitExceeded => {
                SqlError::new(sqlstate::TOO_COMPLEX, "statement is nested too deeply")
            }
            ParserError::ParserError(m) | ParserError::TokenizerError(m) => {
                SqlError::new(sqlstate::SYNTAX, m.clone())
            }
        },
        DataFusionError::NotImplemented(m) => not_implemented(m),
        DataFusionError::SchemaError(inner, _) => schema(inner),
        DataFusionError::ResourcesExhausted(m) => exhausted(m),
        DataFusionError::Plan(m) | DataFusionError::Configuration(m) => plan(m),
        DataFusionError::Execution(m) => execution(m),
        DataFusionError::ExecutionJoin(inner) if inner.is_cancelled() => SqlError::canceled(),
        // A library may have taken for a fault of its own what the statement is to blame for.
        other => {
            let message = first_line(&other.to_string());
            unmatched(&message).unwrap_or_else(|| SqlError::internal(message))
        }
    }
}

/// What is wrong with a regular expression, if that is what a message tells.
fn regular_expression(m: &str) -> Option<SqlError> {
    if !m.contains("regex parse error") && !m.contains("Regular expression did not compile") {
        return None;
    }
    let reason = match m.rsplit_once("error: ") {
        _ if m.contains("CompiledTooBig") => "it takes too much memory",
        Some((_, reason)) => reason.lines().next().unwrap_or(reason),
        None => "it cannot be read",
    };
    let message = format!("invalid regular expression: {}", reason.trim());
    Some(SqlError::new(sqlstate::INVALID_REGEX, message))
}

fn io(e: &std::io::Error) -> SqlError {
    if e.kind() == std::io::ErrorKind::StorageFull {
        return SqlError::new(sqlstate::DISK_FULL, "no space left on device for spilled rows");
    }
    match e.get_ref().and_then(|inner| inner.downcast_ref::<SqlError>()) {
        Some(inner) => inner.clone(),
        None => SqlError::new(sqlstate::IO, e.to_string()),
    }
}

fn external(e: &(dyn std::error::Error + Send + Sync + 'static)) -> SqlError {
    if let Some(e) = e.downcast_ref::<SqlError>() {
        return e.clone();
    }
    if let Some(e) = e.downcast_ref::<DataFusionError>() {
        return of_planner(e);
    }
    if let Some(e) = e.downcast_ref::<ArrowError>() {
        return arrow(e);
    }
    let message = e.to_string();
    if message.contains("regex parse error") {
        return SqlError::new(INVALID_REGEX, "invalid regular expression").with_detail(message);
    }
    SqlError::internal(first_line(&message))
}

const INVALID_REGEX: &str = "2201B";

fn arrow(e: &ArrowError) -> SqlError {
    match e {
        ArrowError::DivideByZero => SqlError::new(sqlstate::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(m) => {
            SqlError::new(sqlstate::OUT_OF_RANGE, "numeric value out of range")
                .with_detail(m.clone())
        }
        ArrowError::CastError(m) => cast(m),
        ArrowError::ParseError(m) => cast(m),
        ArrowError::ComputeError(m) | ArrowError::InvalidArgumentError(m) => execution(m),
        ArrowError::ExternalError(inner) => external(inner.as_ref()),
        ArrowError::IoError(_, inner) => io(inner),
        ArrowError::MemoryError(m) => SqlError::new(sqlstate::OUT_OF_MEMORY, m.clone()),
        other => SqlError::internal(first_line(&other.to_string())),
    }
}

/// Text that is no value of its type.
fn cast(m: &str) -> SqlError {
    let m = m.trim_start_matches("Cast error: ").trim_start_matches("Parser error: ");
    if let Some((value, rest)) =
        m.strip_prefix("Cannot cast string '").and_then(|r| r.split_once("' to value of "))
    {
        let name = rest.trim_end_matches(" type");
        let is_time = name.starts_with("Date") || name.starts_with("Time");
        return SqlError::new(
            if is_time { unlike_time(value) } else { sqlstate::INVALID_TEXT },
            format!("invalid input syntax for type {}: \"{value}\"", named(name)),
        );
    }
    if let Some((value, _)) =
        m.strip_prefix("Error parsing timestamp from '").and_then(|r| r.split_once('\''))
    {
        return SqlError::new(
            unlike_time(value),
            format!("invalid input syntax for type timestamp: \"{value}\""),
        );
    }
    if m.starts_with("Invalid input syntax for type interval") {
        return SqlError::new(sqlstate::INVALID_DATETIME, lower_first(&first_line(m)));
    }
    let range = ["overflow", "out of range", "Can't cast value", "too large"];
    if range.iter().any(|r| m.contains(r)) {
        return SqlError::new(sqlstate::OUT_OF_RANGE, first_line(m));
    }
    SqlError::new(sqlstate::INVALID_TEXT, first_line(m))
}

/// Of a text that is no time: out of range if it is written as one.
fn unlike_time(text: &str) -> &'static str {
    let first = text.trim().split([' ', 'T']).next().unwrap_or_default();
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_date = first.split('-').count() == 3 && first.split('-').all(digits);
    let is_clock = first.contains(':') && first.split([':', '.']).all(digits);
    match is_date || is_clock {
        true => sqlstate::DATETIME_OVERFLOW,
        false => sqlstate::INVALID_DATETIME,
    }
}

fn lower_first(m: &str) -> String {
    let mut chars = m.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The Postgres name of a type as DataFusion prints it.
fn named(arrow: &str) -> &str {
    match arrow {
        "Int8" | "Int16" => "smallint",
        "Int32" => "integer",
        "Int64" => "bigint",
        "Float32" => "real",
        "Float64" => "double precision",
        "Boolean" => "boolean",
        "Date32" => "date",
        other if other.starts_with("Time64") => "time",
        other if other.starts_with("Decimal") => "numeric",
        other if other.starts_with("Timestamp") => "timestamp",
        other => other,
    }
}

fn schema(e: &SchemaError) -> SqlError {
    match e {
        SchemaError::FieldNotFound { field, valid_fields } => missing_column(field, valid_fields),
        SchemaError::AmbiguousReference { field } => ambiguous(&field.name),
        SchemaError::DuplicateQualifiedField { qualifier, .. } => SqlError::new(
            sqlstate::DUPLICATE_ALIAS,
            format!("table name \"{}\" specified more than once", qualifier.table()),
        ),
        SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::new("42701", format!("column name \"{name}\" appears more than once"))
                .with_hint("give one of them another name with AS")
        }
    }
}

fn ambiguous(name: &str) -> SqlError {
    let message = format!("column reference \"{name}\" is ambiguous");
    SqlError::new(sqlstate::AMBIGUOUS_COLUMN, message)
}

fn missing_column(field: &Column, valid: &[Column]) -> SqlError {
    let shown = match &field.relation {
        Some(relation) => format!("{}.{}", relation.table(), field.name),
        None => format!("\"{}\"", field.name),
    };
    if let Some(relation) = &field.relation {
        let is_there =
            |c: &Column| c.relation.as_ref().is_some_and(|r| r.table() == relation.table());
        if !valid.iter().any(is_there) {
            let message = format!("missing FROM-clause entry for table \"{}\"", relation.table());
            return SqlError::new(sqlstate::UNDEFINED_TABLE, message);
        }
    }
    let is_same = |c: &&Column| {
        let has_name = crate::statement::is_repeated(&c.name, &field.name);
        let relation = |c: &Column| c.relation.as_ref().map(|r| r.table().to_owned());
        has_name && (field.relation.is_none() || relation(c) == relation(field))
    };
    if valid.iter().any(|c| is_same(&c)) {
        return ambiguous(&field.name);
    }
    let error = SqlError::new(sqlstate::UNDEFINED_COLUMN, format!("column {shown} does not exist"));
    let same =
        valid.iter().find(|v| v.name != field.name && v.name.eq_ignore_ascii_case(&field.name));
    if let Some(same) = same.filter(|s| s.name.chars().any(char::is_uppercase)) {
        return error.with_hint(format!(
            "unquoted names are read in lower case: write \"{}\" with the quotes",
            same.name
        ));
    }
    match near(&field.name, valid.iter().map(|v| v.name.as_str())) {
        Some(near) => error.with_hint(format!("perhaps you meant the column \"{near}\"")),
        None => error,
    }
}

fn plan(m: &str) -> SqlError {
    let m = m.trim_start_matches("Error during planning: ");
    if let Some((name, _)) = m.strip_prefix("table '").and_then(|r| r.split_once("' not found")) {
        return missing_table(name);
    }
    if let Some((name, _)) =
        m.strip_prefix("table function '").and_then(|r| r.split_once("' not found"))
    {
        return missing_function(name);
    }
    if let Some((name, _)) = m.strip_prefix("Invalid function '").and_then(|r| r.split_once('\'')) {
        return missing_function(name);
    }
    if m.contains("Cannot coerce arithmetic expression Utf8 ") && m.contains(" Utf8 to valid") {
        let message = "operator is not unique: unknown and unknown";
        return SqlError::new(sqlstate::AMBIGUOUS_FUNCTION, message)
            .with_hint("a cast of one of the values says which operator is meant");
    }
    let unfit = ["No function matches", "Failed to coerce arguments", "does not support"];
    if unfit.iter().any(|u| m.contains(u)) {
        return SqlError::new(sqlstate::UNDEFINED_FUNCTION, unfit_message(m))
            .with_hint("no function or operator takes these types; add casts");
    }
    if m.contains("must appear in the GROUP BY clause") || m.contains("must be in GROUP BY") {
        return SqlError::new(sqlstate::GROUPING, grouping_message(m));
    }
    if let Some(e) = unmatched(m) {
        return e;
    }
    if m.contains("LIMIT must be >=") {
        return SqlError::new(sqlstate::INVALID_LIMIT, "LIMIT must not be negative");
    }
    if m.contains("OFFSET must be >=") {
        return SqlError::new(sqlstate::INVALID_OFFSET, "OFFSET must not be negative");
    }
    let known = PLANNED.iter().find(|(part, _)| m.contains(part));
    if let Some((_, state)) = known {
        return SqlError::new(state, first_line(m));
    }
    if m.contains("Projections require unique expression names") {
        return SqlError::new("42701", first_line(m))
            .with_hint("give one of them another name with AS");
    }
    if m.contains("No value found for placeholder") || m.contains("Invalid placeholder") {
        return SqlError::new(sqlstate::UNDEFINED_PARAMETER, first_line(m));
    }
    SqlError::new(sqlstate::SYNTAX, first_line(m))
}

/// What the planner refuses in words of its own, and the SQLSTATE with which Postgres does.
const PLANNED: [(&str, &str); 17] = [
    ("Aggregate functions are not allowed in", sqlstate::GROUPING),
    ("Aggregate function calls cannot", sqlstate::GROUPING),
    ("Cannot find column with position", sqlstate::INVALID_COLUMN),
    ("Order by column out of bounds", sqlstate::INVALID_COLUMN),
    ("For SELECT DISTINCT, ORDER BY", sqlstate::INVALID_COLUMN),
    ("SELECT DISTINCT ON expressions must match", sqlstate::INVALID_COLUMN),
    ("names given as column alias", sqlstate::INVALID_COLUMN),
    ("requires a boolean expression", sqlstate::DATATYPE_MISMATCH),
    ("with non-boolean predicate", sqlstate::DATATYPE_MISMATCH),
    ("Invalid window frame", sqlstate::WINDOWING),
    ("The window ", sqlstate::UNDEFINED_OBJECT),
    ("specified more than once", sqlstate::DUPLICATE_ALIAS),
    ("Unary operator '-' only supports", sqlstate::UNDEFINED_FUNCTION),
    ("Percentile value must be between", sqlstate::OUT_OF_RANGE),
    ("Expected LIMIT to be an integer", sqlstate::INVALID_TEXT),
    ("There is no built-in encoding", sqlstate::INVALID_PARAMETER),
    ("Duplicate range variable", sqlstate::DUPLICATE_ALIAS),
];

fn missing_table(name: &str) -> SqlError {
    let path = format!("{}.", crate::catalog::PATH_SCHEMA);
    // A name may hold dots itself: only what is known to stand before it is taken away.
    let name = match name.split_once(&path) {
        Some((_, unqualified)) => unqualified,
        None if name.split('.').count() == 3 => name.split_once('.').map_or(name, |(_, n)| n),
        None => name,
    };
    SqlError::new(sqlstate::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
}

/// Functions that stand over a window only.
const WINDOW: [&str; 11] = [
    "cume_dist",
    "dense_rank",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
];

fn missing_function(name: &str) -> SqlError {
    if WINDOW.contains(&name) {
        let message = format!("window function {name} requires an OVER clause");
        return SqlError::new(sqlstate::WRONG_OBJECT_TYPE, message);
    }
    SqlError::new(sqlstate::UNDEFINED_FUNCTION, format!("function {name}() does not exist"))
}

/// What is left of a long message about argument types.
fn unfit_message(m: &str) -> String {
    let call = m.split("given name and argument types '").nth(1).and_then(|r| r.split_once('\''));
    match call {
        Some((call, _)) => format!("function {call} does not exist"),
        None => first_line(m),
    }
}

fn grouping_message(m: &str) -> String {
    let column = m.split('"').nth(1);
    match column {
        Some(column) => format!(
            "column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"
        ),
        None => first_line(m),
    }
}

fn not_implemented(m: &str) -> SqlError {
    if let Some(rest) = m.strip_prefix("Unsupported SQL type ") {
        return SqlError::new(
            sqlstate::UNDEFINED_OBJECT,
            format!("type \"{}\" does not exist", rest.to_lowercase()),
        );
    }
    let subquery = ["ScalarSubquery(", "Exists(", "InSubquery(", "OuterReferenceColumn("];
    if subquery.iter().any(|s| m.contains(&format!("not support logical expression {s}"))) {
        return SqlError::unsupported("a subquery of this form is not supported here")
            .with_hint("a join, or a subquery in FROM, can often say the same");
    }
    if m.starts_with("Unsupported CAST from") {
        return SqlError::new(sqlstate::CANNOT_COERCE, cannot_cast(m));
    }
    if m.contains("does not support logical expression WindowFunction") {
        return SqlError::new(
            sqlstate::WINDOWING,
            "window functions are allowed in the list of results and in ORDER BY only",
        );
    }
    SqlError::unsupported(first_line(m))
}

/// `Unsupported CAST from Boolean to Date32` with the names of Postgres.
fn cannot_cast(m: &str) -> String {
    let types = m.strip_prefix("Unsupported CAST from ").and_then(|types| types.split_once(" to "));
    match types {
        Some((from, to)) => {
            format!("cannot cast type {from} to {to}")
        }
        None => first_line(m),
    }
}

fn execution(m: &str) -> SqlError {
    let state = [
        ("ivide by zero", sqlstate::DIVISION_BY_ZERO),
        ("square root of a negative number", "2201F"),
        ("zero raised to a negative power", "2201F"),
        ("factorial of a negative number", sqlstate::OUT_OF_RANGE),
        ("too large to store in a Decimal128", sqlstate::OUT_OF_RANGE),
        ("negative count not allowed", "22011"),
        ("Cannot access field at argument", sqlstate::UNDEFINED_TABLE),
        ("not found in struct", sqlstate::UNDEFINED_COLUMN),
        ("NTILE requires", "22014"),
        ("regex parse error", INVALID_REGEX),
        ("more than one row", sqlstate::CARDINALITY),
        ("Cannot cast string", sqlstate::INVALID_TEXT),
        ("Error parsing timestamp", sqlstate::INVALID_DATETIME),
        ("verflow", sqlstate::OUT_OF_RANGE),
        ("out of range", sqlstate::OUT_OF_RANGE),
        ("Placeholder", sqlstate::UNDEFINED_PARAMETER),
        ("Unsupported timezone", sqlstate::INVALID_PARAMETER),
        ("Invalid timezone", sqlstate::INVALID_PARAMETER),
    ];
    let found = state.iter().find(|(part, _)| m.contains(part)).map(|(_, state)| *state);
    match found {
        Some(sqlstate::DIVISION_BY_ZERO) => {
            SqlError::new(sqlstate::DIVISION_BY_ZERO, "division by zero")
        }
        Some(sqlstate::CARDINALITY) => SqlError::new(
            sqlstate::CARDINALITY,
            "more than one row returned by a subquery used as an expression",
        ),
        Some(sqlstate::INVALID_TEXT | sqlstate::INVALID_DATETIME) => cast(m),
        Some(state) => SqlError::new(state, first_line(m)),
        None => SqlError::new(sqlstate::INVALID_PARAMETER, first_line(m)),
    }
}

fn exhausted(m: &str) -> SqlError {
    if m.contains("disk") || m.contains("spill") && m.contains("exceeded") {
        return SqlError::new(sqlstate::DISK_FULL, "the space for spilled rows is used up")
            .with_detail(first_line(m));
    }
    let (what, _) = m.split_once(" with top memory consumers").unwrap_or((m, ""));
    SqlError::new(sqlstate::OUT_OF_MEMORY, "out of memory for queries")
        .with_detail(first_line(what))
        .with_hint(
            "narrow the query, or raise `memory` in the section [query] of the configuration",
        )
}

pub(super) fn first_line(m: &str) -> String {
    m.lines().next().unwrap_or_default().trim_end_matches('.').to_string()
}

/// The Postgres name of a type.
pub(crate) fn pg_type(data_type: &DataType) -> String {
    pg_names(data_type).0
}

/// The Postgres name of a field's type as the information schema spells it, and its internal name.
pub(crate) fn pg_field_type(field: &Field) -> (String, String) {
    match field.metadata().get(PG_TYPE_KEY) {
        Some(name) => (crate::catalog::sql_name(name).to_string(), name.clone()),
        None => pg_names(field.data_type()),
    }
}

fn pg_names(data_type: &DataType) -> (String, String) {
    let (name, udt) = match data_type {
        DataType::Null => ("unknown", "unknown"),
        DataType::Boolean => ("boolean", "bool"),
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => ("smallint", "int2"),
        DataType::UInt16 | DataType::Int32 => ("integer", "int4"),
        DataType::UInt32 => ("oid", "oid"),
        DataType::Int64 => ("bigint", "int8"),
        DataType::UInt64 | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            ("numeric", "numeric")
        }
        DataType::Float16 | DataType::Float32 => ("real", "float4"),
        DataType::Float64 => ("double precision", "float8"),
        DataType::Date32 | DataType::Date64 => ("date", "date"),
        DataType::Time32(_) | DataType::Time64(_) => ("time without time zone", "time"),
        DataType::Timestamp(_, None) => ("timestamp without time zone", "timestamp"),
        DataType::Timestamp(_, Some(_)) => ("timestamp with time zone", "timestamptz"),
        DataType::Interval(_) | DataType::Duration(_) => ("interval", "interval"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => ("bytea", "bytea"),
        DataType::List(item) | DataType::LargeList(item) => {
            return ("ARRAY".into(), format!("_{}", pg_field_type(item).1));
        }
        _ => ("text", "text"),
    };
    (name.to_string(), udt.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_like_those_of_postgres() {
        let check = |e: DataFusionError, state: &str, message: &str| {
            let e = SqlError::from(e);
            assert_eq!((e.sqlstate, e.message.as_str()), (state, message));
        };
        check(
            DataFusionError::Plan("table 'otus.$path.nope' not found".into()),
            "42P01",
            "relation \"nope\" does not exist",
        );
        check(
            DataFusionError::Plan("table 'otus.$path.a.b.nope' not found".into()),
            "42P01",
            "relation \"a.b.nope\" does not exist",
        );
        check(
            DataFusionError::Plan("table 'otus.sales.nope' not found".into()),
            "42P01",
            "relation \"sales.nope\" does not exist",
        );
        check(
            DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None),
            "22012",
            "division by zero",
        );
        check(
            DataFusionError::ArrowError(
                Box::new(ArrowError::CastError(
                    "Cannot cast string 'x' to value of Int64 type".into(),
                )),
                None,
            ),
            "22P02",
            "invalid input syntax for type bigint: \"x\"",
        );
        check(
            DataFusionError::Plan("Invalid function 'nope'.\nDid you mean 'note'?".into()),
            "42883",
            "function nope() does not exist",
        );
    }

    #[test]
    fn near_names_are_hinted() {
        let valid = [Column::new_unqualified("countryName"), Column::new_unqualified("added")];
        let e = missing_column(&Column::new_unqualified("countryname"), &valid);
        assert!(e.hint.unwrap().contains("\"countryName\""));
        let e = missing_column(&Column::new_unqualified("aded"), &valid);
        assert!(e.hint.unwrap().contains("\"added\""));
        assert!(missing_column(&Column::new_unqualified("zzz"), &valid).hint.is_none());
    }
}
