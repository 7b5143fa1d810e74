//! Rebuilding of keyed tables: when the log may have forgotten deletions that were never read, the table is read
//! anew from the head, out of sight, and takes the place of the old one when it is level.

use std::collections::BTreeSet;
use std::sync::Arc;

use otus_engine::Result;
use otus_engine::catalog::{Source, TableDef, TableId};
use otus_engine::log::manifest::{Manifest, PositionState};
use otus_engine::position::TopicPartition;
use otus_engine::snapshot::Snapshot;

use super::Tables;
use super::open::reads;
use super::runner::Runner;
use crate::log::{Bounds, TopicPolicy};

/// How often a rebuild is tried to be finished, microseconds.
const TEND_US: i64 = 1_000_000;

/// The tables to read: a rebuild instead of the table whose place it will take.
pub(crate) fn read_tables(snapshot: &Snapshot) -> Tables {
    let rebuilt: BTreeSet<TableId> =
        snapshot.read_tables().filter_map(|t| t.def.rebuild()).map(|r| r.table).collect();
    let tables = snapshot.read_tables().filter(|t| !rebuilt.contains(&t.id));
    tables.map(|t| (t.id, Arc::clone(&t.def))).collect()
}

impl Runner {
    /// Why a keyed table cannot stand on a topic, if it cannot.
    pub(crate) fn refusal(&mut self, topic: &str) -> Result<Option<String>> {
        let Some(policy) = self.log.policy(topic)? else { return Ok(None) };
        if policy.compacts && !policy.deletes {
            return Ok(None);
        }
        Ok(Some(format!(
            "topic {topic:?} loses records by age or size: a keyed table would lose rows (set \
             cleanup.policy=compact)"
        )))
    }

    /// Begins to rebuild keyed tables that cannot go on from where they stand.
    pub(crate) fn rebuild_if_needed(&mut self, bounds: &[(TopicPartition, Bounds)]) -> Result<()> {
        let manifest = Arc::clone(self.dataset.snapshot().manifest());
        let is_due = |def: &TableDef| def.keyed().is_some() && def.rebuild().is_none();
        let keyed: Tables = self.tables.iter().filter(|(_, def)| is_due(def)).cloned().collect();
        let mut started = false;
        for (id, def) in keyed {
            let mut reason = None;
            for (tp, bounds) in bounds.iter().filter(|(tp, _)| reads(&def, &tp.topic)) {
                let policy = self.log.policy(&tp.topic)?;
                reason =
                    reason.or(rebuild_reason(&manifest, id, tp, bounds, policy, self.now_us()));
            }
            if let Some(reason) = reason {
                self.ask(async { self.dataset.start_rebuild(id, &reason).await })?;
                started = true;
            }
        }
        if started {
            self.adopt();
        }
        Ok(())
    }

    /// Brings the tables that are read up to date with the dataset, where keyed ones came or went.
    pub(crate) fn adopt(&mut self) {
        if self.log.kind() == "file" {
            return;
        }
        let now = read_tables(&self.dataset.snapshot());
        let is_keyed = |def: &TableDef| def.keyed().is_some();
        let mut tables: Tables =
            self.tables.iter().filter(|(_, def)| !is_keyed(def)).cloned().collect();
        let own = |def: &TableDef| is_keyed(def) && !matches!(def.source, Source::File(_));
        tables.extend(now.into_iter().filter(|(_, def)| own(def)));
        if same(&tables, &self.tables) {
            return;
        }
        self.publish();
        self.tables = tables;
        self.shared_tables.write().clone_from(&self.tables);
        let changed: Vec<TopicPartition> = self
            .partitions
            .values()
            .filter(|partition| {
                let wanted = self.tables.iter().filter(|(_, t)| reads(t, &partition.tp.topic));
                let known = partition.tables.iter().map(|t| (t.id, Arc::clone(&t.def)));
                !same(&wanted.cloned().collect(), &known.collect())
            })
            .map(|partition| partition.tp.clone())
            .collect();
        for tp in changed {
            self.partitions.remove(&tp);
            if let Err(error) = self.log.pause(std::slice::from_ref(&tp)) {
                tracing::debug!(partition = %tp, %error, "cannot pause");
            }
            self.wait_for(tp, 0, "its tables have changed".into());
        }
    }

