//! One record of Kafka by its place, outside of what is read anyway.

use std::time::{Duration, Instant};

use otus_engine::position::TopicPartition;
use otus_engine::{Error, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::broker_error;
use super::config::KafkaConfig;
use crate::log::append::AppendRecord;

/// Longest wait for the record.
const WAIT: Duration = Duration::from_secs(10);

/// The record at an offset; none if the log has no such record any more. Blocks.
pub(crate) fn fetch(
    config: &KafkaConfig,
    tp: &TopicPartition,
    offset: i64,
) -> Result<Option<AppendRecord>> {
    let failed = |e| broker_error(&format!("record {offset} of {tp} cannot be read"), e);
    // Assigned by hand, so it joins no group.
    let consumer: BaseConsumer = config.consumer().create().map_err(failed)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(offset)).map_err(failed)?;
    consumer.assign(&list).map_err(failed)?;
    let began = Instant::now();
    while began.elapsed() < WAIT {
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Ok(message)) if message.offset() == offset => return Ok(Some(owned(&message))),
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(None),
            Some(Err(error)) => tracing::debug!(%tp, %error, "waiting for a record"),
        }
    }
    Err(Error::unavailable(format!("Kafka: record {offset} of {tp} did not come")))
}

fn owned(message: &impl Message) -> AppendRecord {
    let bytes = |bytes: &[u8]| bytes::Bytes::copy_from_slice(bytes);
    let headers = message.headers().into_iter().flat_map(|headers| {
        headers.iter().map(|header| (header.key.to_string(), header.value.map(bytes)))
    });
    AppendRecord {
        key: message.key().map(bytes),
        value: message.payload().map(bytes),
        headers: headers.collect(),
        timestamp_us: None,
        partition: Some(message.partition()),
    }
}
