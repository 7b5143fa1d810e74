//! How an entry changes the manifest, and every reason to refuse one. A pure function: the same checks
//! guard a new commit, a commit that lost its number to another, and the reading of the log.
//!
//! Cost: tables and rollups that an entry names are copied once (their files by pointer), the rest is
//! shared; per target with file changes, one pass over its live files.

mod cover;
mod past;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::manifest::{ClaimState, Manifest, Past, PositionState, RollupState, TableState};
use super::op::{Entry, FieldSeen, FileEntry, Op, StatValue, Target};
use crate::catalog::{RollupDef, RollupId, TableDef, TableId};
use crate::error::{Error, Result};
use crate::position::{LogIdentity, OffsetRange, ReadCounts, TopicPartition};
use crate::time::DAY_US;

impl Manifest {
    /// The manifest after `entry`, or why the entry cannot follow this manifest ([`Busy`], naming the
    /// operation and its object). `self` is left as it was.
    ///
    /// [`Busy`]: crate::ErrorKind::Busy
    pub fn apply(&self, entry: &Entry) -> Result<Manifest> {
        if entry.number != self.number + 1 {
            let expected = self.number + 1;
            return refuse("entry", format!("its number is {}, not {expected}", entry.number));
        }
        let mut step = Step::new(self.clone(), entry.at_us);
        step.next.number = entry.number;
        step.next.dataset_id.get_or_insert(entry.commit_id);
        if entry.number == 1 {
            step.next.rejected_expired = Some(0);
        }
        for op in &entry.ops {
            step.op(op)?;
        }
        past::note(&mut step.next, entry);
        step.finish()
    }

    /// Whether `entry` could follow this manifest.
    pub fn validate(&self, entry: &Entry) -> Result<()> {
        self.apply(entry).map(|_| ())
    }

    /// Live files of a target.
    pub fn files(&self, target: Target) -> &[Arc<FileEntry>] {
        match target {
            Target::Raw(id) => self.tables.get(&id).map_or(&[], |t| &t.files),
            Target::Rollup { id, .. } => self.rollups.get(&id).map_or(&[], |r| &r.files),
            Target::Rejected => &self.rejected,
        }
    }

    /// All live files, of all targets.
    pub fn live_files(&self) -> impl Iterator<Item = &Arc<FileEntry>> {
        let tables = self.tables.values().flat_map(|t| &t.files);
        let rollups = self.rollups.values().flat_map(|r| &r.files);
        tables.chain(rollups).chain(&self.rejected)
    }
}

fn refuse<T>(object: &str, why: impl AsRef<str>) -> Result<T> {
    Err(Error::busy(format!("commit refused: {object}: {}", why.as_ref())))
}

/// Milliseconds at which a file was named, if its name is a UUIDv7.
pub fn named_at_ms(path: &str) -> Option<i64> {
    let name = path.rsplit('/').next()?;
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    let id = Uuid::try_parse(stem).ok()?;
    if id.get_version_num() != 7 {
        return None;
    }
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))
}

/// One entry being applied.
struct Step {
    next: Manifest,
    files: BTreeMap<Owner, Changes>,
    dropped_tables: BTreeSet<TableId>,
    dropped_rollups: BTreeSet<RollupId>,
    new_level0: Vec<Arc<FileEntry>>,
    at_us: i64,
}

/// Whose list a file stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Table(TableId),
    Rollup(RollupId),
    Rejected,
}

#[derive(Default)]
struct Changes {
    add: Vec<Arc<FileEntry>>,
    remove: HashMap<String, Target>,
}

impl Step {
    fn new(next: Manifest, at_us: i64) -> Self {
        Self {
            next,
            files: BTreeMap::new(),
            dropped_tables: BTreeSet::new(),
            dropped_rollups: BTreeSet::new(),
            new_level0: Vec::new(),
            at_us,
        }
    }

