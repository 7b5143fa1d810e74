//! Maintenance: compaction, retention, backfill, collection. `plan` decides, this module carries out, one step at a
//! time; each step is one commit, refused if another process was faster.

mod backfill;
mod collect;
mod compact;
pub mod plan;

use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{RollupId, TableId};
use crate::dataset::Dataset;
use crate::error::{Error, ErrorKind, Result};
use crate::log::op::{FileEntry, Op, RemoveReason};
use crate::time::{DAY_US, Granularity};

pub(crate) use collect::Removed;

/// How long a lease of the maintainer lasts, microseconds.
const LEASE_US: i64 = 60 * 1_000_000;
/// Between two looks for work.
const TICK: Duration = Duration::from_millis(500);
/// Looks between two collections, which list the whole store.
const COLLECT_EVERY: u32 = 600;

/// What one maintenance run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MaintenanceReport {
    /// Merges committed.
    pub compactions: u64,
    /// Steps of filling rollups committed.
    pub backfills: u64,
    /// Files that left by retention.
    pub expired: u64,
    /// Files deleted from the store.
    pub deleted: u64,
}

impl Dataset {
    /// Does all maintenance that is due. `force` also merges what could wait, so that every day and
    /// granularity ends in few files. Rollups are filled with all that raw rows give them.
    pub async fn maintain(&self, force: bool) -> Result<MaintenanceReport> {
        let mut removed = self.maintaining.lock().await;
        let mut report = MaintenanceReport::default();
        self.take_lease().await?;
        report.expired = self.expire().await?;
        while self.compact_once(force).await? {
            report.compactions += 1;
        }
        while self.backfill_once(&mut report).await? {
            while self.compact_once(false).await? {
                report.compactions += 1;
            }
        }
        while report.backfills > 0 && self.compact_once(force).await? {
            report.compactions += 1;
        }
        self.purge_keyed()?;
        report.deleted = self.collect(&mut removed).await?;
        Ok(report)
    }

    /// Maintains until `stop` is true. Meant for a thread of its own, of low priority.
    pub async fn run_maintenance(self: Arc<Self>, mut stop: tokio::sync::watch::Receiver<bool>) {
        let mut look = 0_u32;
        while !*stop.borrow() {
            if let Err(error) = self.maintain_step(look.is_multiple_of(COLLECT_EVERY)).await {
                if error.kind() == ErrorKind::Busy {
                    tracing::debug!(%error, "maintenance gave way");
                } else {
                    tracing::warn!(%error, "maintenance failed, will be tried again");
                }
            }
            look = look.wrapping_add(1);
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                changed = stop.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn maintain_step(&self, collect: bool) -> Result<()> {
        let mut removed = self.maintaining.lock().await;
        self.refresh().await?;
        self.make_room();
        self.expire().await?;
        if !self.compact_once(false).await? {
            self.backfill_once(&mut MaintenanceReport::default()).await?;
        }
        if collect {
            self.purge_keyed()?;
            self.collect(&mut removed).await?;
        }
        Ok(())
    }

    /// Drops raw rows with an event time before `before_us`, cut to a whole UTC day.
    pub async fn advance_horizon(&self, table: TableId, before_us: i64) -> Result<u64> {
        let before_us = before_us.div_euclid(DAY_US) * DAY_US;
        self.commit(vec![Op::Horizon { table, before_us }]).await?;
        self.remove_expired().await
    }

    async fn take_lease(&self) -> Result<()> {
        let now_us = self.options.clock.now_us();
        let mut said_us = now_us;
        let member = self.options.member.clone();
        let held = self.snapshot().manifest().lease.clone();
        if let Some((holder, until)) = &held {
            if *holder != member && *until > now_us {
                // Only one process has a local folder: whoever held the lease of this one is dead.
                if self.storage.local_dir().is_none() {
                    return Err(Error::busy(format!("process {holder:?} maintains this dataset")));
                }
                said_us = *until;
            }
            if *holder == member && *until > now_us + LEASE_US / 2 {
                return Ok(());
            }
        }
        let op = Op::Lease { member, until_us: now_us + LEASE_US, now_us: said_us };
        self.commit(vec![op]).await?;
        Ok(())
    }

    /// Gives up the maintainer's lease, if this process holds it, so that another need not wait until it runs
    /// out: to be called when no maintenance runs any more.
    pub async fn give_up_lease(&self) -> Result<()> {
        let now_us = self.options.clock.now_us();
        let held = self.snapshot().manifest().lease.clone();
        let member = self.options.member.clone();
        if held.is_some_and(|(holder, until)| holder == member && until > now_us) {
            self.commit(vec![Op::Lease { member, until_us: now_us, now_us }]).await?;
        }
        Ok(())
    }

    /// Moves horizons to where the declared retentions ask, then removes files that lie before them.
    async fn expire(&self) -> Result<u64> {
        let now_us = self.options.clock.now_us();
        let manifest = Arc::clone(self.snapshot().manifest());
        let expiry = plan::expiry(&manifest, now_us);
        let raw = |(table, before_us): (TableId, i64)| Op::Horizon { table, before_us };
        let states = |(rollup, granularity, before_us): (RollupId, Granularity, i64)| {
            Op::RollupHorizon { rollup, granularity, before_us }
        };
        let ops: Vec<Op> =
            expiry.raw.into_iter().map(raw).chain(expiry.rollups.into_iter().map(states)).collect();
        if !ops.is_empty() {
            self.take_lease().await?;
            self.commit(ops).await?;
        }
        self.remove_expired().await
    }

    async fn remove_expired(&self) -> Result<u64> {
        let limits = &self.options.flush;
        let now_us = self.options.clock.now_us();
        let manifest = Arc::clone(self.snapshot().manifest());
        let mut files = plan::expired_files(&manifest);
        let (age_us, bytes) = (limits.rejected_age_us, limits.rejected_bytes);
        files.extend(plan::expired_rejected(&manifest, now_us, age_us, bytes));
        if files.is_empty() {
            return Ok(0);
        }
        let count = files.len() as u64;
        let ops = files.iter().map(|f| remove(f, RemoveReason::Retention)).collect();
        self.commit(ops).await?;
        Ok(count)
    }
}

fn remove(file: &FileEntry, reason: RemoveReason) -> Op {
    Op::RemoveFile { path: file.path.clone(), target: file.target, reason }
}
