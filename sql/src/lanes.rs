//! Two lanes of query threads, so that small queries keep their speed beside large ones: what a plan will
//! read is known before it runs, and a large one runs on threads to which the system gives the processors only
//! as far as the others leave them. Alone, it has them all.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::engine::STACK_BYTES;
use crate::error::{SqlError, SqlResult};
use crate::provider::GuardedExec;

/// Threads of the quick lane beyond the partitions of a plan.
const SPARE_THREADS: usize = 4;
/// Values to look at from which a query is a large one: some 50 ms of one processor.
const LARGE_VALUES: u64 = 4_000_000;
/// How long a free query thread waits for the others, see [`Lanes::on_free_threads`].
const MEET: Duration = Duration::from_millis(20);
/// What threads of large queries add to their nice value: beside one at its usual value they get a tenth.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Where a query runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// On the threads that come first.
    Quick,
    /// On those that stand back.
    Large,
}

impl Lane {
    /// The word for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Large => "large",
        }
    }

    /// The lane of a plan, by the values that it will look at as far as they are known. Work that is not
    /// known is taken for little.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        if values(plan.as_ref()) >= LARGE_VALUES { Self::Large } else { Self::Quick }
    }
}

/// Values that a plan reads, and pairs that its joins compare.
fn values(plan: &dyn ExecutionPlan) -> u64 {
    if let Some(guarded) = plan.downcast_ref::<GuardedExec>() {
        return values(guarded.hidden().as_ref());
    }
    let children = plan.children();
    if children.is_empty() {
        let columns = u64::try_from(plan.schema().fields().len()).unwrap_or(u64::MAX);
        return rows(plan).saturating_mul(columns.max(1));
    }
    let below = children.iter().map(|child| values(child.as_ref()));
    let below = below.fold(0, u64::saturating_add);
    let pairs = plan.is::<NestedLoopJoinExec>() || plan.is::<CrossJoinExec>();
    match children.as_slice() {
        [left, right] if pairs => {
            below.saturating_add(rows(left.as_ref()).saturating_mul(rows(right.as_ref())))
        }
        _ => below,
    }
}

fn rows(plan: &dyn ExecutionPlan) -> u64 {
    let statistics = StatisticsContext::new().compute(plan, &StatisticsArgs::new()).ok();
    let rows = statistics.and_then(|s| s.num_rows.get_value().copied());
    rows.map_or(0, |rows| u64::try_from(rows).unwrap_or(u64::MAX))
}

/// The threads of both lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    quick: Handle,
    large: Handle,
    /// How many threads each lane has.
    counts: [usize; 2],
    runtimes: Mutex<Option<[Runtime; 2]>>,
}

impl Lanes {
    /// Starts the threads for plans of so many partitions.
    pub(crate) fn start(threads: usize) -> SqlResult<Self> {
        // There are more than that, so that a short statement gets its turn beside others.
        let counts = [threads.saturating_add(SPARE_THREADS), large_threads(threads)];
        let [quick, large] = counts;
        let failed = |e| SqlError::internal(format!("query threads cannot start: {e}"));
        let quick = builder("otus-query", quick).build().map_err(failed)?;
        let large = builder("otus-large", large).on_thread_start(stand_back).build();
        let large = large.map_err(failed)?;
        Ok(Self {
            quick: quick.handle().clone(),
            large: large.handle().clone(),
            counts,
            runtimes: Mutex::new(Some([quick, large])),
        })
    }

    /// The threads of a lane.
    pub(crate) fn handle(&self, lane: Lane) -> &Handle {
        match lane {
            Lane::Quick => &self.quick,
            Lane::Large => &self.large,
        }
    }

    /// Runs a piece of work on a thread of its own: it holds nobody up.
    pub(crate) fn aside<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let handle = self.quick.clone();
        self.quick.spawn_blocking(move || handle.block_on(work))
    }

    /// Calls `work` on each query thread that is free, once.
    pub(crate) async fn on_free_threads(&self, work: fn()) {
        let calls = [&self.quick, &self.large].into_iter().zip(self.counts);
        let calls = calls.flat_map(|(lane, count)| {
            let met = Arc::new((Mutex::new(0_usize), Condvar::new()));
            (0..count).map(move |_| {
                let met = Arc::clone(&met);
                lane.spawn(async move {
                    work();
                    // Holds its thread until the others are here, lest one thread make all calls.
                    let (here, all) = &*met;
                    let mut here = here.lock();
                    *here += 1;
                    all.notify_all();
                    while *here < count && !all.wait_for(&mut here, MEET).timed_out() {}
                })
            })
        });
        futures::future::join_all(calls).await;
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for runtime in self.runtimes.lock().take().into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

fn builder(name: &str, threads: usize) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).thread_name(name).thread_stack_size(STACK_BYTES).enable_all();
    builder
}

/// As many as there are partitions where they stand back by themselves; else one processor stays free.
fn large_threads(threads: usize) -> usize {
    match cfg!(target_os = "linux") {
        true => threads.max(1),
        false => threads.saturating_sub(1).max(1),
    }
}

#[cfg(target_os = "linux")]
fn stand_back() {
    #[expect(unsafe_code, reason = "the standard library knows no priorities")]
    // SAFETY: the call takes plain numbers and touches no memory. On Linux, process 0 is this thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result != 0 {
        tracing::debug!("a thread of large queries keeps its priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn stand_back() {}
