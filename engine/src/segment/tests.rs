//! Segments in memory: what is written is read back, under the old schema and newer ones; bounds hold;
//! merges keep rows and order.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::page_index::column_index::ColumnIndexMetaData;

use super::*;
use crate::catalog::RollupDef;
use crate::expr::{AggregateFunction, CompiledMeasures};
use crate::log::op::{FileEntry, StatValue, Target};
use crate::rollup::{RollupPlan, compare};
use crate::state::samples::{Rng, SampleCompiler, call, column, column_types, utc};
use crate::store::Storage;
use crate::time::{DAY_US, Granularity};

const NOW_MS: i64 = 1_790_000_000_123;

fn storage() -> Storage {
    Storage::from_store(Arc::new(InMemory::new()))
}

/// A column of every type, among them lists, and those that Otus adds.
fn schema() -> SchemaRef {
    let mut fields = vec![Field::new("time", utc(), false)];
    for (index, data_type) in column_types().into_iter().enumerate() {
        fields.push(Field::new(format!("c{index}"), data_type, true));
    }
    let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
    fields.push(Field::new("words", list(DataType::Utf8View), true));
    fields.push(Field::new("longs", list(DataType::Int64), true));
    fields.push(Field::new("_partition", DataType::Int32, false));
    fields.push(Field::new("_offset", DataType::Int64, false));
    fields.push(Field::new("_ingested_at", utc(), false));
    Arc::new(Schema::new(fields))
}

