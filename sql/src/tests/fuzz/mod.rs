//! The differential fuzzer of automatic rollups: random tables, rows, rollups, late events and queries;
//! every query must have the same answer with `otus.rollups = auto` and `off` (promise P4).
//!
//! All chance comes from a seed. A failure prints its seed; `OTUS_SEED=<seed>` runs that case alone,
//! `OTUS_FUZZ_CASES=<n>` runs more of them, from `OTUS_SEED` on if that is given too.

mod chance;
mod compare;
mod data;
mod grammar;
mod part;
mod query;
mod run;
mod table;
mod world;

use crate::rewrite::Fault;
use run::{Tally, Verdict};
use world::World;

/// Cases of a plain test run.
const CASES: u64 = 500;
/// Cases over one table.
const CASES_PER_WORLD: u64 = 25;
/// First seed of a plain test run.
const SEED: u64 = 1_000_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} = {v:?}")))
}

/// Seeds to run.
fn seeds(cases: u64) -> std::ops::Range<u64> {
    let (seed, wanted) = (variable("OTUS_SEED"), variable("OTUS_FUZZ_CASES"));
    let n = wanted.unwrap_or(if seed.is_some() { 1 } else { cases });
    let from = seed.unwrap_or(SEED);
    from..from + n
}

/// The world of a case: cases in a row share one.
async fn world_of(seed: u64, last: Option<World>) -> World {
    let wanted = seed / CASES_PER_WORLD;
    match last {
        Some(world) if world.seed == wanted => world,
        _ => World::new(wanted).await,
    }
}

/// Differences that are told of; the run ends with the last of them.
const REPORTS_MAX: usize = 3;

#[tokio::test]
async fn rollups_answer_as_raw_rows_do() {
    let cases = seeds(CASES);
    let n = cases.end - cases.start;
    let mut tally = Tally::default();
    let mut reports = Vec::new();
    let mut last = None;
    for seed in cases {
        let world = world_of(seed, last).await;
        let query = grammar::query(&world.table, seed);
        let plan = run::explain(&world, &query).await;
        tally.count(&plan);
        match run::compare((&world, "auto"), (&world, "off"), &query).await {
            Verdict::Same => {}
            Verdict::Failed(_) => tally.failed += 1,
            Verdict::Different(what) | Verdict::Broken(what) => {
                reports.push(Box::pin(run::report(&world, seed, query, &what)).await)
            }
        }
        if reports.len() == REPORTS_MAX {
            break;
        }
        last = Some(world);
    }
    println!("{tally:#?}");
    assert!(reports.is_empty(), "{}", reports.join("\n\n"));
    if n >= CASES {
        assert!(tally.failed * 20 <= n, "too many queries fail: {tally:?}");
        assert!(tally.rollup * 100 >= 60 * n, "too few by rollup: {tally:?}");
        assert!(tally.mixed * 100 >= 20 * n, "too few by rollup, edges and hot rows: {tally:?}");
    }
}

/// Each way to be wrong is noticed.
#[tokio::test]
async fn wrong_rewriting_is_noticed() {
    let from = variable("OTUS_SEED").unwrap_or(SEED);
    let mut left: Vec<Fault> = Fault::ALL.to_vec();
    let mut found = Vec::new();
    let mut last = None;
    for seed in from..from + CASES {
        let world = world_of(seed, last).await;
        let query = grammar::query(&world.table, seed);
        // Only what rollups answer can go wrong, or what they would with buckets that do not fit.
        let plan = run::explain(&world, &query).await;
        if plan.contains("events: rollup ") || plan.contains("no granularity of rollup") {
            let mut missed = Vec::new();
            for fault in left {
                match run::is_noticed(&world, fault, &query).await {
                    true => found.push((fault, seed - from + 1)),
                    false => missed.push(fault),
                }
            }
            left = missed;
        }
        if left.is_empty() {
            break;
        }
        last = Some(world);
    }
    println!("noticed after so many cases: {found:?}");
    assert!(left.is_empty(), "not noticed: {left:?}");
}

/// Lives of tables, and queries that are asked again after each step of one.
const LIVES: u64 = 12;
const QUERIES: u64 = 8;

