//! Records: `otus_record('a', x, 'b', y)` is one with these members, which keep their types, jsonb among them.

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};

use super::{answer, argument};
use crate::error::SqlError;

/// Name of the function.
pub(crate) const RECORD: &str = "otus_record";

/// The function.
pub(super) fn record() -> ScalarUDF {
    let any = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
    ScalarUDF::from(Record(Signature::one_of(any, Volatility::Immutable)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Record(Signature);

fn lacking() -> DataFusionError {
    DataFusionError::from(SqlError::internal("a member of a record has no name"))
}

impl ScalarUDFImpl for Record {
    fn name(&self) -> &'static str {
        RECORD
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Err(lacking())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let names = args.scalar_arguments.chunks_exact(2).map(|pair| {
            let name = pair.first().copied().flatten().and_then(ScalarValue::try_as_str);
            name.flatten().ok_or_else(lacking)
        });
        let values = args.arg_fields.iter().skip(1).step_by(2);
        let members = names
            .zip(values)
            .map(|(name, value)| Ok(value.as_ref().clone().with_name(name?).with_nullable(true)));
        let members = members.collect::<DfResult<Vec<Field>>>()?;
        Ok(Arc::new(Field::new(RECORD, DataType::Struct(members.into()), false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let DataType::Struct(members) = args.return_field.data_type() else {
            return Err(lacking());
        };
        let value = |(at, member): (usize, &FieldRef)| -> DfResult<ArrayRef> {
            let array = argument(&args, 2 * at + 1)?;
            match array.data_type() == member.data_type() {
                true => Ok(array),
                false => Ok(cast(&array, member.data_type())?),
            }
        };
        let values = members.iter().enumerate().map(value).collect::<DfResult<Vec<_>>>()?;
        let fields: Fields = members.clone();
        let record = match fields.is_empty() {
            true => StructArray::new_empty_fields(args.number_rows, None),
            false => StructArray::try_new(fields, values, None)?,
        };
        answer(&args, Arc::new(record))
    }
}
