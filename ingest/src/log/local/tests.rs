//! The local log: what is acknowledged survives, readers see only that, trimming and compaction keep order.

mod golden;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use otus_engine::ErrorKind;
use otus_engine::clock::ManualClock;
use otus_engine::position::TopicPartition;

use super::{LocalLog, LocalOptions, TopicOptions};
use crate::log::append::{AppendFault, AppendRecord};
use crate::log::store::RecordStore;
use crate::record::Slice;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("otus-{}", crate::log::unique())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn open(folder: &Folder) -> Arc<LocalLog> {
    open_with(folder, LocalOptions { disk_reserve_bytes: 0, ..LocalOptions::default() })
}

fn open_with(folder: &Folder, options: LocalOptions) -> Arc<LocalLog> {
    LocalLog::open(&folder.0, options, Arc::new(ManualClock::new(1_000_000))).unwrap()
}

fn topic(log: &LocalLog, name: &str, partitions: i32, keyed: bool) {
    log.create(name, &TopicOptions { partitions: Some(partitions), keyed }).unwrap();
}

fn keyed(key: &'static str, value: Option<&'static str>) -> AppendRecord {
    AppendRecord {
        key: Some(Bytes::from_static(key.as_bytes())),
        value: value.map(|v| Bytes::from_static(v.as_bytes())),
        ..AppendRecord::default()
    }
}

/// Offset and value of all records from `from` on, and the position after them.
fn read(log: &LocalLog, tp: &TopicPartition, from: i64) -> (Vec<(i64, String)>, i64) {
    let mut slice = Slice::new(tp.clone(), from);
    loop {
        let before = slice.next;
        log.read(&mut slice, usize::MAX, usize::MAX).unwrap();
        if slice.next == before {
            break;
        }
    }
    let text = |v: Option<&[u8]>| v.map_or("-".into(), |v| String::from_utf8_lossy(v).into_owned());
    (slice.iter().map(|r| (r.offset, text(r.value))).collect(), slice.next)
}

#[test]
fn acknowledged_records_survive_without_a_close() {
    let folder = Folder::new();
    let tp = TopicPartition::new("events", 0);
    let identity = {
        let log = open(&folder);
        topic(&log, "events", 1, false);
        for batch in 0..10 {
            let records = (0..100).map(|n| AppendRecord::value(format!("{batch}-{n}"))).collect();
            let places = log.append_blocking("events", records).unwrap();
            assert_eq!(places.last(), Some(&(0, batch * 100 + 99)));
        }
        log.bounds(&tp).unwrap().identity
    };
    let log = open(&folder);
    let bounds = log.bounds(&tp).unwrap();
    assert_eq!((bounds.low, bounds.high, bounds.identity), (0, Some(1_000), identity));
    let (records, next) = read(&log, &tp, 995);
    assert_eq!((records.len(), next), (5, 1_000));
    assert_eq!(records[0], (995, "9-95".into()));
    let places = log.append_blocking("events", vec![AppendRecord::value("more")]).unwrap();
    assert_eq!(places, [(0, 1_000)]);
}

#[test]
fn a_folder_has_one_owner_and_unknown_topics_are_refused() {
    let folder = Folder::new();
    let log = open(&folder);
    let second = LocalLog::open(&folder.0, LocalOptions::default(), Arc::new(ManualClock::new(0)));
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Busy);
    let missing = log.append_blocking("nope", vec![AppendRecord::value("x")]).unwrap_err();
    assert_eq!(missing.fault, AppendFault::NotFound);
}

#[test]
fn keys_choose_the_partition_and_partitions_can_be_added() {
    let folder = Folder::new();
    let log = open(&folder);
    topic(&log, "t", 4, false);
    let records = vec![keyed("a", Some("1")), keyed("b", Some("2")), keyed("a", Some("3"))];
    let places = log.append_blocking("t", records).unwrap();
    assert_eq!(places[0].0, places[2].0);
    assert!(places[2].1 > places[0].1);
    topic(&log, "t", 6, false);
    let at_five = AppendRecord { partition: Some(5), ..AppendRecord::value("x") };
    assert_eq!(log.append_blocking("t", vec![at_five.clone()]).unwrap(), [(5, 0)]);
    let at_six = AppendRecord { partition: Some(6), ..at_five };
    let refused = log.append_blocking("t", vec![at_six]).unwrap_err();
    assert_eq!(refused.fault, AppendFault::Invalid);
    drop(log);
    assert_eq!(open(&folder).partition_count("t"), Some(6));
}

#[test]
fn a_disk_without_room_refuses_and_goes_on_later() {
    let folder = Folder::new();
    let options = LocalOptions { disk_reserve_bytes: u64::MAX / 2, ..LocalOptions::default() };
    let log = open_with(&folder, options);
    topic(&log, "t", 1, false);
    let refused = log.append_blocking("t", vec![AppendRecord::value("x")]).unwrap_err();
    assert_eq!(refused.fault, AppendFault::Full);
    drop(log);
    let log = open(&folder);
    assert_eq!(log.append_blocking("t", vec![AppendRecord::value("x")]).unwrap(), [(0, 0)]);
}

