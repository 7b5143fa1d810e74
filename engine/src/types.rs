//! Column types: Postgres names outside, Arrow inside, plain Parquet on disk.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// Field metadata key that keeps the Postgres type's name where Arrow has no type of its own (uuid, jsonb).
pub const PG_TYPE_KEY: &str = "otus.type";

/// The type of a declared column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// `boolean`
    Boolean,
    /// `smallint`, 16 bits
    SmallInt,
    /// `integer`, 32 bits
    Integer,
    /// `bigint`, 64 bits
    BigInt,
    /// `real`, 32 bits
    Real,
    /// `double precision`, 64 bits
    Double,
    /// `numeric(p,s)`, up to 38 digits
    Numeric {
        /// Total digits, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
    /// `text`
    Text,
    /// `uuid`, canonical lower-case text in Arrow
    Uuid,
    /// `date`
    Date,
    /// `timestamp`, microseconds without zone
    Timestamp,
    /// `timestamptz`, microseconds UTC
    Timestamptz,
    /// `bytea`
    Bytea,
    /// `jsonb`, compact JSON text in Arrow
    Jsonb,
    /// An array of a scalar type.
    Array(Box<ColumnType>),
}

impl ColumnType {
    /// The Arrow type in memory. Text is a view type in memory; on disk it is a plain string.
    pub fn arrow(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::SmallInt => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Real => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Numeric { precision, scale } => {
                DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(0))
            }
            Self::Text | Self::Uuid | Self::Jsonb => DataType::Utf8View,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Bytea => DataType::BinaryView,
            Self::Array(item) => DataType::List(Arc::new(item.field("item", true))),
        }
    }

    /// A field of this type, with the Postgres name in its metadata where Arrow cannot tell.
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow(), nullable);
        match self {
            Self::Uuid | Self::Jsonb => field
                .with_metadata([(PG_TYPE_KEY.to_string(), self.to_string())].into_iter().collect()),
            _ => field,
        }
    }

    /// Floats may not be dimensions of a rollup.
    pub fn is_float(&self) -> bool {
        matches!(self, Self::Real | Self::Double)
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::SmallInt => f.write_str("smallint"),
            Self::Integer => f.write_str("integer"),
            Self::BigInt => f.write_str("bigint"),
            Self::Real => f.write_str("real"),
            Self::Double => f.write_str("double precision"),
            Self::Numeric { precision, scale } => write!(f, "numeric({precision},{scale})"),
            Self::Text => f.write_str("text"),
            Self::Uuid => f.write_str("uuid"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Timestamptz => f.write_str("timestamptz"),
            Self::Bytea => f.write_str("bytea"),
            Self::Jsonb => f.write_str("jsonb"),
            Self::Array(item) => write!(f, "{item}[]"),
        }
    }
}

impl FromStr for ColumnType {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let text = s.trim().to_ascii_lowercase();
        if let Some(item) = text.strip_suffix("[]") {
            let item: Self = item.parse()?;
            if matches!(item, Self::Array(_)) {
                return Err(Error::invalid(format!("column type {s:?} is an array of arrays"))
                    .with_hint("declare it as jsonb"));
            }
            return Ok(Self::Array(Box::new(item)));
        }
        Ok(match text.as_str() {
            "boolean" | "bool" => Self::Boolean,
            "smallint" | "int2" => Self::SmallInt,
            "integer" | "int" | "int4" => Self::Integer,
            "bigint" | "int8" => Self::BigInt,
            "real" | "float4" => Self::Real,
            "double precision" | "double" | "float8" => Self::Double,
            "text" | "varchar" => Self::Text,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "timestamp" | "timestamp without time zone" => Self::Timestamp,
            "timestamptz" | "timestamp with time zone" => Self::Timestamptz,
            "bytea" => Self::Bytea,
            "jsonb" | "json" => Self::Jsonb,
            _ => return parse_numeric(s, &text),
        })
    }
}

fn parse_numeric(original: &str, text: &str) -> Result<ColumnType> {
    let unknown = || {
        Error::invalid(format!("unknown column type {original:?}")).with_hint(
            "one of boolean, smallint, integer, bigint, real, double precision, numeric(p,s), text, \
             uuid, date, timestamp, timestamptz, bytea, jsonb, or one of these with []",
        )
    };
    let inner = text
        .strip_prefix("numeric")
        .or_else(|| text.strip_prefix("decimal"))
        .map(str::trim)
        .and_then(|t| t.strip_prefix('('))
        .and_then(|t| t.strip_suffix(')'))
        .ok_or_else(unknown)?;
    let mut parts = inner.split(',').map(|p| p.trim().parse::<u8>());
    let precision = parts.next().and_then(std::result::Result::ok).ok_or_else(unknown)?;
    let scale = match parts.next() {
        Some(scale) => scale.map_err(|_| unknown())?,
        None => 0,
    };
    if parts.next().is_some() || !(1..=38).contains(&precision) || scale > precision {
        return Err(Error::invalid(format!("column type {original:?} is out of range"))
            .with_hint("numeric(p,s) needs 1 <= p <= 38 and s <= p"));
    }
    Ok(ColumnType::Numeric { precision, scale })
}

impl Serialize for ColumnType {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(|e: Error| match e.hint() {
            Some(hint) => serde::de::Error::custom(format!("{e} ({hint})")),
            None => serde::de::Error::custom(e),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in [
            "boolean",
            "smallint",
            "integer",
            "bigint",
            "real",
            "double precision",
            "numeric(12,2)",
            "text",
            "uuid",
            "date",
            "timestamp",
            "timestamptz",
            "bytea",
            "jsonb",
            "text[]",
        ] {
            assert_eq!(name.parse::<ColumnType>().unwrap().to_string(), name);
        }
        for bad in ["numeric", "numeric(39,0)", "numeric(2,3)", "int[][]", "float16"] {
            assert!(bad.parse::<ColumnType>().is_err(), "{bad}");
        }
    }
}