    fn op(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Claim { tp, epoch, member } => self.claim(tp, *epoch, member),
            Op::Start { table, tp, epoch, offset, identity } => {
                self.start(*table, tp, *epoch, *offset, identity)
            }
            Op::Advance { table, tp, epoch, from, to, counts, identity } => {
                self.advance(*table, tp, *epoch, (*from, *to), counts, identity)
            }
            Op::Reset { table, tp, to, identity, .. } => self.reset(*table, tp, *to, identity),
            Op::AddFile { file } => self.add_file(file),
            Op::RemoveFile { path, target, .. } => self.remove_file(path, *target),
            Op::Fields { table, fields } => self.fields(*table, fields),
            Op::PutTable { table, schema_id, def } => self.put_table(*table, *schema_id, def),
            Op::AttachTable { table, attached } => {
                self.table("attach table", *table)?.attached = *attached;
                Ok(())
            }
            Op::DropTable { table } => self.drop_table(*table),
            Op::PutRollup { rollup, table, def, coverage } => {
                self.put_rollup(*rollup, *table, def, coverage)
            }
            Op::Cover { rollup, ranges } => self.cover(*rollup, ranges),
            Op::DropRollup { rollup } => self.drop_rollup(*rollup),
            Op::Horizon { table, before_us } => self.horizon(*table, *before_us),
            Op::RollupHorizon { rollup, granularity, before_us } => {
                let state = self.rollup("horizon", *rollup)?;
                let old = state.horizon_us.get(granularity).copied();
                check_horizon(&format!("horizon of rollup {}", rollup.0), old, *before_us)?;
                state.horizon_us.insert(*granularity, *before_us);
                Ok(())
            }
            Op::Sweep { before_ms } => self.sweep(*before_ms),
            Op::Lease { member, until_us, now_us } => self.lease(member, *until_us, *now_us),
        }
    }

    fn table(&mut self, what: &str, id: TableId) -> Result<&mut TableState> {
        let gone = self.dropped_tables.contains(&id);
        match self.next.tables.get_mut(&id) {
            Some(table) if !gone => Ok(Arc::make_mut(table)),
            _ => refuse(what, format!("there is no table {}", id.0)),
        }
    }

    fn rollup(&mut self, what: &str, id: RollupId) -> Result<&mut RollupState> {
        let gone = self.dropped_rollups.contains(&id);
        match self.next.rollups.get_mut(&id) {
            Some(rollup) if !gone => Ok(Arc::make_mut(rollup)),
            _ => refuse(what, format!("there is no rollup {}", id.0)),
        }
    }

    fn check_epoch(&self, what: &str, tp: &TopicPartition, epoch: u64) -> Result<()> {
        match self.next.claims.get(tp) {
            Some(claim) if claim.epoch == epoch => Ok(()),
            Some(claim) => refuse(
                what,
                format!("epoch {epoch} is over: {:?} has epoch {}", claim.member, claim.epoch),
            ),
            None => refuse(what, "nobody has claimed the partition"),
        }
    }

    fn claim(&mut self, tp: &TopicPartition, epoch: u64, member: &str) -> Result<()> {
        let old = self.next.claims.get(tp).map_or(0, |c| c.epoch);
        if old.checked_add(1) != Some(epoch) {
            return refuse(&format!("claim of {tp}"), format!("epoch {epoch} follows not {old}"));
        }
        self.next.claims.insert(tp.clone(), ClaimState { epoch, member: member.to_string() });
        Ok(())
    }

    fn start(
        &mut self,
        table: TableId,
        tp: &TopicPartition,
        epoch: u64,
        offset: i64,
        identity: &LogIdentity,
    ) -> Result<()> {
        let what = format!("start of table {} in {tp}", table.0);
        self.check_epoch(&what, tp, epoch)?;
        let state = self.table(&what, table)?;
        if let Some(position) = state.positions.get(tp) {
            return refuse(&what, format!("it stands at {} already", position.offset));
        }
        self.place(table, tp, offset, identity, &what)
    }

    /// A first position. Rollups that exist cover the partition from its first row on.
    fn place(
        &mut self,
        table: TableId,
        tp: &TopicPartition,
        offset: i64,
        identity: &LogIdentity,
        what: &str,
    ) -> Result<()> {
        if offset < 0 {
            return refuse(what, format!("offset {offset} is negative"));
        }
        let counts = ReadCounts::default();
        let position = PositionState { start: offset, offset, counts, identity: identity.clone() };
        self.table(what, table)?.positions.insert(tp.clone(), position);
        for rollup in self.next.rollups.values_mut().filter(|r| r.table == table) {
            Arc::make_mut(rollup).since.insert(tp.clone(), offset);
        }
        Ok(())
    }

    fn advance(
        &mut self,
        table: TableId,
        tp: &TopicPartition,
        epoch: u64,
        (from, to): (i64, i64),
        counts: &ReadCounts,
        identity: &LogIdentity,
    ) -> Result<()> {
        let what = format!("advance of table {} in {tp}", table.0);
        self.check_epoch(&what, tp, epoch)?;
        let Some(position) = self.table(&what, table)?.positions.get_mut(tp) else {
            return refuse(&what, "it has no first position");
        };
        if position.offset != from {
            return refuse(&what, format!("its position is {}, not {from}", position.offset));
        }
        let span = to.checked_sub(from).and_then(|n| u64::try_from(n).ok());
        let read = checked_read(counts);
        match (span, read) {
            (Some(span), Some(read)) if read <= span => {}
            _ => return refuse(&what, format!("{counts:?} cannot come from [{from}, {to})")),
        }
        let Some(total) = checked_add(&position.counts, counts) else {
            return refuse(&what, "its counts overflow");
        };
        position.offset = to;
        position.counts = total;
        position.identity = identity.clone();
        Ok(())
    }

    fn reset(
        &mut self,
        table: TableId,
        tp: &TopicPartition,
        to: i64,
        identity: &LogIdentity,
    ) -> Result<()> {
        let what = format!("reset of table {} in {tp}", table.0);
        let state = self.table(&what, table)?;
        let Some(position) = state.positions.get_mut(tp) else {
            return self.place(table, tp, to, identity, &what);
        };
        if to < 0 {
            return refuse(&what, format!("offset {to} is negative"));
        }
        state.past.reset(tp, position, to);
        position.start = position.start.min(to);
        position.offset = to;
        position.identity = identity.clone();
        Ok(())
    }

    fn owner(&self, what: &str, target: Target) -> Result<Owner> {
        match target {
            Target::Raw(id) if self.next.tables.contains_key(&id) => Ok(Owner::Table(id)),
            Target::Raw(id) => refuse(what, format!("there is no table {}", id.0)),
            Target::Rollup { id, .. } if self.next.rollups.contains_key(&id) => {
                Ok(Owner::Rollup(id))
            }
            Target::Rollup { id, .. } => refuse(what, format!("there is no rollup {}", id.0)),
            Target::Rejected => Ok(Owner::Rejected),
        }
    }

    fn add_file(&mut self, file: &FileEntry) -> Result<()> {
        let what = format!("file {:?}", file.path);
        let owner = self.owner(&what, file.target)?;
        let gone = match owner {
            Owner::Table(id) => self.dropped_tables.contains(&id),
            Owner::Rollup(id) => self.dropped_rollups.contains(&id),
            Owner::Rejected => false,
        };
        if gone {
            return refuse(&what, "its table or rollup is dropped in this commit");
        }
        let Some(named_at) = named_at_ms(&file.path) else {
            return refuse(&what, "its name is not a UUIDv7");
        };
        if named_at < self.next.sweep_before_ms {
            return refuse(&what, "it was named before the sweep and may be deleted already");
        }
        if let Some(range) = file.ranges.iter().find(|r| r.from > r.to) {
            return refuse(&what, format!("range [{}, {}) is reversed", range.from, range.to));
        }
        if file.time.is_some_and(|(least, greatest)| least > greatest) {
            return refuse(&what, "its time range is reversed");
        }
        if file.columns.iter().flat_map(|c| [&c.min, &c.max]).flatten().any(is_nan) {
            return refuse(&what, "a bound is not a number");
        }
        let commit = Some(self.next.number);
        let file = Arc::new(FileEntry { commit, ..file.clone() });
        if file.level == 0 {
            self.new_level0.push(Arc::clone(&file));
        }
        self.files.entry(owner).or_default().add.push(file);
        Ok(())
    }

    fn remove_file(&mut self, path: &str, target: Target) -> Result<()> {
        let what = format!("removal of {path:?}");
        let owner = self.owner(&what, target)?;
        let changes = self.files.entry(owner).or_default();
        if changes.remove.insert(path.to_string(), target).is_some() {
            return refuse(&what, "it is removed twice");
        }
        Ok(())
    }

    fn fields(&mut self, table: TableId, fields: &[FieldSeen]) -> Result<()> {
        let state = self.table("fields", table)?;
        FieldSeen::add_all(&mut state.fields, fields);
        Ok(())
    }

    fn put_table(&mut self, id: TableId, schema_id: u32, def: &TableDef) -> Result<()> {
        let what = format!("table {} ({})", id.0, def.qualified_name());
        let mut others = self.next.tables.values().filter(|t| t.id != id);
        let same = |t: &&Arc<TableState>| t.def.schema == def.schema && t.def.name == def.name;
        if others.any(|t| same(&t) && !self.dropped_tables.contains(&t.id)) {
            return refuse(&what, "another table has this name");
        }
        if self.next.tables.contains_key(&id) {
            let state = self.table(&what, id)?;
            if schema_id < state.schema_id {
                return refuse(&what, format!("schema {} is newer", state.schema_id));
            }
            state.schema_id = schema_id;
            state.past.declare(&state.def, def);
            state.def = Arc::new(def.clone());
            return Ok(());
        }
        if id.0 <= self.next.last_table_id {
            return refuse(&what, "its id has been given before");
        }
        self.next.last_table_id = id.0;
        let state = TableState {
            id,
            def: Arc::new(def.clone()),
            schema_id,
            attached: true,
            files: Vec::new(),
            positions: BTreeMap::new(),
            horizon_us: None,
            fields: Vec::new(),
            past: Past { expired_rows: Some(0), ..Past::default() },
        };
        self.next.tables.insert(id, Arc::new(state));
        Ok(())
    }

    fn drop_table(&mut self, id: TableId) -> Result<()> {
        self.table("drop", id)?;
        self.dropped_tables.insert(id);
        Ok(())
    }

    fn put_rollup(
        &mut self,
        id: RollupId,
        table: TableId,
        def: &RollupDef,
        coverage: &[OffsetRange],
    ) -> Result<()> {
        let what = format!("rollup {} ({})", id.0, def.name);
        let positions = &self.table(&what, table)?.positions;
        let since = positions.iter().map(|(tp, p)| (tp.clone(), p.offset)).collect();
        if self.next.rollups.contains_key(&id) {
            let state = self.rollup(&what, id)?;
            if state.table != table {
                return refuse(&what, format!("it belongs to table {}", state.table.0));
            }
            state.def = def.clone();
            return cover::add(&mut state.coverage, coverage);
        }
        if id.0 <= self.next.last_rollup_id {
            return refuse(&what, "its id has been given before");
        }
        self.next.last_rollup_id = id.0;
        let mut state = RollupState {
            id,
            table,
            def: def.clone(),
            since,
            coverage: Vec::new(),
            whole_from_us: None,
            declared_at_us: Some(self.at_us),
            files: Vec::new(),
            horizon_us: BTreeMap::new(),
        };
        cover::add(&mut state.coverage, coverage)?;
        self.next.rollups.insert(id, Arc::new(state));
        Ok(())
    }

    fn drop_rollup(&mut self, id: RollupId) -> Result<()> {
        self.rollup("drop", id)?;
        self.dropped_rollups.insert(id);
        Ok(())
    }

    fn horizon(&mut self, table: TableId, before_us: i64) -> Result<()> {
        let what = format!("horizon of table {}", table.0);
        let state = self.table(&what, table)?;
        check_horizon(&what, state.horizon_us, before_us)?;
        state.horizon_us = Some(before_us);
        Ok(())
    }

    fn sweep(&mut self, before_ms: i64) -> Result<()> {
        if before_ms < self.next.sweep_before_ms {
            return refuse("sweep", format!("{} is later", self.next.sweep_before_ms));
        }
        self.next.sweep_before_ms = before_ms;
        Ok(())
    }

    fn lease(&mut self, member: &str, until_us: i64, now_us: i64) -> Result<()> {
        match &self.next.lease {
            Some((holder, until)) if holder != member && *until > now_us => {
                refuse("lease", format!("{holder:?} holds it until {until}"))
            }
            _ => {
                self.next.lease = Some((member.to_string(), until_us));
                Ok(())
            }
        }
    }

    fn finish(mut self) -> Result<Manifest> {
        self.check_level0()?;
        for (owner, changes) in std::mem::take(&mut self.files) {
            let mut uncounted = None;
            let (files, expired) = match owner {
                Owner::Table(id) => match self.next.tables.get_mut(&id).map(Arc::make_mut) {
                    Some(table) => (&mut table.files, &mut table.past.expired_rows),
                    None => return refuse("file", format!("there is no table {}", id.0)),
                },
                Owner::Rollup(id) => match self.next.rollups.get_mut(&id).map(Arc::make_mut) {
                    Some(rollup) => (&mut rollup.files, &mut uncounted),
                    None => return refuse("file", format!("there is no rollup {}", id.0)),
                },
                Owner::Rejected => (&mut self.next.rejected, &mut self.next.rejected_expired),
            };
            past::count(files, &changes, expired);
            changes.apply(files)?;
        }
        self.finish_drops()?;
        Ok(self.next)
    }

    /// Rows of a flush lie below the position of their table after the commit.
    fn check_level0(&self) -> Result<()> {
        for file in &self.new_level0 {
            let table = match file.target {
                Target::Raw(id) => Some(id),
                Target::Rollup { id, .. } => self.next.rollups.get(&id).map(|r| r.table),
                Target::Rejected => None,
            };
            let Some(table) = table.and_then(|id| self.next.tables.get(&id)) else { continue };
            for range in &file.ranges {
                let position = table.positions.get(&range.tp).map(|p| p.offset);
                if position.is_none_or(|offset| range.to > offset) {
                    let to = range.to;
                    return refuse(
                        &format!("file {:?}", file.path),
                        format!("it reaches to {to} in {}, past the table's position", range.tp),
                    );
                }
            }
        }
        Ok(())
    }

    fn finish_drops(&mut self) -> Result<()> {
        for id in &self.dropped_rollups {
            if let Some(rollup) = self.next.rollups.remove(id)
                && !rollup.files.is_empty()
            {
                return refuse(&format!("drop of rollup {}", id.0), "it has live files");
            }
        }
        for id in &self.dropped_tables {
            if let Some(table) = self.next.tables.remove(id)
                && !table.files.is_empty()
            {
                return refuse(&format!("drop of table {}", id.0), "it has live files");
            }
            if self.next.rollups.values().any(|r| r.table == *id) {
                return refuse(&format!("drop of table {}", id.0), "it has rollups");
            }
        }
        Ok(())
    }
}

