//! Functions from JSON texts to others: what changes a jsonb, shows it otherwise or makes a key of it.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, BooleanBuilder, ListBuilder, StringViewBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::arguments::Arguments;
use super::edit::{self, Change};
use super::path;
use super::value::{Json, Style};
use super::{is_text, is_texts, marked, texts};
use crate::error::SqlResult;

/// What a function gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Gives {
    Json,
    Jsonb,
    Text,
    Boolean,
    /// Bytes in the order of the values.
    Key,
    /// A list of jsonb.
    List,
    /// A list of texts.
    Texts,
}

/// An answer for one row.
enum Answer {
    Text(String),
    Boolean(bool),
    Key(Vec<u8>),
    List(Vec<Option<String>>),
}

/// What a function does with one row.
type Call = fn(&Row<'_>) -> SqlResult<Option<Answer>>;

/// A function: its name, fewest and most arguments, what it gives and does.
type Def = (&'static str, (usize, usize), Gives, Call);

const FUNCTIONS: [Def; 22] = [
    ("jsonb_concat", (2, 2), Gives::Jsonb, |row| {
        row.changed(|a| Ok(edit::concatenated(a, Json::parse(row.text(1)?)?)))
    }),
    ("jsonb_delete", (2, usize::MAX), Gives::Jsonb, |row| match row.index(1) {
        Some(index) => row.changed(|json| edit::without_index(json, index)),
        None => row.changed(|json| edit::without_keys(json, &row.keys(1)?)),
    }),
    ("jsonb_delete_path", (2, 2), Gives::Jsonb, |row| {
        row.changed(|json| edit::changed(json, &row.path(1)?, Change::Delete))
    }),
    ("jsonb_set", (3, 4), Gives::Jsonb, |row| {
        let change = Change::Set(Json::parse(row.text(2)?)?, row.flag(3, true));
        row.changed(|json| edit::changed(json, &row.path(1)?, change))
    }),
    ("jsonb_insert", (3, 4), Gives::Jsonb, |row| {
        let change = Change::Insert(Json::parse(row.text(2)?)?, row.flag(3, false));
        row.changed(|json| edit::changed(json, &row.path(1)?, change))
    }),
    ("jsonb_strip_nulls", (1, 1), Gives::Jsonb, |row| {
        row.changed(|mut json| {
            edit::without_nulls(&mut json);
            Ok(json)
        })
    }),
    ("json_strip_nulls", (1, 1), Gives::Json, |row| {
        let mut json = Json::as_written(row.text(0)?)?;
        edit::without_nulls(&mut json);
        Ok(Some(Answer::Text(json.text(Style::Compact))))
    }),
    ("jsonb_pretty", (1, 1), Gives::Text, |row| {
        let mut text = String::new();
        Json::parse(row.text(0)?)?.write_pretty(0, &mut text);
        Ok(Some(Answer::Text(text)))
    }),
    ("json_object", (1, 2), Gives::Json, |row| {
        Ok(Some(Answer::Text(super::build::object_of_texts(&row.lists()?)?)))
    }),
    ("jsonb_object", (1, 2), Gives::Jsonb, |row| {
        let text = super::build::object_of_texts(&row.lists()?)?;
        Ok(Some(Answer::Text(Json::parse(&text)?.text(Style::Jsonb))))
    }),
    (super::TEXT_OF, (1, 1), Gives::Text, |row| {
        Ok(Some(Answer::Text(super::normal::normal(row.text(0)?)?)))
    }),
    (super::EQUAL, (1, 1), Gives::Jsonb, |row| {
        row.changed(|mut json| {
            json.without_zeros();
            Ok(json)
        })
    }),
    (super::KEY, (1, 1), Gives::Key, |row| {
        Ok(Some(Answer::Key(Json::parse(row.text(0)?)?.sort_key())))
    }),
    ("otus_jsonb_values", (1, 1), Gives::List, |row| row.values(false, false)),
    ("otus_jsonb_value_texts", (1, 1), Gives::Texts, |row| row.values(false, true)),
    ("otus_json_values", (1, 1), Gives::List, |row| row.values(true, false)),
    ("otus_json_value_texts", (1, 1), Gives::Texts, |row| row.values(true, true)),
    ("jsonb_path_exists", (2, 2), Gives::Boolean, |row| {
        let found = path::found(row.text(0)?, row.text(1)?)?;
        Ok(Some(Answer::Boolean(!found.is_empty())))
    }),
    ("jsonb_path_match", (2, 2), Gives::Boolean, |row| {
        Ok(path::matched(row.text(0)?, row.text(1)?)?.map(Answer::Boolean))
    }),
    ("jsonb_path_query", (2, 2), Gives::List, |row| {
        let found = path::found(row.text(0)?, row.text(1)?)?;
        let texts = found.iter().map(|json| Some(json.text(Style::Jsonb)));
        Ok(Some(Answer::List(texts.collect())))
    }),
    ("jsonb_path_query_first", (2, 2), Gives::Jsonb, |row| {
        let found = path::found(row.text(0)?, row.text(1)?)?;
        Ok(found.first().map(|json| Answer::Text(json.text(Style::Jsonb))))
    }),
    ("jsonb_path_query_array", (2, 2), Gives::Jsonb, |row| {
        let found = path::found(row.text(0)?, row.text(1)?)?;
        Ok(Some(Answer::Text(Json::Array(found).text(Style::Jsonb))))
    }),
];

/// All of them.
pub(super) fn all() -> impl Iterator<Item = ScalarUDF> {
    FUNCTIONS.iter().map(|def| ScalarUDF::from(JsonMade::new(def)))
}

/// The function of a name.
pub(super) fn named(name: &str) -> Option<ScalarUDF> {
    let def = FUNCTIONS.iter().find(|(known, ..)| *known == name)?;
    Some(ScalarUDF::from(JsonMade::new(def)))
}

/// The arguments of one row, none of which is null.
struct Row<'a> {
    arguments: &'a Arguments,
    row: usize,
}

impl<'a> Row<'a> {
    fn text(&self, argument: usize) -> SqlResult<&'a str> {
        // Of the types of arguments the planner took care.
        Ok(self.arguments.text(argument, self.row).unwrap_or("null"))
    }

    fn index(&self, argument: usize) -> Option<i64> {
        self.arguments.index(argument, self.row)
    }

    fn flag(&self, argument: usize, otherwise: bool) -> bool {
        self.arguments.flag(argument, self.row).unwrap_or(otherwise)
    }

    /// Keys that are texts, or an array of them.
    fn keys(&self, from: usize) -> SqlResult<Vec<Cow<'a, str>>> {
        Ok(self.arguments.path(from, self.row)?.unwrap_or_default())
    }

    /// A path that is an array, or the text of one.
    fn path(&self, argument: usize) -> SqlResult<Vec<Cow<'a, str>>> {
        match self.arguments.text(argument, self.row) {
            Some(text) => {
                let items = super::arguments::array_literal(text)?;
                Ok(items.into_iter().map(Cow::Owned).collect())
            }
            None => self.keys(argument),
        }
    }

    /// All arguments as arrays of texts, of which one may be null.
    fn lists(&self) -> SqlResult<Vec<Vec<Option<String>>>> {
        self.arguments.text_lists(self.row)
    }

    /// What a change makes of the first argument.
    fn changed(
        &self,
        change: impl FnOnce(Json<'a>) -> SqlResult<Json<'a>>,
    ) -> SqlResult<Option<Answer>> {
        let json = Json::parse(self.text(0)?)?;
        Ok(Some(Answer::Text(change(json)?.text(Style::Jsonb))))
    }

    /// The values of an object's members.
    fn values(&self, as_written: bool, as_text: bool) -> SqlResult<Option<Answer>> {
        let text = self.text(0)?;
        if as_written {
            let values = super::walk::values(text)?.ok_or_else(no_object)?;
            let values = values.into_iter().map(|value| match as_text {
                true => Ok(super::walk::text(value)?.map(Cow::into_owned)),
                false => Ok(Some(value.to_owned())),
            });
            return Ok(Some(Answer::List(values.collect::<SqlResult<_>>()?)));
        }
        let Json::Object(members) = Json::parse(text)? else { return Err(no_object()) };
        let values = members.into_iter().map(|(_, value)| match as_text {
            true => value.into_text(),
            false => Some(value.text(Style::Jsonb)),
        });
        Ok(Some(Answer::List(values.collect())))
    }
}

