//! Operands that do not fit together, told from the messages of the planner.

use super::planner::first_line;
use super::{SqlError, sqlstate};

/// Operands of which no type can be found in common, in the words of Postgres.
pub(super) fn unmatched(m: &str) -> Option<SqlError> {
    let between = |before: &str, after: &str| {
        let (_, rest) = m.split_once(before)?;
        Some(rest.split_once(after).map_or(rest, |(operands, _)| operands).to_string())
    };
    let pair = |before: &str, and: &str, after: &str, op: &str| {
        let operands = between(before, after)?;
        let (left, right) = operands.split_once(and)?;
        Some(format!("{left} {op} {right}"))
    };
    let operands = between("Cannot coerce arithmetic expression ", " to valid types")
        .or_else(|| between("Cannot infer common argument type for comparison operation ", "\n"))
        .or_else(|| between("Cannot get result type for temporal operation ", ": "))
        .or_else(|| pair("Failed to coerce types ", " and ", " in BETWEEN expression", ">="))
        .or_else(|| pair("a common type to coerce ", " and ", " in LIKE expression", "~~"));
    if operands.is_some() || m.contains("Cannot infer common") || m.contains("Cannot coerce") {
        let operands = operands.unwrap_or_else(|| first_line(m));
        let message = format!("operator does not exist: {}", operands.trim());
        return Some(
            SqlError::new(sqlstate::UNDEFINED_FUNCTION, message)
                .with_hint("no operator takes these types; add casts"),
        );
    }
    let matched = between("Failed to coerce then (", ") to common types").and_then(|types| {
        let (then, other) = types.split_once(") and else (")?;
        Some(format!("CASE types {other} and {then} cannot be matched"))
    });
    let matched = matched.or_else(|| {
        let types = between("Previous inputs were of type ", " on column")?;
        let (first, other) = types.split_once(", but got incompatible type ")?;
        Some(format!("UNION types {first} and {other} cannot be matched"))
    });
    let matched = matched.or_else(|| {
        let given = between("requires a boolean expression, got ", "\n")?;
        m.contains("'NOT'")
            .then(|| format!("argument of NOT must be type boolean, not type {}", given.trim()))
    });
    matched.map(|message| SqlError::new(sqlstate::DATATYPE_MISMATCH, message))
}
