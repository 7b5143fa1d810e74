//! A small world around the log: members that claim, flush, compact, sweep and checkpoint at random, and
//! an auditor who afterwards counts every offset. Data files hold the offsets themselves.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::ErrorKind;
use crate::error::Error;
use crate::limits::LOG_RETENTION_US;
use crate::log::op::RemoveReason;
use crate::log::replay::{list, read_entry};
use crate::log::{Committed, named_at_ms};
use crate::store::fault::Dice;

const PARTITIONS: i32 = 3;
const TABLE: TableId = TableId(1);
const ROLLUP: Target = Target::Rollup { id: RollupId(1), granularity: Granularity::Minute };
/// Tries of one step on a store that fails now and then.
const TRIES: usize = 200;

/// The process has died; its memory is gone.
#[derive(Debug)]
pub(super) struct Died;

pub(super) struct World {
    pub(super) storage: Storage,
    dead: Box<dyn Fn() -> bool + Send + Sync>,
    dice: Dice,
    clock: Arc<ManualClock>,
    members: Vec<CommitLog>,
    /// Commits whose files are written and that wait, while others go on.
    held: Vec<(usize, Vec<Op>)>,
    /// What callers were told: number and id of every acknowledged commit.
    acknowledged: BTreeMap<u64, Uuid>,
    /// Files of commits that were refused.
    refused: HashSet<String>,
    /// Entries are old enough to go as soon as checkpoints hold them. Only with one member: others rely
    /// on entries outliving an hour.
    trims: bool,
    unique: u64,
}

/// Bad records have offsets like this.
fn is_rejected(offset: i64) -> bool {
    offset % 10 == 7
}

pub(super) fn quick() -> LogSettings {
    LogSettings {
        checkpoint_every: 5,
        put_timeout: Duration::from_millis(20),
        attempts: 3,
        backoff: Duration::ZERO,
        ..LogSettings::default()
    }
}

impl World {
    pub(super) fn new(
        storage: Storage,
        dead: impl Fn() -> bool + Send + Sync + 'static,
        seed: u64,
        trims: bool,
    ) -> Self {
        // Stores stamp objects by the wall clock, so from here all entries are old.
        let later = crate::clock::SystemClock.now_us() + 2 * LOG_RETENTION_US;
        Self {
            storage,
            dead: Box::new(dead),
            dice: Dice::new(seed),
            clock: Arc::new(ManualClock::new(if trims { later } else { NOW_US })),
            trims,
            members: Vec::new(),
            held: Vec::new(),
            acknowledged: BTreeMap::new(),
            refused: HashSet::new(),
            unique: 0,
        }
    }

