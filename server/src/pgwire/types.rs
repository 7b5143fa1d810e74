//! The Postgres type of a result column, and its line in RowDescription.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use arrow_pg::datatypes::field_into_pg_type;
use otus_engine::types::{ColumnType, PG_TYPE_KEY};
use pgwire::messages::data::{FieldDescription, RowDescription};
use tokio_postgres::types::{Kind, Type};

use super::frame::Format;

/// The type that clients are told.
pub(super) fn pg_type(field: &Field) -> Type {
    if let Some(marked) = field.metadata().get(PG_TYPE_KEY).and_then(|mark| marked(mark)) {
        return marked;
    }
    match field.data_type() {
        DataType::Null => Type::TEXT,
        DataType::UInt32 => Type::OID,
        // Ranks and row numbers are unsigned in the engine and bigint for everybody else.
        DataType::UInt64 => Type::INT8,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => {
            Type::NUMERIC
        }
        DataType::Struct(_) => Type::RECORD,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => array_of(item),
        _ => field_into_pg_type(&Arc::new(field.clone())).unwrap_or(Type::TEXT),
    }
}

/// The type of a mark.
fn marked(mark: &str) -> Option<Type> {
    let (name, _) = mark.split_once('(').unwrap_or((mark, ""));
    Some(match name {
        "uuid" => Type::UUID,
        "json" => Type::JSON,
        "jsonb" => Type::JSONB,
        "name" => Type::NAME,
        "bpchar" => Type::BPCHAR,
        "char" => Type::CHAR,
        "varchar" => Type::VARCHAR,
        "xid" => Type::XID,
        "inet" => Type::INET,
        "pg_lsn" => Type::PG_LSN,
        "pg_node_tree" => Type::PG_NODE_TREE,
        "aclitem" => Type::ACLITEM,
        "anyarray" => Type::ANYARRAY,
        "int2vector" => Type::INT2_VECTOR,
        "oidvector" => Type::OID_VECTOR,
        "regclass" => Type::REGCLASS,
        "regtype" => Type::REGTYPE,
        "regproc" => Type::REGPROC,
        "regprocedure" => Type::REGPROCEDURE,
        "regnamespace" => Type::REGNAMESPACE,
        "regrole" => Type::REGROLE,
        "regoper" => Type::REGOPER,
        "regoperator" => Type::REGOPERATOR,
        "regconfig" => Type::REGCONFIG,
        "regdictionary" => Type::REGDICTIONARY,
        "regcollation" => Type::REGCOLLATION,
        _ => return None,
    })
}

fn array_of(item: &FieldRef) -> Type {
    match pg_type(item) {
        // An array of arrays has the type of the innermost.
        array if matches!(array.kind(), Kind::Array(_)) => array,
        item => array_type(&item).unwrap_or(Type::TEXT_ARRAY),
    }
}

/// The array type over an element type.
fn array_type(item: &Type) -> Option<Type> {
    Some(match *item {
        Type::BOOL => Type::BOOL_ARRAY,
        Type::INT2 => Type::INT2_ARRAY,
        Type::INT4 => Type::INT4_ARRAY,
        Type::INT8 => Type::INT8_ARRAY,
        Type::FLOAT4 => Type::FLOAT4_ARRAY,
        Type::FLOAT8 => Type::FLOAT8_ARRAY,
        Type::NUMERIC => Type::NUMERIC_ARRAY,
        Type::TEXT => Type::TEXT_ARRAY,
        Type::CHAR => Type::CHAR_ARRAY,
        Type::OID => Type::OID_ARRAY,
        Type::NAME => Type::NAME_ARRAY,
        Type::VARCHAR => Type::VARCHAR_ARRAY,
        Type::BPCHAR => Type::BPCHAR_ARRAY,
        Type::ACLITEM => Type::ACLITEM_ARRAY,
        Type::REGCLASS => Type::REGCLASS_ARRAY,
        Type::REGTYPE => Type::REGTYPE_ARRAY,
        Type::REGPROC => Type::REGPROC_ARRAY,
        Type::REGPROCEDURE => Type::REGPROCEDURE_ARRAY,
        Type::REGNAMESPACE => Type::REGNAMESPACE_ARRAY,
        Type::REGROLE => Type::REGROLE_ARRAY,
        Type::REGOPER => Type::REGOPER_ARRAY,
        Type::REGOPERATOR => Type::REGOPERATOR_ARRAY,
        Type::REGCONFIG => Type::REGCONFIG_ARRAY,
        Type::REGDICTIONARY => Type::REGDICTIONARY_ARRAY,
        Type::REGCOLLATION => Type::REGCOLLATION_ARRAY,
        Type::INET => Type::INET_ARRAY,
        Type::XID => Type::XID_ARRAY,
        Type::PG_LSN => Type::PG_LSN_ARRAY,
        Type::UUID => Type::UUID_ARRAY,
        Type::JSON => Type::JSON_ARRAY,
        Type::JSONB => Type::JSONB_ARRAY,
        Type::DATE => Type::DATE_ARRAY,
        Type::TIME => Type::TIME_ARRAY,
        Type::TIMESTAMP => Type::TIMESTAMP_ARRAY,
        Type::TIMESTAMPTZ => Type::TIMESTAMPTZ_ARRAY,
        Type::INTERVAL => Type::INTERVAL_ARRAY,
        Type::BYTEA => Type::BYTEA_ARRAY,
        Type::RECORD => Type::RECORD_ARRAY,
        _ => return None,
    })
}

