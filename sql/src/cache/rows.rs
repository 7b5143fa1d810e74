//! Rows of raw files, kept decoded by columns and blocks. A file never changes, and short statements ask for the
//! same ones again: opening a file and decoding its pages costs many times what a few hundred rows do. Bounded in
//! bytes; what was not asked for longest goes first, and files that are gone go with the next block that is read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;
use otus_engine::snapshot::Snapshot;
use parking_lot::Mutex;

/// Rows of a block: those of a page, as the writer of segments makes them.
pub(crate) const BLOCK_ROWS: usize = 20_480;

/// Where a block lies in its file, and the bounds of its event times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Row group.
    pub(crate) group: usize,
    /// First row, within the row group.
    pub(crate) first: usize,
    pub(crate) rows: usize,
    /// Least and greatest event time, as far as known.
    pub(crate) time: (i64, i64),
}

/// What is known of a file without its rows.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    pub(crate) blocks: Vec<Block>,
    /// Columns whose values are so long that blocks of them are not to be kept.
    pub(crate) wide: Vec<String>,
}

impl Shape {
    /// Whether blocks of all of these columns may be kept.
    pub(crate) fn is_narrow(&self, fields: &[FieldRef]) -> bool {
        self.wide.is_empty() || !fields.iter().any(|field| self.wide.contains(field.name()))
    }

    fn bytes(&self) -> usize {
        let wide = self.wide.iter().map(|name| name.len() + size_of::<String>()).sum::<usize>();
        wide + self.blocks.len() * (size_of::<Block>() + size_of::<Vec<Kept>>())
    }
}

/// The values of a column in a block.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) values: ArrayRef,
    /// Whether they are the event times, and never fall.
    pub(crate) rises: bool,
}

/// What a process keeps, by path.
#[derive(Debug)]
pub(crate) struct RowsCache {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    files: HashMap<String, File>,
    bytes: usize,
    /// Counts what is asked for, to know what was so longest ago.
    turn: u64,
    /// The snapshot of which files were last looked at.
    sequence: u64,
}

#[derive(Debug)]
struct File {
    shape: Arc<Shape>,
    /// Of each block.
    columns: Vec<Vec<Kept>>,
    /// Without its columns.
    bytes: usize,
    turn: u64,
}

#[derive(Debug)]
struct Kept {
    name: String,
    column: Column,
    bytes: usize,
    turn: u64,
}

impl RowsCache {
    /// A cache of so many bytes; 0 = nothing is kept.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default() }
    }

    /// Whether it keeps anything.
    pub(crate) fn is_on(&self) -> bool {
        self.bytes_max > 0
    }

    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }

    #[cfg(test)]
    pub(crate) fn paths(&self) -> Vec<String> {
        self.inner.lock().files.keys().cloned().collect()
    }

    /// What is known of a file.
    pub(crate) fn shape(&self, path: &str) -> Option<Arc<Shape>> {
        self.inner.lock().files.get(path).map(|file| Arc::clone(&file.shape))
    }

    /// Columns of a block, those that are kept.
    pub(crate) fn columns(
        &self,
        path: &str,
        block: usize,
        fields: &[FieldRef],
    ) -> Vec<Option<Column>> {
        let mut inner = self.inner.lock();
        inner.turn += 1;
        let turn = inner.turn;
        let found = inner.files.get_mut(path).and_then(|file| {
            file.turn = turn;
            file.columns.get_mut(block)
        });
        let Some(kept) = found else { return vec![None; fields.len()] };
        let column = |field: &FieldRef| {
            let kept = kept.iter_mut().find(|kept| kept.name == *field.name())?;
            // Its type may have changed since.
            if kept.column.values.data_type() != field.data_type() {
                return None;
            }
            kept.turn = turn;
            Some(kept.column.clone())
        };
        fields.iter().map(column).collect()
    }

    /// Keeps what is known of a file.
    pub(crate) fn keep_shape(&self, path: &str, shape: &Arc<Shape>) {
        let bytes = path.len() + size_of::<File>() + shape.bytes();
        let mut inner = self.inner.lock();
        if !inner.has_room(bytes, self.bytes_max) {
            return;
        }
        let turn = inner.turn;
        let columns = shape.blocks.iter().map(|_| Vec::new()).collect();
        let file = File { shape: Arc::clone(shape), columns, bytes, turn };
        if let Some(old) = inner.files.insert(path.to_owned(), file) {
            inner.bytes -= old.all_bytes();
        }
        inner.bytes += bytes;
    }

    /// Keeps a column of a block.
    pub(crate) fn keep(&self, path: &str, block: usize, name: &str, column: &Column) {
        let values = column.values.get_array_memory_size();
        let bytes = values + name.len() + size_of::<Kept>();
        let mut inner = self.inner.lock();
        if !inner.has_room(bytes, self.bytes_max) {
            return;
        }
        let turn = inner.turn;
        let place = inner.files.get_mut(path).and_then(|file| file.columns.get_mut(block));
        let Some(columns) = place else { return };
        let old = columns.iter().position(|kept| kept.name == name);
        let old = old.map_or(0, |at| columns.swap_remove(at).bytes);
        let (name, column) = (name.to_owned(), column.clone());
        columns.push(Kept { name, column, bytes, turn });
        inner.bytes = inner.bytes + bytes - old;
    }

    /// Forgets files that a new snapshot does not have any more.
    pub(crate) fn follow(&self, snapshot: &Snapshot) {
        let mut inner = self.inner.lock();
        if inner.sequence >= snapshot.sequence() {
            return;
        }
        inner.sequence = snapshot.sequence();
        let tables = snapshot.manifest().tables.values();
        let live: HashSet<&str> =
            tables.flat_map(|table| &table.files).map(|file| file.path.as_str()).collect();
        inner.files.retain(|path, _| live.contains(path.as_str()));
        inner.bytes = inner.files.values().map(File::all_bytes).sum();
    }
}