    /// The process was started again, perhaps on what a power cut left.
    pub(super) fn restart(
        &mut self,
        storage: Storage,
        dead: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        self.members.clear();
        self.held.clear();
        self.storage = storage;
        self.dead = Box::new(dead);
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Opens `members` writers and sees to it that the table is there.
    pub(super) async fn open(&mut self, members: usize) -> Result<(), Died> {
        self.members.clear();
        self.held.clear();
        while self.members.len() < members {
            let name = format!("member {}", self.members.len());
            let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
            match CommitLog::open_with(self.storage.clone(), name, clock, quick()).await {
                Ok((log, _)) => self.members.push(log),
                Err(e) => self.bear(&e)?,
            }
        }
        for _ in 0..TRIES {
            let without = |log: &CommitLog| !log.manifest().tables.contains_key(&TABLE);
            match self.members.iter().position(without) {
                None => return Ok(()),
                Some(0) => {
                    let ops = vec![put_table(1, "events"), put_rollup(1, 1)];
                    self.commit(0, ops).await?;
                }
                Some(member) => {
                    if let Err(e) = self.members[member].refresh().await {
                        self.bear(&e)?;
                    }
                }
            }
        }
        panic!("no table after {TRIES} tries");
    }

    /// Failures of the world are borne, damage is not.
    fn bear(&self, e: &Error) -> Result<(), Died> {
        if (self.dead)() {
            return Err(Died);
        }
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
        Ok(())
    }

    /// Some steps at random.
    pub(super) async fn run(&mut self, steps: usize) -> Result<(), Died> {
        for _ in 0..steps {
            let member = usize::try_from(self.dice.below(self.members.len() as u64)).unwrap();
            self.clock.advance(1_000 + i64::try_from(self.dice.below(50_000)).unwrap());
            match self.dice.below(22) {
                0..11 => self.flush(member).await?,
                20 | 21 => {
                    if let Some((member, ops)) = self.held.pop() {
                        self.commit(member, ops).await?;
                    }
                }
                11..14 => self.claim(member).await?,
                14..16 => self.compact(member).await?,
                16 | 17 => self.sweep(member).await?,
                18 => match self.members[member].checkpoint().await {
                    Ok(()) => {}
                    Err(e) => self.bear(&e)?,
                },
                _ => match self.members[member].refresh().await {
                    Ok(_) => {}
                    Err(e) => self.bear(&e)?,
                },
            }
        }
        Ok(())
    }

    async fn commit(&mut self, member: usize, ops: Vec<Op>) -> Result<Option<Committed>, Died> {
        let files: Vec<String> = ops
            .iter()
            .filter_map(|op| match op {
                Op::AddFile { file } => Some(file.path.clone()),
                _ => None,
            })
            .collect();
        let mut outcome = self.members[member].commit(ops.clone()).await;
        for _ in 0..TRIES {
            match outcome {
                Ok(done) => {
                    let old = self.acknowledged.insert(done.number, done.commit_id);
                    assert_eq!(old, None, "number {} acknowledged twice", done.number);
                    return Ok(Some(done));
                }
                Err(e) if e.kind() == ErrorKind::Busy => {
                    self.refused.extend(files);
                    return Ok(None);
                }
                Err(e) => self.bear(&e)?,
            }
            outcome = match self.members[member].in_doubt() {
                Some(pending) if pending == ops => {
                    self.members[member].resolve().await.map(|done| done.unwrap())
                }
                // Stopped before it was tried: an earlier commit of its member is in doubt, or the log
                // could not be read.
                _ => self.members[member].commit(ops.clone()).await,
            };
        }
        panic!("no outcome after {TRIES} tries");
    }

    /// Commits at once, or later.
    async fn finish(&mut self, member: usize, ops: Vec<Op>) -> Result<(), Died> {
        if self.dice.percent(15) {
            self.held.push((member, ops));
            return Ok(());
        }
        self.commit(member, ops).await.map(|_| ())
    }

    async fn claim(&mut self, member: usize) -> Result<(), Died> {
        let partition = i32::try_from(self.dice.below(3)).unwrap() % PARTITIONS;
        let manifest = self.members[member].manifest();
        let epoch = manifest.claims.get(&tp(partition)).map_or(0, |c| c.epoch) + 1;
        let mut ops = vec![claim(partition, epoch, &format!("member {member}"))];
        if !manifest.tables[&TABLE].positions.contains_key(&tp(partition)) {
            ops.push(start(partition, epoch, 100));
        }
        self.commit(member, ops).await.map(|_| ())
    }

    /// Reads some offsets of every partition that this member believes to be its own, as a zombie would.
    async fn flush(&mut self, member: usize) -> Result<(), Died> {
        let manifest = self.members[member].manifest();
        let name = format!("member {member}");
        let (mut ops, mut ranges, mut rows, mut bad) = (vec![], vec![], vec![], vec![]);
        for (tp, position) in &manifest.tables[&TABLE].positions {
            let Some(own) = manifest.claims.get(tp).filter(|c| c.member == name) else { continue };
            let to = position.offset + 1 + i64::try_from(self.dice.below(12)).unwrap();
            let all = position.offset..to;
            let (rejected, kept): (Vec<i64>, Vec<i64>) = all.partition(|o| is_rejected(*o));
            let mut op = advance(tp.partition, own.epoch, position.offset, to);
            if let Op::Advance { counts, .. } = &mut op {
                *counts = ReadCounts {
                    kept: kept.len() as u64,
                    filtered: 0,
                    rejected: rejected.len() as u64,
                };
            }
            ops.push(op);
            ranges.push((tp.partition, position.offset, to));
            rows.extend(kept.into_iter().map(|o| (tp.partition, o)));
            bad.extend(rejected.into_iter().map(|o| (tp.partition, o)));
        }
        if ranges.is_empty() {
            return Ok(());
        }
        let written = [(Target::Raw(TABLE), &rows), (ROLLUP, &rows), (Target::Rejected, &bad)];
        for (target, rows) in written {
            if rows.is_empty() {
                continue;
            }
            let Some(file) = self.write(target, 0, &ranges, rows).await? else { return Ok(()) };
            ops.push(add(file));
        }
        self.finish(member, ops).await
    }

    async fn compact(&mut self, member: usize) -> Result<(), Died> {
        let manifest = self.members[member].manifest();
        for target in [Target::Raw(TABLE), ROLLUP] {
            let files = manifest.files(target);
            if files.len() < 3 {
                continue;
            }
            let (mut ops, mut rows, mut ranges) = (vec![], vec![], vec![]);
            for file in files {
                // Another member may have compacted and swept it; ours would be refused then.
                let Ok(mut content) = self.read(&file.path).await else { return Ok(()) };
                rows.append(&mut content);
                ranges.extend(file.ranges.iter().map(|r| (r.tp.partition, r.from, r.to)));
                ops.push(Op::RemoveFile {
                    path: file.path.clone(),
                    target,
                    reason: RemoveReason::Compaction,
                });
            }
            let Some(file) = self.write(target, 1, &ranges, &rows).await? else { return Ok(()) };
            ops.push(add(file));
            self.finish(member, ops).await?;
        }
        Ok(())
    }

    async fn sweep(&mut self, member: usize) -> Result<(), Died> {
        let before_ms = self.clock.now_us() / 1_000;
        let Some(done) = self.commit(member, vec![Op::Sweep { before_ms }]).await? else {
            return Ok(());
        };
        let live: HashSet<&str> = done.manifest.live_files().map(|f| f.path.as_str()).collect();
        let listed: Vec<_> = match self.storage.store().list(None).try_collect().await {
            Ok(listed) => listed,
            Err(e) => return self.bear(&e.into()),
        };
        for object in listed {
            let path = object.location.as_ref();
            if named_at_ms(path).is_some_and(|ms| ms < before_ms) && !live.contains(path) {
                // Left over: the next sweep takes it.
                let delete = self.storage.store().delete(&object.location);
                tokio::time::timeout(quick().put_timeout, delete).await.ok();
                if (self.dead)() {
                    return Err(Died);
                }
            }
        }
        Ok(())
    }

    /// A data file; none if the store would not take it.
    async fn write(
        &mut self,
        target: Target,
        level: u8,
        ranges: &[(i32, i64, i64)],
        rows: &[(i32, i64)],
    ) -> Result<Option<FileEntry>, Died> {
        self.unique += 1;
        let mut file = file(target, self.unique, ranges);
        let folder = file.path.rsplit_once('/').unwrap().0.to_string();
        let name = file_name(self.clock.now_us(), self.unique);
        file.path = format!("{folder}/{name}.parquet");
        file.rows = rows.len() as u64;
        file.level = level;
        let bytes = serde_json::to_vec(rows).unwrap();
        let path = Path::from(file.path.as_str());
        let put = self.storage.store().put(&path, bytes.into());
        let put = tokio::time::timeout(quick().put_timeout, put).await;
        if (self.dead)() {
            return Err(Died);
        }
        Ok(matches!(put, Ok(Ok(_))).then_some(file))
    }

    async fn read(&self, path: &str) -> object_store::Result<Vec<(i32, i64)>> {
        let bytes = self.storage.store().get(&Path::from(path)).await?.bytes().await?;
        Ok(serde_json::from_slice(&bytes).unwrap())
    }

    /// Counts everything, on a store that behaves. Answers how many files were ever added.
    pub(super) async fn audit(&self, storage: &Storage, context: &str) -> usize {
        let store = storage.store().as_ref();
        let (_, manifest) = open(storage, "auditor").await.unwrap();
        let (mut replayed, mut ids, mut added) = (Manifest::default(), HashSet::new(), 0);
        let mut owners: BTreeMap<TopicPartition, String> = BTreeMap::new();
        let mut trimmed = false;
        let checkpoint = list(store, None).await.unwrap().checkpoints.last().copied().unwrap_or(0);
        for number in 1..=manifest.number {
            let Some(entry) = read_entry(store, number).await.unwrap() else {
                // Deletes are not synced, so an older one may be back.
                let held = self.trims && number <= checkpoint;
                assert!(held, "{context}: entry {number} is missing");
                trimmed = true;
                continue;
            };
            assert!(ids.insert(entry.commit_id), "{context}: commit {number} is there twice");
            if let Some(id) = self.acknowledged.get(&number) {
                assert_eq!(*id, entry.commit_id, "{context}: {number} is another commit");
            }
            for op in &entry.ops {
                match op {
                    Op::AddFile { file } => {
                        let refused = self.refused.contains(&file.path);
                        assert!(!refused, "{context}: refused, yet there");
                        added += 1;
                    }
                    Op::Claim { tp, member, .. } => {
                        owners.insert(tp.clone(), member.clone());
                    }
                    Op::Advance { tp, .. } => {
                        let owner = owners.get(tp).unwrap_or(&entry.member);
                        assert_eq!(owner, &entry.member, "{context}: a zombie wrote");
                    }
                    _ => {}
                }
            }
            if !trimmed {
                replayed = replayed.apply(&entry).unwrap();
            }
        }
        let differs = !trimmed && replayed != *manifest;
        assert!(!differs, "{context}: a checkpoint differs from its entries");
        let last = self.acknowledged.last_key_value().map_or(0, |(number, _)| *number);
        assert!(last <= manifest.number, "{context}: acknowledged {last} is lost");
        self.audit_rows(store, &manifest, context).await;
        added
    }

    /// Every offset below a position is a row or rejected, once, in raw files as in rollups.
    async fn audit_rows(&self, store: &dyn ObjectStore, manifest: &Manifest, context: &str) {
        let Some(table) = manifest.tables.get(&TABLE) else { return };
        let mut found: BTreeMap<&str, BTreeSet<(i32, i64)>> = BTreeMap::new();
        for file in manifest.live_files() {
            let what = match file.target {
                Target::Raw(_) => "raw",
                Target::Rollup { .. } => "rollup",
                Target::Rejected => "rejected",
            };
            let bytes = store.get(&Path::from(file.path.as_str())).await.expect(context);
            let bytes = bytes.bytes().await.unwrap();
            let rows: Vec<(i32, i64)> = serde_json::from_slice(&bytes).expect(context);
            assert_eq!(rows.len() as u64, file.rows, "{context}: {what} rows");
            for row in rows {
                let new = found.entry(what).or_default().insert(row);
                assert!(new, "{context}: {row:?} is twice in {what}");
            }
        }
        let all = table.positions.iter().flat_map(|(tp, position)| {
            (position.start..position.offset).map(|offset| (tp.partition, offset))
        });
        let (bad, good): (BTreeSet<_>, BTreeSet<_>) = all.partition(|row| is_rejected(row.1));
        let mut take = |what: &str| found.remove(what).unwrap_or_default();
        assert_eq!(take("raw"), good, "{context}: raw");
        assert_eq!(take("rollup"), good, "{context}: rollup");
        assert_eq!(take("rejected"), bad, "{context}: rejected");
        let kept: u64 = table.positions.values().map(|p| p.counts.kept).sum();
        assert_eq!(kept, good.len() as u64, "{context}: counts");
    }
}
