//! Keyed tables through flush, compaction, reopening, other processes and rebuilds.

use arrow::array::BooleanArray;

use super::*;
use crate::catalog::{ColumnSource, KeyedDef, TableKind};
use crate::clock::Clock;
use crate::keyed::{ABSENT, Key};
use crate::types::ColumnType;

fn keyed_def() -> TableDef {
    let events = table_def();
    let mut columns = events.columns.clone();
    columns[1].source = ColumnSource::RecordKey;
    columns.push(ColumnDef {
        name: "note".into(),
        column_type: ColumnType::Text,
        ..columns[2].clone()
    });
    TableDef {
        name: "players".into(),
        kind: TableKind::Keyed(KeyedDef { key: "kind".into(), rebuild: None }),
        time: String::new(),
        columns: columns.split_off(1),
        measures: vec![],
        rollups: vec![],
        ..events
    }
}

/// Key, value (none deletes), condition.
type Change = (&'static str, Option<i64>, Option<i64>);

struct World {
    storage: Storage,
    clock: Arc<ManualClock>,
    dataset: Arc<Dataset>,
    epoch: u64,
}

impl World {
    async fn new() -> Self {
        Self::over(memory(), Arc::new(ManualClock::new(1_000_000_000)), "one").await
    }

    async fn over(storage: Storage, clock: Arc<ManualClock>, member: &str) -> Self {
        let dataset = Self::opened(&storage, &clock, member, 2 << 30).await;
        let epoch = dataset.claim(&[tp()]).await.unwrap()[0].epoch;
        let world = Self { storage, clock, dataset, epoch };
        world.start(world.id()).await;
        world
    }

    async fn opened(
        storage: &Storage,
        clock: &Arc<ManualClock>,
        member: &str,
        keyed_bytes: usize,
    ) -> Arc<Dataset> {
        let limits = FlushLimits { keyed_bytes, collect_grace_us: 1000, ..FlushLimits::default() };
        let options = DatasetOptions {
            member: member.into(),
            clock: Arc::<ManualClock>::clone(clock),
            compiler: Arc::new(TinyCompiler),
            flush: limits,
        };
        let dataset = Dataset::open(storage.clone(), options).await.unwrap();
        dataset.apply_tables(&[keyed_def()], false).await.unwrap();
        dataset
    }

    async fn start(&self, table: TableId) {
        if self.dataset.snapshot().positions(table).is_empty() {
            let (epoch, identity) = (self.epoch, LogIdentity::default());
            let start = StartPosition { table, tp: tp(), epoch, offset: 0, identity };
            self.dataset.start_positions(vec![start]).await.unwrap();
        }
    }

    /// The same storage, opened by another process that takes over.
    async fn reopened(&self, member: &str) -> Self {
        Self::over(self.storage.clone(), Arc::clone(&self.clock), member).await
    }

    fn id(&self) -> TableId {
        self.dataset.snapshot().table("public", "players").unwrap().id
    }

    fn end(&self, table: TableId) -> i64 {
        self.dataset.snapshot().positions(table)[&tp()].1
    }

    fn write(&self, changes: &[Change]) -> Result<()> {
        self.write_to(self.id(), changes, None)
    }

    fn write_to(&self, table: TableId, changes: &[Change], as_of_us: Option<i64>) -> Result<()> {
        self.dataset.append(vec![self.append_at(table, self.end(table), changes, as_of_us)])
    }

    fn append_at(
        &self,
        table: TableId,
        from: i64,
        changes: &[Change],
        as_of_us: Option<i64>,
    ) -> Append {
        let to = from + changes.len() as i64;
        let snapshot = self.dataset.snapshot();
        let compiled = snapshot.table_by_id(table).unwrap();
        let now = self.clock.now_us();
        let times = || {
            let times = changes.iter().map(|_| now);
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringViewArray::from_iter_values(changes.iter().map(|c| c.0))),
            Arc::new(changes.iter().map(|c| c.1).collect::<Int64Array>()),
            Arc::new(StringViewArray::from_iter(
                changes.iter().map(|c| Some("note ".repeat(40) + c.0)),
            )),
            Arc::new(Int32Array::from(vec![0; changes.len()])),
            Arc::new((from..to).collect::<Int64Array>()),
            times(),
            times(),
            Arc::new(changes.iter().map(|c| Some(c.1.is_none())).collect::<BooleanArray>()),
            Arc::new(changes.iter().map(|c| c.2).collect::<Int64Array>()),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&compiled.appended), columns).unwrap();
        Append {
            table,
            tp: tp(),
            epoch: self.epoch,
            from,
            to,
            batch,
            counts: ReadCounts { kept: changes.len() as u64, ..ReadCounts::default() },
            rejected: RecordBatch::new_empty(rejected_schema()),
            fields: vec![],
            identity: LogIdentity { as_of_us, ..LogIdentity::default() },
        }
    }

    fn rows(&self) -> BTreeMap<String, i64> {
        rows(&self.dataset)
    }
}

