//! Appending to Kafka: an idempotent producer that waits for all in-sync replicas. It never makes a topic.
//!
//! Kafka refuses batches, not records: one record that is too large takes its neighbours along, those of other
//! appends too. What was refused so is sent again by a second producer, each record in a batch of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use otus_engine::position::TopicPartition;
use otus_engine::{Error, Result};
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::config::{KafkaConfig, cannot_make};
use super::fetch::fetch;
use super::raw;
use crate::log::append::{AppendError, AppendFault, AppendRecord, AppendResult};

/// Longest wait for room in the producer's queue.
const QUEUE_WAIT: Duration = Duration::from_secs(10);
/// Between two tries to enqueue.
const QUEUE_RETRY: Duration = Duration::from_millis(50);
/// Longest wait for the broker's answer whether a topic is there.
const ASK: Duration = Duration::from_secs(5);
/// How long that answer is believed. The client notices by itself, though late, when a topic goes.
const BELIEVED: Duration = Duration::from_secs(30);

/// What the client says of a record.
type Delivered = std::result::Result<(i32, i64), Failed>;

/// A record that was not acknowledged.
#[derive(Debug)]
struct Failed {
    error: KafkaError,
    /// Whether the broker surely has not got it.
    is_unwritten: bool,
}

/// Hands each delivery to whoever waits for it.
#[derive(Debug)]
struct Deliveries;

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        super::log_line(level as i32, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "the Kafka client for appends");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<oneshot::Sender<Delivered>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let delivered = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, message)) => {
                Err(Failed { error: error.clone(), is_unwritten: raw::is_unwritten(message) })
            }
        };
        // Who has gone away does not want its answer.
        drop(waiting.send(delivered));
    }
}

type Client = ThreadedProducer<Deliveries>;

/// See the module. The clients are made when they are first needed: most processes never append.
pub struct KafkaProducer {
    config: KafkaConfig,
    batching: Mutex<Option<Client>>,
    single: Mutex<Option<Client>>,
    /// Partitions of topics, as heard lately.
    topics: Mutex<BTreeMap<String, (Instant, Vec<i32>)>>,
}

impl std::fmt::Debug for KafkaProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaProducer").finish_non_exhaustive()
    }
}

impl KafkaProducer {
    /// A producer for the configured cluster.
    pub fn new(config: &KafkaConfig) -> Self {
        let (batching, single) = (Mutex::new(None), Mutex::new(None));
        Self { config: config.clone(), batching, single, topics: Mutex::default() }
    }

    /// The record at a place; none if it is there no more. Blocks.
    pub fn read(&self, tp: &TopicPartition, offset: i64) -> Result<Option<AppendRecord>> {
        fetch(&self.config, tp, offset)
    }

    fn client(&self, slot: &Mutex<Option<Client>>, alone: bool) -> Result<Client> {
        let mut slot = slot.lock();
        if let Some(client) = slot.as_ref() {
            return Ok(client.clone());
        }
        let mut config = self.config.producer();
        if alone {
            config.set("batch.num.messages", "1").set("linger.ms", "0");
        }
        let made = config.create_with_context(Deliveries);
        let client: Client = made.map_err(|e| cannot_make("producer", e))?;
        *slot = Some(client.clone());
        Ok(client)
    }

    /// Appends records and waits for the outcome of each, in their order. An error means that none was written.
    pub async fn append(
        &self,
        topic: &str,
        records: &[AppendRecord],
    ) -> Result<Vec<AppendResult>, AppendError> {
        let client = self.client(&self.batching, false)?;
        let partitions = self.partitions(&client, topic, records).await?;
        for partition in records.iter().filter_map(|r| r.partition) {
            if !partitions.contains(&partition) {
                let message = format!("topic {topic:?} has no partition {partition}");
                return Err(AppendError::new(AppendFault::Invalid, message));
            }
        }
        let sends = records.iter().map(|record| send(&client, topic, record));
        let mut delivered = join_all(sends).await;
        let refused =
            |(_, d): &(usize, &Delivered)| d.as_ref().is_err_and(Failed::is_batch_refused);
        let again: Vec<usize> =
            delivered.iter().enumerate().filter(refused).map(|(at, _)| at).collect();
        if !again.is_empty() {
            let client = self.client(&self.single, true)?;
            let sends = again.iter().filter_map(|at| records.get(*at));
            let results = join_all(sends.map(|record| send(&client, topic, record))).await;
            for (at, result) in again.into_iter().zip(results) {
                delivered[at] = result;
            }
        }
        if delivered.iter().any(|d| d.as_ref().is_err_and(Failed::is_topic_gone)) {
            self.topics.lock().remove(topic);
        }
        Ok(delivered.into_iter().map(|d| d.map_err(|failed| failed.told(topic))).collect())
    }