/// The Arrow type in which a parameter of this Postgres type reaches the planner. None for types that
/// say nothing (`unknown`) or that Otus does not have.
pub(super) fn parameter_type(pg: &Type) -> Option<DataType> {
    Some(match *pg {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 | Type::OID => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        // Scale and precision come with the value.
        Type::NUMERIC => DataType::Decimal128(38, 10),
        Type::TEXT
        | Type::VARCHAR
        | Type::BPCHAR
        | Type::NAME
        | Type::CHAR
        | Type::UUID
        | Type::JSON
        | Type::JSONB => DataType::Utf8View,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::INTERVAL => DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano),
        Type::BYTEA => DataType::BinaryView,
        _ => match pg.kind() {
            Kind::Array(item) => {
                DataType::List(Arc::new(Field::new("item", parameter_type(item)?, true)))
            }
            _ => return None,
        },
    })
}

/// The same with the Postgres name where Arrow's type does not tell it.
pub(super) fn parameter_field(pg: &Type) -> Option<FieldRef> {
    let named = match *pg {
        Type::UUID => Some(ColumnType::Uuid),
        Type::JSONB => Some(ColumnType::Jsonb),
        _ => None,
    };
    if let Some(column_type) = named {
        return Some(Arc::new(column_type.field("", true)));
    }
    let data_type = match pg.kind() {
        Kind::Array(item) => {
            let item = parameter_field(item)?.as_ref().clone().with_name("item");
            DataType::List(Arc::new(item))
        }
        _ => parameter_type(pg)?,
    };
    Some(Arc::new(Field::new("", data_type, true)))
}

/// A type's name as messages show it.
pub(super) fn type_name(pg: &Type) -> String {
    match *pg {
        Type::BOOL => "boolean".into(),
        Type::INT2 => "smallint".into(),
        Type::INT4 => "integer".into(),
        Type::INT8 => "bigint".into(),
        Type::FLOAT4 => "real".into(),
        Type::FLOAT8 => "double precision".into(),
        Type::TIMESTAMP => "timestamp without time zone".into(),
        Type::TIMESTAMPTZ => "timestamp with time zone".into(),
        Type::TIME => "time without time zone".into(),
        _ => match pg.kind() {
            Kind::Array(item) => format!("{}[]", type_name(item)),
            _ => pg.name().to_owned(),
        },
    }
}

/// The message that names the columns of an answer.
pub(super) fn row_description(schema: &Schema, formats: &[Format]) -> RowDescription {
    let line = |(index, field): (usize, &FieldRef)| {
        let pg = pg_type(field);
        FieldDescription::new(
            field.name().replace('\0', " "),
            0,
            0,
            pg.oid(),
            type_size(&pg),
            length_modifier(field).unwrap_or_else(|| type_modifier(field.data_type())),
            Format::of(formats, index).code(),
        )
    };
    RowDescription::new(schema.fields().iter().enumerate().map(line).collect())
}

/// Bytes of a fixed-size type, -1 for others.
fn type_size(pg: &Type) -> i16 {
    match *pg {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4
        | Type::FLOAT4
        | Type::DATE
        | Type::OID
        | Type::REGPROC
        | Type::REGPROCEDURE
        | Type::REGOPER
        | Type::REGOPERATOR
        | Type::REGCLASS
        | Type::REGTYPE
        | Type::REGNAMESPACE
        | Type::REGROLE
        | Type::REGCONFIG
        | Type::REGDICTIONARY
        | Type::REGCOLLATION => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::UUID | Type::INTERVAL => 16,
        Type::NAME => 64,
        _ => -1,
    }
}

/// The length of a text whose type has one, as Postgres tells it.
fn length_modifier(field: &Field) -> Option<i32> {
    let mark = field.metadata().get(PG_TYPE_KEY)?;
    let (name, length) = mark.strip_suffix(')')?.split_once('(')?;
    let has_length = matches!(name, "bpchar" | "varchar");
    has_length.then(|| length.parse::<i32>().ok()).flatten().map(|length| length + 4)
}

/// Precision and scale of a numeric, as Postgres packs them; -1 for all else.
fn type_modifier(data_type: &DataType) -> i32 {
    match data_type {
        // The widest decimals are results of sums, which have no declared precision.
        DataType::Decimal128(precision, scale) if *precision < 38 => {
            ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + 4
        }
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_have_their_postgres_names() {
        for (name, pg, size, modifier) in [
            ("boolean", Type::BOOL, 1, -1),
            ("smallint", Type::INT2, 2, -1),
            ("integer", Type::INT4, 4, -1),
            ("bigint", Type::INT8, 8, -1),
            ("real", Type::FLOAT4, 4, -1),
            ("double precision", Type::FLOAT8, 8, -1),
            ("numeric(12,2)", Type::NUMERIC, -1, 786_438),
            ("text", Type::TEXT, -1, -1),
            ("uuid", Type::UUID, 16, -1),
            ("jsonb", Type::JSONB, -1, -1),
            ("date", Type::DATE, 4, -1),
            ("timestamp", Type::TIMESTAMP, 8, -1),
            ("timestamptz", Type::TIMESTAMPTZ, 8, -1),
            ("bytea", Type::BYTEA, -1, -1),
            ("uuid[]", Type::UUID_ARRAY, -1, -1),
            ("bigint[]", Type::INT8_ARRAY, -1, -1),
            ("numeric(5,1)[]", Type::NUMERIC_ARRAY, -1, -1),
        ] {
            let field = name.parse::<ColumnType>().unwrap().field("c", true);
            assert_eq!(pg_type(&field), pg, "{name}");
            let schema = Schema::new(vec![field]);
            let line = &row_description(&schema, &[Format::Binary]).fields[0];
            assert_eq!(
                (line.type_id, line.type_size, line.type_modifier, line.format_code),
                (pg.oid(), size, modifier, 1),
                "{name}"
            );
        }
    }
}