fn rows(dataset: &Dataset) -> BTreeMap<String, i64> {
    let snapshot = dataset.snapshot();
    let table = snapshot.table("public", "players").unwrap();
    let keyed = snapshot.keyed(table.id).unwrap();
    let mut found = BTreeMap::new();
    for block in keyed.blocks() {
        let batch = block.read(None).unwrap();
        for row in 0..batch.num_rows() {
            let key = batch["kind"].as_string_view().value(row).to_string();
            let value = batch["n"].as_primitive::<Int64Type>().value(row);
            assert!(keyed.get(&Key::Text(key.clone())).is_some());
            assert!(found.insert(key, value).is_none());
        }
    }
    found
}

fn expected(rows: &[(&str, i64)]) -> BTreeMap<String, i64> {
    rows.iter().map(|(key, value)| ((*key).to_string(), *value)).collect()
}

#[tokio::test]
async fn rows_survive_flushes_and_reopening() {
    let world = World::new().await;
    world.write(&[("a", Some(1), None), ("b", Some(1), None), ("a", Some(2), None)]).unwrap();
    let before = world.dataset.snapshot();
    assert_eq!(world.rows(), expected(&[("a", 2), ("b", 1)]), "seen before any flush");
    world.dataset.flush().await.unwrap();
    world.write(&[("b", None, None), ("c", Some(3), None)]).unwrap();
    world.dataset.flush().await.unwrap();
    let now = expected(&[("a", 2), ("c", 3)]);
    assert_eq!(world.rows(), now);
    let next = world.reopened("two").await;
    assert_eq!((next.rows(), next.end(next.id())), (now, 5));
    assert_eq!(before.keyed(world.id()).unwrap().rows(), 2, "a snapshot never changes");
    let audit = next.dataset.verify(&|_| {}).await.unwrap();
    assert!(audit.iter().all(|a| a.problems.is_empty()), "{audit:?}");
}

#[tokio::test]
async fn compaction_keeps_the_latest_rows_and_forgets_old_deletions() {
    let world = World::new().await;
    for n in 0..20 {
        world
            .write(&[("a", Some(n), None), ("gone", Some(n), None), ("gone", None, None)])
            .unwrap();
        world.dataset.flush().await.unwrap();
    }
    world.dataset.maintain(true).await.unwrap();
    let id = world.id();
    let files = || world.dataset.snapshot().raw_files(id).to_vec();
    assert_eq!((files().len(), files()[0].rows), (1, 2), "a row and a deletion");
    world.clock.advance(2 * DAY_US);
    world.write(&[("b", Some(1), None)]).unwrap();
    world.dataset.flush().await.unwrap();
    world.dataset.maintain(true).await.unwrap();
    assert_eq!((files().len(), files()[0].rows), (1, 2), "two rows");
    let snapshot = world.dataset.snapshot();
    assert_eq!(snapshot.keyed(id).unwrap().tombstones(), 0);
    assert_eq!(world.reopened("two").await.rows(), expected(&[("a", 19), ("b", 1)]));
}

#[tokio::test]
async fn writes_that_came_too_late_are_not_stored() {
    let world = World::new().await;
    world.write(&[("a", Some(1), Some(ABSENT))]).unwrap();
    world.write(&[("a", Some(2), Some(0)), ("a", Some(3), Some(0)), ("b", Some(4), None)]).unwrap();
    world.dataset.flush().await.unwrap();
    let now = expected(&[("a", 2), ("b", 4)]);
    assert_eq!(world.rows(), now);
    let counts = world.dataset.snapshot().manifest().tables[&world.id()].positions[&tp()].counts;
    assert_eq!((counts.kept, counts.filtered), (3, 1));
    assert_eq!(world.reopened("two").await.rows(), now);
}