fn lists(rng: &mut Rng, item: &DataType, rows: usize) -> ArrayRef {
    let lengths: Vec<usize> = (0..rows).map(|_| rng.below(4)).collect();
    let values = column(rng, item, lengths.iter().sum(), 10);
    let nulls = (0..rows).map(|_| !rng.chance(20)).collect::<Vec<bool>>();
    let field = Arc::new(Field::new("item", item.clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
    Arc::new(ListArray::new(field, offsets, values, Some(nulls.into())))
}

fn rows(rng: &mut Rng, schema: &SchemaRef, rows: usize) -> RecordBatch {
    let columns = schema.fields().iter().map(|f| match f.data_type() {
        DataType::List(item) => lists(rng, item.data_type(), rows),
        other => column(rng, other, rows, if f.is_nullable() { 15 } else { 0 }),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap()
}

fn options(level: u8, keys: &[&str]) -> SegmentOptions {
    SegmentOptions {
        level,
        sorted_by: keys.iter().map(ToString::to_string).collect(),
        bloom: vec!["c8".into()],
        time_column: "time".into(),
    }
}

fn entry(written: WrittenFile) -> Arc<FileEntry> {
    Arc::new(written.into_entry(Target::Rejected, 1, Vec::new(), 0))
}

async fn write(storage: &Storage, batch: &RecordBatch, options: &SegmentOptions) -> Arc<FileEntry> {
    let batches = [
        batch.slice(0, batch.num_rows() / 3),
        batch.slice(batch.num_rows() / 3, batch.num_rows() - batch.num_rows() / 3),
    ];
    let written =
        write_segment(storage, "t1/raw", NOW_MS, &batch.schema(), &batches, options).await.unwrap();
    entry(written)
}

async fn read(storage: &Storage, file: &FileEntry, schema: &SchemaRef) -> RecordBatch {
    let batches = read_segment(storage, file, schema, None).await.unwrap();
    concat_batches(schema, &batches).unwrap()
}

async fn bytes_of(storage: &Storage, file: &FileEntry) -> bytes::Bytes {
    let path = Path::from(file.path.as_str());
    storage.store().get(&path).await.unwrap().bytes().await.unwrap()
}

#[tokio::test]
async fn all_types_come_back() {
    let mut rng = Rng(31);
    for (level, count) in [(0, 0), (0, 1), (0, 5_000), (1, 5_000)] {
        let storage = storage();
        let batch = rows(&mut rng, &schema(), count);
        let file = write(&storage, &batch, &options(level, &[])).await;
        assert_eq!(file.rows, count as u64);
        assert_eq!(file.bytes, bytes_of(&storage, &file).await.len() as u64);
        assert_eq!(read(&storage, &file, &schema()).await, batch, "level {level}");
    }
}

#[tokio::test]
async fn files_are_plain_parquet() {
    let storage = storage();
    let batch = rows(&mut Rng(32), &schema(), 1_000);
    let batch = sort_batches(&schema(), &[batch], &["time", "_offset"]).unwrap();
    for level in [0, 1] {
        let file = write(&storage, &batch, &options(level, &["time"])).await;
        let bytes = bytes_of(&storage, &file).await;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
        // A reader that knows nothing of us sees no views, no unsigned, no dictionaries.
        let plain: Vec<DataType> =
            reader.schema().fields().iter().map(|f| f.data_type().clone()).collect();
        let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
        let mut expected = vec![utc()];
        expected.extend(column_types().into_iter().map(|t| match t {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            other => other,
        }));
        expected.extend([
            list(DataType::Utf8),
            list(DataType::Int64),
            DataType::Int32,
            DataType::Int64,
            utc(),
        ]);
        assert_eq!(plain, expected);
        let metadata = reader.metadata();
        assert!(metadata.file_metadata().key_value_metadata().is_none());
        let group = metadata.row_group(0);
        let sorting = group.sorting_columns().unwrap();
        assert_eq!((sorting.len(), sorting[0].column_idx, sorting[0].nulls_first), (1, 0, true));
        let compression = group.column(0).compression();
        assert_eq!(matches!(compression, Compression::ZSTD(_)), level == 1, "{compression:?}");
        assert!(
            group.column(9).bloom_filter_offset().is_some(),
            "{}",
            group.column(9).column_path()
        );
        // The tail that the entry names holds footer and indexes.
        let tail = bytes.slice(bytes.len() - file.footer_bytes as usize..);
        let mut footer = ParquetMetaDataReader::new().with_page_index_policy(true.into());
        footer.try_parse_sized(&tail, file.bytes).unwrap();
        // Pages of the event time have bounds at every level, so that a short range reads few of them.
        let footer = footer.finish().unwrap();
        let time = batch.schema().index_of("time").unwrap();
        let index = &footer.column_index().unwrap()[0][time];
        assert!(!matches!(index, ColumnIndexMetaData::NONE), "level {level}");
        assert!(file.footer_bytes > 8);
        assert!(u64::from(file.footer_bytes) < file.bytes);
    }
}

#[tokio::test]
async fn names_tell_the_time() {
    let storage = storage();
    let batch = rows(&mut Rng(33), &schema(), 10);
    let file = write(&storage, &batch, &options(0, &[])).await;
    let name = file.path.strip_prefix("t1/raw/").unwrap().strip_suffix(".parquet").unwrap();
    let (seconds, nanos) = Uuid::parse_str(name).unwrap().get_timestamp().unwrap().to_unix();
    assert_eq!(seconds * 1000 + u64::from(nanos) / 1_000_000, u64::try_from(NOW_MS).unwrap());
}

#[tokio::test]
async fn bounds_hold_and_exact_ones_are_met() {
    let mut rng = Rng(34);
    for (level, count) in [(0, 1), (0, 3_000), (1, 3_000)] {
        let storage = storage();
        let batch = rows(&mut rng, &schema(), count);
        let file = write(&storage, &batch, &options(level, &[])).await;
        for (stats, column) in file.columns.iter().zip(batch.columns()) {
            assert_eq!(stats.nulls, column.null_count() as u64, "{}", stats.name);
            check_bounds(&stats.name, (&stats.min, &stats.max, stats.exact), column);
        }
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>().values();
        let bounds = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
        assert_eq!(file.time, Some(bounds));
    }
}

fn check_bounds(
    name: &str,
    (min, max, exact): (&Option<StatValue>, &Option<StatValue>, bool),
    column: &ArrayRef,
) {
    let known = !column.data_type().is_nested() && *column.data_type() != DataType::BinaryView;
    let values = column.len() - column.null_count();
    let floating = column.data_type().is_floating();
    if !known || values == 0 {
        assert_eq!((min, max), (&None, &None), "{name}");
        return;
    }
    let extreme = |function: AggregateFunction| {
        let mut accumulator = function.accumulator(&[column.data_type().clone()]).unwrap();
        accumulator.update(&[Arc::clone(column)], &vec![0; column.len()], None, 1).unwrap();
        accumulator.finish(crate::order::EmitTo::All).unwrap()
    };
    let (low, high) = (extreme(AggregateFunction::Min), extreme(AggregateFunction::Max));
    assert_eq!(exact, !floating, "{name}");
    let text =
        |a: &ArrayRef| cast(a, &DataType::Utf8View).unwrap().as_string_view().value(0).to_string();
    let long = |a: &ArrayRef| {
        let a = if *a.data_type() == DataType::Date32 {
            cast(a, &DataType::Int32).unwrap()
        } else {
            Arc::clone(a)
        };
        cast(&a, &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(0)
    };
    let stat = |a: &ArrayRef| match a.data_type() {
        DataType::Boolean => StatValue::Bool(a.as_boolean().value(0)),
        DataType::Utf8View => StatValue::Text(text(a)),
        DataType::Decimal128(_, _) => StatValue::Decimal(
            a.as_primitive::<arrow::datatypes::Decimal128Type>().value(0).to_string(),
        ),
        _ => StatValue::Int(long(a)),
    };
    if !floating {
        assert_eq!((min, max), (&Some(stat(&low)), &Some(stat(&high))), "{name}");
        return;
    }
    let double = |a: &ArrayRef| {
        cast(a, &DataType::Float64)
            .unwrap()
            .as_primitive::<arrow::datatypes::Float64Type>()
            .value(0)
    };
    if let Some(StatValue::Float(min)) = min {
        assert!(*min <= double(&low), "{name}");
    }
    // With NaN among the values there is no greatest number to tell.
    assert_eq!(max.is_none(), double(&high).is_nan(), "{name}");
}

#[tokio::test]
async fn long_text_bounds_are_cut_and_rounded_up() {
    let storage = storage();
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("c8", DataType::Utf8View, true)]));
    let long = |c: char| c.to_string().repeat(100);
    let words = StringViewArray::from_iter([Some(long('ä')), None, Some(long('é'))]);
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(words)]).unwrap();
    // Seen by us, and by the writer.
    for keys in [&[][..], &["c8"][..]] {
        let file = write(&storage, &batch, &options(1, keys)).await;
        let stats = &file.columns[0];
        assert!(!stats.exact);
        let (Some(StatValue::Text(min)), Some(StatValue::Text(max))) = (&stats.min, &stats.max)
        else {
            panic!("{stats:?}");
        };
        assert!(min.len() <= 64 && max.len() <= 64, "{min:?} {max:?}");
        assert!(*min <= long('ä') && *max >= long('é'), "{min:?} {max:?}");
        assert_eq!(file.time, None);
    }
    // Nothing is greater than this: there is no bound to tell.
    let top = StringViewArray::from_iter_values([long(char::MAX)]);
    let batch = RecordBatch::try_new(schema, vec![Arc::new(top)]).unwrap();
    let file = write(&storage, &batch, &options(0, &[])).await;
    assert_eq!(file.columns[0].max, None);
}

