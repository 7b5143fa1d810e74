//! JSON operators and functions of Postgres on jsonb columns, which are compact text here: `->`, `->>`, `#>`,
//! `#>>`, `@>`, `<@`, `?`, `?|`, `?&` and the functions behind them.

mod arguments;
mod build;
mod edit;
mod functions;
mod normal;
mod operators;
mod path;
mod shown;
mod value;
mod values;
mod walk;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Int32Builder, ListBuilder, StringViewBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::json_field;
use crate::error::{SqlError, SqlResult, sqlstate};
use arguments::Arguments;
pub use normal::jsonb_text;
pub(super) use operators::Operators;
pub(crate) use operators::Subscripts;
use otus_engine::types::PG_TYPE_KEY;
pub(crate) use values::JsonbValues;
use walk::Kind;

/// What a function does with its first argument, a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Does {
    /// `->`: a member by key or an element by index.
    Get,
    /// `->>`: its text.
    GetText,
    /// `#>`: the part at a path, which is one array or several texts.
    Path,
    /// `#>>`: its text.
    PathText,
    /// `@>`
    Contains,
    /// `<@`
    Contained,
    /// `?`
    Exists,
    /// `?|`
    ExistsAny,
    /// `?&`
    ExistsAll,
    Length,
    TypeOf,
    Keys,
    Elements,
    ElementTexts,
}

/// The names for jsonb and for json.
const FUNCTIONS: [(&str, Option<&str>, Does); 14] = [
    ("jsonb_get", Some("json_get"), Does::Get),
    ("jsonb_get_text", Some("json_get_text"), Does::GetText),
    ("jsonb_extract_path", Some("json_extract_path"), Does::Path),
    ("jsonb_extract_path_text", Some("json_extract_path_text"), Does::PathText),
    ("jsonb_contains", None, Does::Contains),
    ("jsonb_contained", None, Does::Contained),
    ("jsonb_exists", None, Does::Exists),
    ("jsonb_exists_any", None, Does::ExistsAny),
    ("jsonb_exists_all", None, Does::ExistsAll),
    ("jsonb_array_length", Some("json_array_length"), Does::Length),
    ("jsonb_typeof", Some("json_typeof"), Does::TypeOf),
    ("jsonb_object_keys", Some("json_object_keys"), Does::Keys),
    ("jsonb_array_elements", Some("json_array_elements"), Does::Elements),
    ("jsonb_array_elements_text", Some("json_array_elements_text"), Does::ElementTexts),
];

/// Name of the function from a jsonb to its text.
const TEXT_OF: &str = "otus_jsonb_text";
/// Name of the function that gives the same jsonb for all that are equal.
const EQUAL: &str = "otus_jsonb_equal";
/// Name of the function from a jsonb to bytes in the same order.
const KEY: &str = "otus_jsonb_key";

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    let own = FUNCTIONS.iter().flat_map(|(binary, plain, does)| {
        let plain = plain.map(|name| JsonFunction::new(name, true, *does));
        std::iter::once(JsonFunction::new(binary, false, *does)).chain(plain)
    });
    own.map(ScalarUDF::from).chain(build::all()).chain(functions::all()).collect()
}

/// The function behind an operator.
fn function(does: Does) -> Option<ScalarUDF> {
    let known = FUNCTIONS.iter().find(|(_, _, d)| *d == does);
    known.map(|(name, _, does)| ScalarUDF::from(JsonFunction::new(name, false, *does)))
}

/// A field of type jsonb or json.
fn marked(field: Field, is_binary: bool) -> FieldRef {
    if is_binary {
        return json_field(field);
    }
    let mark = [(PG_TYPE_KEY.to_string(), "json".to_string())];
    Arc::new(field.with_metadata(mark.into()))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    name: &'static str,
    /// Whether it is of json, not of jsonb.
    is_plain: bool,
    does: Does,
    signature: Signature,
}

