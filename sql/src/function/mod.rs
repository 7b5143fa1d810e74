//! Scalar functions of Otus and of Postgres that DataFusion lacks. Those that answer for a session are
//! registered with its facts; the others once.

mod alike;
mod arithmetic;
mod array_key;
mod beside;
mod bucket;
mod bytea;
mod catalogue;
mod checked;
mod constant;
mod date_trunc;
mod emptied;
mod encode;
mod exact;
mod has;
mod json;
mod length;
mod marked;
mod moments;
mod number;
mod numeric;
mod operator;
mod ordered;
mod part;
mod pattern;
mod plain;
mod postgres;
mod record;
mod series;
mod session;
mod sets;
mod shown;
mod signal;
mod texts;
mod time_bucket;
mod time_zone;
mod to_char;
mod zoned;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use otus_engine::types::PG_TYPE_KEY;

pub(crate) use alike::{ALIKE, resolved as alike_resolved};
pub(crate) use arithmetic::{Checked, whole};
pub(crate) use array_key::array_key;
pub(crate) use bucket::{bucket, floor};
pub(crate) use bytea::Bytea;
pub(crate) use catalogue::{NAME_OF, SHOWN_NAME, VectorItems, is_of_catalogue, name_of, reg_call};
pub(crate) use date_trunc::unit_granularity;
pub(crate) use has::HAS;
pub use json::jsonb_text;
pub(crate) use json::{JsonbValues, Subscripts};
pub(crate) use length::{AS_BPCHAR, AS_VARCHAR};
pub(crate) use marked::{AS_JSON, AS_JSONB, AS_UUID, KNOWN_JSON, KNOWN_JSONB, read_as};
pub(crate) use operator::{
    DistinctElements, Operators, as_list, divided, exact_quotient, is_quotient,
    multiplied as scaled_span,
};
pub(crate) use ordered::{MODE, PERCENTILE_CONT, PERCENTILE_DISC, SORTED, SORTED_DOWN};
pub(crate) use part::{exact_part, length};
pub(crate) use pattern::{LOOKS_AROUND, Pattern};
pub(crate) use plain::OR_EMPTY;
pub(crate) use record::RECORD;
pub(crate) use session::{Held, HeldCursor, HeldStatement, SessionFacts};
pub(crate) use shown::is_shown;
pub(crate) use time_bucket::{
    TIME_BUCKET, argument_types as bucket_types, buckets, is_text, literal, lowered, time_bucket,
};
pub use time_zone::instant_from_text;
pub(crate) use time_zone::{
    TIMEZONE, instant_of_text, timezone, with_full_seconds, zone_named, zoned_us,
};
pub(crate) use to_char::{FROM_TEXT, pattern_unit};
pub(crate) use zoned::{shift, shown};

use crate::catalog::KEYWORDS;
use crate::error::{SqlError, SqlResult};
use crate::{aggregate, gapfill};

/// An argument as an array of as many values as there are rows.
fn argument(args: &ScalarFunctionArgs, index: usize) -> DfResult<ArrayRef> {
    match args.args.get(index) {
        Some(value) => value.to_array(args.number_rows),
        None => datafusion::common::internal_err!("a function lacks its argument {}", index + 1),
    }
}

/// The answer of a function: one value if all its arguments are, and there is one.
fn answer(args: &ScalarFunctionArgs, array: ArrayRef) -> DfResult<ColumnarValue> {
    if args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) && array.len() == 1 {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
    }
    Ok(ColumnarValue::Array(array))
}

/// The function that was perhaps meant by a name that stands for none.
pub(crate) fn near<'a>(state: &'a SessionState, name: &str) -> Option<&'a str> {
    let scalars = state.scalar_functions().keys();
    let others = state.aggregate_functions().keys().chain(state.window_functions().keys());
    let ours = |name: &&str| !name.starts_with("otus_") && !name.starts_with("pg_");
    crate::error::near(name, scalars.chain(others).map(String::as_str).filter(ours))
}

/// Whether a function may fail for some values of the right types.
pub(crate) fn may_fail(function: &ScalarUDF) -> bool {
    let inner = function.inner();
    inner.is::<Checked>()
        || FROM_TEXT.iter().any(|(_, name)| *name == function.name())
        || inner.is::<time_zone::InstantOfText>()
        || inner.is::<bytea::FromText>()
        || inner.is::<pattern::LooksAround>()
}

/// Registers what does not depend on a session.
pub(crate) fn register(state: &mut SessionState) -> DfResult<()> {
    let ours = [
        floor(),
        bucket(),
        time_bucket(),
        date_trunc::date_trunc(),
        aggregate::average(),
        aggregate::divide(),
        crate::lossy::transparent(),
    ];
    for udf in ours {
        state.register_udf(Arc::new(udf))?;
    }
    state.register_udf(Arc::new(operator::type_of()))?;
    datafusion_pg_functions::datetime::register(state);
    let own = [to_char::to_char(), to_char::to_number(), to_char::of_seconds(), timezone()];
    let all = own.into_iter().chain(to_char::from_text()).chain(postgres::all());
    let all = all
        .chain(ordered::all())
        .chain(alike::all())
        .chain([pattern::looks_around(), record::record()]);
    let all = all.chain(moments::all()).chain(texts::all());
    let all = all
        .chain(catalogue::all())
        .chain(plain::all())
        .chain(marked::all())
        .chain(length::all())
        .chain(encode::all());
    for udf in
        all.chain(sets::all()).chain(json::all()).chain(gapfill::all()).chain(series::lists())
    {
        state.register_udf(Arc::new(udf))?;
    }
    for table in series::tables() {
        state.register_udtf(table.name(), Arc::clone(table.function()));
    }
    state.register_udtf(KEYWORDS, Arc::new(catalogue::Keywords));
    state.register_expr_planner(Arc::new(json::Operators))?;
    checked::register(state)?;
    exact::register(state)?;
    has::register(state)?;
    emptied::register(state)?;
    aggregate::register(state)
}

/// A field of type jsonb: its text, marked.
pub(crate) fn json_field(field: Field) -> FieldRef {
    let mark = [(PG_TYPE_KEY.to_string(), "jsonb".to_string())];
    Arc::new(field.with_metadata(mark.into()))
}

/// Names of the functions that statements can call.
pub(crate) fn names(state: &SessionState) -> Vec<String> {
    let scalars = state.scalar_functions().keys();
    let others = state.aggregate_functions().keys().chain(state.window_functions().keys());
    let mut names: Vec<String> = scalars.chain(others).cloned().collect();
    let of_session = session::NAMES.iter().chain(&signal::NAMES);
    names.extend(of_session.map(|name| (*name).to_string()));
    names.sort();
    names.dedup();
    names
}

/// Registers what answers for one session.
pub(crate) fn register_session(
    state: &mut SessionState,
    facts: &Arc<SessionFacts>,
) -> SqlResult<()> {
    for udf in session::all(facts).into_iter().chain(signal::all(facts)) {
        state.register_udf(Arc::new(udf)).map_err(SqlError::from)?;
    }
    Ok(())
}
