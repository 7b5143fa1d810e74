//! Tables that do not fit their memory against such that do: the same rows, lookups, pages and moments.

use std::path::{Path, PathBuf};

use arrow::array::{ListArray, StringArray};
use arrow::datatypes::Fields;

use super::*;
use crate::catalog::TableId;
use crate::keyed::{Folder, KeyedSet, LoadedRows};

const ID: TableId = TableId(1);

/// A folder for files, gone with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("otus-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn folder(&self) -> Arc<Folder> {
        Arc::new(Folder::new(self.0.clone(), 0))
    }

    /// Files with rows, in all folders.
    fn files(&self) -> usize {
        let folders = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        let is_file = |path: &Path| path.file_name().is_some_and(|name| name != "_lock");
        folders
            .flat_map(|folder| std::fs::read_dir(folder).unwrap())
            .filter(|entry| is_file(&entry.as_ref().unwrap().path()))
            .count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Schema with columns of all layouts besides the key.
fn wide_shape(extra: bool) -> Shape {
    let mut fields = fields();
    let item = Arc::new(Field::new("item", DataType::Utf8View, true));
    let n = if extra { DataType::Decimal128(20, 0) } else { DataType::Int64 };
    fields[1] = Field::new("n", n, true);
    fields.insert(2, Field::new("note", DataType::Utf8View, true));
    fields.insert(3, Field::new("tags", DataType::List(item), true));
    fields.insert(4, Field::new("raw", DataType::BinaryView, true));
    if extra {
        fields.insert(5, Field::new("later", DataType::Utf8View, true));
    }
    Shape { schema: Arc::new(Schema::new(fields)), key: 0 }
}

/// The changes under the wide schema, with texts that tell their row.
fn wide(changes: &[Change], shape: &Shape) -> RecordBatch {
    let narrow = batch(changes);
    let note = |c: &Change| c.value.map(|v| format!("note {v} of {} {}", c.key, "x".repeat(400)));
    let tags = |c: &Change| -> Vec<Option<String>> {
        (0..c.offset % 3)
            .map(|n| (n != 1).then(|| format!("a rather long tag {n} {}", c.key)))
            .collect()
    };
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(changes.iter().map(|c| tags(c).len()));
    let items: StringArray = changes.iter().flat_map(tags).collect();
    let item = Arc::new(Field::new("item", DataType::Utf8View, true));
    let items = arrow::compute::cast(&items, &DataType::Utf8View).unwrap();
    let tags = ListArray::new(item, offsets, items, None);
    let note: StringViewArray = changes.iter().map(note).collect();
    let raw = arrow::compute::cast(&note, &DataType::BinaryView).unwrap();
    let mut schema = shape.schema.fields().to_vec();
    schema.push(Arc::new(Field::new(EXPECTED_COLUMN, DataType::Int64, true)));
    let column = |field: &Arc<Field>| -> ArrayRef {
        match field.name().as_str() {
            "note" => Arc::new(note.clone()),
            "tags" => Arc::new(tags.clone()),
            "raw" => Arc::clone(&raw),
            "later" => arrow::array::new_null_array(field.data_type(), changes.len()),
            name => {
                let known = narrow.column_by_name(name).unwrap();
                arrow::compute::cast(known, field.data_type()).unwrap()
            }
        }
    };
    let columns = schema.iter().map(column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(Fields::from(schema))), columns).unwrap()
}

/// Every live row as text, by key; each is also looked up, and found again page by page.
fn all(table: &KeyedTable, page: usize) -> BTreeMap<String, String> {
    let columns: Vec<usize> = (0..table.map().shape().schema.fields().len()).collect();
    let text = |batch: &RecordBatch| -> Vec<(String, String)> {
        let keys = batch.column(0).as_string_view().clone();
        let rows = (0..batch.num_rows()).map(|row| {
            let values = batch
                .columns()
                .iter()
                .map(|column| arrow::util::display::array_value_to_string(column, row).unwrap());
            (keys.value(row).to_string(), values.collect::<Vec<_>>().join("|"))
        });
        rows.collect()
    };
    let mut found = BTreeMap::new();
    let (mut paged, mut pieces) = (BTreeMap::new(), BTreeMap::new());
    for block in table.blocks() {
        for (key, row) in text(&block.read(None).unwrap()) {
            assert!(found.insert(key, row).is_none(), "one row a key");
        }
        for from in (0..block.rows()).step_by(page) {
            let batch = block.slice(&columns, from, page).unwrap();
            assert_eq!(batch.num_rows(), page.min(block.rows() - from));
            paged.extend(text(&batch));
        }
        for piece in block.pieces() {
            pieces.extend(text(&piece.read(&columns).unwrap()));
        }
    }
    assert_eq!((&paged, &pieces), (&found, &found));
    for (key, row) in &found {
        let looked_up = table.get(&Key::Text(key.clone())).unwrap().batch(&columns).unwrap();
        assert_eq!(text(&looked_up), [(key.clone(), row.clone())]);
        let one = table.get(&Key::Text(key.clone())).unwrap().batch(&[2, 0]).unwrap();
        assert_eq!(one.column(1).as_string_view().value(0), key);
    }
    assert_eq!(found.len(), table.rows());
    found
}