impl File {
    fn all_bytes(&self) -> usize {
        self.bytes + self.columns.iter().flatten().map(|kept| kept.bytes).sum::<usize>()
    }
}

impl Inner {
    /// Makes room for so many bytes; whether there is.
    fn has_room(&mut self, bytes: usize, bytes_max: usize) -> bool {
        if bytes > bytes_max {
            return false;
        }
        if self.bytes + bytes > bytes_max {
            // An eighth more, so that this is not done for each block.
            self.shrink((bytes_max - bytes_max / 8).min(bytes_max - bytes));
        }
        self.bytes + bytes <= bytes_max
    }

    /// Forgets what was asked for longest ago, until no more than `bytes` are left.
    fn shrink(&mut self, bytes: usize) {
        let kept = self.files.values().flat_map(|file| file.columns.iter().flatten());
        let mut turns: Vec<(u64, usize)> = kept.map(|kept| (kept.turn, kept.bytes)).collect();
        turns.extend(self.files.values().map(|file| (file.turn, file.bytes)));
        turns.sort_unstable();
        let (mut left, mut before) = (self.bytes, 0);
        for (turn, size) in turns {
            if left <= bytes {
                break;
            }
            (left, before) = (left - size, turn + 1);
        }
        for file in self.files.values_mut() {
            file.columns.iter_mut().for_each(|all| all.retain(|kept| kept.turn >= before));
        }
        self.files.retain(|_, file| file.turn >= before);
        self.bytes = self.files.values().map(File::all_bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn blocks(count: usize) -> Arc<Shape> {
        let block = |n| Block { group: 0, first: n * 10, rows: 10, time: (0, 9) };
        Arc::new(Shape { blocks: (0..count).map(block).collect(), wide: Vec::new() })
    }

    fn column(value: i64) -> Column {
        Column { values: Arc::new(Int64Array::from(vec![value; 10])), rises: false }
    }

    fn fields(name: &str, data_type: DataType) -> Vec<FieldRef> {
        vec![Arc::new(Field::new(name, data_type, true))]
    }

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let cache = RowsCache::new(8 << 10);
        cache.keep_shape("a", &blocks(200));
        cache.keep_shape("b", &blocks(4));
        assert!(cache.shape("a").is_none() && cache.shape("b").is_some(), "it has no room");
        let fields = fields("x", DataType::Int64);
        for block in 0..4 {
            cache.keep("b", block, "x", &column(1));
            assert!(cache.columns("b", block, &fields)[0].is_some());
        }
        for round in 0..200 {
            let path = format!("c{round}");
            cache.keep_shape(&path, &blocks(1));
            cache.columns(&path, 0, &fields);
            cache.keep(&path, 0, "x", &column(2));
            assert!(cache.bytes() <= 8 << 10, "{}", cache.bytes());
            assert!(cache.columns("b", 1, &fields)[0].is_some(), "round {round}");
        }
        assert!(cache.columns("b", 0, &fields)[0].is_none());
        assert!(cache.shape("c0").is_none() && cache.shape("c199").is_some());
    }

    #[test]
    fn columns_of_another_type_are_not_given() {
        let cache = RowsCache::new(1 << 20);
        cache.keep_shape("a", &blocks(1));
        cache.keep("a", 0, "x", &column(1));
        let before = cache.bytes();
        cache.keep("a", 0, "x", &column(3));
        assert_eq!(cache.bytes(), before);
        assert!(cache.columns("a", 0, &fields("x", DataType::Int64))[0].is_some());
        assert!(cache.columns("a", 0, &fields("x", DataType::Int32))[0].is_none());
        assert!(cache.columns("a", 0, &fields("y", DataType::Int64))[0].is_none());
        assert!(cache.columns("a", 1, &fields("x", DataType::Int64))[0].is_none());
    }
}
