//! Bounds and subscripts of arrays. Vectors, as the keys of an index, count from zero; arrays from one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, UInt32Type};
use datafusion::common::{DFSchema, internal_err};
use datafusion::error::Result as DfResult;
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{
    ColumnarValue, ExprSchemable, GetFieldAccess, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, cast as cast_to, lit,
};
use otus_engine::types::PG_TYPE_KEY;

use super::super::argument;
use crate::statement::OR_EMPTY;

/// Plans `indkey[0]`, the first of a vector.
#[derive(Debug)]
pub(crate) struct VectorItems;

impl ExprPlanner for VectorItems {
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> DfResult<PlannerResult<RawFieldAccessExpr>> {
        match access {
            RawFieldAccessExpr { expr, field_access: GetFieldAccess::ListIndex { key } }
                if expr.to_field(schema).is_ok_and(|(_, field)| is_vector(&field)) =>
            {
                let place = cast_to(*key, DataType::Int64) + lit(1_i64);
                Ok(PlannerResult::Planned(array_element(expr, place)))
            }
            other => Ok(PlannerResult::Original(other)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Upper,
    Lower,
    Subscripts,
    Expanded,
    OrEmpty,
}

/// Functions of lists.
pub(super) fn lists() -> impl Iterator<Item = ScalarUDF> {
    let kinds = [Kind::Upper, Kind::Lower, Kind::Subscripts, Kind::Expanded, Kind::OrEmpty];
    kinds.into_iter().map(|kind| {
        let signature = match kind {
            Kind::Expanded | Kind::OrEmpty => Signature::any(1, Volatility::Immutable),
            _ => Signature::any(2, Volatility::Immutable),
        };
        ScalarUDF::from(Bounds { kind, signature })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounds {
    kind: Kind,
    signature: Signature,
}

/// Whether subscripts of a field's lists begin at zero.
fn is_vector(field: &Field) -> bool {
    let mark = field.metadata().get(PG_TYPE_KEY);
    mark.is_some_and(|mark| mark == "int2vector" || mark == "oidvector")
}

fn pair(item: &DataType) -> Fields {
    let number = Field::new("n", DataType::Int32, true);
    Fields::from(vec![Field::new("x", item.clone(), true), number])
}

impl ScalarUDFImpl for Bounds {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Upper => "array_upper",
            Kind::Lower => "array_lower",
            Kind::Subscripts => "generate_subscripts",
            Kind::Expanded => "_pg_expandarray",
            Kind::OrEmpty => OR_EMPTY,
        }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
        Ok(match (self.kind, types.first()) {
            (Kind::Upper | Kind::Lower, _) => DataType::Int32,
            (Kind::OrEmpty, Some(list)) => list.clone(),
            (Kind::OrEmpty, None) => DataType::Null,
            (Kind::Subscripts, _) => list(DataType::Int32),
            (Kind::Expanded, Some(DataType::List(item) | DataType::LargeList(item))) => {
                list(DataType::Struct(pair(item.data_type())))
            }
            (Kind::Expanded, _) => list(DataType::Struct(pair(&DataType::Utf8))),
        })
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let first = args.arg_fields.first().map_or(1, |field| i32::from(!is_vector(field)));
        let lists = argument(&args, 0)?;
        let lists = match lists.data_type() {
            DataType::List(_) => lists,
            DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                cast(&lists, &DataType::List(Arc::clone(item)))?
            }
            DataType::Null => {
                let none = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
                cast(&lists, &none)?
            }
            other => return internal_err!("{} of {other}", self.name()),
        };
        let lists = lists.as_list::<i32>();
        let one_dimension = match self.kind {
            Kind::Expanded | Kind::OrEmpty => None,
            _ => Some(cast(&argument(&args, 1)?, &DataType::Int64)?),
        };
        let counts = |row: usize| {
            let wanted = one_dimension.as_ref().map(|d| d.as_primitive::<Int64Type>().value(row));
            let here = lists.is_valid(row) && wanted.is_none_or(|d| d == 1);
            let length = lists.value_length(row);
            (here && length > 0).then_some(length)
        };
        let rows = 0..lists.len();
        let array: ArrayRef = match self.kind {
            Kind::Upper => {
                Arc::new(rows.map(|row| Some(counts(row)? - 1 + first)).collect::<Int32Array>())
            }
            Kind::Lower => {
                Arc::new(rows.map(|row| counts(row).map(|_| first)).collect::<Int32Array>())
            }
            Kind::Subscripts => {
                let numbers =
                    rows.clone().flat_map(|row| (0..counts(row).unwrap_or(0)).map(|n| n + first));
                let numbers: ArrayRef = Arc::new(numbers.collect::<Int32Array>());
                gathered(numbers, rows.map(|row| counts(row).unwrap_or(0)))?
            }
            Kind::OrEmpty => {
                let DataType::List(item) = lists.data_type() else {
                    return internal_err!("{} of no list", self.name());
                };
                let (item, offsets) = (Arc::clone(item), lists.offsets().clone());
                Arc::new(ListArray::try_new(item, offsets, Arc::clone(lists.values()), None)?)
            }
            Kind::Expanded => {
                let numbers = rows.clone().flat_map(|row| 1..=counts(row).unwrap_or(0));
                let numbers: ArrayRef = Arc::new(numbers.collect::<Int32Array>());
                let places = rows.clone().flat_map(|row| {
                    let from = lists.value_offsets().get(row).copied().unwrap_or_default();
                    (0..counts(row).unwrap_or(0)).map(move |n| u32::try_from(from + n).unwrap_or(0))
                });
                let places: arrow::array::PrimitiveArray<UInt32Type> = places.collect();
                let items = take(lists.values(), &places, None)?;
                let fields = pair(items.data_type());
                let pairs: ArrayRef =
                    Arc::new(StructArray::try_new(fields, vec![items, numbers], None)?);
                gathered(pairs, rows.map(|row| counts(row).unwrap_or(0)))?
            }
        };
        super::super::answer(&args, array)
    }
}

fn gathered(items: ArrayRef, lengths: impl Iterator<Item = i32>) -> DfResult<ArrayRef> {
    let lengths = lengths.map(|n| usize::try_from(n).unwrap_or(0));
    let item = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let list = ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), items, None)?;
    Ok(Arc::new(list))
}