    /// Opens partitions again whose topic now keeps what a keyed table needs.
    fn look_at_refused(&mut self) {
        let refused: Vec<TopicPartition> = self
            .partitions
            .values()
            .filter(|partition| partition.tables.iter().any(|t| t.refused.is_some()))
            .map(|partition| partition.tp.clone())
            .collect();
        for tp in refused {
            if matches!(self.refusal(&tp.topic), Ok(None)) {
                self.publish();
                self.partitions.remove(&tp);
                self.wait_for(tp, 0, "its topic is compacted now".into());
            }
        }
    }

    /// Puts rebuilt tables in their place once they are level.
    pub(crate) fn tend_rebuilds(&mut self, now_us: i64) {
        if now_us.saturating_sub(self.tended_at_us) < TEND_US {
            return;
        }
        self.tended_at_us = now_us;
        self.adopt();
        self.look_at_refused();
        let building: Vec<TableId> =
            self.tables.iter().filter(|(_, t)| t.rebuild().is_some()).map(|(id, _)| *id).collect();
        for id in building {
            let mut own =
                self.partitions.values().filter(|p| p.tables.iter().any(|t| t.id == id)).peekable();
            if own.peek().is_none() || !own.all(|partition| partition.reached) {
                continue;
            }
            self.publish();
            let finished = self.ask(async {
                self.dataset.flush().await?;
                self.dataset.finish_rebuild(id).await
            });
            match finished {
                Ok(true) => self.adopt(),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "a rebuilt table waits to take its place"),
            }
        }
    }
}

fn same(a: &Tables, b: &Tables) -> bool {
    let ids = |tables: &Tables| -> BTreeSet<TableId> { tables.iter().map(|(id, _)| *id).collect() };
    let defs = a.iter().all(|(id, def)| b.iter().any(|(other, known)| id == other && def == known));
    ids(a) == ids(b) && defs
}

/// Why a keyed table must be read from the head again, if it must.
fn rebuild_reason(
    manifest: &Manifest,
    table: TableId,
    tp: &TopicPartition,
    bounds: &Bounds,
    policy: Option<TopicPolicy>,
    now_us: i64,
) -> Option<String> {
    let positions = &manifest.tables.get(&table)?.positions;
    let Some(position) = positions.get(tp) else {
        let mut known = positions.iter().filter(|(known, _)| known.topic == tp.topic);
        let has_read = known.any(|(_, position)| position.offset > position.start);
        return has_read.then(|| format!("{tp} is a new partition: keys may have moved"));
    };
    if !is_same_topic(position, bounds) || bounds.high == Some(position.offset) {
        return None;
    }
    if position.offset < bounds.low {
        let last = bounds.low - 1;
        return Some(format!("records {} to {last} of {tp} are gone", position.offset));
    }
    let retention_us = policy?.delete_retention_us;
    let away_us = now_us.saturating_sub(position.identity.as_of_us?);
    (away_us > retention_us).then(|| {
        format!(
            "{tp} was last level {} s ago, and the topic keeps deletions for {} s",
            away_us / 1_000_000,
            retention_us / 1_000_000
        )
    })
}

/// A topic that was deleted and made again is for an operator to look at.
fn is_same_topic(position: &PositionState, bounds: &Bounds) -> bool {
    let (was, is) = (&position.identity, &bounds.identity);
    let same = |a: &str, b: &str| a.is_empty() || b.is_empty() || a == b;
    was.kind == is.kind && same(&was.cluster, &is.cluster) && same(&was.topic_id, &is.topic_id)
}
