//! Scalar functions of Otus and of Postgres that DataFusion lacks. Those that answer for a session are
//! registered with its facts; the others once.

mod arithmetic;
mod bucket;
mod constant;
mod format_type;
mod operator;
mod postgres;
mod session;
mod time_zone;
mod to_char;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion::error::Result as DfResult;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::ScalarFunctionArgs;

pub(crate) use arithmetic::{Checked, whole};
pub(crate) use bucket::{bucket, floor};
pub(crate) use operator::Operators;
pub(crate) use session::SessionFacts;
pub(crate) use time_zone::TIMEZONE;

use crate::aggregate;
use crate::error::{SqlError, SqlResult};

/// An argument as an array of as many values as there are rows.
fn argument(args: &ScalarFunctionArgs, index: usize) -> DfResult<ArrayRef> {
    match args.args.get(index) {
        Some(value) => value.to_array(args.number_rows),
        None => datafusion::common::internal_err!("a function lacks its argument {}", index + 1),
    }
}

/// The function that was perhaps meant by a name that stands for none.
pub(crate) fn near<'a>(state: &'a SessionState, name: &str) -> Option<&'a str> {
    let scalars = state.scalar_functions().keys();
    let others = state.aggregate_functions().keys().chain(state.window_functions().keys());
    let ours = |name: &&str| !name.starts_with("otus_") && !name.starts_with("pg_");
    crate::error::near(name, scalars.chain(others).map(String::as_str).filter(ours))
}

/// Registers what does not depend on a session.
pub(crate) fn register(state: &mut SessionState) -> DfResult<()> {
    for udf in [floor(), bucket(), aggregate::average(), aggregate::divide()] {
        state.register_udf(Arc::new(udf))?;
    }
    state.register_udf(Arc::new(operator::type_of()))?;
    let own = [format_type::format_type(), to_char::to_char(), time_zone::timezone()];
    for udf in own.into_iter().chain(postgres::all()) {
        state.register_udf(Arc::new(udf))?;
    }
    aggregate::register(state)
}

/// Registers `pg_table_is_visible` for one statement that asks for it.
pub(crate) fn register_visible(state: &mut SessionState, oids: HashSet<i32>) -> SqlResult<()> {
    let udf = Arc::new(postgres::visible(oids));
    state.register_udf(udf).map(|_| ()).map_err(SqlError::from)
}

/// Registers what answers for one session.
pub(crate) fn register_session(
    state: &mut SessionState,
    facts: &Arc<SessionFacts>,
) -> SqlResult<()> {
    for udf in session::all(facts) {
        state.register_udf(Arc::new(udf)).map_err(SqlError::from)?;
    }
    Ok(())
}
