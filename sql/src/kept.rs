//! Plans of prepared statements, kept optimized from one execution to the next for all sessions. What a plan
//! hangs on is its key: the definitions that its asker sees, the settings that planning reads, the types of its
//! parameters. Values of parameters and the tables of a snapshot are put in when it runs, so that no plan holds
//! a snapshot, and whatever asks data (pruning, statistics, the physical plan) is done anew.
//!
//! ```text
//!  key ─► kept ─► values and tables put in ─► physical plan ─► runs
//!     └─► planned as ever, and the third time with its parameters open, too
//!              └► both plans are the same once its values are put in ─► kept
//! ```
//!
//! A statement of which that does not hold is planned each time: where rules look at a value, where a function
//! tells the time or the session, where rollups choose by time.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::catalog::default_table_source::{DefaultTableSource, source_as_provider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{Cast, Placeholder};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use otus_engine::catalog::TableId;
use otus_engine::compiled::{Catalog, CompiledTable};
use otus_engine::snapshot::Snapshot;
use parking_lot::Mutex;

use crate::bounded;
use crate::cache;
use crate::error::{SqlError, SqlResult};
use crate::outcome::Parameter;
use crate::provider::RawTable;
use crate::quick::Quick;
use crate::rewrite::Report;
use crate::session::parameter_number;
use crate::state::States;

/// Plans that are kept.
const PLANS_MAX: usize = 256;
/// Longest text of a statement whose plan is kept, bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Most steps and expressions of a plan that is kept: it is made physical where others wait.
const SIZE_MAX: usize = 256;
/// Texts of which it is known how often they ran.
const MARKS: usize = 1_024;
/// Runs before a plan is worth being kept.
const RUNS: u8 = 2;
/// Rows that one thread reads sooner than several.
const FEW_ROWS: u64 = 32 << 10;
/// In the place of a number of runs: the plan cannot be kept.
const NEVER: u8 = u8::MAX;

/// What a plan hangs on.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The definitions, as whoever asks sees them.
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) user: Arc<str>,
    pub(crate) text: Arc<str>,
    /// Values of the settings that planning reads.
    pub(crate) settings: Vec<String>,
    /// Of the parameters.
    pub(crate) types: Vec<FieldRef>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.catalog, &other.catalog)
            && self.user == other.user
            && self.text == other.text
            && self.settings == other.settings
            && self.types == other.types
    }
}

impl Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.catalog).hash(state);
        (&self.user, &self.text, &self.settings).hash(state);
        self.types.iter().for_each(|field| field.data_type().hash(state));
    }
}

/// What is known of a statement.
#[derive(Debug)]
pub(crate) enum Known {
    /// Its plan.
    Plan(Arc<KeptPlan>),
    /// It has run often enough for its plan to be kept.
    Often,
    /// Nothing.
    Nothing,
}

/// The plans of an engine.
#[derive(Debug)]
pub(crate) struct KeptPlans {
    hasher: RandomState,
    clock: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    plans: HashMap<u64, Arc<KeptPlan>>,
    /// Hash and number of runs, each at a place that its hash says.
    marks: Vec<(u64, u8)>,
}

impl Default for KeptPlans {
    fn default() -> Self {
        let inner = Inner { plans: HashMap::new(), marks: vec![(0, 0); MARKS] };
        Self { hasher: RandomState::new(), clock: AtomicU64::new(0), inner: Mutex::new(inner) }
    }
}

impl KeptPlans {
    /// What is known of a statement that is to run now.
    pub(crate) fn find(&self, key: &Key) -> Known {
        if key.text.len() > TEXT_BYTES_MAX {
            return Known::Nothing;
        }
        let hash = self.hasher.hash_one(key);
        let mut inner = self.inner.lock();
        if let Some(plan) = inner.plans.get(&hash).filter(|plan| plan.key == *key) {
            plan.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            return Known::Plan(Arc::clone(plan));
        }
        let Some(mark) = inner.mark(hash) else { return Known::Nothing };
        match *mark {
            (known, NEVER) if known == hash => Known::Nothing,
            (known, runs) if known == hash && runs >= RUNS => Known::Often,
            (known, runs) if known == hash => {
                *mark = (hash, runs + 1);
                Known::Nothing
            }
            _ => {
                *mark = (hash, 1);
                Known::Nothing
            }
        }
    }

