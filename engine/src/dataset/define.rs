//! Definitions by statement: one table at a time, beside those of the configuration file. The changes are the
//! same, and so are the reasons to refuse them.

use crate::catalog::{RollupId, TableDef, TableId};
use crate::error::{Error, ErrorKind, Result};
use crate::log::op::{Note, Op, RemoveReason};

use super::declare::Declaration;
use super::{Change, Dataset};

/// Times that a change is planned anew because files came or went under it.
const ATTEMPTS: usize = 8;

impl Dataset {
    /// What [`declare_table`](Self::declare_table) would change.
    pub fn compare_table(&self, def: &TableDef) -> Result<Vec<Change>> {
        Ok(self.plan_table(self.snapshot().manifest(), def)?.changes)
    }

    /// Brings one table to `def`, or makes it; all others stay as they are. Nobody may append to it meanwhile.
    /// Gives what changed. `Invalid`: stored rows could not follow.
    pub async fn declare_table(&self, def: &TableDef, note: Note) -> Result<Vec<Change>> {
        if self.compare_table(def)?.is_empty() {
            return Ok(Vec::new());
        }
        // A record follows the definition of the commit that holds it.
        self.flush().await?;
        self.commit_planned(note, |dataset| dataset.plan_table(dataset.snapshot().manifest(), def))
            .await
    }

    /// Forgets a table with its rollups and files. Running statements keep what they have pinned.
    pub async fn drop_table(&self, table: TableId, note: Note) -> Result<()> {
        self.commit_planned(note, |dataset| dataset.plan_drop(table)).await?;
        Ok(())
    }

    async fn commit_planned(
        &self,
        note: Note,
        plan: impl Fn(&Self) -> Result<Declaration>,
    ) -> Result<Vec<Change>> {
        for _ in 1..ATTEMPTS {
            // A running flush may hold rows of what is about to change.
            let _flushing = self.flushing.lock().await;
            let Declaration { ops, changes, .. } = plan(self)?;
            match self.commit_noted(ops, vec![note.clone()]).await {
                Ok(_) => return Ok(changes),
                // A compaction replaced files that were to leave.
                Err(error) if error.kind() == ErrorKind::Busy => {
                    tracing::debug!(%error, "a change of definitions is planned anew");
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::busy("the table's files change too fast for its definition to change"))
    }

    fn plan_drop(&self, table: TableId) -> Result<Declaration> {
        let snapshot = self.snapshot();
        let manifest = snapshot.manifest();
        let Some(state) = manifest.tables.get(&table) else {
            return Err(Error::not_found("the table is gone already"));
        };
        let mut out = Declaration::default();
        let own = |id: TableId| {
            id == table
                || manifest
                    .tables
                    .get(&id)
                    .and_then(|t| t.def.rebuild())
                    .is_some_and(|r| r.table == table)
        };
        let rollups: Vec<RollupId> =
            manifest.rollups.values().filter(|r| own(r.table)).map(|r| r.id).collect();
        let tables = manifest.tables.values().filter(|t| own(t.id));
        let files = tables
            .clone()
            .flat_map(|t| &t.files)
            .chain(manifest.rollups.values().filter(|r| own(r.table)).flat_map(|r| &r.files));
        out.ops.extend(files.map(|file| Op::RemoveFile {
            path: file.path.clone(),
            target: file.target,
            reason: RemoveReason::Drop,
        }));
        out.ops.extend(rollups.into_iter().map(|rollup| Op::DropRollup { rollup }));
        out.ops.extend(tables.map(|t| Op::DropTable { table: t.id }));
        out.changes.push(Change {
            what: format!("table {:?} leaves with its data", state.def.qualified_name()),
            destructive: true,
        });
        Ok(out)
    }
}
