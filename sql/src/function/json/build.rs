//! JSON out of values: `to_json(value)`, `row_to_json(record)`, `array_to_json(array)`, `json_build_object(key, value, …)`,
//! `json_build_array(value, …)`, also with jsonb; and the parts of which `json_agg` and `json_object_agg` are made.

use std::sync::Arc;

use arrow::array::StringViewBuilder;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};

use super::marked;
use super::shown::Values;
use super::value::{Json, Style, write_string};
use crate::error::{SqlError, SqlResult, sqlstate};

/// What a function makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Makes {
    Object,
    Array,
    /// Of one value.
    Value,
    /// Of a record, perhaps on several lines.
    Record,
    /// Of an array, perhaps on several lines.
    List,
    /// An element of what `json_agg` makes.
    Element,
    /// A member of what `json_object_agg` makes, of key and value.
    Member,
    /// The array of a list of elements.
    OfElements,
    /// The object of a list of members.
    OfMembers,
}

/// Name, what it makes, whether that is jsonb.
const FUNCTIONS: [(&str, Makes, bool); 15] = [
    ("json_build_array", Makes::Array, false),
    ("json_build_object", Makes::Object, false),
    ("jsonb_build_array", Makes::Array, true),
    ("jsonb_build_object", Makes::Object, true),
    ("to_json", Makes::Value, false),
    ("to_jsonb", Makes::Value, true),
    ("row_to_json", Makes::Record, false),
    ("array_to_json", Makes::List, false),
    ("otus_json_element", Makes::Element, false),
    ("otus_json_member", Makes::Member, false),
    ("otus_jsonb_member", Makes::Member, false),
    ("otus_json_of_elements", Makes::OfElements, false),
    ("otus_jsonb_of_elements", Makes::OfElements, true),
    ("otus_json_of_members", Makes::OfMembers, false),
    ("otus_jsonb_of_members", Makes::OfMembers, true),
];