    /// Keeps a plan; none = there is none that could be.
    pub(crate) fn keep(&self, key: &Key, plan: Option<Arc<KeptPlan>>) {
        let hash = self.hasher.hash_one(key);
        let mut inner = self.inner.lock();
        let Some(plan) = plan else {
            if let Some(mark) = inner.mark(hash) {
                *mark = (hash, NEVER);
            }
            return;
        };
        plan.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        // Plans over definitions that are gone would never be found again.
        let whole = whole(&key.catalog);
        inner.plans.retain(|_, plan| Arc::ptr_eq(self::whole(&plan.key.catalog), whole));
        if inner.plans.len() >= PLANS_MAX {
            let used =
                |(hash, plan): (&u64, &Arc<KeptPlan>)| (plan.used.load(Ordering::Relaxed), *hash);
            if let Some((_, oldest)) = inner.plans.iter().map(used).min() {
                inner.plans.remove(&oldest);
            }
        }
        inner.plans.insert(hash, plan);
    }

    /// Plans that are kept physical.
    #[cfg(test)]
    pub(crate) fn quick(&self) -> usize {
        self.inner.lock().plans.values().filter(|plan| plan.quick.is_some()).count()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().plans.len()
    }
}

impl Inner {
    fn mark(&mut self, hash: u64) -> Option<&mut (u64, u8)> {
        let at = usize::try_from(hash % u64::try_from(MARKS).ok()?).ok()?;
        self.marks.get_mut(at)
    }
}

fn whole(catalog: &Arc<Catalog>) -> &Arc<Catalog> {
    catalog.whole().unwrap_or(catalog)
}

/// An optimized plan whose parameters are open, over tables of no snapshot.
pub(crate) struct KeptPlan {
    key: Key,
    plan: LogicalPlan,
    /// The columns of the answer as they are shown.
    pub(crate) schema: SchemaRef,
    /// What rollups do in it: nothing, and why.
    pub(crate) report: Report,
    /// With what it is made physical, and runs.
    pub(crate) states: States,
    /// Whether it gives a row of constants, and reads nothing.
    pub(crate) is_constant: bool,
    /// It made physical, if that can be kept, too.
    pub(crate) quick: Option<Quick>,
    /// Tables that it reads.
    tables: Vec<TableId>,
    used: AtomicU64,
}

impl fmt::Debug for KeptPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptPlan({:?})", self.key.text)
    }
}

/// A plan as it was planned with the values of its parameters.
pub(crate) struct Planned<'a> {
    /// Analyzed, for what it hangs on.
    pub(crate) analyzed: &'a LogicalPlan,
    /// Optimized.
    pub(crate) optimized: &'a LogicalPlan,
    /// The columns of the answer as they are shown.
    pub(crate) schema: SchemaRef,
    pub(crate) report: Report,
}

impl KeptPlan {
    /// The plan that was made with open parameters, if it is `planned` once the values are put in.
    pub(crate) fn of(
        key: Key,
        open: LogicalPlan,
        planned: Planned<'_>,
        (snapshot, params): (&Arc<Snapshot>, &[Parameter]),
        states: States,
    ) -> SqlResult<Option<Self>> {
        let Planned { analyzed, optimized, schema, report } = planned;
        if !is_fit(analyzed)? || !is_fit(&open)? {
            return Ok(None);
        }
        let (plan, tables) = detached(open)?;
        let is_constant = is_constant(&plan);
        let used = AtomicU64::new(0);
        let kept =
            Self { key, plan, schema, report, states, is_constant, quick: None, tables, used };
        let same = kept.fits(snapshot) && kept.bound(snapshot, params)? == *optimized;
        Ok(same.then_some(kept))
    }

