//! The log on a store that loses answers, hangs, does things twice or late, and under dying processes.
//! `OTUS_SEED` replays one seed alone.

use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::world::{Died, World};
use super::*;
use crate::store::fault::{Fault, FaultPlan, FaultStore};
use crate::store::tests::seeds;

struct Run {
    inner: Storage,
    store: FaultStore,
    world: World,
}

fn run(plan: FaultPlan) -> Run {
    let seed = plan.seed;
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = FaultStore::new(Arc::clone(&inner), plan);
    let storage = Storage::from_store(Arc::new(store.clone()));
    let dead = store.clone();
    let world = World::new(storage, move || dead.is_dead(), seed, false);
    Run { inner: Storage::from_store(inner), store, world }
}

impl Run {
    /// Runs `steps` steps; after each death it audits, starts again and goes on.
    async fn live(&mut self, members: usize, steps: usize, context: &str) {
        let mut left = steps;
        while left > 0 {
            let part = left.min(10);
            if let Err(Died) = self.world.open(members).await {
                self.rise(context).await;
                continue;
            }
            if let Err(Died) = self.world.run(part).await {
                self.rise(context).await;
            }
            left -= part;
        }
        self.world.audit(&self.inner, context).await;
        self.store.heal();
        self.store.settle().await;
        self.world.audit(&self.inner, context).await;
        // And it goes on from there.
        self.world.open(members).await.unwrap();
        self.world.run(30).await.unwrap();
        let files = self.world.audit(&self.inner, context).await;
        assert!(files > 0 && self.world.acknowledged() > 10, "{context}: nothing was tested");
    }

    async fn rise(&mut self, context: &str) {
        self.world.audit(&self.inner, context).await;
        self.store.revive();
    }
}

#[tokio::test]
async fn any_call_may_go_wrong_in_any_way() {
    const SEED: u64 = 7;
    const STEPS: usize = 30;
    let mut clean = run(FaultPlan { seed: SEED, ..FaultPlan::none() });
    clean.live(2, STEPS, "clean").await;
    let calls = clean.store.calls();
    assert!(calls > 100, "{calls}");
    for fault in Fault::ALL {
        for n in 1..=calls {
            let plan = FaultPlan { seed: SEED, nth: Some((n, fault)), ..FaultPlan::none() };
            let context = format!("{fault:?} at call {n} of {calls}");
            run(plan).live(2, STEPS, &context).await;
        }
    }
}

#[tokio::test]
async fn many_calls_go_wrong() {
    for seed in seeds(40) {
        let plan =
            FaultPlan { seed, percent: 5 + seed % 20, faults: Fault::ALL.to_vec(), nth: None };
        run(plan).live(3, 120, &format!("OTUS_SEED={seed}")).await;
    }
}
