//! `array_agg` and `string_agg` with all they keep counted. DataFusion takes a view of text for its 16
//! bytes, whatever lies behind it, so that the memory of queries would not see what an `array_agg` gathers.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, GenericByteViewArray, ListArray,
};
use arrow::datatypes::{ByteViewType, DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator,
    ReversedUDAF, Signature,
};
use datafusion::physical_expr::PhysicalSortExpr;

/// What one group gathers before the copies count that its answer is built of: those of small groups come
/// and go one by one.
const LARGE_BYTES: usize = 1 << 20;

/// The same function, counted.
pub(super) fn counted(function: Arc<AggregateUDF>) -> AggregateUDF {
    AggregateUDF::from(Counted(function))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Counted(Arc<AggregateUDF>);

impl Counted {
    fn keeps_views(&self) -> bool {
        self.0.name() == "array_agg"
    }
}

/// Copies of a view share its text, which may be as long as all that was gathered.
fn shared(of: DataType) -> DataType {
    match of {
        DataType::LargeUtf8 => DataType::Utf8View,
        other => other,
    }
}

fn shared_value(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::LargeUtf8(text) => ScalarValue::Utf8View(text),
        other => other,
    }
}

impl AggregateUDFImpl for Counted {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }
    fn signature(&self) -> &Signature {
        self.0.signature()
    }
    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.0.return_type(types).map(shared)
    }
    fn return_field(&self, fields: &[FieldRef]) -> DfResult<FieldRef> {
        let field = self.0.return_field(fields)?;
        let of = shared(field.data_type().clone());
        Ok(Arc::new(field.as_ref().clone().with_data_type(of)))
    }
    fn default_value(&self, of: &DataType) -> DfResult<ScalarValue> {
        self.0.default_value(of).map(shared_value)
    }
    fn is_nullable(&self) -> bool {
        self.0.is_nullable()
    }
    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let copies = copies(&args);
        let straight;
        let args = match args.is_distinct {
            // They are ordered by themselves, whatever the planner made of the key. It turns their order with that of its rows,
            // and nothing turns it back.
            true => {
                let key = |key: &PhysicalSortExpr| {
                    let key = if args.is_reversed { key.reverse() } else { key.clone() };
                    Some(PhysicalSortExpr { expr: Arc::clone(args.exprs.first()?), ..key })
                };
                straight = args.order_bys.first().and_then(key);
                AccumulatorArgs { order_bys: straight.as_slice(), is_reversed: false, ..args }
            }
            false => args,
        };
        // What is ordered or distinct is copied, as string_agg does with all.
        let kept = (copies == 1 && self.keeps_views()).then(Kept::default);
        Ok(Box::new(One { inner: self.0.accumulator(args)?, kept, copies }))
    }
    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        self.0.state_fields(args)
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.0.groups_accumulator_supported(args)
    }
    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> DfResult<Box<dyn GroupsAccumulator>> {
        let inner = self.0.create_groups_accumulator(args)?;
        match self.keeps_views() {
            true => Ok(Box::new(Groups { inner, kept: Kept::default() })),
            false => Ok(Box::new(Texts(inner))),
        }
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let inner = self.0.inner().create_sliding_accumulator(args)?;
        Ok(Box::new(One { inner, kept: None, copies: 1 }))
    }
    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial: bool,
    ) -> DfResult<Option<Arc<dyn AggregateUDFImpl>>> {
        if self.0.order_sensitivity().hard_requires() {
            return Ok(Some(self));
        }
        let inner = Arc::clone(self.0.inner()).with_beneficial_ordering(beneficial)?;
        Ok(inner.map(|inner| {
            let function = AggregateUDF::new_from_shared_impl(inner);
            Arc::new(Self(Arc::new(function))) as Arc<dyn AggregateUDFImpl>
        }))
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        // Values that come otherwise are sorted in the end.
        AggregateOrderSensitivity::SoftRequirement
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        match self.0.reverse_udf() {
            ReversedUDAF::Reversed(other) => ReversedUDAF::Reversed(Arc::new(counted(other))),
            same => same,
        }
    }
    fn supports_null_handling_clause(&self) -> bool {
        self.0.supports_null_handling_clause()
    }
    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
}

/// How often the values of a group are there while its answer is built of them.
fn copies(args: &AccumulatorArgs) -> usize {
    if args.is_distinct { 3 } else { 1 + usize::from(!args.order_bys.is_empty()) }
}

/// Buffers behind views that an accumulator holds, each counted once however many arrays share it.
#[derive(Debug, Default)]
struct Kept {
    /// Array by array, the greatest of its groups and its buffers.
    arrays: Vec<(usize, Vec<usize>)>,
    /// By address: arrays that hold it, and bytes.
    buffers: HashMap<usize, (usize, usize)>,
    bytes: usize,
}