impl JsonFunction {
    fn new(name: &'static str, is_plain: bool, does: Does) -> Self {
        Self { name, is_plain, does, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// Whether arguments with these fields are json.
    fn is_plain(&self, fields: &[FieldRef]) -> bool {
        let mark = fields.first().and_then(|field| field.metadata().get(PG_TYPE_KEY));
        self.is_plain || mark.is_some_and(|mark| mark == "json")
    }

    /// Elements of a list that the function gives.
    fn item(&self, is_plain: bool) -> FieldRef {
        let item = Field::new_list_field(DataType::Utf8View, true);
        if self.does == Does::Elements { marked(item, !is_plain) } else { Arc::new(item) }
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

fn is_texts(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_text(item.data_type())
        }
        _ => false,
    }
}

/// An array of texts.
fn texts() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true)))
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let wrong = || crate::aggregate::no_such_function(self.name, types);
        let [json, rest @ ..] = types else { return Err(wrong()) };
        if !is_text(json) {
            return Err(wrong());
        }
        let mut taken = vec![DataType::Utf8View];
        match (self.does, rest) {
            (Does::Get | Does::GetText, [key]) if is_text(key) => taken.push(DataType::Utf8View),
            (Does::Get | Does::GetText, [index]) if index.is_integer() => {
                taken.push(DataType::Int64);
            }
            (Does::Path | Does::PathText | Does::ExistsAny | Does::ExistsAll, [list])
                if is_texts(list) =>
            {
                taken.push(texts());
            }
            (Does::Path | Does::PathText, [_, ..]) if rest.iter().all(is_text) => {
                taken.extend(rest.iter().map(|_| DataType::Utf8View));
            }
            (Does::Contains | Does::Contained | Does::Exists, [other]) if is_text(other) => {
                taken.push(DataType::Utf8View);
            }
            (
                Does::Length | Does::TypeOf | Does::Keys | Does::Elements | Does::ElementTexts,
                [],
            ) => {}
            _ => return Err(wrong()),
        }
        Ok(taken)
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(match self.does {
            Does::Get | Does::Path | Does::GetText | Does::PathText | Does::TypeOf => {
                DataType::Utf8View
            }
            Does::Contains | Does::Contained => DataType::Boolean,
            Does::Exists | Does::ExistsAny | Does::ExistsAll => DataType::Boolean,
            Does::Length => DataType::Int32,
            Does::Keys | Does::Elements | Does::ElementTexts => {
                DataType::List(self.item(self.is_plain))
            }
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let is_plain = self.is_plain(args.arg_fields);
        Ok(match self.does {
            Does::Get | Does::Path => {
                marked(Field::new(self.name, DataType::Utf8View, true), !is_plain)
            }
            Does::Elements => {
                Arc::new(Field::new(self.name, DataType::List(self.item(is_plain)), true))
            }
            _ => Arc::new(Field::new(self.name, self.return_type(&[])?, true)),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arguments = Arguments::of(&args)?;
        let is_plain = self.is_plain(&args.arg_fields);
        let array = match self.does {
            Does::Get | Does::Path | Does::GetText | Does::PathText | Does::TypeOf => {
                self.parts(&arguments, is_plain)
            }
            Does::Length => self.lengths(&arguments),
            Does::Keys | Does::Elements | Does::ElementTexts => self.lists(&arguments, is_plain),
            _ => self.tests(&arguments),
        };
        arguments.answer(array?)
    }
}

impl JsonFunction {
    fn parts(&self, arguments: &Arguments, is_plain: bool) -> SqlResult<ArrayRef> {
        let mut parts = StringViewBuilder::with_capacity(arguments.rows());
        for row in 0..arguments.rows() {
            let Some(json) = arguments.text(0, row) else {
                parts.append_null();
                continue;
            };
            let part = match self.does {
                Does::TypeOf => {
                    parts.append_value(walk::value_kind(json)?.name());
                    continue;
                }
                Does::Get | Does::GetText => {
                    match (arguments.text(1, row), arguments.index(1, row)) {
                        (Some(key), _) => walk::member(json, key)?,
                        (_, Some(index)) => walk::element(json, index)?,
                        _ => None,
                    }
                }
                _ => match arguments.path(1, row)? {
                    Some(path) => walk::at_path(json, &path)?,
                    None => None,
                },
            };
            match (part, self.does) {
                (None, _) => parts.append_null(),
                (Some(part), Does::Get | Does::Path) => parts.append_value(part),
                (Some(part), _) => parts.append_option(text_of(part, is_plain)?),
            }
        }
        Ok(Arc::new(parts.finish()))
    }

    fn tests(&self, arguments: &Arguments) -> SqlResult<ArrayRef> {
        let mut tests = BooleanBuilder::with_capacity(arguments.rows());
        let mut known = Constant::default();
        for row in 0..arguments.rows() {
            let Some(json) = arguments.text(0, row) else {
                tests.append_null();
                continue;
            };
            let passes = match (self.does, arguments.text(1, row)) {
                (Does::ExistsAny | Does::ExistsAll, _) => match arguments.path(1, row)? {
                    None => None,
                    Some(keys) => {
                        let mut has = keys.iter().map(|key| exists(json, key));
                        Some(match self.does {
                            Does::ExistsAny => {
                                has.try_fold(false, |any, has| Ok::<_, SqlError>(any | has?))?
                            }
                            _ => has.try_fold(true, |all, has| Ok::<_, SqlError>(all & has?))?,
                        })
                    }
                },
                (_, None) => None,
                (Does::Exists, Some(key)) => Some(exists(json, key)?),
                (Does::Contained, Some(other)) => {
                    Some(walk::contains(&walk::value(other)?, &walk::value(json)?))
                }
                (_, Some(other)) => Some(walk::contains(&walk::value(json)?, known.value(other)?)),
            };
            tests.append_option(passes);
        }
        Ok(Arc::new(tests.finish()))
    }

    fn lengths(&self, arguments: &Arguments) -> SqlResult<ArrayRef> {
        let mut lengths = Int32Builder::with_capacity(arguments.rows());
        for row in 0..arguments.rows() {
            let length = match arguments.text(0, row) {
                None => None,
                Some(json) => match walk::length(json)? {
                    Some(length) => Some(i32::try_from(length).unwrap_or(i32::MAX)),
                    None => return Err(self.no(json, "get array length of")),
                },
            };
            lengths.append_option(length);
        }
        Ok(Arc::new(lengths.finish()))
    }

    fn lists(&self, arguments: &Arguments, is_plain: bool) -> SqlResult<ArrayRef> {
        let item = self.item(is_plain);
        let mut lists = ListBuilder::new(StringViewBuilder::new()).with_field(item);
        for row in 0..arguments.rows() {
            let Some(json) = arguments.text(0, row) else {
                lists.append_null();
                continue;
            };
            if self.does == Does::Keys {
                let mut keys = walk::keys(json)?.ok_or_else(|| self.no(json, "get keys of"))?;
                if !is_plain {
                    keys.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
                }
                keys.into_iter().for_each(|key| lists.values().append_value(key));
            } else {
                let elements = walk::elements(json)?;
                let elements = elements.ok_or_else(|| self.no(json, "get elements of"))?;
                for element in elements {
                    match self.does {
                        Does::Elements => lists.values().append_value(element),
                        _ => lists.values().append_option(text_of(element, is_plain)?),
                    }
                }
            }
            lists.append(true);
        }
        Ok(Arc::new(lists.finish()))
    }

    fn no(&self, json: &str, what: &str) -> SqlError {
        let kind = match Kind::of(json) {
            Kind::Object => "an object",
            Kind::Array => "an array",
            _ => "a scalar",
        };
        SqlError::new(sqlstate::INVALID_PARAMETER, format!("cannot {what} {kind}")).with_hint(
            format!("{}() was given it; jsonb_typeof() tells what a value is", self.name),
        )
    }
}

/// What `->>` says of a part: of json as it is written, of jsonb as that is shown.
fn text_of(part: &str, is_plain: bool) -> SqlResult<Option<Cow<'_, str>>> {
    let is_shown_otherwise = match Kind::of(part) {
        Kind::Object | Kind::Array => true,
        Kind::Number => part.contains(['e', 'E']) || part.starts_with("-0"),
        _ => false,
    };
    if is_plain || !is_shown_otherwise {
        return walk::text(part);
    }
    Ok(value::Json::parse(part)?.into_text().map(Cow::Owned))
}

/// The value of a text that is mostly the same in all rows.
#[derive(Default)]
struct Constant(Option<(String, serde_json::Value)>);

impl Constant {
    fn value(&mut self, json: &str) -> SqlResult<&serde_json::Value> {
        if self.0.as_ref().is_none_or(|(known, _)| known != json) {
            self.0 = Some((json.to_string(), walk::value(json)?));
        }
        match &self.0 {
            Some((_, value)) => Ok(value),
            None => Err(SqlError::internal("a constant was lost")),
        }
    }
}

/// Whether a text is a key of an object or an element of an array.
fn exists(json: &str, key: &str) -> SqlResult<bool> {
    let is = |part: &str| -> SqlResult<bool> {
        let same = Kind::of(part) == Kind::String;
        Ok(same && walk::text(part)?.is_some_and(|text: Cow<'_, str>| text == key))
    };
    match Kind::of(json) {
        Kind::Object => Ok(walk::member(json, key)?.is_some()),
        Kind::Array => {
            let elements = walk::elements(json)?.unwrap_or_default();
            elements.into_iter().try_fold(false, |any, part| Ok(any || is(part)?))
        }
        _ => is(json),
    }
}

#[cfg(test)]
mod tests;