/// What goes wrong in the next write.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// The disk is full before anything was written.
    FullBefore,
    /// The disk is said to be full, and yet all was written.
    FullAfter,
    /// The disk fails, after or before: nobody knows.
    BrokenAfter,
    BrokenBefore,
    /// As by a flush that failed meanwhile.
    Refused,
}

impl Fault {
    pub(super) fn commit(self, writes: fjall::OwnedWriteBatch) -> fjall::Result<()> {
        let io = |kind: std::io::ErrorKind| Err(fjall::Error::Io(kind.into()));
        match self {
            Self::FullBefore => return io(std::io::ErrorKind::StorageFull),
            Self::BrokenBefore => return io(std::io::ErrorKind::Other),
            Self::Refused => return Err(fjall::Error::Poisoned),
            Self::FullAfter | Self::BrokenAfter => writes.commit()?,
        }
        match self {
            Self::BrokenAfter => io(std::io::ErrorKind::Other),
            _ => io(std::io::ErrorKind::StorageFull),
        }
    }
}

#[test]
fn after_a_write_that_failed_the_store_itself_says_what_it_has() {
    let folder = Folder::new();
    let log = open(&folder);
    topic(&log, "t", 1, false);
    let tp = TopicPartition::new("t", 0);
    let append = |text: &str| log.append_blocking("t", vec![AppendRecord::value(text.to_string())]);
    let mut wanted: Vec<(i64, String)> = Vec::new();
    for (fault, outcome, is_there) in [
        (Fault::FullBefore, Err(AppendFault::Full), false),
        (Fault::FullAfter, Ok(()), true),
        (Fault::BrokenBefore, Err(AppendFault::Unavailable), false),
        (Fault::BrokenAfter, Err(AppendFault::Unknown), true),
        (Fault::Refused, Err(AppendFault::Unavailable), false),
    ] {
        let text = format!("{fault:?}");
        *log.shared.fault.lock() = Some(fault);
        let ended = append(&text);
        assert_eq!(ended.map(drop).map_err(|e| e.fault), outcome, "{fault:?}");
        if is_there {
            wanted.push((wanted.len() as i64, text));
        }
        assert_eq!(read(&log, &tp, 0).0, wanted, "{fault:?}");
        let text = format!("after {fault:?}");
        assert_eq!(append(&text).unwrap(), [(0, wanted.len() as i64)], "{fault:?}");
        wanted.push((wanted.len() as i64, text));
        assert_eq!(read(&log, &tp, 0).0, wanted, "{fault:?}");
    }
    drop(log);
    assert_eq!(read(&open(&folder), &tp, 0).0, wanted);
}

#[test]
fn a_store_that_refuses_writes_is_opened_again() {
    let folder = Folder::new();
    let log = open(&folder);
    topic(&log, "t", 1, false);
    let tp = TopicPartition::new("t", 0);
    log.append_blocking("t", vec![AppendRecord::value("1")]).unwrap();
    // Its own flush fails, since a folder is gone.
    let (there, away) = (folder.0.join("keyspaces"), folder.0.join("away"));
    std::fs::rename(&there, &away).unwrap();
    let store = log.shared.slot.get().unwrap();
    store.records.rotate_memtable().unwrap();
    let refuses = || store.database.persist(fjall::PersistMode::Buffer).is_err();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !refuses() {
        assert!(std::time::Instant::now() < deadline, "the store took no harm");
        std::thread::yield_now();
    }
    drop(store);
    // What is there is read on meanwhile.
    assert_eq!(read(&log, &tp, 0).0.len(), 1);
    std::fs::rename(&away, &there).unwrap();
    assert_eq!(log.append_blocking("t", vec![AppendRecord::value("2")]).unwrap(), [(0, 1)]);
    assert_eq!(read(&log, &tp, 0).0, [(0, "1".into()), (1, "2".into())]);
    drop(log);
    assert_eq!(read(&open(&folder), &tp, 0).0.len(), 2);
}

