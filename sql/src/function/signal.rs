//! `pg_cancel_backend` and `pg_terminate_backend`: stop what another session runs, or the session.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use super::argument;
use super::session::SessionFacts;
use crate::error::{SqlError, SqlResult};
use crate::sessions::Signal;

/// Names of the functions.
pub(super) const NAMES: [&str; 2] = ["pg_cancel_backend", "pg_terminate_backend"];

/// The functions for one session.
pub(super) fn all(facts: &Arc<SessionFacts>) -> impl Iterator<Item = ScalarUDF> + use<> {
    let facts = Arc::clone(facts);
    NAMES.into_iter().zip([Signal::Cancel, Signal::Terminate]).map(move |(name, signal)| {
        let one_of = [DataType::Int32, DataType::Int64];
        let one_of = one_of.map(|of| TypeSignature::Exact(vec![of])).to_vec();
        let signature = Signature::one_of(one_of, Volatility::Volatile);
        ScalarUDF::from(Signalled { name, signal, facts: Arc::clone(&facts), signature })
    })
}

#[derive(Debug)]
struct Signalled {
    name: &'static str,
    signal: Signal,
    facts: Arc<SessionFacts>,
    signature: Signature,
}

impl PartialEq for Signalled {
    fn eq(&self, other: &Self) -> bool {
        self.signal == other.signal && Arc::ptr_eq(&self.facts, &other.facts)
    }
}
impl Eq for Signalled {}
impl Hash for Signalled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.signal, Arc::as_ptr(&self.facts)).hash(state);
    }
}

impl ScalarUDFImpl for Signalled {
    fn name(&self) -> &str {
        self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let Some((sessions, own)) = &self.facts.sessions else {
            return Err(
                SqlError::unsupported(format!("{}() is not supported here", self.name)).into()
            );
        };
        let pids = cast(&argument(&args, 0)?, &DataType::Int64)?;
        let pids = pids.as_primitive::<Int64Type>();
        let signal =
            |pid: Option<i64>| pid.map(|p| sessions.signal(own, p, self.signal)).transpose();
        let done: BooleanArray = pids.iter().map(signal).collect::<SqlResult<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(done)))
    }
}
