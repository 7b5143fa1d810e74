//! What the plans of one statement hang on: their expressions, the files and hot chunks that are left after
//! pruning, and whether that is all.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility, WindowFunctionDefinition};
use otus_engine::catalog::TableId;
use otus_engine::hot::Chunk;
use otus_engine::log::op::FileEntry;
use parking_lot::Mutex;

use crate::function::is_of_catalogue;
use crate::provider::{KeyedRows, RawTable, StatesTable};

/// Names one answer to one question: the same tag, the same rows. Of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(pub(super) [u64; 2]);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b]) = self;
        write!(f, "{a:016x}{b:016x}")
    }
}

/// Filled while a statement is planned. Scans are planned in any order, so what they read is summed up.
#[derive(Debug)]
pub(crate) struct Seen {
    seeds: [RandomState; 2],
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sums: [u64; 2],
    reach: Reach,
}

/// What an answer hangs on besides its question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// What its scans read, and nothing else.
    #[default]
    Sources,
    /// The time, too.
    Moment,
    /// Chance, the session or the process.
    Beyond,
}

impl Seen {
    pub(super) fn new(seeds: [RandomState; 2]) -> Self {
        Self { seeds, inner: Mutex::default() }
    }

    /// That of the statement that is planned, if it wants to know.
    pub(crate) fn of(session: &dyn Session) -> Option<Arc<Self>> {
        session.config().get_extension::<Self>()
    }

    /// A plan of the statement, as it was asked: names and types of its tables are part of it.
    pub(crate) fn plan(&self, plan: &LogicalPlan) -> DfResult<()> {
        self.add(plan);
        let reach = reach(plan)?;
        let mut inner = self.inner.lock();
        inner.reach = inner.reach.max(reach);
        Ok(())
    }

    /// A scan of something, for which rollups may have set other bounds of time than the question has.
    pub(crate) fn scan(&self, of: impl Hash, filters: &[Expr]) {
        self.add((0_u8, of, filters));
    }

    /// Files that a scan reads: none is ever changed.
    pub(crate) fn files(&self, files: &[Arc<FileEntry>]) {
        for file in files {
            self.add((1_u8, &file.path));
        }
    }

    /// A hot chunk that a scan reads: what a chunk holds is told by its number and that of its rows.
    pub(crate) fn chunk(&self, table: TableId, chunk: &Chunk) {
        self.add((2_u8, table.0, chunk.id(), chunk.rows()));
    }

    /// The time from which a scan gives rows.
    pub(crate) fn horizon(&self, table: TableId, horizon_us: i64) {
        self.add((3_u8, table.0, horizon_us));
    }

    /// A table that may have changed with every snapshot.
    pub(crate) fn moment(&self, table: TableId, sequence: u64) {
        self.add((4_u8, table.0, sequence));
    }

    fn add(&self, what: impl Hash) {
        let mut inner = self.inner.lock();
        for (sum, seed) in inner.sums.iter_mut().zip(&self.seeds) {
            *sum = sum.wrapping_add(seed.hash_one(&what));
        }
    }

    /// Whether another session of the user may be given the answer.
    pub(crate) fn may_keep(&self) -> bool {
        self.inner.lock().reach < Reach::Beyond
    }

    /// What stands for all that was seen; none if the answer hangs on more.
    pub(super) fn sums(&self) -> Option<[u64; 2]> {
        let inner = self.inner.lock();
        (inner.reach == Reach::Sources).then_some(inner.sums)
    }
}

/// Whether rows of a plan hang on what its scans read, and on nothing else.
pub(crate) fn is_of_sources(plan: &LogicalPlan) -> DfResult<bool> {
    Ok(reach(plan)? == Reach::Sources)
}

/// Tables that are known to be data and nothing else are kept; others, such as those of the system, are not.
fn reach(plan: &LogicalPlan) -> DfResult<Reach> {
    let mut found = Reach::Sources;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let is_data = source_as_provider(&scan.source).is_ok_and(|p| {
                p.is::<RawTable>()
                    || p.is::<KeyedRows>()
                    || p.is::<StatesTable>()
                    || p.is::<StreamingTable>()
            });
            if !is_data {
                found = Reach::Beyond;
            }
        }
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                found = found.max(call_reach(e));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

fn call_reach(expr: &Expr) -> Reach {
    let (name, volatility) = match expr {
        Expr::ScalarFunction(f) => (f.func.name(), f.func.signature().volatility),
        Expr::AggregateFunction(f) => (f.func.name(), f.func.signature().volatility),
        Expr::WindowFunction(f) => match &f.fun {
            WindowFunctionDefinition::AggregateUDF(f) => (f.name(), f.signature().volatility),
            WindowFunctionDefinition::WindowUDF(f) => (f.name(), f.signature().volatility),
        },
        _ => return Reach::Sources,
    };
    // What the session or the server knows of itself, whatever the library says of it.
    let asks = matches!(expr, Expr::ScalarFunction(f) if is_of_catalogue(&f.func));
    if asks || name == "current_setting" || name.starts_with("pg_") {
        return Reach::Beyond;
    }
    match volatility {
        Volatility::Immutable => Reach::Sources,
        Volatility::Stable => Reach::Moment,
        Volatility::Volatile => Reach::Beyond,
    }
}