/// What is given again is the answer of the moment, whatever has happened to the rows since it was kept.
#[tokio::test]
async fn kept_answers_are_those_of_the_moment() {
    let lives = seeds(LIVES);
    let n = lives.end - lives.start;
    let (mut asked, mut again) = (0_u64, 0_u64);
    for seed in lives {
        let mut world = World::newborn(seed).await;
        let queries: Vec<_> =
            (0..QUERIES).map(|i| grammar::query(&world.table, seed * QUERIES + i)).collect();
        while let Some(step) = world.step().await {
            // What was kept before is too old now.
            world.wait(10_000);
            for query in &queries {
                let (differs, given) = run::kept(&world, query).await;
                asked += 1;
                again += u64::from(given);
                if let Some(what) = differs {
                    let (sql, params) = query.sql();
                    let table = world.table.describe();
                    let steps = &world.steps;
                    panic!(
                        "OTUS_SEED={seed}\n{table}{steps:?}\nafter {step:?}\n{sql}\n{params:?}\n{what}"
                    );
                }
            }
        }
    }
    println!("{again} of {asked} were given again since nothing had changed for them");
    assert!(n < LIVES || again * 20 > asked, "{again} of {asked}");
}

/// Who sees a part of the rows is answered as if there were no others.
#[tokio::test]
async fn hidden_rows_change_no_answer() {
    let (mut failed, mut rollup) = (0, 0);
    let cases = seeds(200);
    let n = cases.end - cases.start;
    let mut worlds: Option<(World, World)> = None;
    for seed in cases {
        let wanted = seed / CASES_PER_WORLD;
        if worlds.as_ref().is_none_or(|(w, _)| w.seed != wanted) {
            let world = World::new(wanted).await;
            let rows = part::rows(&world).await;
            worlds = Some((world, World::of_rows(wanted, rows).await));
        }
        let (world, part) = worlds.as_ref().unwrap();
        let query = grammar::query(&world.table, seed);
        rollup +=
            u64::from(run::explain_in(&world.of_part, &query).await.contains("events: rollup "));
        for mode in ["auto", "off"] {
            let (mine, theirs) = ((&world.of_part, mode), (&part.session, "off"));
            match run::compare_sessions(mine, theirs, &query).await {
                Verdict::Same => {}
                Verdict::Failed(_) => failed += 1,
                Verdict::Different(what) | Verdict::Broken(what) => {
                    let (sql, params) = query.sql();
                    let table = world.table.describe();
                    let filter = part::condition(&world.table, world.seed);
                    let steps = &world.steps;
                    panic!(
                        "OTUS_SEED={seed}\n{table}{steps:?}\nfilter {filter}\n{mode}\n{sql}\n{params:?}\n{what}"
                    );
                }
            }
        }
    }
    println!("{rollup} of {n} by rollup, {failed} failed");
    assert!(n < 200 || failed * 10 <= n, "{failed} of {n} queries fail");
    assert!(n < 200 || rollup * 10 >= n, "{rollup} of {n} are answered by rollup");
}

/// Rows in files, merged files and chunks are the rows that came.
#[tokio::test]
async fn storage_answers_as_rows_in_memory() {
    let mut failed = 0;
    let cases = seeds(100);
    let n = cases.end - cases.start;
    let mut worlds: Option<(World, World)> = None;
    for seed in cases {
        let wanted = seed / CASES_PER_WORLD;
        if worlds.as_ref().is_none_or(|(w, _)| w.seed != wanted) {
            worlds = Some((World::new(wanted).await, World::plain(wanted).await));
        }
        let (world, plain) = worlds.as_ref().unwrap();
        let query = grammar::query(&world.table, seed);
        match run::compare((world, "off"), (plain, "off"), &query).await {
            Verdict::Same => {}
            Verdict::Failed(why) => {
                failed += 1;
                println!("seed {seed}: {why}\n  {}", query.sql().0);
            }
            Verdict::Different(what) | Verdict::Broken(what) => {
                let (sql, params) = query.sql();
                let table = world.table.describe();
                panic!("OTUS_SEED={seed}\n{table}{:?}\n{sql}\n{params:?}\n{what}", world.steps);
            }
        }
    }
    assert!(n < 100 || failed * 20 <= n, "{failed} of {n} queries fail");
}