impl Changes {
    fn apply(self, files: &mut Vec<Arc<FileEntry>>) -> Result<()> {
        let mut added = HashSet::with_capacity(self.add.len());
        for file in &self.add {
            let twice = !added.insert(file.path.as_str());
            if twice || self.remove.contains_key(&file.path) {
                return refuse(&format!("file {:?}", file.path), "it is named twice");
            }
        }
        if let Some(live) = files.iter().find(|f| added.contains(f.path.as_str())) {
            return refuse(&format!("file {:?}", live.path), "it is live already");
        }
        drop(added);
        if !self.remove.is_empty() {
            let mut left = self.remove;
            files.retain(|f| match left.get(&f.path) {
                Some(target) if *target == f.target => {
                    left.remove(&f.path);
                    false
                }
                _ => true,
            });
            if let Some(path) = left.keys().min() {
                return refuse(&format!("removal of {path:?}"), "it is not live");
            }
        }
        files.extend(self.add);
        Ok(())
    }
}

fn checked_read(counts: &ReadCounts) -> Option<u64> {
    counts.kept.checked_add(counts.filtered)?.checked_add(counts.rejected)
}

fn checked_add(a: &ReadCounts, b: &ReadCounts) -> Option<ReadCounts> {
    let sum = ReadCounts {
        kept: a.kept.checked_add(b.kept)?,
        filtered: a.filtered.checked_add(b.filtered)?,
        rejected: a.rejected.checked_add(b.rejected)?,
    };
    checked_read(&sum).map(|_| sum)
}

fn check_horizon(what: &str, old: Option<i64>, before_us: i64) -> Result<()> {
    if before_us.rem_euclid(DAY_US) != 0 {
        return refuse(what, format!("{before_us} is not the start of a UTC day"));
    }
    match old {
        Some(old) if before_us < old => refuse(what, format!("{old} is later; it only grows")),
        _ => Ok(()),
    }
}

fn is_nan(value: &StatValue) -> bool {
    matches!(value, StatValue::Float(x) if x.is_nan())
}