#[tokio::test]
async fn old_files_fit_newer_schemas() {
    let storage = storage();
    let old: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("time", utc(), false),
        Field::new("gone", DataType::Utf8View, true),
        Field::new("small", DataType::Int16, true),
    ]));
    let new: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("added", DataType::Utf8View, true),
        Field::new("small", DataType::Int64, true),
        Field::new("time", utc(), false),
    ]));
    let batch = rows(&mut Rng(35), &old, 100);
    let file = write(&storage, &batch, &options(0, &[])).await;
    let found = read(&storage, &file, &new).await;
    assert_eq!(found.column(0).null_count(), 100);
    assert_eq!(found.column(1), &cast(batch.column(2), &DataType::Int64).unwrap());
    assert_eq!(found.column(2), batch.column(0));
    // Some columns, in the schema's order; also none of those the file has.
    let some =
        read_segment(&storage, &file, &new, Some(&["time".into(), "small".into()])).await.unwrap();
    assert_eq!(some[0].schema().fields().len(), 2);
    assert_eq!(some[0].column(1), batch.column(0));
    let added = read_segment(&storage, &file, &new, Some(&["added".into()])).await.unwrap();
    assert_eq!(added.iter().map(RecordBatch::num_rows).sum::<usize>(), 100);
    assert!(read_segment(&storage, &file, &new, Some(&["nothing".into()])).await.is_err());
}

