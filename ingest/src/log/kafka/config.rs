//! Kafka settings: what Otus fixes and therefore refuses, what it chooses unless told otherwise, and what passes
//! through to the client library.

use std::collections::BTreeMap;

use otus_engine::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

/// Settings on which correctness rests: key, value, why.
const FIXED: [(&str, &str, &str); 9] = [
    ("auto.offset.reset", "error", "a position that is gone must stop the partition, not move"),
    ("enable.auto.commit", "false", "positions are committed with the rows"),
    ("enable.auto.offset.store", "false", "positions are committed with the rows"),
    ("enable.partition.eof", "true", "being caught up is an event, not a subtraction"),
    ("partition.assignment.strategy", "cooperative-sticky", "only what moves is handed over"),
    ("group.protocol", "classic", "rebalances must wait for the flush"),
    ("isolation.level", "read_committed", "aborted transactions must not be counted"),
    ("allow.auto.create.topics", "false", "a missing topic is waited for, never made"),
    ("group.id", "", "Otus names the group after the dataset"),
];

/// Settings of the producer on which the answers of an append rest: key, value (none = never set), why.
const FIXED_FOR_APPENDS: [(&str, Option<&str>, &str); 5] = [
    ("acks", Some("all"), "an append is answered when it is durable"),
    ("request.required.acks", None, "an append is answered when it is durable"),
    ("enable.idempotence", Some("true"), "a retry must not write a record twice"),
    ("transactional.id", None, "appends are no transactions"),
    ("delivery.report.only.error", None, "every record of an append is answered"),
];

/// Settings of the consumer that a configuration may change.
const CONSUMER_DEFAULTS: [(&str, &str); 9] = [
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.error.backoff.ms", "200"),
    ("queued.max.messages.kbytes", "65536"),
    ("session.timeout.ms", "10000"),
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
    ("client.id", "otus"),
];

/// Settings of the producer behind `append` that a configuration may change.
const PRODUCER_DEFAULTS: [(&str, &str); 5] = [
    ("linger.ms", "5"),
    ("message.timeout.ms", "30000"),
    ("reconnect.backoff.max.ms", "2000"),
    ("partitioner", "murmur2_random"),
    ("client.id", "otus"),
];

/// Properties that only consumers have; a producer would warn of each.
const CONSUMER_ONLY: [&str; 34] = [
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "check.crcs",
    "consume.callback.max.messages",
    "consume_cb",
    "coordinator.query.interval.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "offset_commit_cb",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "rebalance_cb",
    "session.timeout.ms",
];

/// Properties that only producers have.
const PRODUCER_ONLY: [&str; 30] = [
    "acks",
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "dr_cb",
    "dr_msg_cb",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "linger.ms",
    "message.send.max.retries",
    "message.timeout.ms",
    "msg_order_cmp",
    "partitioner",
    "partitioner_cb",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queuing.strategy",
    "request.required.acks",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.linger.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// Checked settings of the connection to Kafka.
#[derive(Clone)]
pub struct KafkaConfig {
    properties: BTreeMap<String, String>,
    group: String,
    is_alone: bool,
}

impl std::fmt::Debug for KafkaConfig {
    /// Values may be secrets and are left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&String> = self.properties.keys().collect();
        f.debug_struct("KafkaConfig").field("properties", &keys).finish_non_exhaustive()
    }
}

impl KafkaConfig {
    /// Checks what is configured. All problems are told at once; values of properties are not.
    pub fn new(properties: &BTreeMap<String, String>, group: String) -> Result<Self> {
        let mut problems = Vec::new();
        for key in properties.keys() {
            if let Some(why) = Self::fixed_reason(key) {
                problems.push(format!("{key} is fixed by Otus: {why}"));
            }
        }
        if !properties.contains_key("bootstrap.servers") {
            problems.push("bootstrap.servers is missing".to_string());
        }
        if !problems.is_empty() {
            return Err(Error::invalid(format!("[kafka]: {}", problems.join("; "))));
        }
        let config = Self { properties: properties.clone(), group, is_alone: false };
        let refused: Vec<String> =
            properties.iter().filter_map(|(key, value)| refused(key, value)).collect();
        if !refused.is_empty() {
            return Err(Error::invalid(format!("[kafka]: {}", refused.join("; "))));
        }
        // What only the whole shows, such as settings that exclude each other.
        for side in [config.consumer(), config.producer()] {
            side.create_native_config().map_err(|e| cannot_make("client", e))?;
        }
        Ok(config)
    }

    /// Why a property cannot be configured, if Otus fixes it.
    pub fn fixed_reason(property: &str) -> Option<&'static str> {
        let consumer = FIXED.iter().map(|(key, _, why)| (key, why));
        let mut fixed = consumer.chain(FIXED_FOR_APPENDS.iter().map(|(key, _, why)| (key, why)));
        fixed.find(|(key, _)| **key == property).map(|(_, why)| *why)
    }

    /// Says that no other process can read for this dataset. The group then knows the process by a fixed name,
    /// and one that was killed and started again has its partitions back at once.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    pub(super) fn consumer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        self.fill(&mut config, &CONSUMER_DEFAULTS, &PRODUCER_ONLY);
        for (key, value, _) in FIXED {
            config.set(key, value);
        }
        config.set("group.id", &self.group);
        // Why a connection was lost is often only said there.
        config.set_log_level(RDKafkaLogLevel::Info);
        if self.is_alone && !self.properties.contains_key("group.instance.id") {
            config.set("group.instance.id", "alone");
        }
        config
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        self.fill(&mut config, &PRODUCER_DEFAULTS, &CONSUMER_ONLY);
        for (key, value, _) in FIXED_FOR_APPENDS {
            if let Some(value) = value {
                config.set(key, value);
            }
        }
        config.set("allow.auto.create.topics", "false");
        config
    }

    /// Defaults, then what is configured and not the other side's: the client library would warn of that.
    fn fill(&self, config: &mut ClientConfig, defaults: &[(&str, &str)], others: &[&str]) {
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in &self.properties {
            if !others.contains(&key.as_str()) {
                config.set(key, value);
            }
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
    }
}

