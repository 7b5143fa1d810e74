//! Scalar functions of Otus and of Postgres that DataFusion lacks. Those that answer for a session are
//! registered with its facts; the others once.

mod bucket;
mod postgres;
mod session;

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::error::Result as DfResult;
use datafusion::execution::{FunctionRegistry, SessionState};

pub(crate) use bucket::{bucket, floor};
pub(crate) use session::SessionFacts;

use crate::aggregate;
use crate::error::{SqlError, SqlResult};

/// Registers what does not depend on a session.
pub(crate) fn register(state: &mut SessionState) -> DfResult<()> {
    for udf in [floor(), bucket(), aggregate::average(), aggregate::divide()] {
        state.register_udf(Arc::new(udf))?;
    }
    for udf in postgres::all() {
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
