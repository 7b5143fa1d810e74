//! The log on a local folder whose machine loses power: what was not synced may be gone or torn.

use std::path::PathBuf;

use super::world::World;
use super::*;
use crate::store::Access;
use crate::store::fault::Dice;
use crate::store::powercut::PowerCutDisk;
use crate::store::tests::{Folder, seeds};

async fn storage(folder: PathBuf, disk: &PowerCutDisk) -> Result<Storage> {
    Storage::open_folder(&folder, Access::ReadWrite, "test", Arc::new(disk.clone())).await
}

/// Runs until call `cut_at`, cuts, looks at what remains, goes on, cuts again at the end.
async fn cut(seed: u64, cut_at: Option<u64>, steps: usize, trims: bool) -> u64 {
    let members = if trims { 1 } else { 2 };
    let context = format!("OTUS_SEED={seed}, power cut at call {cut_at:?}");
    let home = Folder::volatile();
    let disk = PowerCutDisk::new(cut_at);
    let before = home.0.join("before");
    std::fs::create_dir(&before).unwrap();
    let mut world = World::new(Storage::from_store(memory()), || false, seed, trims);
    if let Ok(opened) = storage(before.join("data"), &disk).await {
        let dead = disk.clone();
        world.restart(opened, move || dead.is_dark());
        if world.open(members).await.is_ok() {
            world.run(steps).await.ok();
        }
        world.restart(Storage::from_store(memory()), || false);
    }
    let calls = disk.calls();
    let after = home.0.join("after");
    disk.remains(&before, &after, seed ^ cut_at.unwrap_or(0)).unwrap();
    let clean = PowerCutDisk::new(None);
    let opened = storage(after.join("data"), &clean).await.expect(&context);
    world.restart(opened.clone(), || false);
    world.audit(&opened, &context).await;
    world.open(members).await.unwrap();
    world.run(10).await.unwrap();
    let files = world.audit(&opened, &context).await;
    assert!(files > 0 || cut_at.is_some(), "{context}: nothing was tested");
    calls
}

fn memory() -> Arc<dyn object_store::ObjectStore> {
    Arc::new(object_store::memory::InMemory::new())
}

#[tokio::test]
async fn a_power_cut_at_any_call_takes_nothing_acknowledged() {
    const SEED: u64 = 1;
    const STEPS: usize = 30;
    let calls = cut(SEED, None, STEPS, true).await;
    assert!(calls > 200, "{calls}");
    for cut_at in 1..=calls {
        cut(SEED, Some(cut_at), STEPS, true).await;
    }
}

#[tokio::test]
async fn power_cuts_at_random() {
    for seed in seeds(20) {
        let cut_at = 1 + Dice::new(seed).below(1_200);
        cut(seed, Some(cut_at), 150, seed % 2 == 0).await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let home = Folder::volatile();
    let disk = PowerCutDisk::new(None);
    let storage = storage(home.0.join("data"), &disk).await.unwrap();
    let (mut log, _) = open(&storage, "a").await.unwrap();
    log.commit(setup("a")).await.unwrap();
    disk.set_full(true);
    let e = log.commit(vec![claim(0, 2, "a")]).await.unwrap_err();
    assert_eq!(e.kind(), crate::ErrorKind::Full, "{e}");
    assert!(log.in_doubt().is_none(), "it is known that nothing was written");
    disk.set_full(false);
    assert_eq!(log.commit(vec![claim(0, 2, "a")]).await.unwrap().number, 2);
    assert_eq!(open(&storage, "b").await.unwrap().1.number, 2);
}