impl Kept {
    fn add(&mut self, array: &ArrayRef, greatest_group: usize) {
        if !has_views(array.data_type()) {
            return;
        }
        let mut held = Vec::new();
        behind_views(&array.to_data(), &mut |address, bytes| {
            let entry = self.buffers.entry(address).or_insert((0, bytes));
            if entry.0 == 0 {
                self.bytes += bytes;
            }
            entry.0 += 1;
            held.push(address);
        });
        if !held.is_empty() {
            self.arrays.push((greatest_group, held));
        }
    }

    /// Lets go of the arrays whose groups are all given out.
    fn emit(&mut self, emit_to: EmitTo) {
        let EmitTo::First(n) = emit_to else {
            *self = Self::default();
            return;
        };
        let Self { arrays, buffers, bytes } = self;
        arrays.retain_mut(|(greatest, held)| {
            if *greatest >= n {
                *greatest -= n;
                return true;
            }
            for address in held {
                if let Some(entry) = buffers.get_mut(address) {
                    entry.0 -= 1;
                    if entry.0 == 0 {
                        *bytes -= entry.1;
                        buffers.remove(address);
                    }
                }
            }
            false
        });
    }
}

fn has_views(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => {
            has_views(f.data_type())
        }
        DataType::Map(f, _) => has_views(f.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_views(f.data_type())),
        DataType::Dictionary(_, values) => has_views(values),
        _ => false,
    }
}

fn behind_views(data: &ArrayData, found: &mut impl FnMut(usize, usize)) {
    if matches!(data.data_type(), DataType::Utf8View | DataType::BinaryView) {
        for buffer in data.buffers().iter().skip(1) {
            found(buffer.data_ptr().as_ptr() as usize, buffer.capacity());
        }
    }
    data.child_data().iter().for_each(|child| behind_views(child, found));
}

/// The same values; those that point at few of the bytes they hold get bytes of their own.
fn compact(array: &ArrayRef) -> ArrayRef {
    fn own<T: ByteViewType>(array: &GenericByteViewArray<T>) -> Option<ArrayRef> {
        let held: usize = array.data_buffers().iter().map(|b| b.capacity()).sum();
        let used = array.total_buffer_bytes_used();
        (used < held / 2).then(|| Arc::new(array.gc()) as ArrayRef)
    }
    let compacted = match array.data_type() {
        DataType::Utf8View => own(array.as_string_view()),
        DataType::BinaryView => own(array.as_binary_view()),
        DataType::List(field) if has_views(field.data_type()) => {
            let list = array.as_list::<i32>();
            let values = compact(list.values());
            let changed = !Arc::ptr_eq(&values, list.values());
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            let list = || ListArray::try_new(Arc::clone(field), offsets, values, nulls).ok();
            changed.then(list).flatten().map(|list| Arc::new(list) as ArrayRef)
        }
        _ => None,
    };
    compacted.unwrap_or_else(|| Arc::clone(array))
}

fn compacted(values: &[ArrayRef]) -> Vec<ArrayRef> {
    values.iter().map(compact).collect()
}

/// All rows in one group.
struct One {
    inner: Box<dyn Accumulator>,
    kept: Option<Kept>,
    copies: usize,
}

impl fmt::Debug for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "One({:?})", self.kept)
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let Some(kept) = &mut self.kept else { return self.inner.update_batch(values) };
        let values = compacted(values);
        values.iter().take(1).for_each(|array| kept.add(array, 0));
        self.inner.update_batch(&values)
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let Some(kept) = &mut self.kept else { return self.inner.merge_batch(states) };
        let states = compacted(states);
        states.iter().take(1).for_each(|array| kept.add(array, 0));
        self.inner.merge_batch(&states)
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.inner.evaluate().map(shared_value)
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.inner.retract_batch(values)
    }
    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.inner.state()
    }
    fn size(&self) -> usize {
        match self.inner.size() + self.kept.as_ref().map_or(0, |kept| kept.bytes) {
            small if small < LARGE_BYTES => small,
            large => large.saturating_mul(self.copies),
        }
    }
}

/// Texts of many groups.
struct Texts(Box<dyn GroupsAccumulator>);

impl GroupsAccumulator for Texts {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        self.0.update_batch(values, groups, filter, total)
    }
    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        self.0.merge_batch(values, groups, total)
    }
    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        let given = self.0.evaluate(emit_to)?;
        Ok(arrow::compute::cast(&given, &shared(given.data_type().clone()))?)
    }
    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        self.0.state(emit_to)
    }
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        self.0.convert_to_state(values, filter)
    }
    fn size(&self) -> usize {
        self.0.size()
    }
}

/// Rows of many groups.
struct Groups {
    inner: Box<dyn GroupsAccumulator>,
    kept: Kept,
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Groups({})", self.kept.bytes)
    }
}