#[test]
fn a_folder_that_is_gone_does_not_become_a_new_log() {
    let folder = Folder::new();
    let clock = Arc::new(ManualClock::new(1_000_000));
    let options = LocalOptions { disk_reserve_bytes: 0, ..LocalOptions::default() };
    let log = LocalLog::open(&folder.0, options, Arc::clone(&clock) as _).unwrap();
    topic(&log, "t", 1, false);
    log.append_blocking("t", vec![AppendRecord::value("1")]).unwrap();
    let away = folder.0.with_extension("away");
    std::fs::rename(&folder.0, &away).unwrap();
    std::fs::create_dir(&folder.0).unwrap();
    *log.shared.fault.lock() = Some(Fault::BrokenBefore);
    let lost = log.append_blocking("t", vec![AppendRecord::value("2")]).unwrap_err();
    assert_eq!(lost.fault, AppendFault::Unknown, "{lost}");
    let closed = log.append_blocking("t", vec![AppendRecord::value("2")]).unwrap_err();
    assert_eq!(closed.fault, AppendFault::Unavailable, "{closed}");
    assert!(closed.message.contains("is gone"), "{closed}");
    let mut slice = Slice::new(TopicPartition::new("t", 0), 0);
    assert_eq!(log.read(&mut slice, 1, 1).unwrap_err().kind(), ErrorKind::Unavailable);
    std::fs::remove_dir(&folder.0).unwrap();
    std::fs::rename(&away, &folder.0).unwrap();
    clock.advance(2_000_000);
    assert_eq!(log.append_blocking("t", vec![AppendRecord::value("2")]).unwrap(), [(0, 1)]);
}

#[test]
fn trimming_stops_below_the_position_and_keeps_the_last_batch() {
    let folder = Folder::new();
    let tp = TopicPartition::new("t", 0);
    let low = {
        let log = open(&folder);
        topic(&log, "t", 1, false);
        for n in 0..5 {
            let records = (0..10).map(|_| AppendRecord::value(format!("{n}"))).collect();
            log.append_blocking("t", records).unwrap();
        }
        assert_eq!(log.trim(&tp, 25).unwrap(), 20);
        assert!(log.read(&mut Slice::new(tp.clone(), 5), 1, 1).is_err());
        assert_eq!(read(&log, &tp, 20).0.len(), 30);
        log.trim(&tp, i64::MAX).unwrap()
    };
    let log = open(&folder);
    let bounds = log.bounds(&tp).unwrap();
    assert_eq!((low, bounds.low, bounds.high), (40, 40, Some(50)));
}

#[test]
fn retention_by_age_respects_positions() {
    let folder = Folder::new();
    let options = LocalOptions {
        retention_us: Some(500_000),
        disk_reserve_bytes: 0,
        ..LocalOptions::default()
    };
    let log = open_with(&folder, options);
    topic(&log, "t", 1, false);
    let tp = TopicPartition::new("t", 0);
    for at in [100_000, 200_000, 900_000, 950_000] {
        let record = AppendRecord { timestamp_us: Some(at), ..AppendRecord::value("x") };
        log.append_blocking("t", vec![record]).unwrap();
    }
    log.tend(&|_| 1).unwrap();
    assert_eq!(log.bounds(&tp).unwrap().low, 1);
    log.tend(&|_| i64::MAX).unwrap();
    assert_eq!(log.bounds(&tp).unwrap().low, 2);
    assert_eq!(log.offset_at(&tp, 900_001).unwrap(), 3);
    assert_eq!(log.offset_at(&tp, 2_000_000).unwrap(), 4);
}

#[test]
fn compaction_keeps_the_latest_of_each_key_and_leaves_holes() {
    let folder = Folder::new();
    let tp = TopicPartition::new("players", 0);
    let log = open(&folder);
    topic(&log, "players", 1, true);
    let old =
        |record: AppendRecord| AppendRecord { timestamp_us: Some(-100_000_000_000), ..record };
    for batch in [
        vec![keyed("a", Some("1")), keyed("b", Some("1")), old(keyed("gone", Some("1")))],
        vec![keyed("a", Some("2")), old(keyed("gone", None)), keyed("fresh", None)],
        vec![keyed("b", Some("2"))],
        vec![keyed("a", Some("3"))],
    ] {
        log.append_blocking("players", batch).unwrap();
    }
    assert_eq!(log.compact(&tp, 7).unwrap(), 4);
    let (records, next) = read(&log, &tp, 0);
    let expected = [(3, "2"), (5, "-"), (6, "2"), (7, "3")];
    assert_eq!(records, expected.map(|(offset, value)| (offset, value.to_string())));
    assert_eq!(next, 8);
    // A reader that stands in a hole goes on behind it.
    assert_eq!(read(&log, &tp, 1).0.len(), 4);
    drop(log);
    assert_eq!(read(&open(&folder), &tp, 4).0.len(), 3);
}

#[test]
fn appends_are_fast_in_batches() {
    let folder = Folder::new();
    let log = open(&folder);
    topic(&log, "t", 1, false);
    let value = Bytes::from(format!("{{\"text\":\"{}\"}}", "word ".repeat(30)));
    let started = std::time::Instant::now();
    let total = 200_000;
    for _ in 0..total / 5_000 {
        let records = (0..5_000).map(|_| AppendRecord::value(value.clone())).collect();
        log.append_blocking("t", records).unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    let tp = TopicPartition::new("t", 0);
    let started = std::time::Instant::now();
    assert_eq!(read(&log, &tp, 0).1, total);
    let reading = started.elapsed().as_secs_f64();
    println!("{:.0} appends/s, {:.0} reads/s", total as f64 / seconds, total as f64 / reading);
}