#[tokio::test]
async fn missing_and_damaged_files_say_so() {
    let storage = storage();
    let batch = rows(&mut Rng(36), &schema(), 100);
    let file = write(&storage, &batch, &options(0, &[])).await;
    let path = Path::from(file.path.as_str());
    storage.store().put(&path, bytes::Bytes::from(vec![7_u8; 4000]).into()).await.unwrap();
    let damaged = read_segment(&storage, &file, &schema(), None).await.unwrap_err();
    assert_eq!(damaged.kind(), crate::ErrorKind::Corrupt);
    assert!(damaged.to_string().contains(&file.path), "{damaged}");
    storage.store().delete(&path).await.unwrap();
    let missing = read_segment(&storage, &file, &schema(), None).await.unwrap_err();
    assert_eq!(missing.kind(), crate::ErrorKind::NotFound);
}

#[tokio::test]
async fn merged_raw_segments_hold_all_rows_in_order() {
    let storage = storage();
    let mut rng = Rng(37);
    let mut files = Vec::new();
    let mut all = Vec::new();
    for keys in [vec!["time"], vec!["time"], vec![]] {
        let batch = rows(&mut rng, &schema(), 2_000);
        let batch = match keys.is_empty() {
            true => batch,
            false => sort_batches(&schema(), &[batch], &keys).unwrap(),
        };
        files.push(write(&storage, &batch, &options(0, &keys)).await);
        all.push(batch);
    }
    let options =
        MergeOptions { segment: options(1, &["time"]), split_days: true, ..Default::default() };
    let merge = async |options: &MergeOptions| {
        merge_sorted_segments(&storage, &files, &schema(), "t1/raw", NOW_MS, options).await.unwrap()
    };
    let written = merge(&options).await;
    assert_eq!(written.len(), 1);
    let merged = read(&storage, &entry(written[0].clone()), &schema()).await;
    let expected = sort_batches(&schema(), &all, &["time"]).unwrap();
    assert_eq!(merged, expected);
    // What lies before the horizon goes.
    let times = expected.column(0).as_primitive::<TimestampMicrosecondType>().values().clone();
    let horizon = MergeOptions { from_us: Some(times[5_000]), ..options.clone() };
    let kept = times.iter().filter(|t| **t >= times[5_000]).count();
    assert_eq!(merge(&horizon).await[0].rows, kept as u64);
    let nothing = MergeOptions { from_us: Some(i64::MAX), ..options.clone() };
    assert_eq!(merge(&nothing).await, []);
    // A bound on bytes makes more files.
    let small = MergeOptions { file_bytes_max: 1, ..options.clone() };
    assert!(merge(&small).await.len() > 1);
    // No order wanted: one after the other.
    let segment = SegmentOptions { sorted_by: Vec::new(), ..options.segment };
    let unsorted = MergeOptions { segment, ..Default::default() };
    let written = merge(&unsorted).await;
    let merged = read(&storage, &entry(written[0].clone()), &schema()).await;
    assert_eq!(merged, concat_batches(&schema(), &all).unwrap());
}

