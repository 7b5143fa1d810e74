//! A folder that every later version must open (its files packed with zstd), and a batch that it must read. `OTUS_BLESS=1` writes them
//! anew: only when a format number is raised, and then beside the old ones.

use std::path::{Path, PathBuf};

use super::super::batch;
use super::*;

fn golden() -> PathBuf {
    // A build folder may serve several checkouts.
    let part = std::env::var_os("CARGO_MANIFEST_DIR");
    let part = part.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    part.join("src/log/local/golden/v1")
}

/// Copies a folder, every file through `change`: a journal is 64 MiB of mostly nothing, so it is kept packed.
fn copy(from: &Path, to: &Path, change: fn(&[u8]) -> std::io::Result<Vec<u8>>) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to, change);
        } else {
            std::fs::write(&to, change(&std::fs::read(&from).unwrap()).unwrap()).unwrap();
        }
    }
}

fn packed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::encode_all(bytes, 9)
}

fn unpacked(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::decode_all(bytes)
}

/// Records of every shape: keys, headers, null and empty values, times, one apart from its key.
fn records(from: usize) -> Vec<AppendRecord> {
    let value = |n: usize| match n % 5 {
        0 => None,
        1 => Some(Bytes::new()),
        2 => Some(Bytes::from(vec![0, 159, 146, 150])),
        _ => Some(Bytes::from(format!("{{\"n\":{n}}}"))),
    };
    (from..from + 10)
        .map(|n| AppendRecord {
            partition: Some(i32::from(n % 2 == 1)),
            key: (n % 3 > 0).then(|| Bytes::from(format!("key {}", n % 4))),
            value: value(n),
            headers: match n % 4 {
                0 => vec![("trace".into(), Some(Bytes::from_static(b"x"))), ("none".into(), None)],
                _ => vec![],
            },
            timestamp_us: Some(1_700_000_000_000_000 - 7 * n as i64),
        })
        .collect()
}

fn large() -> AppendRecord {
    let word = |n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes();
    let value: Vec<u8> = (0..2_000).flat_map(word).collect();
    AppendRecord { partition: Some(0), timestamp_us: Some(5), ..AppendRecord::value(value) }
}

fn make(folder: &Folder) {
    let log = open(folder);
    topic(&log, "events", 2, false);
    topic(&log, "players", 1, true);
    log.append_blocking("events", records(0)).unwrap();
    log.append_blocking("events", vec![large()]).unwrap();
    for value in ["1", "2", "3"] {
        log.append_blocking("players", vec![keyed("a", Some(value))]).unwrap();
    }
    assert!(log.compact(&TopicPartition::new("players", 0), 2).unwrap() > 0);
    // One part in tables, the rest in the journal.
    log.shared.slot.get().unwrap().records.rotate_memtable_and_wait().unwrap();
    log.append_blocking("events", records(10)).unwrap();
}

/// All that a log holds of a partition, as text.
fn content(log: &LocalLog, topic: &str, partition: i32) -> Vec<String> {
    let tp = TopicPartition::new(topic, partition);
    let mut slice = Slice::new(tp, 0);
    loop {
        let before = slice.next;
        log.read(&mut slice, usize::MAX, usize::MAX).unwrap();
        if slice.next == before {
            break;
        }
    }
    let record = |r: crate::record::Record<'_>| {
        let headers: Vec<_> = r.headers.iter().map(|(n, v)| format!("{n:?}={v:?}")).collect();
        format!("{} {:?} {:?} {:?} {headers:?}", r.offset, r.timestamp_us, r.key, r.value)
    };
    slice.iter().map(record).collect()
}

#[test]
fn a_folder_of_before_opens_and_goes_on() {
    if std::env::var_os("OTUS_BLESS").is_some() {
        let fresh = Folder::new();
        make(&fresh);
        std::fs::remove_dir_all(golden()).ok();
        copy(&fresh.0, &golden(), packed);
    }
    let (before, today) = (Folder::new(), Folder::new());
    copy(&golden(), &before.0, unpacked);
    make(&today);
    let (log, right) = (open(&before), open(&today));
    for (topic, partition) in [("events", 0), ("events", 1), ("players", 0)] {
        let found = content(&log, topic, partition);
        assert!(!found.is_empty(), "{topic}/{partition}");
        assert_eq!(found, content(&right, topic, partition), "{topic}/{partition}");
    }
    assert_eq!(log.partition_count("events"), Some(2));
    assert_eq!(log.append_blocking("events", vec![large()]).unwrap(), [(0, 11)]);
    assert_eq!(log.append_blocking("players", vec![keyed("a", None)]).unwrap(), [(0, 3)]);
    let identity = log.bounds(&TopicPartition::new("events", 0)).unwrap().identity;
    drop(log);
    let again = open(&before);
    assert_eq!(content(&again, "events", 0).len(), 12);
    assert_eq!(again.bounds(&TopicPartition::new("events", 0)).unwrap().identity, identity);
}

#[test]
fn a_batch_of_before_is_read() {
    let entries: Vec<batch::Entry> = records(0)
        .into_iter()
        .zip(0..)
        .map(|(record, delta)| batch::Entry {
            delta: 2 * delta,
            timestamp_us: record.timestamp_us.unwrap(),
            record: AppendRecord { partition: None, timestamp_us: None, ..record },
        })
        .collect();
    let path = golden().with_file_name("batch-1.bin");
    if std::env::var_os("OTUS_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, batch::encode(&entries, 21).unwrap()).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(batch::head(&bytes).unwrap().last_delta, 21);
    assert_eq!(batch::entries(&bytes).unwrap().1, entries);
}
