//! Quick tests against the client library's own mock broker, which is faithful enough for this much: the real
//! broker is tested in the package `tests`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use otus_engine::position::TopicPartition;
use rdkafka::mocking::MockCluster;

use super::{KafkaConfig, KafkaLog, KafkaProducer};
use crate::log::append::AppendRecord;
use crate::log::{EventLog, LogEvent, Selection, StartAt};

fn config(servers: &str) -> KafkaConfig {
    let properties = BTreeMap::from([("bootstrap.servers".to_string(), servers.to_string())]);
    KafkaConfig::new(&properties, "otus-test".into()).unwrap()
}

fn topics(names: &[&str]) -> Selection {
    Selection { names: names.iter().map(|n| n.to_string()).collect(), patterns: vec![] }
}

/// Polls until `done` or a deadline.
fn poll_until(log: &mut KafkaLog, mut done: impl FnMut(&mut KafkaLog, LogEvent) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let mut events = Vec::new();
        log.poll(Duration::from_millis(100), &mut events);
        for event in events {
            if done(log, event) {
                return;
            }
        }
    }
    panic!("nothing came in 30 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_with_their_end() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("events", 1, 1).unwrap();
    let config = config(&cluster.bootstrap_servers());
    let producer = KafkaProducer::new(&config);
    let record = |n: i32| AppendRecord {
        key: Some(format!("k{n}").into()),
        headers: vec![("h".into(), Some("v".into())), ("none".into(), None)],
        timestamp_us: Some(1_442_016_000_123_456),
        ..AppendRecord::value(format!("{n}"))
    };
    let records: Vec<AppendRecord> = (0..10).map(record).collect();
    let places = producer.append("events", &records).await.unwrap();
    assert_eq!(places.last(), Some(&Ok((0, 9))));
    let read = tokio::task::spawn_blocking(move || {
        let mut log = KafkaLog::new(&config, &topics(&["events"])).unwrap();
        let mut seen = Vec::new();
        poll_until(&mut log, |log, event| match event {
            LogEvent::Assigned(tps) => {
                for tp in tps {
                    let bounds = log.bounds(&tp).unwrap();
                    assert_eq!((bounds.low, bounds.high), (0, Some(10)));
                    assert!(!bounds.identity.cluster.is_empty());
                    log.start(&[StartAt { tp, offset: 3, leader_epoch: None }]).unwrap();
                }
                false
            }
            LogEvent::Records(slice) => {
                assert_eq!(slice.from, 3 + seen.len() as i64);
                for record in slice.iter() {
                    assert_eq!(record.timestamp_us, Some(1_442_016_000_123_000));
                    assert_eq!(record.headers.last("h"), Some(Some(&b"v"[..])));
                    assert_eq!(record.headers.last("none"), Some(None));
                    seen.push((record.offset, record.value.unwrap().to_vec()));
                }
                false
            }
            LogEvent::End { offset, .. } => {
                assert_eq!(offset, 10);
                true
            }
            _ => false,
        });
        // Reading on from elsewhere.
        let tp = TopicPartition::new("events", 0);
        log.start(&[StartAt { tp: tp.clone(), offset: 9, leader_epoch: None }]).unwrap();
        poll_until(&mut log, |_, event| match event {
            LogEvent::Records(slice) => slice.from == 9 && slice.len() == 1,
            _ => false,
        });
        log.committed(&[(tp.clone(), 10)]);
        log.stop(&[tp]).unwrap();
        log.close();
        seen
    })
    .await
    .unwrap();
    assert_eq!(read.len(), 7);
    assert_eq!(read[0], (3, b"3".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_and_a_position_that_is_gone() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("there", 1, 1).unwrap();
    let config = config(&cluster.bootstrap_servers());
    let read = tokio::task::spawn_blocking(move || {
        let mut log = KafkaLog::new(&config, &topics(&["there"])).unwrap();
        poll_until(&mut log, |log, event| match event {
            LogEvent::Assigned(tps) => {
                for tp in tps {
                    log.start(&[StartAt { tp, offset: 50, leader_epoch: None }]).unwrap();
                }
                false
            }
            LogEvent::Broken { tp, error } => {
                assert_eq!(&*tp.topic, "there");
                assert!(error.to_string().contains("not in the log"), "{error}");
                true
            }
            _ => false,
        });
    });
    read.await.unwrap();
}