    /// The topic's partitions, asked of the broker now and then: the client alone would wait for a topic that
    /// is not there until its records time out.
    async fn partitions(
        &self,
        client: &Client,
        topic: &str,
        records: &[AppendRecord],
    ) -> Result<Vec<i32>, AppendError> {
        let known = self.topics.lock().get(topic).cloned();
        if let Some((_, partitions)) = known.filter(|(at, _)| at.elapsed() < BELIEVED)
            && records.iter().filter_map(|r| r.partition).all(|p| partitions.contains(&p))
        {
            return Ok(partitions);
        }
        let (own, name) = (client.clone(), topic.to_string());
        let asked = tokio::task::spawn_blocking(move || ask(&own, &name)).await;
        let partitions =
            asked.map_err(|e| Error::internal("a task did not end").with_source(e))??;
        self.topics.lock().insert(topic.to_string(), (Instant::now(), partitions.clone()));
        Ok(partitions)
    }
}

/// Asks the broker for the partitions of a topic.
fn ask(client: &Client, topic: &str) -> Result<Vec<i32>, AppendError> {
    use RDKafkaErrorCode as Code;
    let metadata = client.client().fetch_metadata(Some(topic), ASK).map_err(|e| {
        let message = format!("Kafka does not answer, nothing was written to topic {topic:?}: {e}");
        AppendError::new(AppendFault::Unavailable, message)
    })?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
        return Err(missing(topic));
    };
    match found.error().map(Code::from) {
        None => {
            Ok(found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
        }
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Err(missing(topic)),
        Some(Code::TopicAuthorizationFailed) => {
            let message = format!("Kafka refuses access to topic {topic:?}");
            Err(AppendError::new(AppendFault::Forbidden, message))
        }
        Some(Code::InvalidTopic) => {
            let message = format!("Kafka knows no topic by the name {topic:?}");
            Err(AppendError::new(AppendFault::Invalid, message))
        }
        Some(code) => {
            let message = format!("topic {topic:?} cannot be written now: {code}");
            Err(AppendError::new(AppendFault::Unavailable, message))
        }
    }
}

fn missing(topic: &str) -> AppendError {
    AppendError::new(AppendFault::NotFound, format!("topic {topic:?} does not exist in Kafka"))
        .with_hint("Otus never creates topics: create it in Kafka first")
}

/// Sends one record and waits for its outcome. It is enqueued at the first poll, so order is kept.
async fn send(client: &Client, topic: &str, record: &AppendRecord) -> Delivered {
    let (sender, receiver) = oneshot::channel();
    let mut message = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, Box::new(sender));
    message.partition = record.partition;
    message.payload = record.value.as_deref();
    message.key = record.key.as_deref();
    message.timestamp = record.timestamp_us.map(|us| us.div_euclid(1_000));
    if !record.headers.is_empty() {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header { key, value: value.as_deref() })
        });
        message = message.headers(headers);
    }
    let began = Instant::now();
    while let Err((error, back)) = client.send(message) {
        let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
        if !is_full || began.elapsed() > QUEUE_WAIT {
            return Err(Failed { error, is_unwritten: true });
        }
        message = back;
        tokio::time::sleep(QUEUE_RETRY).await;
    }
    receiver.await.unwrap_or(Err(Failed { error: KafkaError::Canceled, is_unwritten: false }))
}

impl Failed {
    /// Whether the broker refused a whole batch for what one of its records is.
    fn is_batch_refused(&self) -> bool {
        use RDKafkaErrorCode as Code;
        let code = self.error.rdkafka_error_code();
        let for_a_record = matches!(
            code,
            Some(Code::MessageSizeTooLarge | Code::InvalidRecord | Code::InvalidTimestamp)
        );
        self.is_unwritten && for_a_record
    }

    fn is_topic_gone(&self) -> bool {
        use RDKafkaErrorCode as Code;
        matches!(
            self.error.rdkafka_error_code(),
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)
        )
    }

    fn told(self, topic: &str) -> AppendError {
        use AppendFault as Fault;
        use RDKafkaErrorCode as Code;
        let Self { error, is_unwritten } = self;
        let code = error.rdkafka_error_code();
        let (fault, what) = match code {
            _ if !is_unwritten => (
                Fault::Unknown,
                format!("whether the record was written to topic {topic:?} is not known"),
            ),
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                return missing(topic);
            }
            Some(Code::MessageSizeTooLarge) => {
                (Fault::TooLarge, format!("the record is larger than topic {topic:?} takes"))
            }
            Some(Code::InvalidRecord | Code::InvalidMessage | Code::InvalidTimestamp) => {
                (Fault::Invalid, format!("Kafka refuses the record for topic {topic:?}"))
            }
            Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
                (Fault::Forbidden, format!("Kafka refuses access to topic {topic:?}"))
            }
            Some(Code::QueueFull) => {
                (Fault::Busy, "too many records wait to be sent to Kafka".to_string())
            }
            _ => (Fault::Unavailable, format!("the record was not written to topic {topic:?}")),
        };
        AppendError::new(fault, format!("{what}: {error}"))
    }
}