    /// The same with what can be kept physical of it.
    pub(crate) async fn made_quick(self) -> Self {
        let quick = Quick::of(&self.plan, &self.key.types, &self.states).await;
        // Whatever cannot be made so is made physical each time.
        Self { quick: quick.ok().flatten(), ..self }
    }

    /// Whether the plan may run over a snapshot: nothing is to be told of rows that are gone.
    pub(crate) fn fits(&self, snapshot: &Snapshot) -> bool {
        self.tables.iter().all(|table| snapshot.horizon_us(*table).is_none())
    }

    /// The state to make it physical with, once it is bound: few rows are read by one thread, as each more has
    /// files to open and others to wake.
    pub(crate) fn state_for(&self, bound: &LogicalPlan) -> &Arc<SessionState> {
        let mut rows = 0_u64;
        let counted = bound.apply(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let provider = source_as_provider(&scan.source)?;
                let raw = provider.downcast_ref::<RawTable>();
                rows =
                    rows.saturating_add(raw.map_or(u64::MAX, |raw| raw.rows_about(&scan.filters)));
            }
            Ok(TreeNodeRecursion::Continue)
        });
        match counted {
            Ok(_) if rows <= FEW_ROWS => &self.states.single,
            _ => &self.states.usual,
        }
    }

    /// The plan over a snapshot with these parameters.
    pub(crate) fn bound(
        &self,
        snapshot: &Arc<Snapshot>,
        params: &[Parameter],
    ) -> DfResult<LogicalPlan> {
        let value = |id: &str| -> DfResult<Expr> {
            let parameter = params.get(parameter_number(id)?);
            let parameter = parameter.ok_or_else(|| SqlError::internal("a parameter is missing"));
            Ok(parameter?.literal())
        };
        let put_in = |node: LogicalPlan| {
            let node = attached(node, snapshot);
            let names = NamePreserver::new(&node.data);
            let filled = node.data.map_expressions(|expr| {
                if !expr.exists(|e| Ok(matches!(e, Expr::Placeholder(_))))? {
                    return Ok(Transformed::no(expr));
                }
                let name = names.save(&expr);
                let filled = expr.transform_up(|e| match e {
                    Expr::Placeholder(p) => value(&p.id).map(Transformed::yes),
                    e => Ok(folded(e)),
                })?;
                Ok(filled.update_data(|e| name.restore(e)))
            })?;
            let changed = node.transformed || filled.transformed;
            Ok(Transformed::new(filled.data, changed, TreeNodeRecursion::Continue))
        };
        self.plan.clone().transform_up(put_in).data()
    }
}

/// A value in another type that has it, too: the planner folds the cast, once it knows the value.
fn folded(expr: Expr) -> Transformed<Expr> {
    let Expr::Cast(Cast { expr: inner, field }) = &expr else { return Transformed::no(expr) };
    let Expr::Literal(value, None) = inner.as_ref() else { return Transformed::no(expr) };
    let (from, to) = (value.data_type(), field.data_type());
    let is_text =
        |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let wider = match (&from, to) {
        (DataType::Int16, DataType::Int32 | DataType::Int64) => true,
        (DataType::Int32, DataType::Int64) => true,
        (from, to) => is_text(from) && is_text(to),
    };
    match value.cast_to(to) {
        Ok(value) if wider => Transformed::yes(Expr::Literal(value, None)),
        _ => Transformed::no(expr),
    }
}

/// A raw table at no snapshot.
#[derive(Debug)]
pub(crate) struct Detached {
    schema: SchemaRef,
    pub(crate) table: Arc<CompiledTable>,
    is_declared: bool,
}

impl TableSource for Detached {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// Whether a plan gives one row that is made of nothing.
fn is_constant(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Projection(projection) => is_constant(&projection.input),
        _ => false,
    }
}

