//! Backfill of a rollup that comes and goes, on a store that fails at any call.

use super::runs::{Run, run};
use super::*;
use crate::store::fault::{Fault, FaultPlan};
use crate::store::tests::seeds;

impl World {
    /// Now and then `late` is declared or dropped, more often filled by a step.
    pub(super) async fn fill_or_declare(&mut self) -> Result<(), Died> {
        match self.dice.below(12) {
            0 => {
                self.late = self.late.map(|declared| !declared);
                let defs = [definition(self.late)];
                self.call(self.dataset().apply_tables(&defs, true)).await?;
            }
            1..5 => self.fill().await?,
            _ => {}
        }
        Ok(())
    }

    async fn fill(&mut self) -> Result<(), Died> {
        if let Some(filled) = self.call(self.dataset().backfill_step()).await? {
            self.done.backfills += u64::from(filled);
        }
        Ok(())
    }

    /// Fills to the end and compares, on a store without failures.
    async fn finish_late(&mut self, context: &str) {
        self.late = Some(true);
        // Whoever held the lease is dead.
        self.clock.advance(61_000_000);
        self.start().await.unwrap();
        while self.dataset().backfill_step().await.unwrap() {}
        self.compare_late(context).await;
        self.dataset().maintain(true).await.unwrap();
        self.compare_late(context).await;
        self.look().await;
        self.audit(context).await;
    }
}

#[tokio::test]
async fn a_late_rollup_is_filled_while_calls_go_wrong() {
    let mut backfills = 0;
    for seed in seeds(16) {
        let faults = Fault::ALL.into_iter().filter(|f| *f != Fault::Hang).collect();
        let plan = FaultPlan { seed, percent: seed % 10, faults, nth: None };
        let mut run = run(plan);
        run.world.late = Some(seed % 2 == 0);
        let context = format!("OTUS_SEED={seed}");
        run.live(100, &context).await;
        run.world.finish_late(&context).await;
        backfills += run.world.done.backfills;
    }
    assert!(backfills > 30, "{backfills}");
}

/// With rows of before in several files; the store fails at its `nth` call.
async fn declared(nth: Option<(u64, Fault)>) -> Run {
    let mut run = run(FaultPlan { seed: 4, nth, ..FaultPlan::none() });
    run.world.late = Some(false);
    run.world.start().await.unwrap();
    for _ in 0..5 {
        (0..4).for_each(|_| run.world.append());
        run.world.flush().await.unwrap();
    }
    run.world.late = Some(true);
    run.world.dataset().apply_tables(&[definition(Some(true))], true).await.unwrap();
    run
}

/// The store fails in each way at each call of a filling; the process goes on or is started again.
#[tokio::test]
async fn a_step_is_done_whole_or_not_at_all() {
    let clean = declared(None).await;
    let before = clean.store.calls();
    let mut steps = 0;
    while clean.world.dataset().backfill_step().await.unwrap() {
        steps += 1;
    }
    assert!(steps > 3, "{steps}");
    let calls = before + 1..=clean.store.calls();
    let mut failed = 0;
    for (n, fault) in calls.clone().flat_map(|n| Fault::ALL.map(|fault| (n, fault))) {
        let rare = matches!(fault, Fault::Refuse | Fault::Twice | Fault::Late | Fault::Hang);
        if rare && n % 5 != 0 {
            continue;
        }
        let context = format!("{fault:?} at call {n} of {calls:?}");
        let mut run = declared(Some((n, fault))).await;
        let dataset = run.world.dataset();
        for _ in 0..steps {
            let step = tokio::time::timeout(PATIENCE, dataset.backfill_step()).await;
            failed += u64::from(!matches!(step, Ok(Ok(_))));
            if matches!(step, Ok(Ok(false))) {
                break;
            }
        }
        run.store.heal();
        run.store.settle().await;
        run.world.audit(&context).await;
        if n % 2 == 0 {
            // The same process finds out what became of it.
            let mut told = Ok(true);
            for _ in 0..TRIES {
                told = dataset.backfill_step().await;
                if matches!(told, Ok(false)) {
                    break;
                }
            }
            assert!(matches!(told, Ok(false)), "{context}: {told:?}");
            run.world.compare_late(&context).await;
        }
        drop(dataset);
        run.world.finish_late(&context).await;
    }
    assert!(failed > 20, "{failed} of {calls:?}");
}