#[tokio::test]
async fn days_worth_it_get_their_own_file() {
    let storage = storage();
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("time", utc(), false)]));
    // Two full days, one with a few rows, and a full one.
    let counts = [70_000, 66_000, 10, 70_000];
    let times =
        (0_i64..).zip(counts).flat_map(|(day, count)| (0..count).map(move |i| day * DAY_US + i));
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(times)]).unwrap();
    let file = write(&storage, &batch, &options(0, &["time"])).await;
    let options =
        MergeOptions { segment: options(1, &["time"]), split_days: true, ..Default::default() };
    let files = [file];
    let split =
        merge_sorted_segments(&storage, &files, &schema, "d", NOW_MS, &options).await.unwrap();
    let rows: Vec<u64> = split.iter().map(|w| w.rows).collect();
    assert_eq!(rows, [70_000, 66_000, 70_010]);
    assert_eq!(split[0].time, Some((0, 69_999)));
    let options = MergeOptions { split_days: false, ..options };
    let whole =
        merge_sorted_segments(&storage, &files, &schema, "d", NOW_MS, &options).await.unwrap();
    assert_eq!(whole.len(), 1);
}

/// Four level-0 files of a rollup by second, with the rows they came from.
async fn level0_states(
    storage: &Storage,
) -> (RollupPlan, SegmentOptions, Vec<Arc<FileEntry>>, Vec<RecordBatch>) {
    let schema = schema();
    let mut rng = Rng(38);
    let calls = vec![
        call(&schema, "n", AggregateFunction::CountAll, &[], None),
        call(&schema, "s", AggregateFunction::Sum, &["c2"], None),
        call(&schema, "d", AggregateFunction::ApproxDistinct, &["c8"], None),
        call(&schema, "l", AggregateFunction::Last, &["c8", "time"], None),
    ];
    let measures = CompiledMeasures { calls, measures: Vec::new() };
    let def = RollupDef {
        name: "r".into(),
        granularities: vec![Granularity::Second, Granularity::Hour],
        dimensions: vec!["c1".into(), "c8".into()],
        filter: None,
        measures: Vec::new(),
    };
    let plan = RollupPlan::new(&schema, "time", &def, &measures, &SampleCompiler).unwrap();
    let level0 =
        SegmentOptions { time_column: "bucket".into(), ..options(0, &["bucket", "c1", "c8"]) };
    let mut files = Vec::new();
    let mut raw = Vec::new();
    for _ in 0..4 {
        let batch = rows(&mut rng, &schema, 9_000);
        let states = plan.from_raw(Granularity::Second, std::slice::from_ref(&batch)).unwrap();
        files.push(write(storage, &states, &level0).await);
        raw.push(batch);
    }
    (plan, level0, files, raw)
}

#[tokio::test]
async fn merged_states_are_the_states_of_all_rows() {
    let storage = storage();
    let (plan, level0, files, raw) = level0_states(&storage).await;
    for granularity in [Granularity::Second, Granularity::Hour, Granularity::Year] {
        let segment = SegmentOptions { level: 1, ..level0.clone() };
        let options = MergeOptions { segment, ..Default::default() };
        let written =
            merge_rollup_segments(&storage, &files, &plan, granularity, "r", NOW_MS, &options)
                .await;
        let merged = read(&storage, &entry(written.unwrap().remove(0)), plan.schema()).await;
        let sorted =
            sort_batches(plan.schema(), std::slice::from_ref(&merged), &plan.sort_keys()).unwrap();
        assert_eq!(sorted, merged, "{granularity}");
        let mut whole = plan.start(granularity).unwrap();
        raw.iter().for_each(|b| whole.push_raw(b).unwrap());
        assert_eq!(merged.num_rows(), whole.len(), "one row per key at {granularity}");
        let mut stored = plan.start(granularity).unwrap();
        stored.push_states(&merged).unwrap();
        assert_eq!(compare(whole, stored).unwrap(), [], "{granularity}");
    }
    let options = MergeOptions { segment: level0, ..Default::default() };
    let none =
        merge_rollup_segments(&storage, &[], &plan, Granularity::Hour, "r", NOW_MS, &options);
    assert_eq!(none.await.unwrap(), []);
}