fn no_object() -> crate::error::SqlError {
    let message = "cannot deconstruct what is no object";
    crate::error::SqlError::new(crate::error::sqlstate::INVALID_PARAMETER, message)
        .with_hint("jsonb_typeof() tells what a value is")
}

/// One of the functions.
#[derive(Debug)]
struct JsonMade {
    name: &'static str,
    takes: (usize, usize),
    gives: Gives,
    call: Call,
    signature: Signature,
}

impl PartialEq for JsonMade {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for JsonMade {}
impl std::hash::Hash for JsonMade {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl JsonMade {
    fn new(&(name, takes, gives, call): &Def) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { name, takes, gives, call, signature }
    }
}

impl ScalarUDFImpl for JsonMade {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let wrong = || crate::aggregate::no_such_function(self.name, types);
        let (least, most) = self.takes;
        if !(least..=most).contains(&types.len()) || !types.first().is_some_and(takes_first) {
            return Err(wrong());
        }
        let taken = types.iter().map(|given| match given {
            t if is_text(t) => Ok(DataType::Utf8View),
            t if is_texts(t) => Ok(texts()),
            t if t.is_integer() => Ok(DataType::Int64),
            DataType::Boolean => Ok(DataType::Boolean),
            _ => Err(wrong()),
        });
        taken.collect()
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        let list = || DataType::List(self.item());
        Ok(match self.gives {
            Gives::Json | Gives::Jsonb | Gives::Text => DataType::Utf8View,
            Gives::Boolean => DataType::Boolean,
            Gives::Key => DataType::Binary,
            Gives::List | Gives::Texts => list(),
        })
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> DfResult<FieldRef> {
        let field = Field::new(self.name, self.return_type(&[])?, true);
        Ok(match self.gives {
            Gives::Json => marked(field, false),
            Gives::Jsonb => marked(field, true),
            _ => Arc::new(field),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arguments = Arguments::of(&args)?;
        let answers = (0..arguments.rows()).map(|row| match arguments.has_null(row) {
            true => Ok(None),
            false => (self.call)(&Row { arguments: &arguments, row }),
        });
        arguments.answer(self.array(answers)?)
    }
}

fn takes_first(data_type: &DataType) -> bool {
    is_text(data_type) || is_texts(data_type)
}

impl JsonMade {
    fn item(&self) -> FieldRef {
        let item = Field::new_list_field(DataType::Utf8View, true);
        match self.gives {
            Gives::List => marked(item, !self.name.starts_with("otus_json_")),
            _ => Arc::new(item),
        }
    }

    fn array(
        &self,
        answers: impl Iterator<Item = SqlResult<Option<Answer>>>,
    ) -> SqlResult<ArrayRef> {
        let mut texts = StringViewBuilder::new();
        let mut flags = BooleanBuilder::new();
        let mut keys = BinaryBuilder::new();
        let mut lists = ListBuilder::new(StringViewBuilder::new()).with_field(self.item());
        for answer in answers {
            match answer? {
                Some(Answer::Text(text)) => texts.append_value(text),
                Some(Answer::Boolean(flag)) => flags.append_value(flag),
                Some(Answer::Key(key)) => keys.append_value(key),
                Some(Answer::List(items)) => {
                    items.into_iter().for_each(|item| lists.values().append_option(item));
                    lists.append(true);
                }
                None => match self.gives {
                    Gives::Json | Gives::Jsonb | Gives::Text => texts.append_null(),
                    Gives::Boolean => flags.append_null(),
                    Gives::Key => keys.append_null(),
                    Gives::List | Gives::Texts => lists.append(false),
                },
            }
        }
        Ok(match self.gives {
            Gives::Json | Gives::Jsonb | Gives::Text => Arc::new(texts.finish()),
            Gives::Boolean => Arc::new(flags.finish()),
            Gives::Key => Arc::new(keys.finish()),
            Gives::List | Gives::Texts => Arc::new(lists.finish()),
        })
    }
}