/// Why the client library refuses a property, if it does. Its own words hold the value, which may be a secret.
fn refused(key: &str, value: &str) -> Option<String> {
    use rdkafka::error::KafkaError::ClientConfig as Refused;
    use rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN;
    let mut config = ClientConfig::new();
    config.set(key, value);
    match config.create_native_config().map(drop) {
        Ok(()) => None,
        Err(Refused(RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Some(format!("{key:?} is no property of the Kafka client"))
        }
        Err(_) => Some(format!("the Kafka client refuses the value of {key:?}")),
    }
}

/// Why a client cannot be made. The library's own error repeats the value it refuses, which may be a secret.
pub(super) fn cannot_make(what: &str, error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, why, key, value) => {
            let why = why.replace(&format!("\"{value}\""), "the value");
            Error::invalid(format!("[kafka]: property {key:?} is refused: {why}"))
        }
        other => Error::invalid(format!("the Kafka {what} cannot be made")).with_source(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw::property_scopes;
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> std::result::Result<(), String> {
        let properties = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        KafkaConfig::new(&properties, "g".into()).map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn fixed_settings_are_refused_all_at_once() {
        let servers = ("bootstrap.servers", "127.0.0.1:1");
        assert_eq!(
            check(&[servers, ("sasl.mechanism", "PLAIN"), ("fetch.wait.max.ms", "9")]),
            Ok(())
        );
        let appends = FIXED_FOR_APPENDS.iter().map(|(key, ..)| *key);
        for key in FIXED.iter().map(|(key, ..)| *key).chain(appends) {
            let message = check(&[servers, (key, "x")]).unwrap_err();
            assert!(message.starts_with(&format!("[kafka]: {key} is fixed by Otus")), "{message}");
        }
        let message = check(&[("group.id", "x"), ("enable.auto.commit", "true")]).unwrap_err();
        assert_eq!(message.matches("fixed by Otus").count(), 2);
        assert!(message.contains("bootstrap.servers is missing"));
    }

    #[test]
    fn refusals_name_the_property_and_never_its_value() {
        let servers = ("bootstrap.servers", "127.0.0.1:1");
        let message =
            check(&[servers, ("sasl.pasword", "hunter2"), ("fetch.wait.max.ms", "s3cret")]);
        let expected = "[kafka]: the Kafka client refuses the value of \"fetch.wait.max.ms\"; \
                        \"sasl.pasword\" is no property of the Kafka client";
        assert_eq!(message, Err(expected.to_string()));
    }

    #[test]
    fn a_refused_property_is_named_and_its_value_is_not() {
        for (key, value) in [
            ("sasl.pasword", "hunter2"),
            ("fetch.wait.max.ms", "hunter2"),
            ("linger.ms", "hunter2"),
            ("security.protocol", "hunter2"),
        ] {
            let message = check(&[("bootstrap.servers", "127.0.0.1:1"), (key, value)]).unwrap_err();
            assert!(message.contains(key) && !message.contains(value), "{message}");
        }
        let properties = [("bootstrap.servers", "127.0.0.1:1"), ("sasl.password", "hunter2")];
        let properties = properties.map(|(k, v)| (k.to_string(), v.to_string())).into();
        let config = KafkaConfig::new(&properties, "g".into()).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }

    #[test]
    fn each_side_gets_its_own_properties() {
        let scopes = property_scopes();
        let named = |scope: &str| -> Vec<&str> {
            let mut names: Vec<&str> =
                scopes.iter().filter(|(_, s)| s == scope).map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        // A new version of the client library may have new ones.
        assert_eq!(named("C"), CONSUMER_ONLY);
        assert_eq!(named("P"), PRODUCER_ONLY);
        let properties = [
            ("bootstrap.servers", "127.0.0.1:1"),
            ("session.timeout.ms", "6000"),
            ("compression.type", "zstd"),
            ("socket.keepalive.enable", "true"),
        ];
        let properties = properties.map(|(k, v)| (k.to_string(), v.to_string())).into();
        let config = KafkaConfig::new(&properties, "g".into()).unwrap();
        let (consumer, producer) = (config.consumer(), config.producer());
        assert_eq!(
            (consumer.get("compression.type"), producer.get("session.timeout.ms")),
            (None, None)
        );
        assert_eq!(producer.get("compression.type"), Some("zstd"));
        assert_eq!(consumer.get("session.timeout.ms"), Some("6000"));
        for side in [&consumer, &producer] {
            assert_eq!(side.get("socket.keepalive.enable"), Some("true"));
        }
        let keys = |config: &ClientConfig, others: &[&str]| {
            others.iter().filter(|key| config.get(key).is_some()).count()
        };
        assert_eq!((keys(&consumer, &PRODUCER_ONLY), keys(&producer, &CONSUMER_ONLY)), (0, 0));
    }
}
