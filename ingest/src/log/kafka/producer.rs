//! Appending to Kafka: an idempotent producer that waits for all in-sync replicas. It never makes a topic.

use std::time::Duration;

use futures::future::join_all;
use otus_engine::position::TopicPartition;
use otus_engine::{Error, Result};
use parking_lot::Mutex;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::config::KafkaConfig;
use super::fetch::fetch;
use crate::log::append::{AppendRecord, Appended};

/// Longest wait for room in the producer's queue.
const QUEUE_WAIT: Duration = Duration::from_secs(10);

/// See the module. The client is made with the first append: most processes never append.
pub struct KafkaProducer {
    config: KafkaConfig,
    producer: Mutex<Option<FutureProducer>>,
}

impl std::fmt::Debug for KafkaProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaProducer").finish_non_exhaustive()
    }
}

impl KafkaProducer {
    /// A producer for the configured cluster.
    pub fn new(config: &KafkaConfig) -> Self {
        Self { config: config.clone(), producer: Mutex::new(None) }
    }

    /// The record at a place; none if it is there no more. Blocks.
    pub fn read(&self, tp: &TopicPartition, offset: i64) -> Result<Option<AppendRecord>> {
        fetch(&self.config, tp, offset)
    }

    fn client(&self) -> Result<FutureProducer> {
        let mut slot = self.producer.lock();
        if let Some(producer) = slot.as_ref() {
            return Ok(producer.clone());
        }
        let producer: FutureProducer = self
            .config
            .producer()
            .create()
            .map_err(|e| Error::invalid("the Kafka producer cannot be made").with_source(e))?;
        *slot = Some(producer.clone());
        Ok(producer)
    }

    /// Appends records and waits until all are durable. On an error some may have been.
    pub async fn append(&self, topic: &str, records: Vec<AppendRecord>) -> Result<Vec<Appended>> {
        let producer = self.client()?;
        let sends = records.iter().map(|record| {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: value.as_deref() });
            }
            let message = FutureRecord::<[u8], [u8]> {
                topic,
                partition: record.partition,
                payload: record.value.as_deref(),
                key: record.key.as_deref(),
                timestamp: record.timestamp_us.map(|us| us.div_euclid(1_000)),
                headers: (!record.headers.is_empty()).then_some(headers),
            };
            producer.send(message, QUEUE_WAIT)
        });
        let mut places = Vec::with_capacity(records.len());
        for delivered in join_all(sends).await {
            match delivered {
                Ok(delivery) => places.push((delivery.partition, delivery.offset)),
                Err((error, _)) => return Err(refused(topic, error)),
            }
        }
        Ok(places)
    }
}

fn refused(topic: &str, error: KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
            Error::not_found(format!("topic {topic:?} or its partition does not exist in Kafka"))
        }
        Some(Code::MessageSizeTooLarge | Code::InvalidRecord | Code::TopicAuthorizationFailed) => {
            Error::invalid(format!("Kafka refuses the records for topic {topic:?}"))
        }
        Some(Code::QueueFull) => Error::busy("too many records wait to be sent to Kafka"),
        _ => Error::unavailable(format!("the outcome of the append to topic {topic:?} is unknown")),
    }
    .with_source(error)
}