/// The plan over tables of no snapshot, and which those are.
fn detached(plan: LogicalPlan) -> DfResult<(LogicalPlan, Vec<TableId>)> {
    let mut tables = Vec::new();
    let plan = plan.transform_up(|node| {
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let provider = source_as_provider(&scan.source)?;
        let Some(raw) = provider.downcast_ref::<RawTable>() else {
            return Err(SqlError::internal("a plan is kept over a table of another kind").into());
        };
        tables.push(raw.table().id);
        scan.source = Arc::new(Detached {
            schema: scan.source.schema(),
            table: Arc::clone(raw.table()),
            is_declared: raw.is_declared(),
        });
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    });
    plan.data().map(|plan| (plan, tables))
}

fn attached(node: LogicalPlan, snapshot: &Arc<Snapshot>) -> Transformed<LogicalPlan> {
    let LogicalPlan::TableScan(mut scan) = node else { return Transformed::no(node) };
    let Some(Detached { table, is_declared, .. }) = scan.source.downcast_ref::<Detached>() else {
        return Transformed::no(LogicalPlan::TableScan(scan));
    };
    let table = RawTable::new(Arc::clone(snapshot), Arc::clone(table));
    let table = if *is_declared { table.declared() } else { table };
    scan.source = Arc::new(DefaultTableSource::new(Arc::new(table)));
    Transformed::yes(LogicalPlan::TableScan(scan))
}

/// Whether a plan is small and hangs on nothing but its key and the rows of raw tables that have no rollups.
fn is_fit(plan: &LogicalPlan) -> SqlResult<bool> {
    use LogicalPlan as P;
    if !cache::is_of_sources(plan)? {
        return Ok(false);
    }
    let (mut fit, mut size) = (true, 0_usize);
    plan.apply_with_subqueries(|node| {
        size += 1;
        fit &= match node {
            P::TableScan(scan) => source_as_provider(&scan.source).is_ok_and(|provider| {
                let raw = provider.downcast_ref::<RawTable>();
                raw.is_some_and(|raw| raw.is_usual() && raw.table().rollups.is_empty())
            }),
            P::Projection(_)
            | P::Filter(_)
            | P::Aggregate(_)
            | P::Sort(_)
            | P::Join(_)
            | P::Union(_)
            | P::EmptyRelation(_)
            | P::Limit(_)
            | P::SubqueryAlias(_)
            | P::Distinct(_) => true,
            _ => false,
        };
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                size += 1;
                fit &= match e {
                    Expr::ScalarSubquery(_)
                    | Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
                    | Expr::ScalarVariable(..) => false,
                    // It looks whether its statement is over.
                    Expr::ScalarFunction(call) => !bounded::is_bounded(&call.func),
                    _ => true,
                };
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })
    .map_err(SqlError::from)?;
    Ok(fit && size <= SIZE_MAX)
}

/// The plan with the types of its open parameters, none of which will be null.
pub(crate) fn typed(plan: LogicalPlan, types: &[FieldRef]) -> SqlResult<LogicalPlan> {
    let done = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let name = names.save(&expr);
            let typed = expr.transform_up(|e| match e {
                Expr::Placeholder(p) => {
                    let field = types.get(parameter_number(&p.id)?).map(Arc::clone);
                    Ok(Transformed::yes(Expr::Placeholder(Placeholder { id: p.id, field })))
                }
                e => Ok(Transformed::no(e)),
            })?;
            Ok(typed.update_data(|e| name.restore(e)))
        })?;
        node.map_data(LogicalPlan::recompute_schema)
    });
    done.data().map_err(SqlError::from)
}

/// The types of parameters; none if one is null, which rules of the planner look at.
pub(crate) fn types(params: &[Parameter]) -> Option<Vec<FieldRef>> {
    let field = |p: &Parameter| (!p.value.is_null()).then(|| p.field());
    params.iter().map(field).collect()
}

/// Types as the planner is told them.
pub(crate) fn data_types(types: &[FieldRef]) -> Vec<Option<DataType>> {
    types.iter().map(|field| Some(field.data_type().clone())).collect()
}
