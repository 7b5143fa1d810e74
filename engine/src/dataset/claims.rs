//! Claims and positions: who reads a partition, and from where. The epoch of a claim fences the process
//! that lost it (invariant I1 rests on it).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::TableId;
use crate::error::{Error, ErrorKind, Result};
use crate::hot::HotSet;
use crate::log::op::Op;
use crate::position::{LogIdentity, TopicPartition};
use crate::snapshot::Version;

use super::Dataset;

/// Tries to claim against other processes that claim at the same time.
const CLAIM_TRIES: usize = 16;

/// A partition held by this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The partition.
    pub tp: TopicPartition,
    /// Epoch to append with.
    pub epoch: u64,
}

/// First position of a table in a partition.
#[derive(Debug, Clone)]
pub struct StartPosition {
    /// The table.
    pub table: TableId,
    /// The partition.
    pub tp: TopicPartition,
    /// Epoch of the claim.
    pub epoch: u64,
    /// Where reading begins.
    pub offset: i64,
    /// Who the log is.
    pub identity: LogIdentity,
}

impl Dataset {
    /// Takes partitions for this process; their former reader can commit nothing more.
    pub async fn claim(&self, tps: &[TopicPartition]) -> Result<Vec<Claim>> {
        if tps.is_empty() {
            return Ok(Vec::new());
        }
        for _ in 0..CLAIM_TRIES {
            self.refresh().await?;
            let manifest = Arc::clone(self.snapshot().manifest());
            let claims: Vec<Claim> = tps
                .iter()
                .map(|tp| {
                    let epoch = manifest.claims.get(tp).map_or(0, |c| c.epoch) + 1;
                    Claim { tp: tp.clone(), epoch }
                })
                .collect();
            let ops = claims
                .iter()
                .map(|claim| Op::Claim {
                    tp: claim.tp.clone(),
                    epoch: claim.epoch,
                    member: self.options.member.clone(),
                })
                .collect();
            match self.commit(ops).await {
                Ok(_) => {
                    // What was read under an older epoch can no longer be committed.
                    self.drop_hot(tps).await?;
                    return Ok(claims);
                }
                Err(e) if e.kind() == ErrorKind::Busy => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::busy(format!("partitions {tps:?} are claimed by others again and again")))
    }

    /// Sets first positions, durably, before anything is read from there.
    pub async fn start_positions(&self, starts: Vec<StartPosition>) -> Result<()> {
        if starts.is_empty() {
            return Ok(());
        }
        let op = |s: StartPosition| Op::Start {
            table: s.table,
            tp: s.tp,
            epoch: s.epoch,
            offset: s.offset,
            identity: s.identity,
        };
        self.commit(starts.into_iter().map(op).collect()).await?;
        Ok(())
    }

    /// Forgets the hot rows of partitions that this process has lost; their next reader reads them again.
    pub async fn drop_hot(&self, tps: &[TopicPartition]) -> Result<()> {
        // A running flush may commit these very rows: only after it is known what is still hot.
        let _flushing = self.flushing.lock().await;
        self.drop_hot_rows(&|_, tp| tps.contains(tp))
    }

    /// Sets positions of a table, over a gap or back, as an operator's word; hot rows of them are forgotten.
    /// All of them in one commit: one that may not go there leaves all where they are.
    pub async fn reset(
        &self,
        table: TableId,
        resets: Vec<(TopicPartition, i64, LogIdentity)>,
        reason: &str,
    ) -> Result<()> {
        let _flushing = self.flushing.lock().await;
        let snapshot = self.snapshot();
        if snapshot.table_by_id(table).is_none() {
            return Err(Error::not_found(format!("table {table:?} is not served")));
        }
        let state = snapshot.manifest().tables.get(&table);
        let mut ops = Vec::with_capacity(resets.len());
        let mut lost = BTreeSet::new();
        for (tp, to, identity) in resets {
            if let Some(known) = state.and_then(|t| t.positions.get(&tp))
                && to < known.offset
                && known.identity.topic_id == identity.topic_id
                && known.identity.cluster == identity.cluster
            {
                return Err(Error::invalid(format!(
                    "{tp} cannot go back from {} to {to}: its records would count twice",
                    known.offset
                ))
                .with_hint(
                    "a position moves forward, or back only in a topic that was created anew",
                ));
            }
            lost.insert(tp.clone());
            ops.push(Op::Reset { table, tp, to, identity, reason: reason.to_string() });
        }
        self.commit_and(ops, move |catalog, hot| {
            if let (Some(rows), Some(compiled)) = (hot.table(table), catalog.table_by_id(table)) {
                let kept = rows.without_partitions(compiled, &|tp| lost.contains(tp))?;
                hot.set(table, kept);
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Removes hot rows of lost (table, partition) pairs. Only while no flush runs.
    pub(crate) fn drop_hot_rows(
        &self,
        lost: &dyn Fn(TableId, &TopicPartition) -> bool,
    ) -> Result<()> {
        let _guard = self.swap.lock();
        let old = self.version.load_full();
        let mut hot = HotSet::clone(&old.hot);
        for (id, rows) in old.hot.tables() {
            if let Some(table) = old.catalog.table_by_id(*id) {
                hot.set(*id, rows.without_partitions(table, &|tp| lost(*id, tp))?);
            }
        }
        self.replace(Version { hot: Arc::new(hot), ..Version::clone(&old) });
        Ok(())
    }
}