fn set(shape: &Shape) -> KeyedSet {
    let tables = [(ID, Arc::new(KeyedTable::new(shape.clone())))];
    KeyedSet { tables: tables.into_iter().collect() }
}

fn tidy(set: &mut KeyedSet, limit: usize, folder: &Arc<Folder>) {
    for _ in 0..1_000 {
        let work = set.work(limit);
        if work.is_empty() {
            return;
        }
        let done = work.into_iter().map(|work| work.carry_out(folder).unwrap()).collect();
        set.install(done).unwrap();
    }
    panic!("there is always more to do");
}

fn write(set: &mut KeyedSet, changes: &[Change]) {
    let table = Arc::make_mut(set.tables.get_mut(&ID).unwrap());
    let tp = TopicPartition::new("t", changes[0].partition);
    let batch = wide(changes, table.map().shape());
    table.append(&tp, batch).unwrap();
}

#[test]
fn a_table_on_disk_is_the_table_in_memory() {
    let place = Place::new("keyed-differential");
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let (folder, shape) = (place.folder(), wide_shape(false));
        let (mut small, mut large) = (set(&shape), set(&shape));
        let keys = [40, 1_500, 6_000][usize::try_from(seed % 3).unwrap()];
        let changes = world(&mut dice, 9_000, keys, 1 + seed % 3);
        let mut moments = Vec::new();
        let mut left = changes.as_slice();
        let mut spilled = false;
        while !left.is_empty() {
            let (some, rest) = left.split_at(1 + dice.index(left.len().min(600)));
            left = rest;
            write(&mut small, some);
            write(&mut large, some);
            // A table that is read while its rows go to disk.
            let work = small.work(1);
            if dice.below(3) == 0 && !left.is_empty() {
                let (more, rest) = left.split_at(1 + dice.index(left.len().min(50)));
                left = rest;
                write(&mut small, more);
                write(&mut large, more);
            }
            small
                .install(work.into_iter().map(|w| w.carry_out(&folder).unwrap()).collect())
                .unwrap();
            tidy(&mut small, [1, 300_000][dice.index(2)], &folder);
            spilled |= small.tables[&ID].spilled_bytes() > 0;
            match dice.below(12) {
                0 => moments.push((Arc::clone(&small.tables[&ID]), all(&large.tables[&ID], 90))),
                1 => {
                    let before_us = i64::try_from(dice.below(600)).unwrap();
                    let purge = |set: &mut KeyedSet| {
                        Arc::make_mut(set.tables.get_mut(&ID).unwrap()).purge(before_us).unwrap()
                    };
                    assert_eq!(purge(&mut small), purge(&mut large));
                }
                2 => {
                    let shape = wide_shape(true);
                    for set in [&mut small, &mut large] {
                        Arc::make_mut(set.tables.get_mut(&ID).unwrap()).reshape(&shape).unwrap();
                    }
                }
                _ => {}
            }
        }
        let (small, large) = (&small.tables[&ID], &large.tables[&ID]);
        assert!(spilled, "nothing went to disk");
        assert_eq!(all(small, 70), all(large, 1_000), "seed {seed}");
        assert_eq!((small.rows(), small.tombstones()), (large.rows(), large.tombstones()));
        for (table, rows) in moments {
            assert_eq!(all(&table, 1_000), rows, "seed {seed}: a moment has changed");
        }
    }
    assert_eq!(place.files(), 0, "files that no version refers to");
}

