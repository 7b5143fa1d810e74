//! JSON operators and functions of Postgres on jsonb columns, which are compact text here: `->`, `->>`, `#>`,
//! `#>>`, `@>`, `<@`, `?`, `?|`, `?&` and the functions behind them.

mod arguments;
mod build;
mod operators;
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
pub(super) use operators::Operators;
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

const FUNCTIONS: [(&str, &[&str], Does); 14] = [
    ("jsonb_get", &["json_get"], Does::Get),
    ("jsonb_get_text", &["json_get_text"], Does::GetText),
    ("jsonb_extract_path", &["json_extract_path"], Does::Path),
    ("jsonb_extract_path_text", &["json_extract_path_text"], Does::PathText),
    ("jsonb_contains", &[], Does::Contains),
    ("jsonb_contained", &[], Does::Contained),
    ("jsonb_exists", &[], Does::Exists),
    ("jsonb_exists_any", &[], Does::ExistsAny),
    ("jsonb_exists_all", &[], Does::ExistsAll),
    ("jsonb_array_length", &["json_array_length"], Does::Length),
    ("jsonb_typeof", &["json_typeof"], Does::TypeOf),
    ("jsonb_object_keys", &["json_object_keys"], Does::Keys),
    ("jsonb_array_elements", &["json_array_elements"], Does::Elements),
    ("jsonb_array_elements_text", &["json_array_elements_text"], Does::ElementTexts),
];

/// All of them.
pub(super) fn all() -> Vec<ScalarUDF> {
    FUNCTIONS
        .iter()
        .map(|(name, aliases, does)| ScalarUDF::from(JsonFunction::new(name, aliases, *does)))
        .chain(build::all())
        .collect()
}

/// The function behind an operator.
fn function(does: Does) -> Option<ScalarUDF> {
    let known = FUNCTIONS.iter().find(|(_, _, d)| *d == does);
    known.map(|(name, aliases, does)| ScalarUDF::from(JsonFunction::new(name, aliases, *does)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    name: &'static str,
    aliases: Vec<String>,
    does: Does,
    signature: Signature,
}

impl JsonFunction {
    fn new(name: &'static str, aliases: &[&str], does: Does) -> Self {
        let aliases = aliases.iter().map(|a| (*a).to_string()).collect();
        Self { name, aliases, does, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// Elements of a list that the function gives.
    fn item(&self) -> FieldRef {
        let item = Field::new_list_field(DataType::Utf8View, true);
        if self.does == Does::Elements { json_field(item) } else { Arc::new(item) }
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

    fn aliases(&self) -> &[String] {
        &self.aliases
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
            Does::Keys | Does::Elements | Does::ElementTexts => DataType::List(self.item()),
        })
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DfResult<FieldRef> {
        let field = Field::new(self.name, self.return_type(&[])?, true);
        Ok(match self.does {
            Does::Get | Does::Path => json_field(field),
            _ => Arc::new(field),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arguments = Arguments::of(&args)?;
        let array = match self.does {
            Does::Get | Does::Path | Does::GetText | Does::PathText | Does::TypeOf => {
                self.parts(&arguments)
            }
            Does::Length => self.lengths(&arguments),
            Does::Keys | Does::Elements | Does::ElementTexts => self.lists(&arguments),
            _ => self.tests(&arguments),
        };
        arguments.answer(array?)
    }
}

impl JsonFunction {
    fn parts(&self, arguments: &Arguments) -> SqlResult<ArrayRef> {
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
                (Some(part), _) => parts.append_option(walk::text(part)?),
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

    fn lists(&self, arguments: &Arguments) -> SqlResult<ArrayRef> {
        let mut lists = ListBuilder::new(StringViewBuilder::new()).with_field(self.item());
        for row in 0..arguments.rows() {
            let Some(json) = arguments.text(0, row) else {
                lists.append_null();
                continue;
            };
            if self.does == Does::Keys {
                let keys = walk::keys(json)?.ok_or_else(|| self.no(json, "get keys of"))?;
                keys.into_iter().for_each(|key| lists.values().append_value(key));
            } else {
                let elements = walk::elements(json)?;
                let elements = elements.ok_or_else(|| self.no(json, "get elements of"))?;
                for element in elements {
                    match self.does {
                        Does::Elements => lists.values().append_value(element),
                        _ => lists.values().append_option(walk::text(element)?),
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