#[tokio::test]
async fn what_another_process_commits_is_seen() {
    let one = World::new().await;
    one.write(&[("a", Some(1), None)]).unwrap();
    one.dataset.flush().await.unwrap();
    let two = one.reopened("two").await;
    two.write(&[("a", Some(2), None), ("b", Some(1), None)]).unwrap();
    two.dataset.flush().await.unwrap();
    two.dataset.maintain(true).await.unwrap();
    assert_eq!(one.rows(), expected(&[("a", 1)]));
    one.dataset.refresh().await.unwrap();
    assert_eq!(one.rows(), expected(&[("a", 2), ("b", 1)]));
}

#[tokio::test]
async fn a_rebuild_takes_its_place_when_it_is_level() {
    let world = World::new().await;
    world.write(&[("a", Some(1), None), ("ghost", Some(1), None)]).unwrap();
    world.dataset.flush().await.unwrap();
    let old = world.id();
    let new = world.dataset.start_rebuild(old, "a test").await.unwrap();
    assert_eq!(world.dataset.start_rebuild(old, "again").await.unwrap(), new);
    assert_eq!(world.id(), old, "out of sight");
    world.start(new).await;
    world.write_to(new, &[("a", Some(1), None), ("b", Some(2), None)], None).unwrap();
    world.dataset.flush().await.unwrap();
    assert!(!world.dataset.finish_rebuild(new).await.unwrap(), "not level");
    assert_eq!(world.rows(), expected(&[("a", 1), ("ghost", 1)]), "the old view is served");
    // A process that is started anew goes on with it.
    let world = world.reopened("two").await;
    assert_eq!(world.rows(), expected(&[("a", 1), ("ghost", 1)]));
    let now = world.clock.now_us();
    world.write_to(new, &[("c", Some(3), None)], Some(now)).unwrap();
    world.dataset.flush().await.unwrap();
    assert!(world.dataset.finish_rebuild(new).await.unwrap());
    let level = expected(&[("a", 1), ("b", 2), ("c", 3)]);
    assert_eq!((world.id(), world.rows()), (new, level.clone()));
    assert!(!world.dataset.snapshot().manifest().tables.contains_key(&old));
    assert_eq!(world.reopened("three").await.rows(), level);
}

#[tokio::test]
async fn a_column_that_comes_back_has_its_values() {
    let world = World::new().await;
    world.write(&[("a", Some(1), None), ("b", Some(2), None)]).unwrap();
    world.dataset.flush().await.unwrap();
    let whole = keyed_def();
    let mut hidden = keyed_def();
    hidden.columns.retain(|column| column.name != "note");
    assert_eq!(hidden.columns.len() + 1, whole.columns.len());
    for def in [hidden, whole] {
        world.dataset.apply_tables(&[def], true).await.unwrap();
        assert_eq!(world.rows(), expected(&[("a", 1), ("b", 2)]));
    }
    let snapshot = world.dataset.snapshot();
    let keyed = snapshot.keyed(world.id()).unwrap();
    let notes = keyed.blocks().into_iter().map(|block| {
        let batch = block.read(None).unwrap();
        batch["note"].null_count()
    });
    assert_eq!(notes.sum::<usize>(), 0, "values of a column that was hidden");
    world.write(&[("b", Some(3), None)]).unwrap();
    world.dataset.flush().await.unwrap();
    let next = world.reopened("two").await;
    assert_eq!(next.rows(), expected(&[("a", 1), ("b", 3)]));
}

#[tokio::test]
async fn a_changed_declaration_gives_a_rebuild_up() {
    let world = World::new().await;
    world.dataset.start_rebuild(world.id(), "a test").await.unwrap();
    let mut changed = keyed_def();
    changed.description = Some("players".into());
    world.dataset.apply_tables(&[changed], true).await.unwrap();
    assert_eq!(world.dataset.snapshot().manifest().tables.len(), 1);
}