#[test]
fn memory_is_bounded_and_files_stay_few() {
    let place = Place::new("keyed-bounded");
    let (folder, shape) = (place.folder(), wide_shape(false));
    let mut set = set(&shape);
    let limit = 4 << 20;
    for round in 0..6_i64 {
        for some in 0..40_i64 {
            let change = |i: i64| Change {
                key: format!("key number {}", some * 500 + i),
                partition: 0,
                offset: round * 20_000 + some * 500 + i,
                at_us: 0,
                value: Some(round),
                expected: None,
            };
            write(&mut set, &(0..500).map(change).collect::<Vec<_>>());
            tidy(&mut set, limit, &folder);
            assert!(set.bytes() <= limit, "{} bytes", set.bytes());
        }
    }
    let table = &set.tables[&ID];
    assert_eq!(table.rows(), 20_000);
    // Some 900 bytes a row, and less than as much again that was overwritten.
    let spilled = table.spilled_bytes();
    assert!((14 << 20..48 << 20).contains(&spilled), "{spilled} bytes on disk");
    assert!(place.files() < 40, "{} files", place.files());
    assert!(all(table, 5_000).values().all(|row| row.contains("note 5 of")));
    drop(set);
    assert_eq!(place.files(), 0);
}

#[test]
fn a_disk_that_fails_loses_nothing() {
    let place = Place::new("keyed-failing");
    let shape = wide_shape(false);
    let mut set = set(&shape);
    let mut dice = Dice(3);
    write(&mut set, &world(&mut dice, 500, 400, 1));
    let before = all(&set.tables[&ID], 100);
    // A file stands where the folder should be.
    let blocked = place.0.join("blocked");
    std::fs::write(&blocked, "").unwrap();
    for (folder, what) in [
        (Folder::new(blocked.join("below"), 0), "cannot be made"),
        (Folder::new(place.0.clone(), u64::MAX), "kept in reserve"),
    ] {
        let folder = Arc::new(folder);
        let work = set.work(1);
        assert!(!work.is_empty());
        for work in work {
            let error = work.carry_out(&folder).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
        assert_eq!(all(&set.tables[&ID], 100), before);
    }
    std::fs::remove_file(&blocked).unwrap();
    // A damaged file is an error, not a wrong answer.
    let folder = place.folder();
    tidy(&mut set, 1, &folder);
    let table = &set.tables[&ID];
    assert_eq!(all(table, 100), before);
    for entry in std::fs::read_dir(&place.0).unwrap() {
        for file in std::fs::read_dir(entry.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.file_name().unwrap() != "_lock" {
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }
        }
    }
    let block = &table.blocks()[0];
    assert!(block.read(None).is_err() && block.slice(&[1], 0, 1).is_err());
    assert_eq!(block.read(Some(&[0])).unwrap().num_rows(), block.rows(), "keys are in memory");
}

#[test]
fn rows_that_are_loaded_may_be_on_disk_already() {
    let place = Place::new("keyed-loaded");
    let (folder, shape) = (place.folder(), wide_shape(false));
    let mut dice = Dice(11);
    let changes = world(&mut dice, 3_000, 900, 2);
    let (mut small, mut large) = (set(&shape), set(&shape));
    for (n, some) in changes.chunks(200).enumerate() {
        let batch = wide(some, &shape);
        let columns: Vec<usize> = (0..batch.num_columns() - 1).collect();
        let stored = batch.project(&columns).unwrap();
        let stored = stored.with_schema(Arc::clone(&shape.schema)).unwrap();
        let loaded = LoadedRows::new(&Arc::new(shape.clone()), &stored).unwrap();
        let loaded = if n % 3 == 0 { loaded } else { loaded.spilled(&folder).unwrap() };
        Arc::make_mut(small.tables.get_mut(&ID).unwrap()).take(loaded).unwrap();
        Arc::make_mut(large.tables.get_mut(&ID).unwrap()).load(&stored).unwrap();
    }
    tidy(&mut small, 1 << 20, &folder);
    assert_eq!(all(&small.tables[&ID], 50), all(&large.tables[&ID], 50));
}

#[test]
fn what_dead_processes_left_is_removed() {
    let place = Place::new("keyed-swept");
    let mut set = set(&wide_shape(false));
    write(&mut set, &world(&mut Dice(1), 50, 40, 1));
    let folder = place.folder();
    tidy(&mut set, 1, &folder);
    let left = place.0.join("otus-keyed-1-7");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("_lock"), "a process that was killed").unwrap();
    std::fs::write(left.join("0"), "rows").unwrap();
    let other = place.0.join("somebody-elses");
    std::fs::create_dir(&other).unwrap();
    place.folder().sweep();
    assert!(!left.exists() && other.exists());
    assert!(!all(&set.tables[&ID], 10).is_empty(), "files of the living stay");
}