impl Groups {
    fn keeps(&mut self, values: &[ArrayRef], groups: &[usize]) {
        if let (Some(array), Some(greatest)) = (values.first(), groups.iter().max()) {
            self.kept.add(array, *greatest);
        }
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        let values = compacted(values);
        self.inner.update_batch(&values, groups, filter, total)?;
        if filter.is_none_or(|filter| filter.true_count() > 0) {
            self.keeps(&values, groups);
        }
        Ok(())
    }
    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        let values = compacted(values);
        self.inner.merge_batch(&values, groups, total)?;
        self.keeps(&values, groups);
        Ok(())
    }
    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        let given = self.inner.evaluate(emit_to)?;
        self.kept.emit(emit_to);
        Ok(given)
    }
    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let given = self.inner.state(emit_to)?;
        self.kept.emit(emit_to);
        Ok(given)
    }
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        self.inner.convert_to_state(values, filter)
    }
    // What is gathered is copied when it goes to disk or to another task.
    fn size(&self) -> usize {
        self.inner.size().saturating_add(self.kept.bytes.saturating_mul(3))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{StringViewArray, StringViewBuilder};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    use super::*;

    /// Texts of `length` bytes in one buffer.
    fn texts(n: usize, length: usize) -> ArrayRef {
        let block = u32::try_from(n * length).unwrap();
        let mut builder = StringViewBuilder::new().with_fixed_block_size(block);
        (0..n).for_each(|i| builder.append_value(format!("{i:0>length$}")));
        Arc::new(builder.finish())
    }

    fn groups() -> Groups {
        let field: FieldRef = Arc::new(Field::new("x", DataType::Utf8View, true));
        let schema = arrow::datatypes::Schema::new(vec![Arc::clone(&field)]);
        let column = datafusion::physical_expr::expressions::col("x", &schema).unwrap();
        let args = AccumulatorArgs {
            return_field: Arc::new(Field::new("a", DataType::Null, true)),
            schema: &schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: "a",
            is_distinct: false,
            exprs: &[column],
            expr_fields: &[field],
        };
        let udaf = datafusion::functions_aggregate::array_agg::array_agg_udaf();
        let inner = udaf.create_groups_accumulator(args).unwrap();
        Groups { inner, kept: Kept::default() }
    }

    #[test]
    fn a_buffer_counts_once_and_until_its_groups_are_given_out() {
        let (mut groups, a, b) = (groups(), texts(10, 1000), texts(10, 1000));
        let (first, second) = (vec![0; 5], vec![1, 2, 3, 3, 3]);
        groups.update_batch(&[a.slice(0, 5)], &first, None, 4).unwrap();
        groups.update_batch(&[a.slice(5, 5)], &second, None, 4).unwrap();
        groups.update_batch(&[b], &[0; 10], None, 4).unwrap();
        assert_eq!(groups.kept.bytes, 20_000);
        assert!(groups.size() > 20_000);
        groups.evaluate(EmitTo::First(1)).unwrap();
        assert_eq!(groups.kept.bytes, 10_000, "groups 1 to 3 point into the first buffer");
        groups.evaluate(EmitTo::First(2)).unwrap();
        assert_eq!(groups.kept.bytes, 10_000, "one group is left");
        groups.evaluate(EmitTo::First(1)).unwrap();
        assert_eq!(groups.kept.bytes, 0);
    }

    #[test]
    fn rows_that_a_filter_drops_do_not_count() {
        let (mut groups, none) = (groups(), BooleanArray::from(vec![false; 10]));
        groups.update_batch(&[texts(10, 1000)], &[0; 10], Some(&none), 1).unwrap();
        assert_eq!(groups.kept.bytes, 0);
    }

    #[test]
    fn few_values_of_many_bytes_are_copied() {
        let all = texts(100, 1000);
        let few = compact(&all.slice(7, 2));
        assert_eq!(few.as_string_view().data_buffers()[0].len(), 2000);
        assert_eq!(few.as_ref(), all.slice(7, 2).as_ref());
        assert!(Arc::ptr_eq(&compact(&all), &all));
        let item = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let offsets = OffsetBuffer::from_lengths([2]);
        let list: ArrayRef = Arc::new(ListArray::new(item, offsets, all.slice(7, 2), None));
        let own = compact(&list);
        assert_eq!(own.as_ref(), list.as_ref());
        assert_eq!(own.as_list::<i32>().values().as_string_view().data_buffers()[0].len(), 2000);
    }

    #[test]
    fn views_are_found_in_nested_values() {
        let item = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let values = texts(4, 100);
        let list = ListArray::new(item, OffsetBuffer::from_lengths([2, 2]), values, None);
        let mut kept = Kept::default();
        kept.add(&(Arc::new(list) as ArrayRef), 0);
        assert_eq!(kept.bytes, 400);
        kept.add(&(Arc::new(StringViewArray::from(vec!["short"])) as ArrayRef), 0);
        assert_eq!(kept.bytes, 400);
    }
}
