//! Whole lives: any call goes wrong in any way, many do, the power goes at any call.

use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::*;
use crate::store::fault::{Fault, FaultPlan, FaultStore};
use crate::store::tests::seeds;

pub(super) struct Run {
    pub(super) store: FaultStore,
    pub(super) world: World,
}

pub(super) fn run(plan: FaultPlan) -> Run {
    let seed = plan.seed;
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = FaultStore::new(Arc::clone(&inner), plan);
    let dead = store.clone();
    let storage = Storage::from_store(Arc::new(store.clone()));
    let world = World::new(storage, Storage::from_store(inner), seed, move || dead.is_dead());
    Run { store, world }
}

impl Run {
    /// Runs `steps` steps; after each death it audits, starts again and goes on.
    pub(super) async fn live(&mut self, steps: usize, context: &str) {
        let mut left = steps;
        let mut alive = false;
        while left > 0 {
            let part = left.min(10);
            let died = match alive {
                true => self.world.run(part).await.is_err(),
                false => self.world.start().await.is_err(),
            };
            left -= if alive { part } else { 0 };
            alive = !died;
            if died {
                (self.world.dataset, self.world.zombie) = (None, None);
                self.world.audit(context).await;
                self.store.revive();
            }
        }
        self.store.heal();
        self.store.settle().await;
        self.world.audit(context).await;
        // And it goes on from there.
        self.world.start().await.unwrap();
        self.world.run(10).await.unwrap();
        self.world.flush().await.unwrap();
        self.world.look().await;
        self.world.audit(context).await;
    }
}

/// Something of everything was done.
fn assert_busy(done: Done) {
    let Done { flushes, compactions, expired, deleted, .. } = done;
    assert!(flushes > 3 && compactions > 0 && expired > 0 && deleted > 3, "{done:?}");
}

#[tokio::test]
async fn any_call_may_go_wrong_in_any_way() {
    const SEED: u64 = 3;
    const STEPS: usize = 100;
    let mut clean = run(FaultPlan { seed: SEED, ..FaultPlan::none() });
    clean.live(STEPS, "clean").await;
    assert_busy(clean.world.done);
    let calls = clean.store.calls();
    assert!(calls > 150, "{calls}");
    // What is not done at all, done unheard, and dying are tried at every call, the others now and then.
    for fault in Fault::ALL {
        let rare = matches!(fault, Fault::Refuse | Fault::Twice | Fault::Late | Fault::Hang);
        for n in (1..=calls).step_by(if rare { 13 } else { 1 }) {
            let plan = FaultPlan { seed: SEED, nth: Some((n, fault)), ..FaultPlan::none() };
            let context = format!("{fault:?} at call {n} of {calls}");
            run(plan).live(STEPS, &context).await;
        }
    }
}

#[tokio::test]
async fn many_calls_go_wrong() {
    let mut done = Done::default();
    for seed in seeds(12) {
        let faults = Fault::ALL.into_iter().filter(|f| *f != Fault::Hang).collect();
        let plan = FaultPlan { seed, percent: 3 + seed % 10, faults, nth: None };
        let mut run = run(plan);
        run.live(120, &format!("OTUS_SEED={seed}")).await;
        let more = run.world.done;
        done.flushes += more.flushes;
        done.compactions += more.compactions;
        done.expired += more.expired;
        done.deleted += more.deleted;
    }
    assert_busy(done);
}

/// With hot rows; the store fails at its `nth` call.
async fn filled(nth: Option<(u64, Fault)>) -> Run {
    let mut run = run(FaultPlan { seed: 2, nth, ..FaultPlan::none() });
    run.world.start().await.unwrap();
    (0..4).for_each(|_| run.world.append());
    run
}

/// The calls of a flush after [`filled`].
async fn calls_of_a_flush() -> std::ops::RangeInclusive<u64> {
    let clean = filled(None).await;
    let before = clean.store.calls();
    clean.world.dataset().flush().await.unwrap().unwrap();
    before + 1..=clean.store.calls()
}