#[tokio::test]
async fn granularities_folded_at_once_are_each_by_itself() {
    let storage = storage();
    let (plan, level0, files, _) = level0_states(&storage).await;
    // In any order; a horizon of one is none of the others.
    let segment = SegmentOptions { level: 1, ..level0 };
    let own = |from_us| MergeOptions { segment: segment.clone(), from_us, ..Default::default() };
    let targets = [
        (Granularity::Year, own(None)),
        (Granularity::Second, own(Some(1_442_016_000_000_000))),
        (Granularity::Week, own(None)),
        (Granularity::Hour, own(None)),
        (Granularity::Month, own(None)),
    ];
    let at_once = fold_rollup_segments(&storage, &files, &plan, &targets, "r", NOW_MS).await;
    for ((granularity, options), written) in targets.iter().zip(at_once.unwrap()) {
        let g = *granularity;
        let alone = merge_rollup_segments(&storage, &files, &plan, g, "r", NOW_MS, options).await;
        let alone = read(&storage, &entry(alone.unwrap().remove(0)), plan.schema()).await;
        let together = read(&storage, &entry(written[0].clone()), plan.schema()).await;
        assert!(together.num_rows() > 0);
        // Sketches may be laid out differently: compare what they finish to.
        let finished = |states: &RecordBatch| {
            let mut aggregation = plan.start(g).unwrap();
            aggregation.push_states(states).unwrap();
            aggregation
        };
        assert_eq!(alone.num_rows(), together.num_rows(), "{granularity}");
        assert_eq!(compare(finished(&alone), finished(&together)).unwrap(), [], "{granularity}");
    }
}

#[tokio::test]
async fn large_files_go_out_in_parts_and_come_back_by_ranges() {
    let storage = storage();
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("time", utc(), false),
        Field::new("noise", DataType::Int64, false),
    ]));
    let mut rng = Rng(39);
    let count = 1_500_000_i64;
    let times = TimestampMicrosecondArray::from_iter_values(0..count).with_timezone("UTC");
    let noise = Int64Array::from_iter_values((0..count).map(|_| rng.next().cast_signed()));
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(times), Arc::new(noise)]).unwrap();
    let file = write(&storage, &batch, &options(1, &["time"])).await;
    assert!(file.bytes > 10 << 20, "{}", file.bytes);
    assert_eq!(read(&storage, &file, &schema).await, batch);
    let listed = storage.store().head(&Path::from(file.path.as_str())).await.unwrap();
    assert_eq!(listed.size, file.bytes);
    assert_eq!(file.time, Some((0, count - 1)));
}

/// Row groups that cannot hold a wanted offset are not read; those that can come whole.
#[tokio::test]
async fn row_groups_without_wanted_offsets_are_skipped() {
    let storage = storage();
    let rows = i64::try_from(crate::limits::ROW_GROUP_ROWS).unwrap();
    let fields = [Field::new("time", utc(), false), Field::new("_offset", DataType::Int64, false)];
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let offsets = Int64Array::from_iter_values(0..rows * 5 / 2);
    let times = TimestampMicrosecondArray::from_iter_values(offsets.values().iter().copied());
    let columns: Vec<ArrayRef> = vec![Arc::new(times.with_timezone("UTC")), Arc::new(offsets)];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let plain = SegmentOptions { bloom: vec![], ..options(1, &["time"]) };
    let file = write(&storage, &batch, &plain).await;
    let read = async |least: i64, greatest: i64| {
        let within = read::Within { column: "_offset", least, greatest };
        let stream = read::stream_some(&storage, &file, &schema, None, Some(within)).await;
        let batches: Vec<RecordBatch> = stream.unwrap().try_collect().await.unwrap();
        let ends = |b: &RecordBatch| {
            let offsets = b["_offset"].as_primitive::<Int64Type>().values();
            (offsets[0], offsets[offsets.len() - 1] + 1)
        };
        batches.first().zip(batches.last()).map(|(a, b)| (ends(a).0, ends(b).1))
    };
    assert_eq!(read(0, 5).await, Some((0, rows)));
    assert_eq!(read(rows - 1, rows).await, Some((0, 2 * rows)));
    assert_eq!(read(2 * rows + 7, i64::MAX).await, Some((2 * rows, rows * 5 / 2)));
    assert_eq!(read(rows * 3, rows * 4).await, None);
}
