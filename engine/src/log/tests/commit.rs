//! Writers on a store that behaves.

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::ErrorKind;
use crate::limits::{CHECKPOINTS_KEPT, LOG_RETENTION_US, LOG_STALE_US};
use crate::log::{LOG_FOLDER, checkpoint_path, entry_path};
use crate::store::fault::{Fault, FaultPlan, FaultStore};

fn memory() -> (Arc<InMemory>, Storage) {
    let store = Arc::new(InMemory::new());
    let storage = Storage::from_store(Arc::clone(&store) as Arc<dyn ObjectStore>);
    (store, storage)
}

fn flush(epoch: u64, from: i64) -> Vec<Op> {
    let unique = u64::try_from(from).unwrap() + 1;
    vec![advance(0, epoch, from, from + 10), add(raw(unique, &[(0, from, from + 10)]))]
}

async fn names(store: &dyn ObjectStore) -> Vec<String> {
    use futures::TryStreamExt;
    let all: Vec<_> = store.list(Some(&LOG_FOLDER.into())).try_collect().await.unwrap();
    let mut names: Vec<_> =
        all.iter().map(|m| m.location.filename().unwrap().to_string()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_was_committed_is_read_back() {
    let (_, storage) = memory();
    let (mut log, empty) = open(&storage, "a").await.unwrap();
    assert_eq!(empty.number, 0);
    log.commit(setup("a")).await.unwrap();
    let done = log.commit(flush(1, 0)).await.unwrap();
    assert_eq!(done.number, 2);
    let (again, manifest) = open(&storage, "b").await.unwrap();
    assert_eq!(*manifest, *done.manifest);
    assert_eq!(*again.manifest(), *log.manifest());
    assert_eq!(crate::log::read_manifest(&storage).await.unwrap(), *manifest);
    let tail = crate::log::read_entries(&storage, 2, 10).await.unwrap();
    assert_eq!(
        tail.iter().map(|e| (e.number, e.commit_id)).collect::<Vec<_>>(),
        [(2, done.commit_id)]
    );
}

#[tokio::test]
async fn the_loser_of_a_race_goes_on_or_is_refused() {
    let (_, storage) = memory();
    let (mut a, _) = open(&storage, "a").await.unwrap();
    let (mut b, _) = open(&storage, "b").await.unwrap();
    a.commit(setup("a")).await.unwrap();
    // b knows nothing of it: its first try meets entry 1, its second follows it.
    let done = b.commit(vec![claim(7, 1, "b")]).await.unwrap();
    assert_eq!(done.number, 2);
    // a takes over, the zombie b wrote nothing.
    b.commit(vec![claim(0, 2, "b")]).await.unwrap();
    let e = a.commit(flush(1, 0)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy);
    assert!(e.message().contains("epoch 1 is over"), "{e}");
    assert!(a.in_doubt().is_none());
    assert_eq!(a.manifest().number, 3);
    b.commit(flush(2, 0)).await.unwrap();
    assert_eq!(a.refresh().await.unwrap().number, 4);
}

#[tokio::test]
async fn checkpoints_shorten_the_log_only_when_old() {
    let store = Arc::new(InMemory::new());
    let storage = Storage::from_store(Arc::clone(&store) as Arc<dyn ObjectStore>);
    let settings = LogSettings { checkpoint_every: 4, ..settings() };
    // The store stamps objects by the wall clock, so the log's clock starts there.
    let clock = Arc::new(ManualClock::new(crate::clock::SystemClock.now_us()));
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    let (mut log, _) =
        CommitLog::open_with(storage.clone(), "a".into(), Arc::clone(&shared), settings)
            .await
            .unwrap();
    log.commit(setup("a")).await.unwrap();
    for i in 0..31 {
        log.commit(flush(1, i * 10)).await.unwrap();
    }
    let all = names(store.as_ref()).await;
    assert_eq!(all.iter().filter(|n| n.ends_with(".json")).count(), 32);
    assert_eq!(all.iter().filter(|n| n.ends_with(".checkpoint")).count(), CHECKPOINTS_KEPT);
    clock.advance(LOG_RETENTION_US + 60_000_000);
    for i in 31..35 {
        log.commit(flush(1, i * 10)).await.unwrap();
    }
    let all = names(store.as_ref()).await;
    let entries: Vec<_> = all.iter().filter(|n| n.ends_with(".json")).collect();
    // 28, 32 and 36 are kept; what 28 holds is old enough to go.
    assert_eq!(entries.first().unwrap().as_str(), "00000000000000000029.json");
    assert!(all.contains(&"00000000000000000036.checkpoint".to_string()));
    let (_, manifest) = open(&storage, "b").await.unwrap();
    assert_eq!(*manifest, *log.manifest());
    // The setup was commit 1; most of these files were read from a checkpoint.
    let commits: Vec<_> = manifest.live_files().map(|f| f.commit).collect();
    assert_eq!(commits, (2..=36).map(Some).collect::<Vec<_>>());
    // Without its hint, and with a hint that leads nowhere, it opens all the same.
    let hint = format!("{LOG_FOLDER}/_latest").into();
    store.put(&hint, "999".into()).await.unwrap();
    assert_eq!(*open(&storage, "b").await.unwrap().1, *manifest);
    store.delete(&hint).await.unwrap();
    assert_eq!(*open(&storage, "b").await.unwrap().1, *manifest);
}

#[tokio::test]
async fn a_writer_that_slept_reads_again_first() {
    let (store, storage) = memory();
    let clock = Arc::new(ManualClock::new(NOW_US));
    let (mut sleeper, _) = CommitLog::open_with(
        storage.clone(),
        "sleeper".into(),
        Arc::clone(&clock) as Arc<dyn Clock>,
        settings(),
    )
    .await
    .unwrap();
    sleeper.commit(setup("sleeper")).await.unwrap();
    let (mut other, _) = open(&storage, "other").await.unwrap();
    other.commit(vec![claim(0, 2, "other")]).await.unwrap();
    other.commit(flush(2, 0)).await.unwrap();
    other.checkpoint().await.unwrap();
    // A week later its next number, 2, is free again, and must not be taken.
    for number in 1..=3 {
        store.delete(&entry_path(number)).await.unwrap();
    }
    clock.advance(LOG_STALE_US);
    let e = sleeper.commit(flush(1, 0)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Busy, "{e}");
    assert_eq!(sleeper.manifest().number, 3);
}

/// A commit ends in doubt, as `fault` has it; others go on for an hour; then it is resolved.
async fn doubt_for_an_hour(fault: Fault, gone: bool) -> Result<Option<u64>> {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let plan = FaultPlan { seed: 1, percent: 100, faults: vec![fault], nth: None };
    let faulty = FaultStore::new(Arc::clone(&inner), plan);
    let (storage, behind) =
        (Storage::from_store(Arc::new(faulty.clone())), Storage::from_store(Arc::clone(&inner)));
    open(&behind, "other").await?.0.commit(setup("a")).await?;
    faulty.heal();
    let clock = Arc::new(ManualClock::new(NOW_US));
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    let (mut log, _) = CommitLog::open_with(storage, "a".into(), shared, settings()).await?;
    faulty.ail(100);
    let e = log.commit(vec![claim(5, 1, "a")]).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    assert_eq!(log.in_doubt().unwrap(), [claim(5, 1, "a")]);
    faulty.heal();
    let (mut other, _) = open(&behind, "other").await?;
    for partition in 6..9 {
        other.commit(vec![claim(partition, 1, "other")]).await?;
    }
    if gone {
        other.checkpoint().await?;
        inner.delete(&entry_path(2)).await?;
    }
    clock.advance(LOG_STALE_US);
    let resolved = log.resolve().await?;
    assert!(log.in_doubt().is_none());
    assert_eq!(log.refresh().await?.claims.len(), 2 + 3 + 1);
    Ok(resolved.map(|done| done.number))
}

#[tokio::test]
async fn doubt_ends_even_after_an_hour() {
    // It had taken place after all; it had not, and follows the others now.
    assert_eq!(doubt_for_an_hour(Fault::LoseAnswer, false).await.unwrap(), Some(2));
    assert_eq!(doubt_for_an_hour(Fault::Refuse, false).await.unwrap(), Some(5));
    let e = doubt_for_an_hour(Fault::LoseAnswer, true).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert!(e.message().contains("gone before it was known"), "{e}");
}

#[tokio::test]
async fn damage_is_fatal_and_named() {
    let (store, storage) = memory();
    let (mut log, _) = open(&storage, "a").await.unwrap();
    log.commit(setup("a")).await.unwrap();
    for i in 0..3 {
        log.commit(flush(1, i * 10)).await.unwrap();
    }
    let whole = store.get(&entry_path(2)).await.unwrap().bytes().await.unwrap();
    let says = |what: &'static str| {
        let storage = storage.clone();
        async move {
            let e = open(&storage, "b").await.map(|_| ()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
            let text = e.to_string();
            assert!(text.contains("00000000000000000002"), "{text:?} names no file");
            assert!(text.contains(what), "{text:?} does not say {what:?}");
        }
    };
    store.delete(&entry_path(2)).await.unwrap();
    says("missing").await;
    let text = String::from_utf8(whole.to_vec()).unwrap();
    let second = entry_path(2);
    let put = |bytes: String| store.put(&second, bytes.into());
    put(text.replacen("\"kept\":10", "\"kept\":11", 1)).await.unwrap();
    says("checksum").await;
    put(text.split_at(text.len() / 2).0.to_string()).await.unwrap();
    says("not readable").await;
    put(text.replacen("\"format\":1", "\"format\":2", 1)).await.unwrap();
    says("has format 2").await;
    store.copy(&entry_path(1), &entry_path(2)).await.unwrap();
    says("says it is 1").await;
    put(text).await.unwrap();
    log.checkpoint().await.unwrap();
    let path = checkpoint_path(4);
    let mut bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    store.put(&path, bytes.into()).await.unwrap();
    let e = open(&storage, "b").await.map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
    assert!(e.to_string().contains("00000000000000000004.checkpoint"), "{e}");
}

#[tokio::test]
async fn a_million_column_bounds_open_at_once() {
    let (_, storage) = memory();
    let (mut log, _) = open(&storage, "a").await.unwrap();
    log.commit(setup("a")).await.unwrap();
    let bounds = |i: u64| {
        let i = i64::try_from(i).unwrap();
        (0..12).map(move |c| crate::log::op::ColumnStats {
            name: format!("column_{c}"),
            min: Some(crate::log::op::StatValue::Int(i * c)),
            max: Some(crate::log::op::StatValue::Text(format!("value {i}"))),
            exact: true,
            nulls: 0,
        })
    };
    for chunk in 0..10_u64 {
        let mut ops = Vec::new();
        for i in chunk * 1_000..(chunk + 1) * 1_000 {
            let from = i64::try_from(i).unwrap();
            ops.push(advance(0, 1, from, from + 1));
            let columns = bounds(i).collect();
            ops.push(add(FileEntry { columns, ..raw(i, &[(0, from, from + 1)]) }));
        }
        log.commit(ops).await.unwrap();
    }
    log.checkpoint().await.unwrap();
    for i in 10_000..10_060 {
        log.commit(vec![advance(0, 1, i, i + 1)]).await.unwrap();
    }
    let clock = crate::clock::SystemClock;
    let began = clock.now_us();
    let (mut again, manifest) = open(&storage, "b").await.unwrap();
    let opened_us = clock.now_us() - began;
    assert_eq!(manifest.live_files().count(), 10_000);
    let began = clock.now_us();
    for i in 0..20 {
        again.commit(flush(1, 10_060 + i * 10)).await.unwrap();
    }
    let commit_us = (clock.now_us() - began) / 20;
    println!("10,000 files: opened in {opened_us} us, a commit takes {commit_us} us");
    assert!(opened_us < 1_000_000, "opening took {opened_us} us");
    assert!(commit_us < 50_000, "a commit took {commit_us} us");
}