/// The store goes away at each call of a flush, before or after the call is done, and comes back: the next flush
/// finds out what became of the first, and makes everything durable at once.
#[tokio::test]
async fn a_flush_after_one_in_doubt_goes_through() {
    let (mut failed, calls) = (0, calls_of_a_flush().await);
    for (n, fault) in calls.clone().flat_map(|n| [(n, Fault::DieBefore), (n, Fault::DieAfter)]) {
        let context = format!("{fault:?} at call {n} of {calls:?}");
        let mut run = filled(Some((n, fault))).await;
        let dataset = run.world.dataset();
        failed += u64::from(dataset.flush().await.is_err());
        run.store.heal();
        dataset.flush().await.unwrap_or_else(|e| panic!("{context}: {e:?}"));
        run.world.durable = run.world.ends.clone();
        assert_eq!(dataset.flush().await.unwrap(), None, "{context}: something is still hot");
        run.world.look().await;
        run.world.audit(&context).await;
    }
    assert!(failed > 4, "{failed} of {calls:?}");
}

/// A process stands still in its flush for so long that another one takes its files for rubbish: its commit is
/// refused, and the rows are written again.
#[tokio::test]
async fn files_that_another_process_collects_are_not_committed() {
    let mut collected = 0;
    for n in calls_of_a_flush().await {
        let context = format!("standing still at call {n}");
        let mut run = filled(Some((n, Fault::DieBefore))).await;
        let (dataset, clock) = (run.world.dataset(), Arc::clone(&run.world.clock));
        if dataset.flush().await.is_ok() {
            continue;
        }
        let flush = FlushLimits { collect_grace_us: 50_000, ..FlushLimits::default() };
        let options = DatasetOptions { flush, ..options(&clock, "another") };
        let storage = run.world.clean.clone();
        let another = Dataset::open_with(storage, options, quick()).await.unwrap();
        for _ in 0..2 {
            collected += another.maintain(true).await.unwrap().deleted;
            clock.advance(1_000_000);
        }
        run.store.heal();
        dataset.flush().await.unwrap_or_else(|e| panic!("{context}: {e:?}"));
        run.world.durable = run.world.ends.clone();
        run.world.look().await;
        run.world.audit(&context).await;
    }
    assert!(collected > 0, "nothing was collected: this shows nothing");
}

#[cfg(unix)]
mod power {
    use std::path::PathBuf;

    use super::*;
    use crate::store::Access;
    use crate::store::powercut::PowerCutDisk;
    use crate::store::tests::Folder;

    async fn storage(folder: PathBuf, disk: &PowerCutDisk) -> Result<Storage> {
        Storage::open_folder(&folder, Access::ReadWrite, "test", Arc::new(disk.clone())).await
    }

    /// Runs until call `cut_at`, cuts, audits what remains and goes on. The calls made, and what was done.
    async fn cut(seed: u64, cut_at: Option<u64>, steps: usize) -> (u64, Done) {
        let context = format!("OTUS_SEED={seed}, power cut at call {cut_at:?}");
        let home = Folder::volatile();
        let disk = PowerCutDisk::new(cut_at);
        let before = home.0.join("before");
        std::fs::create_dir(&before).unwrap();
        let mut world = World::new(memory(), memory(), seed, || false);
        if let Ok(opened) = storage(before.join("data"), &disk).await {
            let dead = disk.clone();
            world = World::new(opened.clone(), opened, seed, move || dead.is_dark());
            if world.start().await.is_ok() {
                world.run(steps).await.ok();
            }
        }
        let (calls, done, durable) = (disk.calls(), world.done, world.durable.clone());
        drop(world);
        let after = home.0.join("after");
        disk.remains(&before, &after, seed ^ cut_at.unwrap_or(0)).unwrap();
        let opened = storage(after.join("data"), &PowerCutDisk::new(None)).await.expect(&context);
        let mut world = World::new(opened.clone(), opened, seed + 1, || false);
        world.durable = durable;
        world.audit(&context).await;
        world.start().await.unwrap();
        world.run(6).await.unwrap();
        world.flush().await.unwrap();
        world.audit(&context).await;
        (calls, done)
    }

    #[tokio::test]
    async fn a_power_cut_takes_nothing_that_was_durable() {
        const SEED: u64 = 5;
        const STEPS: usize = 60;
        /// Cuts in all, spread over the calls.
        const CUTS: u64 = 250;
        let (calls, done) = cut(SEED, None, STEPS).await;
        assert_busy(done);
        let step = (calls / CUTS).max(1);
        // An odd step, so that cuts before and after a call take turns.
        for cut_at in (1..=calls).step_by(usize::try_from(step | 1).unwrap()) {
            cut(SEED, Some(cut_at), STEPS).await;
        }
    }

    #[tokio::test]
    async fn power_cuts_at_random() {
        for seed in seeds(10) {
            let cut_at = 1 + Dice::new(seed).below(2_000);
            cut(seed, Some(cut_at), 80).await;
        }
    }
}
