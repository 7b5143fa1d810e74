//! Keys: what a lookup asks for, and the column of a block that holds them.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringViewArray};
use arrow::datatypes::Int64Type;

use crate::error::{Error, Result};
use crate::types::ColumnType;

/// The value of a key column. Texts, uuids (canonical) and documents (compact) are text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// Of a bigint key.
    Int(i64),
    /// Of every other key.
    Text(String),
}

impl Key {
    /// Whether columns of this type can be keys.
    pub fn is_key_type(column_type: &ColumnType) -> bool {
        use ColumnType::{BigInt, Jsonb, Text, Uuid};
        matches!(column_type, BigInt | Text | Uuid | Jsonb)
    }

    pub(super) fn hash64(&self) -> u64 {
        match self {
            Self::Int(value) => hash_int(*value),
            Self::Text(text) => hash_text(text),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

fn hash_int(value: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn hash_text(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The key column of some rows.
#[derive(Debug, Clone)]
pub(super) enum KeyColumn {
    Int(Int64Array),
    Text(StringViewArray),
}

impl KeyColumn {
    pub(super) fn of(column: &ArrayRef) -> Result<Self> {
        if column.null_count() > 0 {
            return Err(Error::internal("a row of a keyed table has no key"));
        }
        if let Some(ints) = column.as_primitive_opt::<Int64Type>() {
            return Ok(Self::Int(ints.clone()));
        }
        match column.as_string_view_opt() {
            Some(text) => Ok(Self::Text(text.clone())),
            None => Err(Error::internal(format!("a key has type {}", column.data_type()))),
        }
    }

    pub(super) fn hash(&self, row: usize) -> u64 {
        match self {
            Self::Int(ints) => hash_int(ints.value(row)),
            Self::Text(texts) => hash_text(texts.value(row)),
        }
    }

    pub(super) fn get(&self, row: usize) -> Key {
        match self {
            Self::Int(ints) => Key::Int(ints.value(row)),
            Self::Text(texts) => Key::Text(texts.value(row).to_string()),
        }
    }

    pub(super) fn holds(&self, row: usize, key: &Key) -> bool {
        match (self, key) {
            (Self::Int(ints), Key::Int(key)) => ints.value(row) == *key,
            (Self::Text(texts), Key::Text(key)) => texts.value(row) == key,
            _ => false,
        }
    }

    /// Whether the keys of two rows are equal.
    pub(super) fn same(&self, row: usize, other: &Self, other_row: usize) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.value(row) == b.value(other_row),
            (Self::Text(a), Self::Text(b)) => a.value(row) == b.value(other_row),
            _ => false,
        }
    }
}