/// All of them.
pub(super) fn all() -> impl Iterator<Item = ScalarUDF> {
    FUNCTIONS.iter().map(|(name, makes, is_binary)| {
        let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        let signature = Signature::one_of(any, Volatility::Stable);
        let (makes, is_binary) = (*makes, *is_binary);
        ScalarUDF::from(Build { name, makes, is_binary, signature })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Build {
    name: &'static str,
    makes: Makes,
    is_binary: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Build {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        let fits = match (self.makes, types) {
            (Makes::Object | Makes::Array, _) => true,
            (Makes::Member, [_, _]) | (Makes::Value | Makes::Element, [_]) => true,
            (Makes::Record, [given] | [given, DataType::Boolean]) => {
                matches!(given, DataType::Struct(_))
            }
            (Makes::List, [given] | [given, DataType::Boolean]) => {
                matches!(given, DataType::List(_) | DataType::LargeList(_))
            }
            (Makes::OfElements | Makes::OfMembers, [given]) => {
                matches!(given, DataType::List(_) | DataType::Null)
            }
            _ => false,
        };
        if fits {
            Ok(DataType::Utf8View)
        } else {
            Err(crate::aggregate::no_such_function(self.name, types))
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let is_known = matches!(self.makes, Makes::Object | Makes::Array);
        let field = Field::new(self.name, self.return_type(&types)?, !is_known);
        Ok(marked(field, self.is_binary))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if self.makes == Makes::Object && !args.args.len().is_multiple_of(2) {
            let message = "argument list must have even number of elements";
            return Err(SqlError::new(sqlstate::INVALID_PARAMETER, message)
                .with_hint(format!("the arguments of {}() are keys and values by turns", self.name))
                .into());
        }
        let zone = args.config_options.execution.time_zone.as_deref();
        let parts = args.args.iter().zip(&args.arg_fields).map(|(value, field)| {
            let array = value.to_array(args.number_rows)?;
            Values::new(field, &array, zone)
        });
        let parts = parts.collect::<DfResult<Vec<_>>>()?;
        let mut built = StringViewBuilder::new();
        for row in 0..args.number_rows {
            let mut text = String::new();
            if !self.write(&parts, row, &mut text)? {
                built.append_null();
            } else if self.is_binary {
                built.append_value(Json::parse(&text)?.text(Style::Jsonb));
            } else {
                built.append_value(text);
            }
        }
        super::super::answer(&args, Arc::new(built.finish()))
    }
}

impl Build {
    /// Writes one row; false if it is null.
    fn write(&self, parts: &[Values], row: usize, out: &mut String) -> SqlResult<bool> {
        match (self.makes, parts) {
            (Makes::Object, _) => self.object(parts, row, out)?,
            (Makes::Array, _) => {
                out.push('[');
                for (i, part) in parts.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    part.write(row, out)?;
                }
                out.push(']');
            }
            (Makes::Element, [value]) => {
                // Arrays and records stand on lines of their own.
                out.push_str(if value.is_nested() && !value.is_null(row) { "\n " } else { "" });
                value.write(row, out)?;
            }
            (Makes::Member, [key, value]) => {
                write_key(key, row, out)?;
                out.push_str(" : ");
                value.write(row, out)?;
            }
            (_, [value, ..]) if value.is_null(row) => return Ok(false),
            (Makes::OfElements, [list]) => {
                let elements = list.texts(row);
                let all = elements.join(", ");
                out.push('[');
                out.push_str(all.strip_prefix("\n ").unwrap_or(&all));
                out.push(']');
            }
            (Makes::OfMembers, [list]) => {
                let members = list.texts(row);
                out.push_str("{ ");
                out.push_str(&members.join(", "));
                out.push_str(" }");
            }
            (_, [value]) => value.write(row, out)?,
            (_, [value, lines]) => value.write_lines(row, lines.flag(row), out)?,
            _ => return Err(SqlError::internal("JSON of no value")),
        }
        Ok(true)
    }

    fn object(&self, parts: &[Values], row: usize, out: &mut String) -> SqlResult<()> {
        out.push('{');
        for (i, pair) in parts.chunks_exact(2).enumerate() {
            let [key, value] = pair else { continue };
            out.push_str(if i > 0 { ", " } else { "" });
            if key.is_null(row) {
                let message = format!("argument {}: key must not be null", 2 * i + 1);
                return Err(SqlError::new(sqlstate::INVALID_PARAMETER, message));
            }
            write_key(key, row, out)?;
            out.push_str(" : ");
            value.write(row, out)?;
        }
        out.push('}');
        Ok(())
    }
}

fn write_key(key: &Values, row: usize, out: &mut String) -> SqlResult<()> {
    if key.is_null(row) {
        return Err(SqlError::new(sqlstate::INVALID_PARAMETER, "field name must not be null"));
    }
    if key.is_nested() {
        let message = "key value must be scalar, not array, composite, or json";
        return Err(SqlError::new(sqlstate::INVALID_PARAMETER, message));
    }
    let mut text = String::new();
    key.write(row, &mut text)?;
    match text.starts_with('"') {
        true => out.push_str(&text),
        false => write_string(&text, out),
    }
    Ok(())
}

/// The object of keys and values that are texts: by turns in one list, or in two.
pub(super) fn object_of_texts(lists: &[Vec<Option<String>>]) -> SqlResult<String> {
    let invalid = |message: &str| SqlError::new(sqlstate::ARRAY_SUBSCRIPT, message);
    let pairs: Vec<(&Option<String>, &Option<String>)> = match lists {
        [both] => {
            if !both.len().is_multiple_of(2) {
                return Err(invalid("array must have even number of elements"));
            }
            both.chunks_exact(2).filter_map(|pair| pair.first().zip(pair.last())).collect()
        }
        [keys, values] => {
            if keys.len() != values.len() {
                return Err(invalid("mismatched array dimensions"));
            }
            keys.iter().zip(values).collect()
        }
        _ => return Err(SqlError::internal("an object of no lists")),
    };
    let mut out = String::from("{");
    for (i, (key, value)) in pairs.into_iter().enumerate() {
        let Some(key) = key else {
            let message = "null value not allowed for object key";
            return Err(SqlError::new(sqlstate::NULL_NOT_ALLOWED, message));
        };
        out.push_str(if i > 0 { ", " } else { "" });
        write_string(key, &mut out);
        out.push_str(" : ");
        match value {
            Some(value) => write_string(value, &mut out),
            None => out.push_str("null"),
        }
    }
    out.push('}');
    Ok(out)
}