/// Keys and values of some rows whose payload is worth a file.
fn many(n: i64) -> Vec<(&'static str, Option<i64>, Option<i64>)> {
    (0..4_000).map(|i| (key(i), (i % 7 > 0).then_some(i * n), None)).collect()
}

/// A name that lasts as long as the tests.
fn key(i: i64) -> &'static str {
    static KEYS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let keys = KEYS.get_or_init(|| (0..4_000).map(|i| format!("player {i}")).collect());
    &keys[usize::try_from(i).unwrap()]
}

#[tokio::test]
async fn what_memory_has_no_room_for_is_served_from_disk() {
    let model = |n: i64| -> BTreeMap<String, i64> {
        let live =
            many(n).into_iter().filter_map(|(key, value, _)| Some((key.to_string(), value?)));
        live.collect()
    };
    let (storage, clock) = (memory(), Arc::new(ManualClock::new(1_000_000_000)));
    let spilled = |dataset: &Dataset| {
        let snapshot = dataset.snapshot();
        let tables = snapshot.read_tables().filter_map(|t| snapshot.keyed(t.id));
        tables.map(|t| t.spilled_bytes()).sum::<u64>()
    };
    // Keys have room, other columns do not.
    let limit = 600_000;
    let open = async |member: &str| {
        let dataset = World::opened(&storage, &clock, member, limit).await;
        let epoch = dataset.claim(&[tp()]).await.unwrap()[0].epoch;
        let clock = Arc::clone(&clock);
        let world = World { storage: storage.clone(), clock, dataset, epoch };
        world.start(world.id()).await;
        world
    };
    let one = open("one").await;
    for n in 1..4 {
        for some in many(n).chunks(500) {
            one.write(some).unwrap();
            assert!(one.dataset.keyed_bytes() <= limit);
        }
        assert_eq!(one.rows(), model(n));
        one.dataset.flush().await.unwrap();
    }
    assert!(spilled(&one.dataset) > 0);
    let before = one.dataset.snapshot();
    let two = open("two").await;
    assert!(spilled(&two.dataset) > 0, "a start stays within its memory too");
    assert_eq!(two.rows(), model(3));
    // What another process commits goes to disk while it is read.
    for some in many(5).chunks(500) {
        two.write(some).unwrap();
    }
    two.dataset.flush().await.unwrap();
    two.dataset.maintain(true).await.unwrap();
    one.dataset.refresh().await.unwrap();
    one.dataset.make_room();
    assert_eq!(one.rows(), model(5));
    assert!(one.dataset.keyed_bytes() <= limit);
    let table = before.table("public", "players").unwrap().id;
    assert_eq!(before.keyed(table).unwrap().rows(), model(3).len(), "a snapshot never changes");
}

#[tokio::test]
async fn a_full_memory_refuses_with_the_reason() {
    let (storage, clock) = (memory(), Arc::new(ManualClock::new(1_000_000_000)));
    let dataset = World::opened(&storage, &clock, "one", 1).await;
    let epoch = dataset.claim(&[tp()]).await.unwrap()[0].epoch;
    let world = World { storage, clock, dataset, epoch };
    world.start(world.id()).await;
    let full = world.write(&[("a", Some(1), None)]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Full);
    assert!(full.message().contains("public.players"), "{full}");
    assert!(full.message().contains("keys have to be in memory"), "{full}");
    assert_eq!(world.end(world.id()), 0, "nothing was taken");
}

#[tokio::test]
async fn what_is_read_together_is_taken_together() {
    let (storage, clock) = (memory(), Arc::new(ManualClock::new(1_000_000_000)));
    let limit = 600_000;
    let dataset = World::opened(&storage, &clock, "one", limit).await;
    let epoch = dataset.claim(&[tp()]).await.unwrap()[0].epoch;
    let world = World { storage, clock, dataset, epoch };
    world.start(world.id()).await;
    // The first alone is more than may stay in memory: the second would come too late, again and again.
    let all = many(1);
    let (most, rest) = all.split_at(3_500);
    let id = world.id();
    let both = vec![world.append_at(id, 0, most, None), world.append_at(id, 3_500, rest, None)];
    world.dataset.append(both).unwrap();
    assert_eq!(world.end(id), 4_000);
    assert!(world.dataset.keyed_bytes() <= limit, "{}", world.dataset.keyed_bytes());
}
